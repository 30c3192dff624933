//! The layers of stacks and those that look at every pixel.

use super::*;
use crate::model::kernels::{DensePool, Norm, Reach, Window};

#[test]
fn convolutions_of_stacks_are_the_cpu_s() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(11);
    let kinds = [
        ([3, 5, 4], 3, 5, Reach::cube(1)),
        ([4, 6, 5], 2, 4, Reach::cube(2)),
        ([2, 9, 11], 3, 4, Reach::within(3, 2)),
    ];
    for (size, inputs, outputs, reach) in kinds {
        let window = Window {
            stacks: 2,
            size,
            inputs,
            outputs,
            reach,
        };
        let x = numbers(window.voxels() * inputs, &mut rng);
        let w = numbers(window.weights(), &mut rng);
        let b = numbers(outputs, &mut rng);
        let dy = numbers(window.outcomes() * outputs, &mut rng);
        for relu in [false, true] {
            let mut expected = dy.clone();
            window.forward(&x, &window.prepare(&w), &b, relu, &mut expected);
            let y = result(dy.len(), |out| {
                ops::window(&gpu, &window, (at(&x), at(&w), at(&b)), relu, out).unwrap();
            });
            same("forward", &y, &expected, 1e-5);
        }
        for gate in [&[], &x[..]] {
            let mut expected = x.clone();
            window.input_gradient(&dy, &w, gate, &mut expected);
            let address = if gate.is_empty() { 0 } else { at(gate) };
            let dx = result(x.len(), |out| {
                ops::window_input_gradient(&gpu, &window, (at(&dy), at(&w)), address, out).unwrap();
            });
            same("gradient by the input", &dx, &expected, 1e-5);
        }
        let mut expected = w.clone();
        window.weight_gradient(&x, &dy, &mut expected);
        let dw = result(w.len(), |out| {
            ops::window_weight_gradient(&gpu, &window, (at(&x), at(&dy)), out).unwrap();
        });
        same("gradient by the weights", &dw, &expected, 1e-5);
    }
}

#[test]
fn pooling_at_every_pixel_is_the_cpu_s() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(12);
    let pool = DensePool {
        batch: 2,
        height: 7,
        width: 6,
        channels: 3,
        apart: 2,
    };
    // Few values, so that windows have several largest.
    let x: Vec<f32> = (0..2 * 7 * 6 * 3).map(|_| rng.below(3) as f32).collect();
    let dy = numbers(pool.outputs(), &mut rng);
    let (mut y, mut dx) = (dy.clone(), x.clone());
    pool.forward(&x, &mut y);
    pool.gradient(&x, &dy, &mut dx);
    let got = result(y.len(), |out| ops::dense_pool(&gpu, &pool, at(&x), out).unwrap());
    assert_eq!(got, y);
    let got = result(x.len(), |out| {
        ops::dense_pool_gradient(&gpu, &pool, (at(&x), at(&dy)), out).unwrap();
    });
    same("gradient", &got, &dx, 1e-6);
}

#[test]
fn normalisation_is_the_cpu_s() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(13);
    let norm = Norm {
        stacks: 2,
        pixels: 1500,
        channels: 3,
    };
    let x = numbers(2 * 1500 * 3, &mut rng);
    let dy = numbers(x.len(), &mut rng);
    let (scale, shift) = (numbers(3, &mut rng), numbers(3, &mut rng));
    for relu in [false, true] {
        let mut expected = x.clone();
        norm.forward(&x, (&scale, &shift), relu, &mut expected);
        let y = result(x.len(), |out| {
            ops::norm(&gpu, &norm, (at(&x), at(&scale), at(&shift)), relu, out).unwrap();
        });
        same("forward", &y, &expected, 1e-5);
    }
    let mut expected = vec![f32::NAN; norm.gradients()];
    norm.gradient(&x, &scale, &dy, &mut expected);
    let got = result(expected.len(), |out| {
        ops::norm_gradient(&gpu, &norm, (at(&x), at(&scale), at(&dy)), out).unwrap();
    });
    let (dx, learnt) = got.split_at(x.len());
    same("gradient by the input", dx, &expected[..x.len()], 1e-5);
    same(
        "gradients by scales and shifts",
        learnt,
        &expected[x.len()..],
        1e-4,
    );
}
