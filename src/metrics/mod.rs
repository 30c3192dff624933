//! How far two label maps agree: contours and Dice. Arithmetic on pixels: no files, no clock, no project.
//!
//! Imports `imaging`.

mod contour;
mod dice;
mod rank;

pub use contour::{contour, near};
pub use dice::dice;
pub use rank::rank_correlation;
