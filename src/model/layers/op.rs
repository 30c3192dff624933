//! One way for a kernel to be a candle operation, with a gradient of its own where it has one.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, InplaceOp3, Layout, Result, Shape, Tensor, WithDType, bail,
};

use super::{by_dtype, filled, values};
#[cfg(feature = "cuda")]
use crate::model::cuda::layers::At;
use crate::model::kernels::Real;

/// What is computed of `N` tensors, all of one number type and contiguous. It knows their shapes: whoever makes it has held
/// them against each other.
pub trait Kernel<const N: usize>: Send + Sync {
    /// What it is called.
    const NAME: &'static str;

    /// The shape of the output.
    fn shape(&self) -> Shape;

    /// Fills the output from the inputs' values: all of it, since it is anything before.
    fn cpu<T: Real + WithDType>(&self, inputs: [&[T]; N], out: &mut [T]);

    /// The output on a GPU.
    ///
    /// # Errors
    /// Those of the GPU.
    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: [At<'_>; N]) -> Result<CudaStorage>;

    /// What the gradient by the output says of the inputs, for candle's graph.
    ///
    /// # Errors
    /// One that has no way back.
    fn back(&self, _inputs: [&Tensor; N], _out: &Tensor, _grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        bail!("{} has no way back", Self::NAME)
    }
}

/// A kernel as candle knows it.
pub struct Op<K>(pub K);

/// What changes a tensor by two others, all of one number type and contiguous; whoever makes it has held their shapes against each
/// other.
pub trait Change: Send + Sync {
    /// What it is called.
    const NAME: &'static str;

    /// Changes `values`.
    fn cpu<T: Real + WithDType>(&self, values: &mut [T], by: [&[T]; 2]);

    /// The same on a GPU.
    ///
    /// # Errors
    /// Those of the GPU.
    #[cfg(feature = "cuda")]
    fn cuda(&self, values: At<'_>, by: [At<'_>; 2]) -> Result<()>;
}

impl<C: Change> InplaceOp3 for Op<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn cpu_fwd(
        &self,
        changed: &mut CpuStorage,
        at: &Layout,
        a: &CpuStorage,
        a_at: &Layout,
        b: &CpuStorage,
        b_at: &Layout,
    ) -> Result<()> {
        match (changed, at.contiguous_offsets()) {
            (CpuStorage::F32(changed), Some((from, to))) => {
                self.0
                    .cpu(&mut changed[from..to], [values(a, a_at)?, values(b, b_at)?]);
            }
            (CpuStorage::F64(changed), Some((from, to))) => {
                self.0
                    .cpu(&mut changed[from..to], [values(a, a_at)?, values(b, b_at)?]);
            }
            _ => bail!("{} changes contiguous tensors of f32 or f64", C::NAME),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        changed: &mut CudaStorage,
        at: &Layout,
        a: &CudaStorage,
        a_at: &Layout,
        b: &CudaStorage,
        b_at: &Layout,
    ) -> Result<()> {
        self.0.cuda((changed, at), [(a, a_at), (b, b_at)])
    }
}

fn len<const N: usize>(kernel: &impl Kernel<N>) -> usize {
    kernel.shape().elem_count()
}

impl<K: Kernel<1>> CustomOp1 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, at: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = by_dtype!(x, T => {
            let x = values::<T>(x, at)?;
            filled(len(&self.0), |out: &mut [T]| self.0.cpu([x], out))
        });
        Ok((out, self.0.shape()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, at: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((self.0.cuda([(x, at)])?, self.0.shape()))
    }

    fn bwd(&self, x: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = self.0.back([x], out, grad)?;
        Ok(dx)
    }
}

impl<K: Kernel<2>> CustomOp2 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_at: &Layout,
        b: &CpuStorage,
        b_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = by_dtype!(a, T => {
            let inputs = [values::<T>(a, a_at)?, values(b, b_at)?];
            filled(len(&self.0), |out: &mut [T]| self.0.cpu(inputs, out))
        });
        Ok((out, self.0.shape()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_at: &Layout,
        b: &CudaStorage,
        b_at: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((self.0.cuda([(a, a_at), (b, b_at)])?, self.0.shape()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [da, db] = self.0.back([a, b], out, grad)?;
        Ok((da, db))
    }
}

impl<K: Kernel<3>> CustomOp3 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_at: &Layout,
        b: &CpuStorage,
        b_at: &Layout,
        c: &CpuStorage,
        c_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = by_dtype!(a, T => {
            let inputs = [values::<T>(a, a_at)?, values(b, b_at)?, values(c, c_at)?];
            filled(len(&self.0), |out: &mut [T]| self.0.cpu(inputs, out))
        });
        Ok((out, self.0.shape()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_at: &Layout,
        b: &CudaStorage,
        b_at: &Layout,
        c: &CudaStorage,
        c_at: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((self.0.cuda([(a, a_at), (b, b_at), (c, c_at)])?, self.0.shape()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [da, db, dc] = self.0.back([a, b, c], out, grad)?;
        Ok((da, db, dc))
    }
}
