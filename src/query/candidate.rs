//! What is known of a case that may be asked for.

use crate::records::{CaseId, Prediction, SliceSums};

/// A case, by what a model drew.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub case: CaseId,
    /// Sums over its volume.
    pub sums: SliceSums,
    /// Of each class, background first, the voxels drawn, and the sum of their entropies in nats; none where that was not counted.
    pub classes: Vec<(u64, f64)>,
}

impl Candidate {
    /// The case of a prediction.
    pub fn of(prediction: &Prediction) -> Candidate {
        let voxels = prediction.class_voxels.iter().copied();
        Candidate {
            case: prediction.case.clone(),
            sums: prediction.sums,
            classes: voxels.zip(prediction.class_entropies.iter().copied()).collect(),
        }
    }
}
