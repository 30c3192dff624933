//! Convolutions by windows of any size over stacks of slices.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::conv::{ChannelSums, before_relu};
use super::{Kept, Source, by_dtype, filled, gate, values, with_kept};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers as cuda;
use crate::model::kernels::{Reach, Window};

/// What a layer's windows see, and how many of the images that lie one after the other make a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stacked {
    /// Slices of a stack.
    pub depth: usize,
    /// What a window sees.
    pub reach: Reach,
}

impl Stacked {
    /// Taps and channels of `weight`, over images of `x`.
    fn over(self, x: &Shape, weight: &Shape) -> Result<Window> {
        let (images, height, width, channels) = x.dims4()?;
        let &[.., inputs, outputs] = weight.dims() else {
            bail!("weights {weight:?} are not of a convolution");
        };
        let kernel = &weight.dims()[..weight.dims().len() - 2];
        let taps = self.reach.kernel();
        let taps = &taps[3usize.saturating_sub(kernel.len())..];
        let window = Window {
            stacks: images / self.depth,
            size: [self.depth, height, width],
            inputs,
            outputs,
            reach: self.reach,
        };
        let fits = inputs == channels && kernel == taps && window.taps() == kernel.iter().product::<usize>();
        if !fits || images % self.depth != 0 || window.windows().is_none() {
            bail!("weights {weight:?} do not convolve images {x:?} by {self:?}");
        }
        Ok(window)
    }
}

fn out_of(window: &Window) -> Shape {
    let [slices, rows, columns] = window.windows().unwrap_or_default();
    (window.stacks * slices, rows, columns, window.outputs).into()
}

/// Convolution of `x` (images, height, width, inputs), every `depth` of which are a stack, with `weight` ([kz,] ky, kx, inputs,
/// outputs) plus `bias` (outputs), through ReLU where `relu` is set. `kept` belongs to these weights, if they stay as they
/// are.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not contiguous f32 or f64.
pub fn window(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    (stacked, relu): (Stacked, bool),
    kept: Option<Arc<Kept>>,
) -> Result<Tensor> {
    x.apply_op3(weight, bias, Convolution { stacked, relu, kept })
}

/// What the gradient by the output of [`window`], before its ReLU, says of its input, its weights and its bias.
///
/// # Errors
/// Those of [`window`].
pub fn window_gradients(
    x: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
    (stacked, source): (Stacked, Source),
) -> Result<(Option<Tensor>, Tensor, Tensor)> {
    let window = stacked.over(x.shape(), weight.shape())?;
    let dx = match source {
        Source::Images => None,
        _ => Some(grad.apply_op3_no_bwd(weight, x, &InputGradient { window, source })?),
    };
    let dw = x.apply_op2_no_bwd(grad, &WeightGradient(window, weight.shape().clone()))?;
    Ok((dx, dw, grad.apply_op1_no_bwd(&ChannelSums)?))
}

struct Convolution {
    stacked: Stacked,
    relu: bool,
    kept: Option<Arc<Kept>>,
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "convolution of stacks"
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
        let window = self.stacked.over(x_layout.shape(), weight_layout.shape())?;
        let out = by_dtype!(x, T => {
            let (x, weight) = (values::<T>(x, x_layout)?, values(weight, weight_layout)?);
            let bias = values(bias, bias_layout)?;
            filled(window.outcomes() * window.outputs, |out: &mut [T]| {
                // How the weights are laid out does not depend on the images' size.
                with_kept(
                    self.kept.as_deref(),
                    [0; 2],
                    || window.prepare(weight),
                    |prepared| window.forward(x, prepared, bias, self.relu, out),
                )
            })
        });
        Ok((out, out_of(&window)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let how = (self.stacked, Source::Layer);
        let (dx, dw, db) = if self.relu {
            window_gradients(x, weight, &before_relu(grad, out)?, how)?
        } else {
            window_gradients(x, weight, grad, how)?
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
        let window = self.stacked.over(x_layout.shape(), weight_layout.shape())?;
        let (weight, bias) = ((weight, weight_layout), (bias, bias_layout));
        let out = cuda::window(&window, (x, x_layout), weight, bias, self.relu)?;
        Ok((out, out_of(&window)))
    }
}

struct InputGradient {
    window: Window,
    source: Source,
}

impl CustomOp3 for InputGradient {
    fn name(&self) -> &'static str {
        "gradient of a convolution of stacks by its input"
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
        let window = self.window;
        let storage = by_dtype!(grad, T => {
            let (grad, weight) = (values::<T>(grad, grad_layout)?, values(weight, weight_layout)?);
            let gate = gate(self.source, values(x, x_layout)?);
            filled(window.voxels() * window.inputs, |dx: &mut [T]| window.input_gradient(grad, weight, gate, dx))
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
        let dx = cuda::window_input_gradient(&self.window, grad, weight, gate)?;
        Ok((dx, x_layout.shape().clone()))
    }
}

/// With the shape of the weights.
struct WeightGradient(Window, Shape);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "gradient of a convolution of stacks by its weights"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let window = self.0;
        let storage = by_dtype!(x, T => {
            let (x, grad) = (values::<T>(x, x_layout)?, values(grad, grad_layout)?);
            filled(window.weights(), |dw: &mut [T]| window.weight_gradient(x, grad, dw))
        });
        Ok((storage, self.1.clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let dw = cuda::window_weight_gradient(&self.0, (x, x_layout), (grad, grad_layout))?;
        Ok((dw, self.1.clone()))
    }
}
