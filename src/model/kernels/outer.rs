//! The other product: over all pixels, an input times an output gradient, in blocks that fit the caches.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::Runs;
use super::simd::Isa;
use super::sweep::{Inputs, Sweep, Swept, TAPS};
use super::{HALF, PANEL, Real, Scratch};

/// Values that a sweep reads again and again before it moves on: 256 KB of f32.
const SWEPT: usize = 65_536;
/// Sums so few that tasks take a part of the pixels each and add theirs up in the end.
const FEW_SUMS: usize = 16_384;
/// Tasks that sum a part of the pixels each.
const PARTS: usize = 16;
/// Pixels of such a part at least.
const PART: usize = 1024;

/// Rows of pixels: where row `r` begins, and how far apart its pixels are.
pub struct Rows<'a, T, F> {
    /// The values.
    pub values: &'a [T],
    /// From pixel to pixel.
    pub step: usize,
    /// Where a row begins.
    pub at: F,
}

/// `out[k][n] = sum over all pixels of x[k] * y[n]`, with `k` over the runs of `x` and `n < columns`. The order of each sum
/// depends on the shapes alone.
///
/// * `rows`, `width`: rows of pixels, and pixels in each
pub fn outer<T: Real, X, Y>(
    x: &Rows<'_, T, X>,
    runs: Runs,
    y: &Rows<'_, T, Y>,
    columns: usize,
    (rows, width): (usize, usize),
    out: &mut [T],
) where
    X: Fn(usize) -> usize + Sync,
    Y: Fn(usize) -> usize + Sync,
{
    if rows * width == 0 {
        return out.fill(T::ZERO);
    }
    let (x_rows, y_rows): (Vec<usize>, Vec<usize>) = (0..rows).map(|row| ((x.at)(row), (y.at)(row))).unzip();
    let sweep = Sweep {
        x: x.values,
        x_rows: &x_rows,
        x_step: x.step,
        inputs: Inputs::Eight,
        y: y.values,
        y_rows: &y_rows,
        y_step: y.step,
        y_stride: PANEL,
        width,
    };
    let outer = Outer {
        isa: Isa::detect(),
        sweep,
        columns,
        at_once: (SWEPT / (width * (x.step + y.step))).max(1),
    };
    let blocks = input_blocks(runs);
    if out.len() <= FEW_SUMS && rows * width >= 2 * PART {
        outer.apart(&blocks, out);
    } else {
        outer.together(&blocks, out);
    }
}

/// Rows of sums that are computed together.
struct Block {
    /// Which of them others do not compute.
    rows: Range<usize>,
    /// Their inputs, and where the first of these lies.
    inputs: Inputs,
    x: usize,
}

/// All rows in their order.
fn input_blocks(runs: Runs) -> Vec<Block> {
    let length = runs.length;
    if length < HALF {
        let all = runs.count * length;
        let offset = |n: usize| runs.at(n / length) + n % length;
        let blocks = (0..all).step_by(TAPS).map(|first| Block {
            // Those that it has too many are its last.
            rows: 0..TAPS.min(all - first),
            inputs: Inputs::Scattered(std::array::from_fn(|n| offset((first + n).min(all - 1)))),
            x: 0,
        });
        return blocks.collect();
    }
    let every = (0..runs.count).flat_map(|run| (0..length).step_by(HALF).map(move |from| (run, from)));
    let blocks = every.map(|(run, from)| Block {
        rows: HALF - HALF.min(length - from)..HALF,
        inputs: Inputs::Eight,
        // The last begins early rather than ends late.
        x: runs.at(run) + from.min(length - HALF),
    });
    blocks.collect()
}

struct Outer<'a, T> {
    isa: Isa,
    /// All pixels.
    sweep: Sweep<'a, T>,
    columns: usize,
    /// Rows of pixels that the second-level cache holds.
    at_once: usize,
}

impl<T: Real> Outer<'_, T> {
    /// Every task its own pixels.
    fn apart(&self, blocks: &[Block], out: &mut [T]) {
        let rows = self.sweep.x_rows.len();
        let parts = (rows * self.sweep.width / PART).min(PARTS);
        let part = rows.div_ceil(parts);
        let sums: Vec<Scratch<T>> = (0..rows.div_ceil(part))
            .into_par_iter()
            .map(|n| {
                let mut sums = Scratch::take(out.len());
                self.sum(blocks, n * part..rows.min((n + 1) * part), &mut sums);
                sums
            })
            .collect();
        out.fill(T::ZERO);
        for sums in sums {
            out.iter_mut().zip(&*sums).for_each(|(out, sum)| *out += *sum);
        }
    }

    /// Every task all pixels, and its own rows of sums.
    fn together(&self, blocks: &[Block], mut out: &mut [T]) {
        let tasks = 4 * rayon::current_num_threads();
        let mut shares = Vec::new();
        for blocks in blocks.chunks(blocks.len().div_ceil(tasks)) {
            let count: usize = blocks.iter().map(|block| block.rows.len()).sum();
            let sums = out.split_off_mut(..count * self.columns);
            shares.push((blocks, sums.expect("every block has its sums")));
        }
        let rows = 0..self.sweep.x_rows.len();
        shares
            .into_par_iter()
            .for_each(|(blocks, sums)| self.sum(blocks, rows.clone(), sums));
    }

    /// The sums of some blocks over some rows of pixels.
    fn sum(&self, blocks: &[Block], rows: Range<usize>, out: &mut [T]) {
        for row in rows.clone().step_by(self.at_once) {
            let here = row..rows.end.min(row + self.at_once);
            for column in (0..self.columns).step_by(2 * PANEL) {
                let filled = (self.columns - column).min(2 * PANEL);
                let mut first = column;
                for block in blocks {
                    let swept = Swept {
                        sweep: Sweep {
                            x: &self.sweep.x[block.x..],
                            x_rows: &self.sweep.x_rows[here.clone()],
                            inputs: block.inputs,
                            y: &self.sweep.y[column..],
                            y_rows: &self.sweep.y_rows[here.clone()],
                            ..self.sweep
                        },
                        further: row > rows.start,
                        rows: block.rows.clone(),
                        filled,
                        sums: &mut out[first..],
                        stride: self.columns,
                    };
                    T::run(self.isa, swept);
                    first += block.rows.len() * self.columns;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of every kind of block, few sums of many pixels and many of few, columns that fill no panel; the last pixel's gradient
    /// ends where its values do; and no pixels.
    #[test]
    fn sums_over_pixels_are_those_of_their_terms() {
        let counts = [
            (3, 3),
            (1, 1),
            (1, 8),
            (2, 9),
            (1, 12),
            (1, 17),
            (3, 24),
            (2, 7),
            (1, 400),
        ];
        for (count, length) in counts {
            for (columns, rows, width) in [
                (5, 3, 7),
                (40, 2, 4),
                (3, 40, 64),
                (16, 33, 80),
                (5, 0, 7),
                (5, 3, 0),
            ] {
                let runs = Runs::new(count, length, length + 3);
                let x_row = width * 2 + count * (length + 3);
                let x: Vec<f64> = (0..rows * x_row).map(|i| (i * 7 % 17) as f64 - 8.0).collect();
                let y: Vec<f64> = (0..rows * width * columns)
                    .map(|i| (i * 5 % 13) as f64 - 6.0)
                    .collect();
                let source = Rows {
                    values: &x,
                    step: 2,
                    at: |row| row * x_row,
                };
                let gradient = Rows {
                    values: &y,
                    step: columns,
                    at: |row| row * width * columns,
                };
                let mut out = vec![1.0; count * length * columns];
                outer(&source, runs, &gradient, columns, (rows, width), &mut out);
                for (at, out) in out.into_iter().enumerate() {
                    let (k, n) = (at / columns, at % columns);
                    let terms = (0..rows * width).map(|pixel| {
                        let (row, column) = (pixel / width, pixel % width);
                        x[row * x_row + column * 2 + runs.at(k / length) + k % length]
                            * y[pixel * columns + n]
                    });
                    assert_eq!(
                        out,
                        terms.sum::<f64>(),
                        "{count}x{length}, {columns}, row {k}, column {n}"
                    );
                }
            }
        }
    }
}
