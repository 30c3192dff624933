//! Memory of this machine that a GPU reads and writes by itself.

use std::sync::{Arc, Mutex};

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice};
use candle_core::{Error, Result};

/// What earlier transfers have left, each with the end of its last: asking the driver for more waits for the GPU.
static KEPT: Mutex<Vec<(PinnedHostSlice<u8>, CudaEvent)>> = Mutex::new(Vec::new());

/// Some bytes of it; their next owner takes them only when the GPU is done with them.
pub struct Pinned {
    /// `None` only while it is dropped.
    memory: Option<PinnedHostSlice<u8>>,
    len: usize,
    /// When the GPU is done with it.
    done: Option<CudaEvent>,
}

impl Pinned {
    /// `len` bytes, with whatever was left there.
    ///
    /// # Errors
    /// What the driver says.
    pub fn take(stream: &Arc<CudaStream>, len: usize) -> Result<Pinned> {
        let memory = match smallest(len) {
            Some(memory) => memory,
            // SAFETY: who takes it writes it before it is read.
            None => unsafe { stream.context().alloc_pinned_with_flags(len, 0) }.map_err(Error::wrap)?,
        };
        Ok(Pinned {
            memory: Some(memory),
            len,
            done: None,
        })
    }

    /// To be called with what was asked of `stream` last that reads or writes it.
    pub fn used_by(&mut self, stream: &CudaStream) -> Result<()> {
        self.done = Some(stream.record_event(None).map_err(Error::wrap)?);
        Ok(())
    }

    /// When the GPU is done with it, if it was told to do anything.
    pub fn done(&self) -> Option<&CudaEvent> {
        self.done.as_ref()
    }

    /// The bytes, once the GPU is done with them.
    pub fn read(&self) -> Result<&[u8]> {
        if let Some(done) = &self.done {
            done.synchronize().map_err(Error::wrap)?;
        }
        let memory = self.memory.as_ref().expect("it is not being dropped");
        Ok(&memory.as_slice().map_err(Error::wrap)?[..self.len])
    }

    /// The whole memory, which may be larger than what was asked for, to be written.
    pub fn memory(&mut self) -> &mut PinnedHostSlice<u8> {
        self.memory.as_mut().expect("it is not being dropped")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Memory whose use could not be marked is freed, and the driver waits for what is under way there.
        if let (Some(memory), Some(done), Ok(mut kept)) = (self.memory.take(), self.done.take(), KEPT.lock())
        {
            kept.push((memory, done));
        }
    }
}

/// The smallest memory that is kept, free and large enough.
fn smallest(len: usize) -> Option<PinnedHostSlice<u8>> {
    let mut kept = KEPT.lock().ok()?;
    let fits = (0..kept.len())
        .filter(|&n| kept[n].0.len() >= len && kept[n].1.is_complete())
        .min_by_key(|&n| kept[n].0.len())?;
    Some(kept.swap_remove(fits).0)
}
