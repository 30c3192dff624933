//! Pooling, up-convolution and concatenation.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{Result, Shape, Tensor, WithDType, bail};

use super::conv::bias_gradient;
use super::op::{Change, Kernel, Op};
use super::{Kept, Source, beside, gate, with_kept};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers::{self as cuda, At};
use crate::model::kernels::{Pool, Real, UpConv, add_gated, concat as concat_kernel, split};

/// The largest of each 2x2 window of `x` (batch, height, width, channels); of equals, the first gets the gradient.
///
/// # Errors
/// An odd height or width, or tensors that are not contiguous f32 or f64.
pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    x.apply_op1(Op(MaxPool(pool_of(x.shape())?)))
}

/// Every pixel of `x` (batch, height, width, inputs) becomes 2x2 pixels of `weight` (2, 2, outputs, inputs) times
/// the pixel plus `bias` (outputs). `kept` belongs to these weights, if they stay as they are.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not contiguous f32 or f64.
pub fn up_conv(x: &Tensor, weight: &Tensor, bias: &Tensor, kept: Option<Arc<Kept>>) -> Result<Tensor> {
    let up = up_of(x.shape(), weight.shape())?;
    x.apply_op3(weight, bias, Op(UpConvolution { up, kept }))
}

/// The channels of `a`, then those of `b`.
///
/// # Errors
/// Images of different sizes, or tensors that are not contiguous f32 or f64.
pub fn concat(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (images, channels) = beside(a, b)?;
    a.apply_op2(b, Op(Concat { images, channels }))
}

/// What the gradient by the output of [`max_pool`] says of its input.
///
/// # Errors
/// Those of [`max_pool`].
pub fn max_pool_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    x.apply_op2_no_bwd(grad, &Op(MaxPoolGradient(pool_of(x.shape())?)))
}

/// What the gradient by the output of [`up_conv`] says of its input, its weights and its bias.
///
/// # Errors
/// Those of [`up_conv`].
pub fn up_conv_gradients(
    x: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
    source: Source,
) -> Result<(Tensor, Tensor, Tensor)> {
    let up = up_of(x.shape(), weight.shape())?;
    let bias = bias_gradient(grad)?;
    #[cfg(feature = "cuda")]
    let side_by_side = match grad.device().is_cuda() {
        true => grad.apply_op1_no_bwd(&Op(SideBySide(up)))?,
        false => grad.clone(),
    };
    #[cfg(feature = "cuda")]
    let grad = &side_by_side;
    Ok((
        grad.apply_op3_no_bwd(weight, x, &Op(InputGradient { up, source }))?,
        x.apply_op2_no_bwd(grad, &Op(WeightGradient(up)))?,
        bias,
    ))
}

/// The first `kept` channels, and the rest: the way back through [`concat`].
///
/// # Errors
/// A tensor that is not contiguous f32 or f64.
pub fn split_channels(grad: &Tensor, kept: usize) -> Result<(Tensor, Tensor)> {
    let (batch, height, width, channels) = grad.dims4()?;
    let part = |from, kept| {
        let images = [batch, height, width];
        grad.apply_op1_no_bwd(&Op(Split {
            images,
            channels,
            from,
            kept,
        }))
    };
    Ok((part(0, kept)?, part(kept, channels - kept)?))
}

/// Adds `values` to `sum`, in place, and puts 0 where `out`, the output of a ReLU, is not above 0: the gradient before the
/// ReLU whose output went two ways.
///
/// # Errors
/// Tensors of different sizes, or not contiguous f32 or f64.
pub fn add_before_relu(sum: &Tensor, values: &Tensor, out: &Tensor) -> Result<()> {
    alike(sum, values)?;
    alike(sum, out)?;
    sum.inplace_op3(values, out, &Op(AddBeforeRelu))
}

/// Adds what [`max_pool_gradient`] says of its input `x`, the output of a ReLU, to `sum`, as [`add_before_relu`] would.
///
/// # Errors
/// Those of both.
pub fn add_max_pool_gradient(sum: &Tensor, x: &Tensor, grad: &Tensor) -> Result<()> {
    alike(sum, x)?;
    sum.inplace_op3(x, grad, &Op(AddMaxPoolGradient(pool_of(x.shape())?)))
}

fn alike(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() != b.dims() {
        bail!("gradients {:?} and {:?} cannot be added", a.shape(), b.shape());
    }
    Ok(())
}

struct AddBeforeRelu;

impl Change for AddBeforeRelu {
    const NAME: &'static str = "sum of gradients";

    fn cpu<T: Real + WithDType>(&self, sum: &mut [T], [values, out]: [&[T]; 2]) {
        add_gated(sum, values, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, sum: At<'_>, [values, out]: [At<'_>; 2]) -> Result<()> {
        cuda::add_gated(sum, values, out)
    }
}

struct AddMaxPoolGradient(Pool);

impl Change for AddMaxPoolGradient {
    const NAME: &'static str = "sum with the gradient of max pooling";

    fn cpu<T: Real + WithDType>(&self, sum: &mut [T], [x, grad]: [&[T]; 2]) {
        self.0.add_gradient(x, grad, sum);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, sum: At<'_>, [x, grad]: [At<'_>; 2]) -> Result<()> {
        cuda::add_max_pool_gradient(&self.0, sum, x, grad)
    }
}

struct MaxPool(Pool);

fn pool_of(x: &Shape) -> Result<Pool> {
    let (batch, height, width, channels) = x.dims4()?;
    if height % 2 + width % 2 != 0 {
        bail!("images {x:?} cannot be halved");
    }
    Ok(Pool {
        batch,
        height,
        width,
        channels,
    })
}

impl Kernel<1> for MaxPool {
    const NAME: &'static str = "max pooling";

    fn shape(&self) -> Shape {
        let pool = self.0;
        (pool.batch, pool.height / 2, pool.width / 2, pool.channels).into()
    }

    fn cpu<T: Real + WithDType>(&self, [x]: [&[T]; 1], out: &mut [T]) {
        self.0.forward(x, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x]: [At<'_>; 1]) -> Result<CudaStorage> {
        cuda::max_pool(&self.0, x)
    }

    fn back(&self, [x]: [&Tensor; 1], _: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(max_pool_gradient(x, grad)?)])
    }
}

struct MaxPoolGradient(Pool);

impl Kernel<2> for MaxPoolGradient {
    const NAME: &'static str = "gradient of max pooling";

    fn shape(&self) -> Shape {
        let pool = self.0;
        (pool.batch, pool.height, pool.width, pool.channels).into()
    }

    fn cpu<T: Real + WithDType>(&self, [x, grad]: [&[T]; 2], dx: &mut [T]) {
        self.0.gradient(x, grad, dx);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, grad]: [At<'_>; 2]) -> Result<CudaStorage> {
        cuda::max_pool_gradient(&self.0, x, grad)
    }
}

struct UpConvolution {
    up: UpConv,
    kept: Option<Arc<Kept>>,
}

fn up_of(x: &Shape, weight: &Shape) -> Result<UpConv> {
    let (batch, height, width, channels) = x.dims4()?;
    let (down, across, outputs, inputs) = weight.dims4()?;
    if (down, across) != (2, 2) || inputs != channels {
        bail!("weights {weight:?} do not widen images {x:?}");
    }
    Ok(UpConv {
        batch,
        height,
        width,
        inputs,
        outputs,
    })
}

impl Kernel<3> for UpConvolution {
    const NAME: &'static str = "up-convolution";

    fn shape(&self) -> Shape {
        let up = self.up;
        (up.batch, 2 * up.height, 2 * up.width, up.outputs).into()
    }

    fn cpu<T: Real + WithDType>(&self, [x, weight, bias]: [&[T]; 3], out: &mut [T]) {
        let (up, kept) = (self.up, self.kept.as_deref());
        if kept.is_none() {
            return up.forward_once(x, weight, bias, out);
        }
        let prepare = || up.prepare(weight);
        with_kept(kept, [up.height, up.width], prepare, |prepared| {
            up.forward(x, prepared, bias, out);
        });
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, weight, bias]: [At<'_>; 3]) -> Result<CudaStorage> {
        cuda::up_conv(&self.up, x, weight, bias)
    }

    fn back(&self, [x, weight, _]: [&Tensor; 3], _: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let (dx, dw, db) = up_conv_gradients(x, weight, grad, Source::Layer)?;
        Ok([Some(dx), Some(dw), Some(db)])
    }
}

/// The four gradients of every pixel, from which a GPU computes both of the gradients below; the CPU finds them where they are.
#[cfg(feature = "cuda")]
struct SideBySide(UpConv);

#[cfg(feature = "cuda")]
impl Kernel<1> for SideBySide {
    const NAME: &'static str = "gradients side by side";

    fn shape(&self) -> Shape {
        let up = self.0;
        (up.batch, up.height, up.width, 4 * up.outputs).into()
    }

    fn cpu<T: Real + WithDType>(&self, _: [&[T]; 1], _: &mut [T]) {
        unreachable!("asked for on GPUs alone")
    }

    fn cuda(&self, [grad]: [At<'_>; 1]) -> Result<CudaStorage> {
        cuda::unshuffle(&self.0, grad)
    }
}

#[cfg(feature = "cuda")]
fn is_side_by_side(up: &UpConv, grad: At<'_>) -> Result<()> {
    match grad.1.dims() {
        [.., channels] if *channels == 4 * up.outputs => Ok(()),
        dims => bail!(
            "gradients {dims:?} of {} outputs do not lie side by side",
            up.outputs
        ),
    }
}

struct InputGradient {
    up: UpConv,
    source: Source,
}

impl Kernel<3> for InputGradient {
    const NAME: &'static str = "gradient of an up-convolution by its input";

    fn shape(&self) -> Shape {
        let up = self.up;
        (up.batch, up.height, up.width, up.inputs).into()
    }

    fn cpu<T: Real + WithDType>(&self, [grad, weight, x]: [&[T]; 3], dx: &mut [T]) {
        self.up.input_gradient(grad, weight, gate(self.source, x), dx);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [grad, weight, x]: [At<'_>; 3]) -> Result<CudaStorage> {
        is_side_by_side(&self.up, grad)?;
        let gate = (self.source == Source::Relu).then_some(x);
        cuda::up_conv_input_gradient(&self.up, grad, weight, gate)
    }
}

struct WeightGradient(UpConv);

impl Kernel<2> for WeightGradient {
    const NAME: &'static str = "gradient of an up-convolution by its weights";

    fn shape(&self) -> Shape {
        (2, 2, self.0.outputs, self.0.inputs).into()
    }

    fn cpu<T: Real + WithDType>(&self, [x, grad]: [&[T]; 2], dw: &mut [T]) {
        self.0.weight_gradient(x, grad, dw);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, grad]: [At<'_>; 2]) -> Result<CudaStorage> {
        is_side_by_side(&self.0, grad)?;
        cuda::up_conv_weight_gradient(&self.0, x, grad)
    }
}

struct Concat {
    /// Batch, height, width.
    images: [usize; 3],
    /// Of each.
    channels: (usize, usize),
}

impl Kernel<2> for Concat {
    const NAME: &'static str = "concatenation";

    fn shape(&self) -> Shape {
        let [batch, height, width] = self.images;
        (batch, height, width, self.channels.0 + self.channels.1).into()
    }

    fn cpu<T: Real + WithDType>(&self, [a, b]: [&[T]; 2], out: &mut [T]) {
        concat_kernel(a, b, self.channels, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [a, b]: [At<'_>; 2]) -> Result<CudaStorage> {
        cuda::concat(self.channels, a, b)
    }

    fn back(&self, _: [&Tensor; 2], _: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let (da, db) = split_channels(grad, self.channels.0)?;
        Ok([Some(da), Some(db)])
    }
}

/// `kept` channels from `from` on.
struct Split {
    /// Batch, height, width.
    images: [usize; 3],
    channels: usize,
    from: usize,
    kept: usize,
}

impl Kernel<1> for Split {
    const NAME: &'static str = "gradient of a concatenation";

    fn shape(&self) -> Shape {
        let [batch, height, width] = self.images;
        (batch, height, width, self.kept).into()
    }

    fn cpu<T: Real + WithDType>(&self, [grad]: [&[T]; 1], out: &mut [T]) {
        split(grad, self.channels, self.from, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [grad]: [At<'_>; 1]) -> Result<CudaStorage> {
        cuda::split(self.channels, (self.from, self.kept), grad)
    }
}
