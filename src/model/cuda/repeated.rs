//! Work that is asked of a GPU again and again, recorded: the driver then starts all of it at a time.
//!
//! To start a kernel costs the CPU some microseconds, and cuDNN thinks every convolution over anew; what is done to a small batch
//! is waited for longer than it takes. The first time work is done as it is, so that everything it needs is loaded; the second
//! time it is recorded (NVIDIA, CUDA C++ programming guide, "CUDA graphs"), and from then on replayed.

use candle_core::cuda_backend::cudarc::driver::{
    CudaGraph, result,
    sys::{CUgraphInstantiate_flags, CUstreamCaptureMode},
};
use candle_core::{CudaDevice, Device, Error, Result, Storage, Tensor};

use super::device::address;
use crate::model::ModelError;

/// Work with what it was last done to.
#[derive(Default)]
pub struct Repeated {
    known: Option<Known>,
    /// The shapes that came last.
    last: Vec<Vec<usize>>,
    /// How often in a row it could not be replayed, and all of [`LIVES`] where the driver cannot.
    failed: usize,
}

/// How often in a row the memory may be too full to replay before it is not tried any more.
const LIVES: usize = 3;

/// Work on tensors of these shapes.
struct Known {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    graph: Option<CudaGraph>,
}

impl std::fmt::Debug for Repeated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_recorded = self.known.as_ref().is_some_and(|known| known.graph.is_some());
        write!(f, "Repeated {{ is_recorded: {is_recorded} }}")
    }
}

// SAFETY: the driver lets any thread use a graph, one at a time; `run` takes `&mut self`.
unsafe impl Send for Repeated {}
// SAFETY: by a shared reference nothing is asked of the driver.
unsafe impl Sync for Repeated {}

impl Repeated {
    /// Does `work` to `inputs`. What comes out is overwritten the next time: it has to be used, or on its way, before.
    ///
    /// `work` has to ask the same of the device every time, with the same numbers, whatever the inputs' values are; keep nothing
    /// of what it makes; and neither wait for the device nor send it anything. What it changes in place stays changed.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn run(
        &mut self,
        inputs: &[&Tensor],
        work: impl Fn(&[&Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.dims().to_vec()).collect();
        let is_again = self.last == shapes;
        self.last = shapes;
        let Some(Device::Cuda(device)) = inputs.first().map(|input| input.device()) else {
            return work(inputs);
        };
        if let Some(known) = self.known.as_mut().filter(|known| known.fits(inputs)) {
            let Err(error) = known.replay(device, inputs, &work) else {
                self.failed = 0;
                return Ok(known.outputs.clone());
            };
            // Nothing of it was done. As it is it may still be possible, and if not, that says why. A memory that is full now need not
            // be so for ever.
            self.failed = if ModelError::is_full(&error) {
                self.failed + 1
            } else {
                LIVES
            };
            self.known = None;
        }
        // A batch that is smaller than the others, once, is no reason to forget them.
        let is_to_be_known = self.failed < LIVES && (self.known.is_none() || is_again);
        if !is_to_be_known {
            // What is known must not take memory from smaller batches where it is full.
            return work(inputs).inspect_err(|error| {
                if ModelError::is_full(error) {
                    self.known = None;
                }
            });
        }
        self.known = None;
        // Before the work, so that a memory that is too full for them is found full while nothing has been changed.
        let copies = inputs.iter().map(|input| input.copy());
        let copies = copies.collect::<Result<_>>()?;
        let outputs = work(inputs)?;
        self.known = Some(Known {
            inputs: copies,
            outputs: outputs.clone(),
            graph: None,
        });
        Ok(outputs)
    }
}

impl Known {
    fn fits(&self, inputs: &[&Tensor]) -> bool {
        let alike = |(a, b): (&Tensor, &&Tensor)| a.dims() == b.dims() && a.dtype() == b.dtype();
        self.inputs.len() == inputs.len() && self.inputs.iter().zip(inputs).all(alike)
    }

    /// Does `work` to `inputs`, which is recorded first where it was not yet; all of it or nothing.
    fn replay(
        &mut self,
        device: &CudaDevice,
        inputs: &[&Tensor],
        work: impl Fn(&[&Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<()> {
        for (input, kept) in inputs.iter().zip(&self.inputs) {
            copy(device, input, kept)?;
        }
        let graph = match self.graph.take() {
            Some(graph) => graph,
            None => record(device, self, work)?,
        };
        self.graph.insert(graph).launch().map_err(Error::wrap)
    }
}

/// What `work` asks of the device, and the way of what it makes into the outputs.
fn record(
    device: &CudaDevice,
    known: &Known,
    work: impl Fn(&[&Tensor]) -> Result<Vec<Tensor>>,
) -> Result<CudaGraph> {
    let stream = device.cuda_stream();
    // Other streams go on by themselves meanwhile.
    stream
        .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)
        .map_err(Error::wrap)?;
    let inputs: Vec<&Tensor> = known.inputs.iter().collect();
    let asked = work(&inputs).and_then(|made| {
        let mut pairs = made.iter().zip(&known.outputs);
        pairs.try_for_each(|(made, kept)| copy(device, made, kept))
    });
    // What was begun has to be ended, whatever came of it; cudarc would rather tell first what memory could not be freed.
    let _ = stream.context().check_err();
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).map_err(Error::wrap);
    let _ = stream.context().check_err();
    asked?;
    graph?.ok_or_else(|| Error::msg("nothing was recorded"))
}

/// Copies a tensor's values into another of its kind.
fn copy(device: &CudaDevice, from: &Tensor, to: &Tensor) -> Result<()> {
    let bytes = from.elem_count() * from.dtype().size_in_bytes();
    let (from, to) = (at(from)?, at(to)?);
    // SAFETY: both are whole tensors of as many bytes, on this device's computing stream.
    unsafe { result::memcpy_dtod_async(to, from, bytes, device.cuda_stream().cu_stream()) }
        .map_err(Error::wrap)
}

fn at(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => address(storage, layout),
        _ => Err(Error::msg("what is repeated on a GPU lies there")),
    }
}
