//! Smooth random fields over space: value noise on a lattice.
//!
//! Only +, -, *, / and floor, which every machine rounds alike, so a field is the same everywhere.

use crate::imaging::Rng;

/// A field with values in -1 to 1 that changes over `cell_mm`, zero in the mean.
#[derive(Debug)]
pub(super) struct Field {
    cell_mm: f64,
    size: usize,
    knots: Vec<f64>,
}

impl Field {
    /// A field over the cube that reaches `reach_mm` from the origin along each axis.
    pub(super) fn new(rng: &mut Rng, reach_mm: f64, cell_mm: f64) -> Field {
        let size = (2.0 * reach_mm / cell_mm) as usize + 3;
        let knots = (0..size * size * size).map(|_| rng.range(-1.0, 1.0)).collect();
        Field { cell_mm, size, knots }
    }

    /// The field at a point: the knots around it under a quadratic B-spline, which has no grain along the
    /// axes; outside the cube, the value at its border.
    pub(super) fn at(&self, point_mm: [f64; 3]) -> f64 {
        let middle = (self.size - 1) as f64 / 2.0;
        let last = self.size as f64 - 2.0;
        let [(i, u), (j, v), (k, w)] = point_mm.map(|mm| {
            let place = (mm / self.cell_mm + middle).clamp(1.0, last);
            let nearest = (place + 0.5).floor().min(last);
            let t = place - nearest;
            let weights = [
                0.5 * (0.5 - t) * (0.5 - t),
                0.75 - t * t,
                0.5 * (0.5 + t) * (0.5 + t),
            ];
            (nearest as usize - 1, weights)
        });
        let mut sum = 0.0;
        for (dk, w) in w.into_iter().enumerate() {
            for (dj, v) in v.into_iter().enumerate() {
                let row = i + self.size * (j + dj + self.size * (k + dk));
                let knots = &self.knots[row..row + 3];
                sum += w * v * (knots[0] * u[0] + knots[1] * u[1] + knots[2] * u[2]);
            }
        }
        sum
    }

    /// How far the nearest point is where the field passes zero, to first order.
    pub(super) fn distance_to_zero(&self, point_mm: [f64; 3]) -> f64 {
        let step_mm = 0.1 * self.cell_mm;
        let here = self.at(point_mm);
        let slopes: [f64; 3] = std::array::from_fn(|axis| {
            let mut beside = point_mm;
            beside[axis] += step_mm;
            (self.at(beside) - here) / step_mm
        });
        let slope = (slopes[0] * slopes[0] + slopes[1] * slopes[1] + slopes[2] * slopes[2]).sqrt();
        // Where the field is nearly level, a zero is far or grazed; the floor keeps it from becoming a pool.
        here.abs() / slope.max(0.1 / self.cell_mm)
    }
}

/// From `a` (share 0) to `b` (share 1).
pub(super) fn mix(a: f64, b: f64, share: f64) -> f64 {
    a + (b - a) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_without_slope_is_its_knots_and_a_ramp_is_straight() {
        let mut field = Field::new(&mut Rng::new(1), 20.0, 10.0);
        field.knots.fill(0.5);
        assert!((field.at([3.0, -7.0, 1e9]) - 0.5).abs() < 1e-12);
        for (at, knot) in field.knots.iter_mut().enumerate() {
            *knot = (at % field.size) as f64 - (field.size - 1) as f64 / 2.0;
        }
        assert!(
            (field.at([12.5, 3.0, -4.0]) - 1.25).abs() < 1e-12,
            "one a cell of 10 mm"
        );
        assert!((field.distance_to_zero([12.5, 3.0, -4.0]) - 12.5).abs() < 1e-9);
    }
}
