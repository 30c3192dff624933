//! Max pooling at every pixel, for networks that are asked about every pixel at once: 2x2 windows whose pixels lie some way
//! apart take the place of windows side by side.

use rayon::prelude::*;

use super::Real;

/// The shape of such a pooling; the output has `apart` rows and columns fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DensePool {
    /// Images.
    pub batch: usize,
    /// Rows of an input image.
    pub height: usize,
    /// Pixels in an input row.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Between the pixels of a window.
    pub apart: usize,
}

impl DensePool {
    /// Values of the output.
    #[cfg(any(test, feature = "cuda"))]
    pub fn outputs(&self) -> usize {
        self.batch * (self.height - self.apart) * (self.width - self.apart) * self.channels
    }

    /// The largest of each window.
    pub fn forward<T: Real>(&self, x: &[T], out: &mut [T]) {
        let (row, right) = (self.width * self.channels, self.apart * self.channels);
        out.par_chunks_mut(row - right)
            .enumerate()
            .for_each(|(line, out)| {
                let upper = &x[self.line(line) * row..][..row];
                let lower = &x[(self.line(line) + self.apart) * row..][..row];
                let corners = upper
                    .iter()
                    .zip(&upper[right..])
                    .zip(lower.iter().zip(&lower[right..]));
                for (out, ((a, b), (c, d))) in out.iter_mut().zip(corners) {
                    let (upper, lower) = (if b > a { b } else { a }, if d > c { d } else { c });
                    *out = if lower > upper { *lower } else { *upper };
                }
            });
    }

    /// The input row that row `line` of the outputs begins in.
    fn line(&self, line: usize) -> usize {
        let rows = self.height - self.apart;
        line / rows * self.height + line % rows
    }

    /// The gradient goes to the first largest of each window, row by row.
    pub fn gradient<T: Real>(&self, x: &[T], dy: &[T], dx: &mut [T]) {
        let (row, right) = (self.width * self.channels, self.apart * self.channels);
        let below = self.apart * row;
        let image = self.height * row;
        let images = x.par_chunks(image).zip(dy.par_chunks(dy.len() / self.batch));
        dx.par_chunks_mut(image).zip(images).for_each(|(dx, (x, dy))| {
            dx.fill(T::ZERO);
            for (line, dy) in dy.chunks_exact(row - right).enumerate() {
                for (n, dy) in dy.iter().enumerate() {
                    let at = line * row + n;
                    let upper = if x[at + right] > x[at] { at + right } else { at };
                    let lower = if x[at + below + right] > x[at + below] {
                        at + below + right
                    } else {
                        at + below
                    };
                    dx[if x[lower] > x[upper] { lower } else { upper }] += *dy;
                }
            }
        });
    }
}
