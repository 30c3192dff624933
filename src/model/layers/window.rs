//! Convolutions by windows of any size over stacks of slices.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{Result, Shape, Tensor, WithDType, bail};

use super::conv::{before_relu, bias_gradient};
use super::op::{Kernel, Op};
use super::{Kept, Source, gate, with_kept};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers::{self as cuda, At};
use crate::model::kernels::{Reach, Real, Window};

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
    let convolution = Convolution {
        window: stacked.over(x.shape(), weight.shape())?,
        stacked,
        relu,
        kept,
    };
    x.apply_op3(weight, bias, Op(convolution))
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
        _ => Some(grad.apply_op3_no_bwd(weight, x, &Op(InputGradient { window, source }))?),
    };
    let dw = x.apply_op2_no_bwd(grad, &Op(WeightGradient(window, weight.shape().clone())))?;
    Ok((dx, dw, bias_gradient(grad)?))
}

struct Convolution {
    window: Window,
    stacked: Stacked,
    relu: bool,
    kept: Option<Arc<Kept>>,
}

impl Kernel<3> for Convolution {
    const NAME: &'static str = "convolution of stacks";

    fn shape(&self) -> Shape {
        let [slices, rows, columns] = self.window.windows().unwrap_or_default();
        (self.window.stacks * slices, rows, columns, self.window.outputs).into()
    }

    fn cpu<T: Real + WithDType>(&self, [x, weight, bias]: [&[T]; 3], out: &mut [T]) {
        // How the weights are laid out does not depend on the images' size.
        with_kept(
            self.kept.as_deref(),
            [0; 2],
            || self.window.prepare(weight),
            |prepared| self.window.forward(x, prepared, bias, self.relu, out),
        );
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, weight, bias]: [At<'_>; 3]) -> Result<CudaStorage> {
        cuda::window(&self.window, x, weight, bias, self.relu)
    }

    fn back(&self, [x, weight, _]: [&Tensor; 3], out: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let before = match self.relu {
            true => &before_relu(grad, out)?,
            false => grad,
        };
        let (dx, dw, db) = window_gradients(x, weight, before, (self.stacked, Source::Layer))?;
        Ok([dx, Some(dw), Some(db)])
    }
}

struct InputGradient {
    window: Window,
    source: Source,
}

impl Kernel<3> for InputGradient {
    const NAME: &'static str = "gradient of a convolution of stacks by its input";

    fn shape(&self) -> Shape {
        let [slices, rows, columns] = self.window.size;
        (self.window.stacks * slices, rows, columns, self.window.inputs).into()
    }

    fn cpu<T: Real + WithDType>(&self, [grad, weight, x]: [&[T]; 3], dx: &mut [T]) {
        self.window.input_gradient(grad, weight, gate(self.source, x), dx);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [grad, weight, x]: [At<'_>; 3]) -> Result<CudaStorage> {
        let gate = (self.source == Source::Relu).then_some(x);
        cuda::window_input_gradient(&self.window, grad, weight, gate)
    }
}

/// With the shape of the weights.
struct WeightGradient(Window, Shape);

impl Kernel<2> for WeightGradient {
    const NAME: &'static str = "gradient of a convolution of stacks by its weights";

    fn shape(&self) -> Shape {
        self.1.clone()
    }

    fn cpu<T: Real + WithDType>(&self, [x, grad]: [&[T]; 2], dw: &mut [T]) {
        self.0.weight_gradient(x, grad, dw);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, grad]: [At<'_>; 2]) -> Result<CudaStorage> {
        cuda::window_weight_gradient(&self.0, x, grad)
    }
}
