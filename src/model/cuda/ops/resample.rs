//! Between the levels: pooling, up-convolution, concatenation, and sums of gradients.

use candle_core::Result;

use super::super::gpu::{Gpu, Kind, Product};
use super::{gated, launch_wide, matrix, transposed};
use crate::model::kernels::{Pool, UpConv};

/// Height, width and channels, as a thread counts these, behind the addresses.
fn sized(addresses: &[u64], size: [usize; 3]) -> Vec<u64> {
    addresses.iter().copied().chain(size.map(|n| n as u64)).collect()
}

/// Values of images of half the size.
fn halved(pool: &Pool) -> (usize, usize) {
    let values = pool.batch * (pool.height / 2) * (pool.width / 2) * pool.channels;
    (values, pool.channels)
}

/// The largest of each 2x2 window.
pub fn max_pool<G: Gpu>(gpu: &G, kind: Kind, pool: &Pool, x: u64, out: u64) -> Result<()> {
    let addresses = [x, out];
    launch_wide(gpu, (kind, "pool"), halved(pool), &addresses, |channels| {
        sized(&addresses, [pool.height, pool.width, channels])
    })
}

/// Its gradient; where `is_added`, added to what is there, which becomes 0 where `x` is not above 0.
pub fn max_pool_gradient<G: Gpu>(
    gpu: &G,
    pool: &Pool,
    (x, dy): (u64, u64),
    is_added: bool,
    dx: u64,
) -> Result<()> {
    let addresses = [x, dy, dx];
    launch_wide(
        gpu,
        (Kind::F32, "pool_gradient"),
        halved(pool),
        &addresses,
        |channels| {
            let mut arguments = sized(&addresses, [pool.height, pool.width, channels]);
            arguments.push(u64::from(is_added));
            arguments
        },
    )
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
    let addresses = [gpu.address(&sums), out];
    let aligned = [addresses[0], out, bias];
    launch_wide(
        gpu,
        (kind, "shuffle"),
        (pixels * columns, up.outputs),
        &aligned,
        |channels| {
            let mut arguments = sized(&addresses, [up.height, up.width, channels]);
            arguments.push(bias);
            arguments
        },
    )
}

/// The four gradients of every pixel side by side, as an up-convolution's gradients take them.
pub fn unshuffle<G: Gpu>(gpu: &G, up: &UpConv, dy: u64, out: u64) -> Result<()> {
    let (values, addresses) = (up.batch * up.height * up.width * 4 * up.outputs, [dy, out]);
    launch_wide(
        gpu,
        (Kind::F32, "unshuffle"),
        (values, up.outputs),
        &addresses,
        |channels| sized(&addresses, [up.height, up.width, channels]),
    )
}

/// The gradient by an up-convolution's input, from what [`unshuffle`] makes; `gate` as in [`super::Finish`].
pub fn up_conv_input_gradient<G: Gpu>(
    gpu: &G,
    up: &UpConv,
    (dy, weights): (u64, u64),
    gate: u64,
    dx: u64,
) -> Result<()> {
    let pixels = up.batch * up.height * up.width;
    gpu.multiply(&Product {
        size: [pixels, up.inputs, 4 * up.outputs],
        a: matrix(dy, 4 * up.outputs),
        b: matrix(weights, up.inputs),
        kind: Kind::F32,
        c: dx,
        further: false,
        exact: false,
    })?;
    gated(gpu, pixels * up.inputs, dx, gate)
}

/// The gradient by an up-convolution's weights, from the same.
pub fn up_conv_weight_gradient<G: Gpu>(gpu: &G, up: &UpConv, (x, dy): (u64, u64), dw: u64) -> Result<()> {
    gpu.multiply(&Product {
        size: [4 * up.outputs, up.inputs, up.batch * up.height * up.width],
        a: transposed(dy, 4 * up.outputs),
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
    let addresses = [sum, values, gate];
    launch_wide(gpu, (Kind::F32, "add_gated"), (count, count), &addresses, |_| {
        addresses.to_vec()
    })
}
