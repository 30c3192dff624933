//! A case for the screen, decoded by a thread of its own: whoever looks at cases never waits for the engine's other work,
//! nor that for them.

use std::thread;

use super::EngineError;
use super::actor::Actor;
use super::inbox::Decision;
use super::project::{label_map, scan};
use super::surfaces::Asker;
use crate::imaging::{Grid, Plane};
use crate::protocol::{Answer, Beside, CaseView, Drawing, Event, Intensities, Maker, Wanted};
use crate::records::{CaseId, Fix, Hash, HeldId, ModelId, Prediction, Row, RowKey, SliceSums};
use crate::store::Blobs;

/// What a view is made from, known at once.
struct Recipe {
    case: CaseId,
    grid: Grid,
    plane: Plane,
    image: Hash,
    images: usize,
    predicted: Option<(ModelId, Hash)>,
    is_measured: bool,
    corrected: Option<Map>,
    margins: Option<(ModelId, Hash)>,
    sums: Option<Hash>,
    beside: Option<(Maker, Map)>,
}

/// A label map's classes.
enum Map {
    Kept(Hash),
    /// Of a held file, which is read here: decoding it is another process's work anyway.
    Here(Vec<u8>),
}

impl Actor {
    /// Answers `asker` with a case, later.
    ///
    /// # Errors
    /// No such case or correction, a model that has not drawn it, or no thread to be had.
    pub(super) fn open(&self, asker: Asker, wanted: &Wanted) -> Result<(), EngineError> {
        let recipe = self.recipe(wanted)?;
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

    fn recipe(&self, wanted: &Wanted) -> Result<Recipe, EngineError> {
        let id = &wanted.case;
        let case = self.project.case(id)?;
        let snapshot = &self.project.snapshot;
        let asked = wanted
            .correction
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
        let beside = match wanted.beside {
            None => None,
            Some(Beside::Model(model)) => {
                let kept = self.kept_prediction(model, id)?.ok_or_else(|| {
                    EngineError::Refused(format!("{model} has not drawn {id}, or it was not kept"))
                })?;
                Some((Maker::Model(model), Map::Kept(kept.labels)))
            }
            Some(Beside::OtherReading) => {
                let held = wanted.held.and_then(|held| snapshot.held.get(&held));
                let Some(held) = held.filter(|held| held.fix.is_some()) else {
                    return EngineError::refused("there is no other way to read it");
                };
                let map = Map::Here(self.read_held(held.id, Decision::Fix)?.voxels);
                Some((Maker::Reading(snapshot.fix_words(held).unwrap_or_default()), map))
            }
        };
        if let Some(held) = wanted.held {
            return self.held_recipe(wanted, held, beside);
        }
        Ok(Recipe {
            case: id.clone(),
            grid: case.grid,
            plane: self.project.plane(&case.grid),
            image: *case.images.get(wanted.image).unwrap_or(&case.images[0]),
            images: case.images.len(),
            predicted: measured.or(drawn),
            is_measured: measured.is_some(),
            corrected: asked
                .map(|correction| correction.mask)
                .or(case.mask.map(|mask| mask.blob))
                .map(Map::Kept),
            margins: prediction.map(|prediction| (prediction.model, prediction.margins)),
            sums: prediction.map(|prediction| prediction.slices),
            beside,
        })
    }

    /// A case with the mask of a held file, over what was drawn for the person who sent it. Read as another case's, it is shown
    /// on that case.
    fn held_recipe(
        &self,
        wanted: &Wanted,
        held: HeldId,
        beside: Option<(Maker, Map)>,
    ) -> Result<Recipe, EngineError> {
        let snapshot = &self.project.snapshot;
        let row = snapshot.held.get(&held);
        let corrected = match self.read_held(held, Decision::Accept) {
            Ok(mask) => Some(Map::Here(mask.voxels)),
            // It can be read the other way alone.
            Err(_) if beside.is_some() => None,
            Err(error) => return Err(error),
        };
        let other = row.and_then(|row| match (&row.fix, &beside) {
            (Some(Fix::Case(other)), Some(_)) => Some(other),
            _ => None,
        });
        let shown = other.unwrap_or(&wanted.case);
        let handouts = &snapshot.handouts;
        let answered = row
            .and_then(|row| handouts.get(&row.answers?))
            .filter(|_| other.is_none());
        let last = || handouts.values().rev().find(|handout| handout.case == *shown);
        let drawn = answered.or_else(last);
        Ok(Recipe {
            case: wanted.case.clone(),
            predicted: drawn.and_then(|handout| Some((handout.model?, handout.pre_annotation))),
            is_measured: false,
            corrected,
            beside,
            ..self.recipe(&Wanted {
                image: wanted.image,
                ..Wanted::of(shown)
            })?
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
        let map = |map: Map, role| -> Result<Vec<u8>, EngineError> {
            let voxels = match map {
                Map::Kept(blob) => label_map(blobs, blob, role)?.voxels,
                Map::Here(voxels) => voxels,
            };
            if voxels.len() != self.grid.len() {
                return EngineError::refused(format!("{role} does not have the voxels of its case"));
            }
            Ok(voxels)
        };
        let drawing = |of: Option<(Maker, Map)>, role| -> Result<Option<Drawing>, EngineError> {
            let Some((by, of)) = of else { return Ok(None) };
            let voxels = map(of, role)?;
            Ok(Some(Drawing { by, voxels }))
        };
        let by_model =
            |of: Option<(ModelId, Hash)>| of.map(|(model, blob)| (Maker::Model(model), Map::Kept(blob)));
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
            images: self.images,
            predicted: drawing(by_model(self.predicted), "the pre-annotation")?,
            is_measured: self.is_measured,
            corrected: self.corrected.map(|mask| map(mask, "the mask")).transpose()?,
            margins: drawing(by_model(self.margins), "the margin map")?,
            scores: sums
                .iter()
                .map(|sums| sums.margin / sums.pixels.max(1) as f64)
                .collect(),
            beside: drawing(self.beside, "the other label map")?,
            case: self.case,
            grid: self.grid,
            plane: self.plane,
        })
    }
}
