//! The gradient by the weights: sums over all tiles, place by place.
//!
//! Where the windows are few, a task of its own transforms some tiles and adds their products up while they are in its cache; the
//! tasks' sums are added in the end. (Of images beside one another each is taken by itself then.) Where they are many, tasks share the
//! tiles, and each makes some rows of the gradient from beginning to end: their sums do not leave the caches, if one sweep over the
//! tiles makes them. Which it is, and how many tiles go together, depends on the shapes alone, as the order of sums does.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::super::shape::{Beside, Conv};
use super::super::simd::Isa;
use super::super::sweep::{Inputs, Sweep, Swept};
use super::super::{HALF, PANEL, Real, Scratch};
use super::cut::Cut;
use super::form::Form;
use super::tiles::{GatheredWindows, Gradient, Input, Layout, Spread};

/// Tasks that sum a part of the tiles each.
const PARTS: usize = 16;
/// Shares that there are at least, so that they are transformed by as many tasks.
const LEAST_SHARES: usize = 4;
/// Values of the transformed tiles that tasks share at a time: what a shared cache holds.
const AT_ONCE: usize = 1 << 22;
/// Tiles that lie together, or a multiple of as many; a quarter of them where they are few. A last share of fewer is swept over by
/// itself, so it is a number that usual ones are multiples of.
const SHARE: usize = 64;
/// Values of a share's transformed tiles and gradients: half a core's second-level cache.
const HELD: usize = 131_072;
/// Values of the sums of one task's rows at most: 1 MB of f32, a core's second-level cache. Measured at 512 channels: half as many take
/// some 5 % longer, up to four times as many as long.
const SUMMED: usize = 262_144;

/// The loss's gradient by the weights, `[tap][input][output]`.
pub fn weight_gradient<T: Real, F: Form<I, O>, const I: usize, const O: usize>(
    form: F,
    conv: &Conv,
    x: Beside<&[T]>,
    dy: &[T],
    dw: &mut [T],
) {
    let mut taps = dw.chunks_mut(conv.inputs * conv.outputs);
    let mut taps: Taps<'_, T> = std::array::from_fn(|_| taps.next().expect("nine taps are as long"));
    if !conv.are_few_sums(x.channels) {
        return Summing::of(form, conv, x, dy).together(taps);
    }
    for (_, inputs, images) in x.each() {
        let part = Conv { inputs, ..*conv };
        let of_part = taps.each_mut().map(|tap| {
            let rows = tap.split_off_mut(..inputs * conv.outputs);
            rows.expect("every tap has rows for all inputs")
        });
        Summing::of(form, &part, Beside::one(images, inputs), dy).apart(of_part);
    }
}

/// Rows of the gradient that a task makes: not more sums than a second-level cache holds, and enough tasks for all threads. How rows
/// are divided changes none of their sums.
fn rows_of_a_task(places: usize, inputs: usize, outputs: usize) -> usize {
    let tasks = 4 * rayon::current_num_threads();
    let rows = (SUMMED / (places * outputs)).min(inputs / tasks);
    rows.max(1).next_multiple_of(HALF)
}

/// The gradient, or some rows of it, by tap.
type Taps<'a, T> = [&'a mut [T]; 9];

struct Summing<'a, T, F, const I: usize, const O: usize> {
    form: PhantomData<F>,
    isa: Isa,
    cut: Cut,
    inputs: usize,
    outputs: usize,
    x: Beside<&'a [T]>,
    dy: &'a [T],
    /// Tiles that lie together.
    share: usize,
    /// Where shares begin that are transformed together, of inputs and of gradients.
    shares: [Vec<usize>; 2],
    of_x: Layout,
    of_dy: Layout,
}

impl<'a, T: Real, F: Form<I, O>, const I: usize, const O: usize> Summing<'a, T, F, I, O> {
    fn of(_: F, conv: &Conv, x: Beside<&'a [T]>, dy: &'a [T]) -> Self {
        let (cut, channels) = (Cut::of(conv, O), conv.inputs + conv.outputs);
        // Few channels make small shares, and what every share costs by itself then counts.
        let fitting = HELD / (I * I * channels) / SHARE * SHARE;
        let share = fitting
            .clamp(SHARE, 4 * SHARE)
            .min(cut.tiles().div_ceil(LEAST_SHARES));
        let at_once = (AT_ONCE / (I * I * channels))
            .clamp(256, 1024)
            .next_multiple_of(share);
        let (of_x, of_dy) = (Layout::of(share, conv.inputs), Layout::of(share, conv.outputs));
        let shares = [of_x, of_dy].map(|of| (0..at_once / share).map(|n| n * I * I * of.place).collect());
        Summing {
            form: PhantomData,
            isa: Isa::detect(),
            cut,
            inputs: conv.inputs,
            outputs: conv.outputs,
            x,
            dy,
            share,
            shares,
            of_x,
            of_dy,
        }
    }

    /// Values of a share of transformed inputs, and of transformed gradients.
    fn sizes(&self) -> (usize, usize) {
        (I * I * self.of_x.place, I * I * self.of_dy.place)
    }

    /// Values of the sums of some rows, `[place][row][output]`, and from place to place of them. All places of a window are read
    /// together: they must not be powers of two apart.
    fn sums(&self, rows: usize) -> (usize, usize) {
        let place = rows * self.outputs + PANEL;
        (I * I * place, place)
    }

    /// Every task its own tiles and sums.
    fn apart(&self, taps: Taps<'_, T>) {
        let shares = self.cut.tiles().div_ceil(self.share);
        let part = shares.div_ceil(PARTS);
        let (size, place) = self.sums(self.inputs);
        let mut sums: Vec<Scratch<T>> = (0..shares.div_ceil(part))
            .into_par_iter()
            .map(|n| {
                let mut sums = Scratch::take(size);
                let (x, dy) = self.sizes();
                let (mut tiles, mut gradients) = (Scratch::take(x), Scratch::take(dy));
                for share in n * part..shares.min((n + 1) * part) {
                    let range = share * self.share..self.cut.tiles().min((share + 1) * self.share);
                    self.spread(range.clone(), &mut tiles, &mut gradients);
                    let swept = (&tiles[..], &gradients[..], range.len());
                    self.sweep(swept, 0..self.inputs, share > n * part, (&mut sums, place));
                }
                sums
            })
            .collect();
        let mut all = sums.remove(0);
        all.par_chunks_mut(self.outputs)
            .enumerate()
            .for_each(|(row, all)| {
                for part in &sums {
                    let part = &part[row * self.outputs..];
                    all.iter_mut().zip(part).for_each(|(all, part)| *all += *part);
                }
            });
        let rows = self.rows(taps, HALF).into_par_iter().enumerate();
        rows.for_each(|(n, taps)| self.gather(&all[n * HALF * self.outputs..], place, taps));
    }

    /// All tasks the same tiles, as many as the shared cache holds; each its own rows of the gradient.
    fn together(&self, taps: Taps<'_, T>) {
        let at_once = self.shares[0].len() * self.share;
        let (x, dy) = self.sizes();
        let rows = rows_of_a_task(I * I, self.inputs, self.outputs);
        let (size, place) = self.sums(rows);
        let (all, mut taps) = (self.cut.tiles(), self.rows(taps, rows));
        // Sums wait for further tiles, or are a task's own.
        let mut waiting = Scratch::take(if all > at_once { size * taps.len() } else { 0 });
        for first in (0..all).step_by(at_once) {
            let count = at_once.min(all - first);
            let shares = count.div_ceil(self.share);
            let (mut tiles, mut gradients) = (Scratch::take(shares * x), Scratch::take(shares * dy));
            tiles
                .par_chunks_mut(x)
                .zip(gradients.par_chunks_mut(dy))
                .enumerate()
                .for_each(|(n, (tiles, gradients))| {
                    let range = first + n * self.share..first + count.min((n + 1) * self.share);
                    self.spread(range, tiles, gradients);
                });
            let mut waiting: Vec<_> = waiting.chunks_mut(size).map(Some).collect();
            waiting.resize_with(taps.len(), || None);
            let tasks = taps.par_iter_mut().zip(waiting).enumerate();
            tasks.for_each(|(n, (taps, waiting))| {
                let mut own = None;
                let sums = waiting.unwrap_or_else(|| own.insert(Scratch::take(size)));
                let here = n * rows..self.inputs.min((n + 1) * rows);
                self.sweep((&tiles, &gradients, count), here, first > 0, (sums, place));
                if first + count == all {
                    self.gather(sums, place, taps.each_mut().map(|tap| &mut **tap));
                }
            });
        }
    }

    /// The gradient by `rows` rows.
    fn rows<'b>(&self, taps: Taps<'b, T>, rows: usize) -> Vec<Taps<'b, T>> {
        let mut taps = taps.map(|tap| tap.chunks_mut(rows * self.outputs));
        (0..self.inputs.div_ceil(rows))
            .map(|_| {
                taps.each_mut()
                    .map(|tap| tap.next().expect("every tap has as many rows"))
            })
            .collect()
    }

    /// Some rows of the gradient from their sums.
    fn gather(&self, sums: &[T], place: usize, taps: Taps<'_, T>) {
        let gathered = GatheredWindows {
            form: self.form,
            sums,
            place,
            taps,
        };
        T::run(self.isa, gathered);
    }

    /// The sums of some rows over transformed tiles and gradients, so many; `further` ones are added to those that there are.
    fn sweep(
        &self,
        (tiles, gradients, count): (&[T], &[T], usize),
        rows: Range<usize>,
        further: bool,
        (sums, step): (&mut [T], usize),
    ) {
        let halves = rows.start / HALF..rows.end / HALF;
        for (place, sums) in sums.chunks_mut(step).enumerate() {
            let pixels = self.place(place, tiles, gradients, count);
            for (half, sums) in halves.clone().zip(sums.chunks_mut(HALF * self.outputs)) {
                pixels.sum(half, further, sums);
            }
        }
    }

    fn spread(&self, range: Range<usize>, tiles: &mut [T], gradients: &mut [T]) {
        for (from, channels, images) in self.x.each() {
            let of_x = Spread {
                lines: PhantomData::<Input<F, O>>,
                cut: self.cut,
                images,
                channels,
                from,
                tiles: range.clone(),
                out: tiles,
                layout: self.of_x,
            };
            T::run(self.isa.for_channels(from | channels), of_x);
        }
        let of_dy = Spread {
            lines: PhantomData::<Gradient<F>>,
            cut: self.cut,
            images: self.dy,
            channels: self.outputs,
            from: 0,
            tiles: range,
            out: gradients,
            layout: self.of_dy,
        };
        T::run(self.isa.for_channels(self.outputs), of_dy);
    }

    fn place<'b>(&'b self, place: usize, tiles: &'b [T], gradients: &'b [T], count: usize) -> Place<'b, T> {
        Place {
            isa: self.isa,
            x: Part {
                values: &tiles[place * self.of_x.place..],
                shares: &self.shares[0],
                panel: self.of_x.panel,
            },
            dy: Part {
                values: &gradients[place * self.of_dy.place..],
                shares: &self.shares[1],
                panel: self.of_dy.panel,
            },
            share: self.share,
            count,
            outputs: self.outputs,
        }
    }
}

/// One place of transformed tiles that lie in shares.
struct Part<'a, T> {
    /// From the place's first on.
    values: &'a [T],
    /// Where it begins in each share, from the first share's on.
    shares: &'a [usize],
    /// From panel to panel.
    panel: usize,
}

impl<'a, T> Part<'a, T> {
    /// From a channel on.
    fn channel(&self, channel: usize) -> &'a [T] {
        &self.values[channel / PANEL * self.panel + channel % PANEL..]
    }
}

/// One place of inputs and gradients.
struct Place<'a, T> {
    isa: Isa,
    x: Part<'a, T>,
    dy: Part<'a, T>,
    /// Tiles of a share.
    share: usize,
    /// Tiles.
    count: usize,
    outputs: usize,
}

impl<T: Real> Place<'_, T> {
    /// The sums, over all tiles, of the `half`th 8 inputs times every output; `further` ones are added to `out`.
    fn sum(&self, half: usize, further: bool, out: &mut [T]) {
        let full = self.count / self.share;
        // The last share may hold fewer.
        let parts = [
            (0..full, self.share),
            (full..self.count.div_ceil(self.share), self.count % self.share),
        ];
        for column in (0..self.outputs).step_by(2 * PANEL) {
            let filled = (self.outputs - column).min(2 * PANEL);
            let mut further = further;
            for (shares, width) in parts.iter().filter(|(shares, _)| !shares.is_empty()) {
                let swept = Swept {
                    sweep: Sweep {
                        x: self.x.channel(half * HALF),
                        x_rows: &self.x.shares[shares.clone()],
                        x_step: PANEL,
                        inputs: Inputs::Eight,
                        y: self.dy.channel(column),
                        y_rows: &self.dy.shares[shares.clone()],
                        y_step: PANEL,
                        y_stride: self.dy.panel,
                        width: *width,
                    },
                    further,
                    rows: 0..HALF,
                    filled,
                    sums: &mut out[column..],
                    stride: self.outputs,
                };
                T::run(self.isa, swept);
                further = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wide as networks get, and for more threads than there are rows.
    #[test]
    fn every_task_makes_some_rows() {
        for (threads, places, inputs, outputs, expected) in [
            (2, 36, 512, 512, 16),
            (2, 36, 64, 128, 8),
            (16, 36, 512, 512, 8),
            (2, 36, 8192, 8192, 8),
            (64, 16, 72, 64, 8),
        ] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let rows = pool.unwrap().install(|| rows_of_a_task(places, inputs, outputs));
            assert_eq!(rows, expected, "{threads} threads, {inputs} to {outputs}");
        }
    }
}
