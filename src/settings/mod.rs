//! `overtrace.toml`: what a project's owner may decide, read, checked and explained.
//!
//! Every key has a default and every unknown or ill-typed key is an error that names it and its line. The
//! structs here are plain data that other rooms take their part of; a round journals the [`Settings`] it
//! ran with. The room knows no case, model or store, and imports nothing of overtrace.

mod compute;
mod labels;
mod network;
mod query;
mod recipe;
mod template;
mod text;

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use compute::{Compute, Device, Devices, Precision};
pub use labels::{Label, Labels};
pub use network::{Model, Network, Networks};
pub use query::{Pixels, Query, Strategy};
pub use recipe::{Drawing, Ensemble, Part, Recipe};
pub use template::TEMPLATE;
pub(crate) use text::as_text;

/// The file's name inside a project folder.
pub const FILE: &str = "overtrace.toml";

/// Everything `overtrace.toml` says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The classes of a mask, background (always value 0) left out.
    pub labels: Labels,
    /// How images are read.
    pub image: Image,
    /// The network.
    pub model: Model,
    /// How a round trains.
    pub training: Training,
    /// Where it computes.
    pub compute: Compute,
    /// Which case to ask for next, and when to stop asking.
    pub query: Query,
    /// How saved effort is measured.
    pub effort: Effort,
    /// The watched folder.
    pub inbox: Inbox,
    /// Where everything is kept.
    pub store: Store,
}

/// `[image]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Image {
    /// How volumes are cut into slices.
    pub plane: PlaneChoice,
    /// How intensities become network input.
    pub intensity: Intensity,
    /// Images a case holds on one grid (T1, FLAIR, ..).
    pub channels: usize,
}

/// How volumes are cut into slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaneChoice {
    /// Across the axis with the thickest spacing.
    Auto,
    /// By anatomy: slices stacked left to right.
    Sagittal,
    /// By anatomy: slices stacked back to front.
    Coronal,
    /// By anatomy: slices stacked foot to head.
    Axial,
}

/// How intensities become network input; background (exact zero) stays at exact zero in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intensity {
    /// Zero mean and unit variance over the non-zero voxels of each image, shifted above the background.
    Zscore,
    /// Divided by the 99th percentile of the non-zero voxels.
    Percentile,
    /// Hounsfield units: air is the background, and soft tissue takes most of the range.
    Ct,
    /// As stored.
    None,
}

/// `[training]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// How it is taught, and how it draws then.
    pub recipe: Recipe,
    /// Parts of the recipe "strong" that are left out, to see what each is worth.
    pub without: Vec<Part>,
    /// Parts that are added to it, for long trainings.
    pub with: Vec<Part>,
    /// What is minimised.
    pub loss: Loss,
    /// How the members of a committee come to differ.
    pub ensemble: Ensemble,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Tiles a step.
    pub batch: usize,
    /// Passes over the training tiles at most.
    pub max_epochs: usize,
    /// Epochs without a better validation Dice before training stops.
    pub patience: usize,
    /// Steps that a training takes, however many epochs they are and however the validation goes; 0 leaves the end to
    /// `max_epochs` and `patience`. What is compared has to have learnt equally long.
    pub steps: usize,
    /// Seed of weights and shuffles.
    pub seed: u64,
    /// Threads to compute with; 0 takes every core.
    pub threads: usize,
}

/// What training minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// m - sum of the m classes' soft Dice over the batch (the paper's Eq. 1).
    Dice,
    /// Mean squared difference to the one-hot mask (the paper's alternative).
    Mse,
    /// Dice, and cross-entropy beside it.
    #[serde(rename = "dice-ce")]
    DiceCe,
}

/// `[effort]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Effort {
    /// How far, in mm in the slice, a predicted contour may lie from the corrected one and still count as shared.
    pub tolerance_mm: f64,
}

/// `[inbox]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inbox {
    /// The watched folder; relative to the project folder unless absolute.
    pub folder: PathBuf,
    /// Seconds a file must have kept its size and time before it is read.
    pub stable_s: f64,
    /// Seconds after which a file that is still incomplete is refused.
    pub incomplete_after_s: f64,
    /// Seconds between looks at the folder when no event says to look.
    pub rescan_s: f64,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// MB of the disk that are left free: what would take more is refused.
    pub min_free_mb: u64,
    /// Whether the project may lie on a file system of a network, whose locks and syncing are not to be relied on.
    pub network: bool,
    /// The group whose members may read hand-outs, drop masks and talk to the engine; empty: nobody.
    pub share_group: String,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            min_free_mb: 1024,
            network: false,
            share_group: String::new(),
        }
    }
}

impl Default for Image {
    fn default() -> Self {
        Image {
            plane: PlaneChoice::Auto,
            intensity: Intensity::Zscore,
            channels: 1,
        }
    }
}

impl Default for Training {
    fn default() -> Self {
        Training {
            recipe: Recipe::Paper,
            without: Vec::new(),
            with: Vec::new(),
            loss: Loss::Dice,
            ensemble: Ensemble::Seeds,
            learning_rate: 5e-4,
            batch: 16,
            max_epochs: 500,
            patience: 30,
            steps: 0,
            seed: 1,
            threads: 0,
        }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Effort { tolerance_mm: 0.0 }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox {
            folder: "inbox".into(),
            stable_s: 3.0,
            incomplete_after_s: 600.0,
            rescan_s: 30.0,
        }
    }
}

/// Why `overtrace.toml` could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("reading {path}: {source}; run `overtrace init` to make a project there")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An unknown key, a value of the wrong type, or no TOML at all.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line, column and the line itself.
        message: String,
    },
    /// A value of the right type that makes no sense.
    #[error("{path}, {key} = {value}: {remedy}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, with its section.
        key: &'static str,
        /// The value given.
        value: String,
        /// What it has to be.
        remedy: String,
    },
}

impl Settings {
    /// Reads and checks `overtrace.toml` in `project`.
    ///
    /// # Errors
    /// [`SettingsError`], naming the key and its line.
    pub fn load(project: &Path) -> Result<Settings, SettingsError> {
        let path = project.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| SettingsError::Read {
            path: path.clone(),
            source,
        })?;
        Settings::parse(&text, &path)
    }

    /// Reads and checks the text of a settings file; `path` is for the words of an error.
    ///
    /// # Errors
    /// [`SettingsError::Parse`] and [`SettingsError::Value`].
    pub fn parse(text: &str, path: &Path) -> Result<Settings, SettingsError> {
        let settings: Settings = toml::from_str(text).map_err(|error| SettingsError::Parse {
            path: path.to_path_buf(),
            message: error.to_string().trim_end().to_string(),
        })?;
        settings.check(path)?;
        Ok(settings)
    }

    /// Number of classes, background included.
    pub fn classes(&self) -> usize {
        self.labels.classes()
    }

    fn check(&self, path: &Path) -> Result<(), SettingsError> {
        let value = |key, value: String, remedy: &str| {
            Err(SettingsError::Value {
                path: path.to_path_buf(),
                key,
                value,
                remedy: remedy.to_string(),
            })
        };
        if let Err(remedy) = self.labels.check() {
            return value("labels", self.labels.to_string(), &remedy);
        }
        let training = &self.training;
        let positive: [(&'static str, usize); 6] = [
            ("image.channels", self.image.channels),
            ("model.base_channels", self.model.base_channels),
            ("training.batch", training.batch),
            ("training.max_epochs", training.max_epochs),
            ("training.patience", training.patience),
            ("query.budget", self.query.budget),
        ];
        if let Some((key, n)) = positive.into_iter().find(|(_, n)| *n == 0) {
            return value(key, n.to_string(), "has to be at least 1");
        }
        let (loss, has_entropy) = (training.loss, training.has(Part::CrossEntropy));
        let is_twice_said = match loss {
            Loss::Dice => false,
            Loss::Mse => has_entropy,
            Loss::DiceCe => training.recipe == Recipe::Strong,
        };
        if is_twice_said {
            return value(
                "training.loss",
                format!("{loss:?}"),
                "has to be \"dice\" with recipe = \"strong\", which adds cross-entropy, or \"mse\" without that",
            );
        }
        if self.query.strategy == Strategy::Disagreement && !self.model.networks.is_committee() {
            return value(
                "query.strategy",
                "disagreement".into(),
                "has to be another: a single network in model.networks has nobody to disagree with",
            );
        }
        let problem = self.model.problem();
        if let Some((key, is, remedy)) = problem.or_else(|| training.problem(self.model.networks)) {
            return value(key, is, remedy);
        }
        if self.query.budget > 1000 {
            return value(
                "query.budget",
                self.query.budget.to_string(),
                "has to be at most 1000",
            );
        }
        let rate = training.learning_rate;
        if !(rate > 0.0 && rate <= 1.0) {
            return value(
                "training.learning_rate",
                rate.to_string(),
                "has to be above 0 and at most 1",
            );
        }
        if self.compute.precision == Precision::Bf16 {
            return value(
                "compute.precision",
                "bf16".into(),
                "has to be \"tf32\" or \"f32\"; bf16 is for drawing_precision",
            );
        }
        let worker = &self.compute.cuda_worker;
        if !(worker.as_os_str().is_empty() || worker.is_absolute()) {
            return value(
                "compute.cuda_worker",
                worker.display().to_string(),
                "has to be a whole path from the root, or \"\" for overtrace-cuda beside overtrace",
            );
        }
        if !(0.0..=1.0).contains(&self.query.target_dice) {
            return value(
                "query.target_dice",
                self.query.target_dice.to_string(),
                "has to lie in 0 to 1",
            );
        }
        let amounts = [
            ("effort.tolerance_mm", self.effort.tolerance_mm),
            ("inbox.stable_s", self.inbox.stable_s),
            ("inbox.incomplete_after_s", self.inbox.incomplete_after_s),
        ];
        if let Some((key, amount)) = amounts
            .into_iter()
            .find(|(_, v)| !(v.is_finite() && (0.0..=1e6).contains(v)))
        {
            return value(key, amount.to_string(), "has to lie in 0 to 1000000");
        }
        let folder = &self.inbox.folder;
        let project = path.parent().unwrap_or(Path::new(""));
        let own = ["store", "work", "logs", "handouts"];
        let inside_own = own
            .iter()
            .any(|own| folder.starts_with(own) || folder.starts_with(project.join(own)));
        let odd = folder
            .components()
            .any(|part| matches!(part, Component::ParentDir | Component::CurDir));
        if folder.as_os_str().is_empty() || odd || inside_own || project.starts_with(folder) {
            return value(
                "inbox.folder",
                folder.display().to_string(),
                "has to be a folder of its own: not the project, nothing above it, none of overtrace's own folders",
            );
        }
        if !(self.inbox.rescan_s >= 0.1 && self.inbox.rescan_s <= 3600.0) {
            return value(
                "inbox.rescan_s",
                self.inbox.rescan_s.to_string(),
                "has to lie in 0.1 to 3600",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("overtrace.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn the_template_says_exactly_the_defaults() {
        assert_eq!(parse(TEMPLATE), Ok(Settings::default()));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse("[training]\nbatch = 8\nepochs = 3\n").unwrap_err();
        assert!(error.contains("line 3") && error.contains("epochs"), "{error}");
    }

    #[test]
    fn an_ill_typed_key_is_named_with_its_line() {
        let error = parse("\n[training]\nbatch = \"many\"\n").unwrap_err();
        assert!(
            error.contains("line 3") && error.contains("batch") && error.contains("string"),
            "{error}"
        );
    }

    #[test]
    fn a_value_that_makes_no_sense_names_its_remedy() {
        let error = parse("[training]\nlearning_rate = -1.0\n").unwrap_err();
        assert_eq!(
            error,
            "overtrace.toml, training.learning_rate = -1: has to be above 0 and at most 1"
        );
        assert!(parse("[query]\nbudget = 0\n").unwrap_err().contains("at least 1"));
        for (recipe, list, part) in [
            ("paper", "without", "poly"),
            ("paper", "with", "mirroring"),
            ("strong", "with", "poly"),
        ] {
            let error = parse(&format!(
                "[training]\nrecipe = \"{recipe}\"\n{list} = [\"{part}\"]\n"
            ))
            .unwrap_err();
            assert!(
                error.contains(&format!("training.{list} = {part}: "))
                    && error.contains("recipe = \"strong\""),
                "{error}"
            );
        }
        // What "strong" does not have may be left out of it.
        let has = |lists: &str, part| {
            let text = format!("[training]\nrecipe = \"strong\"\n{lists}\n");
            parse(&text).unwrap().training.has(part)
        };
        assert!(!has("without = [\"mirroring\"]", Part::Mirroring) && !has("", Part::Mirroring));
        assert!(has("with = [\"mirroring\"]", Part::Mirroring));
        assert!(!has("without = [\"poly\"]", Part::Poly) && has("", Part::Poly));
        let strong = |more: &str| parse(&format!("[training]\nrecipe = \"strong\"\n{more}\n"));
        assert!(
            strong("loss = \"dice-ce\"")
                .unwrap_err()
                .contains("training.loss")
        );
        assert!(strong("loss = \"mse\"").unwrap_err().contains("training.loss"));
        let mse = strong("loss = \"mse\"\nwithout = [\"cross-entropy\"]").unwrap();
        assert_eq!(mse.training.objective(), Loss::Mse);
        assert_eq!(strong("").unwrap().training.objective(), Loss::DiceCe);
        let error = parse("[compute]\nprecision = \"bf16\"\n").unwrap_err();
        assert!(error.contains("drawing_precision"), "{error}");
        let error = parse("[compute]\ncuda_worker = \"bin/overtrace-cuda\"\n").unwrap_err();
        assert!(error.contains("whole path"), "{error}");
        let error = parse("[compute]\ndevice = \"gpu\"\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("cuda:0"), "{error}");
        for folder in ["", ".", "..", "store/x", "a/../.."] {
            let error = parse(&format!("[inbox]\nfolder = {folder:?}\n")).unwrap_err();
            assert!(error.contains("a folder of its own"), "{error}");
        }
        assert!(
            parse("[effort]\ntolerance_mm = nan\n")
                .unwrap_err()
                .contains("tolerance_mm")
        );
    }
}
