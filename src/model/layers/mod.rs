//! The layers as candle operations: a kernel forward, and an exact gradient of its own backward.
//!
//! Images are `(batch, height, width, channels)`. Every gradient comes from [`super::kernels`], on a GPU from
//! `super::cuda`; the network goes its way back through them itself, and candle's graph can too, which holds them against
//! finite differences. candle's own max pooling and nearest upsampling have wrong gradients and are not used.

mod conv;
mod dense;
mod norm;
mod op;
mod resample;
mod window;

pub use conv::{before_relu, conv, conv_concat, conv_concat_gradients, conv_gradients};
pub use dense::{dense_pool, dense_pool_gradient};
pub use norm::{norm, norm_gradients};
pub use resample::{
    add_before_relu, add_max_pool_gradient, concat, max_pool, max_pool_gradient, split_channels, up_conv,
    up_conv_gradients,
};
pub use window::{Stacked, window, window_gradients};

use std::any::Any;
use std::sync::OnceLock;

use candle_core::{CpuStorage, Layout, Result, Tensor, WithDType, bail};

use super::kernels::{Real, unwritten};

/// What a layer's input is to its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Images: nobody asks for the gradient by them.
    Images,
    /// The output of another layer.
    Layer,
    /// The output of a ReLU: the gradient is wanted before it, 0 where the input is.
    Relu,
}

/// What a layer keeps of weights that will stay as they are: how the kernels want them for images of one size, made when
/// they are first used.
pub struct Kept {
    /// Tiles that there will be at a time, about. The form of weights depends on this alone, so that an image gives the same numbers
    /// whichever others are beside it in fact.
    batch: usize,
    /// For images of this size (height, width).
    prepared: OnceLock<([usize; 2], Box<dyn Any + Send + Sync>)>,
}

impl Kept {
    /// Nothing yet, for so many images at a time.
    pub fn new(batch: usize) -> Kept {
        let prepared = OnceLock::new();
        Kept { batch, prepared }
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({:?})", self.prepared.get().map(|(size, _)| size))
    }
}

#[cfg(feature = "cudnn")]
impl Kept {
    /// What `prepare` lays out for images of this size (height, width); `None` where another size's is kept.
    ///
    /// # Errors
    /// Those of `prepare`, which is asked again the next time.
    pub fn or_try<P: Any + Send + Sync>(
        &self,
        size: [usize; 2],
        prepare: impl FnOnce() -> Result<P>,
    ) -> Result<Option<&P>> {
        if self.prepared.get().is_none() {
            // Whoever was faster has kept the same.
            let _ = self.prepared.set((size, Box::new(prepare()?)));
        }
        let kept = self.prepared.get().filter(|(known, _)| *known == size);
        Ok(kept.and_then(|(_, prepared)| prepared.downcast_ref()))
    }
}

/// Gives `run` the weights that `prepare` lays out for images of this size (height, width), from what is kept if it is for
/// that size.
pub(super) fn with_kept<P: Any + Send + Sync, R>(
    kept: Option<&Kept>,
    size: [usize; 2],
    prepare: impl Fn() -> P,
    run: impl FnOnce(&P) -> R,
) -> R {
    if let Some(kept) = kept {
        let (known, prepared) = kept.prepared.get_or_init(|| (size, Box::new(prepare())));
        if let Some(prepared) = prepared.downcast_ref().filter(|_| *known == size) {
            return run(prepared);
        }
    }
    run(&prepare())
}

/// What has to be above 0 where the gradient by the input `x` is not 0.
pub(super) fn gate<T>(source: Source, x: &[T]) -> &[T] {
    if source == Source::Relu { x } else { &[] }
}

/// The size of images side by side, and the channels of each.
fn beside(a: &Tensor, b: &Tensor) -> Result<([usize; 3], (usize, usize))> {
    let (batch, height, width, in_a) = a.dims4()?;
    let (_, _, _, in_b) = b.dims4()?;
    if a.dims()[..3] != b.dims()[..3] {
        bail!(
            "images {:?} and {:?} do not lie side by side",
            a.shape(),
            b.shape()
        );
    }
    Ok(([batch, height, width], (in_a, in_b)))
}

/// The values of a contiguous tensor.
pub(super) fn values<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&T::cpu_storage_as_slice(storage)?[from..to]),
        None => bail!(
            "a layer takes contiguous tensors, not the strides {:?}",
            layout.stride()
        ),
    }
}

/// A new tensor's storage, filled by `fill`.
pub(super) fn filled<T: Real + WithDType>(len: usize, fill: impl FnOnce(&mut [T])) -> CpuStorage {
    let mut out = unwritten(len);
    fill(&mut out);
    T::to_cpu_storage_owned(out)
}

/// Runs the body with `$t` as the storage's number type.
macro_rules! by_dtype {
    ($storage:expr, $t:ident => $body:expr) => {
        match candle_core::backend::BackendStorage::dtype($storage) {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            other => candle_core::bail!("a layer computes in f32 or f64, not in {other:?}"),
        }
    };
}
pub(super) use by_dtype;

#[cfg(test)]
pub(super) mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::imaging::Rng;
    use crate::model::kernels::Reach;

    /// Normal values in double precision.
    pub fn random(shape: &[usize], rng: &mut Rng) -> Var {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Holds every input's gradient of the scalar `f` against central differences.
    pub fn check_gradients(inputs: &[Var], f: impl Fn(&[Var]) -> Result<Tensor>) {
        const STEP: f64 = 1e-5;
        let grads = f(inputs).unwrap().backward().unwrap();
        for (n, input) in inputs.iter().enumerate() {
            let grad = grads.get(input).expect("every input has a gradient");
            assert_eq!(grad.dims(), input.dims());
            let grad: Vec<f64> = grad.flatten_all().unwrap().to_vec1().unwrap();
            let values: Vec<f64> = input.flatten_all().unwrap().to_vec1().unwrap();
            let scale = grad.iter().fold(1e-3, |m: f64, g| m.max(g.abs()));
            for i in (0..values.len()).step_by(1 + values.len() / 200) {
                let at = |value: f64| {
                    let mut moved = values.clone();
                    moved[i] = value;
                    let moved = Var::from_vec(moved, input.dims(), &Device::Cpu).unwrap();
                    let mut inputs = inputs.to_vec();
                    inputs[n] = moved;
                    f(&inputs).unwrap().to_scalar::<f64>().unwrap()
                };
                let slope = (at(values[i] + STEP) - at(values[i] - STEP)) / (2.0 * STEP);
                assert!(
                    (slope - grad[i]).abs() <= 1e-6 * scale,
                    "input {n}, value {i}: the slope is {slope}, the gradient {}",
                    grad[i]
                );
            }
        }
    }

    /// A scalar that weighs every output differently, so that no gradient is hidden by symmetry.
    pub fn weighed(y: &Tensor) -> Result<Tensor> {
        let n = y.elem_count();
        let weights: Vec<f64> = (0..n).map(|i| ((i * 7919 % 101) as f64 - 50.0) / 50.0).collect();
        (y.flatten_all()? * Tensor::from_vec(weights, n, y.device())?)?.sum_all()
    }

    #[test]
    fn a_convolution_has_the_gradient_of_its_slope() {
        let mut rng = Rng::new(1);
        // Channels that are no multiple of 8 are summed as they are defined; small images take tiles of 2x2 pixels, larger
        // ones of 4x4; the last has tiles enough for its weights' gradient too.
        let shapes = [
            ([2, 6, 10, 3], 5, 3),
            ([2, 5, 3, 3], 5, 1),
            ([1, 4, 3, 8], 8, 3),
            ([1, 5, 9, 16], 8, 3),
            ([4, 11, 10, 8], 16, 3),
        ];
        for ((shape, outputs, kernel), relu) in shapes.into_iter().flat_map(|s| [(s, false), (s, true)]) {
            let inputs = [
                random(&shape, &mut rng),
                random(&[kernel, kernel, shape[3], outputs], &mut rng),
                random(&[outputs], &mut rng),
            ];
            check_gradients(&inputs, |v| weighed(&conv(&v[0], &v[1], &v[2], relu, None)?));
        }
    }

    #[test]
    fn a_pooling_has_the_gradient_of_its_slope() {
        let x = random(&[2, 6, 10, 3], &mut Rng::new(2));
        check_gradients(&[x], |v| weighed(&max_pool(&v[0])?));
    }

    #[test]
    fn an_up_convolution_has_the_gradient_of_its_slope() {
        let mut rng = Rng::new(3);
        let inputs = [
            random(&[2, 3, 5, 6], &mut rng),
            random(&[2, 2, 3, 6], &mut rng),
            random(&[3], &mut rng),
        ];
        check_gradients(&inputs, |v| weighed(&up_conv(&v[0], &v[1], &v[2], None)?));
    }

    #[test]
    fn a_concatenation_has_the_gradient_of_its_slope() {
        let mut rng = Rng::new(4);
        let inputs = [random(&[2, 3, 5, 2], &mut rng), random(&[2, 3, 5, 3], &mut rng)];
        check_gradients(&inputs, |v| weighed(&concat(&v[0], &v[1])?));
    }

    /// Of channels that transforms take, and of others; the bias has no part in candle's graph.
    #[test]
    fn a_convolution_of_a_concatenation_has_the_gradient_of_its_slope() {
        let mut rng = Rng::new(10);
        for (in_a, in_b, relu) in [(8, 8, true), (3, 2, false)] {
            let inputs = [
                random(&[1, 5, 9, in_a], &mut rng),
                random(&[1, 5, 9, in_b], &mut rng),
                random(&[3, 3, in_a + in_b, 8], &mut rng),
            ];
            let bias = random(&[8], &mut rng);
            check_gradients(&inputs, |v| {
                weighed(&conv_concat([&v[0], &v[1]], &v[2], &bias, relu, None)?)
            });
            let [a, b, weight] = [&inputs[0], &inputs[1], &inputs[2]];
            let both = concat(a, b).unwrap();
            let apart = conv_concat([a, b], weight, &bias, relu, None).unwrap();
            let joined = conv(&both, weight, &bias, relu, None).unwrap();
            let off = (apart - joined).unwrap().abs().unwrap().max_all().unwrap();
            assert!(off.to_scalar::<f64>().unwrap() < 1e-12);
            let dy = random(&[1, 5, 9, 8], &mut rng);
            let (_, _, apart) = conv_concat_gradients([a, b], weight, &dy).unwrap();
            let (_, _, joined) = conv_gradients(&both, weight, &dy, Source::Layer).unwrap();
            assert_eq!(apart.to_vec1::<f64>().unwrap(), joined.to_vec1::<f64>().unwrap());
        }
    }

    /// A pooling's gradient, added where another lies, is the sum of both before the ReLU.
    #[test]
    fn a_pooling_s_gradient_is_added_in_place() {
        let mut rng = Rng::new(11);
        // More channels than fill a vector, and not a multiple of it.
        for channels in [3, 16, 21] {
            let (x, other) = (
                random(&[2, 4, 6, channels], &mut rng),
                random(&[2, 4, 6, channels], &mut rng),
            );
            let dy = random(&[2, 2, 3, channels], &mut rng);
            let expected = max_pool_gradient(&x, &dy).unwrap();
            add_before_relu(&expected, &other, &x).unwrap();
            let sum = other.copy().unwrap();
            add_max_pool_gradient(&sum, &x, &dy).unwrap();
            let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(values(&sum), values(&expected));
        }
        assert!(add_max_pool_gradient(&x_of(1), &x_of(2), &x_of(1)).is_err());
    }

    /// Of so many channels the form depends on how many images there will be, not on how many there are.
    #[test]
    fn an_image_gives_the_same_numbers_whichever_are_beside_it() {
        let numbers = |shape: &[usize], seed| {
            let values = random(shape, &mut Rng::new(seed));
            values.as_tensor().to_dtype(DType::F32).unwrap()
        };
        let (weight, bias) = (numbers(&[3, 3, 256, 256], 15), numbers(&[256], 16));
        let x = numbers(&[16, 8, 8, 256], 17);
        let of = |batch: usize, x: &Tensor| {
            let y = conv(
                x,
                &weight,
                &bias,
                true,
                Some(std::sync::Arc::new(Kept::new(batch))),
            )
            .unwrap();
            y.get(0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let alone = x.narrow(0, 0, 1).unwrap().contiguous().unwrap();
        for batch in [1, 16] {
            assert!(of(batch, &alone) == of(batch, &x), "weights for {batch} images");
        }
        assert!(of(1, &x) != of(16, &x), "both are of one form");
    }

    #[test]
    fn no_image_and_weights_that_do_not_fit_are_refused() {
        let weights = |inputs: usize| random(&[3, 3, inputs, 8], &mut Rng::new(13));
        let bias = random(&[8], &mut Rng::new(14));
        let of = |images: &[usize], inputs| {
            let x = Tensor::zeros(images, DType::F64, &Device::Cpu).unwrap();
            conv(&x, weights(inputs).as_tensor(), bias.as_tensor(), false, None)
        };
        assert!(of(&[1, 4, 4, 8], 8).is_ok());
        for (images, inputs) in [([0, 4, 4, 8], 8), ([1, 0, 4, 8], 8), ([1, 4, 4, 8], 16)] {
            let error = of(&images, inputs).unwrap_err().to_string();
            assert!(error.contains("do not convolve"), "{images:?}: {error}");
        }
    }

    fn x_of(images: usize) -> Tensor {
        random(&[images, 4, 4, 2], &mut Rng::new(12)).as_tensor().clone()
    }

    #[test]
    fn a_convolution_of_stacks_has_the_gradient_of_its_slope() {
        let mut rng = Rng::new(7);
        let kinds = [
            ([4, 5, 6, 3], &[3, 3, 3, 3, 4][..], 2, Reach::cube(1)),
            ([4, 6, 5, 2], &[3, 3, 3, 2, 5], 4, Reach::cube(2)),
            ([2, 9, 8, 2], &[3, 3, 2, 3], 1, Reach::within(3, 3)),
        ];
        for ((shape, weights, depth, reach), relu) in kinds.into_iter().flat_map(|k| [(k, false), (k, true)])
        {
            let inputs = [
                random(&shape, &mut rng),
                random(weights, &mut rng),
                random(&weights[weights.len() - 1..], &mut rng),
            ];
            let how = (Stacked { depth, reach }, relu);
            check_gradients(&inputs, |v| weighed(&window(&v[0], &v[1], &v[2], how, None)?));
        }
    }

    #[test]
    fn a_normalisation_has_the_gradient_of_its_slope() {
        let mut rng = Rng::new(8);
        for relu in [false, true] {
            let inputs = [
                random(&[4, 3, 5, 3], &mut rng),
                random(&[3], &mut rng),
                random(&[3], &mut rng),
            ];
            check_gradients(&inputs, |v| weighed(&norm(&v[0], &v[1], &v[2], 2, relu)?));
        }
    }

    #[test]
    fn a_pooling_at_every_pixel_has_the_gradient_of_its_slope() {
        let x = random(&[2, 7, 9, 3], &mut Rng::new(9));
        check_gradients(&[x], |v| weighed(&dense_pool(&v[0], 2)?));
    }

    /// A skip connection: one tensor goes down through pooling and up-convolution and across by concatenation.
    #[test]
    fn a_tensor_used_twice_gets_both_gradients() {
        let mut rng = Rng::new(5);
        let inputs = [
            random(&[1, 4, 6, 2], &mut rng),
            random(&[3, 3, 2, 3], &mut rng),
            random(&[3], &mut rng),
            random(&[2, 2, 3, 3], &mut rng),
        ];
        check_gradients(&inputs, |v| {
            let x = conv(&v[0], &v[1], &v[2], false, None)?;
            let below = up_conv(&max_pool(&x)?, &v[3], &v[2], None)?;
            weighed(&concat(&x, &below)?)
        });
    }

    /// The convolution by its definition, on a size that fills no block and a channel count that fills no panel.
    #[test]
    fn a_convolution_sums_its_window() {
        let mut rng = Rng::new(6);
        let (h, w, i, o) = (6, 10, 3, 37);
        let (x, k) = (random(&[1, h, w, i], &mut rng), random(&[3, 3, i, o], &mut rng));
        let b = random(&[o], &mut rng);
        let (xs, ks, bs): (Vec<f64>, Vec<f64>, Vec<f64>) = (
            x.flatten_all().unwrap().to_vec1().unwrap(),
            k.flatten_all().unwrap().to_vec1().unwrap(),
            b.to_vec1().unwrap(),
        );
        let double: Vec<f64> = conv(&x, &k, &b, true, None)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let single = |t: &Var| t.to_dtype(DType::F32).unwrap();
        let fast = conv(&single(&x), &single(&k), &single(&b), true, None).unwrap();
        let fast: Vec<f32> = fast.flatten_all().unwrap().to_vec1().unwrap();
        for (y, col, out) in (0..h * w * o).map(|n| (n / (w * o), n / o % w, n % o)) {
            let mut sum = bs[out];
            for (dy, dx, c) in (0..9 * i).map(|n| (n / (3 * i), n / i % 3, n % i)) {
                let (sy, sx) = ((y + dy) as isize - 1, (col + dx) as isize - 1);
                if (0..h as isize).contains(&sy) && (0..w as isize).contains(&sx) {
                    let at = (sy as usize * w + sx as usize) * i + c;
                    sum += xs[at] * ks[((dy * 3 + dx) * i + c) * o + out];
                }
            }
            let n = (y * w + col) * o + out;
            assert!((double[n] - sum.max(0.0)).abs() < 1e-12, "({y}, {col}, {out})");
            assert!(
                (fast[n] as f64 - sum.max(0.0)).abs() < 1e-4,
                "({y}, {col}, {out}) in single precision"
            );
        }
    }

    /// Equal values: the first one, row by row, gets the gradient.
    #[test]
    fn the_first_maximum_wins() {
        let x = Var::from_vec(vec![1.0f64, 1.0, 1.0, 1.0], (1, 2, 2, 1), &Device::Cpu).unwrap();
        let grads = max_pool(&x).unwrap().sum_all().unwrap().backward().unwrap();
        let grad: Vec<f64> = grads.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(grad, [1.0, 0.0, 0.0, 0.0]);
    }
}
