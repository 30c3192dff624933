//! How cases are ranked and asked for.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `[query]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// How cases are ranked.
    pub strategy: Strategy,
    /// Which pixels Average BvSB and entropy average over.
    pub pixels: Pixels,
    /// Cases asked for in a round.
    pub budget: usize,
    /// Whether those of a round are chosen to differ, out of three times as many.
    pub diversity: bool,
    /// Seed of random rankings.
    pub seed: u64,
    /// Mean held-out Dice of the classes at which the loop ends by itself; 0 leaves that to the expert.
    pub target_dice: f64,
    /// Whether training starts by itself when the last queried case is back.
    pub train_when_complete: bool,
    /// The folder of another project on the same cases that asks in a random order, to hold the rounds against; relative
    /// to this project's. Empty: none.
    pub control: PathBuf,
    /// The folders of other projects on the same cases whose Dice is drawn beside this one's.
    pub beside: Vec<PathBuf>,
}

/// How cases are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Mean of p(best) - p(second best), lowest first (the paper's Eq. 2).
    AverageBvsb,
    /// Mean predictive entropy, highest first.
    Entropy,
    /// How much a committee's members differ (BALD), highest first.
    Disagreement,
    /// Mean entropy, each class having its turn, with noise that falls from ranking to ranking (ClaSP PE).
    ClassStratified,
    /// A seeded random order in which cases with more predicted foreground come earlier.
    ForegroundRandom,
    /// A seeded random order: the control.
    Random,
}

impl Strategy {
    /// All of them, the paper's first.
    pub const ALL: [Strategy; 6] = [
        Strategy::AverageBvsb,
        Strategy::Entropy,
        Strategy::Disagreement,
        Strategy::ClassStratified,
        Strategy::ForegroundRandom,
        Strategy::Random,
    ];

    /// What its scores are called.
    pub fn words(self) -> &'static str {
        match self {
            Strategy::AverageBvsb => "Average BvSB",
            Strategy::Entropy => "mean entropy",
            Strategy::Disagreement => "mean disagreement",
            Strategy::ClassStratified => "a class-stratified, noisy order by entropy",
            Strategy::ForegroundRandom => "a foreground-aware random order",
            Strategy::Random => "a random order",
        }
    }

    /// What settings call it.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::AverageBvsb => "average-bvsb",
            Strategy::Entropy => "entropy",
            Strategy::Disagreement => "disagreement",
            Strategy::ClassStratified => "class-stratified",
            Strategy::ForegroundRandom => "foreground-random",
            Strategy::Random => "random",
        }
    }

    /// Whether it gives every case a score.
    pub fn has_scores(self) -> bool {
        match self {
            Strategy::AverageBvsb | Strategy::Entropy | Strategy::Disagreement => true,
            Strategy::ClassStratified | Strategy::ForegroundRandom | Strategy::Random => false,
        }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(name: &str) -> Result<Strategy, String> {
        let found = Strategy::ALL.into_iter().find(|strategy| strategy.name() == name);
        let names = Strategy::ALL.map(Strategy::name).join(", ");
        found.ok_or_else(|| format!("{name:?} is no strategy; they are {names}"))
    }
}

/// Which pixels a score averages over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pixels {
    /// Every pixel of the volume, as the paper does.
    All,
    /// Pixels whose best class is not background.
    Foreground,
}

impl Default for Query {
    fn default() -> Self {
        Query {
            strategy: Strategy::AverageBvsb,
            pixels: Pixels::All,
            budget: 1,
            diversity: false,
            seed: 1,
            target_dice: 0.0,
            train_when_complete: true,
            control: PathBuf::new(),
            beside: Vec::new(),
        }
    }
}
