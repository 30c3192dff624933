//! Tensors of values that are here, wherever they are wanted.

use candle_core::{Shape, Tensor, WithDType};

/// What tensors are made of.
#[cfg(not(feature = "cuda"))]
pub(super) trait Number: WithDType {}
#[cfg(not(feature = "cuda"))]
impl<T: WithDType> Number for T {}

/// What tensors are made of.
#[cfg(feature = "cuda")]
pub(super) trait Number: WithDType + super::cuda::Number {}
#[cfg(feature = "cuda")]
impl<T: WithDType + super::cuda::Number> Number for T {}

/// A tensor on `device`; to a GPU its values travel while it computes.
pub(super) fn placed<T: Number>(
    values: Vec<T>,
    shape: impl Into<Shape>,
    device: &candle_core::Device,
) -> candle_core::Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = device {
        return super::cuda::upload(&values, shape.into(), device);
    }
    Tensor::from_vec(values, shape.into(), device)
}
