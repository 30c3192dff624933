//! Numbers of many pixels side by side, class by class, and what is computed of each.
//!
//! Written for single numbers, without branches: compiled for an instruction set they become its vectors. Loops over pixels are the
//! inner ones, over arrays that are no part of a larger one while they run: elsewhere the compiler gathers and scatters.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

use super::simd::Simd;
use super::{PANEL, Real};

/// Pixels side by side.
pub const SIDE_BY_SIDE: usize = PANEL;
/// Added to a number of a size below 2^51 it leaves the nearest whole one in the lowest bits.
const WHOLE: f64 = 6_755_399_441_055_744.0;
/// Below this exponent e's power is nothing beside 1.
pub const NEGLIGIBLE: f64 = -700.0;

/// A number of each.
pub type Lanes<N> = [N; SIDE_BY_SIDE];

/// The values of some classes from `from` on, class by class, of at most as many pixels as lie side by side; 0 for those that there
/// are not.
#[inline(always)]
pub fn columns_of<T: Real, S: Simd<T>>(simd: S, values: &[T], m: usize, from: usize) -> [Lanes<T>; PANEL] {
    let mut block = [[T::ZERO; PANEL]; PANEL];
    let count = PANEL.min(m - from);
    for (row, values) in block.iter_mut().zip(values.chunks_exact(m)) {
        for lane in (0..count).step_by(S::LANES) {
            let some = simd.load_some(&values[from + lane..], S::LANES.min(count - lane));
            simd.store(some, &mut row[lane..]);
        }
    }
    simd.transpose(&mut block);
    block
}

/// e to the power of `x`, from [`NEGLIGIBLE`] to 0, within 2^-52 of itself: as 2^k e^r with the nearest whole k, and Taylor's
/// polynomial of r, at most ln 2 / 2 in size. Not a number stays none.
#[inline(always)]
pub fn power_of_e(x: f64) -> f64 {
    /// ln 2, the first with so few bits that its multiples are exact (Cody & Waite 1980).
    const LN_2_HEAD: f64 = 0.693_147_180_369_123_8;
    const LN_2_TAIL: f64 = 1.908_214_929_270_587_7e-10;
    let whole = x * LOG2_E + WHOLE;
    let k = whole - WHOLE;
    let r = x - k * LN_2_HEAD - k * LN_2_TAIL;
    let mut sum = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
        1.0,
        1.0,
    ] {
        sum = sum * r + 1.0 / factorial;
    }
    sum * f64::from_bits(whole.to_bits().wrapping_add(1023) << 52)
}

/// The natural logarithm of `x`, which is at least 1: as k ln 2 + ln f with f about 1, and ln f = 2 artanh((f - 1) / (f + 1)).
#[inline(always)]
pub fn logarithm(x: f64) -> f64 {
    let from = (SQRT_2 / 2.0).to_bits();
    let k = x.to_bits().wrapping_sub(from) >> 52;
    let f = f64::from_bits(x.to_bits().wrapping_sub(k << 52));
    let t = (f - 1.0) / (f + 1.0);
    let square = t * t;
    let mut sum = 1.0 / 23.0;
    for odd in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    (f64::from_bits(k | WHOLE.to_bits()) - WHOLE) * LN_2 + 2.0 * t * sum
}

/// The values of pixels side by side, class by class.
#[inline(always)]
pub fn put_columns<T: Real, S: Simd<T>>(simd: S, values: &[T], m: usize, columns: &mut [Lanes<T>]) {
    for first in (0..m).step_by(PANEL) {
        let block = columns_of(simd, values, m, first);
        let columns = &mut columns[first..m.min(first + PANEL)];
        columns.copy_from_slice(&block[..columns.len()]);
    }
}

/// Those of every pixel again.
#[inline(always)]
pub fn put_rows<T: Real, S: Simd<T>>(simd: S, columns: &[Lanes<T>], values: &mut [T]) {
    let m = columns.len();
    for (panel, columns) in columns.chunks(PANEL).enumerate() {
        let mut block = [[T::ZERO; PANEL]; PANEL];
        block[..columns.len()].copy_from_slice(columns);
        simd.transpose(&mut block);
        for (row, values) in block.iter().zip(values.chunks_exact_mut(m)) {
            let values = &mut values[panel * PANEL..][..columns.len()];
            for lane in (0..values.len()).step_by(S::LANES) {
                let count = S::LANES.min(values.len() - lane);
                simd.store_some(simd.load(&row[lane..]), &mut values[lane..], count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Rng;

    #[test]
    fn powers_and_logarithms_are_the_library_s_within_two_roundings() {
        let mut rng = Rng::new(1);
        for n in 0..200_000 {
            let x = match n {
                0 => 0.0,
                1 => -f64::MIN_POSITIVE,
                2 => -690.0,
                _ => -rng.range(0.0, 40.0) * rng.uniform(),
            };
            let (got, expected) = (power_of_e(x), x.exp());
            assert!(
                (got - expected).abs() <= 2.0 * f64::EPSILON * expected,
                "e^{x}: {got}, {expected}"
            );
            let x = 1.0 + rng.range(0.0, 254.0) * rng.uniform().powi(4);
            let (got, expected) = (logarithm(x), x.ln());
            let most = 2.0 * f64::EPSILON * expected.max(f64::EPSILON);
            assert!((got - expected).abs() <= most, "ln {x}: {got}, {expected}");
        }
        assert!(power_of_e(NEGLIGIBLE) < 1e-300 && power_of_e(f64::NAN).is_nan());
        assert_eq!((logarithm(1.0), power_of_e(0.0)), (0.0, 1.0));
    }
}
