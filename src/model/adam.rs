//! Adam, fused: one pass over a parameter, in place, on all cores. Of a wide network nothing else waits so long for memory: what a
//! step reads and writes lies together.
//!
//! Source: Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015; with Keras's constants, whose
//! epsilon of 1e-7 is added to the root of the moment before its bias is corrected, as Keras has it.

use std::collections::HashMap;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, InplaceOp3, Layout, Result, Tensor, bail};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::layers as cuda;
use super::kernels::in_vectors;

/// How fast the mean of the gradients forgets.
const BETA_1: f64 = 0.9;
/// How fast the mean of their squares forgets.
const BETA_2: f64 = 0.999;
/// Keeps a parameter that never had a gradient from moving.
const EPSILON: f64 = 1e-7;
/// Values a task takes.
const CHUNK: usize = 65_536;

/// A parameter that learns, and the moments of its gradient.
pub struct Learner {
    /// Its name.
    pub name: String,
    /// Its values, in its shape: those of `learnt`, which every step changes.
    pub weight: Tensor,
    /// Its values, and running means of its gradient and of its gradient's square: (3, number of values).
    learnt: Tensor,
}

impl Learner {
    /// One that has had no gradient.
    fn new(name: String, weight: &Tensor) -> Result<Learner> {
        let count = weight.elem_count();
        let moments = Tensor::zeros((2, count), DType::F32, weight.device())?;
        let learnt = Tensor::cat(&[weight.reshape((1, count))?, moments], 0)?;
        Ok(Learner {
            name,
            weight: learnt.narrow(0, 0, 1)?.reshape(weight.shape())?,
            learnt,
        })
    }

    /// Its values; and the running means of its gradient, then of its gradient's square.
    ///
    /// # Errors
    /// What goes wrong on a GPU.
    pub fn values(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut weight: Vec<f32> = self.learnt.flatten_all()?.to_vec1()?;
        let moments = weight.split_off(self.weight.elem_count());
        Ok((weight, moments))
    }

    /// Goes on from such means: (2, number of values).
    ///
    /// # Errors
    /// Means of another shape.
    pub fn set_moments(&self, moments: &Tensor) -> Result<()> {
        self.learnt.slice_set(moments, 0, 1)
    }
}

/// The optimizer: every parameter, and how many steps it has taken.
pub struct Adam {
    /// The parameters.
    pub learners: Vec<Learner>,
    /// Steps taken.
    pub steps: u64,
    /// The learning rate of the next step.
    pub rate: f64,
    /// What the moments of this step are multiplied by, where the parameters are: a recorded step reads it there.
    size: Tensor,
}

impl Adam {
    /// An optimizer that has taken no step, of f32 parameters, which it has copies of.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn new(weights: Vec<(String, Tensor)>, rate: f64) -> Result<Adam> {
        let device = weights
            .first()
            .map_or(&Device::Cpu, |(_, weight)| weight.device());
        let size = Tensor::zeros(1, DType::F32, device)?;
        let learners = weights.into_iter();
        let learners = learners.map(|(name, weight)| Learner::new(name, &weight));
        Ok(Adam {
            learners: learners.collect::<Result<_>>()?,
            steps: 0,
            rate,
            size,
        })
    }

    /// Begins a step: of what size it will be.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn begin(&mut self) -> Result<()> {
        let steps = self.steps + 1;
        let left = |beta: f64| 1.0 - beta.powf(steps as f64);
        let size = self.rate * left(BETA_2).sqrt() / left(BETA_1);
        self.size.inplace_op1(&Set(size))?;
        self.steps = steps;
        Ok(())
    }

    /// Takes the step that was begun: moves every parameter that `grads` has a gradient of, by its name.
    ///
    /// # Errors
    /// Gradients that are not contiguous f32.
    pub fn end(&self, grads: &HashMap<String, Tensor>) -> Result<()> {
        for learner in &self.learners {
            if let Some(grad) = grads.get(&learner.name) {
                learner.learnt.inplace_op3(grad, &self.size, &Step)?;
            }
        }
        Ok(())
    }
}

fn whole<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    super::layers::values(storage, layout)
}

fn whole_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((from, to))) => Ok(&mut values[from..to]),
        _ => bail!("Adam moves contiguous f32 values in place"),
    }
}

/// The same number everywhere.
struct Set(f64);

impl InplaceOp1 for Set {
    fn name(&self) -> &'static str {
        "size of adam's step"
    }

    fn cpu_fwd(&self, values: &mut CpuStorage, layout: &Layout) -> Result<()> {
        whole_mut(values, layout)?.fill(self.0 as f32);
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, values: &mut CudaStorage, layout: &Layout) -> Result<()> {
        cuda::fill((values, layout), self.0)
    }
}

/// The gradient enters both means, and the weight goes against the mean gradient, in units of its root mean square.
struct Step;

impl InplaceOp3 for Step {
    fn name(&self) -> &'static str {
        "step of adam"
    }

    fn cpu_fwd(
        &self,
        learnt: &mut CpuStorage,
        learnt_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
        size: &CpuStorage,
        size_layout: &Layout,
    ) -> Result<()> {
        let (keep_1, keep_2) = (BETA_1 as f32, BETA_2 as f32);
        let (take_1, take_2) = ((1.0 - BETA_1) as f32, (1.0 - BETA_2) as f32);
        let (grad, size) = (whole(grad, grad_layout)?, whole(size, size_layout)?[0]);
        let learnt = whole_mut(learnt, learnt_layout)?;
        if learnt.len() != 3 * grad.len() {
            bail!(
                "{} values learn from a gradient of {}",
                learnt.len() / 3,
                grad.len()
            );
        }
        let (weight, moments) = learnt.split_at_mut(grad.len());
        let (first, second) = moments.split_at_mut(grad.len());
        let means = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
        let learnt = weight.par_chunks_mut(CHUNK).zip(means);
        learnt
            .zip(grad.par_chunks(CHUNK))
            .for_each(|((weight, (first, second)), grad)| {
                in_vectors(|| {
                    for (((w, m), v), g) in weight.iter_mut().zip(first).zip(second).zip(grad) {
                        *m = keep_1 * *m + take_1 * g;
                        *v = keep_2 * *v + take_2 * g * g;
                        *w -= size * *m / (v.sqrt() + EPSILON as f32);
                    }
                });
            });
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        learnt: &mut CudaStorage,
        learnt_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
        size: &CudaStorage,
        size_layout: &Layout,
    ) -> Result<()> {
        let by = [(grad, grad_layout), (size, size_layout)];
        cuda::adam((&*learnt, learnt_layout), by, [BETA_1, BETA_2], EPSILON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the gradient's size, the first step is one rate long, against its sign; the second, with the
    /// same gradient, too.
    #[test]
    fn a_steady_gradient_moves_a_weight_by_the_rate_each_step() {
        let weight = Tensor::from_vec(vec![1f32, 1.0, 1.0], 3, &Device::Cpu).unwrap();
        let mut adam = Adam::new(vec![("w".to_string(), weight)], 0.1).unwrap();
        let slopes = Tensor::from_vec(vec![4f32, -0.25, 0.0], 3, &Device::Cpu).unwrap();
        for expected in [[0.9, 1.1, 1.0], [0.8, 1.2, 1.0]] {
            adam.begin().unwrap();
            adam.end(&HashMap::from([("w".to_string(), slopes.clone())]))
                .unwrap();
            let values: Vec<f32> = adam.learners[0].weight.to_vec1().unwrap();
            assert!(
                values.iter().zip(expected).all(|(v, e)| (v - e).abs() < 1e-4),
                "{values:?}"
            );
        }
        assert_eq!(adam.steps, 2);
    }
}
