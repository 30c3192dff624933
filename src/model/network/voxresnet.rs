//! VoxResNet, after Chen, Dou, Yu, Qin & Heng, "VoxResNet: deep voxelwise residual networks for brain segmentation from 3D MR
//! images", NeuroImage 2018: residual modules over stacks of slices, and a classifier at each of four resolutions, whose sum is
//! the answer.
//!
//! The paper's widths, with 32 channels at first, over 16 slices of a tile:
//!
//! | part         | layers                                                      | stack out         |
//! |--------------|-------------------------------------------------------------|-------------------|
//! | `first`      | conv 3x3x3, norm + ReLU, conv 3x3x3                         | 16 x 64 x 64 x 32 |
//! | `level.1`    | norm + ReLU, conv 3x3x3 with step 2, two residual modules   | 8 x 32 x 32 x 64  |
//! | `level.2`    | the same                                                    | 4 x 16 x 16 x 64  |
//! | `level.3`    | the same                                                    | 2 x 8 x 8 x 64    |
//! | `head.0 ..3` | norm + ReLU, up to full size and to classes, of each level  | 16 x 64 x 64 x 4  |
//!
//! A residual module adds to its input what norm + ReLU, conv 3x3x3, twice, make of it. A head's up-convolution has a window as
//! large as its step, and a bias for each of its voxels; it makes classes at once, where the original makes more channels first.
//! Each normalisation takes the stack that it sees, where the original takes batches and remembers their means: batches here are
//! of few stacks. Loss, optimizer and tiles are those of every network here (the original: cross-entropy, crops of 80 x 80 x
//! 80); its second stage, which learns from the first's answers, is left out.

use candle_core::Result;

use super::parameter::{Layers, Parameter};
use super::tape::{Shuffle, Tape, Value};
use crate::model::kernels::Reach;
use crate::model::layers::Stacked;
use crate::records::Architecture;

/// Levels, the first included.
const LEVELS: usize = 4;
/// Slices of a stack.
pub const DEPTH: usize = 16;

/// Every parameter, from the input to the output.
pub fn parameters(shape: &Architecture) -> Vec<Parameter> {
    let (b, mut layers) = ((shape.base_channels / 2).max(1), Layers::default());
    layers.cube("first.0", shape.inputs(), b);
    layers.norm("first.1", b);
    layers.cube("first.2", b, b);
    for level in 1..LEVELS {
        let above = if level == 1 { b } else { 2 * b };
        layers.norm(format!("level.{level}.norm"), above);
        layers.cube(format!("level.{level}.down"), above, 2 * b);
        for part in (0..2).flat_map(|module| (0..2).map(move |n| format!("level.{level}.{module}.{n}"))) {
            layers.norm(format!("{part}.norm"), 2 * b);
            layers.cube(part, 2 * b, 2 * b);
        }
    }
    for level in 0..LEVELS {
        let width = if level == 0 { b } else { 2 * b };
        layers.norm(format!("head.{level}.norm"), width);
        layers.conv(format!("head.{level}"), 1, width, shape.classes << (3 * level));
    }
    layers.list()
}

/// From images to logits: their sum, and those of each level.
pub fn follow(tape: &mut Tape<'_>, images: Value) -> Result<Vec<Value>> {
    let cube = |depth, step| Stacked {
        depth,
        reach: Reach::cube(step),
    };
    let mut depth = DEPTH;
    let mut x = tape.window(images, "first.0", cube(depth, 1), false)?;
    x = tape.norm(x, "first.1", depth)?;
    x = tape.window(x, "first.2", cube(depth, 1), false)?;
    let mut heads = vec![head(tape, &x, 0, depth)?];
    for level in 1..LEVELS {
        x = tape.norm(x, format!("level.{level}.norm"), depth)?;
        x = tape.window(x, format!("level.{level}.down"), cube(depth, 2), false)?;
        depth /= 2;
        for module in 0..2 {
            let mut inner = x.clone();
            for n in 0..2 {
                let part = format!("level.{level}.{module}.{n}");
                inner = tape.norm(inner, format!("{part}.norm"), depth)?;
                inner = tape.window(inner, part, cube(depth, 1), false)?;
            }
            x = tape.add(&x, &inner)?;
        }
        heads.push(head(tape, &x, level, depth)?);
    }
    let mut sum = heads[0].clone();
    for head in &heads[1..] {
        sum = tape.add(&sum, head)?;
    }
    heads.insert(0, sum);
    Ok(heads)
}

fn head(tape: &mut Tape<'_>, x: &Value, level: usize, depth: usize) -> Result<Value> {
    let x = tape.norm(x.clone(), format!("head.{level}.norm"), depth)?;
    let low = tape.conv(x, format!("head.{level}"), false)?;
    match level {
        0 => Ok(low),
        _ => tape.shuffle(
            &low,
            Shuffle {
                depth,
                by: [1 << level; 3],
            },
        ),
    }
}
