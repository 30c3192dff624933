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

fn workspace(device: &CudaDevice, bytes: usize) -> Result<Option<CudaSlice<u8>>> {
    (bytes > 0).then(|| device.memory(bytes)).transpose()
}

/// `out = x * weights + bias`, through ReLU if asked for.
pub fn conv(
    device: &CudaDevice,
    kind: Kind,
    conv: &Conv,
    (x, weights, bias): (u64, u64, u64),
    relu: bool,
    out: u64,
) -> Result<()> {
    match kind {
        Kind::F32 => forward::<f32>(device, kind, conv, (x, weights), out, (1.0, 0.0))?,
        Kind::Bf16 => {
            let scales = (half::bf16::ONE, half::bf16::ZERO);
            forward::<half::bf16>(device, kind, conv, (x, weights), out, scales)?;
        }
    }
    ops::finish(device, kind, conv, bias, relu, out)
}

fn forward<T: CudnnDataType>(
    device: &CudaDevice,
    kind: Kind,
    conv: &Conv,
    (x, weights): (u64, u64),
    out: u64,
    scales: (T, T),
) -> Result<()> {
    let (cudnn, stream) = (handle(device)?, device.cuda_stream());
    let turned = device.memory(conv.weights() * kind.size())?;
    ops::outputs_first(device, kind, conv, weights, device.address(&turned))?;
    let shapes = Shapes::<T>::of(&cudnn, conv).map_err(Error::wrap)?;
    let operation = ConvForward {
        conv: &shapes.conv,
        x: &shapes.x,
        w: &shapes.w,
        y: &shapes.y,
    };
    let algorithm = operation.pick_algorithm().map_err(Error::wrap)?;
    let bytes = operation.get_workspace_size(algorithm).map_err(Error::wrap)?;
    let mut space = workspace(device, bytes)?;
    let borrowed = |at, len| Borrowed {
        at,
        len,
        stream: stream.clone(),
    };
    // SAFETY: the addresses are those of tensors of these shapes, on this device's only stream.
    unsafe {
        operation.launch::<CudaSlice<u8>, _, _, _>(
            algorithm,
            space.as_mut(),
            scales,
            &borrowed(x, conv.pixels() * conv.inputs),
            &borrowed(device.address(&turned), conv.weights()),
            &mut borrowed(out, conv.pixels() * conv.outputs),
        )
    }
    .map_err(Error::wrap)
}

/// The gradient by the input.
pub fn conv_input_gradient(
    device: &CudaDevice,
    conv: &Conv,
    (dy, weights): (u64, u64),
    dx: u64,
) -> Result<()> {
    let (cudnn, stream) = (handle(device)?, device.cuda_stream());
    let turned = device.memory(conv.weights() * Kind::F32.size())?;
    ops::outputs_first(device, Kind::F32, conv, weights, device.address(&turned))?;
    let shapes = Shapes::<f32>::of(&cudnn, conv).map_err(Error::wrap)?;
    let operation = ConvBackwardData {
        conv: &shapes.conv,
        dx: &shapes.x,
        w: &shapes.w,
        dy: &shapes.y,
    };
    let algorithm = operation.pick_algorithm().map_err(Error::wrap)?;
    let bytes = operation.get_workspace_size(algorithm).map_err(Error::wrap)?;
    let mut space = workspace(device, bytes)?;
    let borrowed = |at, len| Borrowed {
        at,
        len,
        stream: stream.clone(),
    };
    // SAFETY: the addresses are those of tensors of these shapes, on this device's only stream.
    unsafe {
        operation.launch::<CudaSlice<u8>, _, _, _>(
            algorithm,
            space.as_mut(),
            (1.0, 0.0),
            &mut borrowed(dx, conv.pixels() * conv.inputs),
            &borrowed(device.address(&turned), conv.weights()),
            &borrowed(dy, conv.pixels() * conv.outputs),
        )
    }
    .map_err(Error::wrap)
}

/// The gradient by the weights.
pub fn conv_weight_gradient(device: &CudaDevice, conv: &Conv, (x, dy): (u64, u64), dw: u64) -> Result<()> {
    let (cudnn, stream) = (handle(device)?, device.cuda_stream());
    let turned = device.memory(conv.weights() * Kind::F32.size())?;
    let shapes = Shapes::<f32>::of(&cudnn, conv).map_err(Error::wrap)?;
    let operation = ConvBackwardFilter {
        conv: &shapes.conv,
        x: &shapes.x,
        dw: &shapes.w,
        dy: &shapes.y,
    };
    let algorithm = operation.pick_algorithm().map_err(Error::wrap)?;
    let bytes = operation.get_workspace_size(algorithm).map_err(Error::wrap)?;
    let mut space = workspace(device, bytes)?;
    let borrowed = |at, len| Borrowed {
        at,
        len,
        stream: stream.clone(),
    };
    // SAFETY: the addresses are those of tensors of these shapes, on this device's only stream.
    unsafe {
        operation.launch::<CudaSlice<u8>, _, _, _>(
            algorithm,
            space.as_mut(),
            (1.0, 0.0),
            &borrowed(x, conv.pixels() * conv.inputs),
            &mut borrowed(device.address(&turned), conv.weights()),
            &borrowed(dy, conv.pixels() * conv.outputs),
        )
    }
    .map_err(Error::wrap)?;
    ops::outputs_last(device, conv, device.address(&turned), dw)
}
