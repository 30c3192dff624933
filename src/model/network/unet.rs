//! The U-shape network of the paper (its Fig. 4), after Ronneberger, Fischer & Brox, "U-Net: convolutional networks
//! for biomedical image segmentation", MICCAI 2015.
//!
//! For one channel, four classes, 64 base channels and a tile of 64x64 (31,030,788 parameters):
//!
//! | part     | layers                                                        | image out     |
//! |----------|---------------------------------------------------------------|---------------|
//! | `down.0` | conv 3x3 + ReLU, conv 3x3 + ReLU                              | 64 x 64 x 64  |
//! | `down.1` | max pool 2x2, the same two                                    | 32 x 32 x 128 |
//! | `down.2` | as above                                                      | 16 x 16 x 256 |
//! | `down.3` | as above                                                      | 8 x 8 x 512   |
//! | `down.4` | as above                                                      | 4 x 4 x 1024  |
//! | `up.0`   | up-conv 2x2, beside `down.3`'s output, two conv 3x3 + ReLU    | 8 x 8 x 512   |
//! | `up.1`   | as above, beside `down.2`'s                                   | 16 x 16 x 256 |
//! | `up.2`   | as above, beside `down.1`'s                                   | 32 x 32 x 128 |
//! | `up.3`   | as above, beside `down.0`'s                                   | 64 x 64 x 64  |
//! | `head`   | conv 1x1                                                      | 64 x 64 x 4   |
//!
//! Any height and width that are multiples of 16 will do. With deep supervision a conv 1x1 makes classes of `up.1` and `up.2`
//! too, each for the 4x4 or 2x2 pixels that theirs stand for (after nnU-Net, Isensee et al., Nature Methods 2021); they are
//! computed to learn alone.

use std::ops::Range;

use candle_core::{Result, bail};

use super::parameter::{Layers, Parameter};
use super::tape::{Shuffle, Tape, Value};
use crate::records::Architecture;

/// Levels, the lowest included.
const LEVELS: usize = 5;
/// What an image's height and width have to be multiples of.
const MULTIPLE: usize = 1 << (LEVELS - 1);

/// Every parameter, from the input to the output.
pub fn parameters(shape: &Architecture) -> Vec<Parameter> {
    let mut layers = Layers::default();
    let width = |level: usize| shape.base_channels << level;
    for level in 0..LEVELS {
        let inputs = if level == 0 {
            shape.inputs()
        } else {
            width(level - 1)
        };
        layers.conv(format!("down.{level}.0"), 3, inputs, width(level));
        layers.conv(format!("down.{level}.1"), 3, width(level), width(level));
    }
    for (step, level) in (0..LEVELS - 1).rev().enumerate() {
        layers.up_conv(format!("up.{step}.0"), width(level + 1), width(level));
        layers.conv(format!("up.{step}.1"), 3, 2 * width(level), width(level));
        layers.conv(format!("up.{step}.2"), 3, width(level), width(level));
    }
    layers.conv("head", 1, width(0), shape.classes);
    for level in auxiliary(shape) {
        layers.conv(
            format!("head.{level}"),
            1,
            width(level),
            shape.classes << (2 * level),
        );
    }
    layers.list()
}

/// The levels whose classifiers it is taught by too.
fn auxiliary(shape: &Architecture) -> Range<usize> {
    if shape.deep_supervision {
        1..LEVELS - 2
    } else {
        0..0
    }
}

/// From images to logits, then those of lower levels.
pub fn follow(tape: &mut Tape<'_>, images: Value, shape: &Architecture) -> Result<Vec<Value>> {
    let (_, height, width, _) = images.tensor.dims4()?;
    if height % MULTIPLE + width % MULTIPLE != 0 {
        bail!(
            "a tile of {width} x {height} cannot be halved {} times",
            LEVELS - 1
        );
    }
    let (mut skips, mut lower) = (Vec::new(), Vec::new());
    let mut x = images;
    for level in 0..LEVELS {
        if level > 0 {
            x = tape.pool(x)?;
        }
        for n in 0..2 {
            x = tape.conv(x, format!("down.{level}.{n}"), true)?;
        }
        if level + 1 < LEVELS {
            skips.push(x.clone());
        }
    }
    for (step, skip) in skips.into_iter().rev().enumerate() {
        let wide = tape.up_conv(x, format!("up.{step}.0"))?;
        x = tape.conv_concat([skip, wide], format!("up.{step}.1"), true)?;
        x = tape.conv(x, format!("up.{step}.2"), true)?;
        let level = LEVELS - 2 - step;
        if tape.is_traced() && auxiliary(shape).contains(&level) {
            let low = tape.conv(x.clone(), format!("head.{level}"), false)?;
            let by = [1, 1 << level, 1 << level];
            lower.push(tape.shuffle(&low, Shuffle { depth: 1, by })?);
        }
    }
    lower.insert(0, tape.conv(x, "head", false)?);
    Ok(lower)
}
