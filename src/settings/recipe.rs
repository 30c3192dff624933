//! How a network is taught and asked: the paper's way, or with what later work found to help.

use serde::{Deserialize, Serialize};

use super::{Loss, Training};

/// A way of teaching and asking, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// The paper's: tiles as they lie, one learning rate, each tile drawn once.
    Paper,
    /// All of [`Part`], after nnU-Net (Isensee et al., Nature Methods 2021).
    Strong,
}

/// What [`Recipe::Strong`] adds to the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Cross-entropy beside the Dice loss.
    CrossEntropy,
    /// Every third tile lies around a pixel of a class drawn at random.
    Foreground,
    /// Tiles at any place, turned, stretched, of another brightness, contrast and gamma, noisy, blurred.
    Augmentation,
    /// A learning rate that falls, (1 - t)^0.9, to 0 after `steps` or `max_epochs`, though `patience` may end it before.
    Poly,
    /// Drawing by tiles that overlap by half, their middles weighing most.
    Overlap,
    /// Learning from tiles and their mirror images, and drawing by both; not where left and right are classes of their own.
    Mirroring,
}

/// How tiles become a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drawing {
    /// [`Part::Overlap`].
    pub overlap: bool,
    /// [`Part::Mirroring`].
    pub mirroring: bool,
}

impl Training {
    /// Whether a part belongs to how this project trains and draws.
    pub fn has(&self, part: Part) -> bool {
        self.recipe == Recipe::Strong && !self.without.contains(&part)
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
