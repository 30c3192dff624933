//! A case for the screen, decoded by a thread of its own: whoever looks at cases never waits for the engine's other work,
//! nor that for them.

use std::thread;

use super::EngineError;
use super::actor::Actor;
use super::project::{label_map, scan};
use super::surfaces::Asker;
use crate::imaging::{Grid, Plane};
use crate::protocol::{Answer, CaseView, Drawing, Event, Intensities};
use crate::records::{CaseId, CorrectionId, Hash, ModelId, Prediction, Row, RowKey, SliceSums};
use crate::store::Blobs;

/// What a view is made from, known at once.
struct Recipe {
    case: CaseId,
    grid: Grid,
    plane: Plane,
    image: Hash,
    predicted: Option<(ModelId, Hash)>,
    is_measured: bool,
    corrected: Option<Hash>,
    margins: Option<(ModelId, Hash)>,
    sums: Option<Hash>,
    beside: Option<(ModelId, Hash)>,
}

impl Actor {
    /// Answers `asker` with a case, later, as one of its corrections left it; with what `beside` drew of it, too.
    ///
    /// # Errors
    /// No such case or correction, a model that has not drawn it, or no thread to be had.
    pub(super) fn open(
        &self,
        asker: Asker,
        case: &CaseId,
        beside: Option<ModelId>,
        correction: Option<CorrectionId>,
    ) -> Result<(), EngineError> {
        let recipe = self.recipe(case, beside, correction)?;
        let blobs = self.project.store.blobs().clone();
        // A surface that let go wants no answer.
        let Some(surface) = self.surfaces.events(asker.surface).cloned() else {
            return Ok(());
        };
        let request = asker.request;
        thread::Builder::new()
            .name("view".into())
            .spawn(move || {
                let result = recipe
                    .make(&blobs)
                    .map(|view| Answer::Case(Box::new(view)))
                    .map_err(|error| error.to_string());
                let _ = surface.send(Event::Answer { request, result });
            })
            .map(drop)
            .map_err(EngineError::thread)
    }

    fn recipe(
        &self,
        id: &CaseId,
        beside: Option<ModelId>,
        correction: Option<CorrectionId>,
    ) -> Result<Recipe, EngineError> {
        let case = self.project.case(id)?;
        let snapshot = &self.project.snapshot;
        let asked = correction
            .map(|asked| {
                let known = snapshot.corrections.get(&asked).filter(|known| known.case == *id);
                known.ok_or_else(|| EngineError::Refused(format!("{asked} is no correction of {id}")))
            })
            .transpose()?;
        // After hand-in, what matters is the pre-annotation the person was given; where that was nobody's drawing,
        // there is nothing to measure the correction against.
        let measured = asked
            .or_else(|| snapshot.correction_of(id))
            .and_then(|correction| Some((correction.model?, correction.pre_annotation)));
        let prediction = snapshot.predictions.get(id);
        let drawn = prediction.map(|prediction| (prediction.model, prediction.labels));
        let beside = beside
            .map(|model| {
                let kept = self.kept_prediction(model, id)?;
                let missing =
                    || EngineError::Refused(format!("{model} has not drawn {id}, or it was not kept"));
                kept.map(|prediction| (model, prediction.labels))
                    .ok_or_else(missing)
            })
            .transpose()?;
        Ok(Recipe {
            case: id.clone(),
            grid: case.grid,
            plane: self.project.plane(&case.grid),
            image: case.images[0],
            predicted: measured.or(drawn),
            is_measured: measured.is_some(),
            corrected: asked
                .map(|correction| correction.mask)
                .or(case.mask.map(|mask| mask.blob)),
            margins: prediction.map(|prediction| (prediction.model, prediction.margins)),
            sums: prediction.map(|prediction| prediction.slices),
            beside,
        })
    }

    /// What a model, perhaps an older one, drew of a case.
    fn kept_prediction(&self, model: ModelId, case: &CaseId) -> Result<Option<Prediction>, EngineError> {
        let key = RowKey::Prediction(model, case.clone());
        match self.project.store.row(&key)? {
            Some(Row::Prediction(prediction)) => {
                Ok(Some(prediction).filter(|prediction| self.project.is_there(prediction)))
            }
            _ => Ok(None),
        }
    }
}

impl Recipe {
    fn make(self, blobs: &Blobs) -> Result<CaseView, EngineError> {
        let map = |blob: Hash, role| -> Result<Vec<u8>, EngineError> {
            let voxels = label_map(blobs, blob, role)?.voxels;
            if voxels.len() != self.grid.len() {
                return EngineError::refused(format!("{role} does not have the voxels of its case"));
            }
            Ok(voxels)
        };
        let drawing = |of: Option<(ModelId, Hash)>, role| -> Result<Option<Drawing>, EngineError> {
            let Some((model, blob)) = of else { return Ok(None) };
            let voxels = map(blob, role)?;
            Ok(Some(Drawing { model, voxels }))
        };
        let image = scan(blobs, self.image, "the case's image")?.volume;
        if image.voxels.len() != self.grid.len() {
            return EngineError::refused("the case's image does not have the voxels of its case");
        }
        let sums: Vec<SliceSums> = match self.sums {
            Some(sums) => blobs.get_json(sums)?,
            None => Vec::new(),
        };
        Ok(CaseView {
            image: Intensities::of(&image.voxels),
            predicted: drawing(self.predicted, "the pre-annotation")?,
            is_measured: self.is_measured,
            corrected: self.corrected.map(|mask| map(mask, "the mask")).transpose()?,
            margins: drawing(self.margins, "the margin map")?,
            scores: sums
                .iter()
                .map(|sums| sums.margin / sums.pixels.max(1) as f64)
                .collect(),
            beside: drawing(self.beside, "the other model's label map")?,
            case: self.case,
            grid: self.grid,
            plane: self.plane,
        })
    }
}
