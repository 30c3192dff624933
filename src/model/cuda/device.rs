//! A real device: candle's, with our kernels and products on its stream.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::cublas::{result::gemm_ex, sys};
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaSlice, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, result,
    sys::CUmemPool_attribute,
};
use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Error, Layout, Result, bail};

use super::gpu::{ARGUMENTS, Gpu, Kind, Product, symbol};
use crate::settings::Precision;

/// Threads of a block.
const THREADS: u32 = 256;

/// What convolutions and products are computed in: of a worker there is one at a time.
static PRECISION: AtomicU8 = AtomicU8::new(Precision::Tf32 as u8);

/// Sets the numbers that convolutions and products are computed with from now on.
pub fn set_precision(precision: Precision) {
    PRECISION.store(precision as u8, Ordering::Relaxed);
}

/// Whether products of f32 may be rounded to TF32.
pub fn is_rounded() -> bool {
    PRECISION.load(Ordering::Relaxed) != Precision::F32 as u8
}

/// GPUs there are; or why that cannot be said.
pub fn count() -> std::result::Result<usize, String> {
    let count = CudaContext::device_count().map_err(|error| format!("the driver says {error}"))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The GPU of this number; or why it cannot be had.
pub fn open(n: usize) -> std::result::Result<Device, String> {
    let count = count()?;
    if n >= count {
        return Err(format!("there are {count} GPUs"));
    }
    let device = CudaDevice::new_with_stream(n).map_err(|error| error.to_string())?;
    // SAFETY: the worker computes on this one stream alone, which keeps the order, and `upload` makes it wait for what comes by
    // another; events of every tensor would only cost time.
    unsafe { device.disable_event_tracking() };
    keep_memory(&device);
    Ok(Device::Cuda(device))
}

/// Lets the device keep what is freed for the next step; by itself it gives all of it back whenever it is waited for.
fn keep_memory(device: &CudaDevice) {
    let context = device.cuda_stream().context().clone();
    let all = u64::MAX;
    // SAFETY: the pool is the device's own, and the attribute takes one 64-bit number. A device without pools keeps what it
    // does anyway.
    unsafe {
        if let Ok(pool) = result::device::get_default_mem_pool(context.cu_device()) {
            let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            let _ = result::mem_pool::set_attribute(pool, threshold, (&raw const all).cast_mut().cast());
        }
    }
}

/// What the device is called.
pub fn name(device: &Device) -> Option<String> {
    match device {
        Device::Cuda(device) => device.cuda_stream().context().name().ok(),
        _ => None,
    }
}

/// The arguments of a kernel, as `kernels/common.cu` has them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Words([u64; ARGUMENTS]);

// SAFETY: plain words, laid out as in C.
unsafe impl DeviceRepr for Words {}

/// The kernels for a driver to load, compiled once.
fn kernels() -> Result<&'static str> {
    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let compiled = PTX.get_or_init(|| {
        compile_ptx(super::KERNELS)
            .map(|ptx| ptx.to_src())
            .map_err(|error| format!("compiling the kernels by NVRTC: {error:?}"))
    });
    compiled.as_deref().map_err(|error| Error::msg(error.clone()))
}

impl Gpu for CudaDevice {
    type Memory = CudaSlice<u8>;

    fn memory(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: whoever takes it writes it before it is read.
        unsafe { self.alloc::<u8>(bytes) }
    }

    fn address(&self, memory: &CudaSlice<u8>) -> u64 {
        memory.device_ptr(&self.cuda_stream()).0
    }

    fn launch(&self, kernel: &str, arguments: &[u64]) -> Result<()> {
        let mut words = Words([0; ARGUMENTS]);
        words.0[..arguments.len()].copy_from_slice(arguments);
        if arguments[0] == 0 {
            return Ok(());
        }
        // The kernels count in 32 bits: their threads, and what they index, which is at most four times as many of the numbers
        // or packs that a thread takes. Images as large as that would not fit a device.
        if arguments[0] >= 1 << 31 {
            bail!(
                "{kernel} by {} threads at a time is more than a GPU's kernels count; use fewer tiles",
                arguments[0]
            );
        }
        let function = self.get_or_load_custom_func(&symbol(kernel), "overtrace", kernels()?)?;
        let config = LaunchConfig {
            grid_dim: (arguments[0].div_ceil(u64::from(THREADS)) as u32, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut launch = function.builder();
        launch.arg(&words);
        // SAFETY: the signature is that of every kernel of `kernels/`; the addresses are those of whole tensors of
        // the shapes that `ops` computes with, alive until the stream has come past this launch.
        unsafe { launch.launch(config) }.map_err(Error::wrap)?;
        Ok(())
    }

    fn multiply(&self, product: &Product) -> Result<()> {
        let (size, first, second) = product.column_major();
        let [m, n, k] = size.map(|n| n as i32);
        let kind = match product.kind {
            Kind::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Kind::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        };
        let taken = |transposed| match transposed {
            true => sys::cublasOperation_t::CUBLAS_OP_T,
            false => sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let compute = if product.kind == Kind::F32 && is_rounded() && !product.exact {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
        } else {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
        };
        let (one, before) = (1f32, f32::from(u8::from(product.further)));
        let (stream, blas) = (self.cuda_stream(), self.cublas_handle());
        stream.context().bind_to_thread().map_err(Error::wrap)?;
        // SAFETY: the addresses are those of such matrices, alive until the stream has come past this product.
        unsafe {
            gemm_ex(
                *blas.handle(),
                taken(first.transposed),
                taken(second.transposed),
                m,
                n,
                k,
                (&raw const one).cast(),
                first.at as *const _,
                kind,
                first.step as i32,
                second.at as *const _,
                kind,
                second.step as i32,
                (&raw const before).cast(),
                product.c as *mut _,
                sys::cudaDataType_t::CUDA_R_32F,
                m,
                compute,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(Error::wrap)
    }
}

/// The kind of a layer's numbers.
pub fn kind(storage: &CudaStorage) -> Result<Kind> {
    use candle_core::backend::BackendStorage;
    match storage.dtype() {
        DType::F32 => Ok(Kind::F32),
        DType::BF16 => Ok(Kind::Bf16),
        other => bail!("a layer computes in f32 or bf16 on a GPU, not in {other:?}"),
    }
}

/// Where the values of a contiguous tensor begin, whatever they are.
pub fn address(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    use candle_core::backend::BackendStorage;
    match storage.dtype() {
        DType::U8 => of::<u8>(storage, layout),
        DType::U32 => of::<u32>(storage, layout),
        DType::F32 => of::<f32>(storage, layout),
        DType::F64 => of::<f64>(storage, layout),
        DType::BF16 => of::<half::bf16>(storage, layout),
        other => bail!("no layer takes {other:?} on a GPU"),
    }
}

fn of<T: CudaDType>(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!(
            "a layer takes contiguous tensors, not the strides {:?}",
            layout.stride()
        )
    };
    let view = T::as_cuda_slice(storage)?.slice(from..to);
    Ok(view.device_ptr(&storage.device.cuda_stream()).0)
}

/// A new tensor's storage, filled by what `fill` does at its address.
pub fn filled<T: CudaDType + DeviceRepr>(
    device: &CudaDevice,
    len: usize,
    fill: impl FnOnce(u64) -> Result<()>,
) -> Result<CudaStorage> {
    // SAFETY: `fill` writes all of it.
    let mut slice = unsafe { device.alloc::<T>(len)? };
    let at = slice.device_ptr_mut(&device.cuda_stream()).0;
    fill(at)?;
    Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
}

/// The same, of the numbers of `kind`.
pub fn filled_of(
    kind: Kind,
    device: &CudaDevice,
    len: usize,
    fill: impl FnOnce(u64) -> Result<()>,
) -> Result<CudaStorage> {
    match kind {
        Kind::F32 => filled::<f32>(device, len, fill),
        Kind::Bf16 => filled::<half::bf16>(device, len, fill),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs no GPU.
    #[test]
    fn the_kernels_compile_for_a_gpu() {
        let ptx = kernels().unwrap_or_else(|error| panic!("{error}"));
        for kernel in ["pad_f32", "crop_bf16", "judge", "norm"] {
            assert!(
                ptx.contains(&format!(".entry {}(", symbol(kernel))),
                "{kernel} is missing"
            );
        }
    }
}
