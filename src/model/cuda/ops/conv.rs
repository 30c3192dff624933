//! Convolutions within slices.
//!
//! A convolution needs no matrix of windows: the images get a border of zeros, all their pixels are taken as the rows of one matrix,
//! and a tap of the window is that matrix from some rows further on, times the tap's weights. What such rows give between two lines
//! of pixels is cut off afterwards; where sums over pixels are wanted, zeros stand there. Where cuDNN is, it does the 3x3
//! convolutions instead.

use candle_core::Result;

use super::super::gpu::{Gpu, Kind, Matrix, Product};
use super::{finish, gated, kernel_of, lanes, launch_wide, matrix, transposed};
use crate::model::kernels::Conv;

/// Inputs that need no product: it would take longer than to write what comes of them.
const FEW_INPUTS: usize = 4;
/// Outputs that need none.
const FEW_OUTPUTS: usize = 8;

/// A convolution of images that have some of the weights' inputs; the others lie beside them.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its inputs are those taken.
    pub conv: Conv,
    /// Inputs of the weights before them.
    pub from: usize,
    /// Inputs of the weights in all.
    pub all: usize,
}

impl Part {
    /// One of images of so many channels each, beside one another.
    pub fn each(conv: &Conv, channels: impl IntoIterator<Item = usize>) -> impl Iterator<Item = Part> {
        let (all, mut end) = (conv.inputs, 0);
        channels.into_iter().map(move |inputs| {
            end += inputs;
            Part {
                conv: Conv { inputs, ..*conv },
                from: end - inputs,
                all,
            }
        })
    }

    fn taps(&self) -> usize {
        self.conv.kernel * self.conv.kernel
    }

    /// Where its weights of a tap begin, those of an input after those of another.
    fn tap(&self, weights: u64, tap: usize, kind: Kind) -> u64 {
        weights + ((tap * self.all + self.from) * self.conv.outputs * kind.size()) as u64
    }
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

/// Adds the sums of a 3x3 convolution by products, over images with their border: of `x` with `weight(tap)` of each tap.
fn add_taps<G: Gpu>(
    gpu: &G,
    kind: Kind,
    conv: &Conv,
    x: u64,
    weight: impl Fn(usize) -> Matrix,
    (sums, is_first): (u64, bool),
) -> Result<()> {
    let bordered = Bordered::of(conv);
    let padded = pad(gpu, kind, conv, (x, conv.inputs), 1)?;
    for tap in 0..9 {
        let from = bordered.shift(tap) * conv.inputs * kind.size();
        gpu.multiply(&Product {
            size: [bordered.rows, conv.outputs, conv.inputs],
            a: matrix(gpu.address(&padded) + from as u64, conv.inputs),
            b: weight(tap),
            kind,
            c: sums,
            further: tap > 0 || !is_first,
            exact: false,
        })?;
    }
    Ok(())
}

/// Memory for such sums.
fn sums<G: Gpu>(gpu: &G, conv: &Conv) -> Result<G::Memory> {
    gpu.memory(Bordered::of(conv).pixels * conv.outputs * Kind::F32.size())
}

/// The pixels of such sums, finished.
fn crop<G: Gpu>(gpu: &G, kind: Kind, conv: &Conv, sums: u64, finish: Finish, out: u64) -> Result<()> {
    let size = [conv.height, conv.width, conv.outputs].map(|n| n as u64);
    let arguments = [
        (conv.pixels() * conv.outputs) as u64,
        sums,
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
///
/// * `x`: images beside one another, and the channels of each
pub fn conv<G: Gpu>(
    gpu: &G,
    kind: Kind,
    conv: &Conv,
    x: &[(u64, usize)],
    (weights, bias): (u64, u64),
    relu: bool,
    out: u64,
) -> Result<()> {
    if let [(x, _)] = *x
        && conv.kernel == 3
        && has_few_inputs(conv, weights, out)
    {
        return conv_few(gpu, kind, conv, (x, weights, bias), relu, out);
    }
    if let [(x, _)] = *x
        && conv.kernel == 1
        && conv.outputs <= FEW_OUTPUTS
    {
        return few_outputs(gpu, kind, conv, (x, weights, bias), relu, out);
    }
    let parts = || Part::each(conv, x.iter().map(|x| x.1)).zip(x).enumerate();
    if conv.kernel == 3 {
        let sums = sums(gpu, conv)?;
        for (n, (part, &(x, _))) in parts() {
            let weight = |tap| matrix(part.tap(weights, tap, kind), conv.outputs);
            add_taps(gpu, kind, &part.conv, x, weight, (gpu.address(&sums), n == 0))?;
        }
        let finish = Finish { bias, relu, gate: 0 };
        return crop(gpu, kind, conv, gpu.address(&sums), finish, out);
    }
    for (n, (part, &(x, channels))) in parts() {
        gpu.multiply(&Product {
            size: [conv.pixels(), conv.outputs, channels],
            a: matrix(x, channels),
            b: matrix(part.tap(weights, 0, kind), conv.outputs),
            kind,
            c: out,
            further: n > 0,
            exact: false,
        })?;
    }
    finish(gpu, Kind::F32, (conv.pixels(), conv.outputs), bias, relu, out)
}

/// Whether no product is needed for this one.
pub fn has_few_inputs(conv: &Conv, weights: u64, out: u64) -> bool {
    let is_aligned = weights.is_multiple_of(16) && out.is_multiple_of(16);
    is_of_few(conv) && conv.outputs.is_multiple_of(4) && conv.width.is_multiple_of(4) && is_aligned
}

/// Whether a convolution is of so few inputs that it is none for cuDNN.
pub fn is_of_few(conv: &Conv) -> bool {
    conv.kernel == 3 && conv.inputs <= FEW_INPUTS
}

/// A 3x3 convolution of few inputs, finished; in f32 whatever products are computed in.
fn conv_few<G: Gpu>(
    gpu: &G,
    kind: Kind,
    conv: &Conv,
    (x, weights, bias): (u64, u64, u64),
    relu: bool,
    out: u64,
) -> Result<()> {
    let size = [conv.height, conv.width, conv.inputs, conv.outputs / 4].map(|n| n as u64);
    let threads = (conv.pixels() / 4 * (conv.outputs / 4)) as u64;
    let [height, width, inputs, groups] = size;
    let relu = u64::from(relu);
    let arguments = [
        threads, x, weights, bias, out, height, width, inputs, groups, relu,
    ];
    gpu.launch(&kind.kernel("conv_few"), &arguments)
}

/// A 1x1 convolution of few outputs, finished; in f32 too.
fn few_outputs<G: Gpu>(
    gpu: &G,
    kind: Kind,
    conv: &Conv,
    (x, weights, bias): (u64, u64, u64),
    relu: bool,
    out: u64,
) -> Result<()> {
    let (outputs, relu) = (conv.outputs as u64, u64::from(relu));
    let fours = is_in_fours(conv, &[weights]);
    let lanes = lanes(kind, conv.inputs, &[x]);
    let [pixels, inputs] = [conv.pixels(), conv.inputs / lanes].map(|n| n as u64);
    let arguments = [pixels, x, weights, bias, out, inputs, outputs, relu, fours];
    gpu.launch(&kernel_of(kind, "few_outputs", lanes), &arguments)
}

/// Whether rows of a convolution's outputs can be read four numbers at a time.
fn is_in_fours(conv: &Conv, rows: &[u64]) -> u64 {
    let is_aligned = rows.iter().all(|at| at.is_multiple_of(16));
    u64::from(conv.outputs.is_multiple_of(4) && is_aligned)
}

/// The gradient by some of a convolution's inputs; `gate` as in [`Finish`].
pub fn conv_input_gradient<G: Gpu>(
    gpu: &G,
    part: &Part,
    (dy, weights): (u64, u64),
    gate: u64,
    dx: u64,
) -> Result<()> {
    let conv = &part.conv;
    if conv.kernel == 3 {
        let turned = Conv {
            inputs: conv.outputs,
            outputs: conv.inputs,
            ..*conv
        };
        let weight = |tap: usize| transposed(part.tap(weights, 8 - tap, Kind::F32), conv.outputs);
        let sums = sums(gpu, &turned)?;
        add_taps(gpu, Kind::F32, &turned, dy, weight, (gpu.address(&sums), true))?;
        let finish = Finish {
            gate,
            ..Finish::default()
        };
        return crop(gpu, Kind::F32, &turned, gpu.address(&sums), finish, dx);
    }
    let (values, weights) = (conv.pixels() * conv.inputs, part.tap(weights, 0, Kind::F32));
    if conv.outputs <= FEW_OUTPUTS {
        let (size, fours) = ((values, conv.inputs), is_in_fours(conv, &[dy, weights]));
        return launch_wide(
            gpu,
            (Kind::F32, "few_outputs_gradient"),
            size,
            &[gate, dx],
            |inputs| vec![dy, weights, gate, dx, inputs as u64, conv.outputs as u64, fours],
        );
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
    gated(gpu, values, dx, gate)
}

/// The gradient by a convolution's weights of some inputs, among those of all.
pub fn conv_weight_gradient<G: Gpu>(gpu: &G, part: &Part, (x, dy): (u64, u64), dw: u64) -> Result<()> {
    let conv = &part.conv;
    let product = |(a, step): (u64, usize), b: u64, size: [usize; 2], c: u64| Product {
        size: [size[0], conv.outputs, size[1]],
        a: transposed(a, step),
        b: matrix(b, conv.outputs),
        kind: Kind::F32,
        c,
        further: false,
        exact: false,
    };
    if conv.kernel != 3 {
        let size = [conv.inputs, conv.pixels()];
        return gpu.multiply(&product((x, conv.inputs), dy, size, part.tap(dw, 0, Kind::F32)));
    }
    if is_of_few(conv) && conv.inputs == part.all {
        // Rows that begin at multiples of 16 bytes, as products like them.
        let (values, columns) = (9 * conv.inputs, (9 * conv.inputs).next_multiple_of(4));
        let windows = gpu.memory(conv.pixels() * columns * Kind::F32.size())?;
        let at = gpu.address(&windows);
        let size = [conv.height, conv.width, conv.inputs, columns].map(|n| n as u64);
        let threads = (conv.pixels() * columns) as u64;
        let arguments = [threads, x, at, size[0], size[1], size[2], size[3]];
        gpu.launch("windows_few", &arguments)?;
        return gpu.multiply(&product((at, columns), dy, [values, conv.pixels()], dw));
    }
    let bordered = Bordered::of(conv);
    let padded = pad(gpu, Kind::F32, conv, (x, conv.inputs), 1)?;
    // Zeros where no pixel is, so that nothing is summed there.
    let gradients = pad(gpu, Kind::F32, conv, (dy, conv.outputs), 0)?;
    for tap in 0..9 {
        let from = bordered.shift(tap) * conv.inputs * Kind::F32.size();
        let (a, b) = (gpu.address(&padded) + from as u64, gpu.address(&gradients));
        let size = [conv.inputs, bordered.rows];
        gpu.multiply(&product((a, conv.inputs), b, size, part.tap(dw, tap, Kind::F32)))?;
    }
    Ok(())
}

#[cfg(any(test, feature = "cudnn"))]
/// Numbers as bf16.
pub fn narrowed<G: Gpu>(gpu: &G, count: usize, values: u64, out: u64) -> Result<()> {
    gpu.launch("narrowed", &[count as u64, values, out])
}

#[cfg(any(test, feature = "cudnn"))]
/// Weights of some inputs for cuDNN, each output's together.
pub fn outputs_first<G: Gpu>(gpu: &G, kind: Kind, part: &Part, weights: u64, out: u64) -> Result<()> {
    gpu.launch(&kind.kernel("outputs_first"), &layout(part, [weights, out]))
}

#[cfg(any(test, feature = "cudnn"))]
/// The way back from [`outputs_first`].
pub fn outputs_last<G: Gpu>(gpu: &G, part: &Part, weights: u64, out: u64) -> Result<()> {
    gpu.launch("outputs_last", &layout(part, [weights, out]))
}

#[cfg(any(test, feature = "cudnn"))]
fn layout(part: &Part, [from, to]: [u64; 2]) -> [u64; 8] {
    let (conv, taps) = (&part.conv, part.taps());
    let threads = taps * conv.inputs.div_ceil(8) * conv.outputs.next_multiple_of(8);
    let [threads, taps, inputs, outputs] = [threads, taps, conv.inputs, conv.outputs].map(|n| n as u64);
    [
        threads,
        from,
        to,
        taps,
        inputs,
        outputs,
        part.all as u64,
        part.from as u64,
    ]
}
