//! Rounds: a state machine from asking to having learnt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::model::{Architecture, one};

use super::{CaseId, ClassEffort, Hash, ModelId, RankingId, RoundId, mean_of_known};
use crate::settings::{Labels, Networks, PlaneChoice, Settings, Strategy};

/// Where a round is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoundState {
    /// The pool is predicted and ranked.
    Querying,
    /// People have the queried cases.
    Correcting,
    /// The network learns from a frozen list of cases.
    Training,
    /// The new model is measured on the held-out pool and predicts the rest.
    Evaluating,
    /// Done.
    Closed,
    /// Ended early, with the reason.
    Abandoned(String),
}

impl RoundState {
    /// The word people see.
    pub fn word(&self) -> &'static str {
        match self {
            RoundState::Querying => "querying",
            RoundState::Correcting => "correcting",
            RoundState::Training => "training",
            RoundState::Evaluating => "evaluating",
            RoundState::Closed => "closed",
            RoundState::Abandoned(_) => "abandoned",
        }
    }

    /// Whether the round is over.
    pub fn is_over(&self) -> bool {
        matches!(self, RoundState::Closed | RoundState::Abandoned(_))
    }

    /// Whether a round in this state may go on to `next`.
    pub fn may_become(&self, next: &RoundState) -> bool {
        use RoundState::*;
        match (self, next) {
            (Querying, Correcting)
            | (Querying, Training)
            | (Correcting, Training)
            | (Training, Evaluating)
            | (Evaluating, Closed) => true,
            (from, Abandoned(_)) => !from.is_over(),
            _ => false,
        }
    }
}

/// One turn of the loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Its number.
    pub id: RoundId,
    /// Where it is.
    pub state: RoundState,
    /// Blob of the [`Settings`] it ran with (JSON).
    pub settings: Hash,
    /// Weights are drawn anew instead of taken from the last model.
    pub from_scratch: bool,
    /// How it asks.
    pub strategy: Strategy,
    /// Cases it asks for; 0 for one that only trains.
    pub budget: usize,
    /// The ranking it asked by; `None` for a first training, which asks nothing.
    pub ranking: Option<RankingId>,
    /// The cases it asked for.
    pub queried: Vec<CaseId>,
    /// How many of them came back.
    pub returned: usize,
    /// The model it started from.
    pub parent: Option<ModelId>,
    /// Blob of the frozen training set: JSON list of `TrainedOn`.
    pub training_set: Option<Hash>,
    /// Labelled cases in it.
    pub labelled: usize,
    /// Cases that were still unlabelled then; `None` before it trains, and in a round older than this field.
    #[serde(default)]
    pub unlabelled: Option<usize>,
    /// The model it made.
    pub model: Option<ModelId>,
    /// Saved effort of the corrections that came back, summed per class over the cases.
    pub effort: Vec<ClassEffort>,
    /// Mean Dice over the held-out cases per class, background left out; empty without held-out cases.
    pub held_out_dice: Vec<Option<f64>>,
    /// Held-out cases measured.
    pub held_out: usize,
    /// Seconds spent training, validation included.
    pub training_s: f64,
    /// Seconds spent predicting: the pool before it asks, pool and held-out cases after training.
    pub predicting_s: f64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl Round {
    /// Mean Dice on the held-out cases over the classes that have one; `None` where nothing was measured.
    pub fn mean_dice(&self) -> Option<f64> {
        mean_of_known(self.held_out_dice.iter().copied())
    }
}

/// What cannot change while a project has models: each network output and each slice depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// The classes.
    pub labels: Labels,
    /// The cut.
    pub plane: PlaneChoice,
    /// Images a case.
    pub channels: usize,
    /// The networks.
    #[serde(default)]
    pub networks: Networks,
    /// Their width.
    pub base_channels: usize,
    /// Slices that they see at every place.
    #[serde(default = "one")]
    pub slices: usize,
    /// Whether the U-shape network is taught at its lower levels.
    #[serde(default)]
    pub deep_supervision: bool,
}

impl Fixed {
    /// The part of the settings that models depend on.
    pub fn of(settings: &Settings) -> Fixed {
        Fixed {
            labels: settings.labels.clone(),
            plane: settings.image.plane,
            channels: settings.image.channels,
            networks: settings.model.networks,
            base_channels: settings.model.base_channels,
            slices: settings.model.slices,
            deep_supervision: settings.model.deep_supervision,
        }
    }

    /// The network's shape.
    fn architecture(&self) -> Architecture {
        Architecture {
            networks: self.networks,
            channels: self.channels,
            classes: self.labels.classes(),
            base_channels: self.base_channels,
            slices: self.slices,
            deep_supervision: self.deep_supervision,
        }
    }

    /// The first key in which two differ, with both values.
    pub fn difference(&self, other: &Fixed) -> Option<(&'static str, String, String)> {
        let differ = |key, a: String, b: String| (a != b).then_some((key, a, b));
        let plane = |fixed: &Fixed| format!("{:?}", fixed.plane);
        differ("labels", self.labels.to_string(), other.labels.to_string())
            .or_else(|| differ("image.plane", plane(self), plane(other)))
            .or_else(|| {
                let (_, setting, a, b) = self.architecture().difference(&other.architecture())?;
                Some((setting, a, b))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_goes_forward_or_is_abandoned_and_never_comes_back() {
        use RoundState::*;
        let line = [Querying, Correcting, Training, Evaluating, Closed];
        for (at, from) in line.iter().enumerate() {
            for (to, next) in line.iter().enumerate() {
                let first_training = at == 0 && to == 2;
                assert_eq!(
                    from.may_become(next),
                    to == at + 1 || first_training,
                    "{from:?} -> {next:?}"
                );
            }
            assert_eq!(from.may_become(&Abandoned("why".into())), at < 4);
        }
        assert!(!Abandoned("why".into()).may_become(&Querying));
    }

    #[test]
    fn colours_may_change_but_widths_may_not() {
        let settings = Settings::default();
        let mut other = settings.clone();
        other.labels.0[0].color = "#000000".into();
        assert_eq!(Fixed::of(&settings).difference(&Fixed::of(&other)), None);
        other.model.deep_supervision = true;
        let (key, was, is) = Fixed::of(&settings).difference(&Fixed::of(&other)).unwrap();
        assert_eq!(
            (key, was.as_str(), is.as_str()),
            ("model.deep_supervision", "false", "true")
        );
        other.model.base_channels = 8;
        let (key, was, is) = Fixed::of(&settings).difference(&Fixed::of(&other)).unwrap();
        assert_eq!(
            (key, was.as_str(), is.as_str()),
            ("model.base_channels", "16", "8")
        );
    }
}
