//! What a pre-annotation saved the person who corrected it: Eq. 3 of the paper, and what that equation leaves out.
//!
//! A contour pixel of class k in a slice is a pixel labelled k with at least one of its four in-plane neighbours
//! not k (outside the image is not k). Over all slices of the project's cut, L counts the corrected mask's
//! contour pixels of class k, and C those of them that are contour pixels of the pre-annotation's class k in
//! the same slice too, or lie within a tolerance in mm of one. Saved effort = C / L. The room knows no file and
//! no project; it imports `imaging`, `records` and `metrics`.

use std::time::Instant;

use crate::imaging::{Grid, LabelMap, Plane, Slice};
use crate::metrics::{contour, dice, near};
use crate::records::{BenchRow, ClassAgreement, ClassEffort};

/// Two maps that cannot be compared.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error(
    "the pre-annotation has {predicted:?} voxels and the corrected mask {corrected:?}; effort needs one grid"
)]
pub struct ShapesDiffer {
    predicted: [usize; 3],
    corrected: [usize; 3],
}

/// The effort of one class after another (background left out), summed over the slices of `plane`.
///
/// # Errors
/// [`ShapesDiffer`] when the maps do not have the same number of voxels along each axis.
///
/// Source: Eq. 3 of the paper; added path length is Vaassen et al., Phys. Imaging Radiat. Oncol. 13, 2020.
pub fn saved_effort(
    predicted: &LabelMap,
    corrected: &LabelMap,
    plane: Plane,
    classes: usize,
    tolerance_mm: f64,
) -> Result<Vec<ClassEffort>, ShapesDiffer> {
    if predicted.grid.shape != corrected.grid.shape {
        return Err(ShapesDiffer {
            predicted: predicted.grid.shape,
            corrected: corrected.grid.shape,
        });
    }
    let grid = &corrected.grid;
    let pixel_mm = plane.pixel_mm(grid);
    let mut efforts = vec![NOTHING; classes.saturating_sub(1)];
    for index in 0..plane.slices(grid) {
        add_slice(
            &mut efforts,
            &predicted.slice(plane, index),
            &corrected.slice(plane, index),
            pixel_mm,
            tolerance_mm,
        );
    }
    for (effort, dice) in efforts
        .iter_mut()
        .zip(dice(&predicted.voxels, &corrected.voxels, classes))
    {
        effort.dice = dice;
    }
    Ok(efforts)
}

/// How far two people's masks agree, class after class (background left out).
///
/// # Errors
/// [`ShapesDiffer`], as for [`saved_effort`].
///
/// Source: the contours' part is the surface Dice of Nikolov et al., JMIR 23, 2021, on the contour pixels of the slices.
pub fn agreement(
    a: &LabelMap,
    b: &LabelMap,
    plane: Plane,
    classes: usize,
    tolerance_mm: f64,
) -> Result<Vec<ClassAgreement>, ShapesDiffer> {
    let there = saved_effort(a, b, plane, classes, tolerance_mm)?;
    let back = saved_effort(b, a, plane, classes, tolerance_mm)?;
    let pairs = there.iter().zip(&back);
    let both = pairs.map(|(there, back)| {
        let length = there.corrected_px + back.corrected_px;
        ClassAgreement {
            dice: there.dice,
            contour: (length > 0).then(|| (there.shared_px + back.shared_px) as f64 / length as f64),
        }
    });
    Ok(both.collect())
}

/// The effort of a single slice: what the slices screen shows beside the contours.
pub fn slice_effort(
    predicted: &Slice<u8>,
    corrected: &Slice<u8>,
    pixel_mm: [f64; 2],
    classes: usize,
    tolerance_mm: f64,
) -> Vec<ClassEffort> {
    let mut efforts = vec![NOTHING; classes.saturating_sub(1)];
    add_slice(&mut efforts, predicted, corrected, pixel_mm, tolerance_mm);
    for (effort, dice) in efforts
        .iter_mut()
        .zip(dice(&predicted.pixels, &corrected.pixels, classes))
    {
        effort.dice = dice;
    }
    efforts
}

/// The effort of several cases together: pixels added up, Dice averaged over the cases that have one.
pub fn pooled<'a>(cases: impl IntoIterator<Item = &'a [ClassEffort]>) -> Vec<ClassEffort> {
    let mut sum: Vec<ClassEffort> = Vec::new();
    let mut known: Vec<f64> = Vec::new();
    for case in cases {
        if sum.is_empty() {
            sum = vec![NOTHING; case.len()];
            known = vec![0.0; case.len()];
        }
        for ((sum, known), class) in sum.iter_mut().zip(&mut known).zip(case) {
            sum.predicted_px += class.predicted_px;
            sum.corrected_px += class.corrected_px;
            sum.shared_px += class.shared_px;
            sum.erased_px += class.erased_px;
            sum.added_path_mm += class.added_path_mm;
            if let Some(dice) = class.dice {
                sum.dice = Some(sum.dice.unwrap_or(0.0) + dice);
                *known += 1.0;
            }
        }
    }
    for (sum, known) in sum.iter_mut().zip(known) {
        sum.dice = sum.dice.map(|dice| dice / known);
    }
    sum
}

/// Times effort and Dice of a 256 x 128 x 256 pair of four classes: nested balls, and the same moved by two voxels.
pub fn bench(runs: usize) -> BenchRow {
    let grid = Grid::new([256, 128, 256], [0.9375, 1.5, 0.9375]);
    let balls = |shift: f64| {
        let mut map = LabelMap::empty(grid);
        for (at, class) in map.voxels.iter_mut().enumerate() {
            let [x, y, z] = [at % 256, at / 256 % 128, at / (256 * 128)].map(|v| v as f64);
            let r = (x - 128.0 - shift).hypot(2.0 * (y - 64.0)).hypot(z - 128.0);
            *class = [90.0, 70.0, 40.0].iter().filter(|radius| r < **radius).count() as u8;
        }
        map
    };
    let (drawn, corrected) = (balls(0.0), balls(2.0));
    let seconds = (0..=runs)
        .map(|_| {
            let start = Instant::now();
            let efforts =
                saved_effort(&drawn, &corrected, Plane(1), 4, 0.0).expect("the maps have one shape");
            std::hint::black_box(efforts);
            start.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    BenchRow {
        what: "contours, C, L, Dice of a pair".into(),
        base_channels: None,
        batch: None,
        precision: None,
        seconds,
        flop: None,
    }
}

const NOTHING: ClassEffort = ClassEffort {
    predicted_px: 0,
    corrected_px: 0,
    shared_px: 0,
    erased_px: 0,
    added_path_mm: 0.0,
    dice: None,
};

fn add_slice(
    efforts: &mut [ClassEffort],
    predicted: &Slice<u8>,
    corrected: &Slice<u8>,
    pixel_mm: [f64; 2],
    tolerance_mm: f64,
) {
    let (predicted, corrected) = (contour(predicted), contour(corrected));
    let length_mm = (pixel_mm[0] * pixel_mm[1]).sqrt();
    for at in contour_pixels(&predicted.pixels, &corrected.pixels) {
        let (p, l) = (predicted.pixels[at], corrected.pixels[at]);
        let place = (at % corrected.width, at / corrected.width);
        let shared = |contours: &Slice<u8>, class| {
            contours.pixels[at] == class
                || tolerance_mm > 0.0 && near(contours, class, place, pixel_mm, tolerance_mm)
        };
        if let Some(effort) = class_of(efforts, l) {
            effort.corrected_px += 1;
            if shared(&predicted, l) {
                effort.shared_px += 1;
            } else {
                effort.added_path_mm += length_mm;
            }
        }
        if let Some(effort) = class_of(efforts, p) {
            effort.predicted_px += 1;
            effort.erased_px += u64::from(!shared(&corrected, p));
        }
    }
}

/// Where either slice has a contour, in order. Most pixels are on none: those are passed over many at a time.
fn contour_pixels(a: &[u8], b: &[u8]) -> impl Iterator<Item = usize> {
    const RUN: usize = 32;
    let runs = a.chunks(RUN).zip(b.chunks(RUN)).enumerate();
    let found = runs.filter(|(_, (a, b))| a.iter().zip(*b).fold(0, |found, (a, b)| found | a | b) != 0);
    found.flat_map(|(run, (a, b))| {
        let pixels = a.iter().zip(b).enumerate();
        pixels.filter_map(move |(at, (a, b))| (a | b != 0).then_some(run * RUN + at))
    })
}

fn class_of(efforts: &mut [ClassEffort], class: u8) -> Option<&mut ClassEffort> {
    (class as usize).checked_sub(1).and_then(|at| efforts.get_mut(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Rng;

    fn map(rows: &[&str]) -> LabelMap {
        let grid = Grid::new([rows[0].len(), rows.len(), 1], [1.0, 4.0, 9.0]);
        LabelMap {
            grid,
            voxels: rows.iter().flat_map(|r| r.bytes().map(|b| b - b'0')).collect(),
        }
    }

    fn effort(predicted: &[&str], corrected: &[&str], tolerance_mm: f64) -> Vec<ClassEffort> {
        saved_effort(&map(predicted), &map(corrected), Plane(2), 3, tolerance_mm).unwrap()
    }

    const SQUARE: [&str; 5] = ["000000", "011100", "011100", "011100", "000000"];
    const SHIFTED: [&str; 5] = ["000000", "001110", "001110", "001110", "000000"];
    const NOTHING: [&str; 5] = ["000000"; 5];

    /// Against the definition, pixel by pixel, over many runs of pixels.
    #[test]
    fn the_effort_of_any_pair_is_as_the_definition_says() {
        let mut rng = Rng::new(1);
        let grid = Grid::new([37, 23, 1], [1.0, 1.5, 1.0]);
        // Blocks, so that there is an inside, and most of the slice empty.
        let mut draw = |seed: u64| {
            let mut map = LabelMap::empty(grid);
            for at in 0..grid.len() {
                let (x, y) = (at % 37, at / 37);
                let class =
                    (Rng::new(seed).fork(&format!("{} {}", x / 5, y / 4)).below(5) as u8).saturating_sub(2);
                map.voxels[at] = if rng.below(20) == 0 { 0 } else { class };
            }
            map
        };
        let (drawn, corrected) = (draw(1), draw(2));
        let on = |map: &LabelMap, class: u8| -> Vec<(i32, i32)> {
            let of = |x: i32, y: i32| {
                let is_inside = (0..37).contains(&x) && (0..23).contains(&y);
                is_inside && map.voxels[(y * 37 + x) as usize] == class
            };
            let all = (0..23).flat_map(|y| (0..37).map(move |x| (x, y)));
            let is_contour = |&(x, y): &(i32, i32)| {
                let around = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)];
                of(x, y) && around.iter().any(|&(x, y)| !of(x, y))
            };
            all.filter(is_contour).collect()
        };
        for tolerance_mm in [0.0, 1.5] {
            let found = saved_effort(&drawn, &corrected, Plane(2), 3, tolerance_mm).unwrap();
            for (class, found) in (1..).zip(found) {
                let (drawn, corrected) = (on(&drawn, class), on(&corrected, class));
                assert!(!drawn.is_empty() && !corrected.is_empty());
                let is_near = |of: &[(i32, i32)], (x, y): (i32, i32)| {
                    of.iter().any(|&(a, b)| {
                        let (mm_x, mm_y) = (f64::from(a - x), 1.5 * f64::from(b - y));
                        mm_x * mm_x + mm_y * mm_y <= tolerance_mm * tolerance_mm
                    })
                };
                let shared = corrected.iter().filter(|place| is_near(&drawn, **place)).count() as u64;
                let kept = drawn.iter().filter(|place| is_near(&corrected, **place)).count() as u64;
                assert_eq!(
                    [
                        found.predicted_px,
                        found.corrected_px,
                        found.shared_px,
                        found.erased_px
                    ],
                    [
                        drawn.len() as u64,
                        corrected.len() as u64,
                        shared,
                        drawn.len() as u64 - kept
                    ],
                );
            }
        }
    }

    /// Two 3x3 squares one pixel apart: 8 contour pixels each. The left column of the second lies on the first's
    /// middle column, whose centre is inside: the shared pixels are the top and bottom pairs.
    #[test]
    fn a_square_one_pixel_off_saves_half() {
        let [class, other] = effort(&SQUARE, &SHIFTED, 0.0)[..] else {
            panic!("two classes")
        };
        assert_eq!(
            (class.predicted_px, class.corrected_px, class.shared_px),
            (8, 8, 4)
        );
        assert_eq!(
            (class.saved(), class.added_path_px(), class.erased_px),
            (Some(0.5), 4, 4)
        );
        assert_eq!(class.added_path_mm, 8.0, "a pixel of 1 x 4 mm stands for 2 mm");
        assert_eq!(class.dice, Some(2.0 * 6.0 / 18.0));
        assert_eq!(
            (other.saved(), other.dice),
            (None, None),
            "a class in neither map is n/a"
        );
    }

    #[test]
    fn a_perfect_prediction_saves_everything() {
        let class = effort(&SQUARE, &SQUARE, 0.0)[0];
        assert_eq!(
            (class.saved(), class.added_path_px(), class.erased_px),
            (Some(1.0), 0, 0)
        );
    }

    #[test]
    fn an_empty_prediction_saves_nothing() {
        let class = effort(&NOTHING, &SQUARE, 0.0)[0];
        assert_eq!(
            (class.saved(), class.predicted_px, class.dice),
            (Some(0.0), 0, Some(0.0))
        );
    }

    #[test]
    fn an_empty_correction_is_not_applicable_and_leaves_all_to_erase() {
        let class = effort(&SQUARE, &NOTHING, 0.0)[0];
        assert_eq!((class.saved(), class.erased_px), (None, 8));
    }

    #[test]
    fn both_empty_is_not_applicable() {
        let class = effort(&NOTHING, &NOTHING, 0.0)[0];
        assert_eq!((class.saved(), class.erased_px, class.dice), (None, 0, None));
    }

    #[test]
    fn another_class_on_the_same_contour_saves_nothing() {
        let twos = SQUARE.map(|row| row.replace('1', "2"));
        let classes = effort(&SQUARE, &twos.each_ref().map(String::as_str), 0.0);
        assert_eq!((classes[0].saved(), classes[1].saved()), (None, Some(0.0)));
    }

    /// 1 mm along the row reaches the neighbour column, so all of the shifted square is near the first.
    #[test]
    fn a_tolerance_of_one_pixel_forgives_one_pixel() {
        let class = effort(&SQUARE, &SHIFTED, 1.0)[0];
        assert_eq!((class.saved(), class.erased_px), (Some(1.0), 0));
    }

    #[test]
    fn contours_are_drawn_in_the_cut_that_people_draw_in() {
        let grid = Grid::new([3, 3, 3], [1.0; 3]);
        let cube = LabelMap {
            grid,
            voxels: vec![1; 27],
        };
        for plane in Plane::ALL {
            let class = saved_effort(&cube, &cube, plane, 2, 0.0).unwrap()[0];
            assert_eq!(
                class.corrected_px, 24,
                "8 a slice: the middle of each slice is no contour"
            );
        }
    }

    #[test]
    fn maps_of_other_shapes_are_refused() {
        let error = saved_effort(&map(&["00"]), &map(&["000"]), Plane(2), 2, 0.0).unwrap_err();
        assert!(error.to_string().contains("[2, 1, 1]"), "{error}");
    }

    #[test]
    fn cases_pool_by_pixels_and_average_their_dice() {
        let (half, all) = (effort(&SQUARE, &SHIFTED, 0.0), effort(&SQUARE, &SQUARE, 0.0));
        let pool = pooled([&half[..], &all[..]]);
        assert_eq!((pool[0].shared_px, pool[0].corrected_px), (12, 16));
        assert_eq!(pool[0].dice, Some((2.0 / 3.0 + 1.0) / 2.0));
        assert_eq!(pool[1].dice, None);
        assert!(pooled([]).is_empty());
    }
}
