//! A project in memory: its store, its rows, its settings, and the one way to change any of them.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::EngineError;
use super::network::{Pace, check_place};
use super::sharing::{Share, Sharing};
use crate::imaging::{Grid, LabelMap, MAX_VOLUME_BYTES, Plane, Scan, decode_scan};
use crate::protocol::{Change, Snapshot};
use crate::records::{
    Architecture, Case, CaseId, Fixed, Hash, Model, Prediction, RoundId, Row, RowKey, What,
};
use crate::settings::{PlaneChoice, Settings};
use crate::store::{Blobs, FOLDER, Opened, Store, private_folder};

/// A project and its rows.
#[derive(Debug)]
pub struct Project {
    /// Everything a surface may know.
    pub snapshot: Snapshot,
    /// Where it is kept.
    pub store: Store,
    /// With whom it is shared.
    pub sharing: Sharing,
    /// How fast the inbox is gone through.
    pub pace: Pace,
}

/// The number after the last of a kind of row; the first is 1.
pub fn next<K: Ord, V>(rows: &BTreeMap<K, V>, number: impl Fn(&K) -> u32) -> u32 {
    rows.last_key_value().map_or(1, |(id, _)| number(id) + 1)
}

/// Writes a file for this user alone (0600).
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(EngineError::io("writing", path))
}

impl Project {
    /// Opens a project; with what was mended, in words.
    pub fn open(folder: &Path) -> Result<(Project, Vec<String>), EngineError> {
        if folder.join(FOLDER).is_dir() {
            check_place(folder, &Settings::load(folder)?)?;
        }
        let Opened { store, rows, notices } = Store::open(folder)?;
        let project = Project::new(folder, store, rows, Settings::load(folder)?)?;
        Ok((project, notices))
    }

    /// With the rows of its store; makes the folders that are missing.
    pub fn new(
        folder: &Path,
        store: Store,
        rows: Vec<Row>,
        settings: Settings,
    ) -> Result<Project, EngineError> {
        let folder = folder
            .canonicalize()
            .map_err(EngineError::io("resolving", folder))?;
        let mut snapshot = Snapshot::empty(folder, settings);
        snapshot.seq = store.seq();
        // The project first: it says whose predictions count.
        let (first, others): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| matches!(row, Row::Project(_)));
        first.into_iter().chain(others).for_each(|row| snapshot.put(row));
        if let Some(ranking) = snapshot.ranking() {
            snapshot.order = store.blobs().get_json(ranking.order)?;
        }
        store
            .blobs()
            .leave_free(snapshot.settings.store.min_free_mb << 20);
        let sharing = Sharing::of(&snapshot.settings)?;
        let inbox = snapshot.folder.join(&snapshot.settings.inbox.folder);
        private_folder(&inbox)?;
        let mut project = Project {
            pace: Pace::of(&inbox, &snapshot.settings),
            snapshot,
            store,
            sharing,
        };
        project.drop_missing();
        private_folder(&project.folder("handouts"))?;
        // A folder that was there already is the project's from now on.
        sharing.open(&project.snapshot.folder, Share::Through)?;
        sharing.open(&project.folder("handouts"), Share::Look)?;
        sharing.open(&project.inbox(), Share::Drop)?;
        // What a task that was cut short left behind is of no use, but for the training that the open round goes on with.
        let work = project.folder("work");
        private_folder(&work)?;
        let goes_on = project.snapshot.open_round().map(|round| round.id.to_string());
        let emptying = || EngineError::io("emptying", &work);
        for item in std::fs::read_dir(&work).map_err(emptying())? {
            let item = item.map_err(emptying())?;
            let removed = match item.file_type() {
                Ok(_) if goes_on.as_ref().is_some_and(|round| item.file_name() == **round) => Ok(()),
                Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(item.path()),
                Ok(_) => std::fs::remove_file(item.path()),
                Err(error) => Err(error),
            };
            // A worker whose engine was killed may be taking its own away.
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(emptying()(error)),
                _ => {}
            }
        }
        Ok(project)
    }

    /// Where a round's training keeps what it goes on with when it is cut short.
    pub fn resume_folder(&self, round: RoundId) -> PathBuf {
        self.folder("work").join(round.to_string())
    }

    /// Removes what a training that is over would have gone on with.
    pub fn forget_training(&self, round: RoundId) {
        let folder = self.resume_folder(round);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, folder = %folder.display(), "a training's state could not be removed");
            }
            _ => {}
        }
    }

    /// Puts the current model's predictions back that are kept, after another model became current.
    pub fn find_predictions(&mut self) -> Result<(), EngineError> {
        let Some(model) = self.snapshot.project.model else {
            return Ok(());
        };
        let cases: Vec<CaseId> = self.snapshot.cases.keys().cloned().collect();
        for case in cases {
            if let Some(Row::Prediction(row)) = self.store.row(&RowKey::Prediction(model, case))?
                && self.is_there(&row)
            {
                self.snapshot.put(Row::Prediction(row));
            }
        }
        Ok(())
    }

    /// Lets go of what older models drew where that is not kept any more.
    pub fn drop_missing(&mut self) {
        let current = self.snapshot.project.model;
        let drawn = std::mem::take(&mut self.snapshot.predictions);
        let is_kept = |row: &Prediction| Some(row.model) == current || self.is_there(row);
        self.snapshot.predictions = drawn.into_iter().filter(|(_, row)| is_kept(row)).collect();
    }

    /// Whether what a model drew is still kept.
    pub fn is_there(&self, row: &Prediction) -> bool {
        let blobs = self.store.blobs();
        [row.labels, row.margins]
            .into_iter()
            .all(|hash| blobs.size(hash).is_some())
    }

    /// Journals the first entry of a new project.
    pub fn begin(&mut self, who: &str) -> Result<(), EngineError> {
        let row = Row::Project(self.snapshot.project.clone());
        self.commit(who, What::ProjectCreated, None, vec![row]).map(drop)
    }

    /// A folder of the project.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.snapshot.folder.join(name)
    }

    /// The watched folder.
    pub fn inbox(&self) -> PathBuf {
        self.snapshot.folder.join(&self.snapshot.settings.inbox.folder)
    }

    /// What `overtrace.toml` says now, unless [`Project::check_fixed`] refuses it.
    pub fn read_settings(&self, from_scratch: bool) -> Result<Settings, EngineError> {
        let settings = Settings::load(&self.snapshot.folder)?;
        self.check_fixed(&settings, from_scratch)?;
        Ok(settings)
    }

    /// Puts settings in force; whether they are others than before.
    pub fn put_settings(&mut self, settings: Settings) -> Result<bool, EngineError> {
        private_folder(&self.snapshot.folder.join(&settings.inbox.folder))?;
        let are_new = settings != self.snapshot.settings;
        self.store.blobs().leave_free(settings.store.min_free_mb << 20);
        self.snapshot.settings = settings;
        self.pace = Pace::of(&self.inbox(), &self.snapshot.settings);
        Ok(are_new)
    }

    /// Refuses settings that the project's models and masks were not made with.
    ///
    /// With `from_scratch` models are no obstacle. Masks hold classes, so the labels that masks were taken in
    /// with keep their values and places in any case; new ones may be added behind them.
    fn check_fixed(&self, settings: &Settings, from_scratch: bool) -> Result<(), EngineError> {
        let project = &self.snapshot.project;
        if let Some(masks) = &project.mask_labels {
            let values =
                |labels: &crate::settings::Labels| labels.0.iter().map(|l| l.value).collect::<Vec<_>>();
            if !values(&settings.labels).starts_with(&values(masks)) {
                return EngineError::refused(format!(
                    "labels are {} now, but masks were taken in as {masks}; put those back (new labels may be added \
                     behind them), or begin a new project",
                    settings.labels
                ));
            }
        }
        let Some((key, was, is)) = project
            .fixed
            .as_ref()
            .and_then(|fixed| fixed.difference(&Fixed::of(settings)))
        else {
            return Ok(());
        };
        if from_scratch {
            return Ok(());
        }
        EngineError::refused(format!(
            "{key} is {is} now, but this project's models were made with {was}; put it back, or begin anew with \
             `overtrace round start --from-scratch`"
        ))
    }

    /// Stores what was done; nothing else in the engine changes a row.
    ///
    /// The store comes first: when this returns the entry is on disk and the snapshot holds it.
    pub fn commit(
        &mut self,
        who: &str,
        what: What,
        why: Option<String>,
        rows: Vec<Row>,
    ) -> Result<Change, EngineError> {
        let order = rows.iter().find_map(|row| match row {
            Row::Ranking(ranking) => Some(ranking.order),
            _ => None,
        });
        // Read before the commit: after it nothing may fail.
        let order = order
            .map(|order| self.store.blobs().get_json(order))
            .transpose()?;
        let entry = self.store.commit(Timestamp::now(), who, what, why, rows)?;
        let change = Change {
            seq: entry.seq,
            what,
            rows: entry.rows,
            order,
        };
        self.snapshot
            .apply(change.clone())
            .expect("the engine's own snapshot misses no change");
        Ok(change)
    }

    /// Refuses to go on with settings that were changed before this start in a way the project cannot follow.
    pub fn check_settings(&self) -> Result<(), EngineError> {
        let from_scratch = self.snapshot.open_round().is_some_and(|round| round.from_scratch);
        self.check_fixed(&self.snapshot.settings, from_scratch)
    }

    /// A case by its name.
    pub fn case(&self, id: &CaseId) -> Result<&Case, EngineError> {
        self.snapshot.cases.get(id).ok_or_else(|| {
            EngineError::Refused(format!("no case is called {id}; `overtrace status` lists them"))
        })
    }

    /// The cut that the settings choose on a grid.
    pub fn plane(&self, grid: &Grid) -> Plane {
        let name = match self.snapshot.settings.image.plane {
            PlaneChoice::Auto => return Plane(grid.thickest_axis()),
            PlaneChoice::Sagittal => "sagittal",
            PlaneChoice::Coronal => "coronal",
            PlaneChoice::Axial => "axial",
        };
        Plane::named(name, grid).unwrap_or(Plane(grid.thickest_axis()))
    }

    /// The network that the settings describe.
    pub fn architecture(&self) -> Architecture {
        Architecture::of(&self.snapshot.settings)
    }

    /// The model that draws now.
    pub fn drawing_model(&self) -> Option<&Model> {
        self.snapshot.drawing_model()
    }

    /// A map of classes out of a blob that this engine wrote.
    pub fn label_map(&self, blob: Hash, role: &str) -> Result<LabelMap, EngineError> {
        label_map(self.store.blobs(), blob, role)
    }
}

/// A volume out of a blob; `role` is for the words of an error.
pub fn scan(blobs: &Blobs, blob: Hash, role: &str) -> Result<Scan, EngineError> {
    decode_scan(&blobs.get(blob)?, MAX_VOLUME_BYTES).map_err(|source| EngineError::Volume {
        file: role.to_string(),
        source,
    })
}

/// A map of bytes out of a blob that this engine wrote.
pub fn label_map(blobs: &Blobs, blob: Hash, role: &str) -> Result<LabelMap, EngineError> {
    let volume = scan(blobs, blob, role)?.volume;
    Ok(LabelMap {
        grid: volume.grid,
        voxels: volume.voxels.iter().map(|&v| v as u8).collect(),
    })
}
