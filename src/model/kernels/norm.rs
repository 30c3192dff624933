//! Normalisation of each channel over a stack of slices, with a scale and a shift that are learnt, and its exact gradient.
//!
//! Source: Ulyanov, Vedaldi & Lempitsky, "Instance normalization", 2016; batch normalisation (Ioffe & Szegedy, 2015) of one
//! stack at a time.

use rayon::prelude::*;

use super::Real;

/// Keeps the deviation of a channel that is the same everywhere above 0.
const LEAST: f64 = 1e-5;
/// Pixels of a partial sum: fixed, so that sums do not depend on the number of threads.
const PIXELS: usize = 1024;

/// The shape of a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Norm {
    /// Stacks, each normalised by itself.
    pub stacks: usize,
    /// Pixels of a stack.
    pub pixels: usize,
    /// Channels.
    pub channels: usize,
}

impl Norm {
    /// `scale * (x - mean) / deviation + shift`, through ReLU if asked for.
    pub fn forward<T: Real>(&self, x: &[T], (scale, shift): (&[T], &[T]), relu: bool, out: &mut [T]) {
        let stack = self.pixels * self.channels;
        for (x, out) in x.chunks_exact(stack).zip(out.chunks_exact_mut(stack)) {
            let (means, inverses) = self.moments(x);
            let factors: Vec<T> = inverses
                .iter()
                .zip(scale)
                .map(|(inverse, scale)| *inverse * *scale)
                .collect();
            let terms: Vec<T> = (0..self.channels)
                .map(|c| shift[c] - means[c] * factors[c])
                .collect();
            self.over(x, out, |x, out| {
                for (((out, x), factor), term) in out.iter_mut().zip(x).zip(&factors).zip(&terms) {
                    let value = *x * *factor + *term;
                    *out = if relu && value <= T::ZERO { T::ZERO } else { value };
                }
            });
        }
    }

    /// How many values [`Norm::gradient`] gives.
    pub fn gradients(&self) -> usize {
        self.stacks * self.pixels * self.channels + 2 * self.channels
    }

    /// The gradient by the input, then those by the scales, then those by the shifts.
    pub fn gradient<T: Real>(&self, x: &[T], scale: &[T], dy: &[T], out: &mut [T]) {
        let stack = self.pixels * self.channels;
        assert_eq!(
            (x.len(), dy.len()),
            (self.stacks * stack, self.stacks * stack),
            "a value has one gradient"
        );
        let (dx, learnt) = out.split_at_mut(self.stacks * stack);
        let mut totals = vec![0.0; learnt.len()];
        let stacks = x.chunks_exact(stack).zip(dy.chunks_exact(stack));
        for ((x, dy), dx) in stacks.zip(dx.chunks_exact_mut(stack)) {
            let (means, inverses) = self.moments(x);
            let [sums, weighed] = self.sums(x, dy, |x, dy, c| [dy, dy * (x - means[c]) * inverses[c]]);
            let both = weighed.iter().chain(&sums);
            totals.iter_mut().zip(both).for_each(|(total, sum)| *total += sum);
            // scale / deviation * (dy - mean of dy - z * mean of dy z), with z = (x - mean) / deviation
            let n = self.pixels as f64;
            let per_channel = |c: usize| {
                let factor = scale[c].wide() * inverses[c].wide();
                let by_x = -factor * weighed[c] / n * inverses[c].wide();
                let term = -factor * sums[c] / n - by_x * means[c].wide();
                [factor, by_x, term].map(T::of)
            };
            let factors: Vec<[T; 3]> = (0..self.channels).map(per_channel).collect();
            self.over(x, dx, |x, dx| dx.copy_from_slice(x));
            self.over(dy, dx, |dy, dx| {
                for ((dx, dy), [factor, by_x, term]) in dx.iter_mut().zip(dy).zip(&factors) {
                    *dx = *factor * *dy + *by_x * *dx + *term;
                }
            });
        }
        let learnt = learnt.iter_mut().zip(totals);
        learnt.for_each(|(out, total)| *out = T::of(total));
    }

    /// Of each channel of a stack the mean, and 1 over the deviation.
    fn moments<T: Real>(&self, x: &[T]) -> (Vec<T>, Vec<T>) {
        let n = self.pixels as f64;
        let [sums] = self.sums(x, &[], |x, _, _| [x]);
        let means: Vec<T> = sums.iter().map(|sum| T::of(sum / n)).collect();
        let [squares] = self.sums(x, &[], |x, _, c| [(x - means[c]) * (x - means[c])]);
        let inverses = squares.iter().map(|sum| T::of((sum / n + LEAST).sqrt().recip()));
        (means, inverses.collect())
    }

    /// Of each channel the sums of what `terms` says of a value of `x`, that of `y` (0 where there is none) and the channel.
    fn sums<T: Real, const N: usize>(
        &self,
        x: &[T],
        y: &[T],
        terms: impl Fn(T, T, usize) -> [T; N] + Sync,
    ) -> [Vec<f64>; N] {
        let channels = self.channels;
        let parts: Vec<Vec<[T; N]>> = x
            .par_chunks(PIXELS * channels)
            .enumerate()
            .map(|(n, part)| {
                let mut sums = vec![[T::ZERO; N]; channels];
                let others = y.get(n * PIXELS * channels..).unwrap_or_default();
                for (p, x) in part.chunks_exact(channels).enumerate() {
                    let y = others.get(p * channels..(p + 1) * channels);
                    for (c, (x, sums)) in x.iter().zip(&mut sums).enumerate() {
                        let terms = terms(*x, y.map_or(T::ZERO, |y| y[c]), c);
                        sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                    }
                }
                sums
            })
            .collect();
        std::array::from_fn(|n| {
            (0..channels)
                .map(|c| parts.iter().map(|part| part[c][n].wide()).sum())
                .collect()
        })
    }

    /// Pixel by pixel, all threads at once.
    fn over<T: Real>(&self, x: &[T], out: &mut [T], each: impl Fn(&[T], &mut [T]) + Sync) {
        let part = PIXELS * self.channels;
        out.par_chunks_mut(part)
            .zip(x.par_chunks(part))
            .for_each(|(out, x)| {
                let pixels = out
                    .chunks_exact_mut(self.channels)
                    .zip(x.chunks_exact(self.channels));
                pixels.for_each(|(out, x)| each(x, out));
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Rng;

    #[test]
    fn every_channel_of_every_stack_has_the_mean_and_deviation_that_were_learnt() {
        let norm = Norm {
            stacks: 2,
            pixels: 1500,
            channels: 3,
        };
        let mut rng = Rng::new(1);
        let x: Vec<f32> = (0..2 * 1500 * 3)
            .map(|n| (n % 3) as f32 * 100.0 + rng.normal() as f32)
            .collect();
        let mut out = vec![0.0; x.len()];
        norm.forward(&x, (&[1.0, 2.0, 0.5], &[0.0, -1.0, 7.0]), false, &mut out);
        for stack in out.chunks_exact(4500) {
            for (c, (deviation, mean)) in [(1.0, 0.0), (2.0, -1.0), (0.5, 7.0)].into_iter().enumerate() {
                let values: Vec<f64> = stack.iter().skip(c).step_by(3).map(|v| f64::from(*v)).collect();
                let found = values.iter().sum::<f64>() / 1500.0;
                let spread = values.iter().map(|v| (v - found).powi(2)).sum::<f64>() / 1500.0;
                assert!(
                    (found - mean).abs() < 1e-3 && (spread.sqrt() - deviation).abs() < 1e-3,
                    "{found} {spread}"
                );
            }
        }
        // A channel that is the same everywhere is only shifted.
        norm.forward(&vec![5.0; x.len()], (&[1.0; 3], &[0.25; 3]), true, &mut out);
        assert!(out.iter().all(|value| (value - 0.25).abs() < 1e-3));
    }
}
