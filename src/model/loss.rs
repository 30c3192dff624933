//! What training minimises, from logits and classes to a number, and its exact gradient.
//!
//! With p the softmax of the logits and t the one-hot mask, over all pixels of the batch and m classes:
//!
//! * Dice (the paper's Eq. 1): m - sum over classes of (2 sum pt + 1e-5) / (sum p + sum t + 1e-5)
//! * MSE (the paper's alternative), as Keras has it: mean over all pixels and classes of (p - t)^2
//! * Dice and cross-entropy: the first, and m times the mean over all pixels of -ln p of the pixel's class: both of them
//!   times m, as nnU-Net adds them (Isensee et al., Nature Methods 2021). Its gradient does not fade where p is near 0, so that
//!   a class that was lost is found again
//!
//! p and a few sums over the batch are computed once, where the logits are; loss and gradient both come from them.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::{Download, layers as cuda};
use super::kernels::{Real, Slopes, loss_gradient, loss_sums, softmax};
use super::layers::{by_dtype, filled, values};
use crate::settings::Loss;

/// Keeps the Dice of a class that is in neither map at 1 instead of 0 / 0.
const SMOOTHING: f64 = 1e-5;
/// Pixels of a partial sum: fixed, so that sums do not depend on the number of threads.
const PIXELS: usize = 1024;

/// What the network says of a batch of known classes.
pub struct Answer {
    kind: Loss,
    /// (batch, height, width, classes)
    p: Tensor,
    /// (batch, height, width), u8
    classes: Tensor,
    /// f64: of every class sum pt, then of every class sum p + t, then over all sum (p - t)^2 and -ln p of the pixel's class.
    sums: Tensor,
}

impl Answer {
    /// Of `logits` (batch, height, width, classes) against `classes` (batch, height, width; u8).
    ///
    /// # Errors
    /// Shapes that do not fit, or a class that the logits do not have.
    pub fn new(kind: Loss, logits: &Tensor, classes: &Tensor) -> Result<Answer> {
        let p = probabilities(logits)?;
        let sums = p.apply_op2_no_bwd(classes, &Sums)?;
        Ok(Answer {
            kind,
            p,
            classes: classes.clone(),
            sums,
        })
    }

    /// The loss.
    ///
    /// # Errors
    /// None on the CPU.
    #[cfg(test)]
    pub fn loss(&self) -> Result<f64> {
        Measured::begin(self.kind, &self.sums, self.classes.elem_count())?.loss()
    }

    /// What [`Measured`] is made of.
    pub fn into_sums(self) -> Tensor {
        self.sums
    }

    /// Its gradient by the logits.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn gradient(&self) -> Result<Tensor> {
        self.p
            .apply_op3_no_bwd(&self.classes, &self.sums, &Gradient(self.kind))
    }
}

/// A loss; on a GPU, on its way from there.
pub struct Measured {
    kind: Loss,
    pixels: usize,
    sums: Where,
}

enum Where {
    Here(Vec<f64>),
    #[cfg(feature = "cuda")]
    OnItsWay(Download),
}

impl Measured {
    /// From an answer's sums over so many pixels.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn begin(kind: Loss, sums: &Tensor, pixels: usize) -> Result<Measured> {
        #[cfg(feature = "cuda")]
        if sums.device().is_cuda() {
            let sums = Where::OnItsWay(Download::begin(sums)?);
            return Ok(Measured { kind, pixels, sums });
        }
        let sums = Where::Here(sums.to_vec1()?);
        Ok(Measured { kind, pixels, sums })
    }

    /// The loss.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn loss(&self) -> Result<f64> {
        match &self.sums {
            Where::Here(sums) => Ok(self.of(sums)),
            #[cfg(feature = "cuda")]
            Where::OnItsWay(bytes) => {
                let words = bytes.end()?.as_chunks().0;
                let sums: Vec<f64> = words.iter().map(|n| f64::from_le_bytes(*n)).collect();
                Ok(self.of(&sums))
            }
        }
    }

    fn of(&self, sums: &[f64]) -> f64 {
        let (m, pixels) = (sums.len() / 2 - 1, self.pixels as f64);
        let shared = || {
            let dice = sums[..m].iter().zip(&sums[m..2 * m]);
            dice.map(|(i, t)| (2.0 * i + SMOOTHING) / (t + SMOOTHING))
                .sum::<f64>()
        };
        match self.kind {
            Loss::Dice => m as f64 - shared(),
            Loss::Mse => sums[2 * m] / (pixels * m as f64),
            Loss::DiceCe => m as f64 * (1.0 + sums[2 * m + 1] / pixels) - shared(),
        }
    }
}

/// Softmax of `logits` (batch, height, width, classes).
///
/// # Errors
/// A tensor that is not contiguous f32 or f64.
pub fn probabilities(logits: &Tensor) -> Result<Tensor> {
    logits.apply_op1_no_bwd(&Softmax)
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (.., m) = layout.shape().dims4()?;
        let storage = by_dtype!(logits, T => {
            let logits = values::<T>(logits, layout)?;
            filled(logits.len(), |p: &mut [T]| {
                let parts = logits.par_chunks(PIXELS * m);
                p.par_chunks_mut(PIXELS * m).zip(parts).for_each(|(p, logits)| softmax(logits, m, p));
            })
        });
        Ok((storage, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, logits: &CudaStorage, logits_layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (.., m) = logits_layout.shape().dims4()?;
        let p = cuda::softmax(m, (logits, logits_layout))?;
        Ok((p, logits_layout.shape().clone()))
    }
}

struct Sums;

impl CustomOp2 for Sums {
    fn name(&self) -> &'static str {
        "sums of the loss"
    }

    fn cpu_fwd(
        &self,
        p: &CpuStorage,
        p_layout: &Layout,
        classes: &CpuStorage,
        classes_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let m = class_count(p_layout, classes_layout)?;
        let classes = values::<u8>(classes, classes_layout)?;
        if let Some(class) = classes.iter().find(|&&class| class as usize >= m) {
            bail!(
                "a pixel is of class {class}, but the network knows 0 to {}",
                m - 1
            );
        }
        let sums = by_dtype!(p, T => sums_of(values::<T>(p, p_layout)?, classes, m));
        Ok((CpuStorage::F64(sums), (2 * m + 2).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        p: &CudaStorage,
        p_layout: &Layout,
        classes: &CudaStorage,
        classes_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        // That every class is one of the network's was seen when the mask was read.
        let m = class_count(p_layout, classes_layout)?;
        let sums = cuda::loss_sums(m, (p, p_layout), (classes, classes_layout))?;
        Ok((sums, (2 * m + 2).into()))
    }
}

fn sums_of<T: Real>(p: &[T], classes: &[u8], m: usize) -> Vec<f64> {
    let parts: Vec<Vec<f64>> = p
        .par_chunks(PIXELS * m)
        .zip(classes.par_chunks(PIXELS))
        .map(|(p, classes)| loss_sums(p, classes, m))
        .collect();
    let mut all = vec![0.0; 2 * m + 2];
    for part in parts {
        all.iter_mut().zip(part).for_each(|(all, part)| *all += part);
    }
    all
}

/// Number of classes of probabilities that lie over the pixels of a mask.
fn class_count(p: &Layout, classes: &Layout) -> Result<usize> {
    let (batch, height, width, m) = p.shape().dims4()?;
    if classes.dims() != [batch, height, width] {
        bail!(
            "logits {:?} have no use for classes {:?}",
            p.shape(),
            classes.shape()
        );
    }
    Ok(m)
}

struct Gradient(Loss);

impl CustomOp3 for Gradient {
    fn name(&self) -> &'static str {
        "gradient of the loss"
    }

    fn cpu_fwd(
        &self,
        p: &CpuStorage,
        p_layout: &Layout,
        classes: &CpuStorage,
        classes_layout: &Layout,
        sums: &CpuStorage,
        sums_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        class_count(p_layout, classes_layout)?;
        let classes = values::<u8>(classes, classes_layout)?;
        let sums = values::<f64>(sums, sums_layout)?;
        let storage = by_dtype!(p, T => {
            let p = values::<T>(p, p_layout)?;
            filled(p.len(), |out: &mut [T]| fill_gradient(self.0, p, classes, sums, out))
        });
        Ok((storage, p_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        p: &CudaStorage,
        p_layout: &Layout,
        classes: &CudaStorage,
        classes_layout: &Layout,
        sums: &CudaStorage,
        sums_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let m = class_count(p_layout, classes_layout)?;
        let (p, classes, sums) = ((p, p_layout), (classes, classes_layout), (sums, sums_layout));
        let gradient = cuda::loss_gradient(self.0, m, p, classes, sums)?;
        Ok((gradient, p_layout.shape().clone()))
    }
}

/// The gradient by the logits, from the sums over the batch.
fn fill_gradient<T: Real>(kind: Loss, p: &[T], classes: &[u8], sums: &[f64], out: &mut [T]) {
    let m = p.len() / classes.len();
    let (own, all, square): (Vec<T>, Vec<T>, T) = match kind {
        Loss::Dice | Loss::DiceCe => {
            let total = |c: usize| sums[m + c] + SMOOTHING;
            let own = (0..m).map(|c| T::of(-2.0 / total(c))).collect();
            let slope = |c: usize| (2.0 * sums[c] + SMOOTHING) / (total(c) * total(c));
            (own, (0..m).map(|c| T::of(slope(c))).collect(), T::ZERO)
        }
        Loss::Mse => {
            let square = 2.0 / p.len() as f64;
            (vec![T::of(-square); m], vec![T::ZERO; m], T::of(square))
        }
    };
    let entropy = T::of(match kind {
        Loss::DiceCe => m as f64 / classes.len() as f64,
        Loss::Dice | Loss::Mse => 0.0,
    });
    let slopes = Slopes {
        own,
        all,
        square,
        entropy,
    };
    let parts = p.par_chunks(PIXELS * m).zip(classes.par_chunks(PIXELS));
    out.par_chunks_mut(PIXELS * m)
        .zip(parts)
        .for_each(|(out, (p, classes))| loss_gradient(p, classes, &slopes, out));
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::imaging::Rng;
    use crate::model::layers::tests::random;

    #[test]
    fn every_loss_has_the_gradient_of_its_slope() {
        const STEP: f64 = 1e-5;
        let logits = random(&[2, 6, 10, 3], &mut Rng::new(1));
        let classes: Vec<u8> = (0..120).map(|i| (i * 7 % 3) as u8).collect();
        let classes = Tensor::from_vec(classes, (2, 6, 10), &Device::Cpu).unwrap();
        let values: Vec<f64> = logits.flatten_all().unwrap().to_vec1().unwrap();
        for kind in [Loss::Dice, Loss::Mse, Loss::DiceCe] {
            let gradient = Answer::new(kind, &logits, &classes).unwrap().gradient().unwrap();
            let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
            let largest = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
            for at in 0..values.len() {
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values[at] += by;
                    let logits = Tensor::from_vec(values, (2, 6, 10, 3), &Device::Cpu).unwrap();
                    Answer::new(kind, &logits, &classes).unwrap().loss().unwrap()
                };
                let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let off = (slope - gradient[at]).abs() / largest;
                assert!(off < 1e-6, "{kind:?}, logit {at}: off by {off}");
            }
        }
    }

    /// Two pixels, two classes, no opinion (p = 1/2 each), one pixel of each class: each class shares 1/2 of 1 + 1,
    /// so both Dice are 1/2 and the loss is 2 - 1; every square is 1/4; every pixel's -ln p is ln 2.
    #[test]
    fn a_network_without_an_opinion_loses_half() {
        let logits = Tensor::zeros((1, 1, 2, 2), DType::F64, &Device::Cpu).unwrap();
        let classes = Tensor::from_vec(vec![0u8, 1], (1, 1, 2), &Device::Cpu).unwrap();
        let value = |kind| Answer::new(kind, &logits, &classes).unwrap().loss().unwrap();
        assert!((value(Loss::Dice) - 1.0).abs() < 1e-5);
        assert!((value(Loss::Mse) - 0.25).abs() < 1e-12);
        let with_entropy = 1.0 + 2.0 * std::f64::consts::LN_2;
        assert!((value(Loss::DiceCe) - with_entropy).abs() < 1e-5);
    }

    #[test]
    fn a_class_that_the_network_lacks_is_an_error() {
        let logits = Tensor::zeros((1, 1, 2, 2), DType::F64, &Device::Cpu).unwrap();
        let classes = Tensor::from_vec(vec![0u8, 2], (1, 1, 2), &Device::Cpu).unwrap();
        let error = Answer::new(Loss::Dice, &logits, &classes)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("class 2") && error.contains("0 to 1"), "{error}");
    }
}
