//! The loss and Adam.

use candle_core::Result;

use super::super::gpu::{Gpu, Kind};
use super::{bits, launch_wide};
use crate::settings::Loss;

/// Pixels of a part of the loss's sums.
const PART: usize = 64;
/// Rows that are added at a time.
const FOLDED: usize = 16;

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
    let (mut count, width) = (pixels.div_ceil(PART), 4 * m);
    let mut parts = gpu.memory(count * width * 8)?;
    let (pixels, m) = (pixels as u64, m as u64);
    let threads = count as u64 * m;
    let at = gpu.address(&parts);
    gpu.launch("loss_parts", &[threads, p, classes, at, pixels, m, PART as u64])?;
    // One thread would wait for thousands of them.
    while count > FOLDED {
        let rows = count.div_ceil(FOLDED);
        let folded = gpu.memory(rows * width * 8)?;
        let (from, to) = (gpu.address(&parts), gpu.address(&folded));
        let [threads, before, width, at_once] = [rows * width, count, width, FOLDED].map(|n| n as u64);
        gpu.launch("folded", &[threads, from, to, before, width, at_once])?;
        (parts, count) = (folded, rows);
    }
    gpu.launch(
        "loss_sums",
        &[2 * m + 2, gpu.address(&parts), sums, count as u64, m],
    )
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

/// Adam's step: the gradient enters both means, of which `kept` stays, and the weight moves, as far as is found at an address.
///
/// * `learnt`: the weights, then the means of their gradients, then those of their squares
pub fn adam<G: Gpu>(
    gpu: &G,
    count: usize,
    learnt: u64,
    [grad, size]: [u64; 2],
    kept: [f64; 2],
    epsilon: f64,
) -> Result<()> {
    let numbers = [kept[0], kept[1], 1.0 - kept[0], 1.0 - kept[1], epsilon].map(bits);
    let kernel = (Kind::F32, "adam");
    launch_wide(gpu, kernel, (count, count), &[learnt, grad], |_| {
        [&[learnt, grad, size], &numbers[..]].concat()
    })
}
