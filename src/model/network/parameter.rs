//! What a network learns: names and shapes of its parameters, and the values that they begin with.

use crate::imaging::Rng;

/// What a parameter is to its layer, with the axes of its tensor here and in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `[(kz)][ky][kx][input][output]` here, `[output][input][(kz)][ky][kx]` in a file.
    Conv,
    /// `[ky][kx][output][input]` here, `[input][output][ky][kx]` in a file.
    UpConv,
    /// `[output]`: what a normalised channel is multiplied by.
    Scale,
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
    /// Taps of the window over slices, rows and columns; one each where there is none.
    pub window: [usize; 3],
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Values that an output of its layer is summed from, as PyTorch counts them (an up-convolution's the other way round).
    /// 0 in a normalisation.
    pub fan_in: usize,
}

impl Parameter {
    /// Whether it belongs to a layer whose outputs are the classes.
    pub fn is_head(&self) -> bool {
        let has = |part| self.name.split('.').any(|name| name == part);
        has("head") && !has("norm")
    }

    /// The window's axes, those over a single slice left out.
    pub fn axes(&self) -> &[usize] {
        match self.window {
            [1, ..] => &self.window[1..],
            _ => &self.window,
        }
    }

    /// Taps of the window.
    pub fn taps(&self) -> usize {
        self.window.iter().product()
    }

    /// The tensor's shape.
    pub fn shape(&self) -> Vec<usize> {
        match self.role {
            Role::Conv => [self.axes(), &[self.inputs, self.outputs]].concat(),
            Role::UpConv => [self.axes(), &[self.outputs, self.inputs]].concat(),
            Role::Scale | Role::Bias => vec![self.outputs],
        }
    }

    /// How many numbers it is.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Values to start from. Weights by Glorot's uniform rule as Keras draws it (fans counted with the window), as in the paper;
    /// biases uniform within 1 / sqrt([`Parameter::fan_in`]), as PyTorch draws them; in a normalisation 1 for the scale and 0
    /// for the bias.
    ///
    /// With biases of 0 the Dice loss alone finds small classes late or never: after an epoch of IBSR18 a network of 16 channels
    /// had a mean Dice of 70 %, with these biases of 86 %.
    ///
    /// Source: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010; PyTorch's
    /// documentation of `Conv2d`.
    pub fn drawn(&self, rng: &Rng) -> Vec<f32> {
        let limit = match self.role {
            Role::Scale => return vec![1.0; self.len()],
            Role::Bias if self.fan_in == 0 => return vec![0.0; self.len()],
            Role::Bias => (self.fan_in as f64).sqrt().recip(),
            Role::Conv | Role::UpConv => {
                let fans = self.taps() * (self.inputs + self.outputs);
                (6.0 / fans as f64).sqrt()
            }
        };
        let mut rng = rng.fork(&self.name);
        (0..self.len()).map(|_| rng.range(-limit, limit) as f32).collect()
    }
}

/// A network's parameters, listed layer by layer.
#[derive(Debug, Default)]
pub struct Layers(Vec<Parameter>);

impl Layers {
    /// A convolution within slices, `kernel` x `kernel`.
    pub fn conv(&mut self, name: impl Into<String>, kernel: usize, inputs: usize, outputs: usize) {
        self.add(name.into(), Role::Conv, [1, kernel, kernel], (inputs, outputs));
    }

    /// A convolution over slices too, 3x3x3.
    pub fn cube(&mut self, name: impl Into<String>, inputs: usize, outputs: usize) {
        self.add(name.into(), Role::Conv, [3; 3], (inputs, outputs));
    }

    /// An up-convolution, 2x2.
    pub fn up_conv(&mut self, name: impl Into<String>, inputs: usize, outputs: usize) {
        self.add(name.into(), Role::UpConv, [1, 2, 2], (inputs, outputs));
    }

    /// A normalisation.
    pub fn norm(&mut self, name: impl Into<String>, channels: usize) {
        self.add(name.into(), Role::Scale, [1; 3], (channels, channels));
    }

    fn add(&mut self, name: String, role: Role, window: [usize; 3], (inputs, outputs): (usize, usize)) {
        let taps: usize = window.iter().product();
        let fan_in = match role {
            Role::Conv => taps * inputs,
            Role::UpConv => taps * outputs,
            Role::Scale | Role::Bias => 0,
        };
        for (part, role, window) in [("weight", role, window), ("bias", Role::Bias, [1; 3])] {
            self.0.push(Parameter {
                name: format!("{name}.{part}"),
                role,
                window,
                inputs,
                outputs,
                fan_in,
            });
        }
    }

    /// All of them.
    pub fn list(self) -> Vec<Parameter> {
        self.0
    }
}
