//! The product of gathered inputs with weights, in blocks that fit the caches.

use rayon::prelude::*;

use super::blocks::{Columns, Gather, Runs};
use super::shape::{Finish, Placing};
use super::simd::Isa;
use super::{PANEL, ROWS, Real, Scratch};

/// Inputs of a block of packed weights: two panels of f32 then take 256 KB, a part of the second-level cache.
const BLOCK: usize = 2048;
/// Pixels that share a block of weights while it is in the cache.
const SHARED: usize = 20 * ROWS;

/// A weight matrix in panels of [`PANEL`] columns: `[panel][input][column]`, the last panel filled up with 0.
pub struct Packed<T: Real> {
    values: Scratch<T>,
    inputs: usize,
    columns: usize,
}

/// Packs the matrix whose element in row `k`, column `n` is `at(k, n)`.
pub fn pack<T: Real>(inputs: usize, columns: usize, at: impl Fn(usize, usize) -> T + Sync) -> Packed<T> {
    pack_panels(inputs, columns, |first, rows| {
        let filled = PANEL.min(columns - first);
        for (k, row) in rows.iter_mut().enumerate() {
            for (n, value) in row[..filled].iter_mut().enumerate() {
                *value = at(k, first + n);
            }
            row[filled..].fill(T::ZERO);
        }
    })
}

/// Packs a matrix panel by panel: `fill` gets the panel's first column and its rows, of which it has to write all that are read.
pub fn pack_panels<T: Real>(
    inputs: usize,
    columns: usize,
    fill: impl Fn(usize, &mut [[T; PANEL]]) + Sync,
) -> Packed<T> {
    let mut values = Scratch::take(columns.div_ceil(PANEL) * inputs * PANEL);
    values
        .par_chunks_mut(inputs * PANEL)
        .enumerate()
        .for_each(|(panel, values)| fill(panel * PANEL, values.as_chunks_mut().0));
    Packed {
        values,
        inputs,
        columns,
    }
}

impl<T: Real> Packed<T> {
    /// How many columns there are.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Inputs `from .. to` of panel `first` and, where there is one, of the next.
    pub fn panels(&self, first: usize, from: usize, to: usize) -> Columns<'_, T> {
        let rows = self.values.as_chunks::<PANEL>().0;
        let panel = |p: usize| &rows[p * self.inputs + from..p * self.inputs + to];
        let filled = (self.columns - first * PANEL).min(2 * PANEL);
        Columns {
            first: panel(first),
            second: (filled > PANEL).then(|| panel(first + 1)),
            filled,
        }
    }
}

/// `out = finish(gathered inputs times weights)` of all items.
///
/// * `placing`: where the inputs of an item begin in `x`, and its outputs in `out`
/// * `unit` consecutive items own `unit * values` consecutive outputs; work is split between such units only
pub fn product<T: Real>(
    x: &[T],
    runs: Runs,
    weights: &Packed<T>,
    finish: Finish<'_, T>,
    out: &mut [T],
    (unit, values): (usize, usize),
    placing: Placing<impl Fn(usize) -> (usize, usize) + Sync>,
) {
    let isa = Isa::detect();
    let items = out.len() / values;
    let chunk = chunk_of(items, unit);
    let blocks = blocks_of(runs);
    out.par_chunks_mut(chunk * values)
        .enumerate()
        .for_each(|(index, out)| {
            let (first, base) = (index * chunk, index * chunk * values);
            let count = out.len() / values;
            for panel in (0..weights.columns.div_ceil(PANEL)).step_by(2) {
                let column = panel * PANEL;
                for (b, &(shift, from, part)) in blocks.iter().enumerate() {
                    let is_last = b + 1 == blocks.len();
                    let gate = if is_last { finish.gate } else { &[] };
                    let gather = Gather {
                        x,
                        runs: part,
                        columns: weights.panels(panel, from, from + part.count * part.length),
                        items: first..first + count,
                        placing: Placing {
                            width: placing.width,
                            steps: placing.steps,
                            at: |row| {
                                let (at, to) = (placing.at)(row);
                                // The first row may have begun in another chunk's outputs.
                                (at + shift, (to + column).wrapping_sub(base))
                            },
                        },
                        further: b > 0,
                        finish: Finish {
                            bias: finish.bias.get(column..).unwrap_or_default(),
                            relu: is_last && finish.relu,
                            gate: gate.get(base..).unwrap_or_default(),
                        },
                        out: &mut *out,
                    };
                    T::run(isa, gather);
                }
            }
        });
}

/// Items a task takes: about [`SHARED`], in whole units, and as equal a share for every thread as that allows.
fn chunk_of(items: usize, unit: usize) -> usize {
    let threads = rayon::current_num_threads();
    let tasks = items.div_ceil(SHARED).next_multiple_of(threads);
    let step = if unit == 1 { ROWS } else { unit };
    items.div_ceil(tasks).next_multiple_of(step)
}

/// The runs in parts of at most [`BLOCK`] inputs: how far each lies from the first input, and its first input.
fn blocks_of(runs: Runs) -> Vec<(usize, usize, Runs)> {
    if runs.count * runs.length <= BLOCK {
        return vec![(0, 0, runs)];
    }
    let part = runs.length.div_ceil(runs.length.div_ceil(BLOCK));
    let mut blocks = Vec::new();
    for run in 0..runs.count {
        for from in (0..runs.length).step_by(part) {
            let length = part.min(runs.length - from);
            blocks.push((
                runs.at(run) + from,
                run * runs.length + from,
                Runs::new(1, length, 0),
            ));
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than a block, so that sums wait in the output between blocks; 19 pixels and 21 columns fill no block.
    #[test]
    fn a_product_of_any_size_is_the_sum_of_its_terms() {
        let (items, inputs, columns) = (19, 3 * BLOCK + 5, 21);
        let x: Vec<f64> = (0..items * inputs).map(|i| (i % 17) as f64 - 8.0).collect();
        let w: Vec<f64> = (0..inputs * columns).map(|i| (i % 13) as f64 - 6.0).collect();
        let packed = pack(inputs, columns, |k, n| w[k * columns + n]);
        let mut out = vec![0.0; items * columns];
        let runs = Runs::new(1, inputs, 0);
        // Rows of seven, over several of the kernel's blocks.
        let placing = Placing {
            width: 7,
            steps: (inputs, columns),
            at: |row| (row * 7 * inputs, row * 7 * columns),
        };
        let finish = Finish::NOTHING;
        product(&x, runs, &packed, finish, &mut out, (1, columns), placing);
        for item in 0..items {
            for column in 0..columns {
                let sum: f64 = (0..inputs)
                    .map(|k| x[item * inputs + k] * w[k * columns + column])
                    .sum();
                assert_eq!(out[item * columns + column], sum, "item {item}, column {column}");
            }
        }
    }
}
