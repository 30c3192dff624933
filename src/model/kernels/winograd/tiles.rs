//! From images to transformed tiles and back, and the same of windows.
//!
//! Transformed tiles lie place by place in panels of 16 channels, `[place][panel][tile][channel]`, as the products read
//! them: the twelve tiles of a block are then one contiguous piece.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::shape::{Conv, Finish};
use super::super::simd::{Simd, Work};
use super::super::{PANEL, Real};
use super::form::{Form, Lined};

/// The body for each `$i` from 0 to `$n`, at most 6, written out: what the compiler leaves a loop, it keeps in memory.
macro_rules! each {
    ($i:ident < $n:expr, $body:block) => {{
        each!(@ $i, $n, $body, 0 1 2 3 4 5);
    }};
    (@ $i:ident, $n:expr, $body:block, $($k:literal)*) => {
        $({
            #[allow(non_upper_case_globals)] // it stands for a variable
            const $i: usize = $k;
            #[allow(clippy::out_of_bounds_indexing)] // not where $i < $n, which is known here
            if $i < $n $body
        })*
    };
}

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
    /// The images of `conv` in tiles of `edge` pixels.
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

    /// The `N x N` pixels of a tile, from `border` rows and columns before the output tile on.
    #[inline(always)]
    fn pixels<const N: usize>(&self, tile: usize, border: usize) -> Pixels {
        let row = tile / self.across;
        // Wrapped around where the border lies before the image.
        let top = (row % self.down * self.edge).wrapping_sub(border);
        let left = (tile % self.across * self.edge).wrapping_sub(border);
        let is_within = |from: usize, size: usize| from < size && from + N <= size;
        Pixels {
            top,
            left,
            first: row / self.down * self.height,
            are_inside: is_within(top, self.height) && is_within(left, self.width),
        }
    }

    /// The way to its pixels in images of `channels` channels, as if none lay beyond its image.
    #[inline(always)]
    fn way(&self, pixels: &Pixels, channels: usize) -> Way {
        let row = pixels.first.wrapping_add(pixels.top).wrapping_mul(self.width);
        Way {
            first: row.wrapping_add(pixels.left).wrapping_mul(channels),
            row: self.width * channels,
            pixel: channels,
        }
    }

    /// Fetches what the tile below a tile needs beside what this one has: by the time of its turn it is there.
    #[inline(always)]
    fn fetch_below<T: Real, S: Simd<T>, const N: usize>(&self, s: S, way: Way, border: usize, images: &[T]) {
        for y in N..N + self.edge {
            for x in border..border + self.edge {
                if let Some(value) = images.get(way.at(y, x)) {
                    s.fetch(value);
                }
            }
        }
    }

    /// Which rows and columns of a tile lie in its image.
    #[inline(always)]
    fn within<const N: usize>(&self, pixels: &Pixels) -> (Range<usize>, Range<usize>) {
        let within = |first: usize, size: usize| {
            // Before the image it is a very large number.
            let before = if first >= size { first.wrapping_neg() } else { 0 };
            before..size.wrapping_sub(first).min(N)
        };
        (within(pixels.top, self.height), within(pixels.left, self.width))
    }

    /// Where one of them lies in images of `channels` channels; `None` beyond the image.
    #[inline(always)]
    fn at(&self, pixels: &Pixels, y: usize, x: usize, channels: usize) -> Option<usize> {
        let (y, x) = (pixels.top.wrapping_add(y), pixels.left.wrapping_add(x));
        let is_inside = y < self.height && x < self.width;
        is_inside.then(|| ((pixels.first + y) * self.width + x) * channels)
    }
}

/// Where the pixels of a tile lie; its first may lie before the images, and is a very large number then.
#[derive(Clone, Copy)]
struct Way {
    first: usize,
    /// From row to row, and from pixel to pixel.
    row: usize,
    pixel: usize,
}

impl Way {
    #[inline(always)]
    fn at(self, y: usize, x: usize) -> usize {
        self.first.wrapping_add(y * self.row + x * self.pixel)
    }
}

/// The pixels of a tile.
struct Pixels {
    /// The first row in its image.
    top: usize,
    /// The first column.
    left: usize,
    /// Rows of pixels of the images before.
    first: usize,
    /// None lies beyond the image.
    are_inside: bool,
}

/// Transformed tiles of one piece of memory.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Values from panel to panel.
    pub panel: usize,
    /// Values from place to place.
    pub place: usize,
}

impl Layout {
    /// Of pieces with room for `tiles` tiles of `channels` channels.
    pub fn of(tiles: usize, channels: usize) -> Layout {
        let panel = (tiles + 1) * PANEL;
        Layout {
            panel,
            place: channels.div_ceil(PANEL) * panel,
        }
    }

    /// Where a channel of a tile lies in the first place.
    #[inline(always)]
    fn at(self, tile: usize, channel: usize) -> usize {
        channel / PANEL * self.panel + tile * PANEL + channel % PANEL
    }
}

/// A transform of tiles on their way in, from `N x N` pixels to `I x I` places.
pub trait Lines<const N: usize, const I: usize>: Send + Sync {
    /// Rows and columns of pixels before the output tile that belong to it.
    const BORDER: usize;
    /// One line of it.
    fn line<T: Real, S: Simd<T>>(s: S, line: [S::Vector; N]) -> [S::Vector; I];
}

/// `B' d B` of input tiles.
pub struct Input<F, const O: usize>(PhantomData<F>);

impl<F: Form<I, O>, const I: usize, const O: usize> Lines<I, I> for Input<F, O> {
    const BORDER: usize = 1;
    #[inline(always)]
    fn line<T: Real, S: Simd<T>>(s: S, line: [S::Vector; I]) -> [S::Vector; I] {
        F::input(s, line)
    }
}

/// `A dY A'` of the gradient of output tiles.
pub struct Gradient<F>(PhantomData<F>);

impl<F: Form<I, O>, const I: usize, const O: usize> Lines<O, I> for Gradient<F> {
    const BORDER: usize = 0;
    #[inline(always)]
    fn line<T: Real, S: Simd<T>>(s: S, line: [S::Vector; O]) -> [S::Vector; I] {
        F::gradient(s, line)
    }
}

/// The tiles of some images, transformed.
pub struct Spread<'a, T, L, const N: usize, const I: usize> {
    /// Which transform.
    pub lines: PhantomData<L>,
    /// How the images are cut.
    pub cut: Cut,
    /// The images.
    pub images: &'a [T],
    /// Of the images: a multiple of the vectors' lanes.
    pub channels: usize,
    /// Which channel of the tiles their first one is; a multiple too.
    pub from: usize,
    /// Which tiles.
    pub tiles: Range<usize>,
    /// Where they go, the first to the first place.
    pub out: &'a mut [T],
    /// How they lie there.
    pub layout: Layout,
}

impl<T: Real, L: Lines<N, I>, const N: usize, const I: usize> Work<T> for Spread<'_, T, L, N, I> {
    #[inline(always)]
    fn on<S: Simd<T>>(mut self, s: S) {
        for (to, tile) in self.tiles.clone().enumerate() {
            let pixels = self.cut.pixels::<N>(tile, L::BORDER);
            let way = self.cut.way(&pixels, self.channels);
            for channel in (0..self.channels).step_by(S::LANES) {
                self.cut
                    .fetch_below::<T, S, N>(s, way, L::BORDER, &self.images[channel..]);
                if pixels.are_inside {
                    let images = &self.images[channel..];
                    self.tile(s, (to, channel), |y, x| s.load(&images[way.at(y, x)..]));
                    continue;
                }
                // Zeros, and what there is: to ask about each of them costs more than to put them together.
                let mut patch = [[s.zero(); N]; N];
                let (rows, columns) = self.cut.within::<N>(&pixels);
                for y in rows {
                    for x in columns.clone() {
                        let at = self.cut.at(&pixels, y, x, self.channels);
                        let at = at.expect("the pixel lies in the image");
                        patch[y][x] = s.load(&self.images[at + channel..]);
                    }
                }
                self.tile(s, (to, channel), |y, x| patch[y][x]);
            }
        }
    }
}

impl<T: Real, L: Lines<N, I>, const N: usize, const I: usize> Spread<'_, T, L, N, I> {
    /// Some channels of one tile, of what lies at its rows and columns.
    #[inline(always)]
    fn tile<S: Simd<T>>(
        &mut self,
        s: S,
        (to, channel): (usize, usize),
        value: impl Fn(usize, usize) -> S::Vector,
    ) {
        let mut columns = [[s.zero(); I]; N];
        each!(x < N, {
            let mut column = [s.zero(); N];
            each!(y < N, { column[y] = value(y, x) });
            columns[x] = L::line(s, column);
        });
        let first = self.layout.at(to, self.from + channel);
        each!(y < I, {
            let mut line = [s.zero(); N];
            each!(x < N, { line[x] = columns[x][y] });
            let line = L::line(s, line);
            each!(x < I, {
                s.store(line[x], &mut self.out[first + (I * y + x) * self.layout.place..]);
            });
        });
    }
}

/// `A' m A` of products, finished: the pixels of some tiles.
pub struct Gathered<'a, T, F, const I: usize, const O: usize> {
    /// Which form.
    pub form: PhantomData<F>,
    /// How the images are cut.
    pub cut: Cut,
    /// The products, from the place of the first of the tiles on.
    pub products: &'a [T],
    /// How they lie there.
    pub layout: Layout,
    /// What is added and cut off.
    pub finish: Finish<'a, T>,
    /// Of the images: a multiple of the vectors' lanes.
    pub channels: usize,
    /// Which channel of the tiles their first one is; a multiple too.
    pub from: usize,
    /// Which tiles.
    pub tiles: Range<usize>,
    /// The part of the images that they make.
    pub out: &'a mut [T],
    /// Where the part begins in the images.
    pub base: usize,
}

impl<T: Real, F: Form<I, O>, const I: usize, const O: usize> Work<T> for Gathered<'_, T, F, I, O> {
    #[inline(always)]
    fn on<S: Simd<T>>(mut self, s: S) {
        for (from, tile) in self.tiles.clone().enumerate() {
            let (cut, channels) = (self.cut, self.channels);
            let pixels = cut.pixels::<O>(tile, 0);
            let way = cut.way(&pixels, channels);
            match pixels.are_inside {
                // The compiler sees that every pixel is there.
                true => self.tile(s, from, |y, x| Some(way.at(y, x))),
                false => self.tile(s, from, |y, x| cut.at(&pixels, y, x, channels)),
            }
        }
    }
}

impl<T: Real, F: Form<I, O>, const I: usize, const O: usize> Gathered<'_, T, F, I, O> {
    /// One tile, whose pixels lie `at`, where they lie anywhere.
    #[inline(always)]
    fn tile<S: Simd<T>>(&mut self, s: S, from: usize, at: impl Fn(usize, usize) -> Option<usize>) {
        for channel in (0..self.channels).step_by(S::LANES) {
            let first = self.layout.at(from, self.from + channel);
            let mut columns = [[s.zero(); O]; I];
            each!(x < I, {
                let mut column = [s.zero(); I];
                each!(y < I, {
                    column[y] = s.load(&self.products[first + (I * y + x) * self.layout.place..]);
                });
                columns[x] = F::output(s, column);
            });
            let bias = match self.finish.bias {
                [] => s.zero(),
                bias => s.load(&bias[self.from + channel..]),
            };
            each!(y < O, {
                let mut line = [s.zero(); I];
                each!(x < I, { line[x] = columns[x][y] });
                let line = F::output(s, line);
                each!(x < O, {
                    let mut value = s.add(line[x], bias);
                    if self.finish.relu {
                        value = s.not_below_zero(value);
                    }
                    if let Some(at) = at(y, x) {
                        if let [_, ..] = self.finish.gate {
                            value = s.gated(value, s.load(&self.finish.gate[at + channel..]));
                        }
                        s.store(value, &mut self.out[at - self.base + channel..]);
                    }
                });
            });
        }
    }
}

/// A convolution's weights, `[tap][input][output]`, as they are or as the gradient by the input takes them: the window
/// turned round, inputs and outputs exchanged.
#[derive(Clone, Copy)]
pub struct Windows<'a, T> {
    /// The weights.
    pub weights: &'a [T],
    /// Channels in, of the weights as they are.
    pub inputs: usize,
    /// Channels out, of the weights as they are.
    pub outputs: usize,
    /// Turned round.
    pub turned: bool,
}

impl<T: Real> Windows<'_, T> {
    /// Rows and columns of the products they are for.
    pub fn size(&self) -> (usize, usize) {
        if self.turned {
            (self.outputs, self.inputs)
        } else {
            (self.inputs, self.outputs)
        }
    }

    /// The windows turned round from the 16 channels at `k` on to the 16 at `n` on, `[tap][k][n]`; 0 where there are fewer.
    #[inline(always)]
    fn turned<S: Simd<T>>(&self, s: S, k: usize, n: usize) -> [[[T; PANEL]; PANEL]; 9] {
        let mut blocks = [[[T::ZERO; PANEL]; PANEL]; 9];
        let (down, across) = (PANEL.min(self.outputs - k), PANEL.min(self.inputs - n));
        for (tap, block) in blocks.iter_mut().enumerate() {
            let first = (8 - tap) * self.inputs + n;
            for (j, row) in block[..across].iter_mut().enumerate() {
                let weights = &self.weights[(first + j) * self.outputs + k..];
                for lane in (0..down).step_by(S::LANES) {
                    let some = s.load_some(&weights[lane..], S::LANES.min(down - lane));
                    s.store(some, &mut row[lane..]);
                }
            }
            s.transpose(block);
        }
        blocks
    }

    /// The first numbers of those from the channel `k` to those at `n` on, as they are, of a tap.
    #[inline(always)]
    fn row<S: Simd<T>>(&self, s: S, tap: usize, k: usize, n: usize) -> S::Vector {
        let row = &self.weights[(tap * self.inputs + k) * self.outputs + n..];
        s.load_some(row, S::LANES.min(self.outputs - n))
    }
}

/// `G g G'` of a panel of windows.
pub struct SpreadWindows<'a, T, F, const I: usize> {
    /// Which form.
    pub form: PhantomData<F>,
    /// The windows.
    pub windows: Windows<'a, T>,
    /// The panel's first column.
    pub column: usize,
    /// The panel: `[place][row][column]`.
    pub out: &'a mut [[T; PANEL]],
}

impl<T: Real, F: Lined<I>, const I: usize> Work<T> for SpreadWindows<'_, T, F, I> {
    #[inline(always)]
    fn on<S: Simd<T>>(self, s: S) {
        let (rows, columns) = self.windows.size();
        for first in (0..rows).step_by(PANEL) {
            let turned = self
                .windows
                .turned
                .then(|| self.windows.turned(s, first, self.column));
            for k in first..rows.min(first + PANEL) {
                for lane in (0..PANEL).step_by(S::LANES) {
                    let (windows, n) = (&self.windows, self.column + lane);
                    let mut taps = [s.zero(); 9];
                    for (tap, vector) in taps.iter_mut().enumerate() {
                        *vector = match &turned {
                            Some(turned) => s.load(&turned[tap][k - first][lane..]),
                            None if n < columns => windows.row(s, tap, k, n),
                            None => s.zero(),
                        };
                    }
                    let mut columns = [[s.zero(); I]; 3];
                    each!(x < 3, {
                        columns[x] = F::window(s, [taps[x], taps[3 + x], taps[6 + x]])
                    });
                    each!(y < I, {
                        let line = F::window(s, [columns[0][y], columns[1][y], columns[2][y]]);
                        each!(x < I, {
                            s.store(line[x], &mut self.out[(I * y + x) * rows + k][lane..]);
                        });
                    });
                }
            }
        }
    }
}

/// `G' u G`: the gradient by some rows of windows from the sums over all tiles.
pub struct GatheredWindows<'a, T, F, const I: usize, const O: usize> {
    /// Which form.
    pub form: PhantomData<F>,
    /// `[row][column]` of the first place, from the first of the rows on, and so on.
    pub sums: &'a [T],
    /// From place to place.
    pub place: usize,
    /// The rows of each tap.
    pub taps: [&'a mut [T]; 9],
}

impl<T: Real, F: Form<I, O>, const I: usize, const O: usize> Work<T> for GatheredWindows<'_, T, F, I, O> {
    #[inline(always)]
    fn on<S: Simd<T>>(self, s: S) {
        for at in (0..self.taps[0].len()).step_by(S::LANES) {
            let mut columns = [[s.zero(); 3]; I];
            each!(x < I, {
                let mut column = [s.zero(); I];
                each!(y < I, {
                    column[y] = s.load(&self.sums[(I * y + x) * self.place + at..]);
                });
                columns[x] = F::window_gradient(s, column);
            });
            each!(y < 3, {
                let mut line = [s.zero(); I];
                each!(x < I, { line[x] = columns[x][y] });
                let line = F::window_gradient(s, line);
                each!(x < 3, {
                    s.store(line[x], &mut self.taps[3 * y + x][at..]);
                });
            });
        }
    }
}
