//! Softmax of many pixels at a time, and what a loss asks of it.
//!
//! Powers, sums and logarithms are f64. A class that is none of the `m` is no pixel's.

use super::Real;
use super::lanes::{Lanes, NEGLIGIBLE, SIDE_BY_SIDE, logarithm, power_of_e, put_columns, put_rows};
use super::simd::{Isa, Simd, Work};

/// The least p whose logarithm is taken.
const LEAST: f64 = 1e-37;

/// Softmax of each pixel's logits, `[pixel][class]`, of `m` classes: with e = exp(z - largest z) and S their sum, p = e / S.
pub fn softmax<T: Real>(logits: &[T], m: usize, p: &mut [T]) {
    assert!(
        logits.len() == p.len() && p.len().is_multiple_of(m),
        "every pixel has {m} probabilities"
    );
    T::run(Isa::detect(), Softmax { logits, m, p });
}

/// What a loss is made of, over some pixels with probabilities `p`, `[pixel][class]`, and the classes that they are: with t = 1 for a
/// pixel's class and 0 for others, of every class sum pt, then of every class sum p + t, then over all sum (p - t)^2 and -ln p of the
/// pixel's class.
pub fn loss_sums<T: Real>(p: &[T], classes: &[u8], m: usize) -> Vec<f64> {
    assert_eq!(p.len(), classes.len() * m, "every pixel has a class");
    let mut sums = vec![[0.0; SIDE_BY_SIDE]; 2 * m + 2];
    let work = Sums {
        p,
        classes,
        m,
        sums: &mut sums,
    };
    T::run(Isa::detect(), work);
    sums.iter().map(|lanes| lanes.iter().sum()).collect()
}

/// The slopes of a loss: by p it is `own[c] t + all[c] + square p`, and by the logits there is `entropy (p - t)` besides.
pub struct Slopes<T> {
    /// Of each class, where it is the pixel's.
    pub own: Vec<T>,
    /// Of each class, everywhere.
    pub all: Vec<T>,
    /// Times p.
    pub square: T,
    /// Of the cross-entropy.
    pub entropy: T,
}

/// The gradient by the logits, of which softmax made `p`: slopes g become p (g - sum of p g).
pub fn loss_gradient<T: Real>(p: &[T], classes: &[u8], slopes: &Slopes<T>, out: &mut [T]) {
    assert_eq!(
        p.len(),
        classes.len() * slopes.all.len(),
        "every pixel has a class"
    );
    assert_eq!(p.len(), out.len(), "every probability has a gradient");
    let work = Gradient {
        p,
        classes,
        slopes,
        out,
    };
    T::run(Isa::detect(), work);
}

/// The classes of pixels side by side; none where there is no pixel.
#[inline(always)]
fn lanes_of(classes: &[u8]) -> Lanes<u32> {
    let mut lanes = [u32::MAX; SIDE_BY_SIDE];
    for (lane, class) in lanes.iter_mut().zip(classes) {
        *lane = u32::from(*class);
    }
    lanes
}

struct Softmax<'a, T> {
    logits: &'a [T],
    m: usize,
    p: &'a mut [T],
}

impl<T: Real> Work<T> for Softmax<'_, T> {
    #[inline(always)]
    fn on<S: Simd<T>>(self, simd: S) {
        let m = self.m;
        let mut columns = vec![[T::ZERO; SIDE_BY_SIDE]; m];
        let mut powers = vec![[0f64; SIDE_BY_SIDE]; m];
        let logits = self.logits.chunks(SIDE_BY_SIDE * m);
        for (logits, p) in logits.zip(self.p.chunks_mut(SIDE_BY_SIDE * m)) {
            put_columns(simd, logits, m, &mut columns);
            let mut largest = columns[0];
            for logits in &columns[1..] {
                for lane in 0..SIDE_BY_SIDE {
                    let is_larger = logits[lane] > largest[lane];
                    largest[lane] = if is_larger { logits[lane] } else { largest[lane] };
                }
            }
            let mut sum = [0f64; SIDE_BY_SIDE];
            for (powers, &logits) in powers.iter_mut().zip(&columns) {
                let mut found = [0f64; SIDE_BY_SIDE];
                for lane in 0..SIDE_BY_SIDE {
                    let z = logits[lane].wide() - largest[lane].wide();
                    let z = if z < NEGLIGIBLE { NEGLIGIBLE } else { z };
                    found[lane] = power_of_e(z);
                    sum[lane] += found[lane];
                }
                *powers = found;
            }
            for (columns, &powers) in columns.iter_mut().zip(&powers) {
                let mut p = [T::ZERO; SIDE_BY_SIDE];
                for lane in 0..SIDE_BY_SIDE {
                    p[lane] = T::of(powers[lane] / sum[lane]);
                }
                *columns = p;
            }
            put_rows(simd, &columns, p);
        }
    }
}

struct Sums<'a, T> {
    p: &'a [T],
    classes: &'a [u8],
    m: usize,
    sums: &'a mut [Lanes<f64>],
}

impl<T: Real> Work<T> for Sums<'_, T> {
    #[inline(always)]
    fn on<S: Simd<T>>(self, simd: S) {
        let m = self.m;
        let mut columns = vec![[T::ZERO; SIDE_BY_SIDE]; m];
        let (shared, others) = self.sums.split_at_mut(m);
        let (either, others) = others.split_at_mut(m);
        let (mut off, mut lost) = ([0f64; SIDE_BY_SIDE], [0f64; SIDE_BY_SIDE]);
        let p = self.p.chunks(SIDE_BY_SIDE * m);
        for (p, classes) in p.zip(self.classes.chunks(SIDE_BY_SIDE)) {
            put_columns(simd, p, m, &mut columns);
            let classes = lanes_of(classes);
            // Of no pixel: 1, whose logarithm is 0.
            let mut own = [1f64; SIDE_BY_SIDE];
            for (c, &p) in columns.iter().enumerate() {
                let (mut both, mut any) = (shared[c], either[c]);
                for lane in 0..SIDE_BY_SIDE {
                    let (p, is_own) = (p[lane].wide(), classes[lane] == c as u32);
                    let t = if is_own { 1.0 } else { 0.0 };
                    own[lane] = if is_own { p } else { own[lane] };
                    both[lane] += p * t;
                    any[lane] += p + t;
                    off[lane] += (p - t) * (p - t);
                }
                (shared[c], either[c]) = (both, any);
            }
            for lane in 0..SIDE_BY_SIDE {
                let p = if own[lane] > LEAST { own[lane] } else { LEAST };
                lost[lane] += logarithm(1.0 / p);
            }
        }
        others.copy_from_slice(&[off, lost]);
    }
}

struct Gradient<'a, T> {
    p: &'a [T],
    classes: &'a [u8],
    slopes: &'a Slopes<T>,
    out: &'a mut [T],
}

impl<T: Real> Work<T> for Gradient<'_, T> {
    #[inline(always)]
    fn on<S: Simd<T>>(self, simd: S) {
        let Slopes { own, all, .. } = self.slopes;
        let (square, entropy) = (self.slopes.square, self.slopes.entropy);
        let m = all.len();
        let mut columns = vec![[T::ZERO; SIDE_BY_SIDE]; m];
        let p = self.p.chunks(SIDE_BY_SIDE * m);
        let out = self.out.chunks_mut(SIDE_BY_SIDE * m);
        for ((p, classes), out) in p.zip(self.classes.chunks(SIDE_BY_SIDE)).zip(out) {
            put_columns(simd, p, m, &mut columns);
            let classes = lanes_of(classes);
            let mut mean = [T::ZERO; SIDE_BY_SIDE];
            for (c, &p) in columns.iter().enumerate() {
                let (own, all) = (own[c], all[c]);
                for lane in 0..SIDE_BY_SIDE {
                    let own = if classes[lane] == c as u32 { own } else { T::ZERO };
                    mean[lane] += p[lane] * (all + square * p[lane] + own);
                }
            }
            for (c, column) in columns.iter_mut().enumerate() {
                let (p, own, all) = (*column, own[c], all[c]);
                let mut found = [T::ZERO; SIDE_BY_SIDE];
                for lane in 0..SIDE_BY_SIDE {
                    let is_own = classes[lane] == c as u32;
                    let (own, entropy_own) = if is_own {
                        (own, entropy)
                    } else {
                        (T::ZERO, T::ZERO)
                    };
                    let slope = all + square * p[lane] + own;
                    found[lane] = p[lane] * (slope - mean[lane] + entropy) - entropy_own;
                }
                *column = found;
            }
            put_rows(simd, &columns, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Rng;

    /// Largest difference.
    fn off(a: &[f64], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    fn wide<T: Real>(values: &[T]) -> Vec<f64> {
        values.iter().map(|value| value.wide()).collect()
    }

    /// Seventeen pixels: as many as lie side by side, and one more; more classes than that, too; logits that are far apart.
    fn check<T: Real>(isa: Isa, m: usize, tolerance: f64) {
        const PIXELS: usize = 17;
        let mut rng = Rng::new(m as u64);
        let mut logits: Vec<T> = (0..PIXELS * m).map(|_| T::of(rng.normal() * 4.0)).collect();
        if m > 1 {
            logits[m] = T::of(1e4);
            logits[2 * m] = T::of(f64::NEG_INFINITY);
        }
        let classes: Vec<u8> = (0..PIXELS).map(|at| (m - 1 - at * 7 % m) as u8).collect();

        let mut p = logits.clone();
        T::run(
            isa,
            Softmax {
                logits: &logits,
                m,
                p: &mut p,
            },
        );
        let mut expected = Vec::new();
        for logits in wide(&logits).chunks(m) {
            let largest = logits.iter().copied().fold(f64::MIN, f64::max);
            let powers: Vec<f64> = logits.iter().map(|z| (z - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            expected.extend(powers.iter().map(|power| power / sum));
        }
        assert!(off(&wide(&p), &expected) < tolerance, "{isa:?}, {m} classes: p");

        let mut sums = vec![[0.0; SIDE_BY_SIDE]; 2 * m + 2];
        let work = Sums {
            p: &p,
            classes: &classes,
            m,
            sums: &mut sums,
        };
        T::run(isa, work);
        let sums: Vec<f64> = sums.iter().map(|lanes| lanes.iter().sum()).collect();
        let t = |at: usize, c: usize| if usize::from(classes[at]) == c { 1.0 } else { 0.0 };
        let mut expected = vec![0.0; 2 * m + 2];
        for (at, p) in wide(&p).chunks(m).enumerate() {
            for (c, p) in p.iter().enumerate() {
                expected[c] += p * t(at, c);
                expected[m + c] += p + t(at, c);
                expected[2 * m] += (p - t(at, c)).powi(2);
            }
            expected[2 * m + 1] -= p[usize::from(classes[at])].max(LEAST).ln();
        }
        assert!(off(&sums, &expected) < 1e-11, "{isa:?}, {m} classes: sums");

        let mut number = || T::of(rng.range(-1.0, 1.0));
        let slopes = Slopes {
            own: (0..m).map(|_| number()).collect(),
            all: (0..m).map(|_| number()).collect(),
            square: number(),
            entropy: number(),
        };
        let mut gradient = p.clone();
        let work = Gradient {
            p: &p,
            classes: &classes,
            slopes: &slopes,
            out: &mut gradient,
        };
        T::run(isa, work);
        let mut expected = Vec::new();
        for (at, p) in wide(&p).chunks(m).enumerate() {
            let (own, all) = (wide(&slopes.own), wide(&slopes.all));
            let slope = |c: usize| own[c] * t(at, c) + all[c] + slopes.square.wide() * p[c];
            let mean: f64 = (0..m).map(|c| p[c] * slope(c)).sum();
            let entropy = |c: usize| slopes.entropy.wide() * (p[c] - t(at, c));
            expected.extend((0..m).map(|c| p[c] * (slope(c) - mean) + entropy(c)));
        }
        let off = off(&wide(&gradient), &expected);
        assert!(off < tolerance, "{isa:?}, {m} classes: gradient off by {off}");
    }

    #[test]
    fn every_instruction_set_finds_probabilities_sums_and_gradients() {
        for (isa, m) in Isa::known()
            .into_iter()
            .flat_map(|isa| [1, 2, 4, 16, 17, 256].map(|m| (isa, m)))
        {
            check::<f32>(isa, m, 1e-6);
            check::<f64>(isa, m, 1e-14);
        }
    }

    #[test]
    fn of_no_number_nothing_is_known() {
        let mut p = [0.0; 6];
        softmax(&[0.0, f32::NAN, 1.0, 0.0, 0.0, 0.0], 3, &mut p);
        assert!(p[..3].iter().all(|p| p.is_nan()));
        assert!(p[3..].iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-6));
    }
}
