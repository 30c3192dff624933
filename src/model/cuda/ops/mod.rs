//! Every layer on a GPU: which kernels and products, over which memory.
//!
//! Addresses are those of whole tensors of the shapes that the layers say.

mod conv;
mod judging;
mod learning;
mod resample;
mod stacks;

use candle_core::Result;

pub use conv::*;
pub use judging::judge;
pub use learning::*;
pub use resample::*;
pub use stacks::*;

use super::gpu::{Gpu, Kind, Matrix, Product};

/// Bytes that a thread of a wide kernel reads and writes at a time.
const WIDE: usize = 16;

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

/// How many numbers a thread of a wide kernel takes: 16 bytes of them where channels and addresses allow it, else one.
fn lanes(kind: Kind, channels: usize, addresses: &[u64]) -> usize {
    let lanes = WIDE / kind.size();
    // Of sums, which are in f32 whatever comes of them, a thread takes as many.
    let aligned = (lanes * Kind::F32.size()) as u64;
    let is_wide = channels.is_multiple_of(lanes) && addresses.iter().all(|at| at.is_multiple_of(aligned));
    if is_wide { lanes } else { 1 }
}

/// Launches a kernel over images of so many `values` in all, of so many `channels`; `arguments` are those after the number of threads,
/// of the channels as a thread counts them.
fn launch_wide<G: Gpu>(
    gpu: &G,
    (kind, name): (Kind, &str),
    (values, channels): (usize, usize),
    addresses: &[u64],
    arguments: impl FnOnce(usize) -> Vec<u64>,
) -> Result<()> {
    let lanes = lanes(kind, channels, addresses);
    let mut all = vec![(values / lanes) as u64];
    all.extend(arguments(channels / lanes));
    gpu.launch(&kernel_of(kind, name, lanes), &all)
}

/// The kernel whose threads take so many numbers.
fn kernel_of(kind: Kind, name: &str, lanes: usize) -> String {
    kind.kernel(name) + if lanes > 1 { "_wide" } else { "" }
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

/// `values = 0` where `gate` is not above 0; nothing where there is no gate.
pub fn gated<G: Gpu>(gpu: &G, count: usize, values: u64, gate: u64) -> Result<()> {
    if gate == 0 {
        return Ok(());
    }
    launch_wide(gpu, (Kind::F32, "gated"), (count, count), &[values, gate], |_| {
        vec![values, gate]
    })
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
