//! The shape of a convolution, the images that go through it, where items lie, and what is done to their sums.

/// The shape of a convolution that keeps the image's size; weights are `[ky][kx][input][output]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Images.
    pub batch: usize,
    /// Rows of an image.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Edge of the window: 1 or 3.
    pub kernel: usize,
}

impl Conv {
    /// Pixels of all images.
    pub fn pixels(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// Number of weights.
    #[cfg(any(test, feature = "cuda"))]
    pub fn weights(&self) -> usize {
        self.kernel * self.kernel * self.inputs * self.outputs
    }
}

/// Images beside one another: every pixel's channels of the first, then those of the second, as if they lay in one. The second
/// has none where there is but one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside<S> {
    /// Their values.
    pub images: [S; 2],
    /// Their channels.
    pub channels: [usize; 2],
}

impl<S: Default> Beside<S> {
    /// Images alone.
    pub fn one(images: S, channels: usize) -> Self {
        Beside {
            images: [images, S::default()],
            channels: [channels, 0],
        }
    }
}

impl<S> Beside<S> {
    /// Each of those that there are: the channels before them, their own, and their values.
    pub fn each(self) -> impl Iterator<Item = (usize, usize, S)> {
        let [first, second] = self.channels;
        let both = [(0, first), (first, second)].into_iter().zip(self.images);
        both.map(|((from, channels), images)| (from, channels, images))
            .filter(|(_, channels, _)| *channels > 0)
    }
}

/// Items in rows: their inputs and their outputs lie at even steps in each.
#[derive(Clone, Copy)]
pub struct Placing<F> {
    /// Items a row.
    pub width: usize,
    /// From item to item in the inputs, and in the outputs.
    pub steps: (usize, usize),
    /// Where a row begins in both.
    pub at: F,
}

/// What happens to a product's sums.
#[derive(Clone, Copy)]
pub struct Finish<'a, T> {
    /// Added to every column; none when empty.
    pub bias: &'a [T],
    /// Negative ones become 0.
    pub relu: bool,
    /// As many values as outputs: where one is not above 0, the output becomes 0. None when empty.
    pub gate: &'a [T],
}

impl<T> Finish<'_, T> {
    /// The sums as they are.
    pub const NOTHING: Self = Finish {
        bias: &[],
        relu: false,
        gate: &[],
    };
}
