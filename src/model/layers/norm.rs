//! Normalisation over stacks of slices.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{Result, Shape, Tensor, WithDType, bail};

use super::conv::before_relu;
use super::op::{Kernel, Op};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers::{self as cuda, At};
use crate::model::kernels::{Norm, Real};

/// Every channel of `x` (images, height, width, channels), over `depth` images at a time, with `scale` (channels) for its
/// deviation and `shift` (channels) for its mean, through ReLU where `relu` is set.
///
/// # Errors
/// Images that make no whole number of stacks, or tensors that are not contiguous f32 or f64.
pub fn norm(x: &Tensor, scale: &Tensor, shift: &Tensor, depth: usize, relu: bool) -> Result<Tensor> {
    let normalisation = Normalisation {
        norm: norm_of(x.shape(), depth)?,
        shape: x.shape().clone(),
        depth,
        relu,
    };
    x.apply_op3(scale, shift, Op(normalisation))
}

/// What the gradient by the output of [`norm`], before its ReLU, says of its input, its scale and its shift.
///
/// # Errors
/// Those of [`norm`].
pub fn norm_gradients(x: &Tensor, scale: &Tensor, grad: &Tensor, depth: usize) -> Result<[Tensor; 3]> {
    let norm = norm_of(x.shape(), depth)?;
    let all = x.apply_op3_no_bwd(scale, grad, &Op(Gradients(norm)))?;
    let (values, channels) = (x.elem_count(), norm.channels);
    Ok([
        all.narrow(0, 0, values)?.reshape(x.shape())?,
        all.narrow(0, values, channels)?,
        all.narrow(0, values + channels, channels)?,
    ])
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
    norm: Norm,
    shape: Shape,
    depth: usize,
    relu: bool,
}

impl Kernel<3> for Normalisation {
    const NAME: &'static str = "normalisation";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn cpu<T: Real + WithDType>(&self, [x, scale, shift]: [&[T]; 3], out: &mut [T]) {
        self.norm.forward(x, (scale, shift), self.relu, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, scale, shift]: [At<'_>; 3]) -> Result<CudaStorage> {
        cuda::norm(&self.norm, x, (scale, shift), self.relu)
    }

    fn back(&self, [x, scale, _]: [&Tensor; 3], out: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let before = match self.relu {
            true => &before_relu(grad, out)?,
            false => grad,
        };
        Ok(norm_gradients(x, scale, before, self.depth)?.map(Some))
    }
}

/// By the input, then by the scales, then by the shifts, one after the other: all come from the same sums.
struct Gradients(Norm);

impl Kernel<3> for Gradients {
    const NAME: &'static str = "gradients of a normalisation";

    fn shape(&self) -> Shape {
        self.0.gradients().into()
    }

    fn cpu<T: Real + WithDType>(&self, [x, scale, grad]: [&[T]; 3], out: &mut [T]) {
        self.0.gradient(x, scale, grad, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, scale, grad]: [At<'_>; 3]) -> Result<CudaStorage> {
        cuda::norm_gradient(&self.0, x, scale, grad)
    }
}
