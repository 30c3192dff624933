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
    |a, b| vbslq_f32(vcgtq_f32(b, a), b, a),
    |a, gate| vreinterpretq_f32_u32(vandq_u32(vcgtzq_f32(gate), vreinterpretq_u32_f32(a))),
    |_| (),
    transpose_4
);
