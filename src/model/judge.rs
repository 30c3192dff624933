//! What the network says of each pixel: its class, how sure it is, and what that adds up to over a tile.

use std::ops::Range;

#[cfg(feature = "cuda")]
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Device, Layout, Shape};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::{Download, layers as cuda};
use super::kernels::Verdicts;
use super::network::Net;
#[cfg(feature = "cuda")]
use super::place::placed;

use crate::records::SliceSums;

/// What the network says of the pixels of some tiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The best class of every pixel, tile by tile.
    pub classes: Vec<u8>,
    /// The margin between the best two classes, 255 for 1.
    pub margins: Vec<u8>,
    /// Of each tile, over the pixels that lie in its slice; in f64, of the margins themselves.
    pub sums: Vec<SliceSums>,
    /// Of each tile what each member of a committee says by itself; none of a single network.
    pub members: Vec<Vec<SliceSums>>,
    /// Of each tile, the sum of the entropies of each class's pixels.
    pub class_entropies: Vec<Vec<f64>>,
}

/// Judges every pixel of the members' `logits` (tiles, height, width, classes), in one pass: by the mean of their probabilities.
///
/// * `sizes`: rows and columns of each tile that lie in its slice; what lies beyond is not counted
///
/// # Errors
/// As many sizes as tiles are wanted, and contiguous f32.
pub fn judge(logits: &[Tensor], sizes: &[[usize; 2]]) -> Result<Judged> {
    fits(&logits[0], sizes)?;
    #[cfg(feature = "cuda")]
    if let [logits] = logits
        && logits.device().is_cuda()
    {
        let bytes = logits.apply_op2_no_bwd(&words(sizes, logits.device())?, &OnDevice)?;
        return Judging::OnItsWay(Download::begin(&bytes)?, [sizes.len(), logits.dim(3)?]).end();
    }
    on_cpu(logits, sizes)
}

fn fits(tiles: &Tensor, sizes: &[[usize; 2]]) -> Result<()> {
    let tiles = tiles.dim(0)?;
    if tiles != sizes.len() {
        bail!("{tiles} tiles are not judged with {} sizes", sizes.len());
    }
    Ok(())
}

/// Sizes, where the tiles are.
#[cfg(feature = "cuda")]
fn words(sizes: &[[usize; 2]], device: &Device) -> Result<Tensor> {
    let words: Vec<u32> = sizes.as_flattened().iter().map(|&n| n as u32).collect();
    placed(words, (sizes.len(), 2), device)
}

/// Judging under way: on a GPU its result is still to come.
pub enum Judging {
    /// It is here.
    Done(Judged),
    /// What [`Judged::of_bytes`] takes, on its way from a GPU; and how many tiles and classes.
    #[cfg(feature = "cuda")]
    OnItsWay(Download, [usize; 2]),
}

impl Judging {
    /// Begins to judge what `net` says of `images` (tiles, height, width, channels); `sizes` as for [`judge`].
    ///
    /// # Errors
    /// As many sizes as tiles are wanted, and images that the network takes.
    pub fn begin(net: &Net, images: &Tensor, sizes: &[[usize; 2]]) -> Result<Judging> {
        // What a committee says is put together on the CPU.
        #[cfg(feature = "cuda")]
        if images.device().is_cuda() && net.is_repeatable() {
            fits(images, sizes)?;
            let words = words(sizes, images.device())?;
            let bytes = net.repeated(&[images, &words], |given| {
                let logits = net.forward(given[0])?;
                Ok(vec![logits[0].apply_op2_no_bwd(given[1], &OnDevice)?])
            })?;
            let size = [sizes.len(), net.shape().classes];
            return Ok(Judging::OnItsWay(Download::begin(&bytes[0])?, size));
        }
        judge(&net.forward(images)?, sizes).map(Judging::Done)
    }

    /// Waits for it.
    ///
    /// # Errors
    /// What went wrong on the GPU meanwhile.
    pub fn end(self) -> Result<Judged> {
        match self {
            Judging::Done(judged) => Ok(judged),
            #[cfg(feature = "cuda")]
            Judging::OnItsWay(bytes, size) => Ok(Judged::of_bytes(bytes.end()?, size)),
        }
    }
}

#[cfg(any(test, feature = "cuda"))]
impl Judged {
    /// From what a GPU says of `tiles` tiles and `m` classes: [`tile_bytes`] of sums of every tile, every pixel's class, every
    /// pixel's margin.
    pub fn of_bytes(bytes: &[u8], [tiles, m]: [usize; 2]) -> Judged {
        let size = tile_bytes(m);
        let (sums, maps) = bytes.split_at(tiles * size);
        let (classes, margins) = maps.split_at(maps.len() / 2);
        let sums = sums.chunks_exact(size).map(|tile| {
            let of: Vec<f64> = tile
                .as_chunks()
                .0
                .iter()
                .map(|n| f64::from_le_bytes(*n))
                .collect();
            let sums = SliceSums {
                pixels: of[0] as u64,
                margin: of[1],
                entropy: of[2],
                foreground_pixels: of[3] as u64,
                foreground_margin: of[4],
                foreground_entropy: of[5],
                ..SliceSums::default()
            };
            (sums, of[6..].to_vec())
        });
        let (sums, class_entropies) = sums.unzip();
        Judged {
            sums,
            class_entropies,
            members: Vec::new(),
            classes: classes.to_vec(),
            margins: margins.to_vec(),
        }
    }
}

/// Bytes of a tile's six sums, and of the entropies of each class.
#[cfg(any(test, feature = "cuda"))]
pub fn tile_bytes(classes: usize) -> usize {
    (6 + classes) * size_of::<f64>()
}

/// Judges on a GPU.
#[cfg(feature = "cuda")]
struct OnDevice;

#[cfg(feature = "cuda")]
impl CustomOp2 for OnDevice {
    fn name(&self) -> &'static str {
        "judgement"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("on the CPU pixels are judged without a tensor")
    }

    fn cuda_fwd(
        &self,
        logits: &CudaStorage,
        logits_layout: &Layout,
        sizes: &CudaStorage,
        sizes_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (tiles, height, width, m) = logits_layout.shape().dims4()?;
        let shape = [tiles, height, width, m];
        let bytes = cuda::judge(shape, (logits, logits_layout), (sizes, sizes_layout))?;
        Ok((bytes, (tiles * (tile_bytes(m) + 2 * height * width)).into()))
    }
}

/// A tile's sums, those of its classes' entropies, and its members'.
type OfTile = ((SliceSums, Vec<f64>), Vec<SliceSums>);

fn on_cpu(logits: &[Tensor], sizes: &[[usize; 2]]) -> Result<Judged> {
    let (tiles, height, width, m) = logits[0].dims4()?;
    let members = values(logits)?;
    let pixels = height * width;
    let (mut classes, mut margins) = (vec![0; tiles * pixels], vec![0; tiles * pixels]);
    let judged: Vec<OfTile> = classes
        .par_chunks_mut(pixels)
        .zip(margins.par_chunks_mut(pixels))
        .zip(sizes)
        .enumerate()
        .map(|(tile, ((classes, margins), &[rows, columns]))| {
            let (mut sums, mut entropies) = (SliceSums::default(), vec![0.0; m]);
            let values = tile * pixels * m..(tile + 1) * pixels * m;
            let mut committee = Committee::of(&members, values, m);
            let mut own = vec![SliceSums::default(); committee.own.len()];
            for at in 0..pixels {
                let pixel = committee.hear(at);
                classes[at] = pixel.class;
                margins[at] = (255.0 * pixel.margin + 0.5) as u8;
                if at / width < rows && at % width < columns {
                    pixel.count(&mut sums);
                    entropies[pixel.class as usize] += pixel.entropy;
                    own.iter_mut()
                        .zip(&committee.own)
                        .for_each(|(sums, own)| own.count(sums));
                }
            }
            ((sums, entropies), own)
        })
        .collect();
    let (sums, members): (Vec<_>, _) = judged.into_iter().unzip();
    let (sums, class_entropies) = sums.into_iter().unzip();
    Ok(Judged {
        classes,
        margins,
        sums,
        members,
        class_entropies,
    })
}

/// The best class of every pixel of the members' `logits` (tiles, height, width, classes).
///
/// # Errors
/// What went wrong on a GPU.
pub fn best_classes(logits: &[Tensor]) -> Result<Vec<u8>> {
    let (m, members) = (logits[0].dim(3)?, values(logits)?);
    if let [one] = &members[..] {
        return Ok(one.par_chunks_exact(m).map(best_class).collect());
    }
    // As many pixels at a time as a tile has, or about.
    const VALUES: usize = 1 << 14;
    let (all, at_once) = (members[0].len(), VALUES.next_multiple_of(m));
    let parts = (0..all).into_par_iter().step_by(at_once);
    let classes = parts.flat_map_iter(|first| {
        let values = first..all.min(first + at_once);
        let mut committee = Committee::of(&members, values.clone(), m);
        (0..values.len() / m).map(move |at| committee.hear(at).class)
    });
    Ok(classes.collect())
}

fn values(logits: &[Tensor]) -> Result<Vec<Vec<f32>>> {
    logits
        .iter()
        .map(|logits| logits.flatten_all()?.to_vec1())
        .collect()
}

/// What the network says of one pixel.
#[derive(Debug, Clone, Copy, Default)]
struct Pixel {
    class: u8,
    margin: f64,
    entropy: f64,
    /// The entropy of what several say together, less the mean of theirs.
    disagreement: f64,
}

impl Pixel {
    fn of(verdicts: &Verdicts, at: usize) -> Pixel {
        Pixel {
            class: verdicts.classes[at],
            margin: verdicts.margins[at],
            entropy: verdicts.entropies[at],
            disagreement: 0.0,
        }
    }

    fn count(self, sums: &mut SliceSums) {
        sums.pixels += 1;
        sums.margin += self.margin;
        sums.entropy += self.entropy;
        sums.disagreement += self.disagreement;
        if self.class != 0 {
            sums.foreground_pixels += 1;
            sums.foreground_margin += self.margin;
            sums.foreground_entropy += self.entropy;
            sums.foreground_disagreement += self.disagreement;
        }
    }
}

/// Networks that say something of the same pixels; of several the mean of their probabilities counts.
struct Committee<'a> {
    /// Logits of each, and what it says by itself.
    members: Vec<(&'a [f32], Verdicts)>,
    /// The last pixel, by each of several.
    own: Vec<Pixel>,
    mean: Vec<f64>,
    powers: Vec<f64>,
}

impl<'a> Committee<'a> {
    /// Of those of the members' logits that lie there, of `m` classes.
    fn of(members: &'a [Vec<f32>], values: Range<usize>, m: usize) -> Committee<'a> {
        let members = members.iter().map(|logits| &logits[values.clone()]);
        let members: Vec<_> = members.map(|logits| (logits, Verdicts::of(logits, m))).collect();
        let several = if members.len() > 1 { members.len() } else { 0 };
        Committee {
            members,
            own: vec![Pixel::default(); several],
            mean: vec![0.0; m],
            powers: vec![0.0; m],
        }
    }

    /// What they say together of a pixel.
    fn hear(&mut self, at: usize) -> Pixel {
        if let [(_, alone)] = &self.members[..] {
            return Pixel::of(alone, at);
        }
        self.mean.fill(0.0);
        let (mut entropies, m, count) = (0.0, self.mean.len(), self.members.len() as f64);
        for ((logits, verdicts), own) in self.members.iter().zip(&mut self.own) {
            *own = Pixel::of(verdicts, at);
            let logits = &logits[at * m..(at + 1) * m];
            let largest = f64::from(logits[own.class as usize]);
            let mut sum = 0.0;
            for (power, &logit) in self.powers.iter_mut().zip(logits) {
                *power = (f64::from(logit) - largest).exp();
                sum += *power;
            }
            let share = 1.0 / (sum * count);
            let powers = self.mean.iter_mut().zip(&self.powers);
            powers.for_each(|(mean, power)| *mean += share * power);
            entropies += own.entropy / count;
        }
        let class = best_class(&self.mean) as usize;
        let others = self.mean.iter().enumerate().filter(|(c, _)| *c != class);
        let second = others.fold(0.0f64, |second, (_, p)| second.max(*p));
        let known = self.mean.iter().filter(|p| **p > 0.0);
        let entropy = known.map(|p| -p * p.ln()).sum::<f64>().max(0.0);
        Pixel {
            class: class as u8,
            margin: self.mean[class] - second,
            entropy,
            disagreement: (entropy - entropies).max(0.0),
        }
    }
}

/// The class with the highest logit; the lowest of equals.
pub fn best_class<T: PartialOrd>(logits: &[T]) -> u8 {
    (1..logits.len()).fold(0, |best, c| if logits[c] > logits[best] { c } else { best }) as u8
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::imaging::Rng;

    fn pixel(logits: &[f32]) -> Pixel {
        Pixel::of(&Verdicts::of(logits, logits.len()), 0)
    }

    /// ln 2 each for two equal logits beside one that is out of the question; p = e / (e + 1) against 1 / (e + 1).
    #[test]
    fn a_coin_toss_has_no_margin_and_one_bit_of_entropy() {
        let toss = pixel(&[-800.0, 1.0, 1.0]);
        assert_eq!((toss.class, toss.margin), (1, 0.0), "the lowest of equals");
        assert!((toss.entropy - 2f64.ln()).abs() < 1e-12);
        let e = std::f64::consts::E;
        let sure = pixel(&[0.0, 1.0]);
        let (p, q) = (e / (e + 1.0), 1.0 / (e + 1.0));
        assert!((sure.margin - (p - q)).abs() < 1e-12);
        assert!((sure.entropy + p * p.ln() + q * q.ln()).abs() < 1e-12);
        assert_eq!(sure.class, 1);
    }

    /// Two tiles of 2 x 3 pixels, the second with one row and two columns in its slice.
    #[test]
    fn a_tile_counts_only_what_lies_in_its_slice() {
        let mut logits = vec![0f32; 2 * 6 * 2];
        for pixel in 0..12 {
            logits[2 * pixel + pixel % 2] = pixel as f32;
        }
        let logits = Tensor::from_vec(logits, (2, 2, 3, 2), &Device::Cpu).unwrap();
        let judged = judge(std::slice::from_ref(&logits), &[[2, 3], [1, 2]]).unwrap();
        assert_eq!(judged.classes, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
        let margin = |z: f64| (1.0 - (-z).exp()) / (1.0 + (-z).exp());
        assert_eq!(judged.margins[3], (255.0 * margin(3.0)).round() as u8);
        let [whole, part] = judged.sums[..] else {
            panic!("two tiles")
        };
        assert_eq!((whole.pixels, whole.foreground_pixels), (6, 3));
        assert_eq!((part.pixels, part.foreground_pixels), (2, 1));
        assert!((part.margin - margin(6.0) - margin(7.0)).abs() < 1e-12);
        assert!((part.foreground_margin - margin(7.0)).abs() < 1e-12);
        let [background, foreground] = judged.class_entropies[1][..] else {
            panic!("two classes")
        };
        assert!((foreground - part.foreground_entropy).abs() < 1e-12);
        assert!((background + foreground - part.entropy).abs() < 1e-12);
        assert!(judge(&[logits], &[[2, 3]]).is_err());
    }

    /// More pixels than are heard at a time.
    #[test]
    fn the_best_classes_of_a_committee_are_those_it_is_judged_by() {
        let mut rng = Rng::new(5);
        let mut logits = || {
            let values: Vec<f32> = (0..3 * 90 * 100).map(|_| rng.normal() as f32).collect();
            Tensor::from_vec(values, (1, 90, 100, 3), &Device::Cpu).unwrap()
        };
        let members = [logits(), logits()];
        let judged = judge(&members, &[[90, 100]]).unwrap();
        assert_eq!(best_classes(&members).unwrap(), judged.classes);
    }

    /// One is sure of class 0, one of class 1: together a coin toss, of whose entropy, ln 2, nothing is their own. Where both say
    /// the same there is no disagreement.
    #[test]
    fn a_committee_that_is_divided_tosses_a_coin() {
        let logits = |values: [f32; 4]| Tensor::from_slice(&values, (1, 1, 2, 2), &Device::Cpu).unwrap();
        let members = [logits([90.0, 0.0, 0.0, 2.0]), logits([0.0, 90.0, 0.0, 2.0])];
        let judged = judge(&members, &[[1, 2]]).unwrap();
        assert_eq!((&judged.classes[..], judged.margins[0]), (&[0, 1][..], 0));
        let alone = pixel(&[0.0, 2.0]);
        let sums = judged.sums[0];
        assert!((sums.disagreement - 2f64.ln()).abs() < 1e-9, "{sums:?}");
        assert!(sums.foreground_disagreement.abs() < 1e-9);
        assert!((sums.entropy - 2f64.ln() - alone.entropy).abs() < 1e-9);
        assert!((sums.margin - alone.margin).abs() < 1e-9);
        let own = &judged.members[0];
        assert_eq!(
            (own.len(), own[0].foreground_pixels, own[1].foreground_pixels),
            (2, 1, 2)
        );
        assert!((own[0].margin - 1.0 - alone.margin).abs() < 1e-9);
        assert_eq!(best_classes(&members).unwrap(), judged.classes);
        // Of one, the committee is it.
        let one = judge(&members[..1], &[[1, 2]]).unwrap();
        assert!(one.members[0].is_empty() && one.sums[0].disagreement == 0.0);
        let twice = judge(&[members[0].clone(), members[0].clone()], &[[1, 2]]).unwrap();
        assert!((twice.sums[0].margin - one.sums[0].margin).abs() < 1e-9);
    }
}
