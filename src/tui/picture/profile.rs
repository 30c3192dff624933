//! A case slice by slice: how sure the model is of each, what was saved in it, where two label maps disagree.

use super::Seen;
use crate::effort::slice_effort;
use crate::imaging::{Plane, Slice};
use crate::records::{ClassEffort, mean_saved};

/// A profile to make.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileJob {
    /// Of which case.
    pub view: Seen,
    /// In which cut.
    pub plane: Plane,
    /// Classes, background among them.
    pub classes: usize,
    /// How far apart contours may lie and still be one.
    pub tolerance_mm: f64,
}

/// What there is to know of every slice of a cut.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile {
    /// Average BvSB; empty without a prediction.
    pub scores: Vec<f64>,
    /// C, L and the rest per class; empty where there is nothing to measure.
    pub efforts: Vec<Vec<ClassEffort>>,
    /// Pixels whose class differs from what the drawing is held against; empty where there is nothing to hold it against.
    pub differing: Vec<u64>,
}

impl ProfileJob {
    /// Makes it; takes tens of milliseconds, so not while a key waits.
    pub fn make(&self) -> Profile {
        let view = &self.view.0;
        let slices = self.plane.slices(&view.grid);
        let cut = |voxels: &[u8], index| Slice::cut(voxels, &view.grid, self.plane, index);
        // The engine's own sums are exact; other cuts have the map's bytes.
        let scores = match &view.margins {
            Some(_) if self.plane == view.plane && view.scores.len() == slices => view.scores.clone(),
            Some(margins) => (0..slices)
                .map(|index| {
                    let pixels = cut(&margins.voxels, index).pixels;
                    let sum: u64 = pixels.iter().map(|&m| u64::from(m)).sum();
                    sum as f64 / 255.0 / pixels.len().max(1) as f64
                })
                .collect(),
            None => Vec::new(),
        };
        let predicted = view.predicted.as_ref().map(|drawing| &drawing.voxels);
        let other = view.other();
        // Effort is only what the mask saved.
        let is_measured = view.is_measured && view.beside.is_none();
        let (mut efforts, mut differing) = (Vec::new(), Vec::new());
        if let (Some(predicted), Some(other)) = (predicted, other) {
            let pixel_mm = self.plane.pixel_mm(&view.grid);
            for index in 0..slices {
                let [p, o] = [predicted, other].map(|map| cut(map, index));
                differing.push(p.pixels.iter().zip(&o.pixels).filter(|(p, o)| p != o).count() as u64);
                if is_measured {
                    efforts.push(slice_effort(&p, &o, pixel_mm, self.classes, self.tolerance_mm));
                }
            }
        }
        Profile {
            scores,
            efforts,
            differing,
        }
    }
}

impl Profile {
    /// Mean saved effort of a slice's classes; `None` where no contour was corrected, or nothing was measured.
    pub fn saved(&self, index: usize) -> Option<f64> {
        mean_saved(self.efforts.get(index)?)
    }

    /// The next slice after `from` (before it when `back`) in which two maps disagree, around the end.
    pub fn disagreement(&self, from: usize, back: bool) -> Option<usize> {
        let len = self.differing.len();
        let step = |n: usize| {
            if back {
                (from + len - n) % len
            } else {
                (from + n) % len
            }
        };
        (1..=len).map(step).find(|&index| self.differing[index] > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;
    use crate::protocol::{Drawing, Maker};
    use crate::records::ModelId;

    /// 2 x 2 x 3 voxels: the maps differ in the last slice of the last axis alone.
    #[test]
    fn slices_are_known_by_score_effort_and_disagreement_in_every_cut() {
        let mut view = view([2, 2, 3], 100);
        view.plane = Plane(2);
        let drawing = |voxels: Vec<u8>| {
            Some(Drawing {
                by: Maker::Model(ModelId(1)),
                voxels,
            })
        };
        view.predicted = drawing(vec![1; 12]);
        let mut corrected = vec![1; 12];
        corrected[8] = 2;
        view.corrected = Some(corrected);
        view.is_measured = true;
        view.margins = drawing([[255; 4], [0; 4], [51; 4]].concat());
        view.scores = vec![1.0, 0.0, 0.25];
        let job = |plane| ProfileJob {
            view: Seen(view.clone().into()),
            plane: Plane(plane),
            classes: 3,
            tolerance_mm: 0.0,
        };
        let own = job(2).make();
        assert_eq!(own.scores, [1.0, 0.0, 0.25], "exact in the project's own cut");
        assert_eq!(own.differing, [0, 0, 1]);
        assert_eq!([own.saved(0), own.saved(2)], [Some(1.0), Some(0.5)]);
        assert_eq!(own.disagreement(0, false), Some(2));
        assert_eq!(own.disagreement(2, true), Some(2), "around the end to itself");
        let other = job(0).make();
        assert!(other.scores.iter().all(|score| (score - 0.4).abs() < 1e-9));
        assert_eq!(other.differing, [1, 0]);
        assert_eq!(Profile::default().disagreement(3, false), None);
    }
}
