//! The gradient by the weights: sums over all tiles, place by place.
//!
//! Where the windows are few, a task of its own transforms some tiles and adds their products up while they are in its
//! cache; the tasks' sums are added in the end. Where they are many, tasks share the tiles and each sums its part of the
//! windows. Which it is, and how many tiles go together, depends on the shapes alone, as the order of sums does.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::super::shape::{Beside, Conv};
use super::super::simd::Isa;
use super::super::sweep::{Inputs, Sweep, Swept};
use super::super::{HALF, PANEL, Real, Scratch};
use super::SHARE;
use super::cut::Cut;
use super::form::Form;
use super::tiles::{GatheredWindows, Gradient, Input, Layout, Spread};

/// Windows (inputs times outputs) whose sums a second-level cache holds beside the tiles of a task.
const FEW_SUMS: usize = 64 * 64;
/// Tasks that sum a part of the tiles each.
const PARTS: usize = 16;
/// Values of the transformed tiles that tasks share at a time: what a shared cache holds.
const AT_ONCE: usize = 1 << 22;
/// Values of a share's transformed tiles and gradients: half a core's second-level cache.
const HELD: usize = 131_072;

/// The loss's gradient by the weights, `[tap][input][output]`.
pub fn weight_gradient<T: Real, F: Form<I, O>, const I: usize, const O: usize>(
    _: F,
    conv: &Conv,
    x: Beside<&[T]>,
    dy: &[T],
    dw: &mut [T],
) {
    // Few channels make small shares, and what every share costs by itself then counts.
    let fitting = HELD / (I * I * (conv.inputs + conv.outputs)) / SHARE * SHARE;
    let share = fitting.clamp(SHARE, 4 * SHARE);
    let cut = Cut::of(conv, O);
    let at_once = (AT_ONCE / (I * I * (conv.inputs + conv.outputs)))
        .clamp(256, 1024)
        .next_multiple_of(share);
    let (of_x, of_dy) = (Layout::of(share, conv.inputs), Layout::of(share, conv.outputs));
    let shares = [of_x, of_dy].map(|of| (0..at_once / share).map(|n| n * I * I * of.place).collect());
    let summing = Summing {
        form: PhantomData::<F>,
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
    };
    let sums = if conv.inputs * conv.outputs <= FEW_SUMS {
        summing.apart()
    } else {
        summing.together()
    };
    summing.finish(&sums, dw);
}

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

impl<T: Real, F: Form<I, O>, const I: usize, const O: usize> Summing<'_, T, F, I, O> {
    /// Values of a share of transformed inputs, and of transformed gradients.
    fn sizes(&self) -> (usize, usize) {
        (I * I * self.of_x.place, I * I * self.of_dy.place)
    }

    /// Values of all sums, `[place][input][output]`.
    fn size(&self) -> usize {
        I * I * self.inputs * self.outputs
    }

    /// Every task its own tiles and sums.
    fn apart(&self) -> Scratch<T> {
        let shares = self.cut.tiles().div_ceil(self.share);
        let part = shares.div_ceil(PARTS);
        let mut sums: Vec<Scratch<T>> = (0..shares.div_ceil(part))
            .into_par_iter()
            .map(|n| {
                let mut sums = Scratch::take(self.size());
                let (x, dy) = self.sizes();
                let (mut tiles, mut gradients) = (Scratch::take(x), Scratch::take(dy));
                for share in n * part..shares.min((n + 1) * part) {
                    let range = share * self.share..self.cut.tiles().min((share + 1) * self.share);
                    self.spread(range.clone(), &mut tiles, &mut gradients);
                    for (place, sums) in sums.chunks_mut(self.inputs * self.outputs).enumerate() {
                        let pixels = self.place(place, &tiles, &gradients, range.len());
                        for (half, sums) in sums.chunks_mut(HALF * self.outputs).enumerate() {
                            pixels.sum(half, share > n * part, sums);
                        }
                    }
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
        all
    }

    /// All tasks the same tiles, as many as the shared cache holds; each its own places.
    fn together(&self) -> Scratch<T> {
        let at_once = self.shares[0].len() * self.share;
        let (x, dy) = self.sizes();
        let mut sums = Scratch::take(self.size());
        for first in (0..self.cut.tiles()).step_by(at_once) {
            let count = at_once.min(self.cut.tiles() - first);
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
            sums.par_chunks_mut(self.inputs * self.outputs)
                .enumerate()
                .for_each(|(place, sums)| {
                    let pixels = self.place(place, &tiles, &gradients, count);
                    sums.par_chunks_mut(HALF * self.outputs)
                        .enumerate()
                        .for_each(|(half, sums)| pixels.sum(half, first > 0, sums));
                });
        }
        sums
    }

    /// The weights' gradient from the sums.
    fn finish(&self, sums: &[T], dw: &mut [T]) {
        let (window, half) = (self.inputs * self.outputs, HALF * self.outputs);
        let mut taps: Vec<_> = dw.chunks_mut(window).map(|tap| tap.chunks_mut(half)).collect();
        let rows: Vec<[&mut [T]; 9]> = (0..self.inputs / HALF)
            .map(|_| std::array::from_fn(|tap| taps[tap].next().expect("every tap has as many rows")))
            .collect();
        rows.into_par_iter().enumerate().for_each(|(n, taps)| {
            let gathered = GatheredWindows {
                form: self.form,
                sums: &sums[n * half..],
                place: window,
                taps,
            };
            T::run(self.isa, gathered);
        });
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

    fn place<'a>(&'a self, place: usize, tiles: &'a [T], gradients: &'a [T], count: usize) -> Place<'a, T> {
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
