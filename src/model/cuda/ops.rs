//! Every layer on a GPU: which kernels and products, over which memory.
//!
//! Addresses are those of whole tensors of the shapes that the layers say. A convolution needs no matrix of windows: the
//! images get a border of zeros, all their pixels are taken as the rows of one matrix, and a tap of the window is that
//! matrix from some rows further on, times the tap's weights. What such rows give between two lines of pixels is cut off
//! afterwards; where sums over pixels are wanted, zeros stand there. Where cuDNN is, it does the 3x3 convolutions instead.

use candle_core::Result;

use super::gpu::{Gpu, Kind, Matrix, Product};
use crate::model::judge::tile_bytes;
use crate::model::kernels::{Conv, Pool, UpConv};
use crate::settings::Loss;

/// Pixels of a part of the loss's sums.
const PART: usize = 256;

/// A matrix row by row.
pub fn matrix(at: u64, step: usize) -> Matrix {
    Matrix {
        at,
        step,
        transposed: false,
    }
}

/// One taken with rows and columns exchanged.
pub fn transposed(at: u64, step: usize) -> Matrix {
    Matrix {
        transposed: true,
        ..matrix(at, step)
    }
}

fn bits(value: f64) -> u64 {
    u64::from((value as f32).to_bits())
}

/// What happens to a convolution's sums.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finish {
    /// Address of the bias; 0 for none.
    pub bias: u64,
    /// Negative ones become 0.
    pub relu: bool,
    /// Address of what has to be above 0 where the result is not 0; 0 for nothing.
    pub gate: u64,
}

/// The pixels of images with their border.
struct Bordered {
    /// Of all images, from row to row of pixels and over them.
    pixels: usize,
    /// Rows of the matrix that every tap can be taken from.
    rows: usize,
    across: usize,
}

impl Bordered {
    fn of(conv: &Conv) -> Bordered {
        let across = conv.width + 2;
        let pixels = conv.batch * (conv.height + 2) * across;
        Bordered {
            pixels,
            rows: pixels - 2 * across - 2,
            across,
        }
    }

    /// How many pixels further a tap lies.
    fn shift(&self, tap: usize) -> usize {
        tap / 3 * self.across + tap % 3
    }
}

/// Images with a border of zeros, `before` rows and columns of it before each.
fn pad<G: Gpu>(
    gpu: &G,
    kind: Kind,
    conv: &Conv,
    (x, channels): (u64, usize),
    before: u64,
) -> Result<G::Memory> {
    let values = Bordered::of(conv).pixels * channels;
    let padded = gpu.memory(values * kind.size())?;
    let size = [conv.height, conv.width, channels].map(|n| n as u64);
    let arguments = [
        values as u64,
        x,
        gpu.address(&padded),
        size[0],
        size[1],
        size[2],
        before,
    ];
    gpu.launch(&kind.kernel("pad"), &arguments)?;
    Ok(padded)
}

/// The sums of a 3x3 convolution by products, finished: of `x` with `weight(tap)` of each tap.
fn convolve<G: Gpu>(
    gpu: &G,
    kind: Kind,
    conv: &Conv,
    x: u64,
    weight: impl Fn(usize) -> Matrix,
    finish: Finish,
    out: u64,
) -> Result<()> {
    let bordered = Bordered::of(conv);
    let padded = pad(gpu, kind, conv, (x, conv.inputs), 1)?;
    let sums = gpu.memory(bordered.pixels * conv.outputs * Kind::F32.size())?;
    for tap in 0..9 {
        let from = bordered.shift(tap) * conv.inputs * kind.size();
        gpu.multiply(&Product {
            size: [bordered.rows, conv.outputs, conv.inputs],
            a: matrix(gpu.address(&padded) + from as u64, conv.inputs),
            b: weight(tap),
            kind,
            c: gpu.address(&sums),
            further: tap > 0,
            exact: false,
        })?;
    }
    let size = [conv.height, conv.width, conv.outputs].map(|n| n as u64);
    let arguments = [
        (conv.pixels() * conv.outputs) as u64,
        gpu.address(&sums),
        out,
        size[0],
        size[1],
        size[2],
        finish.bias,
        u64::from(finish.relu),
        finish.gate,
    ];
    gpu.launch(&kind.kernel("crop"), &arguments)
}

/// `out = x * weights + bias`, through ReLU if asked for; a 1x1 convolution's output is f32 whatever its input is.
pub fn conv<G: Gpu>(
    gpu: &G,
    kind: Kind,
    conv: &Conv,
    (x, weights, bias): (u64, u64, u64),
    relu: bool,
    out: u64,
) -> Result<()> {
    if conv.kernel == 3 {
        let tap_size = conv.inputs * conv.outputs * kind.size();
        let weight = |tap: usize| matrix(weights + (tap * tap_size) as u64, conv.outputs);
        let finish = Finish { bias, relu, gate: 0 };
        return convolve(gpu, kind, conv, x, weight, finish, out);
    }
    gpu.multiply(&Product {
        size: [conv.pixels(), conv.outputs, conv.inputs],
        a: matrix(x, conv.inputs),
        b: matrix(weights, conv.outputs),
        kind,
        c: out,
        further: false,
        exact: false,
    })?;
    finish(gpu, Kind::F32, (conv.pixels(), conv.outputs), bias, relu, out)
}

/// Whether [`conv_few`] does this one: a product over so few inputs takes longer than to write what comes of it.
pub fn has_few_inputs(conv: &Conv, (_, weights, _): (u64, u64, u64), out: u64) -> bool {
    let is_aligned = weights.is_multiple_of(16) && out.is_multiple_of(16);
    conv.kernel == 3
        && conv.inputs <= 4
        && conv.outputs.is_multiple_of(4)
        && conv.width.is_multiple_of(4)
        && is_aligned
}

/// A 3x3 convolution of few inputs, finished; in f32 whatever products are computed in.
pub fn conv_few<G: Gpu>(
    gpu: &G,
    kind: Kind,
    conv: &Conv,
    (x, weights, bias): (u64, u64, u64),
    relu: bool,
    out: u64,
) -> Result<()> {
    let size = [conv.height, conv.width, conv.inputs, conv.outputs / 4].map(|n| n as u64);
    let threads = (conv.pixels() / 4 * (conv.outputs / 4)) as u64;
    gpu.launch(
        &kind.kernel("conv_few"),
        &[
            threads,
            x,
            weights,
            bias,
            out,
            size[0],
            size[1],
            size[2],
            size[3],
            u64::from(relu),
        ],
    )
}

#[cfg(any(test, feature = "cudnn"))]
/// Numbers as bf16.
pub fn narrowed<G: Gpu>(gpu: &G, count: usize, values: u64, out: u64) -> Result<()> {
    gpu.launch("narrowed", &[count as u64, values, out])
}

/// Adds the bias to a convolution's output, and cuts off what is negative.
pub fn finish<G: Gpu>(
    gpu: &G,
    kind: Kind,
    (pixels, channels): (usize, usize),
    bias: u64,
    relu: bool,
    out: u64,
) -> Result<()> {
    let arguments = [
        (pixels * channels) as u64,
        out,
        channels as u64,
        bias,
        u64::from(relu),
    ];
    gpu.launch(&kind.kernel("finish"), &arguments)
}

/// The same number everywhere.
pub fn fill<G: Gpu>(gpu: &G, count: usize, out: u64, value: f64) -> Result<()> {
    gpu.launch("fill", &[count as u64, out, bits(value)])
}

/// `values = 0` where `gate` is not above 0.
pub fn gated<G: Gpu>(gpu: &G, count: usize, values: u64, gate: u64) -> Result<()> {
    gpu.launch("gated", &[count as u64, values, gate])
}

/// The gradient by a convolution's input; `gate` as in [`Finish`].
pub fn conv_input_gradient<G: Gpu>(
    gpu: &G,
    conv: &Conv,
    (dy, weights): (u64, u64),
    gate: u64,
    dx: u64,
) -> Result<()> {
    if conv.kernel == 3 {
        let turned = Conv {
            inputs: conv.outputs,
            outputs: conv.inputs,
            ..*conv
        };
        let tap_size = conv.inputs * conv.outputs * Kind::F32.size();
        let weight = |tap: usize| transposed(weights + ((8 - tap) * tap_size) as u64, conv.outputs);
        let finish = Finish {
            gate,
            ..Finish::default()
        };
        return convolve(gpu, Kind::F32, &turned, dy, weight, finish, dx);
    }
    gpu.multiply(&Product {
        size: [conv.pixels(), conv.inputs, conv.outputs],
        a: matrix(dy, conv.outputs),
        b: transposed(weights, conv.outputs),
        kind: Kind::F32,
        c: dx,
        further: false,
        exact: false,
    })?;
    match gate {
        0 => Ok(()),
        gate => gated(gpu, conv.pixels() * conv.inputs, dx, gate),
    }
}

/// The gradient by a convolution's weights.
pub fn conv_weight_gradient<G: Gpu>(gpu: &G, conv: &Conv, (x, dy): (u64, u64), dw: u64) -> Result<()> {
    let product = |a: u64, b: u64, rows: usize, c: u64| Product {
        size: [conv.inputs, conv.outputs, rows],
        a: transposed(a, conv.inputs),
        b: matrix(b, conv.outputs),
        kind: Kind::F32,
        c,
        further: false,
        exact: false,
    };
    if conv.kernel != 3 {
        return gpu.multiply(&product(x, dy, conv.pixels(), dw));
    }
    let bordered = Bordered::of(conv);
    let padded = pad(gpu, Kind::F32, conv, (x, conv.inputs), 1)?;
    // Zeros where no pixel is, so that nothing is summed there.
    let gradients = pad(gpu, Kind::F32, conv, (dy, conv.outputs), 0)?;
    for tap in 0..9 {
        let from = bordered.shift(tap) * conv.inputs * Kind::F32.size();
        let to = tap * conv.inputs * conv.outputs * Kind::F32.size();
        let (a, b) = (gpu.address(&padded) + from as u64, gpu.address(&gradients));
        gpu.multiply(&product(a, b, bordered.rows, dw + to as u64))?;
    }
    Ok(())
}

/// The sum over all pixels of each channel: the gradient by a bias. A product with a row of ones, of what is summed as it is.
pub fn channel_sums<G: Gpu>(gpu: &G, (pixels, channels): (usize, usize), dy: u64, out: u64) -> Result<()> {
    let ones = gpu.memory(pixels * Kind::F32.size())?;
    fill(gpu, pixels, gpu.address(&ones), 1.0)?;
    gpu.multiply(&Product {
        size: [1, channels, pixels],
        a: matrix(gpu.address(&ones), pixels),
        b: matrix(dy, channels),
        kind: Kind::F32,
        c: out,
        further: false,
        exact: true,
    })
}

fn halved(pool: &Pool) -> [u64; 4] {
    let outputs = pool.batch * pool.height / 2 * (pool.width / 2) * pool.channels;
    [outputs, pool.height, pool.width, pool.channels].map(|n| n as u64)
}

/// The largest of each 2x2 window.
pub fn max_pool<G: Gpu>(gpu: &G, kind: Kind, pool: &Pool, x: u64, out: u64) -> Result<()> {
    let [count, height, width, channels] = halved(pool);
    gpu.launch(&kind.kernel("pool"), &[count, x, out, height, width, channels])
}

/// Its gradient.
pub fn max_pool_gradient<G: Gpu>(gpu: &G, pool: &Pool, (x, dy): (u64, u64), dx: u64) -> Result<()> {
    let [count, height, width, channels] = halved(pool);
    gpu.launch("pool_gradient", &[count, x, dy, dx, height, width, channels])
}

/// Every pixel becomes four.
pub fn up_conv<G: Gpu>(
    gpu: &G,
    kind: Kind,
    up: &UpConv,
    (x, weights, bias): (u64, u64, u64),
    out: u64,
) -> Result<()> {
    let (pixels, columns) = (up.batch * up.height * up.width, 4 * up.outputs);
    let sums = gpu.memory(pixels * columns * Kind::F32.size())?;
    gpu.multiply(&Product {
        size: [pixels, columns, up.inputs],
        a: matrix(x, up.inputs),
        b: transposed(weights, up.inputs),
        kind,
        c: gpu.address(&sums),
        further: false,
        exact: false,
    })?;
    let size = [up.height, up.width, up.outputs].map(|n| n as u64);
    let arguments = [
        (pixels * columns) as u64,
        gpu.address(&sums),
        out,
        size[0],
        size[1],
        size[2],
        bias,
    ];
    gpu.launch(&kind.kernel("shuffle"), &arguments)
}

/// The four gradients of every pixel side by side.
fn unshuffle<G: Gpu>(gpu: &G, up: &UpConv, dy: u64) -> Result<G::Memory> {
    let values = up.batch * up.height * up.width * 4 * up.outputs;
    let out = gpu.memory(values * Kind::F32.size())?;
    let size = [up.height, up.width, up.outputs].map(|n| n as u64);
    let arguments = [values as u64, dy, gpu.address(&out), size[0], size[1], size[2]];
    gpu.launch("unshuffle", &arguments)?;
    Ok(out)
}

/// The gradient by an up-convolution's input; `gate` as in [`Finish`].
pub fn up_conv_input_gradient<G: Gpu>(
    gpu: &G,
    up: &UpConv,
    (dy, weights): (u64, u64),
    gate: u64,
    dx: u64,
) -> Result<()> {
    let pixels = up.batch * up.height * up.width;
    let gradients = unshuffle(gpu, up, dy)?;
    gpu.multiply(&Product {
        size: [pixels, up.inputs, 4 * up.outputs],
        a: matrix(gpu.address(&gradients), 4 * up.outputs),
        b: matrix(weights, up.inputs),
        kind: Kind::F32,
        c: dx,
        further: false,
        exact: false,
    })?;
    match gate {
        0 => Ok(()),
        gate => gated(gpu, pixels * up.inputs, dx, gate),
    }
}

/// The gradient by an up-convolution's weights.
pub fn up_conv_weight_gradient<G: Gpu>(gpu: &G, up: &UpConv, (x, dy): (u64, u64), dw: u64) -> Result<()> {
    let gradients = unshuffle(gpu, up, dy)?;
    gpu.multiply(&Product {
        size: [4 * up.outputs, up.inputs, up.batch * up.height * up.width],
        a: transposed(gpu.address(&gradients), 4 * up.outputs),
        b: matrix(x, up.inputs),
        kind: Kind::F32,
        c: dw,
        further: false,
        exact: false,
    })
}

/// The channels of `a`, then those of `b`, of every pixel.
pub fn concat<G: Gpu>(
    gpu: &G,
    kind: Kind,
    pixels: usize,
    (a, in_a): (u64, usize),
    (b, in_b): (u64, usize),
    out: u64,
) -> Result<()> {
    let count = (pixels * (in_a + in_b)) as u64;
    gpu.launch(
        &kind.kernel("concat"),
        &[count, a, b, out, in_a as u64, in_b as u64],
    )
}

/// `kept` of the `channels` of every pixel, from `from` on.
pub fn split<G: Gpu>(
    gpu: &G,
    (pixels, channels): (usize, usize),
    x: u64,
    (from, kept): (usize, usize),
    out: u64,
) -> Result<()> {
    let words = [pixels * kept, channels, from, kept].map(|n| n as u64);
    gpu.launch("split", &[words[0], x, out, words[1], words[2], words[3]])
}

/// `sum += values`, and 0 where `gate` is not above 0.
pub fn add_gated<G: Gpu>(gpu: &G, count: usize, sum: u64, values: u64, gate: u64) -> Result<()> {
    gpu.launch("add_gated", &[count as u64, sum, values, gate])
}

/// Softmax of every pixel.
pub fn softmax<G: Gpu>(gpu: &G, (pixels, m): (usize, usize), logits: u64, p: u64) -> Result<()> {
    gpu.launch("softmax", &[pixels as u64, logits, p, m as u64])
}

/// The sums of the loss: `2 m + 2` in f64.
pub fn loss_sums<G: Gpu>(
    gpu: &G,
    (pixels, m): (usize, usize),
    (p, classes): (u64, u64),
    sums: u64,
) -> Result<()> {
    let count = pixels.div_ceil(PART);
    let parts = gpu.memory(count * 4 * m * 8)?;
    let [pixels, m, count] = [pixels, m, count].map(|n| n as u64);
    let at = gpu.address(&parts);
    gpu.launch("loss_parts", &[count * m, p, classes, at, pixels, m, PART as u64])?;
    gpu.launch("loss_sums", &[2 * m + 2, at, sums, count, m])
}

/// The loss's gradient by the logits.
pub fn loss_gradient<G: Gpu>(
    gpu: &G,
    kind: Loss,
    (pixels, m): (usize, usize),
    (p, classes, sums): (u64, u64, u64),
    out: u64,
) -> Result<()> {
    let [pixels, m] = [pixels, m].map(|n| n as u64);
    let is_dice = u64::from(kind != Loss::Mse);
    let has_entropy = u64::from(kind == Loss::DiceCe);
    gpu.launch(
        "loss_gradient",
        &[pixels, p, classes, sums, out, m, is_dice, pixels, has_entropy],
    )
}

/// A gradient enters both of Adam's means; `kept` of each stays.
pub fn adam_remember<G: Gpu>(gpu: &G, count: usize, moments: u64, grad: u64, kept: [f64; 2]) -> Result<()> {
    let arguments = [
        count as u64,
        moments,
        grad,
        bits(kept[0]),
        bits(kept[1]),
        bits(1.0 - kept[0]),
        bits(1.0 - kept[1]),
    ];
    gpu.launch("adam_remember", &arguments)
}

/// Adam's step, of the size that is found at an address.
pub fn adam_move<G: Gpu>(
    gpu: &G,
    count: usize,
    weight: u64,
    moments: u64,
    size: u64,
    epsilon: f64,
) -> Result<()> {
    gpu.launch("adam_move", &[count as u64, weight, moments, size, bits(epsilon)])
}

/// Sums of every tile, class and margin of every pixel, in bytes one after the other.
pub fn judge<G: Gpu>(
    gpu: &G,
    [tiles, height, width, m]: [usize; 4],
    (logits, sizes): (u64, u64),
    out: u64,
) -> Result<()> {
    let (pixels, columns, all) = (tiles * height * width, tiles * width, tile_bytes(m) / 8);
    // The sums first: they have to lie on multiples of 8.
    let (sums, classes) = (out, out + (tiles * tile_bytes(m)) as u64);
    let margins = classes + pixels as u64;
    let (known, parts) = (gpu.memory(2 * pixels * 8)?, gpu.memory(columns * all * 8)?);
    let (known, parts) = (gpu.address(&known), gpu.address(&parts));
    let [pixels, columns, tiles, all] = [pixels, columns, tiles, all].map(|n| n as u64);
    let [height, width, m] = [height, width, m].map(|n| n as u64);
    gpu.launch("judge", &[pixels, logits, classes, margins, known, m])?;
    gpu.launch(
        "judge_columns",
        &[columns, classes, known, sizes, parts, height, width, m],
    )?;
    gpu.launch("judge_tiles", &[tiles * all, parts, sums, tiles, width, all])
}

#[cfg(any(test, feature = "cudnn"))]
/// Weights for cuDNN, each output's together.
pub fn outputs_first<G: Gpu>(gpu: &G, kind: Kind, conv: &Conv, weights: u64, out: u64) -> Result<()> {
    let words = layout(conv);
    let arguments = [words[0], weights, out, words[1], words[2], words[3]];
    gpu.launch(&kind.kernel("outputs_first"), &arguments)
}

#[cfg(any(test, feature = "cudnn"))]
/// The way back from [`outputs_first`].
pub fn outputs_last<G: Gpu>(gpu: &G, conv: &Conv, weights: u64, out: u64) -> Result<()> {
    let words = layout(conv);
    gpu.launch(
        "outputs_last",
        &[words[0], weights, out, words[1], words[2], words[3]],
    )
}

#[cfg(any(test, feature = "cudnn"))]
fn layout(conv: &Conv) -> [u64; 4] {
    let taps = conv.kernel * conv.kernel;
    let threads = taps * conv.inputs.div_ceil(8) * conv.outputs;
    [threads, taps, conv.inputs, conv.outputs].map(|n| n as u64)
}
