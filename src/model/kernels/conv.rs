//! Same convolutions, 1x1 and 3x3, with bias and ReLU, and their exact gradients.

use rayon::prelude::*;

use super::few::{Few, Found, are_few};
use super::product::Packed;
use super::shape::{Finish, Placing};
use super::winograd::{self, Choice, Four, Two, Weights, Windows};
use super::{
    Beside, Conv, PANEL, Real, Rows, Runs, Scratch, concat, in_vectors, outer, pack, product, split,
};

/// Weights as a kernel reads them.
pub struct Prepared<T: Real> {
    /// The form that they are transformed for; none where they are in panels, for the sum as it is defined.
    choice: Option<Choice>,
    packed: Packed<T>,
}

impl Conv {
    /// The weights as [`Conv::forward`] takes them, to be kept for about as many images of this size at a time.
    pub fn prepare<T: Real>(&self, weights: &[T]) -> Prepared<T> {
        let windows = self.windows(weights, false);
        let choice = self.choice();
        let packed = match choice {
            Some(Choice::Four) => winograd::transform_weights(Four, windows),
            Some(Choice::Two) => winograd::transform_weights(Two, windows),
            None => self.in_panels(windows),
        };
        Prepared { choice, packed }
    }

    /// Weights as they are; turned round, they are those of a convolution from this one's outputs to its inputs.
    fn windows<'a, T>(&self, weights: &'a [T], turned: bool) -> Windows<'a, T> {
        Windows {
            weights,
            inputs: self.inputs,
            outputs: self.outputs,
            turned,
        }
    }

    /// Weights for the sum as it is defined.
    fn in_panels<T: Real>(&self, windows: Windows<'_, T>) -> Packed<T> {
        let Windows {
            weights,
            inputs,
            outputs,
            turned,
        } = windows;
        match (self.kernel, turned) {
            (3, _) => winograd::pack_windows(windows),
            (_, true) => pack(outputs, inputs, |k, n| weights[n * outputs + k]),
            (_, false) => pack(inputs, outputs, |k, n| weights[k * outputs + n]),
        }
    }

    /// The convolution of the images with weights that [`Conv::prepare`] has laid out for images of this size, plus
    /// `bias`, through ReLU if asked for.
    pub fn forward<T: Real>(
        &self,
        x: Beside<&[T]>,
        weights: &Prepared<T>,
        bias: &[T],
        relu: bool,
        out: &mut [T],
    ) {
        let (choice, weights) = (weights.choice, Weights::Kept(&weights.packed));
        let (gate, out) = (&[][..], Beside::one(out, self.outputs));
        self.finished(x, (choice, weights), Finish { bias, relu, gate }, out);
    }

    /// The same with weights that are used once.
    pub fn forward_once<T: Real>(
        &self,
        x: Beside<&[T]>,
        weights: &[T],
        bias: &[T],
        relu: bool,
        out: &mut [T],
    ) {
        let gate = &[][..];
        let finish = Finish { bias, relu, gate };
        if !self.are_few() {
            let weights = Weights::Once(self.windows(weights, false));
            let out = Beside::one(out, self.outputs);
            return self.finished(x, (self.choice_for_once(), weights), finish, out);
        }
        if x.channels[1] > 0 {
            let joined = joined(x);
            return self.forward_once(Beside::one(&joined, self.inputs), weights, bias, relu, out);
        }
        let found = self.few(x.images[0], false, |few| few.sums(weights));
        found.put(0..self.outputs, |item| item * self.outputs, finish, out);
    }

    /// Whether there are so few pixels that weights are taken as they lie, along their outputs.
    fn are_few(&self) -> bool {
        self.kernel == 3 && are_few(self.pixels(), self.outputs)
    }

    /// The windows of few pixels, turned round if asked for.
    fn few<T: Real>(&self, x: &[T], turned: bool, find: impl FnOnce(Few<'_, T>) -> Found<T>) -> Found<T> {
        let (padded, window) = self.padded(x);
        let mut items = Vec::new();
        for row in 0..self.batch * self.height {
            let (b, y) = (row / self.height, row % self.height);
            items.extend((0..self.width).map(|x| window.at(b, y, x)));
        }
        let taps = (0..self.kernel).flat_map(|y| (0..self.kernel).map(move |x| (y, x)));
        let mut runs: Vec<usize> = taps.map(|(y, x)| window.at(0, y, x)).collect();
        if turned {
            runs.reverse();
        }
        find(Few {
            x: padded.as_deref().unwrap_or(x),
            items: &items,
            runs: &runs,
            length: self.inputs,
        })
    }

    fn finished<T: Real>(
        &self,
        x: Beside<&[T]>,
        (choice, weights): (Option<Choice>, Weights<'_, T>),
        finish: Finish<'_, T>,
        out: Beside<&mut [T]>,
    ) {
        let is_direct = choice.is_none();
        if !lie_apart(&x, is_direct) {
            let joined = joined(x);
            return self.finished(Beside::one(&joined, self.inputs), (choice, weights), finish, out);
        }
        if !lie_apart(&out, is_direct) {
            let mut joined = Scratch::take(out.images.iter().map(|out| out.len()).sum());
            let out_joined = Beside::one(&mut joined[..], self.outputs);
            self.finished(x, (choice, weights), finish, out_joined);
            for (from, _, out) in out.each() {
                split(&joined, self.outputs, from, out);
            }
            return;
        }
        match choice {
            Some(Choice::Four) => winograd::convolve(Four, self, x, weights, finish, out),
            Some(Choice::Two) => winograd::convolve(Two, self, x, weights, finish, out),
            None => {
                let ([x, _], [out, _]) = (x.images, out.images);
                weights.with(
                    |windows| self.in_panels(windows),
                    |packed| self.apply(x, packed, finish, out),
                );
            }
        }
    }

    /// What the loss's gradient by the outputs says of the inputs: the same product with the window turned round.
    ///
    /// * `gate`: the inputs, where they came out of ReLU, alone, and the gradient is wanted before it; else empty
    pub fn input_gradient<T: Real>(&self, dy: &[T], weights: &[T], gate: &[T], dx: Beside<&mut [T]>) {
        let turned = Conv {
            inputs: self.outputs,
            outputs: self.inputs,
            ..*self
        };
        let finish = Finish {
            gate,
            ..Finish::NOTHING
        };
        if self.are_few() {
            let found = turned.few(dy, true, |few| few.dots(weights));
            for (from, channels, dx) in dx.each() {
                found.put(from..from + channels, |item| item * channels, finish, dx);
            }
            return;
        }
        let weights = Weights::Once(self.windows(weights, true));
        let dy = Beside::one(dy, self.outputs);
        turned.finished(dy, (turned.choice_for_once(), weights), finish, dx);
    }

    /// What it says of the weights: over all pixels, the input under each tap times the output's gradient.
    pub fn weight_gradient<T: Real>(&self, x: Beside<&[T]>, dy: &[T], dw: &mut [T]) {
        let choice = self.choice_for_weights(x.channels);
        if !lie_apart(&x, choice.is_none()) {
            return self.weight_gradient(Beside::one(&joined(x), self.inputs), dy, dw);
        }
        match choice {
            Some(Choice::Four) => return winograd::weight_gradient(Four, self, x, dy, dw),
            Some(Choice::Two) => return winograd::weight_gradient(Two, self, x, dy, dw),
            None => {}
        }
        let [x, _] = x.images;
        let (padded, window) = self.padded(x);
        let source = Rows {
            values: padded.as_deref().unwrap_or(x),
            step: self.inputs,
            at: |row| window.at(row / self.height, row % self.height, 0),
        };
        let rows = self.batch * self.height;
        let gradient = Rows {
            values: dy,
            step: self.outputs,
            at: |row| row * self.width * self.outputs,
        };
        outer(
            &source,
            window.runs,
            &gradient,
            self.outputs,
            (rows, self.width),
            dw,
        );
    }

    fn apply<T: Real>(&self, x: &[T], packed: &Packed<T>, finish: Finish<'_, T>, out: &mut [T]) {
        let (padded, window) = self.padded(x);
        let placing = Placing {
            width: self.width,
            steps: (self.inputs, self.outputs),
            at: |row| {
                let first = window.at(row / self.height, row % self.height, 0);
                (first, row * self.width * self.outputs)
            },
        };
        let x = padded.as_deref().unwrap_or(x);
        product(x, window.runs, packed, finish, out, (1, self.outputs), placing);
    }

    /// The images with a border of zeros (none for a 1x1 window), and where the windows lie in them.
    fn padded<T: Real>(&self, x: &[T]) -> (Option<Scratch<T>>, Window) {
        let border = self.kernel / 2;
        let window = Window {
            step: self.inputs,
            row: (self.width + 2 * border) * self.inputs,
            image: (self.height + 2 * border) * (self.width + 2 * border) * self.inputs,
            runs: Runs::new(
                self.kernel,
                self.kernel * self.inputs,
                (self.width + 2 * border) * self.inputs,
            ),
        };
        if border == 0 {
            return (None, window);
        }
        let mut padded = Scratch::take(self.batch * window.image);
        let (side, row) = (border * self.inputs, self.width * self.inputs);
        padded
            .par_chunks_mut(window.row)
            .enumerate()
            .for_each(|(line, out)| {
                let (b, y) = (
                    line / (self.height + 2 * border),
                    line % (self.height + 2 * border),
                );
                if (border..self.height + border).contains(&y) {
                    out[..side].fill(T::ZERO);
                    out[side..side + row].copy_from_slice(&x[(b * self.height + y - border) * row..][..row]);
                    out[side + row..].fill(T::ZERO);
                } else {
                    out.fill(T::ZERO);
                }
            });
        (Some(padded), window)
    }
}

/// Whether images beside one another need not be put into one: transforms take channels by eights.
fn lie_apart<S>(images: &Beside<S>, is_direct: bool) -> bool {
    let [first, second] = images.channels;
    second == 0 || !is_direct && first.is_multiple_of(8) && second.is_multiple_of(8)
}

/// Both in one.
fn joined<T: Real>(x: Beside<&[T]>) -> Scratch<T> {
    let ([a, b], [in_a, in_b]) = (x.images, x.channels);
    let mut joined = Scratch::take(a.len() + b.len());
    concat(a, b, (in_a, in_b), &mut joined);
    joined
}

/// Where the windows of a padded image lie.
struct Window {
    step: usize,
    row: usize,
    image: usize,
    runs: Runs,
}

impl Window {
    fn at(&self, b: usize, y: usize, x: usize) -> usize {
        b * self.image + y * self.row + x * self.step
    }
}

/// `out = dy` where the layer's output was above 0, else 0.
pub fn relu_gradient<T: Real>(dy: &[T], y: &[T], out: &mut [T]) {
    const CHUNK: usize = 16_384;
    assert_eq!(
        (dy.len(), y.len()),
        (out.len(), out.len()),
        "a gradient is as large as its output"
    );
    let gradients = dy.par_chunks(CHUNK).zip(y.par_chunks(CHUNK));
    out.par_chunks_mut(CHUNK)
        .zip(gradients)
        .for_each(|(out, (dy, y))| {
            for ((out, dy), y) in out.iter_mut().zip(dy).zip(y) {
                *out = if *y > T::ZERO { *dy } else { T::ZERO };
            }
        });
}

/// Sum over all pixels of each channel: the gradient by a bias. Partial sums are of fixed sizes.
pub fn channel_sums<T: Real>(dy: &[T], out: &mut [T]) {
    const VALUES: usize = 16_384;
    /// Sums that stay in registers.
    const HELD: usize = 4 * PANEL;
    let channels = out.len();
    // As many pixels side by side as fill them a whole number of times.
    let block = (1..).map(|n| n * channels).find(|n| n.is_multiple_of(HELD));
    let block = block.expect("as many pixels as there are such sums do");
    let parts: Vec<Vec<T>> = dy
        .par_chunks(VALUES.next_multiple_of(block))
        .map(|part| {
            let mut sums = vec![T::ZERO; block];
            let (blocks, rest) = (part.chunks_exact(block), part.chunks_exact(block).remainder());
            in_vectors(|| {
                for (n, sums) in sums.as_chunks_mut::<HELD>().0.iter_mut().enumerate() {
                    let mut held = [T::ZERO; HELD];
                    for values in blocks.clone() {
                        let values: &[T; HELD] = values[n * HELD..].first_chunk().expect("a block has them");
                        held.iter_mut()
                            .zip(values)
                            .for_each(|(held, value)| *held += *value);
                    }
                    *sums = held;
                }
            });
            sums.iter_mut().zip(rest).for_each(|(sum, value)| *sum += *value);
            let (first, others) = sums.split_at_mut(channels);
            for other in others.chunks_exact(channels) {
                first
                    .iter_mut()
                    .zip(other)
                    .for_each(|(sum, other)| *sum += *other);
            }
            sums.truncate(channels);
            sums
        })
        .collect();
    out.fill(T::ZERO);
    for sums in parts {
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Rng;

    /// Sums of both parts that are few, of both that are many, and of one of each; the first are made part by part.
    #[test]
    fn gradients_of_wide_images_beside_one_another_are_those_of_their_concatenation() {
        let mut rng = Rng::new(4);
        for (in_a, in_b, outputs) in [(64, 64, 64), (72, 72, 64), (16, 72, 64)] {
            let conv = Conv {
                batch: 2,
                height: 18,
                width: 17,
                inputs: in_a + in_b,
                outputs,
                kernel: 3,
            };
            let mut numbers = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f64>>();
            let (a, b) = (numbers(conv.pixels() * in_a), numbers(conv.pixels() * in_b));
            let dy = numbers(conv.pixels() * outputs);
            let mut both = vec![0.0; conv.pixels() * conv.inputs];
            concat(&a, &b, (in_a, in_b), &mut both);
            let gradient = |x: Beside<&[f64]>| {
                let mut dw = vec![f64::NAN; conv.weights()];
                conv.weight_gradient(x, &dy, &mut dw);
                dw
            };
            let whole = gradient(Beside::one(&both[..], conv.inputs));
            let apart = gradient(Beside {
                images: [&a[..], &b[..]],
                channels: [in_a, in_b],
            });
            for (whole, apart) in whole.iter().zip(&apart) {
                assert!(
                    (whole - apart).abs() < 1e-9,
                    "{in_a} and {in_b}: {apart}, not {whole}"
                );
            }
        }
    }

    /// Kept ones are transformed. Of 136 channels others are laid out in panels, of 144 they are taken as they lie; the gradients of
    /// both parts beside one another too.
    #[test]
    fn weights_for_once_say_what_kept_ones_say() {
        for channels in [136, 144] {
            let mut rng = Rng::new(2);
            let conv = Conv {
                batch: 2,
                height: 4,
                width: 5,
                inputs: channels,
                outputs: channels,
                kernel: 3,
            };
            assert_eq!(conv.are_few(), channels == 144);
            let mut numbers = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f64>>();
            let (x, w, bias) = (
                numbers(conv.pixels() * channels),
                numbers(conv.weights()),
                numbers(channels),
            );
            let kept = conv.prepare(&w);
            assert_eq!(kept.choice, Some(Choice::Two));
            let parts = [64, channels - 64];
            let (mut a, mut b) = (vec![0.0; 40 * parts[0]], vec![0.0; 40 * parts[1]]);
            split(&x, channels, 0, &mut a);
            split(&x, channels, 64, &mut b);
            let (whole, apart) = (
                Beside::one(&x[..], channels),
                Beside {
                    images: [&a[..], &b[..]],
                    channels: parts,
                },
            );
            let said = |x, bias: &[f64], relu| {
                let (mut once, mut expected) = (vec![0.0; 40 * channels], vec![0.0; 40 * channels]);
                conv.forward_once(x, &w, bias, relu, &mut once);
                conv.forward(x, &kept, bias, relu, &mut expected);
                for (once, expected) in once.iter().zip(expected) {
                    assert!((once - expected).abs() < 1e-9);
                }
                once
            };
            said(whole, &bias, true);
            assert_eq!(said(apart, &bias, false), said(whole, &bias, false));
            let y = said(whole, &vec![0.0; channels], false);

            let gradient = |gate: &[f64], dx: Beside<&mut [f64]>| conv.input_gradient(&x, &w, gate, dx);
            let (mut dx, mut gated) = (x.clone(), x.clone());
            gradient(&[], Beside::one(&mut dx, channels));
            gradient(&x, Beside::one(&mut gated, channels));
            for ((gated, dx), x) in gated.iter().zip(&dx).zip(&x) {
                assert_eq!(*gated, if *x > 0.0 { *dx } else { 0.0 });
            }
            let apart = Beside {
                images: [&mut a[..], &mut b[..]],
                channels: parts,
            };
            gradient(&[], apart);
            let mut joined = vec![0.0; dx.len()];
            concat(&a, &b, (parts[0], parts[1]), &mut joined);
            assert_eq!(joined, dx);
            // Over all images the gradient by the input is the transpose of the layer.
            let forward: f64 = y.iter().zip(&x).map(|(y, x)| y * x).sum();
            let backward: f64 = dx.iter().zip(&x).map(|(dx, x)| dx * x).sum();
            assert!(
                (forward - backward).abs() < 1e-9 * forward.abs().max(1.0),
                "{forward} {backward}"
            );
        }
    }

    /// One part, several and some more; channels that fill vectors, and numbers that share nothing with them.
    #[test]
    fn sums_over_pixels_are_each_channel_s() {
        for channels in [1, 3, 11, 16, 64, 65, 257] {
            for pixels in [0, 1, 100, 3 * 16_384 / channels + 7, 40_000 / channels] {
                let dy: Vec<f32> = (0..pixels * channels)
                    .map(|n| (n * 7 % 11) as f32 - 5.0)
                    .collect();
                let mut out = vec![1.0; channels];
                channel_sums(&dy, &mut out);
                for (c, out) in out.into_iter().enumerate() {
                    let sum: f32 = dy.iter().skip(c).step_by(channels).sum();
                    assert_eq!(out, sum, "channel {c} of {channels}, {pixels} pixels");
                }
            }
        }
    }

    /// By tiles of both sizes and as defined; channels that fill panels, halves of them, and none.
    #[test]
    fn images_beside_one_another_are_their_concatenation_to_the_bit() {
        let mut rng = Rng::new(1);
        let sizes = [(2, 64, 4, 3), (2, 20, 12, 3), (1, 4, 4, 3), (1, 5, 3, 1)];
        let channels = [(8, 8), (16, 16), (8, 16), (16, 8), (24, 40), (4, 4), (3, 5)];
        for (((batch, height, width, kernel), (in_a, in_b)), outputs) in sizes
            .into_iter()
            .flat_map(|size| channels.map(|c| (size, c)))
            .flat_map(|shape| [8, 16].map(|outputs| (shape, outputs)))
        {
            let conv = Conv {
                batch,
                height,
                width,
                inputs: in_a + in_b,
                outputs,
                kernel,
            };
            let mut numbers = |n: usize| (0..n).map(|_| rng.normal() as f32).collect::<Vec<f32>>();
            let (a, b) = (numbers(conv.pixels() * in_a), numbers(conv.pixels() * in_b));
            let (w, bias) = (numbers(conv.weights()), numbers(outputs));
            let dy = numbers(conv.pixels() * outputs);
            let mut both = vec![0.0; conv.pixels() * conv.inputs];
            concat(&a, &b, (in_a, in_b), &mut both);
            let prepared = conv.prepare(&w);
            let work = |x: Beside<&[f32]>, dx: Beside<&mut [f32]>| {
                let (mut y, mut dw) = (dy.clone(), w.clone());
                conv.forward(x, &prepared, &bias, true, &mut y);
                conv.input_gradient(&dy, &w, &[], dx);
                conv.weight_gradient(x, &dy, &mut dw);
                (y, dw)
            };
            let (mut da, mut db, mut dx) = (a.clone(), b.clone(), both.clone());
            let expected = work(
                Beside::one(&both[..], conv.inputs),
                Beside::one(&mut dx[..], conv.inputs),
            );
            let channels = [in_a, in_b];
            let (x, dx_apart) = (
                Beside {
                    images: [&a[..], &b[..]],
                    channels,
                },
                Beside {
                    images: [&mut da[..], &mut db[..]],
                    channels,
                },
            );
            assert!(work(x, dx_apart) == expected, "{conv:?}, {channels:?}");
            let mut joined = vec![0.0; dx.len()];
            concat(&da, &db, (in_a, in_b), &mut joined);
            assert!(joined == dx, "gradient by the inputs of {conv:?}, {channels:?}");
        }
    }
}
