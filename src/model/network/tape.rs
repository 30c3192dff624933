//! A way through a network, layer by layer, and back: every layer notes what its gradients are computed from.
//!
//! candle's own way back would add each gradient to a tensor of zeros, on one thread; for a small network that takes as long
//! as the gradients themselves.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::Weights;
use crate::model::layers::{
    Kept, Source, Stacked, add_before_relu, add_max_pool_gradient, before_relu, concat, conv, conv_concat,
    conv_concat_gradients, conv_gradients, dense_pool, dense_pool_gradient, max_pool, max_pool_gradient,
    norm, norm_gradients, split_channels, up_conv, up_conv_gradients, window, window_gradients,
};

/// What a layer gave: a tensor, and where its gradient is collected.
#[derive(Debug, Clone)]
pub struct Value {
    /// (images, height, width, channels)
    pub tensor: Tensor,
    node: usize,
    source: Source,
}

/// A layer, as its way back knows it.
#[derive(Debug)]
enum Layer {
    Conv(String),
    /// Of the channels of the first input, then those of the second.
    ConcatConv(String),
    UpConv(String),
    Window(String, Stacked),
    Norm(String, usize),
    Pool,
    DensePool(usize),
    /// After so many channels of the first come those of the second.
    Concat(usize),
    Add,
    Shuffle(Shuffle),
}

/// What went into a layer; its tensor where the way back needs it.
#[derive(Debug)]
struct Input {
    node: usize,
    source: Source,
    tensor: Option<Tensor>,
}

impl Input {
    fn whole(value: Value) -> Input {
        Input {
            node: value.node,
            source: value.source,
            tensor: Some(value.tensor),
        }
    }

    /// Of a layer that can go back without what went in, unless that has to be known to be above 0.
    fn place(value: &Value) -> Input {
        Input {
            node: value.node,
            source: value.source,
            tensor: (value.source == Source::Relu).then(|| value.tensor.clone()),
        }
    }

    fn tensor(&self) -> &Tensor {
        self.tensor
            .as_ref()
            .expect("the layer kept what its way back needs")
    }
}

#[derive(Debug)]
struct Step {
    layer: Layer,
    inputs: Vec<Input>,
    out: usize,
}

/// A forward pass that can be gone back through.
#[derive(Debug)]
pub struct Trace {
    steps: Vec<Step>,
    nodes: usize,
    /// Where the outputs' gradients come in.
    outputs: Vec<usize>,
}

/// A gradient on its way, and what has to be above 0 where it is not 0, while it is not that yet.
type Gradient = (Tensor, Option<Tensor>);

/// A pass through layers with these weights.
pub struct Tape<'a> {
    weights: &'a Weights,
    kept: &'a HashMap<String, Arc<Kept>>,
    /// What the names of its layers begin with.
    pub prefix: String,
    /// `None` where nobody will go back and nothing has to be kept.
    steps: Option<Vec<Step>>,
    nodes: usize,
    /// Multiply-adds so far, counted twice; biases, normalisations and pooling left out.
    pub flop: f64,
}

impl<'a> Tape<'a> {
    /// A pass that begins.
    pub fn new(weights: &'a Weights, kept: &'a HashMap<String, Arc<Kept>>, is_traced: bool) -> Tape<'a> {
        Tape {
            weights,
            kept,
            prefix: String::new(),
            steps: is_traced.then(Vec::new),
            nodes: 0,
            flop: 0.0,
        }
    }

    /// Whether somebody will go back.
    pub fn is_traced(&self) -> bool {
        self.steps.is_some()
    }

    /// What it noted, for the way back from `outputs`.
    pub fn trace<'v>(self, outputs: impl Iterator<Item = &'v Value>) -> Trace {
        Trace {
            steps: self.steps.unwrap_or_default(),
            nodes: self.nodes,
            outputs: outputs.map(|value| value.node).collect(),
        }
    }

    /// Images: where nobody asks for a gradient.
    pub fn images(&mut self, tensor: Tensor) -> Value {
        self.value(tensor, Source::Images)
    }

    /// A same convolution within slices, 1x1 or 3x3, through ReLU if asked for.
    pub fn conv(&mut self, x: Value, layer: impl Display, relu: bool) -> Result<Value> {
        let layer = format!("{}{layer}", self.prefix);
        let (weight, bias) = self.of(&layer);
        let out = conv(&x.tensor, weight, bias, relu, self.kept.get(&layer).cloned())?;
        self.multiplied(&layer, &out);
        Ok(self.after(Layer::Conv(layer), vec![Input::whole(x)], out, relu))
    }

    /// The same of the channels of `a`, then those of `b`.
    pub fn conv_concat(&mut self, [a, b]: [Value; 2], layer: impl Display, relu: bool) -> Result<Value> {
        let layer = format!("{}{layer}", self.prefix);
        let (weight, bias) = self.of(&layer);
        let kept = self.kept.get(&layer).cloned();
        let out = conv_concat([&a.tensor, &b.tensor], weight, bias, relu, kept)?;
        self.multiplied(&layer, &out);
        let inputs = vec![Input::whole(a), Input::whole(b)];
        Ok(self.after(Layer::ConcatConv(layer), inputs, out, relu))
    }

    /// A 2x2 up-convolution.
    pub fn up_conv(&mut self, x: Value, layer: impl Display) -> Result<Value> {
        let layer = format!("{}{layer}", self.prefix);
        let (weight, bias) = self.of(&layer);
        let out = up_conv(&x.tensor, weight, bias, self.kept.get(&layer).cloned())?;
        self.multiplied(&layer, &x.tensor);
        Ok(self.after(Layer::UpConv(layer), vec![Input::whole(x)], out, false))
    }

    /// A convolution over stacks of slices, through ReLU if asked for.
    pub fn window(&mut self, x: Value, layer: impl Display, stacked: Stacked, relu: bool) -> Result<Value> {
        let layer = format!("{}{layer}", self.prefix);
        let (weight, bias) = self.of(&layer);
        let kept = self.kept.get(&layer).cloned();
        let out = window(&x.tensor, weight, bias, (stacked, relu), kept)?;
        self.multiplied(&layer, &out);
        Ok(self.after(Layer::Window(layer, stacked), vec![Input::whole(x)], out, relu))
    }

    /// A normalisation over stacks of `depth` slices, through ReLU.
    pub fn norm(&mut self, x: Value, layer: impl Display, depth: usize) -> Result<Value> {
        let layer = format!("{}{layer}", self.prefix);
        let (scale, shift) = self.of(&layer);
        let out = norm(&x.tensor, scale, shift, depth, true)?;
        Ok(self.after(Layer::Norm(layer, depth), vec![Input::whole(x)], out, true))
    }

    /// The largest of each 2x2 window.
    pub fn pool(&mut self, x: Value) -> Result<Value> {
        let out = max_pool(&x.tensor)?;
        Ok(self.after(Layer::Pool, vec![Input::whole(x)], out, false))
    }

    /// The largest of each four pixels that lie `apart` from one another.
    pub fn dense_pool(&mut self, x: Value, apart: usize) -> Result<Value> {
        let out = dense_pool(&x.tensor, apart)?;
        Ok(self.after(Layer::DensePool(apart), vec![Input::whole(x)], out, false))
    }

    /// The channels of `a`, then those of `b`.
    pub fn concat(&mut self, a: Value, b: Value) -> Result<Value> {
        let out = concat(&a.tensor, &b.tensor)?;
        let layer = Layer::Concat(a.tensor.dim(3)?);
        Ok(self.after(layer, vec![Input::place(&a), Input::place(&b)], out, false))
    }

    /// The sum of both.
    pub fn add(&mut self, a: &Value, b: &Value) -> Result<Value> {
        let out = (&a.tensor + &b.tensor)?;
        Ok(self.after(Layer::Add, vec![Input::place(a), Input::place(b)], out, false))
    }

    /// Every voxel's channels spread over a block of voxels.
    pub fn shuffle(&mut self, x: &Value, shuffle: Shuffle) -> Result<Value> {
        let out = shuffle.forward(&x.tensor)?;
        Ok(self.after(Layer::Shuffle(shuffle), vec![Input::place(x)], out, false))
    }

    fn of(&self, layer: &str) -> (&'a Tensor, &'a Tensor) {
        (self.weights.of(layer, "weight"), self.weights.of(layer, "bias"))
    }

    /// Every pixel of `pixels` meets all the layer's weights.
    fn multiplied(&mut self, layer: &str, pixels: &Tensor) {
        let (weight, dims) = (self.weights.of(layer, "weight"), pixels.dims());
        let pixels: usize = dims[..dims.len() - 1].iter().product();
        self.flop += 2.0 * weight.elem_count() as f64 * pixels as f64;
    }

    fn value(&mut self, tensor: Tensor, source: Source) -> Value {
        self.nodes += 1;
        Value {
            tensor,
            node: self.nodes - 1,
            source,
        }
    }

    fn after(&mut self, layer: Layer, inputs: Vec<Input>, out: Tensor, relu: bool) -> Value {
        let value = self.value(out, if relu { Source::Relu } else { Source::Layer });
        if let Some(steps) = &mut self.steps {
            steps.push(Step {
                layer,
                inputs,
                out: value.node,
            });
        }
        value
    }
}

impl Trace {
    /// The gradient by every parameter, from those by the outputs.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn gradients(self, weights: &Weights, by_outputs: Vec<Tensor>) -> Result<HashMap<String, Tensor>> {
        let mut found = HashMap::new();
        let mut way = Way(vec![None; self.nodes]);
        for (node, gradient) in self.outputs.into_iter().zip(by_outputs) {
            way.0[node] = Some(match way.0[node].take() {
                None => (gradient, None),
                Some((before, _)) => ((gradient + before)?, None),
            });
        }
        let mut steps = self.steps;
        while let Some(step) = steps.pop() {
            let Some(grad) = way.take(step.out)? else {
                continue;
            };
            let mut learnt = |layer: &str, by_weight, by_bias| {
                found.extend([
                    (format!("{layer}.weight"), by_weight),
                    (format!("{layer}.bias"), by_bias),
                ]);
            };
            let input = &step.inputs[0];
            match step.layer {
                Layer::Conv(layer) => {
                    let weight = weights.of(&layer, "weight");
                    let (dx, dw, db) = conv_gradients(input.tensor(), weight, &grad, input.source)?;
                    learnt(&layer, dw, db);
                    way.add_final(input, dx)?;
                }
                Layer::ConcatConv(layer) => {
                    let (weight, other) = (weights.of(&layer, "weight"), &step.inputs[1]);
                    let both = [input.tensor(), other.tensor()];
                    let ([first, second], dw, db) = conv_concat_gradients(both, weight, &grad)?;
                    learnt(&layer, dw, db);
                    way.add(input, first)?;
                    way.add(other, second)?;
                }
                Layer::UpConv(layer) => {
                    let weight = weights.of(&layer, "weight");
                    let (dx, dw, db) = up_conv_gradients(input.tensor(), weight, &grad, input.source)?;
                    learnt(&layer, dw, db);
                    way.add_final(input, Some(dx))?;
                }
                Layer::Window(layer, stacked) => {
                    let weight = weights.of(&layer, "weight");
                    let how = (stacked, input.source);
                    let (dx, dw, db) = window_gradients(input.tensor(), weight, &grad, how)?;
                    learnt(&layer, dw, db);
                    way.add_final(input, dx)?;
                }
                Layer::Norm(layer, depth) => {
                    let scale = weights.of(&layer, "weight");
                    let [dx, by_scale, by_shift] = norm_gradients(input.tensor(), scale, &grad, depth)?;
                    learnt(&layer, by_scale, by_shift);
                    way.add(input, dx)?;
                }
                Layer::Pool => way.add_pooled(input, &grad)?,
                Layer::DensePool(apart) => {
                    way.add(input, dense_pool_gradient(input.tensor(), &grad, apart)?)?
                }
                Layer::Concat(kept) => {
                    let (first, second) = split_channels(&grad, kept)?;
                    way.add(input, first)?;
                    way.add(&step.inputs[1], second)?;
                }
                Layer::Add => {
                    // Gradients are added to in place: each of the two has its own.
                    way.add(input, grad.copy()?)?;
                    way.add(&step.inputs[1], grad)?;
                }
                Layer::Shuffle(shuffle) => way.add(input, shuffle.back(&grad)?)?,
            }
        }
        Ok(found)
    }
}

/// Gradients on their way back, by node.
struct Way(Vec<Option<Gradient>>);

impl Way {
    /// The gradient that a layer's output has got, before its ReLU.
    fn take(&mut self, node: usize) -> Result<Option<Tensor>> {
        match self.0[node].take() {
            None => Ok(None),
            Some((grad, None)) => Ok(Some(grad)),
            Some((grad, Some(out))) => before_relu(&grad, &out).map(Some),
        }
    }

    /// Adds a gradient that is 0 already where the input's ReLU wants it.
    fn add_final(&mut self, input: &Input, grad: Option<Tensor>) -> Result<()> {
        let Some(grad) = grad else { return Ok(()) };
        let gate = input.tensor.as_ref().filter(|_| input.source == Source::Relu);
        self.0[input.node] = Some(match self.0[input.node].take() {
            None => (grad, None),
            Some(before) => (summed(grad, &before.0, gate)?, None),
        });
        Ok(())
    }

    /// Adds what a pooling's gradient says of its input.
    fn add_pooled(&mut self, input: &Input, grad: &Tensor) -> Result<()> {
        let x = input.tensor();
        match &mut self.0[input.node] {
            Some((sum, gate)) if input.source == Source::Relu => {
                add_max_pool_gradient(sum, x, grad)?;
                *gate = None;
                Ok(())
            }
            _ => self.add(input, max_pool_gradient(x, grad)?),
        }
    }

    /// Adds a gradient that knows nothing of the input's ReLU.
    fn add(&mut self, input: &Input, grad: Tensor) -> Result<()> {
        if input.source == Source::Images {
            return Ok(());
        }
        let gate = input.tensor.as_ref().filter(|_| input.source == Source::Relu);
        self.0[input.node] = Some(match self.0[input.node].take() {
            None => (grad, gate.cloned()),
            Some(before) => (summed(grad, &before.0, gate)?, None),
        });
        Ok(())
    }
}

/// Both gradients, 0 where `gate` is not above 0.
fn summed(grad: Tensor, before: &Tensor, gate: Option<&Tensor>) -> Result<Tensor> {
    match gate {
        Some(gate) => add_before_relu(&grad, before, gate).map(|()| grad),
        None => grad + before,
    }
}

/// From every voxel of stacks of `depth` slices to a block of `by` slices, rows and columns, whose channels lay behind one
/// another.
#[derive(Debug, Clone, Copy)]
pub struct Shuffle {
    /// Slices of a stack before.
    pub depth: usize,
    /// Slices, rows and columns that a voxel becomes.
    pub by: [usize; 3],
}

impl Shuffle {
    fn forward(self, x: &Tensor) -> Result<Tensor> {
        let (images, height, width, channels) = x.dims4()?;
        let [slices, rows, columns] = self.by;
        let kept = channels / (slices * rows * columns);
        let stacks = images / self.depth;
        x.reshape(vec![
            stacks, self.depth, height, width, slices, rows, columns, kept,
        ])?
        .permute(vec![0, 1, 4, 2, 5, 3, 6, 7])?
        .contiguous()?
        .reshape((images * slices, height * rows, width * columns, kept))
    }

    fn back(self, grad: &Tensor) -> Result<Tensor> {
        let (images, height, width, kept) = grad.dims4()?;
        let [slices, rows, columns] = self.by;
        let (images, height, width) = (images / slices, height / rows, width / columns);
        let stacks = images / self.depth;
        grad.reshape(vec![
            stacks, self.depth, slices, height, rows, width, columns, kept,
        ])?
        .permute(vec![0, 1, 3, 5, 2, 4, 6, 7])?
        .contiguous()?
        .reshape((images, height, width, slices * rows * columns * kept))
    }
}
