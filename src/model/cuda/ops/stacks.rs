//! The layers of stacks of slices on a GPU, and those that look at every pixel: which kernels and products, over which memory.
//!
//! A convolution gathers what lies under some windows into the rows of a matrix, and multiplies that by the weights.

use candle_core::Result;

use super::super::gpu::{Gpu, Kind, Product};
use super::{finish, gated, matrix, transposed};
use crate::model::kernels::{DensePool, Norm, Spread, Window};

/// Values that are gathered at a time: 256 MB; so few in tests that there are several times.
const GATHERED: usize = if cfg!(test) { 1 << 10 } else { 1 << 26 };
/// Pixels of a part of a normalisation's sums.
const PART: usize = 1024;

fn triple([slices, rows, columns]: [usize; 3]) -> u64 {
    (slices as u64) << 40 | (rows as u64) << 20 | columns as u64
}

/// Where windows lie.
struct Windows<'a> {
    window: &'a Window,
    spread: Spread,
    /// Along each axis, and from one to the next.
    count: [usize; 3],
    step: usize,
}

impl Windows<'_> {
    /// Calls `each` with the first of some windows, how many they are, and the address of what lies under them.
    fn gather<G: Gpu>(
        &self,
        gpu: &G,
        x: u64,
        mut each: impl FnMut(usize, usize, u64) -> Result<()>,
    ) -> Result<()> {
        let values = self.values();
        let all = self.window.stacks * self.count.iter().product::<usize>();
        let at_once = (GATHERED / values).clamp(1, all.max(1));
        let rows = gpu.memory(at_once * values * Kind::F32.size())?;
        for first in (0..all).step_by(at_once) {
            let count = at_once.min(all - first);
            let arguments = [
                (count * values) as u64,
                x,
                gpu.address(&rows),
                first as u64,
                self.spread.channels as u64,
                triple(self.window.reach.kernel()),
                triple(self.count),
                triple(self.spread.size),
                triple(self.spread.before),
                self.step as u64,
                self.window.reach.dilation() as u64,
                self.spread.apart as u64,
            ];
            gpu.launch("windows", &arguments)?;
            each(first, count, gpu.address(&rows))?;
        }
        Ok(())
    }

    fn values(&self) -> usize {
        self.window.taps() * self.spread.channels
    }

    /// What lies under each, times `weights`, of which there are so many columns.
    fn multiply<G: Gpu>(&self, gpu: &G, x: u64, (weights, columns): (u64, usize), out: u64) -> Result<()> {
        self.gather(gpu, x, |first, count, rows| {
            gpu.multiply(&Product {
                size: [count, columns, self.values()],
                a: matrix(rows, self.values()),
                b: matrix(weights, columns),
                kind: Kind::F32,
                c: out + (first * columns * Kind::F32.size()) as u64,
                further: false,
                exact: false,
            })
        })
    }
}

fn forwards(window: &Window) -> Windows<'_> {
    Windows {
        window,
        spread: window.forwards(),
        count: window.windows().unwrap_or_default(),
        step: window.reach.step(),
    }
}

/// `out = x * weights + bias`, through ReLU if asked for.
pub fn window<G: Gpu>(
    gpu: &G,
    window: &Window,
    (x, weights, bias): (u64, u64, u64),
    relu: bool,
    out: u64,
) -> Result<()> {
    forwards(window).multiply(gpu, x, (weights, window.outputs), out)?;
    let size = (window.outcomes(), window.outputs);
    finish(gpu, Kind::F32, size, bias, relu, out)
}

/// The gradient by its input; `gate` as a convolution's.
pub fn window_input_gradient<G: Gpu>(
    gpu: &G,
    window: &Window,
    (dy, weights): (u64, u64),
    gate: u64,
    dx: u64,
) -> Result<()> {
    let turned = gpu.memory(window.weights() * Kind::F32.size())?;
    let [taps, inputs, outputs] = [window.taps(), window.inputs, window.outputs].map(|n| n as u64);
    let at = gpu.address(&turned);
    gpu.launch(
        "turned",
        &[window.weights() as u64, weights, at, taps, inputs, outputs],
    )?;
    let windows = Windows {
        window,
        spread: window.backwards(),
        count: window.size,
        step: 1,
    };
    windows.multiply(gpu, dy, (at, window.inputs), dx)?;
    gated(gpu, window.voxels() * window.inputs, dx, gate)
}

/// The gradient by its weights.
pub fn window_weight_gradient<G: Gpu>(gpu: &G, window: &Window, (x, dy): (u64, u64), dw: u64) -> Result<()> {
    let windows = forwards(window);
    windows.gather(gpu, x, |first, count, rows| {
        gpu.multiply(&Product {
            size: [windows.values(), window.outputs, count],
            a: transposed(rows, windows.values()),
            b: matrix(
                dy + (first * window.outputs * Kind::F32.size()) as u64,
                window.outputs,
            ),
            kind: Kind::F32,
            c: dw,
            further: first > 0,
            exact: false,
        })
    })
}

/// The largest of each four pixels some way apart.
pub fn dense_pool<G: Gpu>(gpu: &G, pool: &DensePool, x: u64, out: u64) -> Result<()> {
    let [height, width, channels, apart] =
        [pool.height, pool.width, pool.channels, pool.apart].map(|n| n as u64);
    gpu.launch(
        "dense_pool",
        &[pool.outputs() as u64, x, out, height, width, channels, apart],
    )
}

/// Its gradient.
pub fn dense_pool_gradient<G: Gpu>(gpu: &G, pool: &DensePool, (x, dy): (u64, u64), dx: u64) -> Result<()> {
    let count = pool.batch * pool.height * pool.width * pool.channels;
    let [height, width, channels, apart] =
        [pool.height, pool.width, pool.channels, pool.apart].map(|n| n as u64);
    gpu.launch(
        "dense_pool_gradient",
        &[count as u64, x, dy, dx, height, width, channels, apart],
    )
}

/// What is known of every channel of every stack: its mean, 1 over its deviation, and where `dy` is not 0 the sums of it, and of
/// it times the normalised `x`.
fn known<G: Gpu>(gpu: &G, norm: &Norm, x: u64, dy: u64) -> Result<G::Memory> {
    let (all, parts) = (norm.stacks * norm.channels, norm.pixels.div_ceil(PART));
    let known = gpu.memory(all * 4 * 8)?;
    let sums = gpu.memory(all * parts * 2 * 8)?;
    let (to, from) = (gpu.address(&known), gpu.address(&sums));
    let [count, all, parts, pixels, channels] =
        [all * parts, all, parts, norm.pixels, norm.channels].map(|n| n as u64);
    for which in 0..if dy == 0 { 2 } else { 3 } {
        gpu.launch(
            "norm_parts",
            &[count, x, dy, to, from, pixels, channels, PART as u64, which],
        )?;
        gpu.launch("norm_known", &[all, from, to, parts, pixels, which])?;
    }
    Ok(known)
}

/// Normalised, with a scale and a shift, through ReLU if asked for.
pub fn norm<G: Gpu>(
    gpu: &G,
    norm: &Norm,
    (x, scale, shift): (u64, u64, u64),
    relu: bool,
    out: u64,
) -> Result<()> {
    let known = known(gpu, norm, x, 0)?;
    let [count, pixels, channels] = [
        norm.stacks * norm.pixels * norm.channels,
        norm.pixels,
        norm.channels,
    ]
    .map(|n| n as u64);
    let at = gpu.address(&known);
    gpu.launch(
        "norm",
        &[count, x, out, at, scale, shift, pixels, channels, u64::from(relu)],
    )
}

/// The gradient by its input, then those by its scales, then those by its shifts.
pub fn norm_gradient<G: Gpu>(gpu: &G, norm: &Norm, (x, scale, dy): (u64, u64, u64), out: u64) -> Result<()> {
    let known = known(gpu, norm, x, dy)?;
    let [count, pixels, channels, stacks] = [
        norm.stacks * norm.pixels * norm.channels,
        norm.pixels,
        norm.channels,
        norm.stacks,
    ]
    .map(|n| n as u64);
    let at = gpu.address(&known);
    gpu.launch("norm_gradient", &[count, x, dy, out, at, scale, pixels, channels])?;
    let learnt = out + count * Kind::F32.size() as u64;
    gpu.launch("norm_learnt", &[channels, at, learnt, stacks])
}
