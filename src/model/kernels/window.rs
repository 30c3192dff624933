//! Convolutions of stacks of slices by windows of any size, with holes between their taps or steps between windows, and
//! their exact gradients; beside [`super::Conv`], which knows one slice and 1x1 or 3x3 taps.
//!
//! Each is one product over a volume with a border of zeros. The gradient by the input is the same again: windows turned round
//! over outputs that lie a step apart, with zeros between.

use rayon::prelude::*;

use super::product::Packed;
use super::shape::{Finish, Placing};
use super::{Real, Rows, Runs, Scratch, outer, pack, product};

/// What a window sees, along slices, rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    kernel: [usize; 3],
    step: usize,
    /// From one tap to the next, in a slice.
    dilation: usize,
    border: usize,
}

impl Reach {
    /// 3x3x3 taps around every voxel, or around every `step`th one along each axis; zeros beyond the stack.
    pub fn cube(step: usize) -> Reach {
        Reach {
            kernel: [3; 3],
            step,
            dilation: 1,
            border: 1,
        }
    }

    /// `kernel` x `kernel` taps in the slice, `dilation` apart, wherever all of them lie in it.
    pub fn within(kernel: usize, dilation: usize) -> Reach {
        Reach {
            kernel: [1, kernel, kernel],
            step: 1,
            dilation,
            border: 0,
        }
    }

    /// Taps along each axis.
    pub fn kernel(&self) -> [usize; 3] {
        self.kernel
    }

    /// From one window to the next.
    #[cfg(any(test, feature = "cuda"))]
    pub fn step(&self) -> usize {
        self.step
    }

    /// From one tap to the next, in a slice.
    #[cfg(any(test, feature = "cuda"))]
    pub fn dilation(&self) -> usize {
        self.dilation
    }

    /// From a window's first voxel to its last, along an axis.
    fn span(&self, axis: usize) -> usize {
        self.dilation * (self.kernel[axis] - 1)
    }
}

/// The shape of such a convolution; weights are `[kz][ky][kx][input][output]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Stacks of slices.
    pub stacks: usize,
    /// Slices of a stack, rows and columns.
    pub size: [usize; 3],
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// What a window sees.
    pub reach: Reach,
}

/// A volume that windows lie in, zero but for what is spread out in it.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// Slices, rows and columns of what is spread out.
    pub size: [usize; 3],
    /// Their channels.
    pub channels: usize,
    /// How far the first lies from the volume's beginning, along each axis.
    pub before: [usize; 3],
    /// And each from the one before.
    pub apart: usize,
    /// Slices, rows and columns of the volume.
    pub whole: [usize; 3],
}

impl Window {
    /// Slices, rows and columns of the output; `None` where no window fits.
    pub fn windows(&self) -> Option<[usize; 3]> {
        let Reach { step, border, .. } = self.reach;
        let mut windows = [0; 3];
        for (axis, windows) in windows.iter_mut().enumerate() {
            let left = (self.size[axis] + 2 * border).checked_sub(self.reach.span(axis) + 1)?;
            *windows = left / step + 1;
        }
        Some(windows)
    }

    /// Voxels of all inputs.
    #[cfg(any(test, feature = "cuda"))]
    pub fn voxels(&self) -> usize {
        self.stacks * self.size.iter().product::<usize>()
    }

    /// Voxels of all outputs.
    #[cfg(any(test, feature = "cuda"))]
    pub fn outcomes(&self) -> usize {
        self.stacks * self.windows().map_or(0, |windows| windows.iter().product())
    }

    /// Taps of a window.
    pub fn taps(&self) -> usize {
        self.reach.kernel.iter().product()
    }

    /// Number of weights.
    #[cfg(any(test, feature = "cuda"))]
    pub fn weights(&self) -> usize {
        self.taps() * self.inputs * self.outputs
    }

    /// What the outputs are made of.
    pub fn forwards(&self) -> Spread {
        Spread {
            size: self.size,
            channels: self.inputs,
            before: [self.reach.border; 3],
            apart: 1,
            whole: self.size.map(|size| size + 2 * self.reach.border),
        }
    }

    /// What the gradient by the inputs is made of: that by the outputs, where windows with turned taps find it.
    pub fn backwards(&self) -> Spread {
        let span = |axis| self.reach.span(axis);
        Spread {
            size: self.windows().unwrap_or_default(),
            channels: self.outputs,
            before: std::array::from_fn(|axis| span(axis) - self.reach.border),
            apart: self.reach.step,
            whole: std::array::from_fn(|axis| self.size[axis] + span(axis)),
        }
    }

    /// The weights as [`Window::forward`] takes them.
    pub fn prepare<T: Real>(&self, weights: &[T]) -> Packed<T> {
        pack(self.taps() * self.inputs, self.outputs, |k, n| {
            weights[k * self.outputs + n]
        })
    }

    /// The convolution of the stacks, plus `bias`, through ReLU if asked for.
    pub fn forward<T: Real>(&self, x: &[T], weights: &Packed<T>, bias: &[T], relu: bool, out: &mut [T]) {
        let finish = Finish {
            bias,
            relu,
            gate: &[],
        };
        let windows = self.windows().unwrap_or_default();
        self.multiply(
            (&self.forwards(), x),
            weights,
            finish,
            (windows, self.reach.step),
            out,
        );
    }

    /// What the loss's gradient by the outputs says of the inputs.
    ///
    /// * `gate`: the inputs, where they came out of ReLU and the gradient is wanted before it; else empty
    pub fn input_gradient<T: Real>(&self, dy: &[T], weights: &[T], gate: &[T], dx: &mut [T]) {
        let (taps, inputs, outputs) = (self.taps(), self.inputs, self.outputs);
        let turned = pack(taps * outputs, inputs, |k, n| {
            let (tap, output) = (taps - 1 - k / outputs, k % outputs);
            weights[(tap * inputs + n) * outputs + output]
        });
        let finish = Finish {
            gate,
            ..Finish::NOTHING
        };
        self.multiply((&self.backwards(), dy), &turned, finish, (self.size, 1), dx);
    }

    /// What it says of the weights.
    pub fn weight_gradient<T: Real>(&self, x: &[T], dy: &[T], dw: &mut [T]) {
        let spread = self.forwards();
        let (volume, [slices, lines, columns]) =
            (spread.spread(self.stacks, x), self.windows().unwrap_or_default());
        let source = Rows {
            values: volume.as_deref().unwrap_or(x),
            step: self.reach.step * self.inputs,
            at: |row| {
                spread.at(
                    row / lines / slices,
                    [row / lines % slices, row % lines, 0],
                    self.reach.step,
                )
            },
        };
        let gradient = Rows {
            values: dy,
            step: self.outputs,
            at: |row| row * columns * self.outputs,
        };
        let size = (self.stacks * slices * lines, columns);
        outer(
            &source,
            spread.runs(&self.reach),
            &gradient,
            self.outputs,
            size,
            dw,
        );
    }

    /// The product of what lies under each window with the weights.
    fn multiply<T: Real>(
        &self,
        (spread, x): (&Spread, &[T]),
        weights: &Packed<T>,
        finish: Finish<'_, T>,
        ([slices, lines, columns], step): ([usize; 3], usize),
        out: &mut [T],
    ) {
        let volume = spread.spread(self.stacks, x);
        let values = out.len() / (self.stacks * slices * lines * columns);
        let runs = spread.runs(&self.reach);
        let placing = Placing {
            width: columns,
            steps: (step * spread.channels, values),
            at: |line| {
                let place = [line / lines % slices, line % lines, 0];
                let first = spread.at(line / lines / slices, place, step);
                (first, line * columns * values)
            },
        };
        let x = volume.as_deref().unwrap_or(x);
        product(x, runs, weights, finish, out, (1, values), placing);
    }
}

impl Spread {
    /// Where the window begins that is the `place`th of a stack along each axis.
    fn at(&self, stack: usize, place: [usize; 3], step: usize) -> usize {
        let [slices, lines, columns] = self.whole;
        let [z, y, x] = place.map(|place| place * step);
        (((stack * slices + z) * lines + y) * columns + x) * self.channels
    }

    /// What lies under a window, from its first tap on.
    fn runs(&self, reach: &Reach) -> Runs {
        let [_, lines, columns] = self.whole;
        let [slices, down, across] = reach.kernel;
        let row = columns * self.channels;
        if reach.dilation == 1 {
            return Runs {
                count: slices * down,
                length: across * self.channels,
                stride: row,
                group: down,
                group_stride: lines * row,
            };
        }
        Runs {
            count: down * across,
            length: self.channels,
            stride: reach.dilation * self.channels,
            group: across,
            group_stride: reach.dilation * row,
        }
    }

    /// The volume; `None` where it is what it is made of.
    fn spread<T: Real>(&self, stacks: usize, x: &[T]) -> Option<Scratch<T>> {
        if self.whole == self.size {
            return None;
        }
        let [slices, lines, columns] = self.whole;
        let (c, row) = (self.channels, self.size[2] * self.channels);
        let mut volume = Scratch::take(stacks * slices * lines * columns * c);
        // Which of the lines there are lies at a place along an axis.
        let of = |axis: usize, at: usize| {
            let from = at.checked_sub(self.before[axis])?;
            let is_one = from.is_multiple_of(self.apart) && from / self.apart < self.size[axis];
            is_one.then_some(from / self.apart)
        };
        volume
            .par_chunks_mut(columns * c)
            .enumerate()
            .for_each(|(n, out)| {
                out.fill(T::ZERO);
                let (z, y, stack) = (n / lines % slices, n % lines, n / lines / slices);
                let Some((slice, line)) = of(0, z).zip(of(1, y)) else {
                    return;
                };
                let x = &x[((stack * self.size[0] + slice) * self.size[1] + line) * row..][..row];
                let first = &mut out[self.before[2] * c..];
                if self.apart == 1 {
                    first[..row].copy_from_slice(x);
                    return;
                }
                for (out, x) in first.chunks_mut(self.apart * c).zip(x.chunks_exact(c)) {
                    out[..c].copy_from_slice(x);
                }
            });
        Some(volume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Rng;

    /// Every output by the definition, and the two gradients by that they are its transposes.
    #[test]
    fn a_window_sums_its_taps_and_its_gradients_are_the_transposes() {
        let mut rng = Rng::new(1);
        let kinds = [
            ([3, 5, 4], 3, 5, Reach::cube(1)),
            ([4, 6, 5], 2, 16, Reach::cube(2)),
            ([2, 9, 11], 3, 4, Reach::within(3, 2)),
            ([1, 9, 8], 1, 3, Reach::within(5, 1)),
        ];
        for (size, inputs, outputs, reach) in kinds {
            let window = Window {
                stacks: 2,
                size,
                inputs,
                outputs,
                reach,
            };
            let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.normal()).collect() };
            let x = draw(window.voxels() * inputs);
            let w = draw(window.weights());
            let b = draw(outputs);
            let dy = draw(window.outcomes() * outputs);
            let mut y = vec![0.0; dy.len()];
            window.forward(&x, &window.prepare(&w), &b, false, &mut y);
            let [d, h, wide] = window.windows().unwrap();
            let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
            for at in 0..window.outcomes() {
                let (column, row) = (at % wide, at / wide % h);
                let (slice, stack) = (at / wide / h % d, at / wide / h / d);
                for o in 0..outputs {
                    let mut sum = b[o];
                    for tap in 0..window.taps() {
                        let [_, ky, kx] = reach.kernel;
                        let taps = [tap / kx / ky, tap / kx % ky, tap % kx];
                        let place: Vec<isize> = [slice, row, column]
                            .iter()
                            .enumerate()
                            .map(|(n, at)| {
                                (at * reach.step + taps[n] * reach.dilation) as isize - reach.border as isize
                            })
                            .collect();
                        if place
                            .iter()
                            .zip(size)
                            .any(|(p, size)| *p < 0 || *p >= size as isize)
                        {
                            continue;
                        }
                        let place: Vec<usize> = place.iter().map(|p| *p as usize).collect();
                        let voxel = ((stack * size[0] + place[0]) * size[1] + place[1]) * size[2] + place[2];
                        for i in 0..inputs {
                            let (from, weight) = (voxel * inputs + i, (tap * inputs + i) * outputs + o);
                            sum += x[from] * w[weight];
                            dx[from] += dy[at * outputs + o] * w[weight];
                            dw[weight] += dy[at * outputs + o] * x[from];
                        }
                    }
                    assert!((y[at * outputs + o] - sum).abs() < 1e-9, "{reach:?}, output {at}");
                }
            }
            let near =
                |got: &[f64], expected: &[f64]| got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
            let mut got = vec![f64::NAN; w.len()];
            window.weight_gradient(&x, &dy, &mut got);
            assert!(near(&got, &dw), "{reach:?}, weights");
            let mut got = vec![f64::NAN; x.len()];
            window.input_gradient(&dy, &w, &[], &mut got);
            assert!(near(&got, &dx), "{reach:?}, inputs");
            window.input_gradient(&dy, &w, &x, &mut got);
            dx.iter_mut()
                .zip(&x)
                .filter(|(_, x)| **x <= 0.0)
                .for_each(|(dx, _)| *dx = 0.0);
            assert!(near(&got, &dx), "{reach:?}, before the ReLU");
        }
    }

    #[test]
    fn a_slice_that_is_too_small_has_no_windows() {
        let window = Window {
            stacks: 1,
            size: [1, 4, 9],
            inputs: 1,
            outputs: 1,
            reach: Reach::within(3, 2),
        };
        assert_eq!(window.windows(), None);
    }
}
