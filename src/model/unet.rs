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
//! Softmax belongs to the loss and to prediction. Any height and width that are multiples of 16 will do.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::layers::{
    Kept, Source, add_before_relu, concat, conv, conv_gradients, max_pool, max_pool_gradient, split_channels,
    up_conv, up_conv_gradients,
};
use crate::imaging::Rng;
use crate::records::Architecture;

/// Levels, the lowest included.
const LEVELS: usize = 5;
/// What an image's height and width have to be multiples of.
pub const MULTIPLE: usize = 1 << (LEVELS - 1);

/// What a parameter is to its layer, with the axes of its tensor here and in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `[ky][kx][input][output]` here, `[output][input][ky][kx]` in a file.
    Conv,
    /// `[ky][kx][output][input]` here, `[input][output][ky][kx]` in a file.
    UpConv,
    /// `[output]`.
    Bias,
}

/// Name and shape of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// As PyTorch would name it: `down.0.1.weight`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Edge of the window, 1 for a bias.
    pub kernel: usize,
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
}

impl Parameter {
    /// The tensor's shape.
    pub fn shape(&self) -> Vec<usize> {
        match self.role {
            Role::Conv => vec![self.kernel, self.kernel, self.inputs, self.outputs],
            Role::UpConv => vec![self.kernel, self.kernel, self.outputs, self.inputs],
            Role::Bias => vec![self.outputs],
        }
    }

    /// How many numbers it is.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Values to start from: Glorot's uniform distribution as Keras draws it (fans counted with the window), 0 for
    /// a bias.
    ///
    /// Source: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
    pub fn drawn(&self, rng: &Rng) -> Vec<f32> {
        if self.role == Role::Bias {
            return vec![0.0; self.len()];
        }
        let fans = self.kernel * self.kernel * (self.inputs + self.outputs);
        let limit = (6.0 / fans as f64).sqrt();
        let mut rng = rng.fork(&self.name);
        (0..self.len()).map(|_| rng.range(-limit, limit) as f32).collect()
    }
}

/// Every parameter of a network of this shape, from the input to the output.
pub fn parameters(shape: &Architecture) -> Vec<Parameter> {
    let mut list = Vec::new();
    let mut layer = |name: String, role, kernel, inputs, outputs| {
        for (part, role) in [("weight", role), ("bias", Role::Bias)] {
            let kernel = if role == Role::Bias { 1 } else { kernel };
            list.push(Parameter {
                name: format!("{name}.{part}"),
                role,
                kernel,
                inputs,
                outputs,
            });
        }
    };
    let width = |level: usize| shape.base_channels << level;
    for level in 0..LEVELS {
        let inputs = if level == 0 {
            shape.channels
        } else {
            width(level - 1)
        };
        layer(format!("down.{level}.0"), Role::Conv, 3, inputs, width(level));
        layer(
            format!("down.{level}.1"),
            Role::Conv,
            3,
            width(level),
            width(level),
        );
    }
    for (step, level) in (0..LEVELS - 1).rev().enumerate() {
        layer(
            format!("up.{step}.0"),
            Role::UpConv,
            2,
            width(level + 1),
            width(level),
        );
        layer(
            format!("up.{step}.1"),
            Role::Conv,
            3,
            2 * width(level),
            width(level),
        );
        layer(format!("up.{step}.2"), Role::Conv, 3, width(level), width(level));
    }
    layer("head".to_string(), Role::Conv, 1, width(0), shape.classes);
    list
}

/// How many numbers a network of this shape learns.
pub fn parameter_count(shape: &Architecture) -> usize {
    parameters(shape).iter().map(Parameter::len).sum()
}

/// A layer that a forward pass went through, with what its gradients are computed from.
#[derive(Debug)]
enum Step {
    /// `relu` where its output went through it.
    Conv {
        layer: String,
        x: Tensor,
        relu: bool,
    },
    UpConv {
        layer: String,
        x: Tensor,
    },
    Pool {
        x: Tensor,
    },
    /// What flows here, out of a ReLU, is concatenated further up.
    Skip {
        x: Tensor,
    },
    /// The skip's channels come first.
    Concat {
        kept: usize,
    },
}

impl Step {
    /// What its output is to the layer after it.
    fn source(&self) -> Source {
        match self {
            Step::Conv { relu: true, .. } => Source::Relu,
            _ => Source::Layer,
        }
    }
}

/// A forward pass, step by step; `None` where nobody will go back and nothing has to be kept.
#[derive(Debug)]
pub struct Trace(Option<Vec<Step>>);

impl Trace {
    fn note(&mut self, step: impl FnOnce() -> Step) {
        if let Some(steps) = &mut self.0 {
            steps.push(step());
        }
    }
}

/// A network with its weights.
#[derive(Debug, Clone)]
pub struct UNet {
    shape: Architecture,
    weights: HashMap<String, Tensor>,
    /// By layer, where the weights stay as they are.
    kept: HashMap<String, Arc<Kept>>,
}

impl UNet {
    /// A network with these weights.
    ///
    /// # Errors
    /// A parameter that is missing or of another shape.
    pub fn new(shape: Architecture, weights: HashMap<String, Tensor>) -> Result<UNet> {
        for parameter in parameters(&shape) {
            match weights.get(&parameter.name) {
                Some(weight) if weight.dims() == parameter.shape() => {}
                Some(weight) => bail!(
                    "{} is {:?}, but this network takes {:?}",
                    parameter.name,
                    weight.dims(),
                    parameter.shape()
                ),
                None => bail!("{} is missing", parameter.name),
            }
        }
        Ok(UNet {
            shape,
            weights,
            kept: HashMap::new(),
        })
    }

    /// The same network for drawing: its layers lay out their weights once. It must not be used after a step that changes
    /// them.
    pub fn frozen(&self) -> UNet {
        let layers = self
            .weights
            .keys()
            .filter_map(|name| name.strip_suffix(".weight"));
        UNet {
            kept: layers.map(|layer| (layer.to_string(), Arc::default())).collect(),
            ..self.clone()
        }
    }

    /// A network drawn from `rng`, without a graph.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn drawn(shape: Architecture, rng: &Rng, device: &Device) -> Result<UNet> {
        let weights = parameters(&shape).into_iter().map(|parameter| {
            let tensor = Tensor::from_vec(parameter.drawn(rng), parameter.shape(), device)?;
            Ok((parameter.name, tensor))
        });
        UNet::new(shape, weights.collect::<Result<_>>()?)
    }

    /// The same network with weights of bf16, for drawing on a GPU; biases and logits stay f32.
    ///
    /// # Errors
    /// None but those of a GPU.
    pub fn narrowed(&self) -> Result<UNet> {
        let narrow = |(name, tensor): (&String, &Tensor)| {
            let kind = if name.ends_with("weight") {
                DType::BF16
            } else {
                tensor.dtype()
            };
            Ok((name.clone(), tensor.to_dtype(kind)?))
        };
        UNet::new(
            self.shape,
            self.weights.iter().map(narrow).collect::<Result<_>>()?,
        )
    }

    /// Where its weights lie.
    pub fn device(&self) -> &Device {
        self.weight("head", "bias").device()
    }

    /// Its shape.
    pub fn shape(&self) -> Architecture {
        self.shape
    }

    /// The logits (batch, height, width, classes) of images (batch, height, width, channels).
    ///
    /// # Errors
    /// Another number of channels, or a height or width that is no multiple of [`MULTIPLE`].
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.follow(images, &mut Trace(None))
    }

    /// The logits, and what [`UNet::gradients`] needs to go back from them.
    ///
    /// # Errors
    /// Those of [`UNet::forward`].
    pub fn forward_traced(&self, images: &Tensor) -> Result<(Tensor, Trace)> {
        let mut trace = Trace(Some(Vec::new()));
        let logits = self.follow(images, &mut trace)?;
        Ok((logits, trace))
    }

    /// The gradient by every parameter, from that by the logits of the forward pass that left `trace`.
    ///
    /// candle's own way back would add each of them to a tensor of zeros, on one thread; for a small network that takes
    /// as long as the gradients themselves.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn gradients(&self, trace: Trace, logits_gradient: Tensor) -> Result<HashMap<String, Tensor>> {
        let mut found = HashMap::new();
        let mut grad = logits_gradient;
        let mut skips = Vec::new();
        let mut steps = trace.0.unwrap_or_default();
        while let Some(step) = steps.pop() {
            let source = steps.last().map_or(Source::Images, Step::source);
            match step {
                Step::Conv { layer, x, .. } => {
                    let weight = self.weight(&layer, "weight");
                    let (dx, dw, db) = conv_gradients(&x, weight, &grad, source)?;
                    found.extend([(format!("{layer}.weight"), dw), (format!("{layer}.bias"), db)]);
                    if let Some(dx) = dx {
                        grad = dx;
                    }
                }
                Step::UpConv { layer, x } => {
                    let (dx, dw, db) = up_conv_gradients(&x, self.weight(&layer, "weight"), &grad, source)?;
                    found.extend([(format!("{layer}.weight"), dw), (format!("{layer}.bias"), db)]);
                    grad = dx;
                }
                Step::Concat { kept } => {
                    let (skip, below) = split_channels(&grad, kept)?;
                    skips.push(skip);
                    grad = below;
                }
                // The last concatenation to be gone back through is the skip of the lowest level.
                Step::Skip { x } => {
                    add_before_relu(&grad, &skips.pop().expect("every skip was concatenated"), &x)?;
                }
                Step::Pool { x } => grad = max_pool_gradient(&x, &grad)?,
            }
        }
        Ok(found)
    }

    fn follow(&self, images: &Tensor, trace: &mut Trace) -> Result<Tensor> {
        let (_, height, width, _) = images.dims4()?;
        if height % MULTIPLE + width % MULTIPLE != 0 {
            bail!(
                "a tile of {width} x {height} cannot be halved {} times",
                LEVELS - 1
            );
        }
        let mut skips = Vec::new();
        let mut x = images.to_dtype(self.weight("head", "weight").dtype())?;
        for level in 0..LEVELS {
            if level > 0 {
                let halved = max_pool(&x)?;
                trace.note(|| Step::Pool { x });
                x = halved;
            }
            for n in 0..2 {
                x = self.conv(x, format!("down.{level}.{n}"), true, trace)?;
            }
            if level + 1 < LEVELS {
                trace.note(|| Step::Skip { x: x.clone() });
                skips.push(x.clone());
            }
        }
        for (step, skip) in skips.into_iter().rev().enumerate() {
            let (layer, kept) = (format!("up.{step}.0"), skip.dim(3)?);
            let (weight, bias) = (self.weight(&layer, "weight"), self.weight(&layer, "bias"));
            let wide = up_conv(&x, weight, bias, self.kept.get(&layer).cloned())?;
            trace.note(|| Step::UpConv { layer, x });
            trace.note(|| Step::Concat { kept });
            x = concat(&skip, &wide)?;
            for n in 1..3 {
                x = self.conv(x, format!("up.{step}.{n}"), true, trace)?;
            }
        }
        self.conv(x, "head".into(), false, trace)
    }

    fn conv(&self, x: Tensor, layer: String, relu: bool, trace: &mut Trace) -> Result<Tensor> {
        let out = conv(
            &x,
            self.weight(&layer, "weight"),
            self.weight(&layer, "bias"),
            relu,
            self.kept.get(&layer).cloned(),
        )?;
        trace.note(|| Step::Conv { layer, x, relu });
        Ok(out)
    }

    fn weight(&self, layer: &str, part: &str) -> &Tensor {
        &self.weights[&format!("{layer}.{part}")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: Architecture = Architecture {
        channels: 1,
        classes: 4,
        base_channels: 64,
    };

    #[test]
    fn the_papers_network_has_31_030_788_parameters() {
        assert_eq!(parameter_count(&PAPER), 31_030_788);
    }

    #[test]
    fn any_channels_classes_and_multiples_of_16_will_do() {
        let shape = Architecture {
            channels: 3,
            classes: 2,
            base_channels: 2,
        };
        let net = UNet::drawn(shape, &Rng::new(1), &Device::Cpu).unwrap();
        let images = Tensor::zeros((1, 16, 48, 3), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(net.forward(&images).unwrap().dims(), [1, 16, 48, 2]);
        let odd = Tensor::zeros((1, 24, 48, 3), DType::F32, &Device::Cpu).unwrap();
        let error = net.forward(&odd).unwrap_err().to_string();
        assert!(error.contains("48 x 24 cannot be halved 4 times"), "{error}");
    }

    /// Keras: limit = sqrt(6 / (9 x 64 + 9 x 64)) = 0.0722 for 64 to 64 channels.
    #[test]
    fn weights_are_drawn_by_glorots_rule() {
        let list = parameters(&PAPER);
        let second = list.iter().find(|p| p.name == "down.0.1.weight").unwrap();
        let values = second.drawn(&Rng::new(1));
        let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!((0.0720..0.072_17).contains(&largest), "{largest}");
        assert_eq!(values, second.drawn(&Rng::new(1)));
        assert_ne!(values, second.drawn(&Rng::new(2)));
    }
}
