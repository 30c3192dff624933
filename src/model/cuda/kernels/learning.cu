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

// Sums of some rows at a time, of the last as many as there are: rows, sums, how many, numbers a row, rows at a time. A thread a sum.
KERNEL(folded) {
    THREAD(i);
    INPUT(double, rows, 1);
    OUTPUT(double, sums, 2);
    const Size count = a.w[3], width = a.w[4], at_once = a.w[5];
    const Size first = i / width * at_once;
    double sum = 0.0;
    for (Size row = first; row < first + at_once && row < count; row++) sum += rows[row * width + i % width];
    sums[i] = sum;
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

// Adam's step: weights, then the means of their gradients, then those of their squares; the gradient; where the step's size is; what
// both means keep, and what they take; epsilon.
template <typename T, int N> __device__ void adam(Words a, Size i) {
    typedef Pack<T, N> P;
    OUTPUT(P, weights, 1);
    INPUT(P, grads, 2);
    INPUT(float, size, 3);
    const float keep_1 = number(a.w[4]), keep_2 = number(a.w[5]), take_1 = number(a.w[6]), take_2 = number(a.w[7]);
    P *firsts = weights + a.w[0], *seconds = firsts + a.w[0];
    const P grad = grads[i];
    P weight = weights[i], first = firsts[i], second = seconds[i];
    for (int n = 0; n < N; n++) {
        const float g = get(grad, n), m = keep_1 * get(first, n) + take_1 * g, v = keep_2 * get(second, n) + take_2 * g * g;
        put(first, n, m);
        put(second, n, v);
        put(weight, n, get(weight, n) - *size * m / (sqrtf(v) + number(a.w[8])));
    }
    weights[i] = weight;
    firsts[i] = first;
    seconds[i] = second;
}
WIDE_F32(adam)
