//! The shape of a convolution.

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
    #[cfg(any(test, feature = "cuda"))]
    pub fn pixels(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// Number of weights.
    #[cfg(any(test, feature = "cuda"))]
    pub fn weights(&self) -> usize {
        self.kernel * self.kernel * self.inputs * self.outputs
    }
}
