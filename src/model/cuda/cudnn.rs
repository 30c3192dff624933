//! 3x3 convolutions by cuDNN.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvBiasActivationForward, ConvDescriptor, ConvForward, Cudnn,
    CudnnDataType, CudnnError, FilterDescriptor, TensorDescriptor, sys,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop, sys::CUdeviceptr,
};
use candle_core::{CudaDevice, Error, Result};

use super::device::is_rounded;
use super::gpu::{Gpu, Kind};
use super::ops::{self, Part};
use crate::model::kernels::Conv;
use crate::model::layers::Kept;

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
        // One stream computes everything in order.
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

/// What a convolution needs of a device.
struct Ready<'a> {
    cudnn: Arc<Cudnn>,
    stream: Arc<CudaStream>,
    conv: &'a Conv,
}

impl<'a> Ready<'a> {
    fn new(device: &CudaDevice, conv: &'a Conv) -> Result<Ready<'a>> {
        Ok(Ready {
            cudnn: handle(device)?,
            stream: device.cuda_stream(),
            conv,
        })
    }

    fn at(&self, at: CUdeviceptr, len: usize) -> Borrowed {
        Borrowed {
            at,
            len,
            stream: self.stream.clone(),
        }
    }

    fn x(&self, at: CUdeviceptr) -> Borrowed {
        self.at(at, self.conv.pixels() * self.conv.inputs)
    }

    fn weights(&self, at: CUdeviceptr) -> Borrowed {
        self.at(at, self.conv.weights())
    }

    fn y(&self, at: CUdeviceptr) -> Borrowed {
        self.at(at, self.conv.pixels() * self.conv.outputs)
    }

    /// Memory to work in.
    fn space(&self, bytes: usize) -> std::result::Result<CudaSlice<u8>, CudnnError> {
        // SAFETY: it is cuDNN's own to write.
        unsafe { self.stream.alloc::<u8>(bytes.max(1)) }
            .map_err(|_| CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_ALLOC_FAILED))
    }
}

/// A copy of the weights of some inputs with each output's together, as cuDNN wants them.
fn turned(device: &CudaDevice, kind: Kind, part: &Part, weights: u64) -> Result<CudaSlice<u8>> {
    let turned = device.memory(part.conv.weights() * kind.size())?;
    ops::outputs_first(device, kind, part, weights, device.address(&turned))?;
    Ok(turned)
}

/// A convolution's weights, of each of the images beside one another, and its bias as cuDNN wants them.
struct Laid {
    weights: Vec<CudaSlice<u8>>,
    /// In the images' numbers, where these are not f32.
    bias: Option<CudaSlice<u8>>,
}

impl Laid {
    fn new(device: &CudaDevice, kind: Kind, parts: &[Part], (weights, bias): (u64, u64)) -> Result<Laid> {
        let turn = |part| turned(device, kind, part, weights);
        let narrow = || {
            let outputs = parts[0].conv.outputs;
            let narrow = device.memory(outputs * Kind::Bf16.size())?;
            ops::narrowed(device, outputs, bias, device.address(&narrow))?;
            Ok::<_, Error>(narrow)
        };
        Ok(Laid {
            weights: parts.iter().map(turn).collect::<Result<_>>()?,
            bias: (kind == Kind::Bf16).then(narrow).transpose()?,
        })
    }
}

/// `out = x * weights + bias`, through ReLU if asked for; `false` where cuDNN cannot. `kept` belongs to these weights.
///
/// * `x`: images beside one another, and the channels of each
#[expect(clippy::too_many_arguments, reason = "those of the layer, and where")]
pub fn conv(
    device: &CudaDevice,
    kind: Kind,
    conv: &Conv,
    x: &[(u64, usize)],
    (weights, bias): (u64, u64),
    relu: bool,
    kept: Option<&Kept>,
    out: u64,
) -> Result<bool> {
    let parts: Vec<Part> = Part::each(conv, x.iter().map(|x| x.1)).collect();
    let lay = || Laid::new(device, kind, &parts, (weights, bias));
    let known = match kept {
        Some(kept) => kept.or_try([conv.height, conv.width], lay)?,
        None => None,
    };
    let fresh = if known.is_none() { Some(lay()?) } else { None };
    let Some(laid) = known.or(fresh.as_ref()) else {
        return Ok(false);
    };
    let narrow = laid.bias.as_ref().map_or(bias, |bias| device.address(bias));
    for (n, (part, (x, weights))) in parts.iter().zip(x.iter().zip(&laid.weights)).enumerate() {
        let (ready, given) = (Ready::new(device, &part.conv)?, (x.0, device.address(weights)));
        let is_last = n + 1 == parts.len();
        let is_finished = relu
            && is_last
            && did(match kind {
                Kind::F32 => forward_finished::<f32>(&ready, (given, narrow), n > 0, out),
                Kind::Bf16 => forward_finished::<half::bf16>(&ready, (given, narrow), n > 0, out),
            })?;
        if is_finished {
            return Ok(true);
        }
        let done = match kind {
            Kind::F32 => forward::<f32>(&ready, given, n > 0, out),
            Kind::Bf16 => forward::<half::bf16>(&ready, given, n > 0, out),
        };
        if !did(done)? {
            return Ok(false);
        }
    }
    ops::finish(device, kind, (conv.pixels(), conv.outputs), bias, relu, out)?;
    Ok(true)
}

// The algorithms below add in the same order every time, unlike some that the heuristics may pick.

const FORWARD: sys::cudnnConvolutionFwdAlgo_t =
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;

/// A number of cuDNN's.
trait Number: CudnnDataType {
    /// What is there is taken not at all, or once.
    fn times(is_taken: bool) -> Self;
}

impl Number for f32 {
    fn times(is_taken: bool) -> f32 {
        f32::from(u8::from(is_taken))
    }
}

impl Number for half::bf16 {
    fn times(is_taken: bool) -> half::bf16 {
        half::bf16::from_f32(f32::times(is_taken))
    }
}

/// With the bias and through ReLU in one pass; added to what is there before, if that is `further`.
fn forward_finished<T: Number>(
    ready: &Ready<'_>,
    ((x, weights), bias): ((u64, u64), u64),
    further: bool,
    out: u64,
) -> std::result::Result<(), CudnnError> {
    let shapes = Shapes::<T>::of(&ready.cudnn, ready.conv)?;
    let last = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
    let outputs = ready.conv.outputs;
    let relu = ready.cudnn.create_activation::<f32>(
        sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU,
        sys::cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN,
        0.0,
    )?;
    let operation = ConvBiasActivationForward {
        conv: &shapes.conv,
        act: &relu,
        x: &shapes.x,
        w: &shapes.w,
        z: &shapes.y,
        bias: &ready
            .cudnn
            .create_4d_tensor::<T>(last, [1, outputs as i32, 1, 1])?,
        y: &shapes.y,
    };
    let mut space = ready.space(operation.get_workspace_size(FORWARD)?)?;
    let (bias, z) = (ready.at(bias, outputs), ready.y(out));
    let (x, w, mut y) = (ready.x(x), ready.weights(weights), ready.y(out));
    let scales = (T::times(true), T::times(further));
    // SAFETY: the addresses are those of tensors of these shapes, on this device's computing stream. What is added may be the
    // output itself.
    unsafe { operation.launch(FORWARD, Some(&mut space), scales, &x, &w, &z, &bias, &mut y) }
}

fn forward<T: Number>(
    ready: &Ready<'_>,
    (x, weights): (u64, u64),
    further: bool,
    out: u64,
) -> std::result::Result<(), CudnnError> {
    let shapes = Shapes::<T>::of(&ready.cudnn, ready.conv)?;
    let operation = ConvForward {
        conv: &shapes.conv,
        x: &shapes.x,
        w: &shapes.w,
        y: &shapes.y,
    };
    let mut space = ready.space(operation.get_workspace_size(FORWARD)?)?;
    let (x, w, mut y) = (ready.x(x), ready.weights(weights), ready.y(out));
    let scales = (T::times(true), T::times(further));
    // SAFETY: the addresses are those of tensors of these shapes, on this device's computing stream.
    unsafe { operation.launch(FORWARD, Some(&mut space), scales, &x, &w, &mut y) }
}

/// The gradient by some inputs; `false` where cuDNN cannot.
pub fn conv_input_gradient(
    device: &CudaDevice,
    part: &Part,
    (dy, weights): (u64, u64),
    dx: u64,
) -> Result<bool> {
    let conv = &part.conv;
    let ready = Ready::new(device, conv)?;
    let turned = turned(device, Kind::F32, part, weights)?;
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
        let (w, dy) = (ready.weights(device.address(&turned)), ready.y(dy));
        let mut dx = ready.x(dx);
        // SAFETY: the addresses are those of tensors of these shapes, on this device's computing stream.
        unsafe { operation.launch(algorithm, Some(&mut space), (1.0, 0.0), &mut dx, &w, &dy) }
    };
    did(work())
}

/// The gradient by the weights of some inputs, among those of all; `false` where cuDNN cannot.
pub fn conv_weight_gradient(device: &CudaDevice, part: &Part, (x, dy): (u64, u64), dw: u64) -> Result<bool> {
    let conv = &part.conv;
    let ready = Ready::new(device, conv)?;
    let turned = device.memory(conv.weights() * Kind::F32.size())?;
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
        let (x, dy) = (ready.x(x), ready.y(dy));
        let mut dw = ready.weights(device.address(&turned));
        // SAFETY: the addresses are those of tensors of these shapes, on this device's computing stream.
        unsafe { operation.launch(algorithm, Some(&mut space), (1.0, 0.0), &x, &mut dw, &dy) }
    };
    if !did(work())? {
        return Ok(false);
    }
    ops::outputs_last(device, part, device.address(&turned), dw)?;
    Ok(true)
}
