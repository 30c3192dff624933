use proptest::prelude::*;

use super::*;
use crate::imaging::Rng;

fn numbers<T: Real>(n: usize, rng: &mut Rng) -> Vec<T> {
    (0..n).map(|_| T::of(rng.range(-1.0, 1.0))).collect()
}

fn as_they_are<'a, T>(weights: &'a [T], conv: &Conv) -> Windows<'a, T> {
    Windows {
        weights,
        inputs: conv.inputs,
        outputs: conv.outputs,
        turned: false,
    }
}

fn by_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(work)
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

/// Both forms against the definition.
fn check<T: Real>(conv: Conv, seed: u64, tolerance: f64) {
    check_form::<T, _, 6, 4>(Four, conv, seed, tolerance);
    check_form::<T, _, 4, 2>(Two, conv, seed, tolerance);
}

fn check_form<T: Real, F: Form<I, O>, const I: usize, const O: usize>(
    form: F,
    conv: Conv,
    seed: u64,
    tolerance: f64,
) {
    let mut rng = Rng::new(seed);
    let x: Vec<T> = numbers(conv.pixels() * conv.inputs, &mut rng);
    let w: Vec<T> = numbers(conv.weights(), &mut rng);
    let dy: Vec<T> = numbers(conv.pixels() * conv.outputs, &mut rng);
    let expected = direct(&conv, &wide(&x), &wide(&w), &wide(&dy));
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    let mut windows = as_they_are(&w, &conv);
    convolve(
        form,
        &conv,
        Beside::one(&x[..], conv.inputs),
        Weights::Kept(&transform_weights(form, windows)),
        Finish::NOTHING,
        Beside::one(&mut y[..], conv.outputs),
    );
    let turned = Conv {
        inputs: conv.outputs,
        outputs: conv.inputs,
        ..conv
    };
    windows.turned = true;
    convolve(
        form,
        &turned,
        Beside::one(&dy[..], conv.outputs),
        Weights::Kept(&transform_weights(form, windows)),
        Finish::NOTHING,
        Beside::one(&mut dx[..], conv.inputs),
    );
    weight_gradient(form, &conv, Beside::one(&x[..], conv.inputs), &dy, &mut dw);
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
        (height, width) in prop_oneof![(1usize..=21, 1usize..=21), (4usize..=128, 4usize..=128)],
        (inputs, outputs) in (1usize..=3, 1usize..=5),
        batch in 1usize..=2,
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

/// Windows too many for a task's cache: the products of all tiles together, and the weights' gradient too.
#[test]
fn many_channels_convolve_as_their_definition_says() {
    let conv = Conv {
        batch: 3,
        height: 8,
        width: 12,
        inputs: 72,
        outputs: 80,
        kernel: 3,
    };
    check::<f64>(conv, 3, 1e-12);
    check::<f32>(conv, 3, 2e-5);
    // More tiles than are summed at a time.
    let large = Conv {
        batch: 1,
        height: 65,
        width: 66,
        outputs: 64,
        ..conv
    };
    check_form::<f32, _, 4, 2>(Two, large, 4, 2e-5);
}

/// Shares of tiles, the last of which has few of them.
#[test]
fn shared_tiles_convolve_as_their_definition_says() {
    for batch in [SHARE - 1, SHARE, SHARE + 1, SHARE + 4, SHARE + 5, 2 * SHARE + 2] {
        let conv = Conv {
            batch,
            height: 2,
            width: 2,
            inputs: 128,
            outputs: 136,
            kernel: 3,
        };
        by_threads(4, || check_form::<f32, _, 4, 2>(Two, conv, 5, 2e-5));
    }
}

/// Weights for these images alone are transformed 128 columns at a time by two threads, more by many, and say what kept ones say, to
/// the bit.
#[test]
fn weights_for_once_are_those_that_are_kept() {
    let conv = Conv {
        batch: 1,
        height: 4,
        width: 4,
        inputs: 1024,
        outputs: 264,
        kernel: 3,
    };
    let mut rng = Rng::new(6);
    let w: Vec<f32> = numbers(conv.weights(), &mut rng);
    let back = Conv {
        inputs: conv.outputs,
        outputs: conv.inputs,
        ..conv
    };
    for (conv, turned) in [(conv, false), (back, true)] {
        let x: Vec<f32> = numbers(conv.pixels() * conv.inputs, &mut rng);
        let windows = Windows {
            weights: &w,
            inputs: 1024,
            outputs: 264,
            turned,
        };
        let convolved = |weights: Weights<'_, f32>| {
            let mut y = vec![f32::NAN; conv.pixels() * conv.outputs];
            let (x, out) = (
                Beside::one(&x[..], conv.inputs),
                Beside::one(&mut y[..], conv.outputs),
            );
            convolve(Two, &conv, x, weights, Finish::NOTHING, out);
            y
        };
        let kept = convolved(Weights::Kept(&transform_weights(Two, windows)));
        assert!(kept.iter().all(|value| value.is_finite()));
        for threads in [2, 17] {
            let once = by_threads(threads, || convolved(Weights::Once(windows)));
            assert!(once == kept, "{threads} threads");
        }
    }
}

/// Of images of any number of rows of tiles, by one and by two.
#[test]
fn bias_relu_and_gate_come_after_the_sums() {
    for height in [1, 4, 5, 9, 13] {
        check_finish::<f64, _, 6, 4>(Four, height);
        check_finish::<f32, _, 6, 4>(Four, height);
        check_finish::<f32, _, 4, 2>(Two, height);
    }
}

fn check_finish<T: Real, F: Form<I, O>, const I: usize, const O: usize>(form: F, height: usize) {
    let conv = Conv {
        batch: 2,
        height,
        width: 6,
        inputs: 8,
        outputs: 8,
        kernel: 3,
    };
    let mut rng = Rng::new(2);
    let x: Vec<T> = numbers(conv.pixels() * 8, &mut rng);
    let w: Vec<T> = numbers(conv.weights(), &mut rng);
    let bias: Vec<T> = numbers(8, &mut rng);
    let windows = as_they_are(&w, &conv);
    let packed = transform_weights(form, windows);
    let convolved = |finish: Finish<'_, T>| {
        let mut y = vec![T::of(f64::NAN); conv.pixels() * 8];
        let out = Beside::one(&mut y[..], 8);
        convolve(
            form,
            &conv,
            Beside::one(&x[..], 8),
            Weights::Kept(&packed),
            finish,
            out,
        );
        y
    };
    let above = |value: T| if value > T::ZERO { value } else { T::ZERO };
    let plain = convolved(Finish::NOTHING);
    let finished = convolved(Finish {
        bias: &bias,
        relu: true,
        gate: &[],
    });
    for (at, (finished, plain)) in finished.iter().zip(&plain).enumerate() {
        assert!(*finished == above(*plain + bias[at % 8]), "{height} rows, {at}");
    }
    let gate: Vec<T> = numbers(plain.len(), &mut rng);
    let gated = convolved(Finish {
        gate: &gate,
        ..Finish::NOTHING
    });
    for (at, (gated, plain)) in gated.iter().zip(plain).enumerate() {
        let expected = if gate[at] > T::ZERO { plain } else { T::ZERO };
        assert!(*gated == expected, "{height} rows, {at}");
    }
}

/// Many threads share tiles where one takes them from beginning to end.
#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let conv = Conv {
        batch: 1,
        height: 20,
        width: 12,
        inputs: 16,
        outputs: 8,
        kernel: 3,
    };
    let mut rng = Rng::new(3);
    let x: Vec<f32> = numbers(conv.pixels() * 16, &mut rng);
    let w: Vec<f32> = numbers(conv.weights(), &mut rng);
    let windows = as_they_are(&w, &conv);
    let convolved = |threads: usize| {
        by_threads(threads, || {
            let mut y = vec![f32::NAN; conv.pixels() * 8];
            let packed = transform_weights(Four, windows);
            let (x, out) = (Beside::one(&x[..], 16), Beside::one(&mut y[..], 8));
            convolve(Four, &conv, x, Weights::Kept(&packed), Finish::NOTHING, out);
            y
        })
    };
    let one = convolved(1);
    assert!([2, 5, 16].into_iter().all(|threads| convolved(threads) == one));
}

/// Rows of the gradient are divided by threads, in one chunk of tiles and in two; the order of sums is not.
#[test]
fn a_gradient_by_weights_is_the_same_by_any_number_of_threads() {
    let mut rng = Rng::new(8);
    for (edge, inputs, outputs) in [(9, 136, 72), (66, 72, 64), (20, 16, 8)] {
        let conv = Conv {
            batch: 1,
            height: edge,
            width: edge,
            inputs,
            outputs,
            kernel: 3,
        };
        let x: Vec<f32> = numbers(conv.pixels() * inputs, &mut rng);
        let dy: Vec<f32> = numbers(conv.pixels() * outputs, &mut rng);
        let gradient = |threads: usize| {
            by_threads(threads, || {
                let mut dw = vec![f32::NAN; conv.weights()];
                weight_gradient(Two, &conv, Beside::one(&x[..], inputs), &dy, &mut dw);
                dw
            })
        };
        let one = gradient(1);
        assert!(one.iter().all(|value| value.is_finite()));
        for threads in [2, 5, 16] {
            assert!(gradient(threads) == one, "{threads} threads, {conv:?}");
        }
    }
}
