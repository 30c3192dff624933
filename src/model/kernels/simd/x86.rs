//! AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::{PANEL, Simd, Work};

/// Rows become columns: pairs of rows are interleaved, then pairs of pairs, then quarters of the vectors put in order. (No closures:
/// one that is not inlined is compiled without the instruction set.)
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn transpose_16(block: &mut [[f32; PANEL]; PANEL]) {
    // SAFETY: the features are there; every row is as long as a vector.
    unsafe {
        let mut fours = [_mm512_setzero_ps(); 16];
        for group in 0..4 {
            let rows: &[[f32; PANEL]; 4] = block[4 * group..].first_chunk().expect("four of sixteen");
            let [a, b] = pair_16(&rows[0], &rows[1]);
            let [c, d] = pair_16(&rows[2], &rows[3]);
            let found = [
                _mm512_unpacklo_pd(a, c),
                _mm512_unpackhi_pd(a, c),
                _mm512_unpacklo_pd(b, d),
                _mm512_unpackhi_pd(b, d),
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

/// Two rows, interleaved by quarters of vectors: the lower halves, the upper halves.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn pair_16(first: &[f32; PANEL], second: &[f32; PANEL]) -> [__m512d; 2] {
    // SAFETY: the features are there; a row is as long as a vector.
    unsafe {
        let (first, second) = (_mm512_loadu_ps(first.as_ptr()), _mm512_loadu_ps(second.as_ptr()));
        [
            _mm512_castps_pd(_mm512_unpacklo_ps(first, second)),
            _mm512_castps_pd(_mm512_unpackhi_ps(first, second)),
        ]
    }
}

/// The same by quarters of the block.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn transpose_8(block: &mut [[f32; PANEL]; PANEL]) {
    // SAFETY: the features are there.
    unsafe {
        let (a, b) = (quarter(block, 0, 0), quarter(block, 8, 8));
        put_quarter(block, 0, 0, a);
        put_quarter(block, 8, 8, b);
        let (a, b) = (quarter(block, 0, 8), quarter(block, 8, 0));
        put_quarter(block, 8, 0, a);
        put_quarter(block, 0, 8, b);
    }
}

/// The columns of a quarter of a block, from a row and a column on.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn quarter(block: &[[f32; PANEL]; PANEL], row: usize, column: usize) -> [__m256; 8] {
    // SAFETY: the features are there; what is loaded is as long as a vector.
    unsafe {
        let mut rows = [_mm256_setzero_ps(); 8];
        for (n, loaded) in rows.iter_mut().enumerate() {
            *loaded = _mm256_loadu_ps(block[row + n][column..column + 8].as_ptr());
        }
        let mut fours = [_mm256_setzero_ps(); 8];
        for group in [0, 4] {
            let [a, b, c, d] = [rows[group], rows[group + 1], rows[group + 2], rows[group + 3]];
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (low_2, high_2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            fours[group] = _mm256_shuffle_ps::<0x44>(low, low_2);
            fours[group + 1] = _mm256_shuffle_ps::<0xee>(low, low_2);
            fours[group + 2] = _mm256_shuffle_ps::<0x44>(high, high_2);
            fours[group + 3] = _mm256_shuffle_ps::<0xee>(high, high_2);
        }
        let mut found = fours;
        for column in 0..4 {
            let (a, b) = (fours[column], fours[4 + column]);
            found[column] = _mm256_permute2f128_ps::<0x20>(a, b);
            found[4 + column] = _mm256_permute2f128_ps::<0x31>(a, b);
        }
        found
    }
}

/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn put_quarter(block: &mut [[f32; PANEL]; PANEL], row: usize, column: usize, rows: [__m256; 8]) {
    for (n, values) in rows.into_iter().enumerate() {
        // SAFETY: the features are there; what is stored to is as long as a vector.
        unsafe { _mm256_storeu_ps(block[row + n][column..column + 8].as_mut_ptr(), values) };
    }
}

/// The first `count` lanes, fewer than all.
#[inline(always)]
fn first_16(count: usize) -> __mmask16 {
    (1 << count) - 1
}

/// # Safety
/// The processor has AVX-512F; `count` numbers, fewer than 16, may be read.
#[inline(always)]
unsafe fn read_some_16(from: *const f32, count: usize) -> __m512 {
    // SAFETY: lanes that are left out are not read.
    unsafe { _mm512_maskz_loadu_ps(first_16(count), from) }
}

/// # Safety
/// The processor has AVX-512F; `count` numbers, fewer than 16, may be written.
#[inline(always)]
unsafe fn write_some_16(vector: __m512, to: *mut f32, count: usize) {
    // SAFETY: lanes that are left out are not written.
    unsafe { _mm512_mask_storeu_ps(to, first_16(count), vector) }
}

/// The first `count` lanes, at most 8.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn first_8(count: usize) -> __m256i {
    // SAFETY: the features are there.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}

/// # Safety
/// The processor has AVX2; `count` numbers, at most 8, may be read.
#[inline(always)]
unsafe fn read_some_8(from: *const f32, count: usize) -> __m256 {
    // SAFETY: lanes that are left out are not read.
    unsafe { _mm256_maskload_ps(from, first_8(count)) }
}

/// # Safety
/// The processor has AVX2; `count` numbers, at most 8, may be written.
#[inline(always)]
unsafe fn write_some_8(vector: __m256, to: *mut f32, count: usize) {
    // SAFETY: lanes that are left out are not written.
    unsafe { _mm256_maskstore_ps(to, first_8(count), vector) }
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
    // The second operand is the result unless the first is larger.
    |a, b| _mm512_max_ps(b, a),
    |a, gate| _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), a),
    fetch,
    transpose_16,
    some: read_some_16,
    write_some_16
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
    |a, b| _mm256_max_ps(b, a),
    |a, gate| _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), a),
    fetch,
    transpose_8,
    some: read_some_8,
    write_some_8
);
