//! Convolutions that keep the image's size.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;

use super::{Kept, Source, by_dtype, filled, gate, values, with_kept};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers as cuda;
use crate::model::kernels::{Conv, channel_sums, relu_gradient};

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
    x.apply_op3(weight, bias, Convolution { relu, kept })
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
        _ => Some(grad.apply_op3_no_bwd(weight, x, &InputGradient { conv, source })?),
    };
    let dw = x.apply_op2_no_bwd(grad, &WeightGradient(conv))?;
    Ok((dx, dw, grad.apply_op1_no_bwd(&ChannelSums)?))
}

/// What the gradient by the output `out` of a ReLU says before it.
///
/// # Errors
/// Tensors of different sizes, or not contiguous f32 or f64.
pub fn before_relu(grad: &Tensor, out: &Tensor) -> Result<Tensor> {
    grad.apply_op2_no_bwd(out, &ReluGradient)
}

struct Convolution {
    relu: bool,
    kept: Option<Arc<Kept>>,
}

fn shape_of(x: &Shape, weight: &Shape) -> Result<Conv> {
    let (batch, height, width, channels) = x.dims4()?;
    let (kernel, across, inputs, outputs) = weight.dims4()?;
    if inputs != channels || kernel != across || !matches!(kernel, 1 | 3) {
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

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
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
        let conv = shape_of(x_layout.shape(), weight_layout.shape())?;
        let out = by_dtype!(x, T => {
            let (x, weight) = (values::<T>(x, x_layout)?, values(weight, weight_layout)?);
            let bias = values(bias, bias_layout)?;
            filled(conv.pixels() * conv.outputs, |out: &mut [T]| {
                with_kept(
                    self.kept.as_deref(),
                    [conv.height, conv.width],
                    || conv.prepare(weight),
                    |prepared| conv.forward(x, prepared, bias, self.relu, out),
                )
            })
        });
        Ok((out, (conv.batch, conv.height, conv.width, conv.outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let source = if x.track_op() {
            Source::Layer
        } else {
            Source::Images
        };
        let (dx, dw, db) = if self.relu {
            conv_gradients(x, weight, &before_relu(grad, out)?, source)?
        } else {
            conv_gradients(x, weight, grad, source)?
        };
        Ok((dx, Some(dw), Some(db)))
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
        let conv = shape_of(x_layout.shape(), weight_layout.shape())?;
        let (x, weight, bias) = ((x, x_layout), (weight, weight_layout), (bias, bias_layout));
        let out = cuda::conv(&conv, x, weight, bias, self.relu, self.kept.as_deref())?;
        Ok((out, (conv.batch, conv.height, conv.width, conv.outputs).into()))
    }
}

struct ReluGradient;

impl CustomOp2 for ReluGradient {
    fn name(&self) -> &'static str {
        "gradient of relu"
    }

    fn cpu_fwd(
        &self,
        grad: &CpuStorage,
        grad_layout: &Layout,
        out: &CpuStorage,
        out_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = by_dtype!(grad, T => {
            let (grad, out) = (values::<T>(grad, grad_layout)?, values(out, out_layout)?);
            filled(grad.len(), |dx: &mut [T]| relu_gradient(grad, out, dx))
        });
        Ok((storage, grad_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        grad: &CudaStorage,
        grad_layout: &Layout,
        out: &CudaStorage,
        out_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let storage = cuda::relu_gradient((grad, grad_layout), (out, out_layout))?;
        Ok((storage, grad_layout.shape().clone()))
    }
}

struct InputGradient {
    conv: Conv,
    source: Source,
}

impl CustomOp3 for InputGradient {
    fn name(&self) -> &'static str {
        "gradient of a convolution by its input"
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
        let conv = self.conv;
        let storage = by_dtype!(grad, T => {
            let (grad, weight) = (values::<T>(grad, grad_layout)?, values(weight, weight_layout)?);
            let gate = gate(self.source, values(x, x_layout)?);
            filled(conv.pixels() * conv.inputs, |dx: &mut [T]| conv.input_gradient(grad, weight, gate, dx))
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
        let dx = cuda::conv_input_gradient(&self.conv, grad, weight, gate)?;
        Ok((dx, x_layout.shape().clone()))
    }
}

struct WeightGradient(Conv);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "gradient of a convolution by its weights"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let conv = self.0;
        let storage = by_dtype!(x, T => {
            let (x, grad) = (values::<T>(x, x_layout)?, values(grad, grad_layout)?);
            filled(conv.weights(), |dw: &mut [T]| conv.weight_gradient(x, grad, dw))
        });
        Ok((
            storage,
            (conv.kernel, conv.kernel, conv.inputs, conv.outputs).into(),
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let Conv {
            kernel,
            inputs,
            outputs,
            ..
        } = self.0;
        let dw = cuda::conv_weight_gradient(&self.0, (x, x_layout), (grad, grad_layout))?;
        Ok((dw, (kernel, kernel, inputs, outputs).into()))
    }
}

/// Sum over all but the last axis: the gradient by a bias.
pub(super) struct ChannelSums;

impl CustomOp1 for ChannelSums {
    fn name(&self) -> &'static str {
        "sum over pixels"
    }

    fn cpu_fwd(&self, grad: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let channels = layout.dims()[layout.dims().len() - 1];
        let storage = by_dtype!(grad, T => {
            let grad = values::<T>(grad, layout)?;
            filled(channels, |out: &mut [T]| channel_sums(grad, out))
        });
        Ok((storage, channels.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, grad: &CudaStorage, grad_layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let channels = grad_layout.dims()[grad_layout.dims().len() - 1];
        Ok((
            cuda::channel_sums(channels, (grad, grad_layout))?,
            channels.into(),
        ))
    }
}
