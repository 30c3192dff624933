//! Max pooling at every pixel.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::{by_dtype, filled, values};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers as cuda;
use crate::model::kernels::DensePool;

/// The largest of each four pixels of `x` (batch, height, width, channels) that lie `apart` rows and columns from one another;
/// of equals, the first gets the gradient. The output has `apart` rows and columns fewer.
///
/// # Errors
/// Images that are too small, or tensors that are not contiguous f32 or f64.
pub fn dense_pool(x: &Tensor, apart: usize) -> Result<Tensor> {
    x.apply_op1(Pooling(apart))
}

/// What the gradient by the output of [`dense_pool`] says of its input.
///
/// # Errors
/// Those of [`dense_pool`].
pub fn dense_pool_gradient(x: &Tensor, grad: &Tensor, apart: usize) -> Result<Tensor> {
    x.apply_op2_no_bwd(grad, &Gradient(apart))
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

fn out_of(pool: &DensePool) -> Shape {
    let (height, width) = (pool.height - pool.apart, pool.width - pool.apart);
    (pool.batch, height, width, pool.channels).into()
}

struct Pooling(usize);

impl CustomOp1 for Pooling {
    fn name(&self) -> &'static str {
        "max pooling at every pixel"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let pool = pool_of(layout.shape(), self.0)?;
        let storage = by_dtype!(x, T => {
            let x = values::<T>(x, layout)?;
            filled(pool.outputs(), |out: &mut [T]| pool.forward(x, out))
        });
        Ok((storage, out_of(&pool)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        dense_pool_gradient(x, grad, self.0).map(Some)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let pool = pool_of(layout.shape(), self.0)?;
        Ok((cuda::dense_pool(&pool, (x, layout))?, out_of(&pool)))
    }
}

struct Gradient(usize);

impl CustomOp2 for Gradient {
    fn name(&self) -> &'static str {
        "gradient of max pooling at every pixel"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let pool = pool_of(x_layout.shape(), self.0)?;
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
        let pool = pool_of(x_layout.shape(), self.0)?;
        let dx = cuda::dense_pool_gradient(&pool, (x, x_layout), (grad, grad_layout))?;
        Ok((dx, x_layout.shape().clone()))
    }
}
