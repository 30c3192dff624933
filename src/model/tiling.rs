//! How slices fall into tiles.

/// Edge of a tile in pixels.
pub const TILE: usize = 64;
/// Pixels of a tile.
pub const TILE_PIXELS: usize = TILE * TILE;

/// A slice's fixed lattice of tiles, the last ones padded at the right and the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Pixels in a row of the slice.
    pub width: usize,
    /// Rows of the slice.
    pub height: usize,
}

/// The part of a slice that a tile shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// One past the last column.
    pub right: usize,
    /// One past the last row.
    pub bottom: usize,
}

impl Tiling {
    /// Tiles a slice.
    pub fn tiles(&self) -> usize {
        self.width.div_ceil(TILE) * self.height.div_ceil(TILE)
    }

    /// What tile `tile` shows, counted row by row.
    pub fn window(&self, tile: usize) -> Window {
        let across = self.width.div_ceil(TILE);
        let (left, top) = (tile % across * TILE, tile / across * TILE);
        Window {
            left,
            top,
            right: self.width.min(left + TILE),
            bottom: self.height.min(top + TILE),
        }
    }
}
