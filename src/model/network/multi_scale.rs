//! The multi-scale network of Moeskops et al., "Automatic segmentation of MR brain images with a convolutional neural network",
//! IEEE TMI 2016: of every pixel three patches, each through convolutions of its own, decide the class together.
//!
//! The paper's layers and widths, with 24 channels at first:
//!
//! | part     | patch   | layers                                                                          |
//! |----------|---------|---------------------------------------------------------------------------------|
//! | `small`  | 24 x 24 | conv 5x5 to 24, pool, conv 3x3 to 32, pool, conv 3x3 to 48, pool, full to 256   |
//! | `middle` | 46 x 46 | conv 7x7 to 24, pool, conv 5x5 to 32, pool, conv 3x3 to 48, pool, full to 256   |
//! | `large`  | 68 x 68 | conv 9x9 to 24, pool, conv 7x7 to 32, pool, conv 5x5 to 48, pool, full to 256   |
//! | `head`   |         | full, of the three side by side, to the classes                                 |
//!
//! Every layer but the last goes through ReLU. The paper says 25, 51 and 75 pixels, whose halvings do not come out even: what
//! they would leave over is not looked at, and the patches lie around the middle of what is. Loss, optimizer and tiles are
//! those of every network here: the paper's drop-out, RMSprop and patches balanced over the classes are not built.
//!
//! All pixels of a tile are asked about at once: where patch by patch a pooling would halve, here all layers after it skip every
//! other pixel. The answers are the same; each convolution is computed once for all the patches that share it.

use candle_core::{Result, bail};

use super::parameter::{Layers, Parameter};
use super::tape::{Tape, Value};
use crate::model::kernels::Reach;
use crate::model::layers::Stacked;
use crate::records::Architecture;

/// Name, edges of the convolutions' windows, that of the patch, and that of what is left of it at the end.
pub const BRANCHES: [(&str, [usize; 3], usize, usize); 3] = [
    ("small", [5, 3, 3], 24, 1),
    ("middle", [7, 5, 3], 46, 3),
    ("large", [9, 7, 5], 68, 4),
];
/// Pixels around a tile that it sees.
pub const CONTEXT: usize = 34;

/// Channels of the three convolutions and of the full layer.
pub fn widths(shape: &Architecture) -> [usize; 4] {
    let b = (shape.base_channels * 3 / 8).max(1);
    [b, b * 4 / 3, b * 2, b * 32 / 3]
}

/// Every parameter, from the input to the output.
pub fn parameters(shape: &Architecture) -> Vec<Parameter> {
    let (widths, mut layers) = (widths(shape), Layers::default());
    for (name, kernels, _, full) in BRANCHES {
        let mut inputs = shape.inputs();
        for (n, (kernel, outputs)) in kernels.into_iter().chain([full]).zip(widths).enumerate() {
            layers.conv(format!("{name}.{n}"), kernel, inputs, outputs);
            inputs = outputs;
        }
    }
    layers.conv("head", 1, 3 * widths[3], shape.classes);
    layers.list()
}

/// From images, with their context, to logits.
pub fn follow(tape: &mut Tape<'_>, images: Value) -> Result<Vec<Value>> {
    let (_, height, width, _) = images.tensor.dims4()?;
    let around = 2 * CONTEXT;
    if height <= around || width <= around {
        bail!("a tile of {width} x {height} is nothing but context");
    }
    let mut branches = Vec::new();
    for (name, kernels, patch, full) in BRANCHES {
        let first = CONTEXT - patch / 2;
        let cut = images.tensor.narrow(1, first, height - around + patch - 1)?;
        let cut = cut.narrow(2, first, width - around + patch - 1)?.contiguous()?;
        let mut x = tape.images(cut);
        for (n, kernel) in kernels.into_iter().enumerate() {
            x = tape.window(x, format!("{name}.{n}"), within(kernel, 1 << n), true)?;
            x = tape.dense_pool(x, 1 << n)?;
        }
        branches.push(tape.window(x, format!("{name}.3"), within(full, 8), true)?);
    }
    let mut branches = branches.into_iter();
    let mut all = branches.next().expect("there are three");
    for branch in branches {
        all = tape.concat(all, branch)?;
    }
    Ok(vec![tape.conv(all, "head", false)?])
}

fn within(kernel: usize, dilation: usize) -> Stacked {
    Stacked {
        depth: 1,
        reach: Reach::within(kernel, dilation),
    }
}
