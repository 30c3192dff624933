//! Vectors of each instruction set, behind one set of names, and the choice between them at run time.
//!
//! A kernel is written once, as [`Work`] over any [`Simd`], and compiled for every instruction set. Values of an
//! instruction set's type exist only where the processor was seen to have it, so that its operations are safe to
//! call. The design is that of the crates `pulp` and `memchr`.

mod grid;

use std::sync::OnceLock;

use super::{PANEL, Real};
pub use grid::{Grid, GridMut, Steps, Stretches};

/// A kernel with its arguments. `on` and all it calls have to be `#[inline(always)]`: what is not inlined is compiled
/// without the instruction set.
pub trait Work<T: Real> {
    /// Does it with vectors of `simd`.
    fn on<S: Simd<T>>(self, simd: S);
}

/// Vectors of numbers `T`, for whoever holds a value of this type.
///
/// # Safety
/// A vector has `LANES` numbers of each of its pieces, at most [`PANEL`] in all; `read` and `write` touch those from the first to
/// before the one that is [`Simd::reach`] further, which is always the same for one value of this type.
pub unsafe trait Simd<T: Real>: Copy {
    /// Some numbers side by side.
    type Vector: Copy;
    /// How many, of one piece of memory: 4, 8 or 16.
    const LANES: usize;
    /// From how many pieces of memory they are.
    const PIECES: usize = 1;
    /// How many they are in all.
    const WIDTH: usize = Self::LANES * Self::PIECES;
    /// The same vectors, taken from one piece as they are.
    type Whole: Simd<T, Vector = Self::Vector>;
    /// Those.
    fn whole(self) -> Self::Whole;
    /// Does `work`, compiled for this instruction set.
    fn run<W: Work<T>>(self, work: W);
    /// The same number in every lane.
    fn splat(self, value: T) -> Self::Vector;
    /// The numbers at `from`.
    ///
    /// # Safety
    /// As many as a vector reaches over may be read there, of any alignment.
    unsafe fn read(self, from: *const T) -> Self::Vector;
    /// To the place at `to`.
    ///
    /// # Safety
    /// As many as a vector reaches over may be written there, of any alignment.
    unsafe fn write(self, vector: Self::Vector, to: *mut T);
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

    /// Numbers from the first of a vector's to after the last.
    #[inline(always)]
    fn reach(self) -> usize {
        Self::LANES
    }

    /// The `k`-th number of each piece of a row, in all of its lanes.
    #[inline(always)]
    fn splat_each(self, row: &[T; PANEL], k: usize) -> Self::Vector {
        self.splat(row[k])
    }

    /// The first numbers of `values`, for each piece.
    #[inline(always)]
    fn load_each(self, values: &[T]) -> Self::Vector {
        self.load(values)
    }

    /// The numbers at `at` of the pieces that are there, 0 of the others.
    #[inline(always)]
    fn load_there(self, values: &[T], at: usize, [there, _]: [bool; 2]) -> Self::Vector {
        if there {
            self.load(&values[at..])
        } else {
            self.zero()
        }
    }

    /// To the places at `at` of the pieces that are there.
    #[inline(always)]
    fn store_there(self, vector: Self::Vector, out: &mut [T], at: usize, [there, _]: [bool; 2]) {
        if there {
            self.store(vector, &mut out[at..]);
        }
    }

    /// The first numbers of `values`.
    #[inline(always)]
    fn load(self, values: &[T]) -> Self::Vector {
        let values = &values[..self.reach()];
        // SAFETY: they are as many as a vector reaches over.
        unsafe { self.read(values.as_ptr()) }
    }

    /// To the first places of `out`.
    #[inline(always)]
    fn store(self, vector: Self::Vector, out: &mut [T]) {
        let out = &mut out[..self.reach()];
        // SAFETY: they are as many as a vector reaches over.
        unsafe { self.write(vector, out.as_mut_ptr()) }
    }

    /// Rows become columns.
    #[inline(always)]
    fn transpose(self, block: &mut [[T; PANEL]; PANEL]) {
        let rows = *block;
        for (n, row) in block.iter_mut().enumerate() {
            *row = std::array::from_fn(|column| rows[column][n]);
        }
    }

    /// Has the line of memory at a place brought to the caches, where the processor can be asked to; nothing is read, so that it may
    /// be any place.
    #[inline(always)]
    fn fetch(self, _: *const T) {}

    /// 0 in every lane.
    #[inline(always)]
    fn zero(self) -> Self::Vector {
        self.splat(T::ZERO)
    }

    /// `count` numbers at `from`, fewer than a vector has, and 0 in the lanes beyond.
    ///
    /// # Safety
    /// As many may be read there, of any alignment.
    #[inline(always)]
    unsafe fn read_some(self, from: *const T, count: usize) -> Self::Vector {
        let mut some = [T::ZERO; PANEL];
        // SAFETY: the caller says that they may be read; they are fewer than there is room for.
        unsafe { from.copy_to_nonoverlapping(some.as_mut_ptr(), count) };
        self.load(&some)
    }

    /// The first `count` lanes, fewer than all, to the places at `to`.
    ///
    /// # Safety
    /// As many may be written there, of any alignment.
    #[inline(always)]
    unsafe fn write_some(self, vector: Self::Vector, to: *mut T, count: usize) {
        let mut all = [T::ZERO; PANEL];
        self.store(vector, &mut all);
        // SAFETY: the caller says that they may be written; they are fewer than there are.
        unsafe { to.copy_from_nonoverlapping(all.as_ptr(), count) };
    }

    /// The first `count` numbers of `values`, 0 in the lanes beyond.
    #[inline(always)]
    fn load_some(self, values: &[T], count: usize) -> Self::Vector {
        const { assert!(Self::PIECES == 1, "a part of a vector lies in one piece") };
        if count >= Self::LANES {
            return self.load(values);
        }
        // SAFETY: `count` of them are there.
        unsafe { self.read_some(values[..count].as_ptr(), count) }
    }

    /// The first `count` lanes to the first places of `out`.
    #[inline(always)]
    fn store_some(self, vector: Self::Vector, out: &mut [T], count: usize) {
        const { assert!(Self::PIECES == 1, "a part of a vector lies in one piece") };
        if count >= Self::LANES {
            return self.store(vector, out);
        }
        // SAFETY: there is room for `count` of them.
        unsafe { self.write_some(vector, out[..count].as_mut_ptr(), count) }
    }

    /// The sum of all lanes.
    #[inline(always)]
    fn sum(self, a: Self::Vector) -> T {
        let mut lanes = [T::ZERO; PANEL];
        self.whole().store(a, &mut lanes);
        let mut width = PANEL / 2;
        while width > 0 {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
            width /= 2;
        }
        lanes[0]
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

/// Whether `f32` has vectors of two pieces of memory.
pub fn has_twins(isa: Isa) -> bool {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => true,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => false,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => false,
        Isa::Portable => false,
    }
}

/// Does `work` with vectors of two pieces of memory, the second `apart` further than the first.
///
/// Panics on an instruction set that has none.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "there are none")
)]
pub fn run_twins<W: Work<f32>>(isa: Isa, apart: usize, work: W) {
    #[cfg(target_arch = "x86_64")]
    if let Isa::Avx512(wide) = isa {
        return twin::Twin::new(wide, apart).run(work);
    }
    panic!("{} has no vectors of two pieces", isa.name());
}

/// `f64` has no vectors of two pieces.
pub fn no_twins<W: Work<f64>>(_: Isa, _: usize, _: W) {
    panic!("f64 has no vectors of two pieces");
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

// SAFETY: an array of 8 is 8 numbers.
unsafe impl<T: Real> Simd<T> for Plain {
    type Vector = [T; 8];
    const LANES: usize = 8;
    type Whole = Self;

    #[inline(always)]
    fn whole(self) -> Self {
        self
    }

    #[inline(always)]
    fn run<W: Work<T>>(self, work: W) {
        work.on(self);
    }
    #[inline(always)]
    fn splat(self, value: T) -> [T; 8] {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn read(self, from: *const T) -> [T; 8] {
        // SAFETY: the caller says that 8 numbers may be read there; read as unaligned.
        unsafe { from.cast::<[T; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn write(self, vector: [T; 8], to: *mut T) {
        // SAFETY: the caller says that 8 numbers may be written there.
        unsafe { to.cast::<[T; 8]>().write_unaligned(vector) }
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
     $add:ident, $sub:ident, $fma:expr, $max:ident, $larger:expr, $gated:expr, $fetch:expr, $transpose:ident
     $(, some: $read_some:ident, $write_some:ident)?) => {
        // SAFETY: who names the vector says how many numbers it has, and loads and stores it whole.
        unsafe impl Simd<f32> for $token {
            type Vector = $vector;
            const LANES: usize = $lanes;
            type Whole = Self;

            #[inline(always)]
            fn whole(self) -> Self {
                self
            }
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
            unsafe fn read(self, from: *const f32) -> $vector {
                // SAFETY: the caller says that as many f32 as the vector takes may be read there; the features are there.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn write(self, vector: $vector, to: *mut f32) {
                // SAFETY: the caller says that as many f32 as the vector holds may be written there; the features are there.
                unsafe { $store(to, vector) }
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
            fn fetch(self, at: *const f32) {
                $fetch(at);
            }
            #[inline(always)]
            fn larger(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $larger(a, b) }
            }
            #[inline(always)]
            fn gated(self, a: $vector, gate: $vector) -> $vector {
                // SAFETY: a value of this type exists only where `detect` saw the features.
                unsafe { $gated(a, gate) }
            }
            $(
                #[inline(always)]
                unsafe fn read_some(self, from: *const f32, count: usize) -> $vector {
                    // SAFETY: the caller says that `count` numbers may be read there; the features are there.
                    unsafe { $read_some(from, count) }
                }
                #[inline(always)]
                unsafe fn write_some(self, vector: $vector, to: *mut f32, count: usize) {
                    // SAFETY: the caller says that `count` numbers may be written there; the features are there.
                    unsafe { $write_some(vector, to, count) }
                }
            )?
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod twin;
#[cfg(target_arch = "x86_64")]
pub mod x86;

#[cfg(target_arch = "aarch64")]
pub mod neon;

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

    /// Some numbers of a slice to another, `count` at a time where a vector has more.
    struct CopySome<'a> {
        from: &'a [f32],
        to: &'a mut [f32],
        count: usize,
        /// How many were copied.
        copied: &'a mut usize,
    }

    impl Work<f32> for CopySome<'_> {
        #[inline(always)]
        fn on<S: Simd<f32>>(self, s: S) {
            let count = self.count.min(S::LANES);
            *self.copied = count;
            let vector = s.load_some(self.from, count);
            s.store_some(s.add(vector, vector), self.to, count);
            let mut lanes = [-1.0; PANEL];
            s.store(vector, &mut lanes);
            assert!(lanes[count..S::LANES].iter().all(|lane| *lane == 0.0));
        }
    }

    /// From the end of a slice: none but those asked for are there.
    #[test]
    fn every_instruction_set_loads_and_stores_a_part_of_a_vector() {
        let from: Vec<f32> = (1..=16).map(|n| n as f32).collect();
        for (isa, count) in Isa::known()
            .into_iter()
            .flat_map(|isa| (0..=16).map(move |n| (isa, n)))
        {
            let (mut to, mut copied) = (vec![-1.0; 16], 0);
            let some = CopySome {
                from: &from[16 - count..],
                to: &mut to,
                count,
                copied: &mut copied,
            };
            run_f32(isa, some);
            assert!(copied == count || copied == 4 || copied == 8, "{isa:?}");
            for (n, to) in to.into_iter().enumerate() {
                let expected = if n < copied {
                    2.0 * from[16 - count + n]
                } else {
                    -1.0
                };
                assert_eq!(to, expected, "{isa:?}: {count}, {n}");
            }
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
