//! Which form a convolution takes: the one that costs least.
//!
//! Larger tiles save products and have more transformed weights. Where a second-level cache holds all weights, they cost nothing. Else
//! every weight costs as much as some products, at each place of a window: how many was measured, at 4 to 16 pixels and 256 to 1024
//! channels, on two cores that do 520 GFLOP/s and share a cache of 32 MB and 75 GB/s to memory.

use super::super::multiply::multiplied;
use super::super::shape::Conv;

/// Windows (inputs times outputs) whose transforms a second-level cache holds.
const FEW_WINDOWS: usize = 128 * 128;
/// The same with the sums that make a gradient.
const FEW_SUMS: usize = 64 * 64;
/// Products that take as long as to read a transformed weight.
const OF_READING: usize = 22;
/// Products that take as long as to write a transformed weight to a shared cache, and to read it.
const OF_TRANSFORMING: usize = 30;
/// Products that take as long as to write and read a sum over all tiles.
const OF_SUMMING: usize = 47;
/// Pixels of the direct sum over all pixels that take as long as a tile.
const DIRECT_PIXELS: usize = 2;
/// Tiles in all from which few windows' gradient is worth transforming.
const WORTH_SUMMING: usize = 32;

/// Which form a convolution takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// F(4x4, 3x3)
    Four,
    /// F(2x2, 3x3)
    Two,
}

impl Conv {
    /// The form for this convolution with weights that are transformed and kept for as many images; none if it cannot be transformed.
    pub(in super::super) fn choice(&self) -> Option<Choice> {
        self.cheapest(OF_READING, None)
    }

    /// The form with weights that are transformed for these images alone.
    pub(in super::super) fn choice_for_once(&self) -> Option<Choice> {
        // As they are, weights need only be laid out.
        self.cheapest(
            OF_TRANSFORMING,
            Some(9 * (OF_TRANSFORMING + multiplied(self.pixels()))),
        )
    }

    /// The form for its weights' gradient, of images of these channels beside one another.
    pub(in super::super) fn choice_for_weights(&self, channels: [usize; 2]) -> Option<Choice> {
        if !self.fits() {
            return None;
        }
        if self.are_few_sums(channels) {
            let choice = self.of_few_windows();
            let edge = if choice == Choice::Four { 4 } else { 2 };
            return (self.tiles(edge) >= WORTH_SUMMING).then_some(choice);
        }
        let direct = 9 * (OF_SUMMING + DIRECT_PIXELS * self.pixels());
        let [two, four] = [(16, 2), (36, 4)].map(|(places, edge)| places * (OF_SUMMING + self.tiles(edge)));
        least(Some(direct), two, four)
    }

    /// Whether the sums of each of the images of these channels beside one another are few.
    pub(super) fn are_few_sums(&self, channels: [usize; 2]) -> bool {
        channels
            .into_iter()
            .all(|channels| channels * self.outputs <= FEW_SUMS)
    }

    /// Whether it can be transformed.
    fn fits(&self) -> bool {
        self.kernel == 3 && self.inputs.is_multiple_of(8) && self.outputs.is_multiple_of(8)
    }

    /// The form where a weight costs as much as `weight` products, and the direct sum, if it may be, as much as `direct`.
    fn cheapest(&self, weight: usize, direct: Option<usize>) -> Option<Choice> {
        if !self.fits() {
            return None;
        }
        if self.inputs * self.outputs <= FEW_WINDOWS {
            return Some(self.of_few_windows());
        }
        let cost = |places: usize, items| places * (weight + multiplied(items));
        let [two, four] = [(16, 2), (36, 4)].map(|(places, edge)| cost(places, self.tiles(edge)));
        least(direct, two, four)
    }

    /// The form of windows that cost nothing: images of one tile are better cut into four.
    fn of_few_windows(&self) -> Choice {
        match self.tiles(4) > self.batch {
            true => Choice::Four,
            false => Choice::Two,
        }
    }

    /// Tiles of `edge x edge` pixels.
    fn tiles(&self, edge: usize) -> usize {
        self.batch * self.height.div_ceil(edge) * self.width.div_ceil(edge)
    }
}

/// The form of least cost.
fn least(direct: Option<usize>, two: usize, four: usize) -> Option<Choice> {
    match direct {
        Some(direct) if direct <= two.min(four) => None,
        _ if two < four => Some(Choice::Two),
        _ => Some(Choice::Four),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wide layers of small images take the form that waits least for weights; many images, that of fewest products.
    #[test]
    fn a_convolution_takes_the_form_that_pays() {
        let of = |batch, edge, channels| Conv {
            batch,
            height: edge,
            width: edge,
            inputs: channels,
            outputs: channels,
            kernel: 3,
        };
        let (two, four) = (Some(Choice::Two), Some(Choice::Four));
        for (batch, edge, channels, kept, once, gradient) in [
            (1, 4, 1024, two, None, None),
            (16, 4, 1024, four, two, two),
            (1, 8, 512, two, two, two),
            (16, 8, 512, four, four, four),
            (1, 16, 256, four, two, two),
            (16, 64, 64, four, four, four),
            (1, 8, 64, four, four, None),
            (1, 4, 64, two, two, None),
        ] {
            let conv = of(batch, edge, channels);
            let chosen = (
                conv.choice(),
                conv.choice_for_once(),
                conv.choice_for_weights([channels, 0]),
            );
            assert_eq!(chosen, (kept, once, gradient), "{conv:?}");
        }
        let odd = Conv {
            inputs: 12,
            ..of(16, 64, 64)
        };
        assert_eq!((odd.choice(), odd.choice_for_weights([12, 0])), (None, None));
    }
}
