//! Pictures by hand.

use super::*;
use crate::imaging::Grid;
use crate::protocol::{Drawing, Intensities, Maker};
use crate::records::{CaseId, ModelId};
use crate::settings::Labels;
use crate::tui::theme::Themes;

/// A case of one intensity, without any map.
pub(super) fn view(shape: [usize; 3], grey: u16) -> CaseView {
    let grid = Grid::new(shape, [1.0; 3]);
    CaseView {
        case: CaseId::new("a").unwrap(),
        grid,
        plane: Plane(2),
        image: Intensities {
            values: vec![grey; grid.len()],
            low: 0.0,
            step: 1.0,
            window: [0.0, 255.0],
        },
        images: 1,
        predicted: None,
        is_measured: false,
        corrected: None,
        margins: None,
        scores: Vec::new(),
        beside: None,
    }
}

/// One slice, `width` pixels a row.
fn flat(width: usize, values: &[u16]) -> CaseView {
    let mut view = view([width, values.len() / width, 1], 0);
    view.image.values = values.to_vec();
    view
}

fn drawn(voxels: &[u8]) -> Option<Drawing> {
    Some(Drawing {
        by: Maker::Model(ModelId(1)),
        voxels: voxels.to_vec(),
    })
}

fn palette(theme: &str) -> Palette {
    Themes::new(theme, None)
        .unwrap()
        .theme(true, None)
        .palette(&Labels::default())
}

const UPRIGHT: Turn = Turn {
    transpose: false,
    mirror: false,
    flip: false,
    letters: ['R', 'L', 'A', 'P'],
};

fn job(view: CaseView, cells: [u16; 2]) -> PaintJob {
    PaintJob {
        pane: 0,
        view: Seen(view.into()),
        plane: Plane(2),
        index: 0,
        source: Source::Drawn,
        look: Look::default(),
        zoom: Zoom::default(),
        focus: [0, 0],
        cross: None,
        palette: Arc::new(palette("dark")),
        letters: Arc::new(['C', 'G', 'W']),
        turn: UPRIGHT,
        cells: Size::new(cells[0], cells[1]),
        kind: Kind::Half,
        depth: Depth::True,
        cell_px: [10, 20],
    }
}

/// Its colours at `target` pixels.
fn colours(job: &PaintJob, target: [u32; 2]) -> Vec<[u8; 3]> {
    let mut window = job.window(target.map(f64::from), 1.0);
    window.target = target;
    compose(job, &window).pixels().map(|pixel| pixel.0).collect()
}

/// One column of GM in eight survives being drawn on a single pixel; the grey under it would be a mean.
#[test]
fn a_thin_contour_survives_a_small_picture() {
    let mut view = flat(8, &[0, 0, 0, 80, 0, 0, 0, 80]);
    assert_eq!(
        colours(&job(view.clone(), [1, 1]), [1, 1]),
        [[20; 3]],
        "(80 + 80) / 8"
    );
    view.predicted = drawn(&[0, 0, 0, 2, 0, 0, 0, 0]);
    let job = job(view, [1, 1]);
    assert_eq!(colours(&job, [1, 1]), [job.palette.classes[1]]);
}

#[test]
fn a_class_of_both_maps_is_common_only_where_both_have_the_same_class() {
    let mut view = flat(4, &[0; 4]);
    view.predicted = drawn(&[1, 1, 1, 0]);
    view.corrected = Some(vec![1, 2, 0, 2]);
    let mut job = job(view, [4, 1]);
    job.look.difference = true;
    let palette = job.palette.clone();
    let expected = [
        palette.common,
        palette.corrected,
        palette.predicted,
        palette.corrected,
    ];
    assert_eq!(colours(&job, [4, 1]), expected);
    job.look.change(Some(2), 3, |class| class.is_on = false);
    assert_eq!(
        colours(&job, [4, 1])[1..],
        [palette.predicted, palette.predicted, [0; 3]],
        "GM is left out"
    );
}

#[test]
fn fills_and_contours_are_as_dense_as_they_are_set() {
    let mut view = flat(1, &[100]);
    view.predicted = drawn(&[1]);
    let mut job = job(view, [1, 1]);
    let class = job.palette.classes[0];
    assert_eq!(colours(&job, [1, 1]), [class]);
    job.look.change(None, 3, |class| class.opacity = 50);
    let mixed = |share: f32| layers::blend([100; 3], class, share);
    assert_eq!(colours(&job, [1, 1]), [mixed(0.5)]);
    job.look.contours = false;
    assert_eq!(colours(&job, [1, 1]), [mixed(0.25)]);
    job.look.overlay = false;
    assert_eq!(colours(&job, [1, 1]), [[100; 3]]);
}

#[test]
fn the_other_map_is_another_model_s_where_one_is_asked_for_and_otherwise_the_mask() {
    let mut view = flat(1, &[0]);
    view.predicted = drawn(&[1]);
    view.beside = drawn(&[2]);
    let mut both = job(view.clone(), [1, 1]);
    both.source = Source::Other;
    assert_eq!(colours(&both, [1, 1]), [both.palette.classes[1]]);
    view.corrected = Some(vec![3]);
    both.view = Seen(view.clone().into());
    assert_eq!(colours(&both, [1, 1]), [both.palette.classes[1]]);
    view.beside = None;
    both.view = Seen(view.into());
    assert_eq!(colours(&both, [1, 1]), [both.palette.classes[2]]);
}

#[test]
fn a_difference_left_on_hides_nothing_where_there_is_nothing_to_compare() {
    let mut view = flat(1, &[0]);
    view.predicted = drawn(&[1]);
    let mut job = job(view, [1, 1]);
    job.look.difference = true;
    assert_eq!(colours(&job, [1, 1]), [job.palette.classes[0]]);
}

#[test]
fn no_signal_is_black_in_mr_and_water_is_not_in_ct() {
    let mut view = flat(3, &[0, 10, 20]);
    view.image.window = [-10.0, 20.0];
    assert_eq!(colours(&job(view.clone(), [3, 1]), [3, 1])[0], [0; 3]);
    view.image.low = -10.0;
    let water = colours(&job(view, [3, 1]), [3, 1])[1];
    assert_eq!(water, [85; 3], "0 HU, a third of the way up");
}

#[test]
fn a_window_of_intensities_spreads_what_lies_in_it() {
    let mut job = job(flat(4, &[0, 40, 60, 200]), [4, 1]);
    job.look.window = Some([20.0, 60.0]);
    assert_eq!(colours(&job, [4, 1]), [[0; 3], [128; 3], [255; 3], [255; 3]]);
    job.look.colours = job.look.colours.next();
    assert_eq!(colours(&job, [4, 1])[1], [127; 3]);
}

#[test]
fn the_crosshair_crosses_where_it_should_and_leaves_the_crossing_open() {
    let mut job = job(flat(5, &[9; 25]), [5, 3]);
    job.cross = Some([3, 1]);
    let colours = colours(&job, [5, 5]);
    let at = |x: usize, y: usize| colours[y * 5 + x];
    let line = job.palette.crosshair;
    assert_eq!([at(0, 1), at(3, 4), at(1, 1)], [line; 3]);
    assert_eq!([at(3, 1), at(2, 1), at(3, 2), at(0, 0)], [[9; 3]; 4]);
    assert_eq!(job.pixel_at([3, 0]), Some([3, 0]));
    assert_eq!(job.pixel_at([4, 2]), Some([4, 4]));
    assert_eq!(job.pixel_at([5, 0]), None);
}

#[test]
fn without_colours_contours_are_letters_and_greys_are_shades() {
    let mut view = flat(4, &[0, 255, 100, 0]);
    view.predicted = drawn(&[0, 0, 2, 3]);
    let mut job = job(view, [4, 1]);
    job.kind = Kind::Ascii;
    let Picture::Spelled(rows) = Painter::default().paint(&job) else {
        panic!("it is spelled");
    };
    assert_eq!(rows.concat(), " @GW");
}

#[test]
fn without_colours_doubt_is_a_letter_that_hides_no_contour() {
    let mut view = flat(5, &[0, 255, 0, 255, 0]);
    view.predicted = drawn(&[0, 0, 0, 0, 3]);
    view.margins = drawn(&[255, 127, 63, 128, 0]);
    let mut job = job(view, [5, 1]);
    job.kind = Kind::Ascii;
    job.look.margin = true;
    let Picture::Spelled(rows) = Painter::default().paint(&job) else {
        panic!("it is spelled");
    };
    assert_eq!(rows.concat(), " ?!@W");
}

#[test]
fn in_one_colour_classes_are_patterns_and_the_contours_of_a_difference_dashes_and_dots() {
    let mut view = flat(12, &[0; 144]);
    view.predicted = drawn(&[[1; 72], [2; 72]].concat());
    let mut job = job(view.clone(), [12, 6]);
    job.palette = Arc::new(palette("mono"));
    job.look.contours = false;
    let lit = |job: &PaintJob| -> Vec<String> {
        let colours = colours(job, [12, 12]);
        let rows = colours.chunks(12).map(|row| row.iter());
        rows.map(|row| row.map(|pixel| if pixel[0] > 0 { '#' } else { '.' }).collect())
            .collect()
    };
    let filled = lit(&job);
    assert_eq!(filled[..3], ["#...#...#...", "...#...#...#", "..#...#...#."]);
    assert_eq!(filled[8..11], ["#...#...#...", ".#...#...#..", "..#...#...#."]);
    let mut bright = flat(12, &[255; 144]);
    bright.predicted = view.predicted.clone();
    let mut on_bright = job.clone();
    on_bright.view = Seen(bright.into());
    assert_eq!(lit(&on_bright)[0], ".###.###.###", "black on bright");
    view.predicted = drawn(&[[1; 12], [0; 12], [1; 12], [0; 12]].concat().repeat(3));
    view.corrected = Some([[1; 12], [0; 12], [0; 12], [1; 12]].concat().repeat(3));
    job.view = Seen(view.into());
    job.look.difference = true;
    let lines = lit(&job);
    assert_eq!(
        lines[..4],
        ["############", "............", "..##..##..##", ".#.#.#.#.#.#"]
    );
}
