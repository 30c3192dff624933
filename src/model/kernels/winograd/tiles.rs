//! From images to transformed tiles and back, and the same of windows.
//!
//! Transformed tiles lie place by place in panels of 16 channels, `[place][panel][tile][channel]`, as the products read
//! them: the twelve tiles of a block are then one contiguous piece. Of pairs of tiles a panel has 8 channels of both, in turns, and
//! what is called a tile here is a pair.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::shape::Finish;
use super::super::simd::{Grid, GridMut, Simd, Steps, Work};
use super::super::{PANEL, Real};
use super::cut::Cut;
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

/// How much further, in values, lies what is fetched.
const FURTHER: usize = 256;
/// So many rows of windows are fetched ahead: they lie too far apart for anything else to bring them in time.
const AHEAD: usize = 8;

/// Fetches `edge x edge` pixels, 6 at most, a row of tiles below those from `here` on, and somewhat further: by the time of their
/// turn they are there. What lies beyond the end of a row begins the next one.
#[inline(always)]
fn fetch_below<T: Real, S: Simd<T>>(s: S, here: *const T, edge: usize, steps: Steps) {
    let below = here.wrapping_add(edge * S::PIECES * steps.row + FURTHER);
    each!(y < edge, {
        each!(x < edge, {
            s.fetch(below.wrapping_add(y * steps.row + x * steps.column));
        });
    });
}

/// Vectors by their rows and columns. (Closures would do, but for being inlined where it counts.)
trait Read<V> {
    /// One of them.
    fn at(&self, row: usize, column: usize) -> V;
}

impl<T: Real, S: Simd<T>, const R: usize, const C: usize> Read<S::Vector> for Grid<'_, T, S, R, C> {
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> S::Vector {
        self.load(row, column)
    }
}

impl<V: Copy, const R: usize, const C: usize> Read<V> for [[V; C]; R] {
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> V {
        self[row][column]
    }
}

/// Where vectors go, by their rows and columns.
trait Write<V> {
    /// One of them.
    fn put(&mut self, row: usize, column: usize, vector: V);
}

impl<V, const R: usize, const C: usize> Write<V> for [[V; C]; R] {
    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, vector: V) {
        self[row][column] = vector;
    }
}

impl<T: Real, S: Simd<T>, const R: usize, const C: usize> Write<S::Vector> for GridMut<'_, T, S, R, C> {
    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, vector: S::Vector) {
        self.store(row, column, vector);
    }
}

/// Where vectors go that a gate lets through.
struct Gated<'a, T, S, const O: usize> {
    simd: S,
    out: GridMut<'a, T, S, O, O>,
    gate: Grid<'a, T, S, O, O>,
}

impl<T: Real, S: Simd<T>, const O: usize> Write<S::Vector> for Gated<'_, T, S, O> {
    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, vector: S::Vector) {
        let gate = self.gate.load(row, column);
        self.out.store(row, column, self.simd.gated(vector, gate));
    }
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
    /// Of pieces with room for `tiles` tiles of `channels` channels, those of both of a pair.
    pub fn of(tiles: usize, channels: usize) -> Layout {
        let panel = (tiles + 1) * PANEL;
        Layout {
            panel,
            place: channels.div_ceil(PANEL) * panel,
        }
    }

    /// From place to place of `I x I`.
    #[inline(always)]
    fn steps<const I: usize>(self) -> Steps {
        Steps {
            row: I * self.place,
            column: self.place,
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
        let (tiles, channels) = (self.tiles.clone(), self.channels);
        for (to, tile) in self.cut.walk::<N>(tiles, L::BORDER, channels).enumerate() {
            for channel in (0..channels).step_by(S::LANES) {
                let images = &self.images[channel..];
                // Where the tile below has pixels that this one has not.
                let here = images.as_ptr().wrapping_add(tile.at(2 * L::BORDER, L::BORDER));
                fetch_below(s, here, N - 2 * L::BORDER, tile.steps);
                if tile.is_inside() {
                    let pixels = Grid::<T, S, N, N>::of(s, &images[tile.first..], tile.steps);
                    self.tile(s, (to, channel), &pixels);
                    continue;
                }
                // Zeros, and what there is: to ask about each of them costs more than to put them together.
                let mut patch = [[s.zero(); N]; N];
                for (y, line) in patch.iter_mut().enumerate() {
                    let there = tile.there(y);
                    for x in tile.columns() {
                        line[x] = s.load_there(images, tile.at(y, x), there);
                    }
                }
                self.tile(s, (to, channel), &patch);
            }
        }
    }
}

impl<T: Real, L: Lines<N, I>, const N: usize, const I: usize> Spread<'_, T, L, N, I> {
    /// Some channels of one tile, of what lies at its rows and columns.
    #[inline(always)]
    fn tile<S: Simd<T>>(&mut self, s: S, (to, channel): (usize, usize), pixels: &impl Read<S::Vector>) {
        let mut columns = [[s.zero(); I]; N];
        each!(x < N, {
            let mut column = [s.zero(); N];
            each!(y < N, { column[y] = pixels.at(y, x) });
            columns[x] = L::line(s, column);
        });
        let first = self.layout.at(to, (self.from + channel) * S::PIECES);
        let places = self.layout.steps::<I>();
        let mut places = GridMut::<T, S::Whole, I, I>::of(s.whole(), &mut self.out[first..], places);
        each!(y < I, {
            let mut line = [s.zero(); N];
            each!(x < N, { line[x] = columns[x][y] });
            let line = L::line(s, line);
            each!(x < I, { places.store(y, x, line[x]) });
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
    fn on<S: Simd<T>>(self, s: S) {
        // What is asked here is not asked of every pixel.
        match (self.finish.relu, self.finish.gate) {
            (false, []) => self.all::<S, false, false>(s),
            (true, []) => self.all::<S, true, false>(s),
            (false, _) => self.all::<S, false, true>(s),
            (true, _) => self.all::<S, true, true>(s),
        }
    }
}

impl<T: Real, F: Form<I, O>, const I: usize, const O: usize> Gathered<'_, T, F, I, O> {
    #[inline(always)]
    fn all<S: Simd<T>, const RELU: bool, const GATED: bool>(mut self, s: S) {
        let written = std::mem::take(&mut self.out);
        let (tiles, channels, gate) = (self.tiles.clone(), self.channels, self.finish.gate);
        for (from, tile) in self.cut.walk::<O>(tiles, 0, channels).enumerate() {
            for channel in (0..channels).step_by(S::LANES) {
                let (first, at) = (tile.first - self.base + channel, tile.first + channel);
                fetch_below(s, written.as_ptr().wrapping_add(first), O, tile.steps);
                if GATED {
                    fetch_below(s, gate.as_ptr().wrapping_add(at), O, tile.steps);
                }
                if tile.is_inside() {
                    let mut out = GridMut::<T, S, O, O>::of(s, &mut written[first..], tile.steps);
                    if GATED {
                        let gate = Grid::of(s, &gate[at..], tile.steps);
                        let mut out = Gated { simd: s, out, gate };
                        self.tile::<S, RELU>(s, (from, channel), &mut out);
                    } else {
                        self.tile::<S, RELU>(s, (from, channel), &mut out);
                    }
                    continue;
                }
                let mut patch = [[s.zero(); O]; O];
                self.tile::<S, RELU>(s, (from, channel), &mut patch);
                for (y, line) in patch.iter().enumerate() {
                    let there = tile.there(y);
                    for x in tile.columns() {
                        let further = y * tile.steps.row + x * tile.steps.column;
                        let mut value = line[x];
                        if GATED {
                            value = s.gated(value, s.load_there(gate, at + further, there));
                        }
                        s.store_there(value, written, first + further, there);
                    }
                }
            }
        }
    }

    /// Some channels of one tile.
    #[inline(always)]
    fn tile<S: Simd<T>, const RELU: bool>(
        &self,
        s: S,
        (from, channel): (usize, usize),
        pixels: &mut impl Write<S::Vector>,
    ) {
        let channel = self.from + channel;
        let products = &self.products[self.layout.at(from, channel * S::PIECES)..];
        let products = Grid::<T, S::Whole, I, I>::of(s.whole(), products, self.layout.steps::<I>());
        let mut columns = [[s.zero(); O]; I];
        each!(x < I, {
            let mut column = [s.zero(); I];
            each!(y < I, { column[y] = products.load(y, x) });
            columns[x] = F::output(s, column);
        });
        let bias = match self.finish.bias {
            [] => s.zero(),
            bias => s.load_each(&bias[channel..]),
        };
        each!(y < O, {
            let mut line = [s.zero(); I];
            each!(x < I, { line[x] = columns[x][y] });
            let line = F::output(s, line);
            each!(x < O, {
                let value = s.add(line[x], bias);
                pixels.put(y, x, if RELU { s.not_below_zero(value) } else { value });
            });
        });
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
                s.fetch(weights.as_ptr().wrapping_add(PANEL));
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
        s.fetch(row.as_ptr().wrapping_add(AHEAD * self.outputs));
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
    /// Rows from place to place.
    pub place: usize,
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
                            s.store(line[x], &mut self.out[(I * y + x) * self.place + k][lane..]);
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
