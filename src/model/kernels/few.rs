//! Products of few pixels with many weights, which are read once, as they lie: to lay them out as [`super::product`] wants them
//! would take longer than the products do.

#![expect(
    clippy::needless_range_loop,
    reason = "the indices are those of the matrices in the formulas; iterators would hide them"
)]

use std::ops::Range;

use rayon::prelude::*;

use super::shape::Finish;
use super::simd::{Isa, Simd, Stretches, Work};
use super::{PANEL, Real, Scratch};

/// Pixels at most: with more, weights that are laid out, and transformed, are sooner done. Measured from 16 to 1024 channels.
const FEW: usize = 128;
/// Tasks that every thread gets, so that none waits long for another.
const TASKS: usize = 4;
/// So many rows of weights are fetched ahead of the products.
const AHEAD: usize = 16;
/// Columns that are fetched at a time: of one row they are four lines of memory.
const FETCHED: usize = 64;

/// Whether there are so few pixels that weights are taken as they lie; `along` numbers of them lie side by side.
pub fn are_few(pixels: usize, along: usize) -> bool {
    (1..=FEW).contains(&pixels) && along.is_multiple_of(PANEL)
}

/// Few items: each has a run of values for every run of the weights.
#[derive(Clone, Copy)]
pub struct Few<'a, T> {
    /// The values.
    pub x: &'a [T],
    /// Where each item begins.
    pub items: &'a [usize],
    /// How far behind that each of its runs begins.
    pub runs: &'a [usize],
    /// Values of a run.
    pub length: usize,
}

impl<'a, T: Real> Few<'a, T> {
    /// With weights `[run][column][value]`, of runs of a multiple of [`PANEL`] values.
    pub fn dots(self, weights: &[T]) -> Found<T> {
        assert!(self.length.is_multiple_of(PANEL));
        self.found(weights, 4, |isa, part| T::run(isa, AlongValues(part)))
    }

    /// With weights `[run][value][column]`, of a multiple of [`PANEL`] columns.
    pub fn sums(self, weights: &[T]) -> Found<T> {
        assert!(
            weights
                .len()
                .is_multiple_of(self.runs.len() * self.length * PANEL)
        );
        self.found(weights, 4 * PANEL, |isa, part| T::run(isa, AlongColumns(part)))
    }

    /// Tasks take columns by multiples of `step`.
    fn found(self, weights: &[T], step: usize, run: impl Fn(Isa, Part<'_, T>) + Sync) -> Found<T> {
        let values = self.runs.len() * self.length;
        let columns = weights.len() / values;
        assert!(
            !self.items.is_empty() && columns * values == weights.len(),
            "items have weights for all of their values"
        );
        let tasks = TASKS * rayon::current_num_threads();
        let at_once = columns.div_ceil(tasks).next_multiple_of(step);
        let (isa, count) = (Isa::detect(), self.items.len());
        let mut values = Scratch::take(columns * count);
        let parts = values.par_chunks_mut(at_once * count);
        parts.enumerate().for_each(|(task, out)| {
            let part = Part {
                few: self,
                weights,
                columns,
                first: task * at_once,
                width: out.len() / count,
                out,
            };
            run(isa, part);
        });
        Found {
            values,
            items: count,
            at_once,
        }
    }
}

/// What was found: of every item and column the sum of values times weights. `[task][item][column]`.
pub struct Found<T: Real> {
    values: Scratch<T>,
    items: usize,
    at_once: usize,
}

impl<T: Real> Found<T> {
    /// Puts some columns of every item, finished, to where `to` says that they begin in `out`, and in the gate.
    pub fn put(
        &self,
        columns: Range<usize>,
        to: impl Fn(usize) -> usize,
        finish: Finish<'_, T>,
        out: &mut [T],
    ) {
        for (task, values) in self.values.chunks(self.at_once * self.items).enumerate() {
            let first = task * self.at_once;
            let width = values.len() / self.items;
            let (from, end) = (columns.start.max(first), columns.end.min(first + width));
            if from >= end {
                continue;
            }
            for (item, values) in values.chunks_exact(width).enumerate() {
                let at = to(item) + from - columns.start;
                let out = &mut out[at..][..end - from];
                out.copy_from_slice(&values[from - first..end - first]);
                if let [_, ..] = finish.bias {
                    let bias = &finish.bias[from - columns.start..];
                    out.iter_mut().zip(bias).for_each(|(out, bias)| *out += *bias);
                }
                if finish.relu {
                    out.iter_mut()
                        .for_each(|out| *out = if *out > T::ZERO { *out } else { T::ZERO });
                }
                if let [_, ..] = finish.gate {
                    let gate = finish.gate[at..].iter();
                    out.iter_mut()
                        .zip(gate)
                        .for_each(|(out, gate)| *out = if *gate > T::ZERO { *out } else { T::ZERO });
                }
            }
        }
    }
}

/// Some columns.
struct Part<'a, T> {
    few: Few<'a, T>,
    weights: &'a [T],
    /// Of all.
    columns: usize,
    first: usize,
    /// How many are this task's.
    width: usize,
    /// `[item][column]`
    out: &'a mut [T],
}

impl<T: Real> Part<'_, T> {
    /// Where `M` items' runs begin, from an item on; the last stands in for those that there are not.
    #[inline(always)]
    fn firsts<const M: usize>(&self, item: usize, run: usize) -> [usize; M] {
        let Few { items, runs, .. } = self.few;
        let mut firsts = [0; M];
        for i in 0..M {
            firsts[i] = items[(item + i).min(items.len() - 1)] + runs[run];
        }
        firsts
    }
}

/// Along the values.
struct AlongValues<'a, T>(Part<'a, T>);

impl<T: Real> Work<T> for AlongValues<'_, T> {
    #[inline(always)]
    fn on<S: Simd<T>>(self, simd: S) {
        // As many sums as the registers hold beside what they are made of.
        match S::LANES {
            8 => dots::<T, S, 2, 5>(simd, self.0),
            _ => dots::<T, S, 4, 6>(simd, self.0),
        }
    }
}

/// In blocks of `R` columns and `M` items; what a last block has too many is computed again.
#[inline(always)]
fn dots<T: Real, S: Simd<T>, const R: usize, const M: usize>(simd: S, part: Part<'_, T>) {
    let Few {
        x,
        items,
        runs,
        length,
    } = part.few;
    for column in (0..part.width).step_by(R) {
        for item in (0..items.len()).step_by(M) {
            let mut held = [[simd.zero(); M]; R];
            for run in 0..runs.len() {
                let mut begins = [0; R];
                for r in 0..R {
                    let column = part.first + (column + r).min(part.width - 1);
                    begins[r] = (run * part.columns + column) * length;
                }
                let x = Stretches::of(x, part.firsts::<M>(item, run), length);
                let w = Stretches::of(part.weights, begins, length);
                for n in 0..length / S::LANES {
                    let mut weights = [simd.zero(); R];
                    for r in 0..R {
                        weights[r] = w.vector(simd, r, n);
                    }
                    for i in 0..M {
                        let x = x.vector(simd, i, n);
                        for r in 0..R {
                            held[r][i] = simd.fma(weights[r], x, held[r][i]);
                        }
                    }
                }
            }
            for i in 0..M.min(items.len() - item) {
                for r in 0..R.min(part.width - column) {
                    part.out[(item + i) * part.width + column + r] = simd.sum(held[r][i]);
                }
            }
        }
    }
}

/// Along the columns.
struct AlongColumns<'a, T>(Part<'a, T>);

impl<T: Real> Work<T> for AlongColumns<'_, T> {
    #[inline(always)]
    fn on<S: Simd<T>>(self, simd: S) {
        let mut part = self.0;
        for run in 0..part.few.runs.len() {
            let mut column = 0;
            while column < part.width {
                let at = (run, column);
                column += match (S::LANES, part.width - column) {
                    (16, 64..) => sums::<T, S, 6, 4>(simd, &mut part, at),
                    (16, _) => sums::<T, S, 6, 1>(simd, &mut part, at),
                    (8, _) => sums::<T, S, 5, 2>(simd, &mut part, at),
                    _ => sums::<T, S, 6, 4>(simd, &mut part, at),
                };
            }
        }
    }
}

/// A run's part of `W` vectors of columns, in blocks of `M` items; how many columns they are.
#[inline(always)]
fn sums<T: Real, S: Simd<T>, const M: usize, const W: usize>(
    simd: S,
    part: &mut Part<'_, T>,
    (run, column): (usize, usize),
) -> usize {
    let Few { x, items, length, .. } = part.few;
    let begin = run * length * part.columns + part.first + column;
    let weights = &part.weights[begin..];
    for item in (0..items.len()).step_by(M) {
        let x = Stretches::of(x, part.firsts::<M>(item, run), length);
        let mut held = [[simd.zero(); W]; M];
        for k in 0..length {
            let row = &weights[k * part.columns..][..W * S::LANES];
            if item == 0 && column.is_multiple_of(FETCHED) {
                // Rows lie so far apart that nothing else brings them in time.
                let ahead = row.as_ptr().wrapping_add(AHEAD * part.columns);
                for column in (0..FETCHED).step_by(PANEL) {
                    simd.fetch(ahead.wrapping_add(column));
                }
            }
            let mut w = [simd.zero(); W];
            for v in 0..W {
                w[v] = simd.load(&row[v * S::LANES..]);
            }
            for i in 0..M {
                let x = simd.splat(x.value(i, k));
                for v in 0..W {
                    held[i][v] = simd.fma(x, w[v], held[i][v]);
                }
            }
        }
        let count = M.min(items.len() - item);
        // A loop of a known number, so that the sums need no places in memory.
        for i in 0..M {
            if i == count {
                break;
            }
            let out = &mut part.out[(item + i) * part.width + column..][..W * S::LANES];
            for v in 0..W {
                let out = &mut out[v * S::LANES..];
                let sum = match run {
                    0 => held[i][v],
                    _ => simd.add(simd.load(out), held[i][v]),
                };
                simd.store(sum, out);
            }
        }
    }
    W * S::LANES
}

#[cfg(test)]
mod tests {
    use super::super::small_numbers as numbers;
    use super::*;

    /// One item, fewer than a block has, and more than two have; columns that fill blocks, and some more. A task's part of them,
    /// between others.
    #[test]
    fn every_instruction_set_sums_along_values_and_along_columns() {
        let runs = [3, 60, 11];
        let length = 48;
        for (isa, count, width) in Isa::known().into_iter().flat_map(|isa| {
            let sizes = [1, 4, 13].into_iter();
            sizes.flat_map(move |count| [16, 80, 144, 5].map(|width| (isa, count, width)))
        }) {
            let items: Vec<usize> = (0..count).map(|item| 17 * item).collect();
            let (first, columns) = (16, width + 32);
            let (x, weights) = (numbers(400), numbers(3 * length * columns));
            let few = Few {
                x: &x,
                items: &items,
                runs: &runs,
                length,
            };
            let check = |along_values: bool| {
                let mut out = vec![f32::NAN; count * width];
                let part = Part {
                    few,
                    weights: &weights,
                    columns,
                    first,
                    width,
                    out: &mut out,
                };
                match along_values {
                    true => f32::run(isa, AlongValues(part)),
                    false => f32::run(isa, AlongColumns(part)),
                }
                for (at, out) in out.into_iter().enumerate() {
                    let (item, column) = (at / width, first + at % width);
                    let mut sum = 0.0;
                    for (run, k) in (0..3).flat_map(|run| (0..length).map(move |k| (run, k))) {
                        let weight = match along_values {
                            true => (run * columns + column) * length + k,
                            false => (run * length + k) * columns + column,
                        };
                        sum += x[items[item] + runs[run] + k] * weights[weight];
                    }
                    assert_eq!(out, sum, "{isa:?}: {along_values}, item {item}, column {column}");
                }
            };
            check(true);
            if width.is_multiple_of(PANEL) {
                check(false);
            }
        }
    }

    /// Tasks of every width, and blocks of every kind.
    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (x, items) = ([0.1f32, 0.7, -1.3, 0.3, 2.1].repeat(60), [0, 17, 40]);
        let weights = [0.3f32, -0.9, 1.7].repeat(48 * 144 / 3);
        let few = Few {
            x: &x,
            items: &items,
            runs: &[5],
            length: 48,
        };
        let found = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let all = |found: Found<f32>| {
                    let mut out = vec![f32::NAN; 3 * 144];
                    found.put(0..144, |item| item * 144, Finish::NOTHING, &mut out);
                    out
                };
                (all(few.dots(&weights)), all(few.sums(&weights)))
            })
        };
        let one = found(1);
        assert!(one.0.iter().chain(&one.1).all(|sum| sum.is_finite()));
        assert!([2, 5, 16].into_iter().all(|threads| found(threads) == one));
    }

    /// Seven columns from the third on, of tasks of five, of two items.
    #[test]
    fn columns_are_put_where_they_belong_and_finished() {
        let mut values = Scratch::take(24);
        for (at, value) in values.iter_mut().enumerate() {
            let (task, at, width) = if at < 20 {
                (at / 10, at % 10, 5)
            } else {
                (2, at - 20, 2)
            };
            let (item, column) = (at / width, 5 * task + at % width);
            *value = (100 * item + column) as f64;
        }
        let found = Found {
            values,
            items: 2,
            at_once: 5,
        };
        let gate: Vec<f64> = (0..40).map(|at| if at == 13 { 0.0 } else { 1.0 }).collect();
        let bias: Vec<f64> = (0..7).map(|n| if n == 1 { -500.0 } else { 0.5 }).collect();
        let finish = Finish {
            bias: &bias,
            relu: true,
            gate: &gate,
        };
        let mut out = vec![-1.0; 40];
        found.put(3..10, |item| 10 + 20 * item, finish, &mut out);
        for (at, out) in out.into_iter().enumerate() {
            let (item, n) = (at.wrapping_sub(10) / 20, at.wrapping_sub(10) % 20);
            let expected = match n {
                _ if at < 10 || n >= 7 => -1.0,
                1 => 0.0,
                _ if at == 13 => 0.0,
                _ => (100 * item + 3 + n) as f64 + 0.5,
            };
            assert_eq!(out, expected, "{at}");
        }
    }
}
