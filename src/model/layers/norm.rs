//! Normalisation over stacks of slices.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::conv::before_relu;
use super::{by_dtype, filled, values};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers as cuda;
use crate::model::kernels::Norm;

/// Every channel of `x` (images, height, width, channels), over `depth` images at a time, with `scale` (channels) for its
/// deviation and `shift` (channels) for its mean, through ReLU where `relu` is set.
///
/// # Errors
/// Images that make no whole number of stacks, or tensors that are not contiguous f32 or f64.
pub fn norm(x: &Tensor, scale: &Tensor, shift: &Tensor, depth: usize, relu: bool) -> Result<Tensor> {
    x.apply_op3(scale, shift, Normalisation { depth, relu })
}

/// What the gradient by the output of [`norm`], before its ReLU, says of its input, its scale and its shift.
///
/// # Errors
/// Those of [`norm`].
pub fn norm_gradients(x: &Tensor, scale: &Tensor, grad: &Tensor, depth: usize) -> Result<[Tensor; 3]> {
    let norm = norm_of(x.shape(), depth)?;
    let dx = x.apply_op3_no_bwd(scale, grad, &InputGradient(norm))?;
    let both = x.apply_op2_no_bwd(grad, &WeightGradient(norm))?;
    Ok([dx, both.get(0)?, both.get(1)?])
}

fn norm_of(x: &Shape, depth: usize) -> Result<Norm> {
    let (images, height, width, channels) = x.dims4()?;
    if images % depth != 0 {
        bail!("{images} images are no stacks of {depth}");
    }
    Ok(Norm {
        stacks: images / depth,
        pixels: depth * height * width,
        channels,
    })
}

struct Normalisation {
    depth: usize,
    relu: bool,
}

impl CustomOp3 for Normalisation {
    fn name(&self) -> &'static str {
        "normalisation"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let norm = norm_of(x_layout.shape(), self.depth)?;
        let storage = by_dtype!(x, T => {
            let x = values::<T>(x, x_layout)?;
            let learnt = (values(scale, scale_layout)?, values(shift, shift_layout)?);
            filled(x.len(), |out: &mut [T]| norm.forward(x, learnt, self.relu, out))
        });
        Ok((storage, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let before = match self.relu {
            true => &before_relu(grad, out)?,
            false => grad,
        };
        let [dx, by_scale, by_shift] = norm_gradients(x, scale, before, self.depth)?;
        Ok((Some(dx), Some(by_scale), Some(by_shift)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        scale: &CudaStorage,
        scale_layout: &Layout,
        shift: &CudaStorage,
        shift_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let norm = norm_of(x_layout.shape(), self.depth)?;
        let learnt = ((scale, scale_layout), (shift, shift_layout));
        Ok((
            cuda::norm(&norm, (x, x_layout), learnt, self.relu)?,
            x_layout.shape().clone(),
        ))
    }
}

struct InputGradient(Norm);

impl CustomOp3 for InputGradient {
    fn name(&self) -> &'static str {
        "gradient of a normalisation"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = by_dtype!(x, T => {
            let (x, grad) = (values::<T>(x, x_layout)?, values(grad, grad_layout)?);
            let scale = values(scale, scale_layout)?;
            filled(x.len(), |dx: &mut [T]| self.0.gradient(x, scale, grad, dx))
        });
        Ok((storage, x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        scale: &CudaStorage,
        scale_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (scale, grad) = ((scale, scale_layout), (grad, grad_layout));
        Ok((
            cuda::norm_gradient(&self.0, (x, x_layout), scale, grad)?,
            x_layout.shape().clone(),
        ))
    }
}

/// By the scales, then by the shifts: (2, channels).
struct WeightGradient(Norm);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "gradient of a normalisation by its scales and shifts"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = by_dtype!(x, T => {
            let (x, grad) = (values::<T>(x, x_layout)?, values(grad, grad_layout)?);
            filled(2 * self.0.channels, |out: &mut [T]| self.0.weight_gradient(x, grad, out))
        });
        Ok((storage, (2, self.0.channels).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let both = cuda::norm_weight_gradient(&self.0, (x, x_layout), (grad, grad_layout))?;
        Ok((both, (2, self.0.channels).into()))
    }
}
