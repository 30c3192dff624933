//! Products of many small matrices, one for each place of transformed tiles.

use super::blocks::{Columns, in_blocks, weights};
use super::simd::{Simd, Work};
use super::{HALF, PANEL, ROWS, Real};

/// Items that are multiplied come by as many: blocks of twelve and of eight make any number of them but one.
const STEP: usize = ROWS - HALF;

/// How many items are multiplied where there are `count`.
pub fn multiplied(count: usize) -> usize {
    count.next_multiple_of(STEP).max(HALF)
}

/// `out[p][i] = sum over k of x[i][k] * columns[p][k]` of items in panels, `[panel of 16 channels][item][channel]`, place by place:
/// each has inputs, weights and sums of its own. With vectors of two pieces an item is two, side by side, and a panel has 8 channels
/// of both, in turns.
pub struct Multiply<'a, T> {
    /// The items, from the first place on.
    pub x: &'a [T],
    /// From place to place of `x`, and from panel to panel.
    pub x_steps: (usize, usize),
    /// How many places.
    pub places: usize,
    /// How many items, as [`multiplied`] counts them.
    pub items: usize,
    /// Channels of an item, a multiple of [`HALF`]; what the last panel has beyond them is not looked at.
    pub inputs: usize,
    /// What they are multiplied by, from the first place on.
    pub columns: Columns<'a, T>,
    /// From place to place of the columns.
    pub columns_step: usize,
    /// The sums, from the first of the columns' panels on; what the last panel has beyond the columns is anything.
    pub out: &'a mut [T],
    /// From place to place of `out`, and from panel to panel.
    pub out_steps: (usize, usize),
}

impl<T: Real> Work<T> for Multiply<'_, T> {
    #[inline(always)]
    fn on<S: Simd<T>>(self, simd: S) {
        let (columns, panels) = (self.columns.filled * S::PIECES, self.columns.panels());
        assert_eq!(self.items, multiplied(self.items), "blocks make these items");
        for place in 0..self.places {
            let mut here: [&[[T; PANEL]]; 2] = [&[]; 2];
            for (here, panel) in here.iter_mut().zip(panels) {
                *here = &panel[place * self.columns_step..][..self.inputs];
            }
            let mut item = 0;
            while item < self.items {
                let x = &self.x[place * self.x_steps.0 + item * PANEL..];
                let out = &mut self.out[place * self.out_steps.0 + item * PANEL..];
                let left = self.items - item;
                // Sums of one panel leave half of these registers free.
                if S::WIDTH == PANEL && columns <= PANEL && left >= 2 * ROWS && left != 2 * ROWS + STEP {
                    let (x, out) = ((x, self.x_steps.1), (out, self.out_steps.1));
                    multiply::<T, S, { 2 * ROWS }, 1>(simd, x, &here, 0, out);
                    item += 2 * ROWS;
                    continue;
                }
                let rows = if left == HALF || left == 2 * HALF {
                    HALF
                } else {
                    ROWS
                };
                in_blocks!(S, rows, columns, |row, panel| multiply(
                    simd,
                    (&x[row * PANEL..], self.x_steps.1),
                    &here,
                    panel,
                    (&mut out[row * PANEL..], self.out_steps.1)
                ));
                item += rows;
            }
        }
    }
}

#[inline(always)]
fn multiply<T: Real, S: Simd<T>, const M: usize, const W: usize>(
    simd: S,
    (x, step): (&[T], usize),
    panels: &[&[[T; PANEL]]; 2],
    panel: usize,
    (out, stride): (&mut [T], usize),
) {
    let mut held = [[simd.zero(); W]; M];
    let inputs = panels[0].len();
    // Of a known number, the compiler writes them out. Where registers are few, it then keeps a sum in memory.
    let is_known = S::WIDTH == PANEL;
    let in_panel = PANEL / S::PIECES;
    for from in (0..inputs).step_by(if is_known { HALF } else { PANEL }) {
        let count = if is_known { HALF } else { PANEL.min(inputs - from) };
        let rows: &[[T; PANEL]] = x[from / in_panel * step..].as_chunks().0;
        let rows: &[[T; PANEL]; M] = rows.first_chunk().expect("a panel holds every item");
        let mut part: [&[[T; PANEL]]; 2] = [&[]; 2];
        for (part, panel) in part.iter_mut().zip(panels) {
            *part = &panel[from..][..count];
        }
        let first = from % in_panel;
        for k in 0..count {
            let w: [S::Vector; W] = weights(simd, &part, panel, k);
            for i in 0..M {
                let x = simd.splat_each(&rows[i], first + k);
                for v in 0..W {
                    held[i][v] = simd.fma(x, w[v], held[i][v]);
                }
            }
        }
    }
    let in_panel = PANEL / S::WIDTH;
    for (p, vectors) in (0..W).step_by(in_panel).enumerate() {
        let rows = out[(panel + p) * stride..].as_chunks_mut().0;
        let rows: &mut [[T; PANEL]; M] = rows.first_chunk_mut().expect("a panel holds every item");
        for i in 0..M {
            for v in 0..in_panel.min(W) {
                simd.whole()
                    .store(held[i][vectors + v], &mut rows[i][v * S::WIDTH..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::Isa;
    use super::super::small_numbers as numbers;
    use super::*;

    /// As many items as blocks of all sizes make; 24 channels, of which a panel is not full, at two places.
    #[test]
    fn every_instruction_set_multiplies_panels() {
        for items in [1, 8, 9, 16, 27, 36].map(multiplied) {
            check_panels(items);
        }
        assert_eq!([1, 8, 9, 13].map(multiplied), [8, 8, 12, 16]);
    }

    fn check_panels(items: usize) {
        let (places, inputs) = (2, PANEL + HALF);
        let (panel_x, panel_out) = ((items + 1) * PANEL, (items + 3) * PANEL);
        let (place_x, place_out) = (2 * panel_x + PANEL, 2 * panel_out + 2 * PANEL);
        let (x, weights) = (numbers(places * place_x), numbers(2 * places * inputs * PANEL));
        let (first, second) = weights.as_chunks::<PANEL>().0.split_at(places * inputs);
        for (isa, filled) in Isa::known()
            .into_iter()
            .flat_map(|isa| [32, 24, 16, 8].map(|filled| (isa, filled)))
        {
            let second = (filled > PANEL).then_some(second);
            let columns = Columns {
                first,
                second,
                filled,
            };
            let mut out = vec![1.0; places * place_out];
            let multiply = Multiply {
                x: &x,
                x_steps: (place_x, panel_x),
                places,
                items,
                inputs,
                columns,
                columns_step: inputs,
                out: &mut out,
                out_steps: (place_out, panel_out),
            };
            f32::run(isa, multiply);
            for (at, out) in out.into_iter().enumerate() {
                let (place, at) = (at / place_out, at % place_out);
                let (p, item, n) = (at / panel_out, at % panel_out / PANEL, at % PANEL);
                let panels = [Some(first), second, None];
                if p * PANEL + n >= filled && p < filled.div_ceil(PANEL) {
                    continue; // anything
                }
                let panel = panels[p].filter(|_| item < items);
                let sum = |panel: &[[f32; PANEL]]| {
                    let value =
                        |k: usize| x[place * place_x + k / PANEL * panel_x + item * PANEL + k % PANEL];
                    (0..inputs).map(|k| value(k) * panel[place * inputs + k][n]).sum()
                };
                assert_eq!(
                    out,
                    panel.map_or(1.0, sum),
                    "{isa:?}: place {place}, panel {p}, item {item}, column {n}"
                );
            }
        }
    }

    /// 36 pairs of items of 24 channels, side by side: eight sums of each, or sixteen.
    #[test]
    fn items_side_by_side_are_multiplied_by_the_same_weights() {
        let isa = Isa::detect();
        if !f32::has_twins(isa) {
            eprintln!("skipped: {} has no vectors of two pieces", isa.name());
            return;
        }
        let (items, inputs) = (3 * ROWS, PANEL + HALF);
        let (x, weights) = (numbers(3 * items * PANEL), numbers(inputs * PANEL));
        for filled in [8, 16] {
            let mut out = vec![1.0; filled * 2 * items];
            let multiply = Multiply {
                x: &x,
                x_steps: (0, items * PANEL),
                places: 1,
                items,
                inputs,
                columns: Columns {
                    first: weights.as_chunks().0,
                    second: None,
                    filled,
                },
                columns_step: inputs,
                out: &mut out,
                out_steps: (0, items * PANEL),
            };
            f32::run_twins(isa, 0, multiply);
            for (at, out) in out.into_iter().enumerate() {
                let (item, side) = (at / PANEL % items, at % 2);
                let column = at / PANEL / items * 8 + at % PANEL / 2;
                let value = |k: usize| x[(k / 8 * items + item) * PANEL + k % 8 * 2 + side];
                let sum: f32 = (0..inputs).map(|k| value(k) * weights[k * PANEL + column]).sum();
                assert_eq!(out, sum, "item {item}, column {column} of {filled}, side {side}");
            }
        }
    }
}
