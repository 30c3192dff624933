//! Pooling, up-convolution and concatenation.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, InplaceOp3, Layout, Result, Shape, Tensor, bail,
};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;

use super::conv::ChannelSums;
use super::{Kept, Source, by_dtype, filled, gate, values, with_kept};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers as cuda;
use crate::model::kernels::{Pool, UpConv, add_gated, concat as concat_kernel, split};

/// The largest of each 2x2 window of `x` (batch, height, width, channels); of equals, the first gets the gradient.
///
/// # Errors
/// An odd height or width, or tensors that are not contiguous f32 or f64.
pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    x.apply_op1(MaxPool)
}

/// Every pixel of `x` (batch, height, width, inputs) becomes 2x2 pixels of `weight` (2, 2, outputs, inputs) times
/// the pixel plus `bias` (outputs). `kept` belongs to these weights, if they stay as they are.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not contiguous f32 or f64.
pub fn up_conv(x: &Tensor, weight: &Tensor, bias: &Tensor, kept: Option<Arc<Kept>>) -> Result<Tensor> {
    x.apply_op3(weight, bias, UpConvolution { kept })
}

/// The channels of `a`, then those of `b`.
///
/// # Errors
/// Images of different sizes, or tensors that are not contiguous f32 or f64.
pub fn concat(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2(b, Concat)
}

/// What the gradient by the output of [`max_pool`] says of its input.
///
/// # Errors
/// Those of [`max_pool`].
pub fn max_pool_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    x.apply_op2_no_bwd(grad, &MaxPoolGradient)
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
    Ok((
        grad.apply_op3_no_bwd(weight, x, &InputGradient { up, source })?,
        x.apply_op2_no_bwd(grad, &WeightGradient(up))?,
        grad.apply_op1_no_bwd(&ChannelSums)?,
    ))
}

/// The first `kept` channels, and the rest: the way back through [`concat`].
///
/// # Errors
/// A tensor that is not contiguous f32 or f64.
pub fn split_channels(grad: &Tensor, kept: usize) -> Result<(Tensor, Tensor)> {
    let part = |from, kept| grad.apply_op1_no_bwd(&Split { from, kept });
    Ok((part(0, kept)?, part(kept, grad.dim(3)? - kept)?))
}

/// Adds `values` to `sum`, in place, and puts 0 where `out`, the output of a ReLU, is not above 0: the gradient before the
/// ReLU whose output went two ways.
///
/// # Errors
/// Tensors of different sizes, or not contiguous f32 or f64.
pub fn add_before_relu(sum: &Tensor, values: &Tensor, out: &Tensor) -> Result<()> {
    sum.inplace_op3(values, out, &AddBeforeRelu)
}

struct AddBeforeRelu;

impl InplaceOp3 for AddBeforeRelu {
    fn name(&self) -> &'static str {
        "sum of gradients"
    }

    fn cpu_fwd(
        &self,
        sum: &mut CpuStorage,
        at: &Layout,
        other: &CpuStorage,
        other_at: &Layout,
        out: &CpuStorage,
        out_at: &Layout,
    ) -> Result<()> {
        match (sum, at.contiguous_offsets()) {
            (_, Some(_)) if at.shape() != other_at.shape() || at.shape() != out_at.shape() => bail!(
                "gradients {:?} and {:?} of {:?} cannot be added",
                at.shape(),
                other_at.shape(),
                out_at.shape()
            ),
            (CpuStorage::F32(sum), Some((from, to))) => {
                add_gated(&mut sum[from..to], values(other, other_at)?, values(out, out_at)?);
                Ok(())
            }
            (CpuStorage::F64(sum), Some((from, to))) => {
                add_gated(&mut sum[from..to], values(other, other_at)?, values(out, out_at)?);
                Ok(())
            }
            _ => bail!("gradients are contiguous f32 or f64 to be added"),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        sum: &mut CudaStorage,
        sum_layout: &Layout,
        other: &CudaStorage,
        other_layout: &Layout,
        out: &CudaStorage,
        out_layout: &Layout,
    ) -> Result<()> {
        cuda::add_gated((sum, sum_layout), (other, other_layout), (out, out_layout))
    }
}

struct MaxPool;

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

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max pooling"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let pool = pool_of(layout.shape())?;
        let storage = by_dtype!(x, T => {
            let x = values::<T>(x, layout)?;
            filled(x.len() / 4, |out: &mut [T]| pool.forward(x, out))
        });
        Ok((
            storage,
            (pool.batch, pool.height / 2, pool.width / 2, pool.channels).into(),
        ))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        max_pool_gradient(x, grad).map(Some)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, x_layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let pool = pool_of(x_layout.shape())?;
        let out = cuda::max_pool(&pool, (x, x_layout))?;
        Ok((
            out,
            (pool.batch, pool.height / 2, pool.width / 2, pool.channels).into(),
        ))
    }
}

struct MaxPoolGradient;

impl CustomOp2 for MaxPoolGradient {
    fn name(&self) -> &'static str {
        "gradient of max pooling"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let pool = pool_of(x_layout.shape())?;
        let storage = by_dtype!(x, T => {
            let (x, grad) = (values::<T>(x, x_layout)?, values(grad, grad_layout)?);
            filled(x.len(), |dx: &mut [T]| pool.gradient(x, grad, dx))
        });
        Ok((storage, x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let pool = pool_of(x_layout.shape())?;
        let dx = cuda::max_pool_gradient(&pool, (x, x_layout), (grad, grad_layout))?;
        Ok((dx, x_layout.shape().clone()))
    }
}

struct UpConvolution {
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

impl CustomOp3 for UpConvolution {
    fn name(&self) -> &'static str {
        "up-convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let up = up_of(x_layout.shape(), weight_layout.shape())?;
        let pixels = 4 * up.batch * up.height * up.width;
        let storage = by_dtype!(x, T => {
            let (x, weight) = (values::<T>(x, x_layout)?, values(weight, weight_layout)?);
            let bias = values(bias, bias_layout)?;
            filled(pixels * up.outputs, |out: &mut [T]| {
                with_kept(
                    self.kept.as_deref(),
                    [up.height, up.width],
                    || up.prepare(weight),
                    |prepared| up.forward(x, prepared, bias, out),
                )
            })
        });
        Ok((
            storage,
            (up.batch, 2 * up.height, 2 * up.width, up.outputs).into(),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, db) = up_conv_gradients(x, weight, grad, Source::Layer)?;
        Ok((Some(dx), Some(dw), Some(db)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let up = up_of(x_layout.shape(), weight_layout.shape())?;
        let out = cuda::up_conv(&up, (x, x_layout), (weight, weight_layout), (bias, bias_layout))?;
        Ok((out, (up.batch, 2 * up.height, 2 * up.width, up.outputs).into()))
    }
}

struct InputGradient {
    up: UpConv,
    source: Source,
}

impl CustomOp3 for InputGradient {
    fn name(&self) -> &'static str {
        "gradient of an up-convolution by its input"
    }

    fn cpu_fwd(
        &self,
        grad: &CpuStorage,
        grad_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let up = self.up;
        let storage = by_dtype!(grad, T => {
            let (grad, weight) = (values::<T>(grad, grad_layout)?, values(weight, weight_layout)?);
            let gate = gate(self.source, values(x, x_layout)?);
            filled(up.batch * up.height * up.width * up.inputs, |dx: &mut [T]| {
                up.input_gradient(grad, weight, gate, dx)
            })
        });
        Ok((storage, x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        grad: &CudaStorage,
        grad_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        x: &CudaStorage,
        x_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let gate = (self.source == Source::Relu).then_some((x, x_layout));
        let (grad, weight) = ((grad, grad_layout), (weight, weight_layout));
        let dx = cuda::up_conv_input_gradient(&self.up, grad, weight, gate)?;
        Ok((dx, x_layout.shape().clone()))
    }
}

struct WeightGradient(UpConv);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "gradient of an up-convolution by its weights"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let up = self.0;
        let storage = by_dtype!(x, T => {
            let (x, grad) = (values::<T>(x, x_layout)?, values(grad, grad_layout)?);
            filled(up.weights(), |dw: &mut [T]| up.weight_gradient(x, grad, dw))
        });
        Ok((storage, (2, 2, up.outputs, up.inputs).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let up = self.0;
        let dw = cuda::up_conv_weight_gradient(&up, (x, x_layout), (grad, grad_layout))?;
        Ok((dw, (2, 2, up.outputs, up.inputs).into()))
    }
}

struct Concat;

/// The shape of images side by side, and the channels of each.
fn beside(a: &Layout, b: &Layout) -> Result<(Shape, (usize, usize))> {
    let (batch, height, width, in_a) = a.shape().dims4()?;
    let (_, _, _, in_b) = b.shape().dims4()?;
    if a.dims()[..3] != b.dims()[..3] {
        bail!(
            "images {:?} and {:?} do not lie side by side",
            a.shape(),
            b.shape()
        );
    }
    Ok(((batch, height, width, in_a + in_b).into(), (in_a, in_b)))
}

impl CustomOp2 for Concat {
    fn name(&self) -> &'static str {
        "concatenation"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (shape, channels) = beside(a_layout, b_layout)?;
        let storage = by_dtype!(a, T => {
            let (a, b) = (values::<T>(a, a_layout)?, values(b, b_layout)?);
            filled(a.len() + b.len(), |out: &mut [T]| concat_kernel(a, b, channels, out))
        });
        Ok((storage, shape))
    }

    fn bwd(
        &self,
        a: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (da, db) = split_channels(grad, a.dim(3)?)?;
        Ok((Some(da), Some(db)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (shape, channels) = beside(a_layout, b_layout)?;
        Ok((cuda::concat(channels, (a, a_layout), (b, b_layout))?, shape))
    }
}

/// `kept` channels from `from` on.
struct Split {
    from: usize,
    kept: usize,
}

impl CustomOp1 for Split {
    fn name(&self) -> &'static str {
        "gradient of a concatenation"
    }

    fn cpu_fwd(&self, grad: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let storage = by_dtype!(grad, T => {
            let grad = values::<T>(grad, layout)?;
            filled(batch * height * width * self.kept, |out: &mut [T]| {
                split(grad, channels, self.from, out)
            })
        });
        Ok((storage, (batch, height, width, self.kept).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, grad: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let part = cuda::split(channels, (self.from, self.kept), (grad, layout))?;
        Ok((part, (batch, height, width, self.kept).into()))
    }
}
