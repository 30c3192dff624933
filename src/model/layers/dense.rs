//! Max pooling at every pixel.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{Result, Shape, Tensor, WithDType, bail};

use super::op::{Kernel, Op};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers::{self as cuda, At};
use crate::model::kernels::{DensePool, Real};

/// The largest of each four pixels of `x` (batch, height, width, channels) that lie `apart` rows and columns from one another;
/// of equals, the first gets the gradient. The output has `apart` rows and columns fewer.
///
/// # Errors
/// Images that are too small, or tensors that are not contiguous f32 or f64.
pub fn dense_pool(x: &Tensor, apart: usize) -> Result<Tensor> {
    x.apply_op1(Op(Pooling(pool_of(x.shape(), apart)?)))
}

/// What the gradient by the output of [`dense_pool`] says of its input.
///
/// # Errors
/// Those of [`dense_pool`].
pub fn dense_pool_gradient(x: &Tensor, grad: &Tensor, apart: usize) -> Result<Tensor> {
    x.apply_op2_no_bwd(grad, &Op(Gradient(pool_of(x.shape(), apart)?)))
}

fn pool_of(x: &Shape, apart: usize) -> Result<DensePool> {
    let (batch, height, width, channels) = x.dims4()?;
    if height <= apart || width <= apart {
        bail!("images {x:?} have no pixels {apart} apart");
    }
    Ok(DensePool {
        batch,
        height,
        width,
        channels,
        apart,
    })
}

struct Pooling(DensePool);

impl Kernel<1> for Pooling {
    const NAME: &'static str = "max pooling at every pixel";

    fn shape(&self) -> Shape {
        let pool = self.0;
        let (height, width) = (pool.height - pool.apart, pool.width - pool.apart);
        (pool.batch, height, width, pool.channels).into()
    }

    fn cpu<T: Real + WithDType>(&self, [x]: [&[T]; 1], out: &mut [T]) {
        self.0.forward(x, out);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x]: [At<'_>; 1]) -> Result<CudaStorage> {
        cuda::dense_pool(&self.0, x)
    }

    fn back(&self, [x]: [&Tensor; 1], _: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(dense_pool_gradient(x, grad, self.0.apart)?)])
    }
}

struct Gradient(DensePool);

impl Kernel<2> for Gradient {
    const NAME: &'static str = "gradient of max pooling at every pixel";

    fn shape(&self) -> Shape {
        let pool = self.0;
        (pool.batch, pool.height, pool.width, pool.channels).into()
    }

    fn cpu<T: Real + WithDType>(&self, [x, grad]: [&[T]; 2], dx: &mut [T]) {
        self.0.gradient(x, grad, dx);
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [x, grad]: [At<'_>; 2]) -> Result<CudaStorage> {
        cuda::dense_pool_gradient(&self.0, x, grad)
    }
}
