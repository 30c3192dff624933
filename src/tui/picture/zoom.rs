//! Which part of a slice is shown, and at what size: zoom and pan.

/// Largest zoom.
const MOST: f64 = 16.0;

/// How far in, and where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zoom {
    /// 1 shows the slice as a whole.
    pub factor: f64,
    /// How far the middle of what is shown lies from the crosshair, in pixels of the turned slice.
    pub pan: [f64; 2],
}

impl Default for Zoom {
    fn default() -> Zoom {
        Zoom {
            factor: 1.0,
            pan: [0.0; 2],
        }
    }
}

impl Zoom {
    /// Half as far in again, `times` times; out when negative.
    pub fn step(&mut self, times: isize) {
        self.factor = (self.factor * 1.5f64.powi(times as i32)).clamp(1.0, MOST);
        if self.factor < 1.01 {
            *self = Zoom::default();
        }
    }
}

/// A part of a turned slice on some pixels of the screen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// First column and row, which may lie between pixels.
    pub from: [f64; 2],
    /// Columns and rows of the slice that are shown.
    pub shown: [f64; 2],
    /// Pixels of the screen that they fill.
    pub target: [u32; 2],
}

impl Window {
    /// Of a turned slice of `size` pixels, each `pixel_mm` large, in `room` pixels of the screen, each `aspect` times as high
    /// as wide, zoomed in on the pixel `cross`.
    pub fn of(
        size: [usize; 2],
        pixel_mm: [f64; 2],
        room: [f64; 2],
        aspect: f64,
        zoom: Zoom,
        cross: [usize; 2],
    ) -> Window {
        let mm: [f64; 2] = std::array::from_fn(|axis| size[axis] as f64 * pixel_mm[axis]);
        // Pixels of the screen a millimetre, across; down there are fewer of them where they are higher.
        let fit = (room[0] / mm[0]).min(room[1] * aspect / mm[1]);
        let scale = [fit * zoom.factor, fit * zoom.factor / aspect];
        let axis = |axis: usize| {
            let whole = (mm[axis] * scale[axis]).round();
            let target = whole.min(room[axis].floor()).max(1.0);
            let shown = (size[axis] as f64 * target / whole.max(1.0)).min(size[axis] as f64);
            let middle = cross[axis] as f64 + 0.5 + zoom.pan[axis];
            let from = (middle - shown / 2.0).clamp(0.0, size[axis] as f64 - shown);
            (from, shown, target as u32)
        };
        let ([x, y], [w, h], target) = {
            let (a, b) = (axis(0), axis(1));
            ([a.0, b.0], [a.1, b.1], [a.2, b.2])
        };
        Window {
            from: [x, y],
            shown: [w, h],
            target,
        }
    }

    /// The columns (axis 0) or rows of the slice under one of the screen.
    pub fn under(&self, at: u32, axis: usize) -> std::ops::Range<usize> {
        let edge =
            |at: u32| self.from[axis] + f64::from(at) * self.shown[axis] / f64::from(self.target[axis]);
        // A hair further, so that what should be whole is.
        let from = (edge(at) + 1e-9).floor() as usize;
        let to = (edge(at + 1) + 1e-9).floor() as usize;
        from..to.max(from + 1)
    }

    /// Where on the screen the middle of a pixel of the slice lies, if it is shown.
    pub fn over(&self, pixel: [usize; 2]) -> Option<[u32; 2]> {
        let mut at = [0; 2];
        for axis in 0..2 {
            let middle = pixel[axis] as f64 + 0.5 - self.from[axis];
            let place = middle / self.shown[axis] * f64::from(self.target[axis]);
            if !(0.0..f64::from(self.target[axis])).contains(&place) {
                return None;
            }
            // The middle lies there, or its edge is rounded to the one beside.
            let place = place as u32;
            let near = [place, place + 1, place.saturating_sub(1)];
            let under = |at: &u32| self.under(*at, axis).contains(&pixel[axis]);
            at[axis] = near.into_iter().find(under).unwrap_or(place);
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(room: [f64; 2], aspect: f64, zoom: Zoom) -> Window {
        Window::of([4, 2], [1.0, 3.0], room, aspect, zoom, [3, 1])
    }

    #[test]
    fn a_picture_keeps_the_shape_that_the_millimetres_say() {
        // 4 mm x 6 mm in 40 x 30 half-blocks, and in as many letters, which are twice as high as wide.
        assert_eq!(window([40.0, 30.0], 1.0, Zoom::default()).target, [20, 30]);
        assert_eq!(window([40.0, 15.0], 2.0, Zoom::default()).target, [20, 15]);
    }

    #[test]
    fn zoomed_in_the_room_is_filled_around_the_crosshair_and_never_beyond_the_edge() {
        let mut zoom = Zoom::default();
        zoom.step(1);
        let near = window([40.0, 30.0], 1.0, zoom);
        assert_eq!(near.target, [30, 30]);
        assert_eq!((near.from[0], near.shown[0]), (0.0, 4.0), "all columns fit still");
        assert!(
            (near.shown[1] - 2.0 / 1.5).abs() < 1e-9 && (near.from[1] + near.shown[1] - 2.0).abs() < 1e-9
        );
        zoom.pan = [0.0, -9.0];
        assert_eq!(window([40.0, 30.0], 1.0, zoom).from[1], 0.0);
        zoom.step(-1);
        assert_eq!(zoom, Zoom::default(), "as a whole there is nothing to pan");
    }

    #[test]
    fn what_lies_under_the_screen_covers_the_slice_and_finds_its_way_back() {
        let whole = Window::of([7, 7], [1.0; 2], [3.0, 3.0], 1.0, Zoom::default(), [0, 0]);
        let columns: Vec<usize> = (0..3).flat_map(|at| whole.under(at, 0)).collect();
        assert_eq!(columns, [0, 1, 2, 3, 4, 5, 6]);
        for n in 0..7 {
            let at = whole.over([n, 6 - n]).unwrap();
            assert!(whole.under(at[0], 0).contains(&n) && whole.under(at[1], 1).contains(&(6 - n)));
        }
        let mut zoom = Zoom::default();
        zoom.step(4);
        let near = Window::of([7, 7], [1.0; 2], [3.0, 3.0], 1.0, zoom, [0, 0]);
        assert_eq!((near.over([6, 6]), near.over([0, 0])), (None, Some([1, 1])));
    }
}
