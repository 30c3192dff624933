//! The layers on NVIDIA GPUs: kernels of our own, products by cuBLAS, convolutions by cuDNN where it is.
//!
//! [`ops`] says how every layer is made of kernels and products; it knows a device only as [`gpu::Gpu`], so that tests
//! try it on the CPU, with the same kernels, where there is no GPU. The layers call it from their candle operations.

mod gpu;
mod ops;

#[cfg(feature = "cudnn")]
mod cudnn;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod download;
#[cfg(test)]
mod emulated;
#[cfg(feature = "cuda")]
pub mod layers;
#[cfg(feature = "cuda")]
mod pinned;
#[cfg(feature = "cuda")]
mod repeated;
#[cfg(all(test, feature = "cuda"))]
mod tests;
#[cfg(feature = "cuda")]
mod upload;
#[cfg(feature = "cuda")]
mod usage;

#[cfg(feature = "cuda")]
pub use device::{count, name, open, set_precision};
#[cfg(feature = "cuda")]
pub use download::Download;
#[cfg(feature = "cuda")]
pub use repeated::Repeated;
#[cfg(feature = "cuda")]
pub use upload::{Number, upload};
#[cfg(feature = "cuda")]
pub use usage::usage;

/// The source of all kernels.
const KERNELS: &str = concat!(
    include_str!("kernels/common.cu"),
    include_str!("kernels/images.cu"),
    include_str!("kernels/learning.cu"),
    include_str!("kernels/judging.cu"),
    include_str!("kernels/stacks.cu"),
);
