//! Slices for the screen: u8 planes cut from a few decoded volumes.

use super::EngineError;
use super::actor::Actor;
use super::project::Project;
use crate::effort::slice_effort;
use crate::imaging::{Grid, LabelMap, Plane, Slice, Volume};
use crate::protocol::{Answer, SliceRequest, SliceView};
use crate::records::{CaseId, Hash, ModelId, SliceSums};

/// Cases kept decoded: the one looked at and the ones before it.
const KEPT: usize = 3;

/// Decoded cases, the last used last.
#[derive(Debug, Default)]
pub struct SliceCache(Vec<Decoded>);

#[derive(Debug)]
struct Decoded {
    case: CaseId,
    /// What it was decoded from: another prediction or mask means decode again.
    from: [Option<Hash>; 3],
    grid: Grid,
    image: Vec<u8>,
    predicted: Option<LabelMap>,
    /// Whether `predicted` is what the person who corrected the case was given.
    is_measured: bool,
    model: Option<ModelId>,
    score_model: Option<ModelId>,
    corrected: Option<LabelMap>,
    margin: Option<Vec<u8>>,
    sums: Vec<SliceSums>,
}

impl Actor {
    /// One slice of a case with all that is known of it.
    pub(super) fn slice(&mut self, request: &SliceRequest) -> Result<Answer, EngineError> {
        let decoded = self.slices.decoded(&self.project, &request.case)?;
        let grid = &decoded.grid;
        let own = self.project.plane(grid);
        let plane = request.plane.filter(|plane| plane.0 < 3).unwrap_or(own);
        let slices = plane.slices(grid);
        let index = request
            .index
            .unwrap_or_else(|| decoded.interesting(plane, own))
            .min(slices - 1);
        let cut = |voxels: &[u8]| Slice::cut(voxels, grid, plane, index);
        let predicted = decoded.predicted.as_ref().map(|map| cut(&map.voxels));
        let corrected = decoded.corrected.as_ref().map(|map| cut(&map.voxels));
        let settings = &self.project.snapshot.settings;
        let pixel_mm = plane.pixel_mm(grid);
        let effort = match (&predicted, &corrected) {
            (Some(predicted), Some(corrected)) if decoded.is_measured => slice_effort(
                predicted,
                corrected,
                pixel_mm,
                settings.classes(),
                settings.effort.tolerance_mm,
            ),
            _ => Vec::new(),
        };
        let sums = decoded
            .sums
            .get(index)
            .filter(|sums| plane == own && sums.pixels > 0);
        Ok(Answer::Slice(Box::new(SliceView {
            case: request.case.clone(),
            plane,
            plane_name: plane.name(grid).to_string(),
            index,
            slices,
            pixel_mm,
            image: cut(&decoded.image),
            predicted,
            model: decoded.model,
            score_model: decoded.score_model,
            margin: decoded.margin.as_ref().map(|margin| cut(margin)),
            corrected,
            effort,
            average_bvsb: sums.map(|sums| sums.margin / sums.pixels as f64),
        })))
    }
}

impl SliceCache {
    fn decoded(&mut self, project: &Project, id: &CaseId) -> Result<&Decoded, EngineError> {
        let case = project.case(id)?;
        let snapshot = &project.snapshot;
        // After hand-in, what matters is the pre-annotation the person was given; where that was nobody's drawing,
        // there is nothing to measure the correction against.
        let correction = snapshot
            .correction_of(id)
            .filter(|correction| correction.model.is_some());
        let prediction = snapshot.predictions.get(id);
        let (drawn, model) = match (correction, prediction) {
            (Some(correction), _) => (Some(correction.pre_annotation), correction.model),
            (None, Some(prediction)) => (Some(prediction.labels), Some(prediction.model)),
            (None, None) => (None, None),
        };
        let mask = case.mask.map(|mask| mask.blob);
        let from = [drawn, prediction.map(|prediction| prediction.margins), mask];
        if let Some(at) = self
            .0
            .iter()
            .position(|decoded| &decoded.case == id && decoded.from == from)
        {
            let decoded = self.0.remove(at);
            self.0.push(decoded);
        } else {
            self.0.retain(|decoded| &decoded.case != id);
            let volume = project.scan(case.images[0], "the case's image")?.volume;
            let map = |blob: Option<Hash>, role| blob.map(|blob| project.label_map(blob, role)).transpose();
            let margin = map(prediction.map(|prediction| prediction.margins), "the margin map")?;
            let sums = prediction.map(|prediction| project.store.blobs().get_json(prediction.slices));
            let decoded = Decoded {
                case: id.clone(),
                from,
                grid: case.grid,
                image: windowed(&volume),
                predicted: map(drawn, "the pre-annotation")?,
                is_measured: correction.is_some(),
                model,
                score_model: prediction.map(|prediction| prediction.model),
                corrected: map(mask, "the mask")?,
                margin: margin.map(|map| map.voxels),
                sums: sums.transpose()?.unwrap_or_default(),
            };
            if self.0.len() == KEPT {
                self.0.remove(0);
            }
            self.0.push(decoded);
        }
        Ok(self.0.last().expect("one was just put there"))
    }
}

impl Decoded {
    /// The slice to begin with: the most uncertain of those with something drawn in them, otherwise the middle.
    fn interesting(&self, plane: Plane, own: Plane) -> usize {
        let middle = plane.slices(&self.grid) / 2;
        if plane != own {
            return middle;
        }
        let uncertain = self
            .sums
            .iter()
            .enumerate()
            .filter(|(_, sums)| sums.foreground_pixels > 0);
        let mean = |sums: &SliceSums| sums.margin / sums.pixels as f64;
        uncertain
            .min_by(|(_, a), (_, b)| mean(a).total_cmp(&mean(b)))
            .map_or(middle, |(index, _)| index)
    }
}

/// Intensities as grey: percentile 0.2 of the non-zero voxels is black, 99.8 is white.
fn windowed(volume: &Volume) -> Vec<u8> {
    let mut signal: Vec<f32> = volume
        .voxels
        .iter()
        .copied()
        .filter(|&v| v != 0.0 && v.is_finite())
        .collect();
    if signal.is_empty() {
        return vec![0; volume.voxels.len()];
    }
    let mut percentile = |fraction: f64| {
        let at = ((signal.len() - 1) as f64 * fraction).round() as usize;
        *signal.select_nth_unstable_by(at, f32::total_cmp).1
    };
    let (low, high) = (percentile(0.002), percentile(0.998));
    let (low, range) = if high > low {
        (low, high - low)
    } else {
        (low - 1.0, 1.0)
    };
    let grey = |v: f32| {
        if v == 0.0 {
            0
        } else {
            ((v - low) / range * 255.0).clamp(0.0, 255.0) as u8
        }
    };
    volume.voxels.iter().map(|&v| grey(v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_spans_the_signal_and_leaves_the_background_black() {
        let grid = Grid::new([4, 1, 1], [1.0; 3]);
        let image = |voxels: [f32; 4]| {
            windowed(&Volume {
                grid,
                voxels: voxels.to_vec(),
            })
        };
        assert_eq!(image([0.0, 100.0, 200.0, 300.0]), [0, 0, 127, 255]);
        assert_eq!(image([0.0; 4]), [0; 4]);
        assert_eq!(
            image([0.0, 7.0, 7.0, 7.0]),
            [0, 255, 255, 255],
            "one intensity is bright, not a division by 0"
        );
    }
}
