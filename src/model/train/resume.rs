//! What a training that was cut short goes on with: weights and optimizer of the last epoch kept, the best epoch's, and
//! where it was. A training that goes on reaches the weights, on the CPU to the bit, that it would have reached at once.
//!
//! ```text
//! state.json            where it was, and the hashes of the two files
//! last-7.safetensors    after the last epoch that was kept
//! best-5.safetensors    after the best epoch so far
//! lock                  one training at a time: a worker whose engine was killed may still be at its last step
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::imaging::Rng;
use crate::model::ModelError;
use crate::model::checkpoint::{self, Checkpoint};
use crate::records::{EpochReport, TrainTask};

/// The file that says where a training is.
const STATE: &str = "state.json";
/// Share of the time that may go into keeping, before what an epoch takes is weighed against it.
const SHARE: f64 = 0.05;
/// After this long it is kept whatever that takes.
const LONGEST: Duration = Duration::from_secs(300);

/// Where a training is, after an epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Every epoch so far.
    pub curve: Vec<EpochReport>,
    /// The best epoch and its score.
    pub best: Option<(usize, f64)>,
    /// Deals the next epoch's batches.
    pub shuffle: Rng,
    /// The network's tiles at a time, which a full GPU may have lowered.
    pub batch: usize,
    /// Seconds that the training has taken.
    pub seconds: f64,
}

/// A state on disk, and what it belongs to.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Hash of the task: another task begins at its beginning.
    task: String,
    state: State,
    /// Names and hashes of the last epoch's and the best epoch's checkpoint.
    last: (String, String),
    best: (String, String),
}

/// What there is to go on with.
#[derive(Debug)]
pub struct Resumed {
    /// Where it was.
    pub state: State,
    /// After the last epoch.
    pub last: Checkpoint,
    /// After the best one.
    pub best: Checkpoint,
}

/// Keeps a training's state in its folder, where it has one.
#[derive(Debug)]
pub struct Keeper {
    folder: Option<PathBuf>,
    task: String,
    began: Instant,
    spent: Duration,
    last: Instant,
    /// The best epoch whose checkpoint is on disk, with its name and hash.
    best: Option<(usize, (String, String))>,
    _lock: Option<File>,
}

impl Keeper {
    /// Waits for the folder, and reads what a training of the same task left there; why that cannot be used, in words.
    ///
    /// # Errors
    /// [`ModelError::Io`] where the folder cannot be made or locked.
    pub fn open(task: &TrainTask) -> Result<(Keeper, Option<Result<Resumed, String>>), ModelError> {
        let mut keeper = Keeper {
            folder: task.resume.clone(),
            task: hash_of(task),
            began: Instant::now(),
            spent: Duration::ZERO,
            last: Instant::now(),
            best: None,
            _lock: None,
        };
        let Some(folder) = &keeper.folder else {
            return Ok((keeper, None));
        };
        fs::create_dir_all(folder).map_err(ModelError::io("making folder", folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(ModelError::io("making", &path))?;
        lock.lock().map_err(ModelError::io("locking", &path))?;
        keeper._lock = Some(lock);
        let found = read(folder, &keeper.task, task);
        let (kept, found) = match found {
            Ok(Some((kept, resumed))) => (Some(kept), Some(Ok(resumed))),
            Ok(None) => (None, None),
            Err(why) => (None, Some(Err(why))),
        };
        // What was being written when it was cut short, or is of no use.
        keeper.clean(kept.as_ref());
        keeper.best = kept.and_then(|kept| Some((kept.state.best?.0, kept.best)));
        Ok((keeper, found))
    }

    /// Removes everything but the lock and the files of this state.
    fn clean(&self, kept: Option<&Kept>) {
        let names = kept.map_or([""; 3], |kept| {
            [STATE, kept.last.0.as_str(), kept.best.0.as_str()]
        });
        let files = self.folder.iter().flat_map(fs::read_dir).flatten().flatten();
        for file in files {
            let name = file.file_name();
            if name != "lock" && !names.iter().any(|known| name == *known) {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    /// Whether the epoch just done is to be kept: each is, unless that would take more than a share of the time; after some
    /// minutes in any case.
    pub fn is_due(&self) -> bool {
        self.folder.is_some()
            && (self.spent.as_secs_f64() <= SHARE * self.began.elapsed().as_secs_f64()
                || self.last.elapsed() >= LONGEST)
    }

    /// Keeps a state; when this returns it is on disk, and the one before is gone.
    ///
    /// # Errors
    /// [`ModelError::Io`]; the one before is still there then.
    pub fn keep(&mut self, state: &State, last: &Checkpoint, best: &Checkpoint) -> Result<(), ModelError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let began = Instant::now();
        let write = |name: String, checkpoint: &Checkpoint| -> Result<(String, String), ModelError> {
            let path = folder.join(&name);
            checkpoint::save(checkpoint, &path, true)?;
            let bytes = fs::read(&path).map_err(ModelError::io("reading", &path))?;
            Ok((name, blake3::hash(&bytes).to_hex().to_string()))
        };
        let epoch = state.curve.len();
        let last = write(format!("last-{epoch}.safetensors"), last)?;
        let best_epoch = state.best.map_or(epoch, |(epoch, _)| epoch);
        let best = match self.best.take() {
            Some((known, file)) if known == best_epoch => file,
            _ => write(format!("best-{best_epoch}.safetensors"), best)?,
        };
        let kept = Kept {
            task: self.task.clone(),
            state: state.clone(),
            last,
            best: best.clone(),
        };
        let (path, beside) = (folder.join(STATE), folder.join("state.json.new"));
        let bytes = serde_json::to_vec(&kept).expect("a state is plain numbers and text");
        fs::write(&beside, bytes)
            .and_then(|()| File::open(&beside)?.sync_all())
            .and_then(|()| fs::rename(&beside, &path))
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(ModelError::io("writing", &path))?;
        self.clean(Some(&kept));
        self.best = Some((best_epoch, best));
        self.last = Instant::now();
        self.spent += began.elapsed();
        Ok(())
    }
}

/// What a training of the task with this hash left in a folder; why that cannot be used, in words.
fn read(folder: &Path, hash: &str, task: &TrainTask) -> Result<Option<(Kept, Resumed)>, String> {
    let bytes = match fs::read(folder.join(STATE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if kept.task != hash {
        return Err("it is of another training".into());
    }
    let checkpoint = |(name, hash): &(String, String)| {
        let path = folder.join(name);
        let bytes = fs::read(&path).map_err(|error| format!("{name}: {error}"))?;
        if blake3::hash(&bytes).to_hex().as_str() != hash {
            return Err(format!("{name} is damaged"));
        }
        checkpoint::restore(&path, &bytes, &task.architecture).map_err(|error| error.to_string())
    };
    let resumed = Resumed {
        state: kept.state.clone(),
        last: checkpoint(&kept.last)?,
        best: checkpoint(&kept.best)?,
    };
    Ok(Some((kept, resumed)))
}

/// A hash of everything that a training's result depends on.
fn hash_of(task: &TrainTask) -> String {
    let parts = TrainTask {
        weights: PathBuf::new(),
        resume: None,
        ..task.clone()
    };
    let json = serde_json::to_vec(&parts).expect("a task is plain data");
    blake3::hash(&json).to_hex().to_string()
}
