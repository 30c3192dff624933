//! What is said of every pixel and every tile.

use candle_core::Result;

use super::super::gpu::Gpu;
use crate::model::judge::tile_bytes;

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
