//! The networks: what each computes of an image, layer by layer, and how its weights' gradients are found.
//!
//! A network is a list of parameters and a way through layers ([`Tape`]); the tape notes what the way back needs. A committee is
//! several, side by side over the same images, in one list of parameters. Softmax belongs to the loss and to prediction.

mod multi_scale;
mod parameter;
mod tape;
#[cfg(test)]
mod tests;
mod unet;
mod voxresnet;

use std::collections::HashMap;
use std::sync::Arc;
#[cfg(feature = "cuda")]
use std::sync::Mutex;

use candle_core::{DType, Device, Result, Tensor, bail};

pub use parameter::{Parameter, Role};
pub use tape::Trace;

#[cfg(feature = "cuda")]
use super::cuda::Repeated;
use super::data::Field;
use super::layers::Kept;
use crate::imaging::Rng;
use crate::records::Architecture;
use crate::settings::{Network, Networks};
use tape::{Tape, Value};

/// Every parameter of a network of this shape, from the input to the output; of a committee, member by member.
pub fn parameters(shape: &Architecture) -> Vec<Parameter> {
    let of = |(n, network): (usize, Network)| {
        let mut list = match network {
            Network::UNet => unet::parameters(shape),
            Network::VoxResNet => voxresnet::parameters(shape),
            Network::MultiScale => multi_scale::parameters(shape),
        };
        for parameter in &mut list {
            parameter.name = format!("{}{}", prefix(n), parameter.name);
        }
        list
    };
    shape.networks.members().enumerate().flat_map(of).collect()
}

/// What names of a committee's parameters begin with; the first member's are those that it would have by itself.
fn prefix(member: usize) -> String {
    match member {
        0 => String::new(),
        n => format!("member.{n}."),
    }
}

/// How many numbers a network of this shape learns.
pub fn parameter_count(shape: &Architecture) -> usize {
    parameters(shape).iter().map(Parameter::len).sum()
}

/// What a network sees at a time; of a committee, all that any member does.
pub fn field(shape: &Architecture) -> Field {
    let members = || shape.networks.members();
    Field {
        depth: members().map(depth).max().unwrap_or(1),
        context: members().map(context).max().unwrap_or(0),
        beside: shape.slices / 2,
        images: shape.channels,
    }
}

/// Slices that a network sees at a time; one that looks at single slices takes any number of them for so many images.
fn depth(network: Network) -> usize {
    match network {
        Network::VoxResNet => voxresnet::DEPTH,
        Network::UNet | Network::MultiScale => 1,
    }
}

/// Pixels that a network sees around a tile.
fn context(network: Network) -> usize {
    match network {
        Network::MultiScale => multi_scale::CONTEXT,
        Network::UNet | Network::VoxResNet => 0,
    }
}

/// What a network says of images, and of how it is taught.
pub struct Outputs<V> {
    /// The logits of each member.
    pub members: Vec<V>,
    /// Those of auxiliary classifiers, where there are any, and which member's each is.
    pub auxiliary: Vec<(usize, V)>,
}

/// Parameters by their names.
#[derive(Debug, Clone)]
pub struct Weights(HashMap<String, Tensor>);

impl Weights {
    fn of(&self, layer: &str, part: &str) -> &Tensor {
        &self.0[&format!("{layer}.{part}")]
    }
}

/// A network with its weights.
#[derive(Debug, Clone)]
pub struct Net {
    shape: Architecture,
    weights: Weights,
    /// By layer, where the weights stay as they are.
    kept: HashMap<String, Arc<Kept>>,
    /// What is asked of a GPU for every batch of such a network.
    #[cfg(feature = "cuda")]
    repeated: Arc<Mutex<Repeated>>,
}

impl Net {
    /// A network with these weights.
    ///
    /// # Errors
    /// A parameter that is missing or of another shape.
    pub fn new(shape: Architecture, weights: HashMap<String, Tensor>) -> Result<Net> {
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
        Ok(Net {
            shape,
            weights: Weights(weights),
            kept: HashMap::new(),
            #[cfg(feature = "cuda")]
            repeated: Arc::default(),
        })
    }

    /// The same network for drawing, about `batch` images at a time: its layers lay out their weights once. It must not be used after a
    /// step that changes them.
    pub fn frozen(&self, batch: usize) -> Net {
        let names = self.weights.0.keys();
        let layers = names.filter_map(|name| name.strip_suffix(".weight"));
        Net {
            kept: layers
                .map(|layer| (layer.to_string(), Arc::new(Kept::new(batch))))
                .collect(),
            #[cfg(feature = "cuda")]
            repeated: Arc::default(),
            ..self.clone()
        }
    }

    /// A network drawn from `rng`, without a graph.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn drawn(shape: Architecture, rng: &Rng, device: &Device) -> Result<Net> {
        let weights = parameters(&shape).into_iter().map(|parameter| {
            let tensor = Tensor::from_vec(parameter.drawn(rng), parameter.shape(), device)?;
            Ok((parameter.name, tensor))
        });
        Net::new(shape, weights.collect::<Result<_>>()?)
    }

    /// The same network with weights of bf16, for drawing on a GPU; biases and logits stay f32. Only the U-shape network has
    /// layers of such numbers: others, and committees, stay as they are.
    ///
    /// # Errors
    /// None but those of a GPU.
    pub fn narrowed(&self) -> Result<Net> {
        if self.shape.networks != Networks::one(Network::UNet) {
            return Ok(self.clone());
        }
        let narrow = |(name, tensor): (&String, &Tensor)| {
            let kind = if name.ends_with("weight") {
                DType::BF16
            } else {
                tensor.dtype()
            };
            Ok((name.clone(), tensor.to_dtype(kind)?))
        };
        Net::new(
            self.shape,
            self.weights.0.iter().map(narrow).collect::<Result<_>>()?,
        )
    }

    /// Where its weights lie.
    pub fn device(&self) -> &Device {
        self.weights
            .0
            .values()
            .next()
            .expect("a network has weights")
            .device()
    }

    /// Its shape.
    pub fn shape(&self) -> Architecture {
        self.shape
    }

    /// What it sees at a time.
    pub fn field(&self) -> Field {
        field(&self.shape)
    }

    /// The logits (batch, height, width, classes) of each member for images (batch, height, width, channels), the context of a
    /// network that sees any cut off.
    ///
    /// # Errors
    /// Another number of channels, or a size that the network does not take.
    pub fn forward(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let mut tape = Tape::new(&self.weights, &self.kept, false);
        let members = self.follow(&mut tape, &[images])?.members;
        Ok(members.into_iter().map(|value| value.tensor).collect())
    }

    /// Whether a GPU may replay what this network asks of it: the U-shape network by itself. Others let candle lay tensors out
    /// anew, which reads the layout from this machine's memory, that is gone by then; and VoxResNet has auxiliary classifiers.
    #[cfg(feature = "cuda")]
    pub fn is_repeatable(&self) -> bool {
        self.shape.networks == Networks::one(Network::UNet)
    }

    /// Does `work`, which this network is asked for batch after batch, as [`Repeated::run`] does.
    ///
    /// # Errors
    /// Those of `work`.
    #[cfg(feature = "cuda")]
    pub fn repeated(
        &self,
        inputs: &[&Tensor],
        work: impl Fn(&[&Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let mut repeated = self
            .repeated
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        repeated.run(inputs, work)
    }

    /// The logits, and what [`Net::gradients`] needs to go back from them.
    ///
    /// * `images`: for all members, or for each
    ///
    /// # Errors
    /// Those of [`Net::forward`].
    pub fn forward_traced(&self, images: &[&Tensor]) -> Result<(Outputs<Tensor>, Trace)> {
        let mut tape = Tape::new(&self.weights, &self.kept, true);
        let outputs = self.follow(&mut tape, images)?;
        let auxiliary = outputs.auxiliary.iter().map(|(_, value)| value);
        let trace = tape.trace(outputs.members.iter().chain(auxiliary));
        let (members, auxiliary) = (outputs.members.into_iter(), outputs.auxiliary.into_iter());
        let outputs = Outputs {
            members: members.map(|value| value.tensor).collect(),
            auxiliary: auxiliary.map(|(member, value)| (member, value.tensor)).collect(),
        };
        Ok((outputs, trace))
    }

    /// The gradient by every parameter, from those by the members' logits, then the auxiliary ones', of the forward pass that left
    /// `trace`.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn gradients(&self, trace: Trace, by_logits: Vec<Tensor>) -> Result<HashMap<String, Tensor>> {
        trace.gradients(&self.weights, by_logits)
    }

    /// Floating-point operations of a forward pass over `images`: multiply-adds, counted twice.
    ///
    /// # Errors
    /// Those of [`Net::forward`].
    pub fn flop(&self, images: &Tensor) -> Result<f64> {
        let mut tape = Tape::new(&self.weights, &self.kept, false);
        self.follow(&mut tape, &[images])?;
        Ok(tape.flop)
    }

    fn follow(&self, tape: &mut Tape<'_>, images: &[&Tensor]) -> Result<Outputs<Value>> {
        let mut outputs = Outputs {
            members: Vec::new(),
            auxiliary: Vec::new(),
        };
        let all = self.field();
        for (n, network) in self.shape.networks.members().enumerate() {
            tape.prefix = prefix(n);
            let around = all.context - context(network);
            let seen = tape.images(self.cropped(images[n % images.len()], around)?);
            let mut logits = match network {
                Network::UNet => unet::follow(tape, seen, &self.shape)?,
                Network::VoxResNet => voxresnet::follow(tape, seen)?,
                Network::MultiScale => multi_scale::follow(tape, seen)?,
            }
            .into_iter();
            outputs.members.extend(logits.next());
            outputs.auxiliary.extend(logits.map(|logits| (n, logits)));
        }
        Ok(outputs)
    }

    /// Images without so many pixels at every side, in the numbers of the weights.
    fn cropped(&self, images: &Tensor, around: usize) -> Result<Tensor> {
        let numbers = self.weights.0.iter().find(|(name, _)| name.ends_with("weight"));
        let images = images.to_dtype(numbers.map_or(DType::F32, |(_, weight)| weight.dtype()))?;
        if around == 0 {
            return Ok(images);
        }
        let (_, height, width, _) = images.dims4()?;
        let Some((height, width)) = height.checked_sub(2 * around).zip(width.checked_sub(2 * around)) else {
            bail!("a tile of {width} x {height} has no context of {around}");
        };
        images
            .narrow(1, around, height)?
            .narrow(2, around, width)?
            .contiguous()
    }
}
