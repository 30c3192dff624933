//! How a side of a comparison ranks and asks for cases.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::settings::{Pixels, Settings, Strategy, as_text};

/// What the name ends with of one that averages over what was drawn as foreground alone.
pub(super) const FOREGROUND: &str = "-foreground";
/// What it ends with where those of a round are to differ.
pub(super) const DIVERSE: &str = "-diverse";

/// A strategy, over which pixels it averages, and whether the cases of a round are to differ: `average-bvsb`,
/// `average-bvsb-foreground`, `entropy-diverse`, `average-bvsb-foreground-diverse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueryStrategy {
    /// How cases are ranked.
    pub strategy: Strategy,
    /// Over which pixels.
    pub pixels: Pixels,
    /// Whether those of a round are chosen to differ.
    pub diverse: bool,
}

impl QueryStrategy {
    /// At random: what the others are held against.
    pub const RANDOM: QueryStrategy = QueryStrategy {
        strategy: Strategy::Random,
        pixels: Pixels::All,
        diverse: false,
    };

    /// The paper's.
    pub const AVERAGE_BVSB: QueryStrategy = QueryStrategy {
        strategy: Strategy::AverageBvsb,
        ..QueryStrategy::RANDOM
    };

    /// That of some settings: what they say that `strategy` takes no notice of is left out.
    pub fn of(settings: &Settings) -> QueryStrategy {
        let query = &settings.query;
        QueryStrategy {
            strategy: query.strategy,
            pixels: match query.strategy.has_scores() {
                true => query.pixels,
                false => Pixels::All,
            },
            diverse: query.diversity && query.strategy != Strategy::Random,
        }
    }

    /// Has settings ask so.
    pub fn apply(self, settings: &mut Settings) {
        settings.query.strategy = self.strategy;
        settings.query.pixels = self.pixels;
        settings.query.diversity = self.diverse;
    }

    /// In words, for tables.
    pub fn words(self) -> String {
        let over = match self.pixels {
            Pixels::All => "",
            Pixels::Foreground => " of the foreground",
        };
        let differ = if self.diverse { ", chosen to differ" } else { "" };
        format!("{}{over}{differ}", self.strategy.words())
    }
}

impl FromStr for QueryStrategy {
    type Err = String;

    fn from_str(text: &str) -> Result<QueryStrategy, String> {
        let (rest, diverse) = match text.strip_suffix(DIVERSE) {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (name, pixels) = match rest.strip_suffix(FOREGROUND) {
            Some(name) => (name, Pixels::Foreground),
            None => (rest, Pixels::All),
        };
        let known =
            |error: String| format!("{error}, with {FOREGROUND}, {DIVERSE} or both in this order behind");
        let strategy: Strategy = name.parse().map_err(known)?;
        if pixels == Pixels::Foreground && !strategy.has_scores() {
            return Err(format!("{name} averages over no pixels; leave {FOREGROUND} out"));
        }
        if diverse && strategy == Strategy::Random {
            return Err(format!("{name} asks for cases as they come; leave {DIVERSE} out"));
        }
        Ok(QueryStrategy {
            strategy,
            pixels,
            diverse,
        })
    }
}

impl fmt::Display for QueryStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.strategy.name())?;
        if self.pixels == Pixels::Foreground {
            f.write_str(FOREGROUND)?;
        }
        f.write_str(if self.diverse { DIVERSE } else { "" })
    }
}

as_text!(QueryStrategy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_of_asking_says_what_it_is_and_makes_settings_its_own() {
        let mut settings = Settings::default();
        for name in [
            "random",
            "class-stratified-diverse",
            "average-bvsb",
            "entropy-foreground",
            "average-bvsb-foreground-diverse",
        ] {
            let strategy: QueryStrategy = name.parse().unwrap();
            assert_eq!(strategy.to_string(), name);
            strategy.apply(&mut settings);
            assert_eq!(QueryStrategy::of(&settings), strategy);
        }
        assert_eq!(
            QueryStrategy::of(&settings).words(),
            "Average BvSB of the foreground, chosen to differ"
        );
        // What is said of pixels and of differing means nothing to a random order.
        settings.query.strategy = Strategy::Random;
        assert_eq!(QueryStrategy::of(&settings), QueryStrategy::RANDOM);
    }

    #[test]
    fn one_that_cannot_be_is_told_why() {
        let why = |name: &str| name.parse::<QueryStrategy>().unwrap_err();
        assert!(why("average-bvbs").contains("average-bvsb, entropy"));
        assert!(why("average-bvsb-diverse-foreground").contains("is no strategy"));
        assert!(why("random-diverse").contains("leave -diverse out"));
        assert!(why("foreground-random-foreground").contains("leave -foreground out"));
    }
}
