//! Kernels that read and write 16 bytes at a time give the bits of those that take a number a thread.

use super::*;

/// Values that begin at a multiple of 64 bytes, or at one number more than that, where nothing wide can be read.
struct Placed<T>(Vec<T>, usize);

impl<T: Copy> Placed<T> {
    fn new(values: &[T], is_aligned: bool) -> Placed<T> {
        let (room, size) = (64 / size_of::<T>() + 1, size_of::<T>());
        let mut all = vec![values[0]; values.len() + room];
        let first = (64 - all.as_ptr() as usize % 64) / size % (64 / size);
        let first = first + usize::from(!is_aligned);
        all[first..first + values.len()].copy_from_slice(values);
        Placed(all, first)
    }

    fn at(&self) -> u64 {
        self.0[self.1..].as_ptr() as u64
    }

    fn values(&self, count: usize) -> &[T] {
        &self.0[self.1..self.1 + count]
    }
}

/// What `work` makes of the same numbers where it can take them widely, and where it cannot.
fn hold<T: Copy + PartialEq + std::fmt::Debug>(
    what: &str,
    inputs: &[&[T]],
    count: usize,
    work: impl Fn(&[u64], u64) -> Result<()>,
) {
    let [wide, narrow] = [true, false].map(|is_aligned| {
        let inputs: Vec<Placed<T>> = inputs.iter().map(|x| Placed::new(x, is_aligned)).collect();
        let out = Placed::new(&vec![inputs[0].0[0]; count], is_aligned);
        let addresses: Vec<u64> = inputs.iter().map(Placed::at).collect();
        work(&addresses, out.at()).unwrap();
        out.values(count).to_vec()
    });
    assert_eq!(wide, narrow, "{what}");
}

#[test]
fn wide_kernels_give_the_bits_of_narrow_ones() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(12);
    let (pool, up) = (
        Pool {
            batch: 2,
            height: 4,
            width: 6,
            channels: 16,
        },
        UpConv {
            batch: 2,
            height: 2,
            width: 3,
            inputs: 8,
            outputs: 16,
        },
    );
    // Few values, so that windows have several largest.
    let x: Vec<f32> = (0..2 * 4 * 6 * 16).map(|_| rng.below(4) as f32 - 1.5).collect();
    let (below, small) = (numbers(x.len() / 4, &mut rng), narrow(&x));
    let image = numbers(12 * 8, &mut rng);
    let up_weights = numbers(up.weights(), &mut rng);
    let bias = Placed::new(&numbers(16, &mut rng), true);
    hold("pool", &[&x], x.len() / 4, |a, out| {
        ops::max_pool(&gpu, Kind::F32, &pool, a[0], out)
    });
    hold("pool in bf16", &[&small], x.len() / 4, |a, out| {
        ops::max_pool(&gpu, Kind::Bf16, &pool, a[0], out)
    });
    for is_added in [false, true] {
        hold("its gradient", &[&x, &below], x.len(), |a, out| {
            ops::max_pool_gradient(&gpu, &pool, (a[0], a[1]), is_added, out)
        });
    }
    hold("up-convolution", &[&image, &up_weights], x.len(), |a, out| {
        ops::up_conv(&gpu, Kind::F32, &up, (a[0], a[1], bias.at()), out)
    });
    let (image, up_weights) = (narrow(&image), narrow(&up_weights));
    hold("the same in bf16", &[&image, &up_weights], x.len(), |a, out| {
        ops::up_conv(&gpu, Kind::Bf16, &up, (a[0], a[1], bias.at()), out)
    });
    hold("gradients side by side", &[&x], x.len(), |a, out| {
        ops::unshuffle(&gpu, &up, a[0], out)
    });
    hold("gate", &[&x], x.len(), |a, out| {
        ops::gated(&gpu, x.len(), out, a[0])
    });
    hold("sum", &[&x, &x], x.len(), |a, out| {
        ops::add_gated(&gpu, x.len(), out, a[0], a[1])
    });
    let size = [0.1f32];
    // All begins as the first of these: means of squares have no sign.
    let above = vec![0.25f32; x.len()];
    hold("step of adam", &[&above, &x], 3 * x.len(), |a, out| {
        ops::adam(&gpu, x.len(), out, [a[1], at(&size)], [0.9, 0.999], 1e-7)
    });
    // Those of which four are read at a time, and others.
    for outputs in [4, 5, 8] {
        let conv = Conv {
            batch: 2,
            height: 4,
            width: 6,
            inputs: 16,
            outputs,
            kernel: 1,
        };
        let weights = Placed::new(&numbers(16 * outputs, &mut rng), true);
        let by_logits = Placed::new(&numbers(48 * outputs, &mut rng), true);
        hold("few outputs", &[&x], 48 * outputs, |a, out| {
            let images = [(a[0], 16)];
            let given = (weights.at(), bias.at());
            ops::conv(&gpu, Kind::F32, &conv, &images, given, true, out)
        });
        let part = Part::each(&conv, [16]).next().unwrap();
        hold("their gradient", &[&x], x.len(), |a, out| {
            let given = (by_logits.at(), weights.at());
            ops::conv_input_gradient(&gpu, &part, given, a[0], out)
        });
        // In fours or one by one, on the CPU too.
        let mut expected = vec![0.0; 48 * outputs];
        let (w, b) = (weights.values(16 * outputs), bias.values(outputs));
        conv.forward(Beside::one(&x, 16), &conv.prepare(w), b, true, &mut expected);
        let y = result(expected.len(), |out| {
            let given = (weights.at(), bias.at());
            ops::conv(&gpu, Kind::F32, &conv, &[(at(&x), 16)], given, true, out).unwrap();
        });
        same("few outputs", &y, &expected, 1e-5);
        let mut expected = x.clone();
        let dy = by_logits.values(48 * outputs);
        conv.input_gradient(dy, w, &x, Beside::one(&mut expected, 16));
        let dx = result(x.len(), |out| {
            ops::conv_input_gradient(&gpu, &part, (by_logits.at(), weights.at()), at(&x), out).unwrap();
        });
        same("their gradient", &dx, &expected, 1e-5);
    }
}

/// A gradient of pooling that is added to another is the sum of both, before the ReLU.
#[test]
fn a_pooling_s_gradient_is_added_to_another() {
    let Some(gpu) = Emulated::new() else { return };
    let mut rng = Rng::new(13);
    let pool = Pool {
        batch: 1,
        height: 4,
        width: 6,
        channels: 5,
    };
    let x = numbers(4 * 6 * 5, &mut rng);
    let (dy, mut sum) = (numbers(x.len() / 4, &mut rng), numbers(x.len(), &mut rng));
    let (mut expected, mut apart, mut whole) = (sum.clone(), x.clone(), sum.clone());
    pool.gradient(&x, &dy, &mut apart);
    add_gated(&mut whole, &apart, &x);
    pool.add_gradient(&x, &dy, &mut expected);
    assert_eq!(expected, whole);
    ops::max_pool_gradient(&gpu, &pool, (at(&x), at(&dy)), true, sum.as_mut_ptr() as u64).unwrap();
    assert_eq!(sum, expected);
}
