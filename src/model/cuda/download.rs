//! Results on their way from a GPU, so that what was asked for later need not be waited for.

use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Error, Result, Storage, Tensor, bail};

use super::pinned::Pinned;

/// The bytes of a tensor on their way.
pub struct Download(Pinned);

impl Download {
    /// Begins to fetch a contiguous tensor of u8 or f64 once what makes it is done.
    ///
    /// # Errors
    /// A tensor that is not on a GPU, or of other numbers; what the driver says.
    pub fn begin(tensor: &Tensor) -> Result<Download> {
        let (storage, layout) = tensor.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cuda(storage), Some(range)) => begin(storage, range),
            _ => bail!("only a contiguous tensor is fetched from a GPU"),
        }
    }

    /// Waits for the bytes.
    ///
    /// # Errors
    /// What went wrong on the GPU meanwhile.
    pub fn end(&self) -> Result<&[u8]> {
        self.0.read()
    }
}

fn begin(storage: &CudaStorage, (from, end): (usize, usize)) -> Result<Download> {
    let (device, size) = (storage.device(), storage.dtype().size_in_bytes());
    let len = (end - from) * size;
    let stream = device.cuda_stream();
    let mut pinned = Pinned::take(&stream, len)?;
    // As many bytes as there are: cudarc would copy as many as the memory has, which may be larger.
    let to = &mut pinned.memory().as_mut_slice().map_err(Error::wrap)?[..len];
    match storage.dtype() {
        DType::U8 => stream.memcpy_dtoh(&storage.as_cuda_slice::<u8>()?.slice(from..end), to),
        DType::F64 => {
            let values = storage.as_cuda_slice::<f64>()?.slice(from..end);
            // SAFETY: any number is eight bytes.
            let bytes = unsafe { values.transmute::<u8>(len) };
            stream.memcpy_dtoh(&bytes.expect("as many bytes as the numbers have"), to)
        }
        other => bail!("{other:?} is not fetched by itself"),
    }
    .map_err(Error::wrap)?;
    pinned.used_by(&stream)?;
    Ok(Download(pinned))
}
