//! A training step: a batch forward, the loss, the way back, and Adam.

use candle_core::{Device, Result, Tensor};

use super::adam::Adam;
#[cfg(feature = "cuda")]
use super::cuda::Repeated;
use super::loss::{Answer, Measured};
use super::network::{Net, parameters};
use crate::imaging::Rng;
use crate::records::Architecture;
use crate::settings::Loss;

/// A network that learns.
pub struct Learning {
    /// The network; its weights are those that Adam moves.
    pub net: Net,
    /// The optimizer.
    pub adam: Adam,
    loss: Loss,
    #[cfg(feature = "cuda")]
    repeated: Repeated,
}

impl Learning {
    /// A network of these parameters, by their names, that learns at `rate` what `loss` asks for.
    ///
    /// # Errors
    /// A parameter that is missing or of another shape.
    pub fn new(
        shape: Architecture,
        weights: Vec<(String, Tensor)>,
        loss: Loss,
        rate: f64,
    ) -> Result<Learning> {
        let adam = Adam::new(weights, rate)?;
        // The same values, so that it sees every step.
        let learners = adam.learners.iter();
        let weights = learners.map(|learner| (learner.name.clone(), learner.weight.clone()));
        Ok(Learning {
            net: Net::new(shape, weights.collect())?,
            adam,
            loss,
            #[cfg(feature = "cuda")]
            repeated: Repeated::default(),
        })
    }

    /// One whose parameters are drawn from `rng`.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn drawn(shape: Architecture, rng: &Rng, loss: Loss, rate: f64, device: &Device) -> Result<Learning> {
        let weights = parameters(&shape).into_iter().map(|parameter| {
            let values = Tensor::from_vec(parameter.drawn(rng), parameter.shape(), device)?;
            Ok((parameter.name, values))
        });
        Learning::new(shape, weights.collect::<Result<_>>()?, loss, rate)
    }

    /// A step of every member, in which auxiliary classifiers count for `share` of what the members' own answers do. What each
    /// member loses before it.
    ///
    /// * `batches`: images and classes (tiles, height, width; u8) for all members, or for each
    ///
    /// Auxiliary classifiers lead the lower levels at first, and count for less and less (Chen et al. 2018, 2.3).
    ///
    /// # Errors
    /// Images or classes that do not fit; what went wrong on a GPU.
    pub fn step(&mut self, batches: &[(Tensor, Tensor)], share: f64) -> Result<Vec<Measured>> {
        self.adam.begin()?;
        let (net, adam, loss) = (&self.net, &self.adam, self.loss);
        #[cfg(feature = "cuda")]
        let sums = match batches {
            // The share of auxiliary classifiers is another one at every step.
            [(images, classes)] if net.is_repeatable() && !net.shape().deep_supervision => {
                self.repeated.run(&[images, classes], |given| {
                    learn(net, adam, loss, &[(given[0].clone(), given[1].clone())], share)
                })
            }
            _ => learn(net, adam, loss, batches, share),
        };
        #[cfg(not(feature = "cuda"))]
        let sums = learn(net, adam, loss, batches, share);
        if sums.is_err() {
            // It was not taken: with a full memory it is tried again on fewer tiles.
            self.adam.steps -= 1;
        }
        let members = sums?.into_iter().zip(batches.iter().cycle());
        members
            .map(|(sums, (_, classes))| Measured::begin(loss, &sums, classes.elem_count()))
            .collect()
    }
}

/// Takes Adam's step; the sums of each member's loss.
fn learn(
    net: &Net,
    adam: &Adam,
    loss: Loss,
    batches: &[(Tensor, Tensor)],
    share: f64,
) -> Result<Vec<Tensor>> {
    let (images, classes): (Vec<&Tensor>, Vec<&Tensor>) =
        batches.iter().map(|(images, classes)| (images, classes)).unzip();
    let classes_of = |member: usize| classes[member % classes.len()];
    let (logits, trace) = net.forward_traced(&images)?;
    let answers = logits.members.iter().enumerate();
    let answers = answers.map(|(member, logits)| Answer::new(loss, logits, classes_of(member)));
    let answers = answers.collect::<Result<Vec<_>>>()?;
    let mut gradients = answers.iter().map(Answer::gradient).collect::<Result<Vec<_>>>()?;
    for (member, logits) in &logits.auxiliary {
        let answer = Answer::new(loss, logits, classes_of(*member))?;
        gradients.push(answer.gradient()?.affine(share, 0.0)?);
    }
    adam.end(&net.gradients(trace, gradients)?)?;
    Ok(answers.into_iter().map(Answer::into_sums).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Networks;

    /// What each member is given is its own: a step of two is a step of each by itself, auxiliary classifiers too.
    #[test]
    fn members_learn_from_batches_of_their_own() {
        for networks in ["u-net+u-net", "u-net+voxresnet"] {
            let shape = Architecture {
                networks: networks.parse().unwrap(),
                channels: 1,
                classes: 3,
                base_channels: 4,
                slices: 1,
                deep_supervision: true,
            };
            let rng = Rng::new(1);
            let mut both = Learning::drawn(shape, &rng, Loss::DiceCe, 0.01, &Device::Cpu).unwrap();
            let batch = |seed: u64| {
                let mut rng = Rng::new(seed);
                let images: Vec<f32> = (0..16 * 16 * 16).map(|_| rng.uniform() as f32).collect();
                let classes: Vec<u8> = (0..16 * 16 * 16).map(|_| rng.below(3) as u8).collect();
                (
                    Tensor::from_vec(images, (16, 16, 16, 1), &Device::Cpu).unwrap(),
                    Tensor::from_vec(classes, (16, 16, 16), &Device::Cpu).unwrap(),
                )
            };
            let before: Vec<(String, Tensor)> = both
                .adam
                .learners
                .iter()
                .map(|learner| (learner.name.clone(), learner.weight.force_contiguous().unwrap()))
                .collect();
            let batches = [batch(1), batch(2)];
            let losses = both.step(&batches, 0.5).unwrap();
            for (n, network) in shape.networks.members().enumerate() {
                let prefix = if n == 0 { "" } else { "member.1." };
                let alone = Architecture {
                    networks: Networks::one(network),
                    ..shape
                };
                let weights = parameters(&alone).into_iter().map(|parameter| {
                    let name = format!("{prefix}{}", parameter.name);
                    let (_, values) = before.iter().find(|(found, _)| *found == name).unwrap();
                    (parameter.name, values.clone())
                });
                let mut alone = Learning::new(alone, weights.collect(), Loss::DiceCe, 0.01).unwrap();
                let loss = alone.step(&batches[n..=n], 0.5).unwrap().remove(0);
                assert_eq!(loss.loss().unwrap(), losses[n].loss().unwrap());
                for learner in &alone.adam.learners {
                    let name = format!("{prefix}{}", learner.name);
                    let mut of_both = both.adam.learners.iter();
                    let same = of_both.find(|learner| learner.name == name).unwrap();
                    let values =
                        |weight: &Tensor| -> Vec<f32> { weight.flatten_all().unwrap().to_vec1().unwrap() };
                    assert_eq!(
                        values(&learner.weight),
                        values(&same.weight),
                        "{networks}, {name}"
                    );
                }
            }
        }
    }
}
