//! Contours of the classes in a slice.

use crate::imaging::Slice;

/// The contour pixels of every class at once: a pixel keeps its class if it is a contour pixel of it, and is 0
/// otherwise.
///
/// A contour pixel of class k is a pixel labelled k with at least one of its four neighbours not k; outside the
/// slice is not k. Background has no contour here.
pub fn contour(labels: &Slice<u8>) -> Slice<u8> {
    let Slice {
        width,
        height,
        pixels,
    } = labels;
    let (width, height) = (*width, *height);
    // The rim of the slice is contour wherever there is a class.
    let mut out = pixels.clone();
    if width > 2 {
        for y in 1..height.saturating_sub(1) {
            let row = |y: usize| &pixels[y * width..][..width];
            let (above, here, below) = (&row(y - 1)[1..], row(y), &row(y + 1)[1..]);
            let beside = here.iter().zip(&here[1..]).zip(&here[2..]);
            let around = beside.zip(above.iter().zip(below));
            let inner = &mut out[y * width + 1..][..width - 2];
            // Without branches, so that many pixels are looked at together.
            for (out, (((left, class), right), (above, below))) in inner.iter_mut().zip(around) {
                let differs = (left ^ class) | (right ^ class) | (above ^ class) | (below ^ class);
                *out = if differs == 0 { 0 } else { *class };
            }
        }
    }
    Slice {
        width,
        height,
        pixels: out,
    }
}

/// Whether `contours` has a pixel of `class` within `tolerance_mm` of (x, y), centre to centre in the slice.
pub fn near(
    contours: &Slice<u8>,
    class: u8,
    (x, y): (usize, usize),
    pixel_mm: [f64; 2],
    tolerance_mm: f64,
) -> bool {
    // Nothing is to be found beyond the slice.
    let edges = [contours.width, contours.height];
    let reach: [isize; 2] =
        std::array::from_fn(|axis| (tolerance_mm / pixel_mm[axis]).min(edges[axis] as f64).floor() as isize);
    (-reach[1]..=reach[1]).any(|dy| {
        (-reach[0]..=reach[0]).any(|dx| {
            let (mm_x, mm_y) = (dx as f64 * pixel_mm[0], dy as f64 * pixel_mm[1]);
            mm_x * mm_x + mm_y * mm_y <= tolerance_mm * tolerance_mm
                && contours.get(x as isize + dx, y as isize + dy) == Some(class)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(rows: &[&str]) -> Slice<u8> {
        let pixels = rows
            .iter()
            .flat_map(|row| row.bytes().map(|b| b.saturating_sub(b'0')))
            .collect();
        Slice {
            width: rows[0].len(),
            height: rows.len(),
            pixels,
        }
    }

    #[test]
    fn a_square_s_contour_is_its_rim() {
        let square = slice(&["00000", "01110", "01110", "01110", "00000"]);
        let rim = slice(&["00000", "01110", "01010", "01110", "00000"]);
        assert_eq!(contour(&square), rim);
    }

    #[test]
    fn outside_the_slice_is_not_the_class() {
        let full = slice(&["222", "222", "222"]);
        assert_eq!(contour(&full), slice(&["222", "202", "222"]));
    }

    #[test]
    fn every_pixel_of_any_slice_is_as_the_definition_says() {
        let mut rng = crate::imaging::Rng::new(1);
        for (width, height) in [(37, 23), (2, 9), (9, 2), (1, 1), (3, 3), (0, 0)] {
            // Few classes, so that some pixels lie inside.
            let pixels = (0..width * height).map(|_| [0, 1, 1, 1, 1, 1, 2][rng.below(7)]);
            let labels = Slice {
                width,
                height,
                pixels: pixels.collect(),
            };
            let found = contour(&labels);
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let (at, class) = (y * width + x, labels.pixels[y * width + x]);
                let (x, y) = (x as isize, y as isize);
                let around = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)];
                let is_inside = around.iter().all(|&(x, y)| labels.get(x, y) == Some(class));
                assert_eq!(found.pixels[at], if is_inside { 0 } else { class }, "{x}, {y}");
            }
        }
    }

    #[test]
    fn two_classes_that_touch_both_have_a_contour_there() {
        let halves = slice(&["111222", "111222", "111222"]);
        assert_eq!(contour(&halves).pixels[6..12], [1, 0, 1, 2, 0, 2]);
    }

    #[test]
    fn a_diagonal_neighbour_does_not_make_a_contour() {
        let notch = slice(&["01111", "11111", "11111", "11111", "11111"]);
        assert_eq!(
            contour(&notch).pixels[6],
            0,
            "all four neighbours of (1, 1) are 1"
        );
    }

    #[test]
    fn near_is_measured_in_mm_and_within_the_class() {
        let one = slice(&["10000", "00000", "00000"]);
        let mm = [1.0, 2.0];
        assert!(near(&one, 1, (2, 0), mm, 2.0), "two pixels along are 2 mm");
        assert!(near(&one, 1, (0, 1), mm, 2.0), "one row down is 2 mm");
        assert!(!near(&one, 1, (1, 1), mm, 2.0), "sqrt(5) mm");
        assert!(!near(&one, 2, (0, 0), mm, 2.0));
        assert!(near(&one, 1, (0, 0), mm, 0.0) && !near(&one, 1, (1, 0), mm, 0.0));
    }
}
