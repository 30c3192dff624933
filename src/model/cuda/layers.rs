//! What the layers' candle operations do on a GPU.

use candle_core::backend::BackendStorage;
use candle_core::{CudaDevice, CudaStorage, Layout, Result, bail};

#[cfg(feature = "cudnn")]
use super::cudnn;
use super::device::{address, filled, filled_of, kind};
use super::gpu::Kind;
use super::ops::{self, Part};
use crate::model::judge::tile_bytes;
use crate::model::kernels::{Conv, DensePool, Norm, Pool, UpConv, Window};
use crate::model::layers::Kept;
use crate::settings::Loss;

/// A tensor's storage and how it lies there.
pub type At<'a> = (&'a CudaStorage, &'a Layout);

fn device<'a>(at: At<'a>) -> &'a CudaDevice {
    at.0.device()
}

fn of(at: At<'_>) -> Result<u64> {
    address(at.0, at.1)
}

/// A convolution of images beside one another; the output of a 1x1 one is f32 whatever the input is.
///
/// `kept` belongs to these weights, if they stay as they are.
pub fn conv(
    conv: &Conv,
    x: &[At<'_>],
    weight: At<'_>,
    bias: At<'_>,
    relu: bool,
    kept: Option<&Kept>,
) -> Result<CudaStorage> {
    let (gpu, kind) = (device(weight), kind(weight.0)?);
    let x = x
        .iter()
        .map(|&x| Ok((of(x)?, channels(x))))
        .collect::<Result<Vec<_>>>()?;
    let given = (of(weight)?, of(bias)?);
    let kind_out = if conv.kernel == 1 { Kind::F32 } else { kind };
    filled_of(kind_out, gpu, conv.pixels() * conv.outputs, |out| {
        #[cfg(feature = "cudnn")]
        if is_for_cudnn(conv) && cudnn::conv(gpu, kind, conv, &x, given, relu, kept, out)? {
            return Ok(());
        }
        #[cfg(not(feature = "cudnn"))]
        let _ = kept;
        ops::conv(gpu, kind, conv, &x, given, relu, out)
    })
}

/// A convolution's gradient by the images beside one another, of so many channels each, one after the other; `gate` where it is wanted
/// before the ReLU that made a single one.
pub fn conv_input_gradient(
    conv: &Conv,
    channels: &[usize],
    dy: At<'_>,
    weight: At<'_>,
    gate: Option<At<'_>>,
) -> Result<CudaStorage> {
    let gpu = device(dy);
    let (given, gate) = ((of(dy)?, of(weight)?), gate.map_or(Ok(0), of)?);
    filled::<f32>(gpu, conv.pixels() * conv.inputs, |dx| {
        for part in Part::each(conv, channels.iter().copied()) {
            let dx = dx + (conv.pixels() * part.from * Kind::F32.size()) as u64;
            #[cfg(feature = "cudnn")]
            if is_for_cudnn(conv) && cudnn::conv_input_gradient(gpu, &part, given, dx)? {
                ops::gated(gpu, conv.pixels() * part.conv.inputs, dx, gate)?;
                continue;
            }
            ops::conv_input_gradient(gpu, &part, given, gate, dx)?;
        }
        Ok(())
    })
}

/// A convolution's gradient by its weights.
pub fn conv_weight_gradient(conv: &Conv, x: &[At<'_>], dy: At<'_>) -> Result<CudaStorage> {
    let (gpu, dy) = (device(dy), of(dy)?);
    filled::<f32>(gpu, conv.weights(), |dw| {
        for (part, &x) in Part::each(conv, x.iter().copied().map(channels)).zip(x) {
            let given = (of(x)?, dy);
            #[cfg(feature = "cudnn")]
            if is_for_cudnn(conv) && cudnn::conv_weight_gradient(gpu, &part, given, dw)? {
                continue;
            }
            ops::conv_weight_gradient(gpu, &part, given, dw)?;
        }
        Ok(())
    })
}

/// Channels of images.
fn channels(x: At<'_>) -> usize {
    x.1.dims().last().copied().unwrap_or(1)
}

#[cfg(feature = "cudnn")]
fn is_for_cudnn(conv: &Conv) -> bool {
    conv.kernel == 3 && !ops::is_of_few(conv)
}

/// The sum over all pixels of each channel.
pub fn channel_sums(channels: usize, dy: At<'_>) -> Result<CudaStorage> {
    let (gpu, pixels) = (device(dy), dy.1.shape().elem_count() / channels);
    let dy = of(dy)?;
    filled::<f32>(gpu, channels, |out| {
        ops::channel_sums(gpu, (pixels, channels), dy, out)
    })
}

/// `values` where `gate` is above 0, else 0.
pub fn relu_gradient(values: At<'_>, gate: At<'_>) -> Result<CudaStorage> {
    let (gpu, count, values, gate) = (
        device(values),
        values.1.shape().elem_count(),
        of(values)?,
        of(gate)?,
    );
    // Added to zeros: the one kernel for it.
    filled::<f32>(gpu, count, |out| {
        ops::fill(gpu, count, out, 0.0)?;
        ops::add_gated(gpu, count, out, values, gate)
    })
}

/// The largest of each 2x2 window.
pub fn max_pool(pool: &Pool, x: At<'_>) -> Result<CudaStorage> {
    let (gpu, kind, count, x) = (device(x), kind(x.0)?, x.1.shape().elem_count() / 4, of(x)?);
    filled_of(kind, gpu, count, |out| ops::max_pool(gpu, kind, pool, x, out))
}

/// Its gradient.
pub fn max_pool_gradient(pool: &Pool, x: At<'_>, dy: At<'_>) -> Result<CudaStorage> {
    let (gpu, count, given) = (device(x), x.1.shape().elem_count(), (of(x)?, of(dy)?));
    filled::<f32>(gpu, count, |dx| {
        ops::max_pool_gradient(gpu, pool, given, false, dx)
    })
}

/// Its gradient, added to `sum`, which becomes 0 where `x` is not above 0.
pub fn add_max_pool_gradient(pool: &Pool, sum: At<'_>, x: At<'_>, dy: At<'_>) -> Result<()> {
    ops::max_pool_gradient(device(sum), pool, (of(x)?, of(dy)?), true, of(sum)?)
}

/// An up-convolution.
pub fn up_conv(up: &UpConv, x: At<'_>, weight: At<'_>, bias: At<'_>) -> Result<CudaStorage> {
    let (gpu, kind) = (device(x), kind(x.0)?);
    let given = (of(x)?, of(weight)?, of(bias)?);
    let count = 4 * up.batch * up.height * up.width * up.outputs;
    filled_of(kind, gpu, count, |out| ops::up_conv(gpu, kind, up, given, out))
}

/// The four gradients of every pixel side by side, as an up-convolution's gradients take them.
pub fn unshuffle(up: &UpConv, dy: At<'_>) -> Result<CudaStorage> {
    let (gpu, count, dy) = (device(dy), dy.1.shape().elem_count(), of(dy)?);
    filled::<f32>(gpu, count, |out| ops::unshuffle(gpu, up, dy, out))
}

/// Its gradient by the input, of gradients side by side; `gate` as a convolution's.
pub fn up_conv_input_gradient(
    up: &UpConv,
    dy: At<'_>,
    weight: At<'_>,
    gate: Option<At<'_>>,
) -> Result<CudaStorage> {
    let (gpu, given) = (device(dy), (of(dy)?, of(weight)?));
    let gate = gate.map_or(Ok(0), of)?;
    let count = up.batch * up.height * up.width * up.inputs;
    filled::<f32>(gpu, count, |dx| {
        ops::up_conv_input_gradient(gpu, up, given, gate, dx)
    })
}

/// Its gradient by the weights, of the same.
pub fn up_conv_weight_gradient(up: &UpConv, x: At<'_>, dy: At<'_>) -> Result<CudaStorage> {
    let (gpu, given) = (device(x), (of(x)?, of(dy)?));
    filled::<f32>(gpu, up.weights(), |dw| {
        ops::up_conv_weight_gradient(gpu, up, given, dw)
    })
}

/// The channels of `a`, then those of `b`.
pub fn concat((in_a, in_b): (usize, usize), a: At<'_>, b: At<'_>) -> Result<CudaStorage> {
    let (gpu, kind) = (device(a), kind(a.0)?);
    let count = a.1.shape().elem_count() + b.1.shape().elem_count();
    let (a, b) = ((of(a)?, in_a), (of(b)?, in_b));
    filled_of(kind, gpu, count, |out| {
        ops::concat(gpu, kind, count / (in_a + in_b), a, b, out)
    })
}

/// `kept` channels from `from` on.
pub fn split(channels: usize, (from, kept): (usize, usize), x: At<'_>) -> Result<CudaStorage> {
    let (gpu, pixels, x) = (device(x), x.1.shape().elem_count() / channels, of(x)?);
    filled::<f32>(gpu, pixels * kept, |out| {
        ops::split(gpu, (pixels, channels), x, (from, kept), out)
    })
}

/// A convolution of stacks.
pub fn window(window: &Window, x: At<'_>, weight: At<'_>, bias: At<'_>, relu: bool) -> Result<CudaStorage> {
    let (gpu, given) = (device(x), (of(x)?, of(weight)?, of(bias)?));
    filled::<f32>(gpu, window.outcomes() * window.outputs, |out| {
        ops::window(gpu, window, given, relu, out)
    })
}

/// Its gradient by the input; `gate` as a convolution's.
pub fn window_input_gradient(
    window: &Window,
    dy: At<'_>,
    weight: At<'_>,
    gate: Option<At<'_>>,
) -> Result<CudaStorage> {
    let (gpu, given) = (device(dy), (of(dy)?, of(weight)?));
    let gate = gate.map_or(Ok(0), of)?;
    filled::<f32>(gpu, window.voxels() * window.inputs, |dx| {
        ops::window_input_gradient(gpu, window, given, gate, dx)
    })
}

/// Its gradient by the weights.
pub fn window_weight_gradient(window: &Window, x: At<'_>, dy: At<'_>) -> Result<CudaStorage> {
    let (gpu, given) = (device(x), (of(x)?, of(dy)?));
    filled::<f32>(gpu, window.weights(), |dw| {
        ops::window_weight_gradient(gpu, window, given, dw)
    })
}

/// Max pooling at every pixel.
pub fn dense_pool(pool: &DensePool, x: At<'_>) -> Result<CudaStorage> {
    let (gpu, x) = (device(x), of(x)?);
    filled::<f32>(gpu, pool.outputs(), |out| ops::dense_pool(gpu, pool, x, out))
}

/// Its gradient.
pub fn dense_pool_gradient(pool: &DensePool, x: At<'_>, dy: At<'_>) -> Result<CudaStorage> {
    let (gpu, count, given) = (device(x), x.1.shape().elem_count(), (of(x)?, of(dy)?));
    filled::<f32>(gpu, count, |dx| ops::dense_pool_gradient(gpu, pool, given, dx))
}

/// A normalisation.
pub fn norm(norm: &Norm, x: At<'_>, (scale, shift): (At<'_>, At<'_>), relu: bool) -> Result<CudaStorage> {
    let (gpu, count) = (device(x), x.1.shape().elem_count());
    let given = (of(x)?, of(scale)?, of(shift)?);
    filled::<f32>(gpu, count, |out| ops::norm(gpu, norm, given, relu, out))
}

/// Its gradients, as the CPU's kernel puts them.
pub fn norm_gradient(norm: &Norm, x: At<'_>, scale: At<'_>, dy: At<'_>) -> Result<CudaStorage> {
    let (gpu, given) = (device(x), (of(x)?, of(scale)?, of(dy)?));
    filled::<f32>(gpu, norm.gradients(), |out| {
        ops::norm_gradient(gpu, norm, given, out)
    })
}

/// `sum += values`, and 0 where `gate` is not above 0.
pub fn add_gated(sum: At<'_>, values: At<'_>, gate: At<'_>) -> Result<()> {
    let count = sum.1.shape().elem_count();
    ops::add_gated(device(sum), count, of(sum)?, of(values)?, of(gate)?)
}

/// Softmax of every pixel.
pub fn softmax(m: usize, logits: At<'_>) -> Result<CudaStorage> {
    let (gpu, count, logits) = (device(logits), logits.1.shape().elem_count(), of(logits)?);
    filled::<f32>(gpu, count, |p| ops::softmax(gpu, (count / m, m), logits, p))
}

/// The sums of the loss.
pub fn loss_sums(m: usize, p: At<'_>, classes: At<'_>) -> Result<CudaStorage> {
    let (gpu, pixels) = (device(p), classes.1.shape().elem_count());
    let given = (of(p)?, of(classes)?);
    filled::<f64>(gpu, 2 * m + 2, |sums| {
        ops::loss_sums(gpu, (pixels, m), given, sums)
    })
}

/// The loss's gradient by the logits.
pub fn loss_gradient(kind: Loss, m: usize, p: At<'_>, classes: At<'_>, sums: At<'_>) -> Result<CudaStorage> {
    let (gpu, pixels) = (device(p), classes.1.shape().elem_count());
    let given = (of(p)?, of(classes)?, of(sums)?);
    filled::<f32>(gpu, pixels * m, |out| {
        ops::loss_gradient(gpu, kind, (pixels, m), given, out)
    })
}

/// Adam's step by a gradient, of a size that lies there.
pub fn adam(learnt: At<'_>, [grad, size]: [At<'_>; 2], kept: [f64; 2], epsilon: f64) -> Result<()> {
    let (count, by) = (grad.1.shape().elem_count(), [of(grad)?, of(size)?]);
    let values = learnt.1.shape().elem_count() / 3;
    if values != count {
        bail!("{values} values learn from a gradient of {count}");
    }
    ops::adam(device(grad), count, of(learnt)?, by, kept, epsilon)
}

/// The same number everywhere.
pub fn fill(values: At<'_>, value: f64) -> Result<()> {
    ops::fill(device(values), values.1.shape().elem_count(), of(values)?, value)
}

/// What [`ops::judge`] says of tiles.
pub fn judge(shape: [usize; 4], logits: At<'_>, sizes: At<'_>) -> Result<CudaStorage> {
    let [tiles, height, width, m] = shape;
    let (gpu, given) = (device(logits), (of(logits)?, of(sizes)?));
    filled::<u8>(gpu, tiles * (tile_bytes(m) + 2 * height * width), |out| {
        ops::judge(gpu, shape, given, out)
    })
}
