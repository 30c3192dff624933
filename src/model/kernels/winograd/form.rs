//! The matrices of the forms, line by line, over any vectors.

use super::super::Real;
use super::super::simd::Simd;

/// What becomes of windows of three lines: `I` each.
pub trait Lined<const I: usize>: Copy + Send + Sync {
    /// `G g`
    fn window<T: Real, S: Simd<T>>(s: S, g: [S::Vector; 3]) -> [S::Vector; I];
}

/// `F(O x O, 3 x 3)`: output tiles of edge `O` from input tiles of edge `I = O + 2`. Each function is one line of a
/// transform; taken of all columns, then of all rows, it is the whole.
pub trait Form<const I: usize, const O: usize>: Lined<I> {
    /// `B' d`
    fn input<T: Real, S: Simd<T>>(s: S, d: [S::Vector; I]) -> [S::Vector; I];
    /// `A' m`
    fn output<T: Real, S: Simd<T>>(s: S, m: [S::Vector; I]) -> [S::Vector; O];
    /// `A y`, the transpose of [`Form::output`].
    fn gradient<T: Real, S: Simd<T>>(s: S, y: [S::Vector; O]) -> [S::Vector; I];
    /// `G' u`, the transpose of [`Lined::window`].
    fn window_gradient<T: Real, S: Simd<T>>(s: S, u: [S::Vector; I]) -> [S::Vector; 3];
}

/// `factor * a`
#[inline(always)]
fn times<T: Real, S: Simd<T>>(s: S, factor: f64, a: S::Vector) -> S::Vector {
    s.add_times(s.zero(), factor, a)
}

/// The sum as it is defined: windows as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct One;

impl Lined<3> for One {
    #[inline(always)]
    fn window<T: Real, S: Simd<T>>(_: S, g: [S::Vector; 3]) -> [S::Vector; 3] {
        g
    }
}

/// F(4x4, 3x3): points 0, 1, -1, 2, -2 and infinity; 36 products for 16 pixels instead of 144.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Four;

impl Lined<6> for Four {
    #[inline(always)]
    fn window<T: Real, S: Simd<T>>(s: S, [g0, g1, g2]: [S::Vector; 3]) -> [S::Vector; 6] {
        let (even, odd) = (times(s, 1.0 / 6.0, s.add(g0, g2)), times(s, 1.0 / 6.0, g1));
        let far = s.add_times(times(s, 1.0 / 24.0, g0), 1.0 / 6.0, g2);
        let near = times(s, 1.0 / 12.0, g1);
        [
            times(s, 0.25, g0),
            s.sub(s.sub(s.zero(), even), odd),
            s.sub(odd, even),
            s.add(far, near),
            s.sub(far, near),
            g2,
        ]
    }
}

impl Form<6, 4> for Four {
    #[inline(always)]
    fn input<T: Real, S: Simd<T>>(s: S, [d0, d1, d2, d3, d4, d5]: [S::Vector; 6]) -> [S::Vector; 6] {
        let (even, odd) = (s.add_times(d4, -4.0, d2), s.add_times(d3, -4.0, d1));
        let (near, far) = (s.sub(d4, d2), s.sub(d3, d1));
        [
            s.add_times(s.add_times(d4, -5.0, d2), 4.0, d0),
            s.add(even, odd),
            s.sub(even, odd),
            s.add_times(near, 2.0, far),
            s.add_times(near, -2.0, far),
            s.add_times(s.add_times(d5, -5.0, d3), 4.0, d1),
        ]
    }

    #[inline(always)]
    fn output<T: Real, S: Simd<T>>(s: S, [m0, m1, m2, m3, m4, m5]: [S::Vector; 6]) -> [S::Vector; 4] {
        let (near, near_off) = (s.add(m1, m2), s.sub(m1, m2));
        let (far, far_off) = (s.add(m3, m4), s.sub(m3, m4));
        [
            s.add(s.add(m0, near), far),
            s.add_times(near_off, 2.0, far_off),
            s.add_times(near, 4.0, far),
            s.add(s.add_times(near_off, 8.0, far_off), m5),
        ]
    }

    #[inline(always)]
    fn gradient<T: Real, S: Simd<T>>(s: S, [y0, y1, y2, y3]: [S::Vector; 4]) -> [S::Vector; 6] {
        let (even, odd) = (s.add(y0, y2), s.add(y1, y3));
        let far_even = s.add_times(y0, 4.0, y2);
        let far_odd = s.add_times(s.add(y1, y1), 8.0, y3);
        [
            y0,
            s.add(even, odd),
            s.sub(even, odd),
            s.add(far_even, far_odd),
            s.sub(far_even, far_odd),
            y3,
        ]
    }

    #[inline(always)]
    fn window_gradient<T: Real, S: Simd<T>>(
        s: S,
        [u0, u1, u2, u3, u4, u5]: [S::Vector; 6],
    ) -> [S::Vector; 3] {
        let (sum, difference) = (s.add(u1, u2), s.sub(u2, u1));
        let (far, near) = (s.add(u3, u4), s.sub(u3, u4));
        [
            s.add_times(s.add_times(times(s, 0.25, u0), -1.0 / 6.0, sum), 1.0 / 24.0, far),
            s.add_times(times(s, 1.0 / 6.0, difference), 1.0 / 12.0, near),
            s.add_times(s.add_times(u5, 1.0 / 6.0, far), -1.0 / 6.0, sum),
        ]
    }
}

/// F(2x2, 3x3): points 0, 1, -1 and infinity; 16 products for 4 pixels instead of 36.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Two;

impl Lined<4> for Two {
    #[inline(always)]
    fn window<T: Real, S: Simd<T>>(s: S, [g0, g1, g2]: [S::Vector; 3]) -> [S::Vector; 4] {
        let (even, odd) = (times(s, 0.5, s.add(g0, g2)), times(s, 0.5, g1));
        [g0, s.add(even, odd), s.sub(even, odd), g2]
    }
}

impl Form<4, 2> for Two {
    #[inline(always)]
    fn input<T: Real, S: Simd<T>>(s: S, [d0, d1, d2, d3]: [S::Vector; 4]) -> [S::Vector; 4] {
        [s.sub(d0, d2), s.add(d1, d2), s.sub(d2, d1), s.sub(d1, d3)]
    }

    #[inline(always)]
    fn output<T: Real, S: Simd<T>>(s: S, [m0, m1, m2, m3]: [S::Vector; 4]) -> [S::Vector; 2] {
        [s.add(s.add(m0, m1), m2), s.sub(s.sub(m1, m2), m3)]
    }

    #[inline(always)]
    fn gradient<T: Real, S: Simd<T>>(s: S, [y0, y1]: [S::Vector; 2]) -> [S::Vector; 4] {
        [y0, s.add(y0, y1), s.sub(y0, y1), s.sub(s.zero(), y1)]
    }

    #[inline(always)]
    fn window_gradient<T: Real, S: Simd<T>>(s: S, [u0, u1, u2, u3]: [S::Vector; 4]) -> [S::Vector; 3] {
        let even = times(s, 0.5, s.add(u1, u2));
        [s.add(u0, even), times(s, 0.5, s.sub(u1, u2)), s.add(even, u3)]
    }
}
