//! What logits say of many pixels at a time: the best class, the margin to the second, the entropy; in f64.

use super::lanes::{Lanes, NEGLIGIBLE, SIDE_BY_SIDE, columns_of, logarithm, power_of_e};
use super::simd::{Isa, Simd, Work};
use super::{PANEL, Real};

/// What the network says of pixels, one after the other.
#[derive(Debug, Clone)]
pub struct Verdicts {
    /// The best class; of equals, the first.
    pub classes: Vec<u8>,
    /// How much more probable it is than the second.
    pub margins: Vec<f64>,
    /// Of all classes' probabilities.
    pub entropies: Vec<f64>,
}

impl Verdicts {
    /// From the logits of each pixel, `[pixel][class]`, of `m` classes: with e = exp(z - largest z) and S their sum, p = e / S and the
    /// entropy is ln S - sum e (z - largest z) / S.
    pub fn of(logits: &[f32], m: usize) -> Verdicts {
        let pixels = logits.len() / m;
        let mut verdicts = Verdicts {
            classes: vec![0; pixels],
            margins: vec![0.0; pixels],
            entropies: vec![0.0; pixels],
        };
        let judging = Judging {
            logits,
            m,
            verdicts: &mut verdicts,
        };
        f32::run(Isa::detect(), judging);
        verdicts
    }
}

struct Judging<'a> {
    logits: &'a [f32],
    m: usize,
    verdicts: &'a mut Verdicts,
}

impl Work<f32> for Judging<'_> {
    #[inline(always)]
    fn on<S: Simd<f32>>(self, simd: S) {
        let Verdicts {
            classes,
            margins,
            entropies,
        } = self.verdicts;
        let out = classes.chunks_mut(SIDE_BY_SIDE);
        let out = out.zip(margins.chunks_mut(SIDE_BY_SIDE));
        let out = out.zip(entropies.chunks_mut(SIDE_BY_SIDE));
        let logits = self.logits.chunks(SIDE_BY_SIDE * self.m);
        for (logits, ((classes, margins), entropies)) in logits.zip(out) {
            let (best, margin, entropy) = verdict(simd, logits, self.m);
            for (class, best) in classes.iter_mut().zip(best) {
                *class = best as u8;
            }
            margins.copy_from_slice(&margin[..margins.len()]);
            entropies.copy_from_slice(&entropy[..entropies.len()]);
        }
    }
}

/// Best classes, margins and entropies of at most as many pixels as lie side by side.
#[inline(always)]
fn verdict<S: Simd<f32>>(simd: S, logits: &[f32], m: usize) -> (Lanes<u32>, Lanes<f64>, Lanes<f64>) {
    let (mut best, mut largest) = ([0u32; SIDE_BY_SIDE], [f32::NEG_INFINITY; SIDE_BY_SIDE]);
    // A panel of classes at a time: there is one, as a rule, and it is put into columns once.
    let mut columns = columns_of(simd, logits, m, 0);
    for first in (0..m).step_by(PANEL) {
        if m > PANEL {
            columns = columns_of(simd, logits, m, first);
        }
        for (c, logits) in (first..m).zip(&columns) {
            for lane in 0..SIDE_BY_SIDE {
                // The first is the best until another is larger, whatever it is.
                let is_larger = c == 0 || logits[lane] > largest[lane];
                best[lane] = if is_larger { c as u32 } else { best[lane] };
                largest[lane] = if is_larger { logits[lane] } else { largest[lane] };
            }
        }
    }
    let (mut sum, mut second) = ([1f64; SIDE_BY_SIDE], [0f64; SIDE_BY_SIDE]);
    let mut weighted = [0f64; SIDE_BY_SIDE];
    // The best one's power is known: the last class stands in its place.
    let last = columns[(m - 1) % PANEL];
    for first in (0..m).step_by(PANEL) {
        if m > PANEL {
            columns = columns_of(simd, logits, m, first);
        }
        for (c, logits) in (first..m - 1).zip(&columns) {
            for lane in 0..SIDE_BY_SIDE {
                let is_best = best[lane] == c as u32;
                let logit = if is_best { last[lane] } else { logits[lane] };
                let z = f64::from(logit) - f64::from(largest[lane]);
                // Not infinite, which 0 times would be no number.
                let z = if z < NEGLIGIBLE { NEGLIGIBLE } else { z };
                let power = power_of_e(z);
                sum[lane] += power;
                second[lane] = if power > second[lane] { power } else { second[lane] };
                weighted[lane] += power * z;
            }
        }
    }
    let (mut margin, mut entropy) = (second, sum);
    for lane in 0..SIDE_BY_SIDE {
        let share = 1.0 / sum[lane];
        margin[lane] = (1.0 - second[lane]) * share;
        let value = logarithm(sum[lane]) - weighted[lane] * share;
        entropy[lane] = if value > 0.0 { value } else { 0.0 };
    }
    (best, margin, entropy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Rng;

    /// Seventeen pixels: as many as lie side by side, and one more; more classes than that, too; a tie, and logits that are far apart.
    #[test]
    fn every_pixel_is_judged_by_its_definition() {
        let mut rng = Rng::new(2);
        for m in [2, 4, 11, 19] {
            let mut logits: Vec<f32> = (0..17 * m).map(|_| rng.normal() as f32 * 4.0).collect();
            logits[..m].fill(0.5);
            logits[m] = 1e4;
            logits[2 * m] = f32::NEG_INFINITY;
            // The largest of all: infinitely far from the others.
            logits[3 * m + 1] = f32::INFINITY;
            let verdicts = Verdicts::of(&logits, m);
            assert_eq!(verdicts.classes.len(), 17);
            for (at, logits) in logits.chunks(m).enumerate() {
                let largest = logits.iter().fold(f32::MIN, |most, z| most.max(*z));
                let off = |z: f32| {
                    if z == largest {
                        0.0
                    } else {
                        f64::from(z) - f64::from(largest)
                    }
                };
                let powers = logits.iter().map(|z| off(*z).exp());
                let sum: f64 = powers.clone().sum();
                let mut p: Vec<f64> = powers.map(|power| power / sum).collect();
                let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
                let best = logits.iter().position(|z| *z == largest).unwrap();
                p.sort_by(f64::total_cmp);
                assert_eq!(usize::from(verdicts.classes[at]), best);
                assert!((verdicts.margins[at] - (p[m - 1] - p[m - 2])).abs() < 1e-14);
                assert!((verdicts.entropies[at] - entropy).abs() < 1e-14);
            }
        }
    }
}
