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
        // Not infinite, which 0 times would be no number.
        const double far = (double)logits[c] - largest, z = far < -700.0 ? -700.0 : far, e = exp(z);
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
