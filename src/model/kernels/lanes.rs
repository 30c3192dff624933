//! The innermost loops, once for each instruction set, and the choice between them at run time.

use super::product::Runs;
use super::{PANEL, ROWS, Sums};

/// Instruction sets with kernels of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Whatever the compiler makes of plain loops.
    Portable,
    /// AVX2 with fused multiply-add: 6 x 16 sums in registers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512: 12 x 32 sums in registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The widest that this processor has.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // Where there are vectors of 16 there are those of 8, for what is no multiple of 16.
                let wide = is_x86_feature_detected!("avx512f");
                return if wide { Isa::Avx512 } else { Isa::Avx2 };
            }
        }
        Isa::Portable
    }
}

/// One panel of packed weights, or two: `[k][channel]` each.
#[derive(Clone, Copy)]
pub struct Columns<'a, T> {
    /// The first panel.
    pub first: &'a [[T; PANEL]],
    /// The second, where there is one.
    pub second: Option<&'a [[T; PANEL]]>,
}

/// A walk over pixels, row by row, with an input and an output gradient at each.
#[derive(Clone, Copy)]
pub struct Sweep<'a, T> {
    /// Inputs, from the first of the rows of sums.
    pub x: &'a [T],
    /// Where each row of pixels begins in `x`.
    pub x_rows: &'a [usize],
    /// From pixel to pixel in `x`.
    pub x_step: usize,
    /// Inputs a pixel to sum: at most [`ROWS`].
    pub inputs: usize,
    /// Output gradients, from the first panel's first channel.
    pub y: &'a [T],
    /// Where each row of pixels begins in `y`.
    pub y_rows: &'a [usize],
    /// From pixel to pixel in `y`.
    pub y_step: usize,
    /// One panel or two.
    pub panels: usize,
    /// Pixels a row.
    pub width: usize,
}

macro_rules! portable {
    ($gather:ident, $multiply:ident, $sweep:ident, $t:ty) => {
        fn $multiply(x: &[$t], columns: Columns<'_, $t>, out: &mut [$t], step: usize) {
            let inputs = x.len() / ROWS;
            let panels = [Some(columns.first), columns.second];
            for (p, panel) in panels.into_iter().flatten().enumerate() {
                for (row, x) in x.chunks_exact(inputs).enumerate() {
                    let mut sums = [0.0; PANEL];
                    for (x, weights) in x.iter().zip(panel) {
                        for (sum, weight) in sums.iter_mut().zip(weights) {
                            *sum += x * weight;
                        }
                    }
                    out[row * step + p * PANEL..][..PANEL].copy_from_slice(&sums);
                }
            }
        }

        fn $gather(x: &[$t], at: &[usize; ROWS], runs: Runs, columns: Columns<'_, $t>, sums: &mut Sums<$t>) {
            let panels = [Some(columns.first), columns.second];
            for (p, panel) in panels.into_iter().flatten().enumerate() {
                for (sums, at) in sums.iter_mut().zip(at) {
                    for run in 0..runs.count {
                        let x = &x[at + run * runs.stride..][..runs.length];
                        for (x, weights) in x.iter().zip(&panel[run * runs.length..]) {
                            for (sum, weight) in sums[p].iter_mut().zip(weights) {
                                *sum += x * weight;
                            }
                        }
                    }
                }
            }
        }

        fn $sweep(sweep: &Sweep<'_, $t>, sums: &mut Sums<$t>) {
            for (x_row, y_row) in sweep.x_rows.iter().zip(sweep.y_rows) {
                for pixel in 0..sweep.width {
                    let x = &sweep.x[x_row + pixel * sweep.x_step..][..sweep.inputs];
                    let y = &sweep.y[y_row + pixel * sweep.y_step..][..sweep.panels * PANEL];
                    let (y, _) = y.as_chunks::<PANEL>();
                    for (x, sums) in x.iter().zip(sums.iter_mut()) {
                        for (y, sums) in y.iter().zip(sums) {
                            for (sum, y) in sums.iter_mut().zip(y) {
                                *sum += x * y;
                            }
                        }
                    }
                }
            }
        }
    };
}
portable!(
    portable_gather_f32,
    portable_multiply_f32,
    portable_sweep_f32,
    f32
);
portable!(
    portable_gather_f64,
    portable_multiply_f64,
    portable_sweep_f64,
    f64
);

/// Kernels over vectors of `f32`: `$held` pixels by `$vectors` vectors a panel by up to two panels.
#[cfg(target_arch = "x86_64")]
macro_rules! vectors {
    ($name:ident, $feature:literal, $vector:ident, $lanes:literal, $zero:ident, $splat:ident, $load:ident,
     $store:ident, $fma:ident, $add:ident) => {
        mod $name {
            use std::arch::x86_64::*;

            use super::{PANEL, Runs, Sums, Sweep};

            const VECTORS: usize = PANEL / $lanes;

            #[inline]
            #[target_feature(enable = $feature)]
            fn load(panel: &[f32; PANEL]) -> [$vector; VECTORS] {
                let mut vectors = [$zero(); VECTORS];
                for (vector, part) in vectors.iter_mut().zip(panel.as_chunks::<$lanes>().0) {
                    // SAFETY: `part` refers to exactly as many f32 as the vector takes; no alignment is asked for.
                    *vector = unsafe { $load(part.as_ptr()) };
                }
                vectors
            }

            #[inline]
            #[target_feature(enable = $feature)]
            fn add<const M: usize, const P: usize>(
                from: usize,
                first: usize,
                held: [[[$vector; VECTORS]; P]; M],
                sums: &mut Sums<f32>,
            ) {
                for (sums, held) in sums[from..][..M].iter_mut().zip(held) {
                    for (sums, held) in sums[first..][..P].iter_mut().zip(held) {
                        let before = load(sums);
                        for (v, part) in sums.as_chunks_mut::<$lanes>().0.iter_mut().enumerate() {
                            // SAFETY: `part` has room for exactly as many f32 as the vector holds.
                            unsafe { $store(part.as_mut_ptr(), $add(before[v], held[v])) };
                        }
                    }
                }
            }

            /// The sums of pixels `from .. from + M` and panels `first .. first + P`.
            #[target_feature(enable = $feature)]
            pub fn gather<const M: usize, const P: usize>(
                x: &[f32],
                at: &[usize],
                runs: Runs,
                panels: [&[[f32; PANEL]]; P],
                (from, first): (usize, usize),
                sums: &mut Sums<f32>,
            ) {
                let mut held = [[[$zero(); VECTORS]; P]; M];
                for run in 0..runs.count {
                    let mut rows: [&[f32]; M] = [&[]; M];
                    for (i, row) in rows.iter_mut().enumerate() {
                        *row = &x[at[from + i] + run * runs.stride..][..runs.length];
                    }
                    let mut weights: [&[[f32; PANEL]]; P] = [&[]; P];
                    for (p, weights) in weights.iter_mut().enumerate() {
                        *weights = &panels[p][run * runs.length..][..runs.length];
                    }
                    for k in 0..runs.length {
                        let mut w = [[$zero(); VECTORS]; P];
                        for p in 0..P {
                            w[p] = load(&weights[p][k]);
                        }
                        for i in 0..M {
                            let x = $splat(rows[i][k]);
                            for p in 0..P {
                                for v in 0..VECTORS {
                                    held[i][p][v] = $fma(x, w[p][v], held[i][p][v]);
                                }
                            }
                        }
                    }
                }
                add::<M, P>(from, first, held, sums);
            }

            /// `out[i][p] = sum over k of x[i][k] * panels[p][k]` for M items of `inputs` values.
            #[target_feature(enable = $feature)]
            pub fn multiply<const M: usize, const P: usize>(
                x: &[f32],
                inputs: usize,
                panels: [&[[f32; PANEL]]; P],
                out: &mut [f32],
                step: usize,
            ) {
                let mut held = [[[$zero(); VECTORS]; P]; M];
                let mut rows: [&[f32]; M] = [&[]; M];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = &x[i * inputs..][..inputs];
                }
                let panels = panels.map(|panel| &panel[..inputs]);
                for k in 0..inputs {
                    let mut w = [[$zero(); VECTORS]; P];
                    for p in 0..P {
                        w[p] = load(&panels[p][k]);
                    }
                    for i in 0..M {
                        let x = $splat(rows[i][k]);
                        for p in 0..P {
                            for v in 0..VECTORS {
                                held[i][p][v] = $fma(x, w[p][v], held[i][p][v]);
                            }
                        }
                    }
                }
                for (i, held) in held.into_iter().enumerate() {
                    let out = out[i * step..][..P * PANEL].as_chunks_mut::<$lanes>().0;
                    for (out, vector) in out.iter_mut().zip(held.into_iter().flatten()) {
                        // SAFETY: `out` has room for exactly as many f32 as the vector holds.
                        unsafe { $store(out.as_mut_ptr(), vector) };
                    }
                }
            }

            /// The sums of inputs `from .. from + M` and panels `first .. first + P`.
            #[target_feature(enable = $feature)]
            pub fn sweep<const M: usize, const P: usize>(
                sweep: &Sweep<'_, f32>,
                (from, first): (usize, usize),
                sums: &mut Sums<f32>,
            ) {
                let mut held = [[[$zero(); VECTORS]; P]; M];
                for (x_row, y_row) in sweep.x_rows.iter().zip(sweep.y_rows) {
                    let (mut x_at, mut y_at) = (x_row + from, y_row + first * PANEL);
                    for _ in 0..sweep.width {
                        let x: &[f32; M] = sweep.x[x_at..]
                            .first_chunk()
                            .expect("the inputs lie in the image");
                        let y = sweep.y[y_at..][..P * PANEL].as_chunks::<PANEL>().0;
                        let mut w = [[$zero(); VECTORS]; P];
                        for p in 0..P {
                            w[p] = load(&y[p]);
                        }
                        for i in 0..M {
                            let x = $splat(x[i]);
                            for p in 0..P {
                                for v in 0..VECTORS {
                                    held[i][p][v] = $fma(x, w[p][v], held[i][p][v]);
                                }
                            }
                        }
                        x_at += sweep.x_step;
                        y_at += sweep.y_step;
                    }
                }
                add::<M, P>(from, first, held, sums);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vectors!(
    avx512,
    "avx512f",
    __m512,
    16,
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps
);
#[cfg(target_arch = "x86_64")]
vectors!(
    avx2,
    "avx2,fma",
    __m256,
    8,
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps
);

/// `sums[i][p] += sum over k of x[at[i] + k] * columns[p][k]`.
pub fn gather_f32(
    isa: Isa,
    x: &[f32],
    at: &[usize; ROWS],
    runs: Runs,
    columns: Columns<'_, f32>,
    sums: &mut Sums<f32>,
) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` is this one only where `Isa::detect` saw AVX-512F on this processor.
        Isa::Avx512 => unsafe {
            match columns.second {
                Some(second) => avx512::gather::<12, 2>(x, at, runs, [columns.first, second], (0, 0), sums),
                None => avx512::gather::<12, 1>(x, at, runs, [columns.first], (0, 0), sums),
            }
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            for (p, panel) in [Some(columns.first), columns.second]
                .into_iter()
                .flatten()
                .enumerate()
            {
                for from in [0, 6] {
                    // SAFETY: an `Isa` is this one only where `Isa::detect` saw AVX2 and FMA on this processor.
                    unsafe { avx2::gather::<6, 1>(x, at, runs, [panel], (from, p), sums) };
                }
            }
        }
        Isa::Portable => portable_gather_f32(x, at, runs, columns, sums),
    }
}

/// `out[i * step + p * 16 ..] = sum over k of x[i][k] * columns[p][k]` for [`ROWS`] items.
pub fn multiply_f32(isa: Isa, x: &[f32], columns: Columns<'_, f32>, out: &mut [f32], step: usize) {
    #[cfg(target_arch = "x86_64")]
    let inputs = x.len() / ROWS;
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` is this one only where `Isa::detect` saw AVX-512F on this processor.
        Isa::Avx512 => unsafe {
            match columns.second {
                Some(second) => avx512::multiply::<12, 2>(x, inputs, [columns.first, second], out, step),
                None => avx512::multiply::<12, 1>(x, inputs, [columns.first], out, step),
            }
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            let panels = [Some(columns.first), columns.second];
            for (p, panel) in panels.into_iter().flatten().enumerate() {
                for from in [0, 6] {
                    let (x, out) = (&x[from * inputs..], &mut out[from * step + p * PANEL..]);
                    // SAFETY: an `Isa` is this one only where `Isa::detect` saw AVX2 and FMA on this processor.
                    unsafe { avx2::multiply::<6, 1>(x, inputs, [panel], out, step) };
                }
            }
        }
        Isa::Portable => portable_multiply_f32(x, columns, out, step),
    }
}

/// [`multiply_f32`] in double precision, for the gradient checks.
pub fn multiply_f64(_: Isa, x: &[f64], columns: Columns<'_, f64>, out: &mut [f64], step: usize) {
    portable_multiply_f64(x, columns, out, step);
}

/// `sums[i][p] += sum over pixels of x[i] * y[p]`.
pub fn sweep_f32(isa: Isa, sweep: &Sweep<'_, f32>, sums: &mut Sums<f32>) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` is this one only where `Isa::detect` saw AVX-512F on this processor.
        Isa::Avx512 if [8, ROWS].contains(&sweep.inputs) => unsafe {
            match (sweep.inputs, sweep.panels) {
                (8, 1) => avx512::sweep::<8, 1>(sweep, (0, 0), sums),
                (8, _) => avx512::sweep::<8, 2>(sweep, (0, 0), sums),
                (_, 1) => avx512::sweep::<12, 1>(sweep, (0, 0), sums),
                (..) => avx512::sweep::<12, 2>(sweep, (0, 0), sums),
            }
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if [8, ROWS].contains(&sweep.inputs) => {
            for p in 0..sweep.panels {
                // SAFETY: an `Isa` is this one only where `Isa::detect` saw AVX2 and FMA on this processor.
                unsafe {
                    if sweep.inputs == 8 {
                        avx2::sweep::<4, 1>(sweep, (0, p), sums);
                        avx2::sweep::<4, 1>(sweep, (4, p), sums);
                    } else {
                        avx2::sweep::<6, 1>(sweep, (0, p), sums);
                        avx2::sweep::<6, 1>(sweep, (6, p), sums);
                    }
                }
            }
        }
        _ => portable_sweep_f32(sweep, sums),
    }
}

/// [`gather_f32`] in double precision, for the gradient checks.
pub fn gather_f64(
    _: Isa,
    x: &[f64],
    at: &[usize; ROWS],
    runs: Runs,
    columns: Columns<'_, f64>,
    sums: &mut Sums<f64>,
) {
    portable_gather_f64(x, at, runs, columns, sums);
}

/// [`sweep_f32`] in double precision, for the gradient checks.
pub fn sweep_f64(_: Isa, sweep: &Sweep<'_, f64>, sums: &mut Sums<f64>) {
    portable_sweep_f64(sweep, sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This processor's instruction sets, the portable one left out.
    fn others() -> Vec<Isa> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Isa::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                sets.push(Isa::Avx512);
            }
        }
        sets
    }

    fn numbers(n: usize) -> Vec<f32> {
        // Small whole numbers: every order of summing gives the same sum.
        (0..n).map(|i| (i * 31 % 15) as f32 - 7.0).collect()
    }

    #[test]
    fn every_instruction_set_gathers_the_same() {
        let (x, weights) = (numbers(400), numbers(2 * 10 * PANEL));
        let runs = Runs {
            count: 2,
            length: 5,
            stride: 40,
        };
        let at = std::array::from_fn(|i| 23 * i + i % 3);
        let (first, second) = weights.as_chunks::<PANEL>().0.split_at(10);
        for second in [Some(second), None] {
            let columns = Columns { first, second };
            let mut expected = [[[1.0; PANEL]; 2]; ROWS];
            gather_f32(Isa::Portable, &x, &at, runs, columns, &mut expected);
            for isa in others() {
                let mut sums = [[[1.0; PANEL]; 2]; ROWS];
                gather_f32(isa, &x, &at, runs, columns, &mut sums);
                assert_eq!(sums, expected, "{isa:?}");
            }
        }
    }

    #[test]
    fn every_instruction_set_multiplies_the_same() {
        let (x, weights) = (numbers(ROWS * 10), numbers(2 * 10 * PANEL));
        let (first, second) = weights.as_chunks::<PANEL>().0.split_at(10);
        for second in [Some(second), None] {
            let columns = Columns { first, second };
            let mut expected = vec![1.0; ROWS * 40];
            multiply_f32(Isa::Portable, &x, columns, &mut expected, 40);
            for isa in others() {
                let mut out = vec![1.0; ROWS * 40];
                multiply_f32(isa, &x, columns, &mut out, 40);
                assert_eq!(out, expected, "{isa:?}");
            }
        }
    }

    #[test]
    fn every_instruction_set_sweeps_the_same() {
        let (x, y) = (numbers(400), numbers(400));
        for (panels, inputs) in [(1, ROWS), (2, ROWS), (1, 8), (2, 8), (2, 3)] {
            let sweep = Sweep {
                x: &x,
                x_rows: &[0, 150],
                x_step: 13,
                inputs,
                y: &y,
                y_rows: &[1, 170],
                y_step: 32,
                panels,
                width: 5,
            };
            let mut expected = [[[1.0; PANEL]; 2]; ROWS];
            sweep_f32(Isa::Portable, &sweep, &mut expected);
            for isa in others() {
                let mut sums = [[[1.0; PANEL]; 2]; ROWS];
                sweep_f32(isa, &sweep, &mut sums);
                assert_eq!(sums, expected, "{isa:?}");
            }
        }
    }
}
