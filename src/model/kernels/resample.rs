//! Between the levels: 2x2 max pooling, 2x2 up-convolution with stride 2, concatenation, and their gradients.

use rayon::prelude::*;

use super::few::{Few, are_few};
use super::product::Packed;
use super::shape::{Finish, Placing};
use super::simd::{Isa, Simd, Work, in_vectors};
use super::{Real, Rows, Runs, outer, pack, product};

/// The shape of a 2x2 max pooling with stride 2; height and width are the input's and even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Images.
    pub batch: usize,
    /// Rows of an input image.
    pub height: usize,
    /// Pixels in an input row.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Pool {
    /// The largest of each 2x2 window.
    pub fn forward<T: Real>(&self, x: &[T], out: &mut [T]) {
        let (c, row) = (self.channels, self.width * self.channels);
        let pairs = x.par_chunks(2 * row);
        out.par_chunks_mut(row / 2).zip(pairs).for_each(|(out, pair)| {
            let (upper, lower) = pair.split_at(row);
            let windows = upper.chunks_exact(2 * c).zip(lower.chunks_exact(2 * c));
            for (out, (upper, lower)) in out.chunks_exact_mut(c).zip(windows) {
                let ((a, b), (d, e)) = (upper.split_at(c), lower.split_at(c));
                for ((((out, &a), &b), &d), &e) in out.iter_mut().zip(a).zip(b).zip(d).zip(e) {
                    let (upper, lower) = (if b > a { b } else { a }, if e > d { e } else { d });
                    *out = if lower > upper { lower } else { upper };
                }
            }
        });
    }

    /// The gradient goes to the first largest of each window, row by row; all else gets 0.
    pub fn gradient<T: Real>(&self, x: &[T], dy: &[T], dx: &mut [T]) {
        self.each_row(x, dy, dx, false);
    }

    /// The same added to `sum`, which becomes 0 where `x` is not above 0.
    pub fn add_gradient<T: Real>(&self, x: &[T], dy: &[T], sum: &mut [T]) {
        self.each_row(x, dy, sum, true);
    }

    fn each_row<T: Real>(&self, x: &[T], dy: &[T], dx: &mut [T], is_added: bool) {
        let (isa, row) = (Isa::detect(), self.width * self.channels);
        assert_eq!(
            (x.len(), 4 * dy.len()),
            (dx.len(), dx.len()),
            "a window has one gradient"
        );
        let sources = x.par_chunks(2 * row).zip(dy.par_chunks(row / 2));
        dx.par_chunks_mut(2 * row).zip(sources).for_each(|(dx, (x, dy))| {
            let windows = PoolRow {
                channels: self.channels,
                x,
                dy,
                dx,
                is_added,
            };
            T::run(isa, windows);
        });
    }
}

/// A row of windows: two rows of pixels, and their gradients.
struct PoolRow<'a, T> {
    channels: usize,
    x: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    is_added: bool,
}

impl<T: Real> Work<T> for PoolRow<'_, T> {
    #[inline(always)]
    fn on<S: Simd<T>>(self, s: S) {
        let (c, row) = (self.channels, self.x.len() / 2);
        for (window, dy) in self.dy.chunks_exact(c).enumerate() {
            for channel in (0..c).step_by(S::LANES) {
                let (count, first) = (S::LANES.min(c - channel), 2 * window * c + channel);
                let at = [first, first + c, first + row, first + row + c];
                let mut seen = [s.zero(); 4];
                for (seen, at) in seen.iter_mut().zip(at) {
                    *seen = s.load_some(&self.x[at..], count);
                }
                let [a, b, d, e] = seen;
                let dy = s.load_some(&dy[channel..], count);
                // Where a difference is above 0, the latter is the larger; what is left of a gradient, which is finite, goes to
                // the other.
                let down = s.gated(dy, s.sub(s.larger(d, e), s.larger(a, b)));
                let up = s.sub(dy, down);
                let (second, fourth) = (s.gated(up, s.sub(b, a)), s.gated(down, s.sub(e, d)));
                let found = [s.sub(up, second), second, s.sub(down, fourth), fourth];
                for ((found, seen), at) in found.into_iter().zip(seen).zip(at) {
                    let dx = &mut self.dx[at..];
                    let value = match self.is_added {
                        true => s.gated(s.add(s.load_some(dx, count), found), seen),
                        false => found,
                    };
                    s.store_some(value, dx, count);
                }
            }
        }
    }
}

/// `sum += values`, and 0 where `gate` is not above 0.
pub fn add_gated<T: Real>(sum: &mut [T], values: &[T], gate: &[T]) {
    const CHUNK: usize = 16_384;
    let sources = values.par_chunks(CHUNK).zip(gate.par_chunks(CHUNK));
    sum.par_chunks_mut(CHUNK)
        .zip(sources)
        .for_each(|(sum, (values, gate))| {
            in_vectors(|| {
                for ((sum, value), gate) in sum.iter_mut().zip(values).zip(gate) {
                    *sum = if *gate > T::ZERO { *sum + *value } else { T::ZERO };
                }
            });
        });
}

/// The shape of a 2x2 up-convolution with stride 2; weights are `[ky][kx][output][input]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpConv {
    /// Images.
    pub batch: usize,
    /// Rows of an input image.
    pub height: usize,
    /// Pixels in an input row.
    pub width: usize,
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
}

impl UpConv {
    /// Number of weights.
    #[cfg(any(test, feature = "cuda"))]
    pub fn weights(&self) -> usize {
        4 * self.inputs * self.outputs
    }

    /// Where the two upper outputs of an input pixel begin; the two lower ones lie a row further.
    fn at(&self, pixel: usize) -> usize {
        (pixel / self.width * 2 * 2 * self.width + pixel % self.width * 2) * self.outputs
    }

    /// The runs of the four outputs of an input pixel.
    fn runs(&self) -> Runs {
        Runs::new(2, 2 * self.outputs, 2 * self.width * self.outputs)
    }

    /// The weights as [`UpConv::forward`] takes them: those of the upper outputs, and of the lower.
    pub fn prepare<T: Real>(&self, weights: &[T]) -> [Packed<T>; 2] {
        let columns = self.runs().length;
        [0, 1].map(|lower| {
            pack(self.inputs, columns, |k, n| {
                weights[(lower * columns + n) * self.inputs + k]
            })
        })
    }

    /// Every input pixel becomes 2x2 output pixels: two products, one for the upper two and one for the lower.
    pub fn forward<T: Real>(&self, x: &[T], weights: &[Packed<T>; 2], bias: &[T], out: &mut [T]) {
        let runs = Runs::new(1, self.inputs, 0);
        let (columns, stride) = (self.runs().length, self.runs().stride);
        let bias = [bias, bias].concat();
        for (lower, packed) in weights.iter().enumerate() {
            let finish = Finish {
                bias: &bias,
                ..Finish::NOTHING
            };
            let placing = Placing {
                width: self.width,
                steps: (self.inputs, columns),
                at: |row| {
                    let first = row * self.width;
                    (first * self.inputs, self.at(first) + lower * stride)
                },
            };
            product(x, runs, packed, finish, out, (self.width, 2 * columns), placing);
        }
    }

    /// The same with weights that are used once.
    pub fn forward_once<T: Real>(&self, x: &[T], weights: &[T], bias: &[T], out: &mut [T]) {
        if !self.are_few() {
            return self.forward(x, &self.prepare(weights), bias, out);
        }
        let items: Vec<usize> = (0..self.pixels()).map(|pixel| pixel * self.inputs).collect();
        let few = Few {
            x,
            items: &items,
            runs: &[0],
            length: self.inputs,
        };
        let found = few.dots(weights);
        let bias = [bias, bias].concat();
        let finish = Finish {
            bias: &bias,
            ..Finish::NOTHING
        };
        let Runs { length, stride, .. } = self.runs();
        for lower in 0..2 {
            let columns = lower * length..(lower + 1) * length;
            found.put(columns, |pixel| self.at(pixel) + lower * stride, finish, out);
        }
    }

    /// Pixels of all input images.
    fn pixels(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// Whether there are so few pixels that weights are taken as they lie.
    fn are_few(&self) -> bool {
        are_few(self.pixels(), self.inputs)
    }

    /// The gradient by the input: each pixel's four outputs are two runs. `gate` as a convolution's.
    pub fn input_gradient<T: Real>(&self, dy: &[T], weights: &[T], gate: &[T], dx: &mut [T]) {
        if self.are_few() {
            let items: Vec<usize> = (0..self.pixels()).map(|pixel| self.at(pixel)).collect();
            let Runs { length, stride, .. } = self.runs();
            let few = Few {
                x: dy,
                items: &items,
                runs: &[0, stride],
                length,
            };
            let finish = Finish {
                gate,
                ..Finish::NOTHING
            };
            let found = few.sums(weights);
            return found.put(0..self.inputs, |pixel| pixel * self.inputs, finish, dx);
        }
        let packed = pack(4 * self.outputs, self.inputs, |k, n| weights[k * self.inputs + n]);
        let finish = Finish {
            gate,
            ..Finish::NOTHING
        };
        let placing = Placing {
            width: self.width,
            steps: (self.runs().length, self.inputs),
            at: |row| (self.at(row * self.width), row * self.width * self.inputs),
        };
        product(dy, self.runs(), &packed, finish, dx, (1, self.inputs), placing);
    }

    /// The gradient by the weights.
    pub fn weight_gradient<T: Real>(&self, x: &[T], dy: &[T], dw: &mut [T]) {
        let rows = self.batch * self.height;
        let gradient = Rows {
            values: dy,
            step: 2 * self.outputs,
            at: |row| self.at(row * self.width),
        };
        let source = Rows {
            values: x,
            step: self.inputs,
            at: |row| row * self.width * self.inputs,
        };
        outer(
            &gradient,
            self.runs(),
            &source,
            self.inputs,
            (rows, self.width),
            dw,
        );
    }
}

/// The channels of `a`, then those of `b`, of every pixel.
pub fn concat<T: Real>(a: &[T], b: &[T], (in_a, in_b): (usize, usize), out: &mut [T]) {
    const PIXELS: usize = 512;
    let parts = a.par_chunks(PIXELS * in_a).zip(b.par_chunks(PIXELS * in_b));
    out.par_chunks_mut(PIXELS * (in_a + in_b))
        .zip(parts)
        .for_each(|(out, (a, b))| {
            let pixels = a.chunks_exact(in_a).zip(b.chunks_exact(in_b));
            for (out, (a, b)) in out.chunks_exact_mut(in_a + in_b).zip(pixels) {
                out[..in_a].copy_from_slice(a);
                out[in_a..].copy_from_slice(b);
            }
        });
}

/// `out.len() / pixels` channels of every pixel of `x`, from channel `from` on: the gradient of [`concat`].
pub fn split<T: Real>(x: &[T], channels: usize, from: usize, out: &mut [T]) {
    const PIXELS: usize = 512;
    let kept = out.len() / (x.len() / channels);
    out.par_chunks_mut(PIXELS * kept)
        .zip(x.par_chunks(PIXELS * channels))
        .for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(kept).zip(x.chunks_exact(channels)) {
                out.copy_from_slice(&x[from..from + kept]);
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Rng;

    /// Few pixels, whose weights are taken as they lie, against the same ones among many, whose weights are laid out.
    #[test]
    fn few_pixels_are_what_they_are_among_many() {
        let few = UpConv {
            batch: 2,
            height: 3,
            width: 5,
            inputs: 32,
            outputs: 8,
        };
        let many = UpConv { batch: 10, ..few };
        assert!(few.are_few() && !many.are_few());
        let mut rng = Rng::new(1);
        let mut numbers = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f64>>();
        let (w, bias) = (numbers(few.weights()), numbers(8));
        let (x, dy) = (numbers(many.pixels() * 32), numbers(4 * many.pixels() * 8));
        let alike = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        let pixels = few.pixels();

        let (mut got, mut expected) = (vec![0.0; 4 * pixels * 8], dy.clone());
        few.forward_once(&x[..pixels * 32], &w, &bias, &mut got);
        many.forward_once(&x, &w, &bias, &mut expected);
        assert!(alike(&got, &expected));

        let (mut got, mut expected) = (vec![0.0; pixels * 32], x.clone());
        few.input_gradient(&dy[..4 * pixels * 8], &w, &x[..pixels * 32], &mut got);
        many.input_gradient(&dy, &w, &x, &mut expected);
        assert!(alike(&got, &expected));
    }
}
