//! The innermost loops: blocks of sums that stay in registers.
//!
//! Sums are held as rows (pixels, tiles, inputs) times vectors of columns (output channels); how many of each depends on
//! the registers of the instruction set, and never the order in which one sum's terms are added.

#![expect(
    clippy::needless_range_loop,
    reason = "the indices are those of the matrices in the formulas; iterators would hide them"
)]

use std::ops::Range;

use super::shape::{Finish, Placing};
use super::simd::{Simd, Stretches, Work};
use super::{HALF, PANEL, ROWS, Real};

/// Where the inputs of one output pixel lie, from the first of them: `count` runs of `length` values, in groups.
#[derive(Debug, Clone, Copy)]
pub struct Runs {
    /// How many.
    pub count: usize,
    /// Values in each.
    pub length: usize,
    /// From the start of one to the start of the next, in a group.
    pub stride: usize,
    /// How many are a group.
    pub group: usize,
    /// From the start of a group to the start of the next.
    pub group_stride: usize,
}

impl Runs {
    /// A single group.
    pub fn new(count: usize, length: usize, stride: usize) -> Runs {
        Runs {
            count,
            length,
            stride,
            group: count,
            group_stride: 0,
        }
    }

    /// Where a run begins.
    #[inline(always)]
    pub fn at(&self, run: usize) -> usize {
        // To divide takes longer than some runs do.
        match run < self.group {
            true => run * self.stride,
            false => run / self.group * self.group_stride + run % self.group * self.stride,
        }
    }
}

/// One panel of packed weights, or two: `[k][channel]` each.
#[derive(Clone, Copy)]
pub struct Columns<'a, T> {
    /// The first panel.
    pub first: &'a [[T; PANEL]],
    /// The second, where there is one.
    pub second: Option<&'a [[T; PANEL]]>,
    /// How many columns there are: what the panels have beyond them says nothing.
    pub filled: usize,
}

impl<'a, T> Columns<'a, T> {
    /// Both panels; the first stands in for a second that is not there.
    #[inline(always)]
    pub fn panels(self) -> [&'a [[T; PANEL]]; 2] {
        [self.first, self.second.unwrap_or(self.first)]
    }
}

/// Calls `$block::<T, S, rows, vectors>($simd, .., $row, $panel)` for every block of `$rows` rows, 12 or 8, and `$columns` columns,
/// those of every piece, that the vectors of `S` make: as large a block as the registers hold.
macro_rules! in_blocks {
    ($S:ty, $rows:expr, $columns:expr, |$row:ident, $panel:ident| $block:ident($($argument:expr),*)) => {
        match (<$S>::WIDTH, $rows, $columns) {
            (16, 12, 17..) => { let ($row, $panel) = (0, 0); $block::<T, S, 12, 2>($($argument),*) }
            (16, _, 17..) => { let ($row, $panel) = (0, 0); $block::<T, S, 8, 2>($($argument),*) }
            (8 | 16, 12, ..=8) | (16, 12, _) => { let ($row, $panel) = (0, 0); $block::<T, S, 12, 1>($($argument),*) }
            (8 | 16, _, ..=8) | (16, ..) => { let ($row, $panel) = (0, 0); $block::<T, S, 8, 1>($($argument),*) }
            (8, 12, columns) => for $panel in 0..columns.div_ceil(16) {
                for $row in [0, 6] { $block::<T, S, 6, 2>($($argument),*) }
            },
            (8, _, columns) => for $panel in 0..columns.div_ceil(16) {
                for $row in [0, 4] { $block::<T, S, 4, 2>($($argument),*) }
            },
            (_, 12, columns) => for $panel in 0..columns.div_ceil(16) {
                for $row in [0, 6] { $block::<T, S, 6, 4>($($argument),*) }
            },
            (_, _, columns) => for $panel in 0..columns.div_ceil(16) {
                for $row in [0, 4] { $block::<T, S, 4, 4>($($argument),*) }
            },
        }
    };
}
pub(super) use in_blocks;

/// The `W` vectors of row `k` of the weights, from panel `panel` on.
#[inline(always)]
pub fn weights<T: Real, S: Simd<T>, const W: usize>(
    simd: S,
    panels: &[&[[T; PANEL]]; 2],
    panel: usize,
    k: usize,
) -> [S::Vector; W] {
    let mut vectors = [simd.zero(); W];
    for (v, vector) in vectors.iter_mut().enumerate() {
        let column = v * S::LANES;
        *vector = simd.load_each(&panels[panel + column / PANEL][k][column % PANEL..]);
    }
    vectors
}

/// Inputs of an item that are summed in one go, up to which blocks are of items of one row: 64 KB of f32 of two panels' weights. With
/// more, the weights are waited for, and larger blocks, of items of any row, need them less often.
const LIGHT: usize = 512;

/// `out[..] = finished sum over k of x[.. + k] * columns[p][k]` of some items, with `k` over the runs.
pub struct Gather<'a, T, P> {
    /// The inputs.
    pub x: &'a [T],
    /// Where they go on from an item's first.
    pub runs: Runs,
    /// What they are multiplied by.
    pub columns: Columns<'a, T>,
    /// Which items.
    pub items: Range<usize>,
    /// Where an item's inputs begin in `x`, and what is made of them in `out` and in the gate.
    pub placing: Placing<P>,
    /// Whether the sums are added to what is there.
    pub further: bool,
    /// What is done to them; its bias is that of the columns.
    pub finish: Finish<'a, T>,
    /// The sums.
    pub out: &'a mut [T],
}

impl<T: Real, P: Fn(usize) -> (usize, usize)> Work<T> for Gather<'_, T, P> {
    #[inline(always)]
    fn on<S: Simd<T>>(mut self, simd: S) {
        let (filled, panels) = (self.columns.filled, self.columns.panels());
        let (width, steps) = (self.placing.width, self.placing.steps);
        // To divide for every item would take longer than some items do.
        let (mut row, mut column) = (self.items.start / width, self.items.start % width);
        let mut begin = (self.placing.at)(row);
        let mut left = self.items.len();
        let is_light = self.runs.count * self.runs.length <= LIGHT;
        while left > 0 {
            if column == width {
                (row, column) = (row + 1, 0);
                begin = (self.placing.at)(row);
            }
            if is_light && left.min(width - column) >= HALF {
                let from = begin.0 + column * steps.0;
                let to = begin.1.wrapping_add(column * steps.1);
                in_blocks!(S, HALF, filled, |row, panel| line(
                    simd,
                    &mut self,
                    &panels,
                    (from + row * steps.0, to + row * steps.1),
                    panel
                ));
                (column, left) = (column + HALF, left - HALF);
                continue;
            }
            let valid = ROWS.min(left);
            let mut placed = [(0, 0); ROWS];
            for placed in &mut placed[..valid] {
                if column == width {
                    (row, column) = (row + 1, 0);
                    begin = (self.placing.at)(row);
                }
                *placed = (begin.0 + column * steps.0, begin.1.wrapping_add(column * steps.1));
                column += 1;
            }
            left -= valid;
            // What the last block has too many stands where its last item does, and is not written.
            let last = placed[valid - 1];
            placed[valid..].fill(last);
            let placed = (&placed, valid);
            in_blocks!(S, ROWS, filled, |row, panel| gather(
                simd,
                &mut self,
                &panels,
                placed,
                (row, panel)
            ));
        }
    }
}

impl<T: Real, P> Gather<'_, T, P> {
    /// The first column of a vector of sums from a panel on, how many of its columns there are, and their bias.
    #[inline(always)]
    fn vector<S: Simd<T>>(&self, simd: S, panel: usize, v: usize) -> (usize, usize, S::Vector) {
        let column = panel * PANEL + v * S::LANES;
        let count = self.columns.filled.saturating_sub(column).min(S::LANES);
        let bias = match self.finish.bias {
            [_, ..] if count > 0 => simd.load_some(&self.finish.bias[column..], count),
            _ => simd.zero(),
        };
        (column, count, bias)
    }
}

/// Adds the products of `M` items that begin at `firsts`.
#[inline(always)]
fn add_products<T: Real, S: Simd<T>, const M: usize, const W: usize>(
    simd: S,
    (x, runs): (&[T], Runs),
    firsts: [usize; M],
    (panels, panel): (&[&[[T; PANEL]]; 2], usize),
    held: &mut [[S::Vector; W]; M],
) {
    for run in 0..runs.count {
        let at = runs.at(run);
        let mut firsts = firsts;
        for i in 0..M {
            firsts[i] += at;
        }
        let rows = Stretches::of(x, firsts, runs.length);
        let mut part: [&[[T; PANEL]]; 2] = [&[]; 2];
        for (part, panel) in part.iter_mut().zip(panels) {
            *part = &panel[run * runs.length..][..runs.length];
        }
        for k in 0..runs.length {
            let w: [S::Vector; W] = weights(simd, &part, panel, k);
            for i in 0..M {
                let x = simd.splat(rows.value(i, k));
                for v in 0..W {
                    held[i][v] = simd.fma(x, w[v], held[i][v]);
                }
            }
        }
    }
}

/// Finishes the first `$count` of a vector of sums and puts them where they belong. Not a function: as one it is a tenth slower.
macro_rules! finish {
    ($simd:ident, $work:ident, $sum:expr, $bias:ident, $relu:ident, $gate:ident, $at:ident, $count:ident) => {
        let out = &mut $work.out[$at..];
        let mut value = match $work.further {
            true => $simd.add($simd.load_some(out, $count), $sum),
            false => $simd.add($bias, $sum),
        };
        if $relu {
            value = $simd.not_below_zero(value);
        }
        if let [_, ..] = $gate {
            value = $simd.gated(value, $simd.load_some(&$gate[$at..], $count));
        }
        $simd.store_some(value, out, $count);
    };
}

/// Items that lie in one row, from `from` to `to`.
#[inline(always)]
fn line<T: Real, S: Simd<T>, const M: usize, const W: usize>(
    simd: S,
    work: &mut Gather<'_, T, impl Fn(usize) -> (usize, usize)>,
    panels: &[&[[T; PANEL]]; 2],
    (from, to): (usize, usize),
    panel: usize,
) {
    let steps = work.placing.steps;
    let mut firsts = [from; M];
    for i in 0..M {
        firsts[i] += i * steps.0;
    }
    let Finish { relu, gate, .. } = work.finish;
    if let [_, ..] = gate {
        // Nothing else brings it in time: a block reads it all at once, from as many places as there are items.
        for i in 0..M {
            for v in 0..W {
                let at = to + i * steps.1 + panel * PANEL + v * S::LANES;
                simd.fetch(gate.as_ptr().wrapping_add(at));
            }
        }
    }
    let mut held = [[simd.zero(); W]; M];
    add_products(simd, (work.x, work.runs), firsts, (panels, panel), &mut held);
    for v in 0..W {
        let (column, count, bias) = work.vector(simd, panel, v);
        if count == 0 {
            continue;
        }
        for i in 0..M {
            let at = to + i * steps.1 + column;
            finish!(simd, work, held[i][v], bias, relu, gate, at, count);
        }
    }
}

/// Items wherever they lie. Their sums wait in memory: they are counted only here, and what is counted does not stay in registers.
#[inline(always)]
fn gather<T: Real, S: Simd<T>, const M: usize, const W: usize>(
    simd: S,
    work: &mut Gather<'_, T, impl Fn(usize) -> (usize, usize)>,
    panels: &[&[[T; PANEL]]; 2],
    (placed, valid): (&[(usize, usize); ROWS], usize),
    (row, panel): (usize, usize),
) {
    let mut firsts = [0; M];
    for i in 0..M {
        firsts[i] = placed[row + i].0;
    }
    let mut held = [[simd.zero(); W]; M];
    add_products(simd, (work.x, work.runs), firsts, (panels, panel), &mut held);
    let mut sums = [[[T::ZERO; PANEL]; 2]; M];
    for i in 0..M {
        for v in 0..W {
            let column = v * S::LANES;
            simd.store(held[i][v], &mut sums[i][column / PANEL][column % PANEL..]);
        }
    }
    let Finish { relu, gate, .. } = work.finish;
    for v in 0..W {
        let (column, count, bias) = work.vector(simd, panel, v);
        if count == 0 {
            continue;
        }
        let items = placed[row..valid.max(row)].iter().zip(&sums);
        for ((_, to), sums) in items {
            let sum = simd.load(&sums[v * S::LANES / PANEL][v * S::LANES % PANEL..]);
            let at = to + column;
            finish!(simd, work, sum, bias, relu, gate, at, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::Isa;
    use super::super::small_numbers as numbers;
    use super::*;

    /// Seventeen items: in rows too short for blocks, in rows of one block and some, and in one; columns that fill two panels, one,
    /// and neither.
    #[test]
    fn every_instruction_set_gathers_the_sum_of_products() {
        let (x, weights, gate) = (numbers(800), numbers(2 * 10 * PANEL), numbers(20 * 40));
        let (runs, bias) = (Runs::new(2, 5, 40), numbers(2 * PANEL));
        let (first, second) = weights.as_chunks::<PANEL>().0.split_at(10);
        for (isa, filled, further, relu, width) in Isa::known().into_iter().flat_map(|isa| {
            let kinds = [(false, false), (true, false), (false, true), (true, true)];
            let sizes = [32, 21, 16, 5]
                .into_iter()
                .flat_map(|filled| [5, 10, 20].map(|width| (filled, width)));
            kinds.into_iter().flat_map(move |(further, relu)| {
                sizes
                    .clone()
                    .map(move |(filled, width)| (isa, filled, further, relu, width))
            })
        }) {
            let place = |i: usize| (200 * (i / width) + 19 * (i % width), 40 * i);
            let placing = Placing {
                width,
                steps: (19, 40),
                at: |row| place(width * row),
            };
            let columns = Columns {
                first,
                second: (filled > PANEL).then_some(second),
                filled,
            };
            let mut out = vec![1.0; 20 * 40];
            let gate = if relu { &gate[..] } else { &[] };
            let gather = Gather {
                x: &x,
                runs,
                columns,
                items: 3..20,
                placing,
                further,
                finish: Finish {
                    bias: &bias,
                    relu,
                    gate,
                },
                out: &mut out,
            };
            f32::run(isa, gather);
            for (at, out) in out.into_iter().enumerate() {
                let (i, column) = (at / 40, at % 40);
                let expected = if i >= 3 && column < filled {
                    let panel = [first, second][column / PANEL];
                    let terms =
                        (0..10).map(|k| x[place(i).0 + k / 5 * 40 + k % 5] * panel[k][column % PANEL]);
                    let sum = terms.sum::<f32>() + if further { 1.0 } else { bias[column] };
                    match relu {
                        true if gate[at] <= 0.0 => 0.0,
                        true => sum.max(0.0),
                        false => sum,
                    }
                } else {
                    1.0
                };
                assert_eq!(
                    out, expected,
                    "{isa:?}: {filled} columns, item {i}, column {column}"
                );
            }
        }
    }
}
