//! Convolutions that keep the image's size.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{Result, Shape, Storage, Tensor, WithDType, bail};

use super::op::{Kernel, Op};
use super::{Kept, Source, beside, gate, values, with_kept};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers::{self as cuda, At};
use crate::model::kernels::{Beside, Conv, Real, channel_sums, relu_gradient};

/// Same convolution of `x` (batch, height, width, inputs) with `weight` (k, k, inputs, outputs) for k = 1 or 3,
/// plus `bias` (outputs), through ReLU where `relu` is set. `kept` belongs to these weights, if they stay as they are.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not contiguous f32 or f64.
pub fn conv(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    relu: bool,
    kept: Option<Arc<Kept>>,
) -> Result<Tensor> {
    let conv = shape_of(x.shape(), weight.shape())?;
    x.apply_op3(weight, bias, Op(Convolution { conv, relu, kept }))
}

/// What the gradient by the output of [`conv`], before its ReLU, says of its input, its weights and its bias.
///
/// # Errors
/// Those of [`conv`].
pub fn conv_gradients(
    x: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
    source: Source,
) -> Result<(Option<Tensor>, Tensor, Tensor)> {
    let conv = shape_of(x.shape(), weight.shape())?;
    let dx = match source {
        Source::Images => None,
        _ => Some(grad.apply_op3_no_bwd(weight, x, &Op(InputGradient { conv, source }))?),
    };
    let dw = x.apply_op2_no_bwd(grad, &Op(WeightGradient(conv)))?;
    Ok((dx, dw, bias_gradient(grad)?))
}

/// The same of the channels of `a`, then those of `b`: [`conv`] of their concatenation, which is not made. candle's graph learns
/// nothing of the bias, [`conv_concat_gradients`] does.
///
/// # Errors
/// Those of [`conv`], images of different sizes, and a bias that is not of the weights' outputs, numbers and device.
pub fn conv_concat(
    [a, b]: [&Tensor; 2],
    weight: &Tensor,
    bias: &Tensor,
    relu: bool,
    kept: Option<Arc<Kept>>,
) -> Result<Tensor> {
    let (conv, channels) = shape_of_concat(a, b, weight)?;
    let is_alike = bias.dtype() == weight.dtype() && bias.device().same_device(weight.device());
    if bias.dims() != [conv.outputs] || !bias.is_contiguous() || !is_alike {
        bail!(
            "a bias {:?} of {:?} does not go with weights {:?}",
            bias.shape(),
            bias.dtype(),
            weight.shape()
        );
    }
    let bias = bias.clone();
    a.apply_op3(
        b,
        weight,
        Op(ConcatConvolution {
            conv,
            channels,
            bias,
            relu,
            kept,
        }),
    )
}

/// What the gradient by the output of [`conv_concat`], before its ReLU, says of its inputs, its weights and its bias.
///
/// # Errors
/// Those of [`conv_concat`].
pub fn conv_concat_gradients(
    [a, b]: [&Tensor; 2],
    weight: &Tensor,
    grad: &Tensor,
) -> Result<([Tensor; 2], Tensor, Tensor)> {
    let (conv, channels) = shape_of_concat(a, b, weight)?;
    // Two views of one buffer, disjoint: what is added to one in place leaves the other as it is.
    let both = grad.apply_op2_no_bwd(weight, &Op(ConcatInputGradient { conv, channels }))?;
    let (in_a, in_b) = (a.elem_count(), b.elem_count());
    let da = both.narrow(0, 0, in_a)?.reshape(a.shape())?;
    let db = both.narrow(0, in_a, in_b)?.reshape(b.shape())?;
    let dw = a.apply_op3_no_bwd(b, grad, &Op(ConcatWeightGradient { conv, channels }))?;
    Ok(([da, db], dw, bias_gradient(grad)?))
}

/// What the gradient by the output `out` of a ReLU says before it.
///
/// # Errors
/// Tensors of different sizes, or not contiguous f32 or f64.
pub fn before_relu(grad: &Tensor, out: &Tensor) -> Result<Tensor> {
    if grad.dims() != out.dims() {
        bail!(
            "a gradient {:?} is not that of an output {:?}",
            grad.shape(),
            out.shape()
        );
    }
    grad.apply_op2_no_bwd(out, &Op(ReluGradient(grad.shape().clone())))
}

/// The sum over all but the last axis.
///
/// # Errors
/// A tensor that is not contiguous f32 or f64.
pub(super) fn bias_gradient(grad: &Tensor) -> Result<Tensor> {
    let channels = grad.dim(candle_core::D::Minus1)?;
    grad.apply_op1_no_bwd(&Op(ChannelSums(channels)))
}

fn shape_of(x: &Shape, weight: &Shape) -> Result<Conv> {
    let (batch, height, width, channels) = x.dims4()?;
    let (kernel, across, inputs, outputs) = weight.dims4()?;
    if inputs != channels || kernel != across || !matches!(kernel, 1 | 3) || x.elem_count() == 0 {
        bail!("weights {weight:?} do not convolve images {x:?}");
    }
    Ok(Conv {
        batch,
        height,
        width,
        inputs,
        outputs,
        kernel,
    })
}

/// The convolution of both beside one another, and the channels of each.
fn shape_of_concat(a: &Tensor, b: &Tensor, weight: &Tensor) -> Result<(Conv, [usize; 2])> {
    let ([batch, height, width], (in_a, in_b)) = beside(a, b)?;
    let conv = shape_of(&(batch, height, width, in_a + in_b).into(), weight.shape())?;
    Ok((conv, [in_a, in_b]))
}

/// The convolution, finished: with kept weights, laid out for images of this size and as many as there will be; or with others, which
/// are learning.
fn convolve<T: Real>(
    conv: &Conv,
    kept: Option<&Kept>,
    x: Beside<&[T]>,
    [weight, bias]: [&[T]; 2],
    relu: bool,
    out: &mut [T],
) {
    let Some(kept) = kept else {
        return conv.forward_once(x, weight, bias, relu, out);
    };
    let usual = Conv {
        batch: kept.batch,
        ..*conv
    };
    let (size, prepare) = ([conv.height, conv.width], || usual.prepare(weight));
    with_kept(Some(kept), size, prepare, |prepared| {
        conv.forward(x, prepared, bias, relu, out);
    });
}

/// The shape of what a convolution makes.
fn made_by(conv: &Conv) -> Shape {
    (conv.batch, conv.height, conv.width, conv.outputs).into()
}

/// The shape of its weights.
fn weights_of(conv: &Conv) -> Shape {
    (conv.kernel, conv.kernel, conv.inputs, conv.outputs).into()
}

struct Convolution {
    conv: Conv,
    relu: bool,
    kept: Option<Arc<Kept>>,
}

impl Kernel<3> for Convolution {
    const NAME: &'static str = "convolution";

    fn shape(&self) -> Shape {
        made_by(&self.conv)
    }

    fn cpu<T: Real + WithDType>(&self, [x, weight, bias]: [&[T]; 3], out: &mut [T]) {
        let (x, weights) = (Beside::one(x, self.conv.inputs), [weight, bias]);
        convolve(&self.conv, self.kept.as_deref(), x, weights, self.relu, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, weight, bias]: [At<'_>; 3]) -> Result<CudaStorage> {
        cuda::conv(&self.conv, &[x], weight, bias, self.relu, self.kept.as_deref())
    }

    fn back(&self, [x, weight, _]: [&Tensor; 3], out: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let source = if x.track_op() {
            Source::Layer
        } else {
            Source::Images
        };
        let before = match self.relu {
            true => &before_relu(grad, out)?,
            false => grad,
        };
        let (dx, dw, db) = conv_gradients(x, weight, before, source)?;
        Ok([dx, Some(dw), Some(db)])
    }
}

struct InputGradient {
    conv: Conv,
    source: Source,
}

impl Kernel<3> for InputGradient {
    const NAME: &'static str = "gradient of a convolution by its input";

    fn shape(&self) -> Shape {
        let conv = self.conv;
        (conv.batch, conv.height, conv.width, conv.inputs).into()
    }

    fn cpu<T: Real + WithDType>(&self, [grad, weight, x]: [&[T]; 3], dx: &mut [T]) {
        let dx = Beside::one(dx, self.conv.inputs);
        self.conv.input_gradient(grad, weight, gate(self.source, x), dx);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [grad, weight, x]: [At<'_>; 3]) -> Result<CudaStorage> {
        let gate = (self.source == Source::Relu).then_some(x);
        cuda::conv_input_gradient(&self.conv, &[self.conv.inputs], grad, weight, gate)
    }
}

struct WeightGradient(Conv);

impl Kernel<2> for WeightGradient {
    const NAME: &'static str = "gradient of a convolution by its weights";

    fn shape(&self) -> Shape {
        weights_of(&self.0)
    }

    fn cpu<T: Real + WithDType>(&self, [x, grad]: [&[T]; 2], dw: &mut [T]) {
        self.0.weight_gradient(Beside::one(x, self.0.inputs), grad, dw);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, grad]: [At<'_>; 2]) -> Result<CudaStorage> {
        cuda::conv_weight_gradient(&self.0, &[x], grad)
    }
}

/// [`Convolution`] of images beside one another.
struct ConcatConvolution {
    conv: Conv,
    /// Of each.
    channels: [usize; 2],
    /// Here, since an operation has three inputs at most; so that candle's graph knows no gradient by it.
    bias: Tensor,
    relu: bool,
    kept: Option<Arc<Kept>>,
}

impl Kernel<3> for ConcatConvolution {
    const NAME: &'static str = "convolution of a concatenation";

    fn shape(&self) -> Shape {
        made_by(&self.conv)
    }

    fn cpu<T: Real + WithDType>(&self, [a, b, weight]: [&[T]; 3], out: &mut [T]) {
        let (conv, channels) = (self.conv, self.channels);
        let (bias, layout) = self.bias.storage_and_layout();
        let Storage::Cpu(bias) = &*bias else {
            unreachable!("the bias lies where the weights do")
        };
        let bias = values(bias, layout).expect("the bias is of the weights' numbers");
        let x = Beside {
            images: [a, b],
            channels,
        };
        let weights = [weight, bias];
        convolve(&conv, self.kept.as_deref(), x, weights, self.relu, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [a, b, weight]: [At<'_>; 3]) -> Result<CudaStorage> {
        let (bias, layout) = self.bias.storage_and_layout();
        let Storage::Cuda(bias) = &*bias else {
            bail!("the bias lies elsewhere than the weights")
        };
        let (bias, kept) = ((bias, layout), self.kept.as_deref());
        cuda::conv(&self.conv, &[a, b], weight, bias, self.relu, kept)
    }

    fn back(&self, [a, b, weight]: [&Tensor; 3], out: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let before;
        let grad = if self.relu {
            before = before_relu(grad, out)?;
            &before
        } else {
            grad
        };
        let ([da, db], dw, _) = conv_concat_gradients([a, b], weight, grad)?;
        Ok([Some(da), Some(db), Some(dw)])
    }
}

/// Of both images, one after the other.
struct ConcatInputGradient {
    conv: Conv,
    channels: [usize; 2],
}

impl Kernel<2> for ConcatInputGradient {
    const NAME: &'static str = "gradient of a convolution by its inputs";

    fn shape(&self) -> Shape {
        let conv = self.conv;
        (conv.batch * conv.height * conv.width * conv.inputs).into()
    }

    fn cpu<T: Real + WithDType>(&self, [grad, weight]: [&[T]; 2], dx: &mut [T]) {
        let (first, second) = dx.split_at_mut(dx.len() / self.conv.inputs * self.channels[0]);
        let dx = Beside {
            images: [first, second],
            channels: self.channels,
        };
        self.conv.input_gradient(grad, weight, &[], dx);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [grad, weight]: [At<'_>; 2]) -> Result<CudaStorage> {
        cuda::conv_input_gradient(&self.conv, &self.channels, grad, weight, None)
    }
}

struct ConcatWeightGradient {
    conv: Conv,
    channels: [usize; 2],
}

impl Kernel<3> for ConcatWeightGradient {
    const NAME: &'static str = "gradient of a convolution of a concatenation by its weights";

    fn shape(&self) -> Shape {
        weights_of(&self.conv)
    }

    fn cpu<T: Real + WithDType>(&self, [a, b, grad]: [&[T]; 3], dw: &mut [T]) {
        let x = Beside {
            images: [a, b],
            channels: self.channels,
        };
        self.conv.weight_gradient(x, grad, dw);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [a, b, grad]: [At<'_>; 3]) -> Result<CudaStorage> {
        cuda::conv_weight_gradient(&self.conv, &[a, b], grad)
    }
}

struct ReluGradient(Shape);

impl Kernel<2> for ReluGradient {
    const NAME: &'static str = "gradient of relu";

    fn shape(&self) -> Shape {
        self.0.clone()
    }

    fn cpu<T: Real + WithDType>(&self, [grad, out]: [&[T]; 2], dx: &mut [T]) {
        relu_gradient(grad, out, dx);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [grad, out]: [At<'_>; 2]) -> Result<CudaStorage> {
        cuda::relu_gradient(grad, out)
    }
}

/// Of so many channels.
struct ChannelSums(usize);

impl Kernel<1> for ChannelSums {
    const NAME: &'static str = "sum over pixels";

    fn shape(&self) -> Shape {
        self.0.into()
    }

    fn cpu<T: Real + WithDType>(&self, [grad]: [&[T]; 1], out: &mut [T]) {
        channel_sums(grad, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [grad]: [At<'_>; 1]) -> Result<CudaStorage> {
        cuda::channel_sums(self.0, grad)
    }
}
