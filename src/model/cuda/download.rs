//! Results on their way from a GPU, through memory that the GPU writes by itself, so that what was asked for later need
//! not be waited for.

use std::sync::Mutex;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, PinnedHostSlice};
use candle_core::{CudaStorage, DType, Error, Result, Storage, Tensor, bail};

/// Memory of earlier downloads: asking the driver for more waits for the GPU.
static KEPT: Mutex<Vec<PinnedHostSlice<u8>>> = Mutex::new(Vec::new());

/// The bytes of a tensor on their way.
pub struct Download {
    /// `None` only while it is dropped.
    to: Option<PinnedHostSlice<u8>>,
    len: usize,
    /// When they are there.
    done: CudaEvent,
}

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
    pub fn end(&self) -> Result<Vec<u8>> {
        self.done.synchronize().map_err(Error::wrap)?;
        let to = self.to.as_ref().expect("it is not being dropped");
        Ok(to.as_slice().map_err(Error::wrap)?[..self.len].to_vec())
    }
}

impl Drop for Download {
    /// The memory is somebody else's only when nothing is written there any more.
    fn drop(&mut self) {
        let is_done = self.done.synchronize().is_ok();
        if let (true, Some(to), Ok(mut kept)) = (is_done, self.to.take(), KEPT.lock()) {
            kept.push(to);
        }
    }
}

fn begin(storage: &CudaStorage, (from, to): (usize, usize)) -> Result<Download> {
    let (device, size) = (storage.device(), storage.dtype().size_in_bytes());
    let len = (to - from) * size;
    let stream = device.cuda_stream();
    let mut memory = match take(len) {
        Some(memory) => memory,
        // SAFETY: it is read only where the copy below has written.
        None => unsafe { stream.context().alloc_pinned_with_flags(len, 0) }.map_err(Error::wrap)?,
    };
    match storage.dtype() {
        DType::U8 => stream.memcpy_dtoh(&storage.as_cuda_slice::<u8>()?.slice(from..to), &mut memory),
        DType::F64 => {
            let values = storage.as_cuda_slice::<f64>()?.slice(from..to);
            // SAFETY: any number is eight bytes.
            let bytes = unsafe { values.transmute::<u8>(len) };
            stream.memcpy_dtoh(&bytes.expect("as many bytes as the numbers have"), &mut memory)
        }
        other => bail!("{other:?} is not fetched by itself"),
    }
    .map_err(Error::wrap)?;
    Ok(Download {
        done: stream.record_event(None).map_err(Error::wrap)?,
        to: Some(memory),
        len,
    })
}

/// The smallest memory that is kept and large enough.
fn take(len: usize) -> Option<PinnedHostSlice<u8>> {
    let mut kept = KEPT.lock().ok()?;
    let fits = (0..kept.len())
        .filter(|&n| kept[n].len() >= len)
        .min_by_key(|&n| kept[n].len())?;
    Some(kept.swap_remove(fits))
}
