//! 3x3 convolutions by Winograd's F(4x4, 3x3) and F(2x2, 3x3): fewer products of small matrices.
//!
//! The image is cut into tiles of 4x4 (or 2x2) output pixels, each of which needs 6x6 (4x4) input pixels. With d the
//! input tile, g the window and Y the output tile of one channel pair,
//!
//! ```text
//! Y = A' [ (G g G') .* (B' d B) ] A        dg = G' [ (B' d B) .* (A dY A') ] G
//! ```
//!
//! where `.*` is taken place by place. Summed over channels (for dg: over tiles), each of the 36 (16) places is a matrix
//! product of its own. The input's gradient is the first formula with the window turned round and inputs and outputs
//! exchanged. All are exact; in f32 they lose about one decimal digit against the direct sum. The larger tiles save more
//! products, the smaller ones have less than half the transformed weights, which is what small images of many channels
//! wait for. Windows are packed for the sum as it is defined in the same way, untransformed.
//!
//! Images of 8 channels fill half of the widest vectors. There a tile and the one below it are taken as one: their channels lie side by
//! side, in turns, and every number of a window is multiplied by both.
//!
//! Source: Lavin & Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, with its matrices.

mod cut;
mod form;
mod tiles;
mod weights;

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::multiply::{Multiply, multiplied};
use super::product::{Packed, pack_panels};
use super::shape::{Beside, Conv, Finish};
use super::simd::{Isa, Work};
use super::{HALF, PANEL, ROWS, Real, Scratch};
use cut::Cut;
use form::{Form, Lined};
pub use form::{Four, One, Two};
pub use tiles::Windows;
use tiles::{Gathered, Input, Layout, Spread, SpreadWindows};
pub use weights::weight_gradient;

/// An image of fewer tiles of 4x4 pixels takes those of 2x2, unless its windows are few.
const MANY: usize = 16;
/// Windows (inputs times outputs) whose larger transforms a second-level cache holds.
const FEW_WINDOWS: usize = 128 * 128;
/// Products that take as long as it takes to write a transformed weight that no cache holds, and to read it: measured on two cores
/// that do 520 GFLOP/s and share 30 GB/s.
const PRODUCTS_OF_A_WEIGHT: usize = 90;
/// Tiles in all from which a weight gradient is worth transforming: it has to write and read sums for every place.
const WORTH_SUMMING: usize = 32;
/// Values of the transformed tiles of one task: 384 KB of f32, so that a core's second-level cache holds them beside what comes in
/// and goes out. Measured: a third more or less makes no difference, 1 MB costs 3 %.
const CACHED: usize = 98_304;
/// Tiles that lie together where tasks share them: whole blocks of the products' kernel.
const SHARE: usize = 4 * ROWS;

/// Which form a convolution takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// F(4x4, 3x3)
    Four,
    /// F(2x2, 3x3)
    Two,
}

impl Conv {
    /// The form for this convolution, if it can be transformed, with weights that are kept. The number of images has no say, so
    /// that an image gives the same numbers whichever others are beside it; with weights that are learning, it has.
    pub(super) fn choice(&self) -> Option<Choice> {
        let tiles = self.height.div_ceil(4) * self.width.div_ceil(4);
        let fits = self.kernel == 3 && self.inputs.is_multiple_of(8) && self.outputs.is_multiple_of(8);
        let large = tiles >= MANY || tiles > 1 && self.inputs * self.outputs <= FEW_WINDOWS;
        fits.then_some(if large { Choice::Four } else { Choice::Two })
    }

    /// The form for weights that are transformed for these images alone, as they are while they learn: what is brought to memory and
    /// back may then cost more than the products that it saves.
    pub(super) fn choice_for_once(&self) -> Option<Choice> {
        let choice = self.choice()?;
        if self.inputs * self.outputs <= FEW_WINDOWS {
            return Some(choice);
        }
        // For every place of a window: the products of whole blocks of the kernel, and the weight's own way.
        let cost = |places: usize, edge: usize| {
            let items = self.batch * self.height.div_ceil(edge) * self.width.div_ceil(edge);
            places * (PRODUCTS_OF_A_WEIGHT + items.next_multiple_of(ROWS))
        };
        let all = [
            (9, 1, None),
            (16, 2, Some(Choice::Two)),
            (36, 4, Some(Choice::Four)),
        ];
        let least = all
            .into_iter()
            .min_by_key(|&(places, edge, _)| cost(places, edge));
        least.and_then(|(_, _, choice)| choice)
    }

    /// The form for its weights' gradient. Here the images are summed over anyway.
    pub(super) fn choice_for_weights(&self) -> Option<Choice> {
        let edge = |choice| if choice == Choice::Four { 4 } else { 2 };
        self.choice()
            .filter(|choice| Cut::of(self, edge(*choice)).tiles() >= WORTH_SUMMING)
    }
}

/// The transformed windows `G g G'`, packed place by place.
pub fn transform_weights<T: Real, F: Lined<I>, const I: usize>(_: F, windows: Windows<'_, T>) -> Packed<T> {
    let (rows, columns) = windows.size();
    let isa = Isa::detect();
    pack_panels(I * I * rows, columns, |column, out| {
        T::run(
            isa,
            SpreadWindows {
                form: PhantomData::<F>,
                windows,
                column,
                out,
            },
        );
    })
}

/// One task's tiles and what it makes of them.
struct Piece<'a, T> {
    /// Rows of tiles.
    rows: Range<usize>,
    /// The outputs of these rows.
    out: Beside<&'a mut [T]>,
}

impl<T> Piece<'_, T> {
    fn tiles(&self, cut: &Cut) -> Range<usize> {
        self.rows.start * cut.across..self.rows.end * cut.across
    }
}

/// The outputs in pieces of `rows` rows of tiles.
fn pieces<'a, T>(cut: &Cut, rows: usize, out: Beside<&'a mut [T]>) -> Vec<Piece<'a, T>> {
    let (mut pieces, channels, mut left) = (Vec::new(), out.channels, out.images);
    for first in (0..cut.rows()).step_by(rows) {
        let last = cut.rows().min(first + rows);
        let pixels = cut.pixels_before(last) - cut.pixels_before(first);
        let mut lengths = channels.map(|channels| pixels * channels).into_iter();
        let images = left.each_mut().map(|left| {
            let length = lengths.next().expect("as many lengths as images");
            left.split_off_mut(..length)
                .expect("the images are as long as their tiles")
        });
        pieces.push(Piece {
            rows: first..last,
            out: Beside { images, channels },
        });
    }
    pieces
}

/// The convolution of images with transformed weights, finished.
///
/// * `x`, `out`: each of multiples of 8 channels
pub fn convolve<T: Real, F: Form<I, O>, const I: usize, const O: usize>(
    _: F,
    conv: &Conv,
    x: Beside<&[T]>,
    weights: &Packed<T>,
    finish: Finish<'_, T>,
    out: Beside<&mut [T]>,
) {
    let isa = Isa::detect();
    // Eight outputs leave half of the widest vectors empty; those of two tiles fill them.
    let by_two = conv.outputs == HALF && T::has_twins(isa);
    let cut = if by_two {
        Cut::by_two(conv, O)
    } else {
        Cut::of(conv, O)
    };
    let work = Convolution::<T, F, I, O> {
        form: PhantomData,
        isa,
        cut,
        conv,
        x,
        weights,
        finish,
    };
    let (inputs, outputs) = (cut.stacked * conv.inputs, cut.stacked * conv.outputs);
    let threads = rayon::current_num_threads();
    // Every task of its own reads all weights. Where they are more than the tiles, tasks share the tiles instead.
    if conv.inputs * conv.outputs * threads >= 2 * cut.tiles() * (inputs + outputs) {
        return work.together(out);
    }
    // What a task's caches hold, and an equal share for every thread.
    let at_once = (CACHED / (I * I * (inputs + outputs))).clamp(48, 192);
    let tasks = cut.tiles().div_ceil(at_once).next_multiple_of(threads);
    let rows = cut.rows().div_ceil(tasks);
    pieces(&cut, rows, out)
        .into_par_iter()
        .for_each(|piece| work.alone(piece));
}

struct Convolution<'a, T: Real, F, const I: usize, const O: usize> {
    form: PhantomData<F>,
    isa: Isa,
    cut: Cut,
    conv: &'a Conv,
    x: Beside<&'a [T]>,
    weights: &'a Packed<T>,
    finish: Finish<'a, T>,
}

impl<T: Real, F: Form<I, O>, const I: usize, const O: usize> Convolution<'_, T, F, I, O> {
    /// Some rows of tiles from beginning to end.
    fn alone(&self, piece: Piece<'_, T>) {
        let tiles = piece.tiles(&self.cut);
        // Whole blocks of the products' kernel; what the last one has too many is computed and not looked at.
        let held = multiplied(tiles.len());
        let (from, to) = (
            Layout::of(held, self.cut.stacked * self.conv.inputs),
            Layout::of(held, self.cut.stacked * self.conv.outputs),
        );
        let mut spread = Scratch::take(I * I * from.place);
        self.spread(tiles, &mut spread, from);
        let mut products = Scratch::take(I * I * to.place);
        let (places, values) = match self.conv.outputs <= 2 * PANEL {
            true => (I * I, I * I * to.place),
            // A place after the other, so that its tiles stay in the first-level cache for all panels.
            false => (1, 2 * to.panel),
        };
        for (n, products) in products.chunks_mut(places * to.place).enumerate() {
            let place = n * places;
            for (pair, out) in products.chunks_mut(values).enumerate() {
                let x = &spread[place * from.place..];
                self.multiply(place..place + places, 2 * pair, (x, from), held, (out, to));
            }
        }
        self.gather(piece, &products, to);
    }

    /// All tiles, transformed; then the products, place by place and panel by panel; then all outputs.
    fn together(&self, out: Beside<&mut [T]>) {
        let count = self.cut.tiles();
        let shares = count.div_ceil(SHARE);
        let last = multiplied(count - (shares - 1) * SHARE);
        let held = (shares - 1) * SHARE + last;
        let (from, to) = (
            Layout::of(SHARE, self.cut.stacked * self.conv.inputs),
            Layout::of(held, self.cut.stacked * self.conv.outputs),
        );
        let share = I * I * from.place;
        let mut spread = Scratch::take(shares * share);
        spread.par_chunks_mut(share).enumerate().for_each(|(n, spread)| {
            self.spread(n * SHARE..count.min((n + 1) * SHARE), spread, from);
        });
        let mut products = Scratch::take(I * I * to.place);
        products
            .par_chunks_mut(to.place)
            .enumerate()
            .for_each(|(place, products)| {
                products
                    .par_chunks_mut(2 * to.panel)
                    .enumerate()
                    .for_each(|(pair, out)| {
                        for (n, spread) in spread.chunks(share).enumerate() {
                            let x = &spread[place * from.place..];
                            let items = if n + 1 == shares { last } else { SHARE };
                            let out = &mut out[n * SHARE * PANEL..];
                            self.multiply(place..place + 1, 2 * pair, (x, from), items, (out, to));
                        }
                    });
            });
        let rows = self.cut.rows().div_ceil(4 * rayon::current_num_threads());
        pieces(&self.cut, rows, out).into_par_iter().for_each(|piece| {
            let first = piece.tiles(&self.cut).start * PANEL;
            self.gather(piece, &products[first..], to);
        });
    }

    fn spread(&self, tiles: Range<usize>, out: &mut [T], layout: Layout) {
        for (from, channels, images) in self.x.each() {
            let spread = Spread {
                lines: PhantomData::<Input<F, O>>,
                cut: self.cut,
                images,
                channels,
                from,
                tiles: tiles.clone(),
                out,
                layout,
            };
            self.run(from | channels, self.cut.apart(channels), spread);
        }
    }

    /// Does `work` with vectors that divide `channels`; or with those of two tiles, `apart` values from each other.
    fn run(&self, channels: usize, apart: usize, work: impl Work<T>) {
        match self.cut.stacked {
            1 => T::run(self.isa.for_channels(channels), work),
            _ => T::run_twins(self.isa, apart, work),
        }
    }

    /// The products of some places' tiles with the pair of panels from `panel` on.
    fn multiply(
        &self,
        places: Range<usize>,
        panel: usize,
        (x, from): (&[T], Layout),
        items: usize,
        (out, to): (&mut [T], Layout),
    ) {
        let inputs = self.conv.inputs;
        let columns = self
            .weights
            .panels(panel, places.start * inputs, places.end * inputs);
        let filled = (self.conv.outputs - panel * PANEL).min(2 * PANEL);
        let multiply = Multiply {
            x,
            x_steps: (from.place, from.panel),
            places: places.len(),
            items,
            inputs,
            columns,
            filled,
            out,
            out_steps: (to.place, to.panel),
        };
        // The weights are the same for both tiles.
        self.run(PANEL, 0, multiply);
    }

    fn gather(&self, piece: Piece<'_, T>, products: &[T], layout: Layout) {
        let tiles = piece.tiles(&self.cut);
        for (from, channels, out) in piece.out.each() {
            let gathered = Gathered {
                form: PhantomData::<F>,
                cut: self.cut,
                products,
                layout,
                finish: self.finish,
                channels,
                from,
                tiles: tiles.clone(),
                out,
                base: self.cut.pixels_before(piece.rows.start) * channels,
            };
            self.run(from | channels, self.cut.apart(channels), gathered);
        }
    }
}

#[cfg(test)]
mod tests;
