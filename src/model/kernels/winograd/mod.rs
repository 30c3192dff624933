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

mod choice;
mod cut;
mod form;
mod tiles;
mod weights;

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::blocks::Columns;
use super::multiply::{Multiply, multiplied};
use super::product::{Packed, pack_panels};
use super::shape::{Beside, Conv, Finish};
use super::simd::{Isa, Work};
use super::{HALF, PANEL, ROWS, Real, Scratch};
pub use choice::Choice;
use cut::Cut;
use form::{Form, Lined, One};
pub use form::{Four, Two};
pub use tiles::Windows;
use tiles::{Gathered, Input, Layout, Spread, SpreadWindows};
pub use weights::weight_gradient;

/// Values of the transformed tiles of one task: 384 KB of f32, so that a core's second-level cache holds them beside what comes in
/// and goes out. Measured: a third more or less makes no difference, 1 MB costs 3 %.
const CACHED: usize = 98_304;
/// Tiles that lie together where tasks share them: whole blocks of the products' kernel.
const SHARE: usize = 4 * ROWS;
/// Values of transformed weights that are multiplied before more are transformed: 8 MB of f32, so that a shared cache holds them with
/// the tiles and the products.
const TRANSFORMED: usize = 1 << 21;

/// The windows as they are, packed tap by tap.
pub fn pack_windows<T: Real>(windows: Windows<'_, T>) -> Packed<T> {
    let (rows, columns) = windows.size();
    packed(One, windows, 0..columns, rows)
}

/// The transformed windows `G g G'`, packed place by place, `room(rows)` rows for each.
pub fn transform_weights<T: Real, F: Lined<I>, const I: usize>(
    form: F,
    windows: Windows<'_, T>,
) -> Packed<T> {
    let (rows, columns) = windows.size();
    packed(form, windows, 0..columns, room(rows))
}

/// Room for the rows of a place. All places of a window are written together; places that were powers of two apart would share so
/// few lines of a cache that they pushed each other out.
fn room(rows: usize) -> usize {
    rows + 1
}

/// Some columns, which begin with a panel; `place` rows from place to place.
fn packed<T: Real, F: Lined<I>, const I: usize>(
    _: F,
    windows: Windows<'_, T>,
    columns: Range<usize>,
    place: usize,
) -> Packed<T> {
    let isa = Isa::detect();
    pack_panels(I * I * place, columns.len(), |column, out| {
        T::run(
            isa,
            SpreadWindows {
                form: PhantomData::<F>,
                windows,
                column: columns.start + column,
                out,
                place,
            },
        );
    })
}

/// A convolution's weights.
#[derive(Clone, Copy)]
pub enum Weights<'a, T: Real> {
    /// Packed as the form reads them.
    Kept(&'a Packed<T>),
    /// As they are, to be packed for these images alone.
    Once(Windows<'a, T>),
}

impl<T: Real> Weights<'_, T> {
    /// Does `work` with all of them packed, by `pack` where they are not yet.
    pub fn with(self, pack: impl FnOnce(Windows<'_, T>) -> Packed<T>, work: impl FnOnce(&Packed<T>)) {
        match self {
            Weights::Kept(packed) => work(packed),
            Weights::Once(windows) => work(&pack(windows)),
        }
    }
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
    form: F,
    conv: &Conv,
    x: Beside<&[T]>,
    weights: Weights<'_, T>,
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
        form,
        isa,
        cut,
        conv,
        x,
        finish,
    };
    let (inputs, outputs) = (cut.stacked * conv.inputs, cut.stacked * conv.outputs);
    let threads = rayon::current_num_threads();
    // Every task of its own reads all weights. Where they are more than the tiles, tasks share the tiles instead.
    if conv.inputs * conv.outputs * threads >= 2 * cut.tiles() * (inputs + outputs) {
        return work.together(weights, out);
    }
    // What a task's caches hold, and an equal share for every thread.
    let at_once = (CACHED / (I * I * (inputs + outputs))).clamp(48, 192);
    let tasks = cut.tiles().div_ceil(at_once).next_multiple_of(threads);
    let rows = cut.rows().div_ceil(tasks);
    weights.with(
        |windows| transform_weights(form, windows),
        |weights| {
            let pieces = pieces(&cut, rows, out).into_par_iter();
            pieces.for_each(|piece| work.alone(weights, piece));
        },
    );
}

struct Convolution<'a, T: Real, F, const I: usize, const O: usize> {
    form: F,
    isa: Isa,
    cut: Cut,
    conv: &'a Conv,
    x: Beside<&'a [T]>,
    finish: Finish<'a, T>,
}

impl<T: Real, F: Form<I, O>, const I: usize, const O: usize> Convolution<'_, T, F, I, O> {
    /// Some rows of tiles from beginning to end.
    fn alone(&self, weights: &Packed<T>, piece: Piece<'_, T>) {
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
                let columns = self.columns(weights, 2 * pair, place..place + places);
                self.multiply(columns, places, (x, from), held, (out, to));
            }
        }
        self.gather(piece, &products, to);
    }

    /// All tiles, transformed; then the products, place by place and panel by panel; then all outputs.
    fn together(&self, weights: Weights<'_, T>, out: Beside<&mut [T]>) {
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
        let mut multiply_all = |weights: &Packed<T>, first: usize| {
            let products = products.par_chunks_mut(to.place).enumerate();
            products.for_each(|(place, products)| {
                let products = products[first / PANEL * to.panel..].par_chunks_mut(2 * to.panel);
                let pairs = products.take(weights.columns().div_ceil(2 * PANEL)).enumerate();
                pairs.for_each(|(pair, out)| {
                    let columns = self.columns(weights, 2 * pair, place..place + 1);
                    for (n, spread) in spread.chunks(share).enumerate() {
                        let x = &spread[place * from.place..];
                        let items = if n + 1 == shares { last } else { SHARE };
                        let out = &mut out[n * SHARE * PANEL..];
                        self.multiply(columns, 1, (x, from), items, (out, to));
                    }
                });
            });
        };
        match weights {
            Weights::Kept(weights) => multiply_all(weights, 0),
            Weights::Once(windows) => {
                let all = self.conv.outputs;
                let fitting = TRANSFORMED / (I * I * self.conv.inputs);
                let enough = PANEL * rayon::current_num_threads();
                let some = fitting.max(enough).next_multiple_of(2 * PANEL);
                for first in (0..all).step_by(some) {
                    let columns = first..all.min(first + some);
                    multiply_all(
                        &packed(self.form, windows, columns, room(self.conv.inputs)),
                        first,
                    );
                }
            }
        }
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

    /// The pair of panels from `panel` on, of some places.
    fn columns<'w>(&self, weights: &'w Packed<T>, panel: usize, places: Range<usize>) -> Columns<'w, T> {
        let place = room(self.conv.inputs);
        weights.panels(panel, places.start * place, places.end * place)
    }

    /// The products of some places' tiles with a pair of panels.
    fn multiply(
        &self,
        columns: Columns<'_, T>,
        places: usize,
        (x, from): (&[T], Layout),
        items: usize,
        (out, to): (&mut [T], Layout),
    ) {
        let multiply = Multiply {
            x,
            x_steps: (from.place, from.panel),
            places,
            items,
            inputs: self.conv.inputs,
            columns,
            columns_step: room(self.conv.inputs),
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
