//! Images on their way to a GPU, on a stream of their own: they arrive while the images before them are computed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::cuda_backend::{
    CudaDType, DeviceId,
    cudarc::driver::{CudaStream, DeviceRepr, result::memcpy_htod_async},
};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, Error, Result, Shape, Storage, Tensor};

use super::pinned::Pinned;

/// What a tensor is uploaded of.
pub trait Number: CudaDType + DeviceRepr + Copy {}

impl<T: CudaDType + DeviceRepr + Copy> Number for T {}

/// A tensor of `values` on `device`, there before anything that is asked of the device from now on.
///
/// # Errors
/// What the driver says; a full memory among it.
pub fn upload<T: Number>(values: &[T], shape: Shape, device: &CudaDevice) -> Result<Tensor> {
    let (computing, uploading) = (device.cuda_stream(), stream(device)?);
    let mut pinned = Pinned::take(&uploading, size_of_val(values))?;
    // SAFETY: plain numbers, read as the bytes they are.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    let from = &mut pinned.memory().as_mut_slice().map_err(Error::wrap)?[..bytes.len()];
    from.copy_from_slice(bytes);
    // SAFETY: the copy below writes all of it. It is taken on the stream that writes it, and left to the one that reads it
    // and frees it, which waits for that.
    let to = unsafe { uploading.alloc::<T>(values.len()) }
        .map_err(Error::wrap)?
        .leak();
    // SAFETY: as many bytes as both have; `from` is nobody else's until its use is done.
    let copied = unsafe { memcpy_htod_async(to, from, uploading.cu_stream()) }.map_err(Error::wrap);
    let ended = copied.and_then(|()| pinned.used_by(&uploading));
    // SAFETY: just taken, of this length, and owned by nobody else.
    let slice = unsafe { computing.upgrade_device_ptr::<T>(to, values.len()) };
    ended?;
    if let Some(done) = pinned.done() {
        computing.wait(done).map_err(Error::wrap)?;
    }
    let storage = Storage::Cuda(T::wrap_cuda_slice(slice, device.clone()));
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

/// The stream that a device's images come by.
fn stream(device: &CudaDevice) -> Result<Arc<CudaStream>> {
    static STREAMS: Mutex<Option<HashMap<DeviceId, Arc<CudaStream>>>> = Mutex::new(None);
    let mut streams = STREAMS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let streams = streams.get_or_insert_default();
    if let Some(stream) = streams.get(&device.id()) {
        return Ok(stream.clone());
    }
    let stream = device.cuda_stream().context().new_stream().map_err(Error::wrap)?;
    streams.insert(device.id(), stream.clone());
    Ok(stream)
}
