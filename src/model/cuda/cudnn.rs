//! 3x3 convolutions by cuDNN.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType, CudnnError,
    FilterDescriptor, TensorDescriptor, sys,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop, sys::CUdeviceptr,
};
use candle_core::{CudaDevice, Error, Result};

use super::device::is_rounded;
use super::gpu::{Gpu, Kind};
use super::ops;
use crate::model::kernels::Conv;

thread_local! {
    // A handle must not change threads; the worker's GPU work stays on one.
    static HANDLES: RefCell<HashMap<candle_core::cuda_backend::DeviceId, Arc<Cudnn>>> = RefCell::default();
}

fn handle(device: &CudaDevice) -> Result<Arc<Cudnn>> {
    HANDLES.with_borrow_mut(|handles| {
        if let Some(handle) = handles.get(&device.id()) {
            return Ok(handle.clone());
        }
        let handle = Cudnn::new(device.cuda_stream()).map_err(Error::wrap)?;
        handles.insert(device.id(), handle.clone());
        Ok(handle)
    })
}

/// Numbers of a device that somebody else owns.
struct Borrowed {
    at: CUdeviceptr,
    len: usize,
    stream: Arc<CudaStream>,
}

impl<T> DeviceSlice<T> for Borrowed {
    fn len(&self) -> usize {
        self.len
    }
    fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }
}

impl<T> DevicePtr<T> for Borrowed {
    fn device_ptr<'a>(&'a self, _: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        // One stream does everything in order.
        (self.at, SyncOnDrop::Record(None))
    }
}

impl<T> DevicePtrMut<T> for Borrowed {
    fn device_ptr_mut<'a>(&'a mut self, _: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        (self.at, SyncOnDrop::Record(None))
    }
}

/// The shapes of a convolution in cuDNN's words, numbers of type `T`.
struct Shapes<T> {
    x: TensorDescriptor<T>,
    w: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
    conv: ConvDescriptor<f32>,
}

impl<T: CudnnDataType> Shapes<T> {
    fn of(cudnn: &Arc<Cudnn>, conv: &Conv) -> std::result::Result<Self, CudnnError> {
        let last = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let [batch, height, width, inputs, outputs, kernel] = [
            conv.batch,
            conv.height,
            conv.width,
            conv.inputs,
            conv.outputs,
            conv.kernel,
        ]
        .map(|n| n as i32);
        let mut shape = cudnn.create_conv2d::<f32>(
            [kernel / 2; 2],
            [1; 2],
            [1; 2],
            sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
        )?;
        shape.set_math_type(if is_rounded() {
            sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH
        } else {
            sys::cudnnMathType_t::CUDNN_FMA_MATH
        })?;
        Ok(Shapes {
            x: cudnn.create_4d_tensor(last, [batch, inputs, height, width])?,
            w: cudnn.create_4d_filter(last, [outputs, inputs, kernel, kernel])?,
            y: cudnn.create_4d_tensor(last, [batch, outputs, height, width])?,
            conv: shape,
        })
    }
}

/// Whether cuDNN did it; `false` where it has no such convolution.
fn did(result: std::result::Result<(), CudnnError>) -> Result<bool> {
    // The codes of everything that is not supported.
    const REFUSED: std::ops::Range<u32> = 3000..4000;
    match result {
        Ok(()) => Ok(true),
        Err(CudnnError(status)) if REFUSED.contains(&(status as u32)) => Ok(false),
        Err(error) => Err(Error::wrap(error)),
    }
}

/// What a convolution needs of a device, and its weights' copy with each output's together.
struct Ready {
    cudnn: Arc<Cudnn>,
    stream: Arc<CudaStream>,
    weights: CudaSlice<u8>,
}

impl Ready {
    fn new(device: &CudaDevice, kind: Kind, conv: &Conv) -> Result<Ready> {
        Ok(Ready {
            cudnn: handle(device)?,
            stream: device.cuda_stream(),
            weights: device.memory(conv.weights() * kind.size())?,
        })
    }

    fn at(&self, at: CUdeviceptr, len: usize) -> Borrowed {
        Borrowed {
            at,
            len,
            stream: self.stream.clone(),
        }
    }

    fn weights(&self, device: &CudaDevice, conv: &Conv) -> Borrowed {
        self.at(device.address(&self.weights), conv.weights())
    }

    /// Memory to work in.
    fn space(&self, bytes: usize) -> std::result::Result<CudaSlice<u8>, CudnnError> {
        // SAFETY: it is cuDNN's own to write.
        unsafe { self.stream.alloc::<u8>(bytes.max(1)) }
            .map_err(|_| CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_ALLOC_FAILED))
    }
}

/// `out = x * weights + bias`, through ReLU if asked for; `false` where cuDNN cannot.
pub fn conv(
    device: &CudaDevice,
    kind: Kind,
    conv: &Conv,
    (x, weights, bias): (u64, u64, u64),
    relu: bool,
    out: u64,
) -> Result<bool> {
    let ready = Ready::new(device, kind, conv)?;
    ops::outputs_first(device, kind, conv, weights, device.address(&ready.weights))?;
    let done = match kind {
        Kind::F32 => forward::<f32>(device, &ready, conv, x, out, (1.0, 0.0)),
        Kind::Bf16 => {
            let scales = (half::bf16::ONE, half::bf16::ZERO);
            forward::<half::bf16>(device, &ready, conv, x, out, scales)
        }
    };
    if !did(done)? {
        return Ok(false);
    }
    ops::finish(device, kind, conv, bias, relu, out)?;
    Ok(true)
}

// The algorithms below add in the same order every time, unlike some that the heuristics may pick.

fn forward<T: CudnnDataType>(
    device: &CudaDevice,
    ready: &Ready,
    conv: &Conv,
    x: u64,
    out: u64,
    scales: (T, T),
) -> std::result::Result<(), CudnnError> {
    let shapes = Shapes::<T>::of(&ready.cudnn, conv)?;
    let operation = ConvForward {
        conv: &shapes.conv,
        x: &shapes.x,
        w: &shapes.w,
        y: &shapes.y,
    };
    let algorithm = sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
    let mut space = ready.space(operation.get_workspace_size(algorithm)?)?;
    let (x, w) = (
        ready.at(x, conv.pixels() * conv.inputs),
        ready.weights(device, conv),
    );
    let mut y = ready.at(out, conv.pixels() * conv.outputs);
    // SAFETY: the addresses are those of tensors of these shapes, on this device's only stream.
    unsafe { operation.launch(algorithm, Some(&mut space), scales, &x, &w, &mut y) }
}

/// The gradient by the input; `false` where cuDNN cannot.
pub fn conv_input_gradient(
    device: &CudaDevice,
    conv: &Conv,
    (dy, weights): (u64, u64),
    dx: u64,
) -> Result<bool> {
    let ready = Ready::new(device, Kind::F32, conv)?;
    ops::outputs_first(device, Kind::F32, conv, weights, device.address(&ready.weights))?;
    let work = || {
        let shapes = Shapes::<f32>::of(&ready.cudnn, conv)?;
        let operation = ConvBackwardData {
            conv: &shapes.conv,
            dx: &shapes.x,
            w: &shapes.w,
            dy: &shapes.y,
        };
        let algorithm = sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
        let mut space = ready.space(operation.get_workspace_size(algorithm)?)?;
        let (w, dy) = (
            ready.weights(device, conv),
            ready.at(dy, conv.pixels() * conv.outputs),
        );
        let mut dx = ready.at(dx, conv.pixels() * conv.inputs);
        // SAFETY: the addresses are those of tensors of these shapes, on this device's only stream.
        unsafe { operation.launch(algorithm, Some(&mut space), (1.0, 0.0), &mut dx, &w, &dy) }
    };
    did(work())
}

/// The gradient by the weights; `false` where cuDNN cannot.
pub fn conv_weight_gradient(device: &CudaDevice, conv: &Conv, (x, dy): (u64, u64), dw: u64) -> Result<bool> {
    let ready = Ready::new(device, Kind::F32, conv)?;
    let work = || {
        let shapes = Shapes::<f32>::of(&ready.cudnn, conv)?;
        let operation = ConvBackwardFilter {
            conv: &shapes.conv,
            x: &shapes.x,
            dw: &shapes.w,
            dy: &shapes.y,
        };
        let algorithm = sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
        let mut space = ready.space(operation.get_workspace_size(algorithm)?)?;
        let x = ready.at(x, conv.pixels() * conv.inputs);
        let dy = ready.at(dy, conv.pixels() * conv.outputs);
        let mut dw = ready.weights(device, conv);
        // SAFETY: the addresses are those of tensors of these shapes, on this device's only stream.
        unsafe { operation.launch(algorithm, Some(&mut space), (1.0, 0.0), &x, &mut dw, &dy) }
    };
    if !did(work())? {
        return Ok(false);
    }
    ops::outputs_last(device, conv, device.address(&ready.weights), dw)?;
    Ok(true)
}
