//! Vectors of each instruction set, behind one set of names, and the choice between them at run time.
//!
//! A kernel is written once, as [`Work`] over any [`Simd`], and compiled for every instruction set. Values of an
//! instruction set's type exist only where the processor was seen to have it, so that its operations are safe to
//! call. The design is that of the crates `pulp` and `memchr`.

use std::sync::OnceLock;

use super::{PANEL, Real};

/// A kernel with its arguments. `on` and all it calls have to be `#[inline(always)]`: what is not inlined is compiled
/// without the instruction set.
pub trait Work<T: Real> {
    /// Does it with vectors of `simd`.
    fn on<S: Simd<T>>(self, simd: S);
}

/// Vectors of numbers `T`, for whoever holds a value of this type.
pub trait Simd<T: Real>: Copy {
    /// Some numbers side by side.
    type Vector: Copy;
    /// How many: 4, 8 or 16.
    const LANES: usize;
    /// Does `work`, compiled for this instruction set.
    fn run<W: Work<T>>(self, work: W);
    /// The same number in every lane.
    fn splat(self, value: T) -> Self::Vector;
    /// The first numbers of `values`.
    fn load(self, values: &[T]) -> Self::Vector;
    /// To the first places of `out`.
    fn store(self, vector: Self::Vector, out: &mut [T]);
    /// `a + b`
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a - b`
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + sum`
    fn fma(self, a: Self::Vector, b: Self::Vector, sum: Self::Vector) -> Self::Vector;
    /// The larger of each number and 0; 0 for what is no number.
    fn not_below_zero(self, a: Self::Vector) -> Self::Vector;

    /// `b` where it is larger than `a`, else `a`.
    fn larger(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a` where `gate` is above 0, else 0.
    fn gated(self, a: Self::Vector, gate: Self::Vector) -> Self::Vector;

    /// Rows become columns.
    #[inline(always)]
    fn transpose(self, block: &mut [[T; PANEL]; PANEL]) {
        for row in 1..PANEL {
            for column in 0..row {
                (block[row][column], block[column][row]) = (block[column][row], block[row][column]);
            }
        }
    }

    /// Has the line of memory that a value lies in brought to the caches, where the processor can be asked to.
    #[inline(always)]
    fn fetch(self, _: &T) {}

    /// 0 in every lane.
    #[inline(always)]
    fn zero(self) -> Self::Vector {
        self.splat(T::ZERO)
    }

    /// The first `count` numbers of `values`, 0 in the lanes beyond.
    #[inline(always)]
    fn load_some(self, values: &[T], count: usize) -> Self::Vector {
        if count == Self::LANES {
            return self.load(values);
        }
        let mut some = [T::ZERO; PANEL];
        some[..count].copy_from_slice(&values[..count]);
        self.load(&some)
    }

    /// The first `count` lanes to the first places of `out`.
    #[inline(always)]
    fn store_some(self, vector: Self::Vector, out: &mut [T], count: usize) {
        if count == Self::LANES {
            return self.store(vector, out);
        }
        let mut all = [T::ZERO; PANEL];
        self.store(vector, &mut all);
        out[..count].copy_from_slice(&all[..count]);
    }

    /// `a + factor * b`
    #[inline(always)]
    fn add_times(self, a: Self::Vector, factor: f64, b: Self::Vector) -> Self::Vector {
        self.fma(self.splat(T::of(factor)), b, a)
    }
}

/// Instruction sets with kernels of their own.
#[derive(Debug, Clone, Copy)]
pub enum Isa {
    /// Whatever the compiler makes of plain loops.
    Portable,
    /// AVX2 with fused multiply-add: 16 vectors of 8.
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    /// AVX-512: 32 vectors of 16.
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
    /// NEON: 32 vectors of 4.
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

impl Isa {
    /// All that this processor has, the widest last.
    pub fn known() -> Vec<Isa> {
        let mut known = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            known.extend(x86::Avx2::detect().map(Isa::Avx2));
            known.extend(x86::Avx512::detect().map(Isa::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        known.extend(neon::Neon::detect().map(Isa::Neon));
        known
    }

    /// The widest; or the one that `OVERTRACE_INSTRUCTIONS` names (`portable`, `avx2`), for trying out what another
    /// processor would do.
    pub fn detect() -> Isa {
        static CHOSEN: OnceLock<Isa> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let asked = std::env::var("OVERTRACE_INSTRUCTIONS").unwrap_or_default();
            let known = Isa::known();
            let widest = known[known.len() - 1];
            let is_asked = |isa: &Isa| !asked.is_empty() && isa.name().to_lowercase().starts_with(&asked);
            known.into_iter().find(is_asked).unwrap_or_else(|| {
                if !asked.is_empty() {
                    eprintln!(
                        "OVERTRACE_INSTRUCTIONS={asked} is unknown here; computing with {}",
                        widest.name()
                    );
                }
                widest
            })
        })
    }

    /// This one, or a narrower one whose vectors divide `channels`, a multiple of 8. They divide two numbers where they divide all
    /// of their bits.
    pub fn for_channels(self, channels: usize) -> Isa {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(avx512) if !self.divides(channels) => Isa::Avx2(avx512.narrower()),
            _ => {
                debug_assert!(self.divides(channels), "{channels} channels are no multiple of 8");
                self
            }
        }
    }

    fn divides(self, channels: usize) -> bool {
        channels.is_multiple_of(match self {
            Isa::Portable => 8,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => 8,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => 16,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => 4,
        })
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "AVX2 + FMA",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => "NEON",
        }
    }
}

/// `f32` has vectors of its own on every instruction set.
pub fn run_f32<W: Work<f32>>(isa: Isa, work: W) {
    match isa {
        Isa::Portable => Plain.run(work),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(simd) => simd.run(work),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(simd) => simd.run(work),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(simd) => simd.run(work),
    }
}

/// `f64` is for gradient checks, which need not be fast.
pub fn run_f64<W: Work<f64>>(_: Isa, work: W) {
    Plain.run(work);
}

/// Plain loops over numbers, compiled for an instruction set: their numbers become its vectors.
struct Plainly<F>(F);

impl<F: FnOnce()> Work<f32> for Plainly<F> {
    #[inline(always)]
    fn on<S: Simd<f32>>(self, _: S) {
        (self.0)();
    }
}

/// Does `work`, plain loops, with the widest vectors.
#[inline]
pub fn in_vectors(work: impl FnOnce()) {
    run_f32(Isa::detect(), Plainly(work));
}

/// Vectors that are plain arrays.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl<T: Real> Simd<T> for Plain {
    type Vector = [T; 8];
    const LANES: usize = 8;

    #[inline(always)]
    fn run<W: Work<T>>(self, work: W) {
        work.on(self);
    }
    #[inline(always)]
    fn splat(self, value: T) -> [T; 8] {
        [value; 8]
    }
    #[inline(always)]
    fn load(self, values: &[T]) -> [T; 8] {
        *values.first_chunk().expect("a vector lies in its slice")
    }
    #[inline(always)]
    fn store(self, vector: [T; 8], out: &mut [T]) {
        *out.first_chunk_mut().expect("a vector lies in its slice") = vector;
    }
    #[inline(always)]
    fn add(self, a: [T; 8], b: [T; 8]) -> [T; 8] {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }
    #[inline(always)]
    fn sub(self, a: [T; 8], b: [T; 8]) -> [T; 8] {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }
    #[inline(always)]
    fn fma(self, a: [T; 8], b: [T; 8], sum: [T; 8]) -> [T; 8] {
        std::array::from_fn(|lane| a[lane] * b[lane] + sum[lane])
    }
    #[inline(always)]
    fn not_below_zero(self, a: [T; 8]) -> [T; 8] {
        a.map(|value| if value > T::ZERO { value } else { T::ZERO })
    }
    #[inline(always)]
    fn larger(self, a: [T; 8], b: [T; 8]) -> [T; 8] {
        std::array::from_fn(|lane| if b[lane] > a[lane] { b[lane] } else { a[lane] })
    }
    #[inline(always)]
    fn gated(self, a: [T; 8], gate: [T; 8]) -> [T; 8] {
        std::array::from_fn(|lane| if gate[lane] > T::ZERO { a[lane] } else { T::ZERO })
    }
}

/// The vectors of one instruction set of `f32`.
macro_rules! vectors {
    ($token:ident, $feature:literal, $vector:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident,
     $add:ident, $sub:ident, $fma:expr, $max:ident, $gated:expr, $fetch:expr, $transpose:ident) => {
        impl Simd<f32> for $token {
            type Vector = $vector;
            const LANES: usize = $lanes;

            #[inline(always)]
            fn run<W: Work<f32>>(self, work: W) {
                #[target_feature(enable = $feature)]
                fn compiled<W: Work<f32>>(simd: $token, work: W) {
                    work.on(simd);
                }
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { compiled(self, work) }
            }
            #[inline(always)]
            fn splat(self, value: f32) -> $vector {
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $splat(value) }
            }
            #[inline(always)]
            fn load(self, values: &[f32]) -> $vector {
                let values = &values[..$lanes];
                // SAFETY: `values` has as many f32 as the vector takes, of any alignment; the features are there.
                unsafe { $load(values.as_ptr()) }
            }
            #[inline(always)]
            fn store(self, vector: $vector, out: &mut [f32]) {
                let out = &mut out[..$lanes];
                // SAFETY: `out` has room for as many f32 as the vector holds, of any alignment; the features are there.
                unsafe { $store(out.as_mut_ptr(), vector) }
            }
            #[inline(always)]
            fn add(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            fn sub(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $sub(a, b) }
            }
            #[inline(always)]
            fn fma(self, a: $vector, b: $vector, sum: $vector) -> $vector {
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $fma(a, b, sum) }
            }
            #[inline(always)]
            fn not_below_zero(self, a: $vector) -> $vector {
                // The second operand is the result where the first is no number.
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $max(a, $splat(0.0)) }
            }
            #[inline(always)]
            fn transpose(self, block: &mut [[f32; PANEL]; PANEL]) {
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $transpose(block) }
            }
            #[inline(always)]
            fn fetch(self, value: &f32) {
                $fetch(std::ptr::from_ref(value));
            }
            #[inline(always)]
            fn larger(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $max(b, a) }
            }
            #[inline(always)]
            fn gated(self, a: $vector, gate: $vector) -> $vector {
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $gated(a, gate) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    //! AVX2 and AVX-512.

    use std::arch::x86_64::*;

    use super::{PANEL, Simd, Work};

    /// Rows become columns: pairs of rows are interleaved, then pairs of pairs, then quarters of the vectors put in order.
    ///
    /// # Safety
    /// The processor has AVX-512F.
    #[inline(always)]
    unsafe fn transpose_16(block: &mut [[f32; PANEL]; PANEL]) {
        // SAFETY: the features are there; every row is as long as a vector.
        unsafe {
            let mut fours = [_mm512_setzero_ps(); 16];
            for group in 0..4 {
                let row = |n: usize| _mm512_castps_pd(_mm512_loadu_ps(block[4 * group + n].as_ptr()));
                let pair = |a: __m512d, b: __m512d| {
                    let (a, b) = (_mm512_castpd_ps(a), _mm512_castpd_ps(b));
                    let (low, high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                    (_mm512_castps_pd(low), _mm512_castps_pd(high))
                };
                let ((low, high), (low_2, high_2)) = (pair(row(0), row(1)), pair(row(2), row(3)));
                let found = [
                    _mm512_unpacklo_pd(low, low_2),
                    _mm512_unpackhi_pd(low, low_2),
                    _mm512_unpacklo_pd(high, high_2),
                    _mm512_unpackhi_pd(high, high_2),
                ];
                for (column, found) in found.into_iter().enumerate() {
                    fours[4 * group + column] = _mm512_castpd_ps(found);
                }
            }
            for column in 0..4 {
                let [a, b, c, d] = [
                    fours[column],
                    fours[4 + column],
                    fours[8 + column],
                    fours[12 + column],
                ];
                let (even, odd) = (
                    (
                        _mm512_shuffle_f32x4::<0x88>(a, b),
                        _mm512_shuffle_f32x4::<0x88>(c, d),
                    ),
                    (
                        _mm512_shuffle_f32x4::<0xdd>(a, b),
                        _mm512_shuffle_f32x4::<0xdd>(c, d),
                    ),
                );
                let found = [
                    _mm512_shuffle_f32x4::<0x88>(even.0, even.1),
                    _mm512_shuffle_f32x4::<0x88>(odd.0, odd.1),
                    _mm512_shuffle_f32x4::<0xdd>(even.0, even.1),
                    _mm512_shuffle_f32x4::<0xdd>(odd.0, odd.1),
                ];
                for (lane, found) in found.into_iter().enumerate() {
                    _mm512_storeu_ps(block[4 * lane + column].as_mut_ptr(), found);
                }
            }
        }
    }

    /// The same by quarters of the block.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn transpose_8(block: &mut [[f32; PANEL]; PANEL]) {
        // SAFETY: the features are there; every row is as long as two vectors.
        unsafe {
            let quarter = |block: &[[f32; PANEL]; PANEL], first: usize, from: usize| {
                let row = |n: usize| _mm256_loadu_ps(block[first + n][from..from + 8].as_ptr());
                let mut fours = [_mm256_setzero_ps(); 8];
                for group in 0..2 {
                    let (a, b) = (row(4 * group), row(4 * group + 1));
                    let (c, d) = (row(4 * group + 2), row(4 * group + 3));
                    let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                    let (low_2, high_2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                    fours[4 * group] = _mm256_shuffle_ps::<0x44>(low, low_2);
                    fours[4 * group + 1] = _mm256_shuffle_ps::<0xee>(low, low_2);
                    fours[4 * group + 2] = _mm256_shuffle_ps::<0x44>(high, high_2);
                    fours[4 * group + 3] = _mm256_shuffle_ps::<0xee>(high, high_2);
                }
                let mut found = fours;
                for column in 0..4 {
                    let (a, b) = (fours[column], fours[4 + column]);
                    found[column] = _mm256_permute2f128_ps::<0x20>(a, b);
                    found[4 + column] = _mm256_permute2f128_ps::<0x31>(a, b);
                }
                found
            };
            let found =
                [(0, 0), (0, 8), (8, 0), (8, 8)].map(|(row, from)| (from, row, quarter(block, row, from)));
            for (row, from, rows) in found {
                for (n, values) in rows.into_iter().enumerate() {
                    _mm256_storeu_ps(block[row + n][from..from + 8].as_mut_ptr(), values);
                }
            }
        }
    }

    /// Into every cache.
    #[inline(always)]
    fn fetch(value: *const f32) {
        // SAFETY: nothing is read; every x86-64 has the instruction.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(value.cast()) }
    }

    /// Proof of AVX2 and FMA.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx2(());

    impl Avx2 {
        /// If this processor has them.
        pub fn detect() -> Option<Avx2> {
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2(()))
        }
    }

    /// Proof of AVX-512F, and of AVX2 and FMA.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx512(Avx2);

    impl Avx512 {
        /// If this processor has them.
        pub fn detect() -> Option<Avx512> {
            Avx2::detect()
                .filter(|_| is_x86_feature_detected!("avx512f"))
                .map(Avx512)
        }

        /// The vectors of 8, for what is no multiple of 16.
        pub fn narrower(self) -> Avx2 {
            self.0
        }
    }

    vectors!(
        Avx512,
        "avx512f,avx2,fma",
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_fmadd_ps,
        _mm512_max_ps,
        |a, gate| _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), a),
        fetch,
        transpose_16
    );
    vectors!(
        Avx2,
        "avx2,fma",
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_fmadd_ps,
        _mm256_max_ps,
        |a, gate| _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), a),
        fetch,
        transpose_8
    );
}

#[cfg(target_arch = "aarch64")]
pub mod neon {
    //! NEON.

    use std::arch::aarch64::*;
    use std::arch::is_aarch64_feature_detected;

    use super::{PANEL, Simd, Work};

    /// Rows become columns.
    ///
    /// # Safety
    /// None is needed.
    #[inline(always)]
    unsafe fn transpose_4(block: &mut [[f32; PANEL]; PANEL]) {
        <super::Plain as Simd<f32>>::transpose(super::Plain, block);
    }

    /// Proof of NEON.
    #[derive(Debug, Clone, Copy)]
    pub struct Neon(());

    impl Neon {
        /// If this processor has it.
        pub fn detect() -> Option<Neon> {
            is_aarch64_feature_detected!("neon").then_some(Neon(()))
        }
    }

    vectors!(
        Neon,
        "neon",
        float32x4_t,
        4,
        vdupq_n_f32,
        vld1q_f32,
        vst1q_f32,
        vaddq_f32,
        vsubq_f32,
        |a, b, sum| vfmaq_f32(sum, a, b),
        vmaxnmq_f32,
        |a, gate| vreinterpretq_f32_u32(vandq_u32(vcgtzq_f32(gate), vreinterpretq_u32_f32(a))),
        |_| (),
        transpose_4
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Transpose<'a>(&'a mut [[f32; PANEL]; PANEL]);

    impl Work<f32> for Transpose<'_> {
        #[inline(always)]
        fn on<S: Simd<f32>>(self, s: S) {
            s.transpose(self.0);
        }
    }

    #[test]
    fn every_instruction_set_turns_rows_into_columns() {
        for isa in Isa::known() {
            let mut block: [[f32; PANEL]; PANEL] =
                std::array::from_fn(|row| std::array::from_fn(|column| (100 * row + column) as f32));
            run_f32(isa, Transpose(&mut block));
            for (row, column) in (0..PANEL * PANEL).map(|at| (at / PANEL, at % PANEL)) {
                assert_eq!(block[row][column], (100 * column + row) as f32, "{isa:?}");
            }
        }
    }
}
