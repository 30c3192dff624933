//! What training minimises, with softmax inside: one operation from logits and classes to a number, and its exact
//! gradient.
//!
//! With p the softmax of the logits and t the one-hot mask, over all pixels of the batch and m classes:
//!
//! * Dice (the paper's Eq. 1): m - sum over classes of (2 sum pt + 1e-5) / (sum p + sum t + 1e-5)
//! * MSE (the paper's alternative), as Keras has it: mean over all pixels and classes of (p - t)^2

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::kernels::Real;
use super::layers::{by_dtype, filled, values};
use crate::settings::Loss;

/// Keeps the Dice of a class that is in neither map at 1 instead of 0 / 0.
const SMOOTHING: f64 = 1e-5;
/// Pixels of a partial sum: fixed, so that sums do not depend on the number of threads.
const PIXELS: usize = 1024;

/// The loss of `logits` (batch, height, width, classes) against `classes` (batch, height, width; u8).
///
/// # Errors
/// Shapes that do not fit, or a class that the logits do not have.
pub fn loss(kind: Loss, logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
    logits.apply_op2(classes, Head(kind))
}

/// The gradient of [`loss`] by the logits.
///
/// # Errors
/// Those of [`loss`].
pub fn loss_gradient(kind: Loss, logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
    logits.apply_op2_no_bwd(classes, &HeadGradient { kind, scale: 1.0 })
}

/// Softmax of one pixel's logits, in place.
pub fn softmax<T: Real>(logits: &mut [T]) {
    let mut largest = logits[0];
    for &logit in &logits[1..] {
        largest = if logit > largest { logit } else { largest };
    }
    let mut sum = T::ZERO;
    for logit in logits.iter_mut() {
        *logit = (*logit - largest).exp();
        sum += *logit;
    }
    for p in logits {
        *p = *p / sum;
    }
}

/// Sums over a batch, per class.
#[derive(Debug, Clone, Default)]
struct Sums {
    /// Of p where t is 1.
    shared: Vec<f64>,
    /// Of p + t.
    total: Vec<f64>,
    /// Of (p - t)^2 over all classes.
    squares: f64,
    pixels: usize,
}

impl Sums {
    fn of<T: Real>(logits: &[T], classes: &[u8], m: usize) -> Sums {
        let parts: Vec<Sums> = logits
            .par_chunks(PIXELS * m)
            .zip(classes.par_chunks(PIXELS))
            .map(|(logits, classes)| {
                let mut sums = Sums {
                    shared: vec![0.0; m],
                    total: vec![0.0; m],
                    squares: 0.0,
                    pixels: classes.len(),
                };
                let mut p = vec![T::ZERO; m];
                for (logits, &class) in logits.chunks_exact(m).zip(classes) {
                    p.copy_from_slice(logits);
                    softmax(&mut p);
                    for (c, p) in p.iter().map(|p| p.wide()).enumerate() {
                        let t = f64::from(u8::from(c == class as usize));
                        sums.shared[c] += p * t;
                        sums.total[c] += p + t;
                        sums.squares += (p - t) * (p - t);
                    }
                }
                sums
            })
            .collect();
        let mut all = Sums {
            shared: vec![0.0; m],
            total: vec![0.0; m],
            ..Sums::default()
        };
        for part in parts {
            for c in 0..m {
                all.shared[c] += part.shared[c];
                all.total[c] += part.total[c];
            }
            all.squares += part.squares;
            all.pixels += part.pixels;
        }
        all
    }

    fn loss(&self, kind: Loss) -> f64 {
        let m = self.shared.len() as f64;
        match kind {
            Loss::Dice => {
                let dice = self.shared.iter().zip(&self.total);
                m - dice
                    .map(|(i, t)| (2.0 * i + SMOOTHING) / (t + SMOOTHING))
                    .sum::<f64>()
            }
            Loss::Mse => self.squares / (self.pixels as f64 * m),
        }
    }
}

struct Head(Loss);

impl CustomOp2 for Head {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        classes: &CpuStorage,
        classes_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (m, classes) = checked(logits_layout, classes, classes_layout)?;
        let storage = by_dtype!(logits, T => {
            let loss = Sums::of(values::<T>(logits, logits_layout)?, classes, m).loss(self.0);
            T::to_cpu_storage_owned(vec![T::of(loss)])
        });
        Ok((storage, ().into()))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        classes: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let scale = grad.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?;
        let gradient = logits.apply_op2_no_bwd(classes, &HeadGradient { kind: self.0, scale })?;
        Ok((Some(gradient), None))
    }
}

/// Number of classes and each pixel's class, which has to be one of them.
fn checked<'a>(logits: &Layout, classes: &'a CpuStorage, layout: &Layout) -> Result<(usize, &'a [u8])> {
    let (batch, height, width, m) = logits.shape().dims4()?;
    if layout.dims() != [batch, height, width] {
        bail!(
            "logits {:?} have no use for classes {:?}",
            logits.shape(),
            layout.shape()
        );
    }
    let classes = values::<u8>(classes, layout)?;
    if let Some(class) = classes.iter().find(|&&class| class as usize >= m) {
        bail!(
            "a pixel is of class {class}, but the network knows 0 to {}",
            m - 1
        );
    }
    Ok((m, classes))
}

struct HeadGradient {
    kind: Loss,
    scale: f64,
}

impl CustomOp2 for HeadGradient {
    fn name(&self) -> &'static str {
        "gradient of the loss"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        classes: &CpuStorage,
        classes_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (m, classes) = checked(logits_layout, classes, classes_layout)?;
        let storage = by_dtype!(logits, T => {
            let logits = values::<T>(logits, logits_layout)?;
            filled(logits.len(), |out: &mut [T]| self.fill(logits, classes, m, out))
        });
        Ok((storage, logits_layout.shape().clone()))
    }
}

impl HeadGradient {
    /// By p the loss's slope is `a[c] t + b[c] + s p`; softmax turns slopes g into p (g - sum of p g).
    fn fill<T: Real>(&self, logits: &[T], classes: &[u8], m: usize, out: &mut [T]) {
        let (a, b, s): (Vec<T>, Vec<T>, T) = match self.kind {
            Loss::Dice => {
                let sums = Sums::of(logits, classes, m);
                let total = |c: usize| sums.total[c] + SMOOTHING;
                let a = (0..m).map(|c| T::of(-2.0 * self.scale / total(c))).collect();
                let slope = |c: usize| (2.0 * sums.shared[c] + SMOOTHING) / (total(c) * total(c));
                (a, (0..m).map(|c| T::of(self.scale * slope(c))).collect(), T::ZERO)
            }
            Loss::Mse => {
                let s = 2.0 * self.scale / (classes.len() * m) as f64;
                (vec![T::of(-s); m], vec![T::ZERO; m], T::of(s))
            }
        };
        let parts = logits.par_chunks(PIXELS * m).zip(classes.par_chunks(PIXELS));
        out.par_chunks_mut(PIXELS * m)
            .zip(parts)
            .for_each(|(out, (logits, classes))| {
                let mut slopes = vec![T::ZERO; m];
                for ((p, logits), &class) in out.chunks_exact_mut(m).zip(logits.chunks_exact(m)).zip(classes)
                {
                    p.copy_from_slice(logits);
                    softmax(p);
                    let mut mean = T::ZERO;
                    for c in 0..m {
                        slopes[c] = b[c] + s * p[c] + if c == class as usize { a[c] } else { T::ZERO };
                        mean += p[c] * slopes[c];
                    }
                    for (p, slope) in p.iter_mut().zip(&slopes) {
                        *p = *p * (*slope - mean);
                    }
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::imaging::Rng;
    use crate::model::layers::tests::{check_gradients, random};

    #[test]
    fn both_losses_have_the_gradient_of_their_slope() {
        let logits = random(&[2, 6, 10, 3], &mut Rng::new(1));
        let classes: Vec<u8> = (0..120).map(|i| (i * 7 % 3) as u8).collect();
        let classes = Tensor::from_vec(classes, (2, 6, 10), &Device::Cpu).unwrap();
        for kind in [Loss::Dice, Loss::Mse] {
            // Scaled, so that the gradient that comes in is not simply 1.
            check_gradients(std::slice::from_ref(&logits), |v| {
                loss(kind, &v[0], &classes)? * 3.0
            });
        }
    }

    /// Two pixels, two classes, no opinion (p = 1/2 each), one pixel of each class: each class shares 1/2 of 1 + 1,
    /// so both Dice are 1/2 and the loss is 2 - 1; every square is 1/4.
    #[test]
    fn a_network_without_an_opinion_loses_half() {
        let logits = Var::from_vec(vec![0f64; 4], (1, 1, 2, 2), &Device::Cpu).unwrap();
        let classes = Tensor::from_vec(vec![0u8, 1], (1, 1, 2), &Device::Cpu).unwrap();
        let value = |kind| loss(kind, &logits, &classes).unwrap().to_scalar::<f64>().unwrap();
        assert!((value(Loss::Dice) - 1.0).abs() < 1e-5);
        assert!((value(Loss::Mse) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_class_that_the_network_lacks_is_an_error() {
        let logits = Var::from_vec(vec![0f64; 4], (1, 1, 2, 2), &Device::Cpu).unwrap();
        let classes = Tensor::from_vec(vec![0u8, 2], (1, 1, 2), &Device::Cpu).unwrap();
        let error = loss(Loss::Dice, &logits, &classes).unwrap_err().to_string();
        assert!(error.contains("class 2") && error.contains("0 to 1"), "{error}");
    }
}
