// The layers' arithmetic on a GPU, apart from the products: compiled by NVRTC when it is first needed.
//
// Images lie channels last, as on the CPU. Every kernel takes its arguments as 64-bit words, the first of which is the number
// of threads it is for, and no thread waits for another: the same text compiled for the CPU is held against the CPU's own
// kernels by the tests (emulated.rs). Sums are taken in fixed parts, so that the same numbers come out every time.

typedef unsigned long long Word;
// Indices: a GPU divides numbers of 32 bits several times as fast.
typedef unsigned int Size;
struct Words {
    Word w[12];
};

// The upper half of a float.
struct bf16 {
    unsigned short bits;
};

__device__ float number(Word bits) {
    union {
        unsigned int bits;
        float value;
    } u;
    u.bits = (unsigned int)bits;
    return u.value;
}

__device__ float get(const float *x, Size i) { return x[i]; }
__device__ float get(const bf16 *x, Size i) { return number((Word)x[i].bits << 16); }

__device__ void put(float *x, Size i, float value) { x[i] = value; }
__device__ void put(bf16 *x, Size i, float value) {
    union {
        float value;
        unsigned int bits;
    } u;
    u.value = value;
    // To the nearest, of two equally near to the even one.
    x[i].bits = (unsigned short)((u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16);
}

// By a name of our own: CUDA has functions of many others.
#define KERNEL(name) extern "C" __global__ void overtrace_##name(Words a)
// A kernel for both kinds of numbers, from a template that takes the words and the thread's number.
#define BOTH(name)                                                                                                      \
    KERNEL(name##_f32) { THREAD(i); name<float>(a, i); }                                                                 \
    KERNEL(name##_bf16) { THREAD(i); name<bf16>(a, i); }
#define THREAD(i)                                                                                                       \
    const Size i = blockIdx.x * blockDim.x + threadIdx.x;                                                          \
    if (i >= a.w[0]) return
#define INPUT(T, name, n) const T *name = (const T *)a.w[n]
#define OUTPUT(T, name, n) T *name = (T *)a.w[n]

// Images with a border of zeros around each: x, out, height, width, channels, rows and columns of it before the image (of two).
template <typename T> __device__ void pad(Words a, Size i) {
    INPUT(T, x, 1);
    OUTPUT(T, out, 2);
    const Size height = a.w[3], width = a.w[4], channels = a.w[5], before = a.w[6];
    const Size c = i % channels, column = i / channels % (width + 2);
    const Size row = i / channels / (width + 2) % (height + 2), image = i / channels / (width + 2) / (height + 2);
    const Size y = row - before, xx = column - before;
    float value = 0.0f;
    if (y < height && xx < width) value = get(x, ((image * height + y) * width + xx) * channels + c);
    put(out, i, value);
}
BOTH(pad)

// The pixels of images from sums in rows that are two longer: sums, out, height, width, channels, bias or 0, whether through
// ReLU, gate or 0.
template <typename T> __device__ void crop(Words a, Size i) {
    INPUT(float, sums, 1);
    OUTPUT(T, out, 2);
    const Size height = a.w[3], width = a.w[4], channels = a.w[5];
    INPUT(float, bias, 6);
    INPUT(T, gate, 8);
    const Size c = i % channels, pixel = i / channels;
    const Size x = pixel % width, y = pixel / width % height, image = pixel / width / height;
    float value = sums[((image * (height + 2) + y) * (width + 2) + x) * channels + c];
    if (bias) value += bias[c];
    if (a.w[7] && !(value > 0.0f)) value = 0.0f;
    if (gate && !(get(gate, i) > 0.0f)) value = 0.0f;
    put(out, i, value);
}
BOTH(crop)

// Bias and ReLU in place: y, channels, bias, whether through ReLU.
template <typename T> __device__ void finish(Words a, Size i) {
    OUTPUT(T, y, 1);
    INPUT(float, bias, 3);
    float value = get(y, i) + bias[i % a.w[2]];
    if (a.w[4] && !(value > 0.0f)) value = 0.0f;
    put(y, i, value);
}
BOTH(finish)

// 0 where the gate is not above 0, in place: values, gate.
KERNEL(gated) {
    THREAD(i);
    OUTPUT(float, values, 1);
    INPUT(float, gate, 2);
    if (!(gate[i] > 0.0f)) values[i] = 0.0f;
}

// The largest of each 2x2 window: x, out, height and width of x, channels. A thread an output.
template <typename T> __device__ void pool(Words a, Size i) {
    INPUT(T, x, 1);
    OUTPUT(T, out, 2);
    const Size height = a.w[3], width = a.w[4], channels = a.w[5];
    const Size c = i % channels, pixel = i / channels;
    const Size column = pixel % (width / 2), row = pixel / (width / 2) % (height / 2), image = pixel / (width / 2) / (height / 2);
    const Size at = ((image * height + 2 * row) * width + 2 * column) * channels + c;
    const float p = get(x, at), q = get(x, at + channels);
    const float r = get(x, at + width * channels), s = get(x, at + width * channels + channels);
    const float upper = q > p ? q : p, lower = s > r ? s : r;
    put(out, i, lower > upper ? lower : upper);
}
BOTH(pool)

// The gradient to the first largest of each window: x, dy, dx, height and width of x, channels. A thread a window.
KERNEL(pool_gradient) {
    THREAD(i);
    INPUT(float, x, 1);
    INPUT(float, dy, 2);
    OUTPUT(float, dx, 3);
    const Size height = a.w[4], width = a.w[5], channels = a.w[6];
    const Size c = i % channels, pixel = i / channels;
    const Size column = pixel % (width / 2), row = pixel / (width / 2) % (height / 2), image = pixel / (width / 2) / (height / 2);
    const Size at = ((image * height + 2 * row) * width + 2 * column) * channels + c, below = at + width * channels;
    const bool second = x[at + channels] > x[at], fourth = x[below + channels] > x[below];
    const float upper = second ? x[at + channels] : x[at], lower = fourth ? x[below + channels] : x[below];
    const float up = lower > upper ? 0.0f : dy[i], down = lower > upper ? dy[i] : 0.0f;
    dx[at] = second ? 0.0f : up;
    dx[at + channels] = second ? up : 0.0f;
    dx[below] = fourth ? 0.0f : down;
    dx[below + channels] = fourth ? down : 0.0f;
}

// From four outputs a pixel, side by side, to an image twice as high and wide: sums, out, height and width before, channels,
// bias. A thread an output.
template <typename T> __device__ void shuffle(Words a, Size i) {
    INPUT(float, sums, 1);
    OUTPUT(T, out, 2);
    const Size height = a.w[3], width = a.w[4], channels = a.w[5];
    INPUT(float, bias, 6);
    const Size c = i % channels, pixel = i / channels;
    const Size x = pixel % (2 * width), y = pixel / (2 * width) % (2 * height), image = pixel / (2 * width) / (2 * height);
    const Size from = (image * height + y / 2) * width + x / 2;
    put(out, i, sums[(from * 4 + 2 * (y % 2) + x % 2) * channels + c] + bias[c]);
}
BOTH(shuffle)

// The way back: dy, out, height and width before, channels. A thread an output, of four a pixel side by side.
KERNEL(unshuffle) {
    THREAD(i);
    INPUT(float, dy, 1);
    OUTPUT(float, out, 2);
    const Size height = a.w[3], width = a.w[4], channels = a.w[5];
    const Size c = i % channels, part = i / channels % 4, pixel = i / channels / 4;
    const Size x = pixel % width, y = pixel / width % height, image = pixel / width / height;
    const Size row = image * 2 * height + 2 * y + part / 2;
    out[i] = dy[(row * 2 * width + 2 * x + part % 2) * channels + c];
}

// The channels of p, then those of q: p, q, out, channels of each.
template <typename T> __device__ void concat(Words a, Size i) {
    INPUT(T, p, 1);
    INPUT(T, q, 2);
    OUTPUT(T, out, 3);
    const Size first = a.w[4], second = a.w[5];
    const Size c = i % (first + second), pixel = i / (first + second);
    out[i] = c < first ? p[pixel * first + c] : q[pixel * second + c - first];
}
BOTH(concat)

// Some channels of x: x, out, channels of x, the first taken, how many.
KERNEL(split) {
    THREAD(i);
    INPUT(float, x, 1);
    OUTPUT(float, out, 2);
    const Size kept = a.w[5];
    out[i] = x[i / kept * a.w[3] + a.w[4] + i % kept];
}

// sum += values, and 0 where the gate is not above 0: sum, values, gate.
KERNEL(add_gated) {
    THREAD(i);
    OUTPUT(float, sum, 1);
    INPUT(float, values, 2);
    INPUT(float, gate, 3);
    sum[i] = gate[i] > 0.0f ? sum[i] + values[i] : 0.0f;
}

// Softmax of each pixel: logits, p, classes. A thread a pixel.
KERNEL(softmax) {
    THREAD(i);
    const Size m = a.w[3];
    const float *logits = (const float *)a.w[1] + (Word)i * m;
    float *p = (float *)a.w[2] + (Word)i * m;
    float largest = logits[0], sum = 0.0f;
    for (Size c = 1; c < m; c++) largest = logits[c] > largest ? logits[c] : largest;
    for (Size c = 0; c < m; c++) sum += p[c] = expf(logits[c] - largest);
    for (Size c = 0; c < m; c++) p[c] = p[c] / sum;
}

// The sums of the loss over parts of the pixels: p, classes, parts [part][four][class], pixels, classes, pixels a part. A thread
// a part and class.
KERNEL(loss_parts) {
    THREAD(i);
    INPUT(float, p, 1);
    INPUT(unsigned char, classes, 2);
    OUTPUT(double, parts, 3);
    const Size pixels = a.w[4], m = a.w[5], size = a.w[6];
    const Size c = i % m, part = i / m;
    double shared = 0.0, total = 0.0, squares = 0.0, entropy = 0.0;
    for (Size pixel = part * size; pixel < pixels && pixel < (part + 1) * size; pixel++) {
        const double value = p[pixel * m + c], t = classes[pixel] == c ? 1.0 : 0.0;
        shared += value * t;
        total += value + t;
        squares += (value - t) * (value - t);
        if (classes[pixel] == c) entropy -= log(value > 1e-37 ? value : 1e-37);
    }
    parts[part * 4 * m + c] = shared;
    parts[part * 4 * m + m + c] = total;
    parts[part * 4 * m + 2 * m + c] = squares;
    parts[part * 4 * m + 3 * m + c] = entropy;
}

// Their sum: parts, sums, parts, classes. A thread a sum; the last two add the squares, and -ln p, of all classes.
KERNEL(loss_sums) {
    THREAD(i);
    INPUT(double, parts, 1);
    OUTPUT(double, sums, 2);
    const Size count = a.w[3], m = a.w[4];
    const Size first = i == 2 * m + 1 ? 3 * m : i;
    const Size last = i < 2 * m ? first + 1 : first + m;
    double sum = 0.0;
    for (Size part = 0; part < count; part++) {
        for (Size at = first; at < last; at++) sum += parts[part * 4 * m + at];
    }
    sums[i] = sum;
}

// The loss's gradient by the logits: p, classes, sums, out, classes, whether it is that of Dice, pixels, whether
// that of the cross-entropy is added. A thread a pixel.
KERNEL(loss_gradient) {
    THREAD(i);
    const Size m = a.w[5];
    const double smoothing = 1e-5;
    const float *p = (const float *)a.w[1] + (Word)i * m;
    INPUT(unsigned char, classes, 2);
    INPUT(double, sums, 3);
    float *out = (float *)a.w[4] + (Word)i * m;
    float mean = 0.0f;
    for (Size c = 0; c < m; c++) {
        float slope;
        if (a.w[6]) {
            const double total = sums[m + c] + smoothing;
            slope = (float)((2.0 * sums[c] + smoothing) / (total * total));
            if (classes[i] == c) slope += (float)(-2.0 / total);
        } else {
            const float scale = (float)(2.0 / ((double)a.w[7] * m));
            slope = scale * p[c];
            if (classes[i] == c) slope -= scale;
        }
        out[c] = slope;
        mean += p[c] * slope;
    }
    const float w = a.w[8] ? (float)((double)m / (double)a.w[7]) : 0.0f;
    for (Size c = 0; c < m; c++) out[c] = p[c] * (out[c] - mean + w);
    out[classes[i]] -= w;
}

// Adam's running means: moments (both, one after the other), gradient, what is kept of each.
KERNEL(adam_remember) {
    THREAD(i);
    OUTPUT(float, first, 1);
    INPUT(float, grad, 2);
    const float keep_1 = number(a.w[3]), keep_2 = number(a.w[4]), take_1 = number(a.w[5]), take_2 = number(a.w[6]);
    float *second = first + a.w[0];
    first[i] = keep_1 * first[i] + take_1 * grad[i];
    second[i] = keep_2 * second[i] + take_2 * grad[i] * grad[i];
}

// Adam's step: weights, moments, where the rate is, epsilon.
KERNEL(adam_move) {
    THREAD(i);
    OUTPUT(float, weight, 1);
    INPUT(float, first, 2);
    INPUT(float, rate, 3);
    const float *second = first + a.w[0];
    weight[i] -= *rate * first[i] / (sqrtf(second[i]) + number(a.w[4]));
}

// Class and margin of a pixel: logits, classes, margins, the margin and the entropy in f64, classes. A thread a pixel.
KERNEL(judge) {
    THREAD(i);
    OUTPUT(unsigned char, classes, 2);
    OUTPUT(unsigned char, margins, 3);
    OUTPUT(double, known, 4);
    const Size m = a.w[5];
    const float *logits = (const float *)a.w[1] + (Word)i * m;
    Size best = 0;
    for (Size c = 1; c < m; c++) best = logits[c] > logits[best] ? c : best;
    const double largest = logits[best];
    double sum = 1.0, second = 0.0, weighted = 0.0;
    for (Size c = 0; c < m; c++) {
        if (c == best) continue;
        const double z = (double)logits[c] - largest, e = exp(z);
        sum += e;
        second = e > second ? e : second;
        weighted += e * z;
    }
    const double margin = (1.0 - second) / sum, entropy = log(sum) - weighted / sum;
    classes[i] = (unsigned char)best;
    margins[i] = (unsigned char)(255.0 * margin + 0.5);
    known[2 * (Word)i] = margin;
    known[2 * (Word)i + 1] = entropy > 0.0 ? entropy : 0.0;
}

// Their sums over a column of a tile: classes, margins and entropies, sizes (rows and columns of each tile that count), sums [six,
// and each class's entropy][tile][column], height, width, classes. A thread a column.
KERNEL(judge_columns) {
    THREAD(i);
    INPUT(unsigned char, classes, 1);
    INPUT(double, known, 2);
    INPUT(unsigned int, sizes, 3);
    OUTPUT(double, out, 4);
    const Size height = a.w[5], width = a.w[6], m = a.w[7];
    const Size tile = i / width, x = i % width, rows = x < sizes[2 * tile + 1] ? sizes[2 * tile] : 0;
    const Word step = a.w[0];
    double sums[6] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    // Eight classes at a time, so that their sums stay in registers.
    for (Size first = 0; first < m; first += 8) {
        double entropies[8] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
        for (Size y = 0; y < rows; y++) {
            const Word at = ((Word)tile * height + y) * width + x;
            const Size best = classes[at];
            const double margin = known[2 * at], entropy = known[2 * at + 1];
            for (Size n = 0; n < 8; n++) entropies[n] += best == first + n ? entropy : 0.0;
            if (first > 0) continue;
            const double counts = best != 0 ? 1.0 : 0.0;
            sums[0] += 1.0;
            sums[1] += margin;
            sums[2] += entropy;
            sums[3] += counts;
            sums[4] += counts * margin;
            sums[5] += counts * entropy;
        }
        for (Size n = 0; n < 8 && first + n < m; n++) out[(6 + first + n) * step + i] = entropies[n];
    }
    for (Size n = 0; n < 6; n++) out[n * step + i] = sums[n];
}

// The sums of a tile's columns: sums [of what][tile][column], out [tile][of what], tiles, width, sums of a tile. A thread a sum.
KERNEL(judge_tiles) {
    THREAD(i);
    INPUT(double, sums, 1);
    OUTPUT(double, out, 2);
    const Size tiles = a.w[3], width = a.w[4], all = a.w[5];
    const double *columns = sums + ((Word)(i % all) * tiles + i / all) * width;
    double sum = 0.0;
    for (Size x = 0; x < width; x++) sum += columns[x];
    out[i] = sum;
}

// Weights [tap][input][output] as cuDNN wants them, [output][tap][input]: weights, out, taps, inputs, outputs. A thread eight
// inputs, so that both sides are read and written in whole sectors of memory.
template <typename T> __device__ void outputs_first(Words a, Size i) {
    INPUT(T, weights, 1);
    OUTPUT(T, out, 2);
    const Size taps = a.w[3], inputs = a.w[4], outputs = a.w[5], groups = (inputs + 7) / 8;
    const Size n = i % outputs, first = i / outputs % groups * 8, tap = i / outputs / groups;
    for (Size k = first; k < first + 8 && k < inputs; k++)
        out[(n * taps + tap) * inputs + k] = weights[(tap * inputs + k) * outputs + n];
}
BOTH(outputs_first)

// The way back.
KERNEL(outputs_last) {
    THREAD(i);
    INPUT(float, weights, 1);
    OUTPUT(float, out, 2);
    const Size taps = a.w[3], inputs = a.w[4], outputs = a.w[5], groups = (inputs + 7) / 8;
    const Size n = i % outputs, first = i / outputs % groups * 8, tap = i / outputs / groups;
    for (Size k = first; k < first + 8 && k < inputs; k++)
        out[(tap * inputs + k) * outputs + n] = weights[(n * taps + tap) * inputs + k];
}

// Numbers as bf16: values, out.
KERNEL(narrowed) {
    THREAD(i);
    INPUT(float, values, 1);
    OUTPUT(bf16, out, 2);
    put(out, i, values[i]);
}

// Four numbers that are read and written at a time.
template <typename T> struct alignas(4 * sizeof(T)) Four {
    T v[4];
};

// A 3x3 convolution of few inputs, for which no product is worth its while: x, weights [tap][input][output], bias, out, height,
// width, inputs, outputs / 4, whether through ReLU. A thread four outputs of four pixels in a row.
template <typename T> __device__ void conv_few(Words a, Size i) {
    INPUT(T, x, 1);
    INPUT(Four<T>, weights, 2);
    INPUT(float, bias, 3);
    OUTPUT(Four<T>, out, 4);
    const Size height = a.w[5], width = a.w[6], inputs = a.w[7], groups = a.w[8];
    const Size n = i % groups, left = i / groups % (width / 4) * 4;
    const Size line = i / groups / (width / 4), y = line % height;
    float sums[4][4];
    for (int p = 0; p < 4; p++)
        for (int o = 0; o < 4; o++) sums[p][o] = bias[4 * n + o];
    for (Size k = 0; k < inputs; k++) {
        for (Size dy = 0; dy < 3; dy++) {
            if (y + dy - 1 >= height) continue;
            float seen[6];
            for (Size c = 0; c < 6; c++) {
                const Size column = left + c - 1;
                seen[c] = column < width ? get(x, ((line + dy - 1) * width + column) * inputs + k) : 0.0f;
            }
            for (Size dx = 0; dx < 3; dx++) {
                const Four<T> w = weights[((3 * dy + dx) * inputs + k) * groups + n];
                for (int p = 0; p < 4; p++)
                    for (int o = 0; o < 4; o++) sums[p][o] += seen[p + dx] * get(w.v, o);
            }
        }
    }
    for (int p = 0; p < 4; p++) {
        Four<T> four;
        for (int o = 0; o < 4; o++) put(four.v, o, a.w[9] && !(sums[p][o] > 0.0f) ? 0.0f : sums[p][o]);
        out[(line * width + left + p) * groups + n] = four;
    }
}
BOTH(conv_few)

// The same number everywhere: out, the number.
KERNEL(fill) {
    THREAD(i);
    OUTPUT(float, out, 1);
    out[i] = number(a.w[2]);
}

// Three numbers below 2^20 in a word.
__device__ void triple(Word word, Size *out) {
    out[0] = (Size)(word >> 40) & 0xfffff;
    out[1] = (Size)(word >> 20) & 0xfffff;
    out[2] = (Size)word & 0xfffff;
}

// What lies under some windows of stacks, a row a window: x, out, the first window, channels, and triples over slices, rows and
// columns: taps, windows, size of x, how far windows begin before x; then the step from window to window, from tap to tap in a
// slice, and how far the voxels of x lie apart. A thread a value.
KERNEL(windows) {
    THREAD(i);
    INPUT(float, x, 1);
    OUTPUT(float, out, 2);
    const Size channels = a.w[4], step = a.w[9], dilation = a.w[10], apart = a.w[11];
    Size taps[3], windows[3], size[3], before[3];
    triple(a.w[5], taps);
    triple(a.w[6], windows);
    triple(a.w[7], size);
    triple(a.w[8], before);
    const Size c = i % channels, tap = i / channels % (taps[0] * taps[1] * taps[2]);
    Size window = (Size)a.w[3] + i / channels / (taps[0] * taps[1] * taps[2]);
    const Size tap_at[3] = {tap / taps[2] / taps[1], tap / taps[2] % taps[1] * dilation, tap % taps[2] * dilation};
    const Size column = window % windows[2];
    window /= windows[2];
    const Size row = window % windows[1];
    window /= windows[1];
    const Size window_at[3] = {window % windows[0], row, column};
    Size at = window / windows[0];
    bool is_there = true;
    for (int axis = 0; axis < 3; axis++) {
        // Before the first it is a very large number.
        const Size from = window_at[axis] * step + tap_at[axis] - before[axis];
        is_there = is_there && from % apart == 0 && from / apart < size[axis];
        at = at * size[axis] + from / apart;
    }
    out[i] = is_there ? x[at * channels + c] : 0.0f;
}

// Weights [tap][input][output] for windows turned round, [tap][output][input]: weights, out, taps, inputs, outputs. A thread a
// weight.
KERNEL(turned) {
    THREAD(i);
    INPUT(float, weights, 1);
    OUTPUT(float, out, 2);
    const Size taps = a.w[3], inputs = a.w[4], outputs = a.w[5];
    const Size k = i % inputs, n = i / inputs % outputs, tap = i / inputs / outputs;
    out[i] = weights[((taps - 1 - tap) * inputs + k) * outputs + n];
}

// The first largest of four pixels that lie some way apart: x, where the first lies, and the way to the right and down.
__device__ Size largest(const float *x, Size at, Size right, Size down) {
    const Size upper = x[at + right] > x[at] ? at + right : at;
    const Size lower = x[at + down + right] > x[at + down] ? at + down + right : at + down;
    return x[lower] > x[upper] ? lower : upper;
}

// The largest of each four pixels that lie some way apart: x, out, height and width of x, channels, how far. A thread an output.
KERNEL(dense_pool) {
    THREAD(i);
    INPUT(float, x, 1);
    OUTPUT(float, out, 2);
    const Size height = a.w[3], width = a.w[4], channels = a.w[5], apart = a.w[6];
    const Size c = i % channels, pixel = i / channels;
    const Size column = pixel % (width - apart), row = pixel / (width - apart) % (height - apart);
    const Size image = pixel / (width - apart) / (height - apart);
    const Size at = ((image * height + row) * width + column) * channels + c;
    out[i] = x[largest(x, at, apart * channels, apart * width * channels)];
}

// The gradient to the first largest of each: x, dy, dx, height and width of x, channels, how far. A thread a value of x, which
// may be the largest of four windows.
KERNEL(dense_pool_gradient) {
    THREAD(i);
    INPUT(float, x, 1);
    INPUT(float, dy, 2);
    OUTPUT(float, dx, 3);
    const Size height = a.w[4], width = a.w[5], channels = a.w[6], apart = a.w[7];
    const Size c = i % channels, pixel = i / channels;
    const Size column = pixel % width, row = pixel / width % height, image = pixel / width / height;
    float sum = 0.0f;
    for (Size n = 0; n < 4; n++) {
        // Where a window begins that has the value as its last, .. first pixel; beyond the edge it is too large a number.
        const Size top = row - (n < 2 ? apart : 0), left = column - (n % 2 == 0 ? apart : 0);
        if (top >= height - apart || left >= width - apart) continue;
        const Size at = ((image * height + top) * width + left) * channels + c;
        if (largest(x, at, apart * channels, apart * width * channels) != i) continue;
        sum += dy[((image * (height - apart) + top) * (width - apart) + left) * channels + c];
    }
    dx[i] = sum;
}

// Sums of a normalisation over parts of a stack: x, dy or 0, what is known [stack and channel][four], out [part][stack and
// channel][two], pixels of a stack, channels, pixels a part, which: 0 x, 1 its squared difference to the mean, 2 dy and dy times
// the normalised x. A thread a part and channel of a stack.
KERNEL(norm_parts) {
    THREAD(i);
    INPUT(float, x, 1);
    INPUT(float, dy, 2);
    INPUT(double, known, 3);
    OUTPUT(double, out, 4);
    const Size pixels = a.w[5], channels = a.w[6], size = a.w[7], which = a.w[8];
    const Size parts = (pixels + size - 1) / size;
    const Size channel = i % (a.w[0] / parts), part = i / (a.w[0] / parts);
    const Size c = channel % channels, stack = channel / channels;
    double first = 0.0, second = 0.0;
    for (Size pixel = part * size; pixel < pixels && pixel < (part + 1) * size; pixel++) {
        const Size at = (stack * pixels + pixel) * channels + c;
        const double off = which == 0 ? x[at] : x[at] - known[4 * channel];
        if (which == 0) first += off;
        if (which == 1) first += off * off;
        if (which == 2) {
            first += dy[at];
            second += dy[at] * off * known[4 * channel + 1];
        }
    }
    out[2 * i] = first;
    out[2 * i + 1] = second;
}

// What comes of them: parts, known, how many parts, pixels, which. A thread a channel of a stack.
KERNEL(norm_known) {
    THREAD(i);
    INPUT(double, parts, 1);
    OUTPUT(double, known, 2);
    const Size count = a.w[3], which = a.w[5];
    const double pixels = (double)a.w[4];
    double first = 0.0, second = 0.0;
    for (Size part = 0; part < count; part++) {
        first += parts[2 * (part * a.w[0] + i)];
        second += parts[2 * (part * a.w[0] + i) + 1];
    }
    if (which == 0) known[4 * i] = first / pixels;
    if (which == 1) known[4 * i + 1] = 1.0 / sqrt(first / pixels + 1e-5);
    if (which == 2) {
        known[4 * i + 2] = first;
        known[4 * i + 3] = second;
    }
}

// Normalised: x, out, known, scale, shift, pixels, channels, whether through ReLU.
KERNEL(norm) {
    THREAD(i);
    INPUT(float, x, 1);
    OUTPUT(float, out, 2);
    INPUT(float, scale, 4);
    INPUT(float, shift, 5);
    const Size channels = a.w[7], c = i % channels, stack = i / channels / a.w[6];
    const double *known = (const double *)a.w[3] + 4 * (stack * channels + c);
    float value = (float)((x[i] - known[0]) * known[1]) * scale[c] + shift[c];
    if (a.w[8] && !(value > 0.0f)) value = 0.0f;
    out[i] = value;
}

// Its gradient by x: x, dy, out, known, scale, pixels, channels.
KERNEL(norm_gradient) {
    THREAD(i);
    INPUT(float, x, 1);
    INPUT(float, dy, 2);
    OUTPUT(float, out, 3);
    INPUT(float, scale, 5);
    const Size pixels = a.w[6], channels = a.w[7], c = i % channels, stack = i / channels / pixels;
    const double *known = (const double *)a.w[4] + 4 * (stack * channels + c);
    const double z = (x[i] - known[0]) * known[1];
    out[i] = (float)(scale[c] * known[1] * (dy[i] - known[2] / pixels - z * known[3] / pixels));
}

// Its gradients by the scales, then by the shifts: known, out, stacks. A thread a channel.
KERNEL(norm_learnt) {
    THREAD(i);
    INPUT(double, known, 1);
    OUTPUT(float, out, 2);
    double scale = 0.0, shift = 0.0;
    for (Size stack = 0; stack < a.w[3]; stack++) {
        scale += known[4 * (stack * a.w[0] + i) + 3];
        shift += known[4 * (stack * a.w[0] + i) + 2];
    }
    out[i] = (float)scale;
    out[a.w[0] + i] = (float)shift;
}
