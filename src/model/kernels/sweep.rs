//! Sums over pixels of an input times an output gradient, in blocks of sums that stay in registers.

#![expect(
    clippy::needless_range_loop,
    reason = "the indices are those of the matrices in the formulas; iterators would hide them"
)]

use std::ops::Range;

use super::blocks::in_blocks;
use super::simd::{Simd, Work};
use super::{HALF, PANEL, Real};

/// Inputs of a pixel that lie here and there and are summed together: a row, or more, of windows of three by three.
pub const TAPS: usize = 9;

/// Which inputs of a pixel are summed.
#[derive(Debug, Clone, Copy)]
pub enum Inputs {
    /// The first 8.
    Eight,
    /// Those so far behind the pixel's first.
    Scattered([usize; TAPS]),
}

/// A walk over pixels, row by row, with an input and an output gradient at each.
#[derive(Clone, Copy)]
pub struct Sweep<'a, T> {
    /// Inputs, from the first of the rows of sums.
    pub x: &'a [T],
    /// Where each row of pixels begins in `x`.
    pub x_rows: &'a [usize],
    /// From pixel to pixel in `x`.
    pub x_step: usize,
    /// Which of a pixel's are summed.
    pub inputs: Inputs,
    /// Output gradients, from the first panel's first channel. Sums of channels beyond the last are of whatever lies there, of
    /// nothing beyond the end.
    pub y: &'a [T],
    /// Where each row of pixels begins in `y`.
    pub y_rows: &'a [usize],
    /// From pixel to pixel in `y`.
    pub y_step: usize,
    /// From panel to panel in `y`.
    pub y_stride: usize,
    /// Pixels a row.
    pub width: usize,
}

/// `sums[i][n] = sum over the pixels of x[i] * y[n]`.
pub struct Swept<'a, T> {
    /// The pixels.
    pub sweep: Sweep<'a, T>,
    /// Whether the sums are added to what is there.
    pub further: bool,
    /// Which of the inputs' sums are wanted.
    pub rows: Range<usize>,
    /// How many columns there are, in the panels: no more are written.
    pub filled: usize,
    /// The sums, from the first wanted row's on.
    pub sums: &'a mut [T],
    /// From row to row of the sums.
    pub stride: usize,
}

impl<T: Real> Work<T> for Swept<'_, T> {
    #[inline(always)]
    fn on<S: Simd<T>>(mut self, simd: S) {
        let columns = self.filled;
        let offsets = match self.sweep.inputs {
            Inputs::Scattered(offsets) => offsets,
            Inputs::Eight => {
                in_blocks!(S, HALF, columns, |row, panel| swept(
                    simd,
                    &mut self,
                    (row, panel)
                ));
                return;
            }
        };
        for panel in 0..columns.div_ceil(PANEL) {
            if S::LANES == PANEL {
                scattered::<T, S, TAPS, 1>(simd, &mut self, &offsets, (0, panel));
                continue;
            }
            for row in (0..TAPS).step_by(3) {
                match S::LANES {
                    8 => scattered::<T, S, 3, 2>(simd, &mut self, &offsets, (row, panel)),
                    _ => scattered::<T, S, 3, 4>(simd, &mut self, &offsets, (row, panel)),
                }
            }
        }
    }
}

/// The `W` vectors of a pixel's output gradients from `at` on; 0 beyond the end of all.
#[inline(always)]
fn gradients<T: Real, S: Simd<T>, const W: usize>(
    simd: S,
    sweep: &Sweep<'_, T>,
    at: usize,
) -> [S::Vector; W] {
    let mut vectors = [simd.zero(); W];
    for (v, vector) in vectors.iter_mut().enumerate() {
        let column = v * S::LANES;
        let values = sweep
            .y
            .get(at + column / PANEL * sweep.y_stride + column % PANEL..);
        let values = values.unwrap_or_default();
        *vector = simd.load_some(values, values.len());
    }
    vectors
}

#[inline(always)]
fn swept<T: Real, S: Simd<T>, const M: usize, const W: usize>(
    simd: S,
    work: &mut Swept<'_, T>,
    (row, panel): (usize, usize),
) {
    let sweep = &work.sweep;
    let mut held = [[simd.zero(); W]; M];
    for (x_row, y_row) in sweep.x_rows.iter().zip(sweep.y_rows) {
        let (mut x_at, mut y_at) = (x_row + row, y_row + panel * sweep.y_stride);
        for _ in 0..sweep.width {
            let x: &[T; M] = sweep.x[x_at..]
                .first_chunk()
                .expect("the inputs lie in the image");
            let y = gradients::<T, S, W>(simd, sweep, y_at);
            for i in 0..M {
                let x = simd.splat(x[i]);
                for v in 0..W {
                    held[i][v] = simd.fma(x, y[v], held[i][v]);
                }
            }
            x_at += sweep.x_step;
            y_at += sweep.y_step;
        }
    }
    put::<T, S, M, W>(simd, held, (row, panel), work);
}

/// The same of scattered inputs. The other's lie at fixed distances from one place: as a case of this one it is 3 to 10 % slower.
#[inline(always)]
fn scattered<T: Real, S: Simd<T>, const M: usize, const W: usize>(
    simd: S,
    work: &mut Swept<'_, T>,
    offsets: &[usize; TAPS],
    (row, panel): (usize, usize),
) {
    let sweep = &work.sweep;
    let mut held = [[simd.zero(); W]; M];
    // Of one length, so that a pixel is asked about once for all of its inputs.
    let extent = (sweep.width - 1) * sweep.x_step + 1;
    for (x_row, y_row) in sweep.x_rows.iter().zip(sweep.y_rows) {
        let mut rows: [&[T]; M] = [&[]; M];
        for i in 0..M {
            rows[i] = &sweep.x[x_row + offsets[row + i]..][..extent];
        }
        let (mut x_at, mut y_at) = (0, y_row + panel * sweep.y_stride);
        for _ in 0..sweep.width {
            let y = gradients::<T, S, W>(simd, sweep, y_at);
            for i in 0..M {
                let x = simd.splat(rows[i][x_at]);
                for v in 0..W {
                    held[i][v] = simd.fma(x, y[v], held[i][v]);
                }
            }
            x_at += sweep.x_step;
            y_at += sweep.y_step;
        }
    }
    put::<T, S, M, W>(simd, held, (row, panel), work);
}

/// Puts the `M` rows of sums from `row` on, and their vectors from panel `panel` on, where they are wanted.
#[inline(always)]
fn put<T: Real, S: Simd<T>, const M: usize, const W: usize>(
    simd: S,
    held: [[S::Vector; W]; M],
    (row, panel): (usize, usize),
    work: &mut Swept<'_, T>,
) {
    let (rows, end) = (row..row + M, panel * PANEL + W * S::LANES);
    let are_wanted = work.rows.start <= rows.start && rows.end <= work.rows.end && end <= work.filled;
    // Where registers are few, the compiler would keep them in memory for this.
    if S::LANES == PANEL && are_wanted {
        let first = (row - work.rows.start) * work.stride + panel * PANEL;
        for i in 0..M {
            let sums = &mut work.sums[first + i * work.stride..][..W * S::LANES];
            for v in 0..W {
                let sums = &mut sums[v * S::LANES..];
                let sum = match work.further {
                    true => simd.add(simd.load(sums), held[i][v]),
                    false => held[i][v],
                };
                simd.store(sum, sums);
            }
        }
        return;
    }
    for i in 0..M {
        if !work.rows.contains(&(row + i)) {
            continue;
        }
        for v in 0..W {
            let column = panel * PANEL + v * S::LANES;
            let count = work.filled.saturating_sub(column).min(S::LANES);
            if count == 0 {
                continue;
            }
            let sums = &mut work.sums[(row + i - work.rows.start) * work.stride + column..];
            let sum = match work.further {
                true => simd.add(simd.load_some(sums, count), held[i][v]),
                false => held[i][v],
            };
            simd.store_some(sum, sums, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::Isa;
    use super::super::small_numbers as numbers;
    use super::*;

    #[test]
    fn every_instruction_set_sweeps_over_pixels() {
        let (x, y) = (numbers(400), numbers(520));
        let (x_rows, y_rows) = ([0, 150], [1, 170]);
        for isa in Isa::known() {
            let offsets = [0, 1, 2, 40, 41, 42, 80, 81, 82];
            let kinds = [Inputs::Eight, Inputs::Scattered(offsets)];
            let sizes = [8, 16, 32].into_iter().flat_map(|n| [(n, true), (n, false)]);
            for ((columns, is_whole), inputs) in sizes.flat_map(|n| kinds.map(|kind| (n, kind))) {
                let offsets: Vec<usize> = match inputs {
                    Inputs::Eight => (0..8).collect(),
                    Inputs::Scattered(offsets) => offsets.to_vec(),
                };
                let sweep = Sweep {
                    x: &x,
                    x_rows: &x_rows,
                    x_step: 13,
                    inputs,
                    y: &y,
                    y_rows: &y_rows,
                    y_step: 32,
                    y_stride: 200,
                    width: 5,
                };
                // All that there are; or not the first two inputs' sums, nor the last three columns', and none before them.
                let (first, filled) = if is_whole { (0, columns) } else { (2, columns - 3) };
                let (stride, before) = (40, if is_whole { 1.0 } else { 0.0 });
                let mut sums = vec![1.0; TAPS * stride];
                f32::run(
                    isa,
                    Swept {
                        sweep,
                        further: is_whole,
                        rows: first..offsets.len(),
                        filled,
                        sums: &mut sums,
                        stride,
                    },
                );
                for (i, n) in (0..TAPS * stride).map(|at| (at / stride, at % stride)) {
                    let (offset, p) = (offsets.get(i + first).filter(|_| n < filled), n / PANEL);
                    let term = |pixel: usize, offset: &usize| {
                        let (row, column) = (pixel / 5, pixel % 5);
                        let y = y.get(y_rows[row] + 32 * column + 200 * p + n % PANEL);
                        x[x_rows[row] + 13 * column + offset] * y.unwrap_or(&0.0)
                    };
                    let terms = offset.map(|offset| (0..10).map(|pixel| term(pixel, offset)).sum::<f32>());
                    let expected = terms.map_or(1.0, |sum| before + sum);
                    assert_eq!(sums[i * stride + n], expected, "{isa:?}: {inputs:?}, {i}, {n}");
                }
            }
        }
    }

    /// The last pixel's gradients end where the values do.
    #[test]
    fn nothing_is_read_beyond_the_last_gradient() {
        let x = numbers(40);
        for (isa, channels) in Isa::known()
            .into_iter()
            .flat_map(|isa| [1, 3, 9, 19].map(|n| (isa, n)))
        {
            let y = numbers(4 * channels);
            let mut sums = vec![0.0; 8 * channels];
            let sweep = Sweep {
                x: &x,
                x_rows: &[0],
                x_step: 8,
                inputs: Inputs::Eight,
                y: &y,
                y_rows: &[0],
                y_step: channels,
                y_stride: PANEL,
                width: 4,
            };
            f32::run(
                isa,
                Swept {
                    sweep,
                    further: false,
                    rows: 0..8,
                    filled: channels,
                    sums: &mut sums,
                    stride: channels,
                },
            );
            for (i, n) in (0..8).flat_map(|i| (0..channels).map(move |n| (i, n))) {
                let sum: f32 = (0..4)
                    .map(|pixel| x[8 * pixel + i] * y[channels * pixel + n])
                    .sum();
                assert_eq!(sums[i * channels + n], sum, "{isa:?}: {channels}, {i}, {n}");
            }
        }
    }
}
