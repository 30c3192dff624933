//! What an epoch runs over: tiles with signal (and of stacks one without), which of them check instead of teach, and how
//! they are dealt.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::imaging::Rng;
use crate::model::data::{Case, Field};
use crate::model::place::placed;
use crate::model::tiling::{TILE, TILE_PIXELS, Window};

/// From this many cases on, whole cases are held out for validation instead of slices of each.
const WHOLE_CASES: usize = 5;

/// Tiles, as deep as the network's field, and the part of each that lies in its slices.
#[derive(Clone)]
pub struct Tiles {
    field: Field,
    inputs: Vec<f32>,
    classes: Vec<u8>,
    places: Vec<Place>,
}

/// Where a tile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Number of the case, of all that there are.
    pub case: usize,
    /// As many as the field is deep, or fewer.
    pub slices: Range<usize>,
    /// Those that it is there for.
    asked: Range<usize>,
    /// Where in each.
    pub window: Window,
}

impl Place {
    /// Row and column of its middle in the slice, though that may lie beyond the edge.
    pub fn middle(&self) -> [f64; 2] {
        let half = (TILE as f64 - 1.0) / 2.0;
        [self.window.top as f64 + half, self.window.left as f64 + half]
    }
}

impl Tiles {
    fn new(field: Field) -> Tiles {
        Tiles {
            field,
            inputs: Vec::new(),
            classes: Vec::new(),
            places: Vec::new(),
        }
    }

    /// What a tile is to the network.
    pub fn field(&self) -> Field {
        self.field
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds the tiles with signal of some slices that lie one behind the other; `there` are those that may be seen with them.
    ///
    /// Where they are stacks, the first one without signal is added too: the network that sees stacks normalises each by
    /// itself, which makes of an empty one something that no other stack holds. Never taught what it is, it draws it full.
    fn add(&mut self, (number, case): (usize, &Case), asked: Range<usize>, there: Range<usize>) {
        let (before, mut empty) = (self.len(), None);
        for (slices, asked) in self.field.stacks(asked, there) {
            let beside = self.field.beside;
            let seen = slices.start.saturating_sub(beside)..case.slices().min(slices.end + beside);
            for window in (0..case.tiling().tiles()).map(|tile| case.tiling().window(tile)) {
                let place = Place {
                    case: number,
                    slices: slices.clone(),
                    asked: asked.clone(),
                    window,
                };
                // Of a slice without there is nothing to learn, though there may be something around it.
                if case.has_signal(seen.clone(), &window) {
                    self.push(case, place);
                } else {
                    empty.get_or_insert(place);
                }
            }
        }
        if let Some(empty) = empty.filter(|_| self.field.depth > 1 && self.len() > before) {
            self.push(case, empty);
        }
    }

    /// Adds the tile of a case that lies there.
    fn push(&mut self, case: &Case, place: Place) {
        let (slices, window) = (&place.slices, &place.window);
        let (seen, pixels) = (self.inputs.len(), self.classes.len());
        self.inputs.resize(seen + self.field.seen(), 0.0);
        self.classes.resize(pixels + self.field.pixels(), 0);
        case.cut(self.field, slices.clone(), window, &mut self.inputs[seen..]);
        case.cut_mask(slices.clone(), window, &mut self.classes[pixels..]);
        self.places.push(place);
    }

    /// The pixels of a tile that lie in the slices that it is there for: where in the tile, and the class there.
    pub fn known(&self, tile: usize) -> impl Iterator<Item = (usize, u8)> {
        let Place {
            slices,
            asked,
            window,
            ..
        } = &self.places[tile];
        let before = asked.start - slices.start;
        let (width, height) = (window.right - window.left, window.bottom - window.top);
        let classes = &self.classes[tile * self.field.pixels()..][..self.field.pixels()];
        (before * height..(before + asked.len()) * height)
            .flat_map(move |row| {
                (0..width).map(move |x| row / height * TILE_PIXELS + row % height * TILE + x)
            })
            .map(|at| (at, classes[at]))
    }

    /// Where each comes from.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Which classes each holds.
    fn held(&self) -> Vec<[bool; 256]> {
        let held = |tile: &[u8]| {
            let mut held = [false; 256];
            tile.iter().for_each(|&class| held[class as usize] = true);
            held
        };
        self.classes.chunks_exact(self.field.pixels()).map(held).collect()
    }

    /// Of every class above background that there is in some tiles, those that hold it.
    pub fn holders(&self, tiles: &[usize]) -> Vec<(u8, Vec<usize>)> {
        let held = self.held();
        let holders = (1..=255u8).map(|class| {
            let holds = |tile: &usize| held[*tile][class as usize];
            (class, tiles.iter().copied().filter(holds).collect())
        });
        holders
            .filter(|(_, tiles): &(u8, Vec<usize>)| !tiles.is_empty())
            .collect()
    }

    /// Of each tile, the number of tiles that hold the rarest class in it.
    pub fn rarity(&self) -> Vec<usize> {
        let held = self.held();
        let mut tiles = [0; 256];
        for held in &held {
            tiles
                .iter_mut()
                .zip(held)
                .for_each(|(n, &held)| *n += usize::from(held));
        }
        let rarest = |held: &[bool; 256]| {
            tiles
                .iter()
                .zip(held)
                .filter(|(_, held)| **held)
                .map(|(&n, _)| n)
                .min()
        };
        held.iter().map(|held| rarest(held).unwrap_or(0)).collect()
    }

    /// The inputs (tiles x depth, edge, edge, channels) and the classes (tiles x depth, TILE, TILE) of some.
    pub fn batch(&self, batch: &[usize], device: &Device) -> candle_core::Result<(Tensor, Tensor)> {
        let (size, pixels) = (self.field.seen(), self.field.pixels());
        let inputs: Vec<f32> = batch
            .iter()
            .flat_map(|&t| &self.inputs[t * size..][..size])
            .copied()
            .collect();
        let classes: Vec<u8> = batch
            .iter()
            .flat_map(|&t| &self.classes[t * pixels..][..pixels])
            .copied()
            .collect();
        Ok((
            placed(inputs, self.field.shape(batch.len()), device)?,
            placed(classes, (batch.len() * self.field.depth, TILE, TILE), device)?,
        ))
    }
}

/// An epoch's batches of at most `batch` tiles: every tile once, in a random order, those of a rare class spread
/// as evenly as can be. `rarity` is that of [`Tiles::rarity`], and whatever else of tiles is to be spread. A class in fewer tiles than there are batches is still
/// missing from some.
///
/// In a batch without a class its soft Dice is 1e-5 / sum p, and that gradient drives the class to zero everywhere;
/// after a few such steps the network never draws it again. So tiles are dealt like cards, the rarest class first.
pub fn deal<K: Ord + Copy>(rarity: &[K], batch: usize, rng: &mut Rng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rarity.len()).collect();
    rng.shuffle(&mut order);
    order.sort_by_key(|&tile| rarity[tile]);
    let steps = order.len().div_ceil(batch);
    let hand = |step| order.iter().skip(step).step_by(steps).copied().collect();
    let mut batches: Vec<Vec<usize>> = (0..steps).map(hand).collect();
    rng.shuffle(&mut batches);
    batches
}

/// The tiles to learn from and those to check with.
pub fn split(cases: &[Case], field: Field, rng: &mut Rng) -> (Tiles, Tiles) {
    let (mut learn, mut check) = (Tiles::new(field), Tiles::new(field));
    for (case, held_out) in cases.iter().enumerate().zip(held_out(cases, rng)) {
        for slices in [0..held_out.start, held_out.end..case.1.slices()] {
            learn.add(case, slices.clone(), slices);
        }
        check.add(case, held_out, 0..case.1.slices());
    }
    (learn, check)
}

/// The slices of each case that are held out for validation.
///
/// With fewer than 5 cases: of each case, a run of a tenth of its slices with signal (at least one, if there are
/// two), at a random place. Neighbouring slices look alike, so a run tells more than scattered slices would. From 5
/// cases on: all slices of a tenth of the cases, rounded up, and none of the others.
fn held_out(cases: &[Case], rng: &mut Rng) -> Vec<Range<usize>> {
    if cases.len() >= WHOLE_CASES {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        rng.shuffle(&mut order);
        let chosen = &order[..cases.len().div_ceil(10)];
        let all = |(n, case): (usize, &Case)| {
            if chosen.contains(&n) {
                0..case.slices()
            } else {
                0..0
            }
        };
        return cases.iter().enumerate().map(all).collect();
    }
    let mut run_of = |case: &Case| {
        let signal: Vec<usize> = (0..case.slices())
            .filter(|&slice| {
                let mut windows = (0..case.tiling().tiles()).map(|tile| case.tiling().window(tile));
                windows.any(|window| case.has_signal(slice..slice + 1, &window))
            })
            .collect();
        if signal.len() < 2 {
            return 0..0;
        }
        let length = (signal.len() / 10).max(1);
        let first = rng.below(signal.len() - length + 1);
        signal[first]..signal[first + length - 1] + 1
    };
    cases.iter().map(&mut run_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::train::tests::discs_and_squares;

    #[test]
    fn few_cases_lend_a_contiguous_tenth_of_their_slices() {
        let cases: Vec<Case> = (0..4).map(|n| discs_and_squares("a", 30 + n, n as u64)).collect();
        let held = held_out(&cases, &mut Rng::new(1));
        assert_eq!(
            held.iter().map(ExactSizeIterator::len).collect::<Vec<_>>(),
            [3; 4]
        );
        let (learn, check) = split(&cases, Field::TILE, &mut Rng::new(1));
        assert_eq!((learn.len(), check.len()), (30 + 31 + 32 + 33 - 12, 12));
        let tile = |tiles: &Tiles, t: usize| tiles.inputs[t * TILE_PIXELS..][..TILE_PIXELS].to_vec();
        for t in 0..check.len() {
            let held = tile(&check, t);
            assert!(
                (0..learn.len()).all(|other| tile(&learn, other) != held),
                "tile {t} is in both"
            );
        }
        assert_ne!(held, held_out(&cases, &mut Rng::new(2)), "the place is drawn");
    }

    #[test]
    fn many_cases_lend_a_tenth_of_themselves_whole() {
        let cases: Vec<Case> = (0..11).map(|n| discs_and_squares("a", 2, n)).collect();
        let held = held_out(&cases, &mut Rng::new(1));
        assert_eq!(held.iter().filter(|held| **held == (0..2)).count(), 2);
        assert_eq!(held.iter().filter(|held| held.is_empty()).count(), 9);
    }

    /// 23 tiles in batches of 4: six, of 4 or 3 tiles; of the 7 with the rare class each gets one, and one gets two.
    #[test]
    fn every_tile_is_dealt_once_and_the_rare_ones_evenly() {
        let rarity: Vec<usize> = (0..23).map(|tile| if tile < 7 { 7 } else { 23 }).collect();
        let mut rng = Rng::new(3);
        let epochs: Vec<Vec<Vec<usize>>> = (0..5).map(|_| deal(&rarity, 4, &mut rng)).collect();
        for batches in &epochs {
            let rare = |batch: &Vec<usize>| batch.iter().filter(|&&tile| tile < 7).count();
            let mut rare: Vec<usize> = batches.iter().map(rare).collect();
            rare.sort_unstable();
            assert_eq!(rare, [1, 1, 1, 1, 1, 2]);
            assert!(batches.iter().all(|batch| (3..=4).contains(&batch.len())));
            let mut all = batches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..23).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1], "an epoch is dealt like the one before");
    }

    /// Twenty slices are two stacks of sixteen, of which four are seen twice.
    #[test]
    fn every_pixel_of_overlapping_stacks_is_known_once() {
        let case = discs_and_squares("a", 20, 1);
        let field = Field {
            depth: 16,
            ..Field::TILE
        };
        let mut tiles = Tiles::new(field);
        tiles.add((0, &case), 0..20, 0..20);
        assert_eq!(tiles.len(), 2);
        let known: Vec<u8> = (0..2)
            .flat_map(|tile| tiles.known(tile))
            .map(|(_, class)| class)
            .collect();
        assert_eq!(known, case.mask.as_ref().unwrap().voxels);
        // Held-out ones see their neighbours, which are not measured.
        let mut tiles = Tiles::new(field);
        tiles.add((0, &case), 9..11, 0..20);
        let known: Vec<u8> = tiles.known(0).map(|(_, class)| class).collect();
        assert_eq!(
            known,
            case.mask.as_ref().unwrap().voxels[9 * TILE_PIXELS..11 * TILE_PIXELS]
        );
    }

    /// Of forty slices the last twenty are empty: of stacks one of those is taught, of slices none.
    #[test]
    fn an_empty_stack_is_taught_and_an_empty_slice_is_not() {
        let mut case = discs_and_squares("a", 40, 1);
        case.channels[0].voxels[20 * TILE_PIXELS..].fill(0.0);
        let added = |case: &Case, depth| {
            let mut tiles = Tiles::new(Field { depth, ..Field::TILE });
            tiles.add((0, case), 0..40, 0..40);
            tiles
        };
        assert_eq!(added(&case, 1).len(), 20);
        // At slices 0, 16 and 24, the last of them empty; four deep, the first empty one of five.
        assert_eq!(added(&case, 16).len(), 3);
        assert_eq!(added(&case, 4).len(), 5 + 1);
        assert_eq!(added(&case, 4).places.last().unwrap().slices, 20..24);
        // Where all is empty there is nothing to learn.
        case.channels[0].voxels.fill(0.0);
        assert_eq!(added(&case, 4).len(), 0);
    }

    /// Discs are in every tile; squares are wiped from all but two of the ten.
    #[test]
    fn the_rarity_of_a_tile_is_that_of_the_rarest_class_in_it() {
        let mut case = discs_and_squares("a", 10, 1);
        let mask = case.mask.as_mut().unwrap();
        mask.voxels[2 * TILE_PIXELS..]
            .iter_mut()
            .filter(|class| **class == 2)
            .for_each(|class| *class = 0);
        let mut tiles = Tiles::new(Field::TILE);
        tiles.add((0, &case), 0..10, 0..10);
        assert_eq!(tiles.rarity(), [2, 2, 10, 10, 10, 10, 10, 10, 10, 10]);
    }
}
