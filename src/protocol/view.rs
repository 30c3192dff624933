//! A case as a whole, for looking at. Scrolling, planes and layers need nothing more from the engine.

use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::imaging::{Grid, Plane};
use crate::records::{CaseId, CorrectionId, HeldId, ModelId};

/// What is wanted of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The case.
    pub case: CaseId,
    /// Which of its images, from 0; the first where it has fewer.
    pub image: usize,
    /// What is wanted too, to hold the drawing against.
    pub beside: Option<Beside>,
    /// The mask of this correction, and what was drawn before it; the last one's when `None`.
    pub correction: Option<CorrectionId>,
    /// The mask in this file that waits for a decision, instead of the one that counts.
    pub held: Option<HeldId>,
}

impl Wanted {
    /// A case as it is.
    pub fn of(case: &CaseId) -> Wanted {
        Wanted {
            case: case.clone(),
            image: 0,
            beside: None,
            correction: None,
            held: None,
        }
    }
}

/// What a drawing is held against, other than the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Beside {
    /// What another model drew.
    Model(ModelId),
    /// The other way to read a held file.
    OtherReading,
}

/// A case with all that is known of it; every map has a value a voxel, first axis fastest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseView {
    /// Which.
    pub case: CaseId,
    /// Where its voxels lie.
    pub grid: Grid,
    /// The project's own cut: the one that scores and saved effort are measured in.
    pub plane: Plane,
    /// The image that was asked for.
    pub image: Intensities,
    /// How many images the case has.
    pub images: usize,
    /// Classes as drawn by a model: the pre-annotation of the case's last correction, otherwise the current model's
    /// prediction.
    pub predicted: Option<Drawing>,
    /// Whether `predicted` is what the person was given whose mask is in `corrected`; only then there is effort to measure.
    pub is_measured: bool,
    /// Classes of the mask that counts (imported or corrected), or of the held file that was asked for.
    pub corrected: Option<Vec<u8>>,
    /// 255 x (p(best) - p(second best)), by the model whose scores follow; after hand-in it may be another than drew
    /// `predicted`.
    pub margins: Option<Drawing>,
    /// Average BvSB of each slice of `plane`; empty without margins.
    pub scores: Vec<f64>,
    /// What another model drew, or the other way to read the held file, where it was asked for.
    pub beside: Option<Drawing>,
}

impl CaseView {
    /// What the drawing is held against: another model's where one was asked for, otherwise the mask.
    pub fn other(&self) -> Option<&Vec<u8>> {
        let beside = self.beside.as_ref().map(|drawing| &drawing.voxels);
        beside.or(self.corrected.as_ref())
    }

    /// Whether there are two label maps to compare.
    pub fn has_two(&self) -> bool {
        self.predicted.is_some() && self.other().is_some()
    }
}

/// Who or what made a label map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Maker {
    /// A model drew it.
    Model(ModelId),
    /// A held file, read the other way: in words.
    Reading(String),
}

impl Display for Maker {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Maker::Model(model) => model.fmt(f),
            Maker::Reading(words) => words.fmt(f),
        }
    }
}

/// What was made of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drawing {
    /// By whom.
    pub by: Maker,
    /// A byte a voxel.
    pub voxels: Vec<u8>,
}

/// Intensities in 16 bits: `low + step * value`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intensities {
    /// A value a voxel.
    pub values: Vec<u16>,
    /// The intensity of value 0.
    pub low: f64,
    /// From value to value; 1 for whole numbers that fit.
    pub step: f64,
    /// Percentiles 0.2 and 99.8 of the voxels that are not 0: what is black and what is white at first.
    pub window: [f64; 2],
}

impl Intensities {
    /// Of a volume's voxels; what is no number is 0.
    pub fn of(voxels: &[f32]) -> Intensities {
        let sound = |v: f32| if v.is_finite() { v } else { 0.0 };
        let (mut low, mut high, mut is_whole) = (f32::INFINITY, f32::NEG_INFINITY, true);
        for v in voxels.iter().copied().map(sound) {
            (low, high) = (low.min(v), high.max(v));
            is_whole &= v.fract() == 0.0;
        }
        if voxels.is_empty() {
            (low, high) = (0.0, 0.0);
        }
        let (low, range) = (f64::from(low), f64::from(high) - f64::from(low));
        let most = f64::from(u16::MAX);
        let step = match range {
            0.0 => 1.0,
            range if is_whole && range <= most => 1.0,
            range => range / most,
        };
        let values = voxels
            .iter()
            .map(|&v| ((f64::from(sound(v)) - low) / step).round() as u16)
            .collect();
        Intensities {
            values,
            low,
            step,
            window: window(voxels),
        }
    }

    /// The intensity of a voxel.
    pub fn at(&self, voxel: usize) -> f64 {
        self.low + self.step * f64::from(self.values[voxel])
    }
}

/// Percentiles 0.2 and 99.8 of what is not 0.
fn window(voxels: &[f32]) -> [f64; 2] {
    let mut signal: Vec<f32> = voxels
        .iter()
        .copied()
        .filter(|&v| v != 0.0 && v.is_finite())
        .collect();
    if signal.is_empty() {
        return [0.0, 1.0];
    }
    let mut percentile = |fraction: f64| {
        let at = ((signal.len() - 1) as f64 * fraction).round() as usize;
        f64::from(*signal.select_nth_unstable_by(at, f32::total_cmp).1)
    };
    match (percentile(0.002), percentile(0.998)) {
        (low, high) if high > low => [low, high],
        // One intensity is bright.
        (low, _) => [low - 1.0, low],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_kept_and_others_are_as_near_as_16_bits_come() {
        let hounsfield = Intensities::of(&[-1024.0, 0.0, 3071.0]);
        assert_eq!(
            (0..3).map(|at| hounsfield.at(at)).collect::<Vec<_>>(),
            [-1024.0, 0.0, 3071.0]
        );
        let fine = Intensities::of(&[0.0, 0.1234, 1.0, f32::NAN]);
        assert!((fine.at(1) - 0.1234).abs() < 1e-5 && fine.at(3) == 0.0);
        let wide = Intensities::of(&[0.0, 1e6]);
        assert_eq!(wide.at(1), 1e6);
        assert_eq!(Intensities::of(&[]).values, [0u16; 0]);
    }

    #[test]
    fn a_window_spans_the_signal_and_one_intensity_is_bright() {
        assert_eq!(
            Intensities::of(&[0.0, 100.0, 200.0, 300.0]).window,
            [100.0, 300.0]
        );
        assert_eq!(Intensities::of(&[0.0; 4]).window, [0.0, 1.0]);
        assert_eq!(Intensities::of(&[0.0, 7.0, 7.0]).window, [6.0, 7.0]);
    }
}
