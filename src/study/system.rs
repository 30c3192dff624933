//! What is held against each other: networks, and what they learn by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::settings::{Ensemble, Loss, Networks, Part, Settings, as_text};

/// What the name of a system ends with that learns by the mean squared error.
const MSE: &str = "-mse";

/// A network or a committee, how its members come to differ, and whether it learns by the mean squared error (the paper's
/// alternative) instead of what the settings say: `u-net`, `u-net-mse`, `u-net+voxresnet`, `u-net+u-net+u-net-folds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct System {
    /// The networks.
    pub networks: Networks,
    /// How they come to differ.
    pub ensemble: Ensemble,
    /// Whether by the mean squared error.
    pub mse: bool,
}

impl System {
    /// That of some settings.
    pub fn of(settings: &Settings) -> System {
        System {
            networks: settings.model.networks,
            ensemble: settings.training.ensemble,
            mse: settings.training.loss == Loss::Mse,
        }
    }

    /// Has settings be this system's.
    pub fn apply(self, settings: &mut Settings) {
        settings.model.networks = self.networks;
        let training = &mut settings.training;
        training.ensemble = self.ensemble;
        if self.mse {
            if training.has(Part::CrossEntropy) {
                training.without.push(Part::CrossEntropy);
            }
            training.loss = Loss::Mse;
        } else if training.loss == Loss::Mse {
            training.loss = Loss::Dice;
            training.without.retain(|part| *part != Part::CrossEntropy);
        }
    }
}

impl FromStr for System {
    type Err = String;

    fn from_str(text: &str) -> Result<System, String> {
        let (text, mse) = match text.strip_suffix(MSE) {
            Some(text) => (text, true),
            None => (text, false),
        };
        let ended = |ensemble: Ensemble| {
            let networks = text.strip_suffix(ensemble.name())?.strip_suffix('-')?;
            Some((networks, ensemble))
        };
        let ended = ended(Ensemble::Folds).or_else(|| ended(Ensemble::Snapshots));
        let (networks, ensemble) = ended.unwrap_or((text, Ensemble::Seeds));
        Ok(System {
            networks: networks.parse()?,
            ensemble,
            mse,
        })
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.networks)?;
        if self.ensemble != Ensemble::Seeds {
            write!(f, "-{}", self.ensemble.name())?;
        }
        f.write_str(if self.mse { MSE } else { "" })
    }
}

as_text!(System);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Recipe;

    #[test]
    fn a_system_says_what_it_is_and_makes_settings_its_own() {
        for name in [
            "u-net",
            "u-net-mse",
            "multi-scale",
            "u-net+voxresnet-mse",
            "u-net+u-net-folds",
            "u-net+u-net-snapshots-mse",
        ] {
            assert_eq!(name.parse::<System>().unwrap().to_string(), name);
        }
        assert!("u-net-msa".parse::<System>().is_err());
        let mut settings = Settings::default();
        assert_eq!(System::of(&settings).to_string(), "u-net");
        settings.training.recipe = Recipe::Strong;
        "voxresnet-mse".parse::<System>().unwrap().apply(&mut settings);
        let text = toml::to_string(&settings).unwrap();
        let read = Settings::parse(&text, "x".as_ref()).unwrap();
        assert_eq!(System::of(&read).to_string(), "voxresnet-mse");
        "u-net+u-net-folds"
            .parse::<System>()
            .unwrap()
            .apply(&mut settings);
        assert_eq!(System::of(&settings).to_string(), "u-net+u-net-folds");
        "u-net".parse::<System>().unwrap().apply(&mut settings);
        assert_eq!(
            (System::of(&settings).to_string().as_str(), settings.training.loss),
            ("u-net", Loss::Dice)
        );
    }
}
