//! How a network is taught and asked: the paper's way, or with what later work found to help.

use serde::{Deserialize, Serialize};

use super::{Loss, Networks, Training};

/// A way of teaching and asking, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// The paper's: tiles as they lie, one learning rate, each tile drawn once.
    Paper,
    /// What helps of [`Part`], after nnU-Net (Isensee et al., Nature Methods 2021).
    Strong,
}

/// What [`Recipe::Strong`] adds to the paper's, or may add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Cross-entropy beside the Dice loss.
    CrossEntropy,
    /// Every third tile lies around a pixel of a class drawn at random.
    Foreground,
    /// Tiles at any place, turned, stretched, of another brightness, contrast and gamma, noisy, blurred.
    Augmentation,
    /// A learning rate that falls, (1 - t)^0.9, to 0 after `steps` or `max_epochs`, though `patience` may end it before. That of
    /// [`Ensemble::Snapshots`] falls in its own way.
    Poly,
    /// Drawing by tiles that overlap by half, their middles weighing most.
    Overlap,
    /// Learning from tiles and their mirror images, and drawing by both; not where left and right are classes of their own.
    Mirroring,
}

/// How the members of a committee come to differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ensemble {
    /// By their first weights alone: all learn from the same tiles.
    #[default]
    Seeds,
    /// By their cases: each leaves out those that fall to it by their names, which of few cases may be none.
    Folds,
    /// By time: one network learns, and the others keep what it was each time its rate had fallen.
    ///
    /// Source: Huang et al., Snapshot ensembles: train 1, get M for free, ICLR 2017.
    Snapshots,
}

/// How tiles become a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drawing {
    /// [`Part::Overlap`].
    pub overlap: bool,
    /// [`Part::Mirroring`].
    pub mirroring: bool,
}

impl Part {
    /// What settings call it.
    pub fn name(self) -> &'static str {
        match self {
            Part::CrossEntropy => "cross-entropy",
            Part::Foreground => "foreground",
            Part::Augmentation => "augmentation",
            Part::Poly => "poly",
            Part::Overlap => "overlap",
            Part::Mirroring => "mirroring",
        }
    }

    /// Whether it is a part of "strong" unless it is left out. The others cost accuracy on IBSR18 in trainings of minutes (the
    /// README's table of experiments), and are there for longer ones.
    pub fn is_strong(self) -> bool {
        match self {
            Part::CrossEntropy | Part::Foreground | Part::Poly | Part::Overlap => true,
            Part::Augmentation | Part::Mirroring => false,
        }
    }
}

impl Ensemble {
    /// What settings call it.
    pub fn name(self) -> &'static str {
        match self {
            Ensemble::Seeds => "seeds",
            Ensemble::Folds => "folds",
            Ensemble::Snapshots => "snapshots",
        }
    }
}

impl Training {
    /// Whether a part belongs to how this project trains and draws.
    pub fn has(&self, part: Part) -> bool {
        self.recipe == Recipe::Strong
            && match part.is_strong() {
                true => !self.without.contains(&part),
                false => self.with.contains(&part),
            }
    }

    /// The key that cannot be as it is with these networks, its value, and what it has to be.
    pub(super) fn problem(&self, networks: Networks) -> Option<(&'static str, String, &'static str)> {
        let of_paper = self.recipe == Recipe::Paper;
        // What "strong" does not have may be left out of it: it had all parts once.
        if let Some(part) = self.without.first().filter(|_| of_paper) {
            let remedy =
                "has to go: recipe = \"paper\" has none of these parts, they are of recipe = \"strong\"";
            return Some(("training.without", part.name().into(), remedy));
        }
        if let Some(part) = self.with.iter().find(|part| of_paper || part.is_strong()) {
            let remedy = match of_paper {
                true => "has to go: recipe = \"paper\" takes no part, recipe = \"strong\" does",
                false => "has to go: recipe = \"strong\" has it, unless training.without names it",
            };
            return Some(("training.with", part.name().into(), remedy));
        }
        let remedy = match self.ensemble {
            Ensemble::Seeds => return None,
            _ if !networks.is_committee() => "has to be \"seeds\" with a single network in model.networks",
            Ensemble::Snapshots if !networks.is_uniform() => {
                "has to be another where model.networks are of several kinds: one network learns for all of them"
            }
            Ensemble::Snapshots if self.steps < networks.members().count() => {
                "has to be another without training.steps for each network: they say when a snapshot is taken"
            }
            Ensemble::Folds | Ensemble::Snapshots => return None,
        };
        Some(("training.ensemble", self.ensemble.name().into(), remedy))
    }

    /// What is minimised.
    pub fn objective(&self) -> Loss {
        match self.loss {
            Loss::Dice if self.has(Part::CrossEntropy) => Loss::DiceCe,
            loss => loss,
        }
    }

    /// How its networks draw.
    pub fn drawing(&self) -> Drawing {
        Drawing {
            overlap: self.has(Part::Overlap),
            mirroring: self.has(Part::Mirroring),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_that_no_committee_can_be_is_told_with_its_key() {
        let problem = |networks: &str, ensemble, steps| {
            let training = Training {
                ensemble,
                steps,
                ..Training::default()
            };
            let problem = training.problem(networks.parse().unwrap());
            problem.map(|(key, is, remedy)| {
                assert_eq!((key, is.as_str()), ("training.ensemble", ensemble.name()));
                remedy.split_whitespace().nth(4).unwrap()
            })
        };
        assert_eq!(problem("u-net", Ensemble::Seeds, 0), None);
        assert_eq!(problem("u-net", Ensemble::Folds, 0), Some("with"));
        assert_eq!(problem("u-net+voxresnet", Ensemble::Folds, 0), None);
        assert_eq!(problem("u-net+voxresnet", Ensemble::Snapshots, 9), Some("where"));
        assert_eq!(problem("u-net+u-net", Ensemble::Snapshots, 0), Some("without"));
        assert_eq!(problem("u-net+u-net", Ensemble::Snapshots, 1), Some("without"));
        assert_eq!(problem("u-net+u-net", Ensemble::Snapshots, 2), None);
    }
}
