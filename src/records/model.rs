//! Models, what they predicted, and the order they put the pool in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CaseId, Hash, ModelId, RankingId, RoundId};
use crate::settings::{Drawing, Networks, Pixels, Settings, Strategy};

/// The shape of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Architecture {
    /// Which it is, or the members of a committee.
    #[serde(default)]
    pub networks: Networks,
    /// Images on one grid.
    pub channels: usize,
    /// Classes, background included.
    pub classes: usize,
    /// How wide it is; 64 is what was published.
    pub base_channels: usize,
    /// Slices that it sees at every place, those beside a slice as further channels.
    #[serde(default = "one")]
    pub slices: usize,
    /// Whether a U-shape network has classifiers at lower levels, to be taught by.
    #[serde(default)]
    pub deep_supervision: bool,
}

/// What a network saw at every place before there was a choice.
pub(super) fn one() -> usize {
    1
}

impl Architecture {
    /// The network that settings describe.
    pub fn of(settings: &Settings) -> Architecture {
        Architecture {
            networks: settings.model.networks,
            channels: settings.image.channels,
            classes: settings.classes(),
            base_channels: settings.model.base_channels,
            slices: settings.model.slices,
            deep_supervision: settings.model.deep_supervision,
        }
    }

    /// The first thing in which two differ whose weights the one cannot take from the other, the classes left out: its name, the
    /// setting that decides, and both values.
    pub fn difference(&self, other: &Architecture) -> Option<(&'static str, &'static str, String, String)> {
        let values = |shape: &Architecture| {
            [
                ("networks", "model.networks", shape.networks.to_string()),
                ("channels", "image.channels", shape.channels.to_string()),
                (
                    "base_channels",
                    "model.base_channels",
                    shape.base_channels.to_string(),
                ),
                ("slices", "model.slices", shape.slices.to_string()),
                (
                    "deep_supervision",
                    "model.deep_supervision",
                    shape.deep_supervision.to_string(),
                ),
            ]
        };
        let both = values(self).into_iter().zip(values(other));
        let mut differing = both.filter(|(a, b)| a.2 != b.2);
        differing
            .next()
            .map(|((key, setting, a), (.., b))| (key, setting, a, b))
    }

    /// Channels that a network's first layers take: every image at every slice that is seen.
    pub fn inputs(&self) -> usize {
        self.channels * self.slices
    }
}

/// A set of trained weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its number.
    pub id: ModelId,
    /// The model whose weights it started from.
    pub parent: Option<ModelId>,
    /// Who made it.
    pub origin: ModelOrigin,
    /// Its shape.
    pub architecture: Architecture,
    /// Its weights and biases, counted.
    pub parameters: usize,
    /// Blob of the safetensors checkpoint.
    pub weights: Hash,
    /// Blob of the frozen training set: JSON list of [`TrainedOn`].
    pub trained_on: Option<Hash>,
    /// Number of cases in it.
    pub trained_cases: usize,
    /// Blob of the learning curve: JSON list of `EpochReport`.
    pub curve: Option<Hash>,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Epochs trained.
    pub epochs: usize,
    /// Seconds trained.
    pub seconds: f64,
    /// Validation Dice per class at the best epoch, background left out.
    pub validation_dice: Vec<Option<f64>>,
    /// When it was finished.
    pub at: Timestamp,
}

/// Who made a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelOrigin {
    /// A training round of this project.
    Round(RoundId),
    /// `overtrace model import`: another project's weights.
    Imported,
}

/// One case of a frozen training set, by the mask version it trained with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedOn {
    /// The case.
    pub case: CaseId,
    /// Blob of the mask.
    pub mask: Hash,
}

/// Exact sums over the pixels of one slice (or, added up, of one volume); padding is in none of them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SliceSums {
    /// Pixels.
    pub pixels: u64,
    /// Sum of p(best) - p(second best).
    pub margin: f64,
    /// Sum of -sum p ln p, in nats.
    pub entropy: f64,
    /// Pixels whose best class is not background.
    pub foreground_pixels: u64,
    /// Their margins' sum.
    pub foreground_margin: f64,
    /// Their entropies' sum.
    pub foreground_entropy: f64,
    /// Sum of how much the members of a committee differ: the entropy of what they say together, less the mean of their own
    /// (BALD, Houlsby et al. 2011), in nats; 0 of a single network.
    #[serde(default)]
    pub disagreement: f64,
    /// That of the pixels whose best class is not background.
    #[serde(default)]
    pub foreground_disagreement: f64,
}

impl SliceSums {
    /// Average BvSB over all pixels; `None` of none.
    pub fn average_bvsb(&self) -> Option<f64> {
        (self.pixels > 0).then(|| self.margin / self.pixels as f64)
    }
}

impl std::ops::AddAssign for SliceSums {
    fn add_assign(&mut self, other: SliceSums) {
        self.pixels += other.pixels;
        self.margin += other.margin;
        self.entropy += other.entropy;
        self.foreground_pixels += other.foreground_pixels;
        self.foreground_margin += other.foreground_margin;
        self.foreground_entropy += other.foreground_entropy;
        self.disagreement += other.disagreement;
        self.foreground_disagreement += other.foreground_disagreement;
    }
}

/// What one model says of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The case.
    pub case: CaseId,
    /// The model.
    pub model: ModelId,
    /// Blob of the label map (`.nii.gz` of classes, u8).
    pub labels: Hash,
    /// Blob of the margin map (`.nii.gz`, u8: 255 x (p(best) - p(second best)), rounded).
    pub margins: Hash,
    /// Blob of the per-slice sums: JSON list of [`SliceSums`].
    pub slices: Hash,
    /// Their total over the volume.
    pub sums: SliceSums,
    /// What each member of a committee says by itself, over the volume; none of a single network.
    #[serde(default)]
    pub members: Vec<SliceSums>,
    /// Voxels of each class, background first.
    pub class_voxels: Vec<u64>,
    /// The sum of the entropies of each class's pixels, in nats; none in drawings of before it was counted.
    #[serde(default)]
    pub class_entropies: Vec<f64>,
    /// How tiles became a drawing.
    #[serde(default)]
    pub drawing: Drawing,
    /// Dice against the case's mask per class (background left out), where there was one; empty otherwise.
    pub dice: Vec<Option<f64>>,
    /// The mask that `dice` was measured against.
    pub dice_mask: Option<Hash>,
    /// Seconds to read and predict.
    pub seconds: f64,
}

/// The order in which a pool would be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Its number.
    pub id: RankingId,
    /// How it was made.
    pub strategy: Strategy,
    /// Over which pixels.
    pub pixels: Pixels,
    /// The seed, where chance decided.
    pub seed: Option<u64>,
    /// The model that scored; `None` for a random order.
    pub model: Option<ModelId>,
    /// Blob of the order: JSON list of [`Scored`], first to ask first.
    pub order: Hash,
    /// Cases in it.
    pub cases: usize,
    /// When.
    pub at: Timestamp,
}

/// One case of a ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The case.
    pub case: CaseId,
    /// Its score; `None` where chance decided, or where the case has no foreground pixel.
    pub score: Option<f64>,
}
