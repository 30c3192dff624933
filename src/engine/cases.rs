//! Cases: taking them in, leaving them out, giving their masks back.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;

use super::actor::Actor;
use super::{EngineError, masks};
use crate::imaging::{Grid, MAX_VOLUME_BYTES, RawVolume, Scan, encode_labels};
use crate::protocol::{Activity, Answer, ImportItem, Stage};
use crate::records::{Case, CaseId, CaseSource, Hash, Mask, MaskOrigin, Pool, RoundState, Row, What};
use crate::store::Blobs;

/// What became of an item: a new case or one that is there already, and why its mask was left alone, if it was.
struct Taken {
    known: Option<CaseId>,
    mask_left: Option<&'static str>,
}

impl Actor {
    /// Takes cases in, one journal entry each: what was taken stays taken when a later item is refused.
    pub(super) fn import(
        &mut self,
        who: &str,
        items: Vec<ImportItem>,
        pool: Option<Pool>,
    ) -> Result<Answer, EngineError> {
        // A task that runs keeps the settings it began with, and the screen keeps showing it.
        let is_idle = self.job.is_none();
        if is_idle {
            self.reload_settings(false)?;
        }
        let mut by_images: HashMap<Vec<Hash>, CaseId> = self
            .project
            .snapshot
            .cases
            .values()
            .filter(|case| case.forgotten.is_none())
            .map(|case| (case.images.clone(), case.id.clone()))
            .collect();
        let (mut cases, mut known, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut masks_left = Vec::new();
        let (of, since) = (items.len(), Some(Timestamp::now()));
        for (done, item) in items.into_iter().enumerate() {
            if is_idle {
                self.set_activity(Activity {
                    stage: Stage::Importing,
                    done,
                    of,
                    since,
                    ..Activity::default()
                });
            }
            let id = item.id.clone();
            match self.import_one(who, item, pool, &mut by_images) {
                Ok(taken) => {
                    masks_left.extend(taken.mask_left.map(|why| (id.clone(), why.to_string())));
                    match taken.known {
                        None => cases.push(id),
                        Some(case) => known.push((id, case)),
                    }
                }
                Err(EngineError::Store(error)) => return Err(error.into()),
                Err(error) => refused.push((id, error.to_string())),
            }
        }
        self.parser.rest();
        if is_idle {
            self.set_activity(Activity::default());
        }
        Ok(Answer::Imported {
            cases,
            known,
            masks_left,
            refused,
        })
    }

    fn import_one(
        &mut self,
        who: &str,
        item: ImportItem,
        pool: Option<Pool>,
        by_images: &mut HashMap<Vec<Hash>, CaseId>,
    ) -> Result<Taken, EngineError> {
        let channels = self.project.snapshot.settings.image.channels;
        if item.images.len() != channels {
            return EngineError::refused(format!(
                "it has {} images, but image.channels is {channels}",
                item.images.len()
            ));
        }
        let mut volumes = Vec::new();
        let mut grid: Option<Grid> = None;
        for path in &item.images {
            let (bytes, scan) = self.read_volume(path)?;
            let this = scan.volume.grid;
            if !this.matches(grid.get_or_insert(this)) {
                return EngineError::refused(format!(
                    "{} lies on another grid than the case's first image; resample it to that one",
                    path.display()
                ));
            }
            if let Some(at) = scan.volume.voxels.iter().position(|v| !v.is_finite()) {
                return EngineError::refused(format!(
                    "{}: voxel {at} is not a finite number; replace such voxels before importing",
                    path.display()
                ));
            }
            volumes.push(bytes);
        }
        let images: Vec<Hash> = volumes.iter().map(|bytes| Blobs::hash(bytes)).collect();
        if let Some(known) = by_images.get(&images) {
            let words = "the case is there already; hand the mask in through the inbox to correct it";
            return Ok(Taken {
                known: Some(known.clone()),
                mask_left: item.mask.is_some().then_some(words),
            });
        }
        if self.project.snapshot.cases.contains_key(&item.id) {
            return EngineError::refused(format!(
                "case {} is there already with other images; give this one another name",
                item.id
            ));
        }
        let grid = grid.expect("at least one image was read");
        let mask = match &item.mask {
            Some(path) => Some(self.import_mask(path, &grid)?),
            None => None,
        };
        let pool = item.pool.or(pool).unwrap_or(if mask.is_some() {
            Pool::Labelled
        } else {
            Pool::Unlabelled
        });
        let mask_left = (pool == Pool::Unlabelled && mask.is_some())
            .then_some("an unlabelled case has none; import it as labelled to keep its mask");
        // Nothing is kept of an item that is refused: only from here on are bytes put away.
        let blobs = self.project.store.blobs();
        let mask = match (pool, mask) {
            (Pool::Unlabelled, _) => None,
            (_, Some(bytes)) => Some(Mask {
                version: 1,
                blob: blobs.put(&bytes)?,
                origin: MaskOrigin::Imported,
            }),
            (_, None) => {
                return EngineError::refused(format!(
                    "the {} pool needs a mask, and none came along",
                    pool.word()
                ));
            }
        };
        for bytes in &volumes {
            blobs.put(bytes)?;
        }
        let source = CaseSource {
            images: item.images,
            mask: item.mask,
        };
        let source = blobs.put_json(&source)?;
        let case = Case {
            id: item.id.clone(),
            pool,
            excluded: None,
            images: images.clone(),
            grid,
            source,
            mask,
            mask_versions: u32::from(mask.is_some()),
            handout: None,
            queried: None,
            added_at: Timestamp::now(),
            forgotten: None,
        };
        let mut rows = vec![Row::Case(case)];
        if mask.is_some() {
            rows.extend(self.note_mask_labels());
        }
        self.commit(who, What::CaseImported, None, rows)?;
        by_images.insert(images, item.id);
        Ok(Taken {
            known: None,
            mask_left,
        })
    }

    /// The bytes to keep of a volume from outside, and what they hold.
    fn read_volume(&self, path: &Path) -> Result<(Vec<u8>, Scan), EngineError> {
        let raw = RawVolume::read(path, MAX_VOLUME_BYTES);
        raw.and_then(|raw| self.parser.parse(raw, MAX_VOLUME_BYTES, 1.0))
            .map_err(|source| EngineError::Volume {
                file: path.display().to_string(),
                source,
            })
    }

    /// A mask's bytes as the store keeps them.
    fn import_mask(&self, path: &Path, grid: &Grid) -> Result<Vec<u8>, EngineError> {
        let (_, scan) = self.read_volume(path)?;
        let refuse = |words: String| EngineError::Refused(format!("{}: {words}", path.display()));
        if !scan.volume.grid.matches(grid) {
            return Err(refuse("the mask lies on another grid than the image".into()));
        }
        let (mut map, _) = masks::classes(&scan, &self.project.snapshot.settings.labels)
            .map_err(|problem| refuse(problem.words))?;
        map.grid = *grid;
        Ok(encode_labels(&map, u16::from))
    }

    /// The project's row with the labels that masks hold, for the first mask that comes in.
    pub(super) fn note_mask_labels(&self) -> Option<Row> {
        let mut project = self.project.snapshot.project.clone();
        let labels = &self.project.snapshot.settings.labels;
        let longer = project
            .mask_labels
            .as_ref()
            .is_none_or(|old| old.0.len() < labels.0.len());
        longer.then(|| {
            project.mask_labels = Some(labels.clone());
            Row::Project(project)
        })
    }

    /// Leaves a case out, with the reason.
    pub(super) fn exclude(&mut self, who: &str, id: &CaseId, why: String) -> Result<Answer, EngineError> {
        let mut case = self.project.case(id)?.clone();
        if let Some(why) = &case.excluded {
            return Ok(Answer::Nothing(format!("{id} is excluded already: {why}")));
        }
        case.excluded = Some(why.clone());
        case.queried = None;
        self.commit(who, What::CaseExcluded, Some(why), vec![Row::Case(case)])?;
        Ok(Answer::Done(format!(
            "{id} is left out of ranking, training and measuring"
        )))
    }

    /// Brings an excluded case back.
    pub(super) fn include(&mut self, who: &str, id: &CaseId) -> Result<Answer, EngineError> {
        let mut case = self.project.case(id)?.clone();
        let Some(why) = case.excluded.take() else {
            return Ok(Answer::Nothing(format!("{id} is not excluded")));
        };
        if case.forgotten.is_some() {
            return EngineError::refused(format!(
                "{id} is {why}: there is nothing left of it to bring back"
            ));
        }
        // The open round asked for it, and waits for it again.
        let open = self.project.snapshot.open_round().filter(|round| {
            round.state == RoundState::Correcting
                && case.pool == Pool::Unlabelled
                && round.queried.contains(id)
        });
        case.queried = open.map(|round| round.id);
        let words = format!("{id} is back in the {} pool", case.pool.word());
        self.commit(
            who,
            What::CaseIncluded,
            Some(format!("was excluded: {why}")),
            vec![Row::Case(case)],
        )?;
        Ok(Answer::Done(words))
    }

    /// A case's mask (or, without one, its newest prediction) in the values of the labels.
    pub(super) fn export(&self, id: &CaseId) -> Result<Answer, EngineError> {
        let case = self.project.case(id)?;
        let blob = match (case.mask, self.project.snapshot.predictions.get(id)) {
            (Some(mask), _) => mask.blob,
            (None, Some(prediction)) => prediction.labels,
            (None, None) => {
                return EngineError::refused(format!("{id} has neither a mask nor a prediction yet"));
            }
        };
        let map = self.project.label_map(blob, "the label map")?;
        let labels = &self.project.snapshot.settings.labels;
        Ok(Answer::File(encode_labels(&map, |class| labels.value_of(class))))
    }
}
