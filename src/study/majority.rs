//! What most masks have at each voxel: the answer of somebody who never looks at an image.

use crate::imaging::{Grid, LabelMap};

/// What it is called in tables.
pub const MAJORITY: &str = "majority of the masks, no network";

/// Votes of masks of one size.
pub struct Votes {
    grid: Grid,
    /// Of every voxel, the masks that have each class there.
    counts: Vec<u16>,
    classes: usize,
}

impl Votes {
    /// None yet.
    pub fn new(grid: Grid, classes: usize) -> Votes {
        Votes {
            grid,
            counts: vec![0; grid.len() * classes],
            classes,
        }
    }

    /// Counts a mask; whether it is of that size.
    pub fn add(&mut self, grid: &Grid, mask: &[u8]) -> bool {
        if grid.shape != self.grid.shape {
            return false;
        }
        for (counts, &class) in self.counts.chunks_exact_mut(self.classes).zip(mask) {
            if let Some(count) = counts.get_mut(class as usize) {
                *count = count.saturating_add(1);
            }
        }
        true
    }

    /// The class with the most votes at each voxel; of several the lowest.
    pub fn winners(&self) -> LabelMap {
        let winner = |counts: &[u16]| {
            let best = (0..counts.len()).rev().max_by_key(|&class| counts[class]);
            best.unwrap_or(0) as u8
        };
        LabelMap {
            grid: self.grid,
            voxels: self.counts.chunks_exact(self.classes).map(winner).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_masks_win_and_of_equals_the_lowest_class() {
        let grid = |width| Grid::new([width, 1, 1], [1.0; 3]);
        let mut votes = Votes::new(grid(4), 3);
        for mask in [[0, 1, 2, 2], [0, 1, 1, 0], [1, 1, 2, 1]] {
            assert!(votes.add(&grid(4), &mask));
        }
        assert!(!votes.add(&grid(2), &[0, 0]), "another grid");
        assert_eq!(votes.winners().voxels, [0, 1, 2, 0]);
    }
}
