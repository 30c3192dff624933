//! Vectors of each instruction set, behind one set of names, and the choice between them at run time.
//!
//! A kernel is written once, as [`Work`] over any [`Simd`], and compiled for every instruction set. Values of an
//! instruction set's type exist only where the processor was seen to have it, so that its operations are safe to
//! call. The design is that of the crates `pulp` and `memchr`.

use std::sync::OnceLock;

use super::Real;

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

    /// `a` where `gate` is above 0, else 0.
    fn gated(self, a: Self::Vector, gate: Self::Vector) -> Self::Vector;

    /// 0 in every lane.
    #[inline(always)]
    fn zero(self) -> Self::Vector {
        self.splat(T::ZERO)
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
    fn gated(self, a: [T; 8], gate: [T; 8]) -> [T; 8] {
        std::array::from_fn(|lane| if gate[lane] > T::ZERO { a[lane] } else { T::ZERO })
    }
}

/// The vectors of one instruction set of `f32`.
macro_rules! vectors {
    ($token:ident, $feature:literal, $vector:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident,
     $add:ident, $sub:ident, $fma:expr, $max:ident, $gated:expr) => {
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

    use super::{Simd, Work};

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
        |a, gate| _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), a)
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
        |a, gate| _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), a)
    );
}

#[cfg(target_arch = "aarch64")]
pub mod neon {
    //! NEON.

    use std::arch::aarch64::*;
    use std::arch::is_aarch64_feature_detected;

    use super::{Simd, Work};

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
        |a, gate| vreinterpretq_f32_u32(vandq_u32(vcgtzq_f32(gate), vreinterpretq_u32_f32(a)))
    );
}
