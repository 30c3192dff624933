//! What a correction cost, class by class.

use serde::{Deserialize, Serialize};

/// The contours of one class in a pre-annotation and its correction, summed over all slices.
///
/// A contour pixel of class k is a pixel labelled k with at least one of its four in-plane neighbours not k;
/// outside the image is not k.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassEffort {
    /// P: contour pixels of the pre-annotation.
    pub predicted_px: u64,
    /// L: contour pixels of the corrected mask.
    pub corrected_px: u64,
    /// C: contour pixels of the corrected mask that the pre-annotation had, within the tolerance in use.
    pub shared_px: u64,
    /// P - C of Eq. 3's other side: contour pixels of the pre-annotation that the corrected mask does not share.
    pub erased_px: u64,
    /// Added path length L - C in mm: the contour that a person had to draw. A pixel of contour is as long as the
    /// geometric mean of its width and height.
    pub added_path_mm: f64,
    /// Dice of pre-annotation and corrected mask; `None` when the class is in neither.
    pub dice: Option<f64>,
}

impl ClassEffort {
    /// Saved effort C / L in `0 ..= 1` (the paper's Eq. 3); `None` (shown as n/a) when there was no contour to draw.
    pub fn saved(&self) -> Option<f64> {
        (self.corrected_px > 0).then(|| self.shared_px as f64 / self.corrected_px as f64)
    }

    /// Added path length L - C in pixels: the contour that a person had to draw.
    pub fn added_path_px(&self) -> u64 {
        self.corrected_px - self.shared_px
    }
}

/// Mean saved effort over the classes that had a contour to draw; `None` when none had.
pub fn mean_saved(effort: &[ClassEffort]) -> Option<f64> {
    mean_of_known(effort.iter().map(ClassEffort::saved))
}

/// The mean over the classes that have a value; `None` when none has.
pub fn mean_of_known(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let known: Vec<f64> = values.into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_contour_to_draw_is_not_applicable_rather_than_0_or_100_percent() {
        let mut class = ClassEffort {
            predicted_px: 9,
            corrected_px: 0,
            shared_px: 0,
            erased_px: 9,
            added_path_mm: 0.0,
            dice: Some(0.0),
        };
        assert_eq!(class.saved(), None);
        class.corrected_px = 8;
        class.shared_px = 6;
        assert_eq!((class.saved(), class.added_path_px()), (Some(0.75), 2));
    }

    #[test]
    fn a_mean_leaves_out_what_is_not_known() {
        assert_eq!(mean_of_known([Some(0.5), None, Some(1.0)]), Some(0.75));
        assert_eq!(mean_of_known([None, None]), None);
    }
}
