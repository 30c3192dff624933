//! Vectors of two pieces of memory: images of 8 channels fill the 16 lanes of AVX-512 by two pixels.

use std::arch::x86_64::*;

use super::x86::{Avx2, Avx512};
use super::{PANEL, Simd, Work};

/// Eight numbers of one piece of memory and eight of another, in turns: first, first, second, second, and so on.
#[derive(Debug, Clone, Copy)]
pub struct Twin {
    wide: Avx512,
    /// From a number to its twin.
    apart: usize,
}

impl Twin {
    /// Of pieces that are `apart` values from each other, no more than a slice may have.
    pub fn new(wide: Avx512, apart: usize) -> Twin {
        assert!(
            apart <= isize::MAX as usize / size_of::<f32>() - Self::LANES,
            "a slice holds both pieces"
        );
        Twin { wide, apart }
    }

    #[inline(always)]
    fn narrow(self) -> Avx2 {
        self.wide.narrower()
    }

    #[inline(always)]
    fn join(self, first: __m256, second: __m256) -> __m512 {
        // SAFETY: a value of this type exists only where AVX-512F was seen.
        unsafe {
            let turns = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let (first, second) = (_mm512_castps256_ps512(first), _mm512_castps256_ps512(second));
            _mm512_permutex2var_ps(first, turns, second)
        }
    }

    #[inline(always)]
    fn part(self, vector: __m512) -> [__m256; 2] {
        // SAFETY: a value of this type exists only where AVX-512F was seen.
        unsafe {
            let turns = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
            let parted = _mm512_permutexvar_ps(turns, vector);
            let second = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(parted));
            [_mm512_castps512_ps256(parted), _mm256_castpd_ps(second)]
        }
    }
}

// SAFETY: from the first number to the last of its twins it is `apart` and eight numbers, which `new` saw to be a number of ours.
unsafe impl Simd<f32> for Twin {
    type Vector = __m512;
    const LANES: usize = 8;
    const PIECES: usize = 2;
    type Whole = Avx512;

    #[inline(always)]
    fn whole(self) -> Avx512 {
        self.wide
    }
    #[inline(always)]
    fn run<W: Work<f32>>(self, work: W) {
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn compiled<W: Work<f32>>(simd: Twin, work: W) {
            work.on(simd);
        }
        // SAFETY: a value of this type exists only where AVX-512F, AVX2 and FMA were seen.
        unsafe { compiled(self, work) }
    }
    #[inline(always)]
    fn reach(self) -> usize {
        self.apart + Self::LANES
    }
    #[inline(always)]
    unsafe fn read(self, from: *const f32) -> __m512 {
        // SAFETY: the caller says that the first eight and those `apart` further may be read.
        let (first, second) = unsafe { (self.narrow().read(from), self.narrow().read(from.add(self.apart))) };
        self.join(first, second)
    }
    #[inline(always)]
    unsafe fn write(self, vector: __m512, to: *mut f32) {
        let [first, second] = self.part(vector);
        // SAFETY: the caller says that the first eight and those `apart` further may be written.
        unsafe {
            self.narrow().write(first, to);
            self.narrow().write(second, to.add(self.apart));
        }
    }
    #[inline(always)]
    fn load_each(self, values: &[f32]) -> __m512 {
        let each = self.narrow().load(values);
        self.join(each, each)
    }
    #[inline(always)]
    fn load_there(self, values: &[f32], at: usize, [first, second]: [bool; 2]) -> __m512 {
        let narrow = self.narrow();
        let first = narrow.load_there(values, at, [first, false]);
        let second = narrow.load_there(values, at.wrapping_add(self.apart), [second, false]);
        self.join(first, second)
    }
    #[inline(always)]
    fn store_there(self, vector: __m512, out: &mut [f32], at: usize, [first, second]: [bool; 2]) {
        let [one, other] = self.part(vector);
        self.narrow().store_there(one, out, at, [first, false]);
        self.narrow()
            .store_there(other, out, at.wrapping_add(self.apart), [second, false]);
    }
    #[inline(always)]
    fn splat_each(self, row: &[f32; PANEL], k: usize) -> __m512 {
        let pair = row[2 * k..2 * k + 2].as_ptr().cast::<f64>();
        // SAFETY: two numbers are there, as long as one f64, whose bits are any; a value of this type exists only where AVX-512F was
        // seen.
        unsafe { _mm512_castpd_ps(_mm512_set1_pd(pair.read_unaligned())) }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        self.wide.splat(value)
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        self.wide.add(a, b)
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        self.wide.sub(a, b)
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        self.wide.fma(a, b, sum)
    }
    #[inline(always)]
    fn not_below_zero(self, a: __m512) -> __m512 {
        self.wide.not_below_zero(a)
    }
    #[inline(always)]
    fn larger(self, a: __m512, b: __m512) -> __m512 {
        self.wide.larger(a, b)
    }
    #[inline(always)]
    fn gated(self, a: __m512, gate: __m512) -> __m512 {
        self.wide.gated(a, gate)
    }
    #[inline(always)]
    fn fetch(self, at: *const f32) {
        self.wide.fetch(at);
        self.wide.fetch(at.wrapping_add(self.apart));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Isa, run_twins};
    use super::*;

    const APART: usize = 11;

    /// What `act` makes of vectors of two pieces, where there are any.
    fn with_twins(act: impl Fn(Twin)) {
        struct Act<F>(F);
        impl<F: Fn(Twin)> Work<f32> for Act<F> {
            fn on<S: Simd<f32>>(self, simd: S) {
                assert_eq!((S::LANES, S::PIECES, simd.reach()), (8, 2, APART + 8));
                (self.0)(Twin::new(Avx512::detect().expect("it computes"), APART));
            }
        }
        match Avx512::detect() {
            Some(wide) => run_twins(Isa::Avx512(wide), APART, Act(act)),
            None => eprintln!("skipped: no AVX-512 here"),
        }
    }

    fn numbers() -> [f32; APART + 8] {
        std::array::from_fn(|n| n as f32)
    }

    fn lanes(simd: Twin, vector: __m512) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        simd.whole().store(vector, &mut lanes);
        lanes
    }

    #[test]
    fn numbers_take_turns_with_their_twins_and_return_to_their_places() {
        with_twins(|simd| {
            let loaded = simd.load(&numbers());
            let expected = std::array::from_fn(|n| (n / 2 + n % 2 * APART) as f32);
            assert_eq!(lanes(simd, loaded), expected);
            let mut out = [-1.0; APART + 8];
            simd.store(loaded, &mut out);
            for (n, (out, number)) in out.into_iter().zip(numbers()).enumerate() {
                let is_between = (8..APART).contains(&n);
                assert_eq!(out, if is_between { -1.0 } else { number });
            }
            let each = lanes(simd, simd.load_each(&numbers()[3..]));
            assert_eq!(each, std::array::from_fn(|n| (3 + n / 2) as f32));
        });
    }

    #[test]
    fn a_pair_of_numbers_is_spread_over_all_lanes() {
        with_twins(|simd| {
            let row = std::array::from_fn(|n| n as f32);
            for k in 0..8 {
                let spread = lanes(simd, simd.splat_each(&row, k));
                assert_eq!(spread, std::array::from_fn(|n| (2 * k + n % 2) as f32));
            }
        });
    }

    /// The first lies before the slice, the second beyond it, or neither is there.
    #[test]
    fn only_what_is_there_is_loaded_and_stored() {
        with_twins(|simd| {
            let numbers = numbers();
            for (at, there) in [
                (0_usize.wrapping_sub(APART), [false, true]),
                (APART, [true, false]),
                (0, [true, true]),
                (usize::MAX / 2, [false, false]),
            ] {
                let loaded = lanes(simd, simd.load_there(&numbers, at, there));
                let expected: [f32; 16] = std::array::from_fn(|n| match there[n % 2] {
                    true => numbers[at.wrapping_add(n % 2 * APART + n / 2)],
                    false => 0.0,
                });
                assert_eq!(loaded, expected, "{there:?}");
                let mut out = [-1.0; APART + 8];
                simd.store_there(simd.whole().splat(5.0), &mut out, at, there);
                let stored = |n: usize| {
                    (0..2).any(|piece| {
                        there[piece] && (0..8).contains(&n.wrapping_sub(at.wrapping_add(piece * APART)))
                    })
                };
                let expected: [f32; APART + 8] = std::array::from_fn(|n| if stored(n) { 5.0 } else { -1.0 });
                assert_eq!(out, expected, "{there:?}");
            }
        });
    }

    #[test]
    fn a_slice_too_short_for_the_second_is_refused() {
        with_twins(|simd| {
            let load = |from: usize| std::panic::catch_unwind(|| simd.load(&numbers()[from..])).is_ok();
            assert!(load(0) && !load(1));
            let far = std::panic::catch_unwind(|| Twin::new(simd.whole(), usize::MAX));
            assert!(far.is_err());
        });
    }
}
