//! The command line.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};

use crate::records::{CaseId, CorrectionId, HeldId, Pool};
use crate::settings::{Device, Devices, Networks, Pixels, Precision, Strategy};
use crate::study::{Kind, QueryStrategy, System};

/// Which volume to annotate next, drawn beforehand, and how much of its contour nobody had to draw.
///
/// Without a command the app opens on the project.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Args {
    /// The project folder
    #[arg(short, long, global = true, default_value = ".", value_name = "DIR")]
    pub project: PathBuf,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true)]
    pub json: bool,
    /// Keymap of the app: default, vim or emacs
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub keymap: String,
    /// Looks of the app: auto, dark, light, high-contrast, colour-blind, mono, or own (theme.toml)
    #[arg(long, global = true, default_value = "auto", value_name = "NAME")]
    pub theme: String,
    /// Pictures of the app: auto, half, sixel, kitty, iterm2, ascii or off
    #[arg(long, global = true, default_value = "auto", value_name = "HOW")]
    pub picture: String,
    /// Nothing but ASCII on the screen: pictures in letters, lines and bars of dashes
    #[arg(long, global = true)]
    pub ascii: bool,
    /// The app keeps the engine in its own process: it ends, and a round stops, when the app is left
    #[arg(long, global = true)]
    pub in_process: bool,
    /// Leave the mouse to the terminal
    #[arg(long, global = true)]
    pub no_mouse: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a project folder with a commented overtrace.toml
    Init {
        /// The folder [default: that of --project]
        folder: Option<PathBuf>,
    },
    /// Take images in, with or without masks
    Import {
        /// Image files, case folders (image.nii.gz, label.nii.gz), folders of case folders, or CSV lists
        /// (case,image,mask,pool; image2.. for further channels)
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// The pool [default: labelled with a mask, otherwise unlabelled]
        #[arg(long, value_enum)]
        pool: Option<PoolName>,
        /// The mask, when one image file is given
        #[arg(long, value_name = "FILE")]
        mask: Option<PathBuf>,
        /// The case's name, when one image file is given
        #[arg(long, value_name = "NAME")]
        id: Option<CaseId>,
    },
    /// Show pools, models, the open round and what waits
    Status,
    /// Predict the unlabelled pool and show who would be asked next
    Rank {
        /// How to rank [default: the settings']
        #[arg(long, value_parser = strategies())]
        strategy: Option<Strategy>,
        /// Which pixels a score averages over [default: the settings']
        #[arg(long, value_enum)]
        pixels: Option<PixelsName>,
    },
    /// Write a case's image, pre-annotation and instructions for a person
    Handout {
        /// The case [default: the next one asked for]
        case: Option<CaseId>,
        /// Who gets it [default: you]
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        /// Give the case, which has come back, to a second reader: what the first one was given
        #[arg(long, requires = "case", conflicts_with_all = ["take_over", "withdraw"])]
        second_reading: bool,
        /// Give it to somebody else who has it no more, with the reason
        #[arg(long, value_name = "WHY", requires = "case", conflicts_with = "withdraw")]
        take_over: Option<String>,
        /// Take it back instead, with the reason
        #[arg(long, value_name = "WHY", requires = "case")]
        withdraw: Option<String>,
    },
    /// Look into the inbox, take in what came back, and list what is held
    Inbox {
        /// Decide about one file, or note a time
        #[command(subcommand)]
        action: Option<InboxAction>,
        /// Stay, take in what comes, and train when a round is complete
        #[arg(long)]
        watch: bool,
    },
    /// The rounds, or the next step of one
    Round {
        /// The step [default: list the rounds]
        #[command(subcommand)]
        action: Option<RoundAction>,
    },
    /// What was corrected, with saved effort; or the whole audit trail
    History {
        /// Every journal entry instead of the corrections
        #[arg(long)]
        journal: bool,
    },
    /// Write masks (without one: the newest predictions) as NIfTI with the labels' values; with --json and without a
    /// folder, print the whole history
    Export {
        /// Folder for the files
        #[arg(required_unless_present = "json")]
        folder: Option<PathBuf>,
        /// The cases [default: all that have a mask or a prediction]
        cases: Vec<CaseId>,
        /// How the files are written
        #[arg(long, value_enum, default_value_t = Format::NiiGz)]
        format: Format,
    },
    /// Leave a case out of ranking, training and measuring
    Exclude {
        /// The case
        case: CaseId,
        /// The reason
        #[arg(long)]
        why: String,
    },
    /// Bring an excluded case back
    Include {
        /// The case
        case: CaseId,
    },
    /// The models
    Model {
        /// The step [default: list the models]
        #[command(subcommand)]
        action: Option<ModelAction>,
    },
    /// The process that has the project open, watches the inbox and trains, whoever is attached
    Engine {
        /// What about it
        #[command(subcommand)]
        action: EngineAction,
    },
    /// Check everything that is kept: the journal's chain, every blob, every saved effort and ranking derived again
    Verify,
    /// Make the index anew from the journal
    Rebuild,
    /// Remove what is not kept for ever: label maps and margins of models that are not current, and what nothing names
    Gc {
        /// Only say what that would be
        #[arg(long)]
        dry_run: bool,
    },
    /// Erase a case whose patient withdrew: its bytes for good, but not the entries that name it
    Forget {
        /// The case
        case: CaseId,
        /// The reason
        #[arg(long)]
        reason: String,
    },
    /// Write the whole project to one file, also while its engine runs
    Backup {
        /// The file to write
        file: PathBuf,
    },
    /// Make a project of a backup
    Restore {
        /// The file
        file: PathBuf,
        /// The folder to make
        folder: PathBuf,
    },
    /// Time the network on this machine
    Bench {
        /// Which network: u-net, voxresnet or multi-scale; a committee has + between them
        #[arg(long, default_value = "u-net")]
        networks: Networks,
        /// How wide; 64 is what was published
        #[arg(long, value_delimiter = ',', default_values_t = [8, 16, 32, 64], value_parser = clap::value_parser!(u16).range(1..=256))]
        base_channels: Vec<u16>,
        /// 64x64 tiles a batch
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
        batch: u16,
        /// Threads [default: every core]
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        threads: u16,
        /// Times each thing is done
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
        runs: u16,
        /// Draw a whole 256x128x256 volume too, none of its tiles skipped
        #[arg(long)]
        volume: bool,
        /// What computes: auto, cpu, cuda:0, ..
        #[arg(long, default_value = "auto")]
        device: Devices,
        /// Numbers on a GPU: tf32, f32 or bf16 (forward alone)
        #[arg(long, default_value = "tf32")]
        precision: Precision,
    },
    /// Try strategies on labelled cases, the stored labels playing the annotator; the same command again goes on
    Experiment(ExperimentArgs),
    /// Do the task that comes through standard input: what overtrace starts itself as
    #[command(hide = true)]
    Worker {
        /// What computes
        #[arg(long)]
        device: Device,
    },
    /// Read the volumes that come through standard input: what overtrace starts itself as for files from outside
    #[command(hide = true)]
    Parse {
        /// What the engine is built from
        #[arg(long)]
        build: String,
    },
    /// Make a project of phantoms, run the loop on it with a stand-in annotator, and open the app
    Demo {
        /// The folder; an earlier demo there is made anew
        #[arg(default_value = "overtrace-demo")]
        folder: PathBuf,
        /// Print the tables even on a terminal
        #[arg(long)]
        no_app: bool,
        /// Epochs a training at most: few for a quick look at networks that have learnt little
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
        max_epochs: u32,
    },
}

/// Forms of a NIfTI file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One packed file, `.nii.gz`
    NiiGz,
    /// One plain file, `.nii`
    Nii,
    /// Two plain files, `.hdr` and `.img`
    Pair,
}

/// What about the engine.
#[derive(Debug, Subcommand)]
pub enum EngineAction {
    /// Start it, unless it runs
    Start {
        /// In this process, until Ctrl-C or SIGTERM: for a service manager
        #[arg(long)]
        foreground: bool,
    },
    /// Be the engine that was just started in the background
    #[command(hide = true)]
    Serve,
    /// Say which process it is, who is attached and what it is at
    Status,
    /// End it, for everybody; a round that it is at goes on with the next one
    Stop,
    /// Print the end of its log
    Logs {
        /// Lines of it
        #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
        lines: usize,
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
    },
}

/// What to do about the inbox.
#[derive(Debug, Subcommand)]
pub enum InboxAction {
    /// Take a held file in after all
    Accept {
        /// Its number, f1
        held: HeldId,
    },
    /// Take a held file in, read the other way that is named beside it
    Fix {
        /// Its number, f1
        held: HeldId,
    },
    /// Have a case train with this one of its corrections
    Choose {
        /// Its number, c1
        correction: CorrectionId,
        /// The reason
        #[arg(long)]
        why: String,
    },
    /// Move a held file to quarantine
    Refuse {
        /// Its number, f1
        held: HeldId,
        /// The reason
        #[arg(long)]
        why: String,
    },
    /// Note how long a person worked on a case's last correction
    Minutes {
        /// The case
        case: CaseId,
        /// Minutes at work
        minutes: f64,
    },
}

/// What is tried, on which cases.
#[derive(Debug, clap::Args)]
pub struct ExperimentArgs {
    /// What is asked
    #[arg(value_enum)]
    pub kind: KindName,
    /// The folder that the runs and the report are made in
    pub folder: PathBuf,
    /// Labelled cases, as `import` takes them
    #[arg(long, num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Make so many phantoms instead
    #[arg(long, conflicts_with = "data")]
    pub phantoms: Option<u32>,

    /// What the phantoms are of
    #[arg(long = "of", value_enum, default_value = "brain", requires = "phantoms")]
    pub of: PhantomsName,
    /// Runs of each strategy, each with other first cases and weights
    #[arg(long, default_value_t = 1)]
    pub seeds: u32,
    /// The systems, with commas between: networks (u-net, voxresnet, multi-scale), committees of them (u-net+voxresnet; u-net+u-net
    /// with -folds or -snapshots behind), and either by the mean squared error (u-net-mse) [default: the settings']
    #[arg(long, value_delimiter = ',', value_name = "SYSTEM")]
    pub systems: Vec<System>,
    /// The strategies, with commas between: average-bvsb, entropy, disagreement (these with -foreground behind to average over
    /// what was drawn as foreground alone), class-stratified, foreground-random (all of these with -diverse behind, last, to have
    /// the cases of a round differ) and random [default: the settings', and random]
    #[arg(long, value_delimiter = ',', value_name = "STRATEGY")]
    pub strategies: Vec<QueryStrategy>,
    /// Labelled cases to begin with
    #[arg(long, default_value_t = 2)]
    pub start: usize,
    /// Cases asked for in a round
    #[arg(long, default_value_t = 1)]
    pub budget: usize,
    /// Rounds of asking [default: until every case is labelled]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub rounds: usize,
    /// Parts that the cases are cut into, each measured on once
    #[arg(long, default_value_t = 2, conflicts_with = "test")]
    pub folds: usize,
    /// The cases that are measured on, with commas between
    #[arg(long, value_delimiter = ',')]
    pub test: Vec<CaseId>,
    /// Weights of another project to begin with (`--start 0` begins without a labelled case; `full` goes on learning from them)
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// An overtrace.toml: network, training, labels, effort .. of every run
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
}

/// What an experiment asks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KindName {
    /// How good is the network with everything labelled?
    Full,
    /// Which strategy needs fewer cases?
    Query,
    /// How much of each asked case need not be drawn?
    Effort,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Kind {
        match name {
            KindName::Full => Kind::Full,
            KindName::Query => Kind::Query,
            KindName::Effort => Kind::Effort,
        }
    }
}

/// A step of a round.
#[derive(Debug, Subcommand)]
pub enum RoundAction {
    /// List the rounds
    List,
    /// Ask for cases; without a model, train on the labels there are
    Start {
        /// Draw the weights anew; the way to other labels, plane, channels or width
        #[arg(long)]
        from_scratch: bool,
        /// Cases to ask for [default: the settings']
        #[arg(long, value_name = "N")]
        budget: Option<usize>,
        /// How to rank [default: the settings']
        #[arg(long, value_parser = strategies())]
        strategy: Option<Strategy>,
    },
    /// Train now, without the cases that are not back; or take up an interrupted round
    Train,
    /// End the open round early
    Abandon {
        /// The reason
        #[arg(long)]
        why: String,
    },
    /// Declare the performance satisfactory: no further round starts
    Satisfied {
        /// The reason
        #[arg(long)]
        why: String,
    },
    /// Go on after all
    Reopen {
        /// The reason
        #[arg(long)]
        why: String,
    },
}

/// A step about models.
#[derive(Debug, Subcommand)]
pub enum ModelAction {
    /// List the models
    List,
    /// Start from another project's weights
    Import {
        /// A safetensors checkpoint
        file: PathBuf,
    },
    /// Write the current model's weights for another project
    Export {
        /// The file to write
        file: PathBuf,
    },
}

/// A pool by its name.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs)]
pub enum PoolName {
    Labelled,
    Unlabelled,
    HeldOut,
}

impl From<PoolName> for Pool {
    fn from(name: PoolName) -> Pool {
        match name {
            PoolName::Labelled => Pool::Labelled,
            PoolName::Unlabelled => Pool::Unlabelled,
            PoolName::HeldOut => Pool::HeldOut,
        }
    }
}

/// Phantoms by what they are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PhantomsName {
    /// Brains as T1 MR shows them, one in five of them unusual
    Brain,
    /// Brains, none of them unusual
    UsualBrain,
    /// Abdomens as CT shows them, with six organs
    Abdomen,
}

/// Strategies by the names that settings have for them.
fn strategies() -> impl TypedValueParser<Value = Strategy> {
    PossibleValuesParser::new(Strategy::ALL.map(Strategy::name)).try_map(|name| name.parse::<Strategy>())
}

/// Pixels by their name.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs)]
pub enum PixelsName {
    All,
    Foreground,
}

impl From<PixelsName> for Pixels {
    fn from(name: PixelsName) -> Pixels {
        match name {
            PixelsName::All => Pixels::All,
            PixelsName::Foreground => Pixels::Foreground,
        }
    }
}
