//! The transforms of one tile, channel by channel, for each instruction set.

use super::{EDGE, PLACES};
use crate::model::kernels::lanes::Isa;
use crate::model::kernels::product::Finish;

/// Where the pixels of a tile lie in an image, from their first channel; `None` beyond the image.
pub type Pixels<const P: usize> = [Option<usize>; P];

/// Where a transformed tile lies.
#[derive(Debug, Clone, Copy)]
pub struct Spot {
    /// Its first place's first channel.
    pub first: usize,
    /// From place to place.
    pub stride: usize,
    /// Channels of a tile: a multiple of 8.
    pub channels: usize,
}

/// The transforms of the numbers that kernels compute with.
pub trait Lines: Sized {
    /// `B' d B` of a tile's 6x6 pixels, to `out`.
    fn spread_input(isa: Isa, images: &[Self], at: &Pixels<PLACES>, out: &mut [Self], spot: Spot);
    /// `A dY A'` of a tile's 4x4 pixels, to `out`.
    fn spread_gradient(isa: Isa, images: &[Self], at: &Pixels<16>, out: &mut [Self], spot: Spot);
    /// `A' m A` of a tile of `products`, finished, to its 4x4 pixels.
    fn gather_output(
        isa: Isa,
        products: &[Self],
        spot: Spot,
        finish: Finish<'_, Self>,
        out: &mut [Self],
        at: &Pixels<16>,
    );
}

/// Vectors of an x86 instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_vectors {
    ($name:ident, $feature:literal, $vector:ident, $lanes:literal, $zero:ident, $splat:ident, $load:ident,
     $store:ident, $add:ident, $sub:ident, $fma:ident, $max:ident) => {
        mod $name {
            use std::arch::x86_64::*;

            pub type Number = f32;
            pub type Vector = $vector;
            pub const LANES: usize = $lanes;

            #[inline]
            #[target_feature(enable = $feature)]
            pub fn zero() -> Vector {
                $zero()
            }

            #[inline]
            #[target_feature(enable = $feature)]
            pub fn load(values: &[f32; LANES]) -> Vector {
                // SAFETY: `values` refers to exactly as many f32 as the vector takes; no alignment is asked for.
                unsafe { $load(values.as_ptr()) }
            }

            #[inline]
            #[target_feature(enable = $feature)]
            pub fn store(vector: Vector, out: &mut [f32; LANES]) {
                // SAFETY: `out` has room for exactly as many f32 as the vector holds; no alignment is asked for.
                unsafe { $store(out.as_mut_ptr(), vector) }
            }

            #[inline]
            #[target_feature(enable = $feature)]
            pub fn add(a: Vector, b: Vector) -> Vector {
                $add(a, b)
            }

            #[inline]
            #[target_feature(enable = $feature)]
            pub fn sub(a: Vector, b: Vector) -> Vector {
                $sub(a, b)
            }

            #[inline]
            #[target_feature(enable = $feature)]
            pub fn add_times(a: Vector, factor: f32, b: Vector) -> Vector {
                $fma($splat(factor), b, a)
            }

            #[inline]
            #[target_feature(enable = $feature)]
            pub fn not_below_zero(a: Vector) -> Vector {
                // The second operand is the result where the first is no number.
                $max(a, $zero())
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
x86_vectors!(
    avx512_vectors,
    "avx512f",
    __m512,
    16,
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_fmadd_ps,
    _mm512_max_ps
);
#[cfg(target_arch = "x86_64")]
x86_vectors!(
    avx2_vectors,
    "avx2,fma",
    __m256,
    8,
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_fmadd_ps,
    _mm256_max_ps
);

/// Vectors that are plain arrays.
macro_rules! plain_vectors {
    ($name:ident, $number:ty) => {
        mod $name {
            pub type Number = $number;
            pub type Vector = [Number; LANES];
            pub const LANES: usize = 8;

            #[inline]
            pub fn zero() -> Vector {
                [0.0; LANES]
            }

            #[inline]
            pub fn load(values: &[Number; LANES]) -> Vector {
                *values
            }

            #[inline]
            pub fn store(vector: Vector, out: &mut [Number; LANES]) {
                *out = vector;
            }

            #[inline]
            pub fn add(a: Vector, b: Vector) -> Vector {
                std::array::from_fn(|lane| a[lane] + b[lane])
            }

            #[inline]
            pub fn sub(a: Vector, b: Vector) -> Vector {
                std::array::from_fn(|lane| a[lane] - b[lane])
            }

            #[inline]
            pub fn add_times(a: Vector, factor: Number, b: Vector) -> Vector {
                std::array::from_fn(|lane| a[lane] + factor * b[lane])
            }

            #[inline]
            pub fn not_below_zero(a: Vector) -> Vector {
                a.map(|value| if value > 0.0 { value } else { 0.0 })
            }
        }
    };
}
plain_vectors!(f32_vectors, f32);
plain_vectors!(f64_vectors, f64);

/// The transforms over some kind of vector.
macro_rules! transforms {
    ($name:ident, $vectors:ident, $(#[$attribute:meta])*) => {
        mod $name {
            use super::$vectors::*;
            use super::{EDGE, Finish, PLACES, Pixels, Spot};

            /// One line of `B' d`.
            #[inline]
            $(#[$attribute])*
            fn input_line([d0, d1, d2, d3, d4, d5]: [Vector; 6]) -> [Vector; 6] {
                let (even, odd) = (add_times(d4, -4.0, d2), add_times(d3, -4.0, d1));
                let (near, far) = (sub(d4, d2), sub(d3, d1));
                [
                    add_times(add_times(d4, -5.0, d2), 4.0, d0),
                    add(even, odd),
                    sub(even, odd),
                    add_times(near, 2.0, far),
                    add_times(near, -2.0, far),
                    add_times(add_times(d5, -5.0, d3), 4.0, d1),
                ]
            }

            /// One line of `A' m`.
            #[inline]
            $(#[$attribute])*
            fn output_line([m0, m1, m2, m3, m4, m5]: [Vector; 6]) -> [Vector; EDGE] {
                let (near, near_off) = (add(m1, m2), sub(m1, m2));
                let (far, far_off) = (add(m3, m4), sub(m3, m4));
                [
                    add(add(m0, near), far),
                    add_times(near_off, 2.0, far_off),
                    add_times(near, 4.0, far),
                    add(add_times(near_off, 8.0, far_off), m5),
                ]
            }

            /// One line of `A y`, the transpose of [`output_line`].
            #[inline]
            $(#[$attribute])*
            fn gradient_line([y0, y1, y2, y3]: [Vector; EDGE]) -> [Vector; 6] {
                let (even, odd) = (add(y0, y2), add(y1, y3));
                let far_even = add_times(y0, 4.0, y2);
                let far_odd = add_times(add(y1, y1), 8.0, y3);
                [
                    y0,
                    add(even, odd),
                    sub(even, odd),
                    add(far_even, far_odd),
                    sub(far_even, far_odd),
                    y3,
                ]
            }

            #[inline]
            $(#[$attribute])*
            fn pixel(images: &[Number], at: Option<usize>, channel: usize) -> Vector {
                match at {
                    Some(at) => load(images[at + channel..].first_chunk().expect("channels lie in their image")),
                    None => zero(),
                }
            }

            #[inline]
            $(#[$attribute])*
            fn put(vector: Vector, out: &mut [Number], at: usize) {
                store(vector, out[at..].first_chunk_mut().expect("channels lie in their image"));
            }

            #[inline]
            $(#[$attribute])*
            fn put_rows(columns: [[Vector; 6]; 6], out: &mut [Number], spot: Spot, channel: usize) {
                for row in 0..6 {
                    let [a, b, c, d, e, f] = &columns;
                    let line = input_line([a[row], b[row], c[row], d[row], e[row], f[row]]);
                    for (x, vector) in line.into_iter().enumerate() {
                        put(vector, out, spot.first + (6 * row + x) * spot.stride + channel);
                    }
                }
            }

            $(#[$attribute])*
            pub fn spread_input(images: &[Number], at: &Pixels<PLACES>, out: &mut [Number], spot: Spot) {
                for channel in (0..spot.channels).step_by(LANES) {
                    let column = |x: usize| {
                        input_line([
                            pixel(images, at[x], channel),
                            pixel(images, at[6 + x], channel),
                            pixel(images, at[12 + x], channel),
                            pixel(images, at[18 + x], channel),
                            pixel(images, at[24 + x], channel),
                            pixel(images, at[30 + x], channel),
                        ])
                    };
                    let columns = [column(0), column(1), column(2), column(3), column(4), column(5)];
                    put_rows(columns, out, spot, channel);
                }
            }

            $(#[$attribute])*
            pub fn spread_gradient(images: &[Number], at: &Pixels<16>, out: &mut [Number], spot: Spot) {
                for channel in (0..spot.channels).step_by(LANES) {
                    let column = |x: usize| {
                        gradient_line([
                            pixel(images, at[x], channel),
                            pixel(images, at[4 + x], channel),
                            pixel(images, at[8 + x], channel),
                            pixel(images, at[12 + x], channel),
                        ])
                    };
                    let [a, b, c, d] = [column(0), column(1), column(2), column(3)];
                    for row in 0..6 {
                        let line = gradient_line([a[row], b[row], c[row], d[row]]);
                        for (x, vector) in line.into_iter().enumerate() {
                            put(vector, out, spot.first + (6 * row + x) * spot.stride + channel);
                        }
                    }
                }
            }

            $(#[$attribute])*
            pub fn gather_output(
                products: &[Number],
                spot: Spot,
                finish: Finish<'_, Number>,
                out: &mut [Number],
                at: &Pixels<16>,
            ) {
                for channel in (0..spot.channels).step_by(LANES) {
                    let place = |p: usize| pixel(products, Some(spot.first + p * spot.stride), channel);
                    let column = |x: usize| {
                        output_line([place(x), place(6 + x), place(12 + x), place(18 + x), place(24 + x), place(30 + x)])
                    };
                    let [a, b, c, d, e, f] = [column(0), column(1), column(2), column(3), column(4), column(5)];
                    let bias = pixel(finish.bias, (!finish.bias.is_empty()).then_some(0), channel);
                    for row in 0..EDGE {
                        let line = output_line([a[row], b[row], c[row], d[row], e[row], f[row]]);
                        for (vector, at) in line.into_iter().zip(&at[EDGE * row..]) {
                            let sum = add(vector, bias);
                            if let Some(at) = at {
                                put(if finish.relu { not_below_zero(sum) } else { sum }, out, at + channel);
                            }
                        }
                    }
                }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
transforms!(avx512, avx512_vectors, #[target_feature(enable = "avx512f")]);
#[cfg(target_arch = "x86_64")]
transforms!(avx2, avx2_vectors, #[target_feature(enable = "avx2,fma")]);
transforms!(plain_f32, f32_vectors,);
transforms!(plain_f64, f64_vectors,);

/// Calls a transform of the set `isa`; vectors of 16 need a multiple of 16 channels.
macro_rules! of_isa {
    ($isa:expr, $channels:expr, $transform:ident($($argument:expr),*)) => {
        match $isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` is this one only where `Isa::detect` saw AVX-512F on this processor.
            Isa::Avx512 if $channels.is_multiple_of(16) => unsafe { avx512::$transform($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::detect` gives either only where it saw AVX2 and FMA on this processor.
            Isa::Avx512 | Isa::Avx2 => unsafe { avx2::$transform($($argument),*) },
            Isa::Portable => plain_f32::$transform($($argument),*),
        }
    };
}

impl Lines for f32 {
    fn spread_input(isa: Isa, images: &[f32], at: &Pixels<PLACES>, out: &mut [f32], spot: Spot) {
        of_isa!(isa, spot.channels, spread_input(images, at, out, spot));
    }

    fn spread_gradient(isa: Isa, images: &[f32], at: &Pixels<16>, out: &mut [f32], spot: Spot) {
        of_isa!(isa, spot.channels, spread_gradient(images, at, out, spot));
    }

    fn gather_output(
        isa: Isa,
        products: &[f32],
        spot: Spot,
        finish: Finish<'_, f32>,
        out: &mut [f32],
        at: &Pixels<16>,
    ) {
        of_isa!(isa, spot.channels, gather_output(products, spot, finish, out, at));
    }
}

/// In double precision, for the gradient checks.
impl Lines for f64 {
    fn spread_input(_: Isa, images: &[f64], at: &Pixels<PLACES>, out: &mut [f64], spot: Spot) {
        plain_f64::spread_input(images, at, out, spot);
    }

    fn spread_gradient(_: Isa, images: &[f64], at: &Pixels<16>, out: &mut [f64], spot: Spot) {
        plain_f64::spread_gradient(images, at, out, spot);
    }

    fn gather_output(
        _: Isa,
        products: &[f64],
        spot: Spot,
        finish: Finish<'_, f64>,
        out: &mut [f64],
        at: &Pixels<16>,
    ) {
        plain_f64::gather_output(products, spot, finish, out, at);
    }
}
