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
template <typename T, int N> __device__ void gated(Words a, Size i) {
    typedef Pack<T, N> P;
    OUTPUT(P, values, 1);
    INPUT(P, gates, 2);
    const P gate = gates[i];
    P value = values[i];
    for (int n = 0; n < N; n++) put(value, n, get(gate, n) > 0.0f ? get(value, n) : 0.0f);
    values[i] = value;
}
WIDE_F32(gated)

// Where the first of the 2x2 pixels of an output of half the size lies.
__device__ Size first_of_window(Size i, Size height, Size width, Size channels) {
    const Size c = i % channels, pixel = i / channels;
    const Size column = pixel % (width / 2), row = pixel / (width / 2) % (height / 2), image = pixel / (width / 2) / (height / 2);
    return ((image * height + 2 * row) * width + 2 * column) * channels + c;
}

// The largest of each 2x2 window: x, out, height and width of x, channels. A thread an output.
template <typename T, int N> __device__ void pool(Words a, Size i) {
    typedef Pack<T, N> P;
    INPUT(P, x, 1);
    OUTPUT(P, out, 2);
    const Size height = a.w[3], width = a.w[4], channels = a.w[5];
    const Size at = first_of_window(i, height, width, channels);
    const P p = x[at], q = x[at + channels], r = x[at + width * channels], s = x[at + width * channels + channels];
    P most;
    for (int n = 0; n < N; n++) {
        const float upper = get(q, n) > get(p, n) ? get(q, n) : get(p, n);
        const float lower = get(s, n) > get(r, n) ? get(s, n) : get(r, n);
        put(most, n, lower > upper ? lower : upper);
    }
    out[i] = most;
}
WIDE(pool)

// The gradient to the first largest of each window: x, dy, dx, height and width of x, channels, whether it is added to what is
// there, which becomes 0 where x is not above 0. A thread a window.
template <typename T, int N> __device__ void pool_gradient(Words a, Size i) {
    typedef Pack<T, N> P;
    INPUT(P, x, 1);
    INPUT(P, dy, 2);
    OUTPUT(P, dx, 3);
    const Size height = a.w[4], width = a.w[5], channels = a.w[6];
    const Size first = first_of_window(i, height, width, channels);
    const Size at[4] = {first, first + channels, first + width * channels, first + width * channels + channels};
    const P gradient = dy[i];
    P seen[4], found[4];
    for (int k = 0; k < 4; k++) seen[k] = x[at[k]];
    for (int n = 0; n < N; n++) {
        const bool second = get(seen[1], n) > get(seen[0], n), fourth = get(seen[3], n) > get(seen[2], n);
        const float upper = second ? get(seen[1], n) : get(seen[0], n);
        const float lower = fourth ? get(seen[3], n) : get(seen[2], n);
        const float up = lower > upper ? 0.0f : get(gradient, n), down = lower > upper ? get(gradient, n) : 0.0f;
        put(found[0], n, second ? 0.0f : up);
        put(found[1], n, second ? up : 0.0f);
        put(found[2], n, fourth ? 0.0f : down);
        put(found[3], n, fourth ? down : 0.0f);
    }
    for (int k = 0; k < 4; k++) {
        if (a.w[7]) {
            const P before = dx[at[k]];
            for (int n = 0; n < N; n++)
                put(found[k], n, get(seen[k], n) > 0.0f ? get(before, n) + get(found[k], n) : 0.0f);
        }
        dx[at[k]] = found[k];
    }
}
WIDE_F32(pool_gradient)

// From four outputs a pixel, side by side, to an image twice as high and wide: sums, out, height and width before, channels,
// bias. A thread an output.
template <typename T, int N> __device__ void shuffle(Words a, Size i) {
    typedef Pack<float, N> Sums;
    typedef Pack<T, N> P;
    INPUT(Sums, sums, 1);
    OUTPUT(P, out, 2);
    const Size height = a.w[3], width = a.w[4], channels = a.w[5];
    INPUT(Sums, bias, 6);
    const Size c = i % channels, pixel = i / channels;
    const Size x = pixel % (2 * width), y = pixel / (2 * width) % (2 * height), image = pixel / (2 * width) / (2 * height);
    const Size from = (image * height + y / 2) * width + x / 2;
    const Sums sum = sums[(from * 4 + 2 * (y % 2) + x % 2) * channels + c], added = bias[c];
    P value;
    for (int n = 0; n < N; n++) put(value, n, get(sum, n) + get(added, n));
    out[i] = value;
}
WIDE(shuffle)

// The way back: dy, out, height and width before, channels. A thread an output, of four a pixel side by side.
template <typename T, int N> __device__ void unshuffle(Words a, Size i) {
    typedef Pack<T, N> P;
    INPUT(P, dy, 1);
    OUTPUT(P, out, 2);
    const Size height = a.w[3], width = a.w[4], channels = a.w[5];
    const Size c = i % channels, part = i / channels % 4, pixel = i / channels / 4;
    const Size x = pixel % width, y = pixel / width % height, image = pixel / width / height;
    const Size row = image * 2 * height + 2 * y + part / 2;
    out[i] = dy[(row * 2 * width + 2 * x + part % 2) * channels + c];
}
WIDE_F32(unshuffle)

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
template <typename T, int N> __device__ void add_gated(Words a, Size i) {
    typedef Pack<T, N> P;
    OUTPUT(P, sums, 1);
    INPUT(P, values, 2);
    INPUT(P, gates, 3);
    const P value = values[i], gate = gates[i];
    P sum = sums[i];
    for (int n = 0; n < N; n++) put(sum, n, get(gate, n) > 0.0f ? get(sum, n) + get(value, n) : 0.0f);
    sums[i] = sum;
}
WIDE_F32(add_gated)

// Where a thread's eight inputs of an output lie among [tap][input][output] weights of some inputs. Neighbours are eight outputs,
// then four eights of inputs: both sides of the way to [output][tap][input] are read and written in whole sectors of memory.
struct Eight {
    Size tap, first, output;
};
__device__ Eight eight(Size i, Size inputs, Size outputs) {
    const Size groups = (inputs + 7) / 8, across = (outputs + 7) / 8;
    const Size n = i % 8, group = i / 8 % groups, rest = i / 8 / groups;
    Eight at = {rest / across, group * 8, rest % across * 8 + n};
    return at;
}

// Weights [tap][input][output] as cuDNN wants them, [output][tap][input], of some inputs: weights, out, taps, inputs taken,
// outputs, inputs in all, the first taken. A thread eight inputs.
template <typename T> __device__ void outputs_first(Words a, Size i) {
    typedef Pack<T, 16 / sizeof(T)> P;
    INPUT(T, weights, 1);
    OUTPUT(T, out, 2);
    const Size taps = a.w[3], inputs = a.w[4], outputs = a.w[5];
    const Eight at = eight(i, inputs, outputs);
    if (at.output >= outputs) return;
    const T *from = weights + (at.tap * a.w[6] + a.w[7] + at.first) * outputs + at.output;
    T *to = out + (at.output * taps + at.tap) * inputs + at.first;
    if (inputs % 8 == 0 && a.w[2] % 16 == 0) {
        const int count = 16 / sizeof(T);
        for (int part = 0; part < 8 / count; part++) {
            P pack;
            for (int k = 0; k < count; k++) put(pack, k, get(from, (part * count + k) * outputs));
            ((P *)to)[part] = pack;
        }
    } else {
        for (Size k = 0; k < 8 && at.first + k < inputs; k++) to[k] = from[k * outputs];
    }
}
BOTH(outputs_first)

// The way back.
KERNEL(outputs_last) {
    THREAD(i);
    typedef Pack<float, 4> P;
    INPUT(float, weights, 1);
    OUTPUT(float, out, 2);
    const Size taps = a.w[3], inputs = a.w[4], outputs = a.w[5];
    const Eight at = eight(i, inputs, outputs);
    if (at.output >= outputs) return;
    const float *from = weights + (at.output * taps + at.tap) * inputs + at.first;
    float *to = out + (at.tap * a.w[6] + a.w[7] + at.first) * outputs + at.output;
    if (inputs % 8 == 0 && a.w[1] % 16 == 0) {
        for (int part = 0; part < 2; part++) {
            const P pack = ((const P *)from)[part];
            for (int k = 0; k < 4; k++) to[(4 * part + k) * outputs] = get(pack, k);
        }
    } else {
        for (Size k = 0; k < 8 && at.first + k < inputs; k++) to[k * outputs] = from[k];
    }
}

// Numbers as bf16: values, out.
KERNEL(narrowed) {
    THREAD(i);
    INPUT(float, values, 1);
    OUTPUT(bf16, out, 2);
    put(out, i, values[i]);
}

// A 3x3 convolution of few inputs, for which no product is worth its while: x, weights [tap][input][output], bias, out, height,
// width, inputs, outputs / 4, whether through ReLU. A thread four outputs of four pixels in a row.
template <typename T> __device__ void conv_few(Words a, Size i) {
    typedef Pack<T, 4> Four;
    INPUT(T, x, 1);
    INPUT(Four, weights, 2);
    INPUT(float, bias, 3);
    OUTPUT(Four, out, 4);
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
                const Four w = weights[((3 * dy + dx) * inputs + k) * groups + n];
                for (int p = 0; p < 4; p++)
                    for (int o = 0; o < 4; o++) sums[p][o] += seen[p + dx] * get(w, o);
            }
        }
    }
    for (int p = 0; p < 4; p++) {
        Four four;
        for (int o = 0; o < 4; o++) put(four, o, a.w[9] && !(sums[p][o] > 0.0f) ? 0.0f : sums[p][o]);
        out[(line * width + left + p) * groups + n] = four;
    }
}
BOTH(conv_few)

// What lies under the 3x3 windows of images, a row a pixel: x, out, height, width, inputs, values a row: those of every tap, then
// zeros. A thread a value.
KERNEL(windows_few) {
    THREAD(i);
    INPUT(float, x, 1);
    OUTPUT(float, out, 2);
    const Size height = a.w[3], width = a.w[4], inputs = a.w[5], columns = a.w[6];
    const Size value = i % columns, pixel = i / columns, tap = value / inputs;
    const Size line = pixel / width, y = line % height + tap / 3 - 1, left = pixel % width + tap % 3 - 1;
    const bool is_there = tap < 9 && y < height && left < width;
    out[i] = is_there ? x[((line + tap / 3 - 1) * width + left) * inputs + value % inputs] : 0.0f;
}

// The at most eight numbers of a row; four of them at a time where that is allowed.
template <typename T> __device__ void row(const T *values, Size count, Word is_in_fours, float *out) {
    typedef Pack<T, 4> Four;
    if (is_in_fours) {
        for (Size first = 0; first < 8; first += 4) {
            if (first >= count) continue;
            const Four four = ((const Four *)values)[first / 4];
            for (int n = 0; n < 4; n++) out[first + n] = get(four, n);
        }
    } else {
        for (Size n = 0; n < 8; n++) out[n] = n < count ? get(values, n) : 0.0f;
    }
}

// A 1x1 convolution of at most eight outputs: x, weights [input][output], bias, out, inputs, outputs, whether through ReLU, whether
// rows of outputs are read in fours. A thread a pixel.
template <typename T, int N> __device__ void few_outputs(Words a, Size i) {
    typedef Pack<T, N> P;
    INPUT(P, x, 1);
    INPUT(T, weights, 2);
    INPUT(float, bias, 3);
    OUTPUT(float, out, 4);
    const Size inputs = a.w[5], outputs = a.w[6];
    float sums[8];
    for (Size o = 0; o < 8; o++) sums[o] = o < outputs ? bias[o] : 0.0f;
    for (Size k = 0; k < inputs; k++) {
        const P seen = x[(Word)i * inputs + k];
        for (int n = 0; n < N; n++) {
            float w[8];
            row(weights + (k * N + n) * outputs, outputs, a.w[8], w);
            for (Size o = 0; o < 8; o++)
                if (o < outputs) sums[o] += get(seen, n) * w[o];
        }
    }
    for (Size o = 0; o < 8; o++)
        if (o < outputs) out[(Word)i * outputs + o] = a.w[7] && !(sums[o] > 0.0f) ? 0.0f : sums[o];
}
WIDE(few_outputs)

// Its gradient by the input: dy, weights, gate or 0, dx, inputs, outputs, whether rows of outputs are read in fours. A thread an
// input of a pixel.
template <typename T, int N> __device__ void few_outputs_gradient(Words a, Size i) {
    typedef Pack<T, N> P;
    INPUT(T, dy, 1);
    INPUT(T, weights, 2);
    INPUT(P, gates, 3);
    OUTPUT(P, dx, 4);
    const Size inputs = a.w[5], outputs = a.w[6], k = i % inputs, pixel = i / inputs;
    P found;
    float slopes[8];
    row(dy + (Word)pixel * outputs, outputs, a.w[7], slopes);
    for (int n = 0; n < N; n++) {
        float w[8], sum = 0.0f;
        row(weights + (k * N + n) * outputs, outputs, a.w[7], w);
        for (Size o = 0; o < 8; o++)
            if (o < outputs) sum += slopes[o] * w[o];
        put(found, n, sum);
    }
    if (gates) {
        const P gate = gates[i];
        for (int n = 0; n < N; n++) put(found, n, get(gate, n) > 0.0f ? get(found, n) : 0.0f);
    }
    dx[i] = found;
}
WIDE_F32(few_outputs_gradient)

// The same number everywhere: out, the number.
KERNEL(fill) {
    THREAD(i);
    OUTPUT(float, out, 1);
    out[i] = number(a.w[2]);
}
