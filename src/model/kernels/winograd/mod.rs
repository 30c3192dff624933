//! 3x3 convolutions by Winograd's F(4x4, 3x3): 36 products of small matrices for 16 pixels instead of 144.
//!
//! The image is cut into tiles of 4x4 output pixels, each of which needs 6x6 input pixels. With d the input tile, g the
//! window and Y the output tile of one channel pair,
//!
//! ```text
//! Y = A' [ (G g G') .* (B' d B) ] A        dg = G' [ (B' d B) .* (A dY A') ] G
//! ```
//!
//! where `.*` is taken place by place. Summed over channels (for dg: over tiles), each of the 36 places is a matrix
//! product of its own. The input's gradient is the first formula with the window turned round and inputs and outputs
//! exchanged. All three are exact; in f32 they lose about one decimal digit against the direct sum.
//!
//! Source: Lavin & Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, with its matrices for
//! F(4x4, 3x3), whose interpolation points are 0, 1, -1, 2, -2 and infinity.

mod lines;

use rayon::prelude::*;

use super::conv::Conv;
use super::lanes::{Isa, Sweep};
use super::product::{Finish, Packed, accumulate, multiply, pack_panels};
use super::{PANEL, ROWS, Real, Scratch};
pub use lines::Lines;
use lines::{Pixels, Spot};

/// Places of a transformed tile.
const PLACES: usize = 36;
/// Edge of an output tile.
const EDGE: usize = 4;
/// An image of fewer tiles is worth transforming only if its windows are few too.
const MANY: usize = 16;
/// Windows (inputs times outputs) whose transforms a second-level cache holds.
const FEW: usize = 128 * 128;
/// Values of the transformed tiles of one task: about 1 MB of f32, a core's second-level cache.
const CACHED: usize = 262_144;
/// Values of the transformed tiles that are summed into a weight gradient at a time.
const SWEPT: usize = 1 << 20;

/// Tiles that a task transforms at a time for a weight gradient.
const SHARE: usize = 64;

impl Conv {
    /// Whether the convolution is worth transforming. The number of images has no say, so that an image gives the same
    /// numbers whichever others are beside it.
    pub(super) fn is_transformed(&self) -> bool {
        let tiles = self.height.div_ceil(EDGE) * self.width.div_ceil(EDGE);
        let pays = tiles >= MANY || tiles > 1 && self.inputs * self.outputs <= FEW;
        self.kernel == 3 && self.inputs.is_multiple_of(8) && self.outputs.is_multiple_of(8) && pays
    }
}

/// The transformed windows `G g G'`, packed place by place; `at(tap, k, n)` is the weight from channel `k` to channel
/// `n` under tap `3 * ky + kx`.
pub fn transform_weights<T: Real>(
    inputs: usize,
    outputs: usize,
    at: impl Fn(usize, usize, usize) -> T + Sync,
) -> Packed<T> {
    pack_panels(PLACES * inputs, outputs, |first, rows| {
        let filled = PANEL.min(outputs - first);
        for k in 0..inputs {
            let window: [[T; PANEL]; 9] = std::array::from_fn(|tap| {
                std::array::from_fn(|n| {
                    if n < filled {
                        at(tap, k, first + n)
                    } else {
                        T::ZERO
                    }
                })
            });
            let columns = [0, 1, 2].map(|x| window_line([&window[x], &window[3 + x], &window[6 + x]]));
            for y in 0..6 {
                let line = window_line([&columns[0][y], &columns[1][y], &columns[2][y]]);
                for (x, lanes) in line.into_iter().enumerate() {
                    rows[(6 * y + x) * inputs + k] = lanes;
                }
            }
        }
    })
}

/// One line of `G g`, lane by lane.
fn window_line<T: Real>(g: [&[T; PANEL]; 3]) -> [[T; PANEL]; 6] {
    let [quarter, sixth, twelfth, twentyfourth] = [4.0, 6.0, 12.0, 24.0].map(|n| T::of(1.0 / n));
    let mut out = [[T::ZERO; PANEL]; 6];
    for n in 0..PANEL {
        let [g0, g1, g2] = g.map(|g| g[n]);
        let (even, odd) = ((g0 + g2) * sixth, g1 * sixth);
        let (far, near) = (g0 * twentyfourth + g2 * sixth, g1 * twelfth);
        out[0][n] = g0 * quarter;
        out[1][n] = T::ZERO - even - odd;
        out[2][n] = odd - even;
        out[3][n] = far + near;
        out[4][n] = far - near;
        out[5][n] = g2;
    }
    out
}

/// `G' u G`, the transpose of what [`window_line`] does twice.
fn window_of<T: Real>(places: &[T; PLACES]) -> [T; 9] {
    let line = |u: [T; 6]| {
        let [quarter, sixth, twelfth, twentyfourth] = [4.0, 6.0, 12.0, 24.0].map(|n| T::of(1.0 / n));
        let (sum, difference) = (u[1] + u[2], u[2] - u[1]);
        let (far, near) = (u[3] + u[4], u[3] - u[4]);
        [
            u[0] * quarter - sum * sixth + far * twentyfourth,
            difference * sixth + near * twelfth,
            far * sixth - sum * sixth + u[5],
        ]
    };
    let mut columns = [[T::ZERO; 6]; 3];
    for x in 0..6 {
        let column = std::array::from_fn(|y| places[6 * y + x]);
        for (columns, value) in columns.iter_mut().zip(line(column)) {
            columns[x] = value;
        }
    }
    let mut window = [T::ZERO; 9];
    for (window, column) in window.as_chunks_mut::<3>().0.iter_mut().zip(columns) {
        *window = line(column);
    }
    window
}

/// How an image is cut: the tiles of a row of tiles, and the rows of tiles of an image.
#[derive(Clone, Copy)]
struct Cut {
    conv: Conv,
    across: usize,
    down: usize,
}

impl Cut {
    fn of(conv: &Conv) -> Cut {
        Cut {
            conv: *conv,
            across: conv.width.div_ceil(EDGE),
            down: conv.height.div_ceil(EDGE),
        }
    }

    fn tiles(&self) -> usize {
        self.conv.batch * self.down * self.across
    }

    /// Where the `N x N` pixels of tile `tile` lie in images of `channels` channels, the first `border` rows and columns
    /// before the output tile.
    fn pixels<const N: usize, const P: usize>(
        &self,
        tile: usize,
        border: usize,
        channels: usize,
    ) -> Pixels<P> {
        let (image, rest) = (tile / (self.down * self.across), tile % (self.down * self.across));
        let (top, left) = (rest / self.across * EDGE, rest % self.across * EDGE);
        let row = |y: usize| {
            let y = (top + y).wrapping_sub(border);
            (y < self.conv.height).then(|| (image * self.conv.height + y) * self.conv.width * channels)
        };
        let rows: [Option<usize>; N] = std::array::from_fn(row);
        let column = |x: usize| {
            let x = (left + x).wrapping_sub(border);
            (x < self.conv.width).then(|| x * channels)
        };
        let columns: [Option<usize>; N] = std::array::from_fn(column);
        std::array::from_fn(|at| Some(rows[at / N]? + columns[at % N]?))
    }
}

/// The convolution of images with transformed weights, finished.
pub fn convolve<T: Real>(conv: &Conv, x: &[T], weights: &Packed<T>, finish: Finish<'_, T>, out: &mut [T]) {
    let (isa, cut) = (Isa::detect(), Cut::of(conv));
    let (inputs, outputs) = (conv.inputs, conv.outputs);
    let step = outputs.next_multiple_of(PANEL);
    // Rows of tiles a task takes: what its caches hold, and an equal share for every thread.
    let at_once = (CACHED / (PLACES * (inputs + step))).clamp(48, 192);
    let threads = rayon::current_num_threads();
    let tasks = cut.tiles().div_ceil(at_once).next_multiple_of(threads);
    let rows = (conv.batch * cut.down).div_ceil(tasks);
    let mut pieces = Vec::new();
    let mut rest = out;
    for first in (0..conv.batch * cut.down).step_by(rows) {
        let count = rows.min(conv.batch * cut.down - first);
        let lines: usize = (first..first + count)
            .map(|row| EDGE.min(conv.height - row % cut.down * EDGE))
            .sum();
        let (piece, after) = rest.split_at_mut(lines * conv.width * outputs);
        pieces.push((first * cut.across, count * cut.across, piece));
        rest = after;
    }
    pieces.into_par_iter().for_each(|(first, count, out)| {
        // Whole blocks of the products' kernel; what the last one has too many is computed and not looked at.
        let held = count.next_multiple_of(ROWS);
        let mut tiles = Scratch::take(PLACES * held * inputs);
        for tile in 0..count {
            let at = cut.pixels::<6, PLACES>(first + tile, 1, inputs);
            let spot = Spot {
                first: tile * inputs,
                stride: held * inputs,
                channels: inputs,
            };
            T::spread_input(isa, x, &at, &mut tiles, spot);
        }
        let mut products = Scratch::take(PLACES * held * step);
        for place in 0..PLACES {
            multiply(
                isa,
                &tiles[place * held * inputs..][..held * inputs],
                (weights, place * inputs, inputs),
                (&mut products[place * held * step..][..held * step], step),
            );
        }
        let base = first / cut.across;
        let base = (base / cut.down * conv.height + base % cut.down * EDGE) * conv.width * outputs;
        for tile in 0..count {
            let at = cut.pixels::<4, 16>(first + tile, 0, outputs);
            let at = at.map(|at| at.map(|at| at - base));
            let spot = Spot {
                first: tile * step,
                stride: held * step,
                channels: outputs,
            };
            T::gather_output(isa, &products, spot, finish, out, &at);
        }
    });
}

/// The loss's gradient by the weights, `[tap][input][output]`.
pub fn weight_gradient<T: Real>(conv: &Conv, x: &[T], dy: &[T], dw: &mut [T]) {
    let (isa, cut) = (Isa::detect(), Cut::of(conv));
    let (inputs, outputs) = (conv.inputs, conv.outputs);
    let step = outputs.next_multiple_of(PANEL);
    // As many tiles at a time as the shared cache holds: a size that the shapes alone decide, as the order of sums is.
    let at_once = (SWEPT / (PLACES * (inputs + step))).clamp(64, 1024);
    let mut sums = Scratch::take(PLACES * inputs * outputs);
    sums.fill(T::ZERO);
    for first in (0..cut.tiles()).step_by(at_once) {
        let count = at_once.min(cut.tiles() - first);
        // Tasks write `[task][place][tile][channel]`: a task's tiles lie together.
        let (mut tiles, mut gradients) = (
            Scratch::take(PLACES * count * inputs),
            Scratch::take(PLACES * count * step),
        );
        if step > outputs {
            gradients.fill(T::ZERO);
        }
        let tasks = tiles
            .par_chunks_mut(PLACES * SHARE * inputs)
            .zip(gradients.par_chunks_mut(PLACES * SHARE * step));
        tasks.enumerate().for_each(|(task, (tiles, gradients))| {
            let n = SHARE.min(count - task * SHARE);
            for tile in 0..n {
                let spot = |step: usize, channels: usize| Spot {
                    first: tile * step,
                    stride: n * step,
                    channels,
                };
                let number = first + task * SHARE + tile;
                let at = cut.pixels::<6, PLACES>(number, 1, inputs);
                T::spread_input(isa, x, &at, tiles, spot(inputs, inputs));
                let at = cut.pixels::<4, 16>(number, 0, outputs);
                T::spread_gradient(isa, dy, &at, gradients, spot(step, outputs));
            }
        });
        sums.par_chunks_mut(inputs * outputs)
            .enumerate()
            .for_each(|(place, sums)| {
                for from in (0..count).step_by(SHARE) {
                    let n = SHARE.min(count - from);
                    let at = from * PLACES + place * n;
                    let tiles = Sweep {
                        x: &tiles[at * inputs..][..n * inputs],
                        x_rows: &[0],
                        x_step: inputs,
                        inputs,
                        y: &gradients[at * step..][..n * step],
                        y_rows: &[0],
                        y_step: step,
                        panels: step / PANEL,
                        width: n,
                    };
                    accumulate(isa, tiles, outputs, sums);
                }
            });
    }
    let mut windows = Scratch::take(9 * inputs * outputs);
    windows
        .par_chunks_mut(9 * outputs)
        .enumerate()
        .for_each(|(k, windows)| {
            for n in 0..outputs {
                let places = std::array::from_fn(|place| sums[(place * inputs + k) * outputs + n]);
                for (tap, value) in window_of(&places).into_iter().enumerate() {
                    windows[tap * outputs + n] = value;
                }
            }
        });
    dw.par_chunks_mut(outputs).enumerate().for_each(|(row, dw)| {
        let (tap, k) = (row / inputs, row % inputs);
        dw.copy_from_slice(&windows[(k * 9 + tap) * outputs..][..outputs]);
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::imaging::Rng;

    fn numbers<T: Real>(n: usize, rng: &mut Rng) -> Vec<T> {
        (0..n).map(|_| T::of(rng.range(-1.0, 1.0))).collect()
    }

    /// max|a - b| / max|b|
    fn error(a: &[f64], b: &[f64]) -> f64 {
        let largest = |values: &mut dyn Iterator<Item = f64>| values.map(f64::abs).fold(0.0, f64::max);
        largest(&mut a.iter().zip(b).map(|(a, b)| a - b)) / largest(&mut b.iter().copied())
    }

    fn wide<T: Real>(values: &[T]) -> Vec<f64> {
        values.iter().map(|v| v.wide()).collect()
    }

    /// The sums as they are defined: output, gradient by the input, gradient by the weights.
    fn direct(conv: &Conv, x: &[f64], w: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
        for pixel in 0..conv.pixels() {
            let (row, column) = (pixel / conv.width % conv.height, pixel % conv.width);
            for tap in 0..9 {
                let (to_row, to_column) = (row + tap / 3, column + tap % 3);
                if !(1..=conv.height).contains(&to_row) || !(1..=conv.width).contains(&to_column) {
                    continue;
                }
                let other = pixel + (tap / 3) * conv.width + tap % 3 - conv.width - 1;
                for k in 0..conv.inputs {
                    for n in 0..conv.outputs {
                        let (at_w, at_x) = (
                            (tap * conv.inputs + k) * conv.outputs + n,
                            other * conv.inputs + k,
                        );
                        y[pixel * conv.outputs + n] += x[at_x] * w[at_w];
                        dx[at_x] += dy[pixel * conv.outputs + n] * w[at_w];
                        dw[at_w] += dy[pixel * conv.outputs + n] * x[at_x];
                    }
                }
            }
        }
        [y, dx, dw]
    }

    fn check<T: Real>(conv: Conv, seed: u64, tolerance: f64) {
        let mut rng = Rng::new(seed);
        let x: Vec<T> = numbers(conv.pixels() * conv.inputs, &mut rng);
        let w: Vec<T> = numbers(conv.weights(), &mut rng);
        let dy: Vec<T> = numbers(conv.pixels() * conv.outputs, &mut rng);
        let expected = direct(&conv, &wide(&x), &wide(&w), &wide(&dy));
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        let packed = transform_weights(conv.inputs, conv.outputs, |tap, k, n| {
            w[(tap * conv.inputs + k) * conv.outputs + n]
        });
        convolve(&conv, &x, &packed, Finish::NOTHING, &mut y);
        let turned = Conv {
            inputs: conv.outputs,
            outputs: conv.inputs,
            ..conv
        };
        let packed = transform_weights(conv.outputs, conv.inputs, |tap, k, n| {
            w[((8 - tap) * conv.inputs + n) * conv.outputs + k]
        });
        convolve(&turned, &dy, &packed, Finish::NOTHING, &mut dx);
        weight_gradient(&conv, &x, &dy, &mut dw);
        for (name, got, expected) in [
            ("y", y, &expected[0]),
            ("dx", dx, &expected[1]),
            ("dw", dw, &expected[2]),
        ] {
            let error = error(&wide(&got), expected);
            assert!(error <= tolerance, "{name} of {conv:?}: {error:e}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_image_convolves_as_its_definition_says(
            (height, width) in (1usize..=21, 1usize..=21),
            (inputs, outputs) in (1usize..=3, 1usize..=5),
            batch in 1usize..=3,
            seed in any::<u64>(),
        ) {
            let conv = Conv { batch, height, width, inputs: 8 * inputs, outputs: 8 * outputs, kernel: 3 };
            check::<f64>(conv, seed, 1e-12);
            check::<f32>(conv, seed, 2e-5);
        }
    }

    /// More than one block of tiles, for the products and for the weight gradient, and images up to 128 pixels.
    #[test]
    fn images_of_many_blocks_convolve_as_their_definition_says() {
        for (height, width) in [(4, 4), (64, 64), (128, 127), (5, 128)] {
            let conv = Conv {
                batch: 2,
                height,
                width,
                inputs: 16,
                outputs: 8,
                kernel: 3,
            };
            check::<f32>(conv, 1, 2e-5);
        }
    }

    #[test]
    fn bias_and_relu_come_after_the_sums() {
        let conv = Conv {
            batch: 1,
            height: 5,
            width: 6,
            inputs: 8,
            outputs: 8,
            kernel: 3,
        };
        let mut rng = Rng::new(2);
        let (x, w): (Vec<f64>, Vec<f64>) = (
            numbers(conv.pixels() * 8, &mut rng),
            numbers(conv.weights(), &mut rng),
        );
        let bias: Vec<f64> = numbers(8, &mut rng);
        let packed = transform_weights(8, 8, |tap, k, n| w[(tap * 8 + k) * 8 + n]);
        let convolved = |finish: Finish<'_, f64>| {
            let mut y = vec![0.0; conv.pixels() * 8];
            convolve(&conv, &x, &packed, finish, &mut y);
            y
        };
        let plain = convolved(Finish::NOTHING);
        let finished = convolved(Finish {
            bias: &bias,
            relu: true,
        });
        for (at, (finished, plain)) in finished.iter().zip(plain).enumerate() {
            assert_eq!(*finished, (plain + bias[at % 8]).max(0.0));
        }
    }
}
