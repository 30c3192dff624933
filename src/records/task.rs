//! What the compute worker is asked, what it says meanwhile, and what comes of it: paths and settings, no tensors.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Architecture, BenchRow, BenchTask, CaseId, Hash, Machine, SliceSums};
use crate::imaging::Plane;
use crate::settings::{Drawing, Intensity, Precision, Training};

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Task {
    /// Learn.
    Train(TrainTask),
    /// Draw.
    Predict(PredictTask),
    /// Say how fast that is.
    Bench(BenchTask),
}

/// Train a network on a frozen list of cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainTask {
    /// The network's shape.
    pub architecture: Architecture,
    /// Weights to start from; drawn from the seed when `None`. A head of another number of classes is drawn anew.
    pub start: Option<PathBuf>,
    /// The cases.
    pub cases: Vec<TrainCase>,
    /// How.
    pub training: Training,
    /// How intensities become input.
    pub intensity: Intensity,
    /// Numbers on a GPU.
    pub precision: Precision,
    /// Where the best weights go (safetensors, written by rename).
    pub weights: PathBuf,
    /// Folder of what a training that is cut short goes on with; `None` keeps nothing.
    pub resume: Option<PathBuf>,
}

/// A labelled case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainCase {
    /// Its name.
    pub id: CaseId,
    /// NIfTI files, one a channel.
    pub images: Vec<PathBuf>,
    /// NIfTI file of classes.
    pub mask: PathBuf,
    /// The cut.
    pub plane: Plane,
}

/// Draw the label maps and margins of some cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictTask {
    /// The network's shape.
    pub architecture: Architecture,
    /// Its weights (safetensors).
    pub weights: PathBuf,
    /// The cases. A worker is sent none of them here: it asks for one after the other.
    pub cases: Vec<PredictCase>,
    /// How intensities become input.
    pub intensity: Intensity,
    /// Numbers on a GPU.
    pub precision: Precision,
    /// Tiles a batch.
    pub batch: usize,
    /// How tiles become a drawing.
    pub drawing: Drawing,
    /// Threads; 0 takes every core.
    pub threads: usize,
    /// Folder for the files of the results.
    pub folder: PathBuf,
}

/// A case to draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictCase {
    /// Its name.
    pub id: CaseId,
    /// NIfTI files, one a channel.
    pub images: Vec<PathBuf>,
    /// NIfTI file of classes to measure Dice against, and its blob.
    pub mask: Option<(PathBuf, Hash)>,
    /// The cut.
    pub plane: Plane,
}

/// One epoch of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// From 1.
    pub epoch: usize,
    /// Mean loss over the epoch's steps.
    pub loss: f64,
    /// Validation Dice per class, background left out; `None` where a class is in neither map.
    pub dice: Vec<Option<f64>>,
    /// The best epoch so far, this one included.
    pub best_epoch: usize,
    /// Seconds this epoch took, validation included.
    pub seconds: f64,
}

/// How much of a device is in use, by everybody on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUse {
    /// Its name and number.
    pub device: String,
    /// Memory in use.
    pub used_bytes: u64,
    /// Memory in all.
    pub total_bytes: u64,
    /// Share of the last moment in which it computed; `None` where the driver does not say.
    pub busy_percent: Option<u32>,
}

/// What a task says while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Progress {
    /// Steps done in the running epoch.
    Step {
        /// From 1.
        epoch: usize,
        /// Epochs at most.
        max_epochs: usize,
        /// Steps done.
        step: usize,
        /// Steps an epoch.
        steps: usize,
    },
    /// An epoch ended.
    Epoch(EpochReport),
    /// A part of the running case was drawn.
    Drawing,
    /// Nothing new; asks only whether to go on.
    Waiting,
    /// How much of the device is in use.
    Device(DeviceUse),
    /// Something was timed.
    Timed(BenchRow),
    /// What people should know of how it is done.
    Notice(String),
    /// A case was drawn; its files are written.
    Case(Box<Predicted>),
}

/// What came of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Every epoch.
    pub curve: Vec<EpochReport>,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Seconds in all.
    pub seconds: f64,
}

/// What came of drawing one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// The case.
    pub case: CaseId,
    /// File of the label map (`.nii.gz` of classes, u8).
    pub labels: PathBuf,
    /// File of the margin map (`.nii.gz`, u8).
    pub margins: PathBuf,
    /// One a slice.
    pub slices: Vec<SliceSums>,
    /// What each member of a committee says by itself, over the volume; none of a single network.
    pub members: Vec<SliceSums>,
    /// Voxels of each class, background first.
    pub class_voxels: Vec<u64>,
    /// The sum of the entropies of each class's pixels, in nats.
    pub class_entropies: Vec<f64>,
    /// How tiles became the drawing.
    pub drawing: Drawing,
    /// Blob of the mask that `dice` is against.
    pub dice_mask: Option<Hash>,
    /// Dice against the mask per class, background left out; empty without a mask.
    pub dice: Vec<Option<f64>>,
    /// Seconds to read, draw and write.
    pub seconds: f64,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TaskResult {
    /// Trained to the end.
    Trained(Trained),
    /// Drew every case; what came of each was told when it was drawn.
    Predicted,
    /// Timed everything; each was told when it was known.
    Timed(Machine),
    /// Stopped because it was told to.
    Cancelled,
    /// Could not be done, and why.
    Failed(String),
}
