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
    /// Pixels from tile to tile in a row.
    edge: usize,
    /// How many, one below the other, count as one: one, or two.
    pub stacked: usize,
    /// Tiles in a row of tiles.
    pub across: usize,
    /// Rows of tiles in an image.
    down: usize,
}

impl Cut {
    /// The images of `conv`, which have pixels, in tiles of `edge` pixels.
    pub fn of(conv: &Conv, edge: usize) -> Self {
        Cut::stacked(conv, edge, 1)
    }

    /// In pairs of tiles, one below the other, which count as one from here on. The second of an image's last row may have no pixels.
    pub fn by_two(conv: &Conv, edge: usize) -> Self {
        Cut::stacked(conv, edge, 2)
    }

    fn stacked(conv: &Conv, edge: usize, stacked: usize) -> Self {
        Cut {
            batch: conv.batch,
            height: conv.height,
            width: conv.width,
            edge,
            stacked,
            across: conv.width.div_ceil(edge),
            down: conv.height.div_ceil(edge * stacked),
        }
    }

    /// Values from a pixel of a tile to that of the tile below, in images of `channels` channels.
    pub fn apart(&self, channels: usize) -> usize {
        self.edge * self.width * channels
    }

    /// Rows of pixels from tile to tile.
    fn fall(&self) -> usize {
        self.edge * self.stacked
    }

    /// Rows of tiles, or of pairs, of all images.
    pub fn rows(&self) -> usize {
        self.batch * self.down
    }

    /// Tiles, or pairs, of all images.
    pub fn tiles(&self) -> usize {
        self.rows() * self.across
    }

    /// Pixels, over all images, before a row of tiles.
    pub fn pixels_before(&self, row: usize) -> usize {
        (row / self.down * self.height + (row % self.down * self.fall()).min(self.height)) * self.width
    }

    /// Some tiles one after the other in images of `channels` channels, each with its `N x N` pixels, from `border` rows and
    /// columns before the output tile on; of a pair, with those of the first.
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
        let row = self.image * self.cut.height + self.down * self.cut.fall();
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
            top: (self.down * self.cut.fall()).wrapping_sub(self.border),
            second: self.cut.fall() - edge,
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
    /// How much further down the second of a pair begins; 0 where there is none.
    second: usize,
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
        let is_within = |from: usize, size: usize, n: usize| from < size && size - from >= n;
        is_within(self.top, self.height, N + self.second) && is_within(self.left, self.width, N)
    }

    /// Whether a row lies in the image: of the tile, and of the second of a pair.
    #[inline(always)]
    pub fn there(&self, row: usize) -> [bool; 2] {
        let row = self.top.wrapping_add(row);
        [row, row.wrapping_add(self.second)].map(|row| row < self.height)
    }

    /// Which columns lie in the image.
    #[inline(always)]
    pub fn columns(&self) -> Range<usize> {
        // Before the image it is a very large number.
        let before = if self.left >= self.width {
            self.left.wrapping_neg()
        } else {
            0
        };
        before..self.width.wrapping_sub(self.left).min(N)
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

    /// From every tile on, in images of one pixel, of whole tiles and of parts of them; by one and by two.
    #[test]
    fn tiles_lie_where_division_says() {
        let sizes = [(1, 1), (4, 4), (5, 7), (8, 12), (9, 3), (13, 5)];
        for ((height, width), by_two) in sizes.into_iter().flat_map(|size| [(size, false), (size, true)]) {
            let conv = Conv {
                batch: 2,
                height,
                width,
                inputs: 8,
                outputs: 8,
                kernel: 3,
            };
            let cut = if by_two {
                Cut::by_two(&conv, 4)
            } else {
                Cut::of(&conv, 4)
            };
            let fall = if by_two { 8 } else { 4 };
            assert_eq!(cut.rows(), 2 * height.div_ceil(fall));
            for row in 0..=cut.rows() {
                let (image, down) = (row / cut.down, row % cut.down);
                assert_eq!(
                    cut.pixels_before(row),
                    (image * height + (down * fall).min(height)) * width
                );
            }
            for (first, border) in (0..cut.tiles()).flat_map(|n| [(n, 0), (n, 1)]) {
                let tiles: Vec<Tile<6>> = cut.walk(first..cut.tiles(), border, 3).collect();
                assert_eq!(tiles.len(), cut.tiles() - first);
                for (n, tile) in (first..).zip(tiles) {
                    let (row, column) = (n / cut.across, n % cut.across);
                    let top = (row % cut.down * fall) as isize - border as isize;
                    let left = (column * 4) as isize - border as isize;
                    let lies = |at: isize, size: usize| (0..size as isize).contains(&at);
                    let across: Vec<usize> = (0..6).filter(|n| lies(left + *n as isize, width)).collect();
                    assert_eq!(tile.columns().collect::<Vec<_>>(), across);
                    let mut all_rows = true;
                    for y in 0..6 {
                        let second = top + y as isize + if by_two { 4 } else { 0 };
                        let there = [lies(top + y as isize, height), lies(second, height)];
                        assert_eq!(tile.there(y), there);
                        all_rows &= there == [true, true];
                    }
                    assert_eq!(tile.is_inside(), all_rows && across.len() == 6);
                    let image = (row / cut.down * height) as isize;
                    let (y, x) = (border, across[0]);
                    let at = ((image + top + y as isize) * width as isize + left + x as isize) * 3;
                    assert_eq!(tile.at(y, x) as isize, at);
                }
            }
        }
    }
}
