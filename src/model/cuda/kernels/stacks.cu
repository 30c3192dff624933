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
