//! Images cut into square tiles, and the way from tile to tile.

use std::ops::Range;

use super::super::shape::Conv;
use super::super::simd::Steps;

/// How images are cut into square output tiles.
#[derive(Clone, Copy)]
pub struct Cut {
    batch: usize,
    height: usize,
    width: usize,
    /// Pixels from tile to tile.
    edge: usize,
    /// Tiles in a row of tiles.
    pub across: usize,
    /// Rows of tiles in an image.
    down: usize,
}

impl Cut {
    /// The images of `conv`, which have pixels, in tiles of `edge` pixels.
    pub fn of(conv: &Conv, edge: usize) -> Self {
        Cut {
            batch: conv.batch,
            height: conv.height,
            width: conv.width,
            edge,
            across: conv.width.div_ceil(edge),
            down: conv.height.div_ceil(edge),
        }
    }

    /// Rows of tiles of all images.
    pub fn rows(&self) -> usize {
        self.batch * self.down
    }

    /// Tiles of all images.
    pub fn tiles(&self) -> usize {
        self.rows() * self.across
    }

    /// Pixels, over all images, before a row of tiles.
    pub fn pixels_before(&self, row: usize) -> usize {
        (row / self.down * self.height + (row % self.down * self.edge).min(self.height)) * self.width
    }

    /// Some tiles one after the other in images of `channels` channels, each with its `N x N` pixels, from `border` rows and
    /// columns before the output tile on.
    #[inline(always)]
    pub fn walk<const N: usize>(&self, tiles: Range<usize>, border: usize, channels: usize) -> Walk<N> {
        let (row, across) = (tiles.start / self.across, tiles.start % self.across);
        let mut walk = Walk {
            cut: *self,
            border,
            steps: Steps {
                row: self.width * channels,
                column: channels,
            },
            image: row / self.down,
            down: row % self.down,
            across,
            first: 0,
            left: tiles.len(),
        };
        walk.begin_row();
        walk.first = walk.first.wrapping_add(across * self.edge * channels);
        walk
    }
}

/// Tiles in their order, counted on from the first: to divide and to multiply for each of them takes longer than parts of its
/// transform.
pub struct Walk<const N: usize> {
    cut: Cut,
    border: usize,
    /// From pixel to pixel.
    steps: Steps,
    /// Where the next one is: its image, and how many tiles lie above it and to its left.
    image: usize,
    down: usize,
    across: usize,
    /// Where its first pixel lies in the images.
    first: usize,
    /// How many are left.
    left: usize,
}

impl<const N: usize> Walk<N> {
    /// Where the first pixel of a row's first tile lies.
    #[inline(always)]
    fn begin_row(&mut self) {
        let row = self.image * self.cut.height + self.down * self.cut.edge;
        let border = self.border * (self.steps.row + self.steps.column);
        self.first = (row * self.steps.row).wrapping_sub(border);
    }
}

impl<const N: usize> Iterator for Walk<N> {
    type Item = Tile<N>;

    #[inline(always)]
    fn next(&mut self) -> Option<Tile<N>> {
        self.left = self.left.checked_sub(1)?;
        let Cut {
            edge, height, width, ..
        } = self.cut;
        let tile = Tile {
            top: (self.down * edge).wrapping_sub(self.border),
            left: (self.across * edge).wrapping_sub(self.border),
            height,
            width,
            first: self.first,
            steps: self.steps,
        };
        self.across += 1;
        self.first = self.first.wrapping_add(edge * self.steps.column);
        if self.across == self.cut.across {
            (self.across, self.down) = (0, self.down + 1);
            if self.down == self.cut.down {
                (self.image, self.down) = (self.image + 1, 0);
            }
            self.begin_row();
        }
        Some(tile)
    }
}

/// `N x N` pixels, some of which may lie beyond their image. Numbers wrap around where they lie before it.
#[derive(Clone, Copy)]
pub struct Tile<const N: usize> {
    /// The first row in its image.
    top: usize,
    /// The first column.
    left: usize,
    /// Of the image.
    height: usize,
    width: usize,
    /// Where the first pixel lies in the images, or would.
    pub first: usize,
    /// From pixel to pixel.
    pub steps: Steps,
}

impl<const N: usize> Tile<N> {
    /// None lies beyond the image.
    #[inline(always)]
    pub fn is_inside(&self) -> bool {
        let is_within = |from: usize, size: usize| from < size && size - from >= N;
        is_within(self.top, self.height) && is_within(self.left, self.width)
    }

    /// Which rows and columns lie in the image.
    #[inline(always)]
    pub fn within(&self) -> (Range<usize>, Range<usize>) {
        let within = |first: usize, size: usize| {
            // Before the image it is a very large number.
            let before = if first >= size { first.wrapping_neg() } else { 0 };
            before..size.wrapping_sub(first).min(N)
        };
        (within(self.top, self.height), within(self.left, self.width))
    }

    /// Where a pixel lies.
    #[inline(always)]
    pub fn at(&self, row: usize, column: usize) -> usize {
        self.first
            .wrapping_add(row * self.steps.row + column * self.steps.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From every tile on, in images of one pixel, of whole tiles and of parts of them.
    #[test]
    fn tiles_lie_where_division_says() {
        for (height, width) in [(1, 1), (4, 4), (5, 7), (8, 12), (9, 3)] {
            let conv = Conv {
                batch: 2,
                height,
                width,
                inputs: 8,
                outputs: 8,
                kernel: 3,
            };
            let cut = Cut::of(&conv, 4);
            for (first, border) in (0..cut.tiles()).flat_map(|n| [(n, 0), (n, 1)]) {
                let tiles: Vec<Tile<6>> = cut.walk(first..cut.tiles(), border, 3).collect();
                assert_eq!(tiles.len(), cut.tiles() - first);
                for (n, tile) in (first..).zip(tiles) {
                    let (row, column) = (n / cut.across, n % cut.across);
                    let place = |tiles: usize| (tiles * 4) as isize - border as isize;
                    let (top, left) = (place(row % cut.down), place(column));
                    let (rows, columns) = tile.within();
                    let inside = |first: isize, size: usize| {
                        let lies = |n: &isize| (0..size as isize).contains(&(first + n));
                        (0..6).filter(lies).map(|n| n as usize).collect::<Vec<_>>()
                    };
                    let (down, across) = (inside(top, height), inside(left, width));
                    assert_eq!(rows.clone().collect::<Vec<_>>(), down);
                    assert_eq!(columns.clone().collect::<Vec<_>>(), across);
                    assert_eq!(tile.is_inside(), down.len() == 6 && across.len() == 6);
                    let image = (row / cut.down * height) as isize;
                    let at = ((image + top + rows.start as isize) * width as isize
                        + left
                        + columns.start as isize)
                        * 3;
                    assert_eq!(tile.at(rows.start, columns.start) as isize, at);
                }
            }
        }
    }
}
