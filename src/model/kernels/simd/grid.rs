//! Grids of vectors, and stretches of values, that were held against their slice once: to ask about each of them takes longer than
//! to load it.

use std::marker::PhantomData;

use super::{Real, Simd};

/// How the vectors of a grid lie: from row to row, and from column to column.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// Values from one to the one below.
    pub row: usize,
    /// Values from one to the next.
    pub column: usize,
}

impl Steps {
    /// Panics unless `rows x columns` vectors that reach over `reach` values lie in `values` values.
    #[inline(always)]
    fn hold(self, [rows, columns]: [usize; 2], reach: usize, values: usize) {
        let end = |steps: usize, step: usize| steps.checked_mul(step);
        let last = end(rows - 1, self.row)
            .zip(end(columns - 1, self.column))
            .and_then(|(down, across)| down.checked_add(across)?.checked_add(reach));
        assert!(
            last.is_some_and(|last| last <= values),
            "a grid of vectors lies in its slice"
        );
    }
}

/// `ROWS x COLUMNS` vectors to read.
#[derive(Clone, Copy)]
pub struct Grid<'a, T, S, const ROWS: usize, const COLUMNS: usize> {
    simd: S,
    first: *const T,
    steps: Steps,
    values: PhantomData<&'a [T]>,
}

impl<'a, T: Real, S: Simd<T>, const ROWS: usize, const COLUMNS: usize> Grid<'a, T, S, ROWS, COLUMNS> {
    /// From the first of `values` on.
    #[inline(always)]
    pub fn of(simd: S, values: &'a [T], steps: Steps) -> Self {
        steps.hold([ROWS, COLUMNS], simd.reach(), values.len());
        Grid {
            simd,
            first: values.as_ptr(),
            steps,
            values: PhantomData,
        }
    }

    /// One of them.
    #[inline(always)]
    pub fn load(&self, row: usize, column: usize) -> S::Vector {
        assert!(row < ROWS && column < COLUMNS);
        // SAFETY: `of` saw that the last row's last vector lies in the slice, and this one does not lie beyond it.
        unsafe {
            let from = self.first.add(row * self.steps.row + column * self.steps.column);
            self.simd.read(from)
        }
    }
}

/// `ROWS x COLUMNS` vectors to write.
pub struct GridMut<'a, T, S, const ROWS: usize, const COLUMNS: usize> {
    simd: S,
    first: *mut T,
    steps: Steps,
    values: PhantomData<&'a mut [T]>,
}

impl<'a, T: Real, S: Simd<T>, const ROWS: usize, const COLUMNS: usize> GridMut<'a, T, S, ROWS, COLUMNS> {
    /// From the first of `values` on.
    #[inline(always)]
    pub fn of(simd: S, values: &'a mut [T], steps: Steps) -> Self {
        steps.hold([ROWS, COLUMNS], simd.reach(), values.len());
        GridMut {
            simd,
            first: values.as_mut_ptr(),
            steps,
            values: PhantomData,
        }
    }

    /// To the place of one of them.
    #[inline(always)]
    pub fn store(&mut self, row: usize, column: usize, vector: S::Vector) {
        assert!(row < ROWS && column < COLUMNS);
        // SAFETY: `of` saw that the last row's last vector lies in the slice, which is ours alone, and this one does not lie
        // beyond it.
        unsafe {
            let to = self.first.add(row * self.steps.row + column * self.steps.column);
            self.simd.write(vector, to);
        }
    }
}

/// `N` stretches of a slice, of one length.
pub struct Stretches<'a, T, const N: usize> {
    firsts: [*const T; N],
    length: usize,
    values: PhantomData<&'a [T]>,
}

impl<'a, T: Real, const N: usize> Stretches<'a, T, N> {
    /// Those that begin at `firsts`.
    #[inline(always)]
    pub fn of(values: &'a [T], firsts: [usize; N], length: usize) -> Self {
        let mut stretches = Stretches {
            firsts: [values.as_ptr(); N],
            length,
            values: PhantomData,
        };
        for (at, first) in stretches.firsts.iter_mut().zip(firsts) {
            *at = values[first..][..length].as_ptr();
        }
        stretches
    }

    /// One of a stretch's values.
    #[inline(always)]
    pub fn value(&self, stretch: usize, at: usize) -> T {
        assert!(at < self.length);
        // SAFETY: `of` saw that so many of every stretch's values lie in the slice.
        unsafe { *self.firsts[stretch].add(at) }
    }
}

impl<T: Real, const N: usize> Stretches<'_, T, N> {
    /// The `n`-th vector of a stretch.
    #[inline(always)]
    pub fn vector<S: Simd<T>>(&self, simd: S, stretch: usize, n: usize) -> S::Vector {
        const { assert!(S::PIECES == 1, "a stretch is one piece") };
        assert!(n < self.length / S::LANES);
        // SAFETY: `of` saw that so many of every stretch's values lie in the slice, and a vector of one piece reaches over its lanes.
        unsafe { simd.read(self.firsts[stretch].add(n * S::LANES)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Isa, Work, run_f32};
    use super::*;

    /// Copies 2 x 3 vectors to where rows lie closer.
    struct Copy<'a> {
        from: &'a [f32],
        to: &'a mut [f32],
    }

    impl Work<f32> for Copy<'_> {
        #[inline(always)]
        fn on<S: Simd<f32>>(self, simd: S) {
            let steps = |row| Steps { row, column: 17 };
            let from = Grid::<f32, S, 2, 3>::of(simd, self.from, steps(100));
            let mut to = GridMut::<f32, S, 2, 3>::of(simd, self.to, steps(60));
            for (row, column) in (0..2).flat_map(|row| (0..3).map(move |column| (row, column))) {
                to.store(row, column, from.load(row, column));
            }
        }
    }

    #[test]
    fn every_instruction_set_copies_the_vectors_of_a_grid() {
        let from: Vec<f32> = (0..150).map(|n| n as f32).collect();
        for isa in Isa::known() {
            let mut to = vec![-1.0; 110];
            run_f32(
                isa,
                Copy {
                    from: &from,
                    to: &mut to,
                },
            );
            // As many of each vector as the narrowest has, and what lies between rows.
            for (row, column, lane) in [(0, 0, 0), (0, 0, 3), (0, 2, 1), (1, 0, 0), (1, 1, 2), (1, 2, 3)] {
                let value = from[row * 100 + column * 17 + lane];
                assert_eq!(to[row * 60 + column * 17 + lane], value, "{isa:?}");
            }
            assert_eq!(to[59], -1.0, "{isa:?}");
        }
    }

    #[test]
    fn stretches_have_the_values_that_their_slice_has() {
        let values: Vec<f32> = (0..30).map(|n| n as f32).collect();
        let stretches = Stretches::of(&values, [3, 20], 10);
        assert_eq!((stretches.value(0, 0), stretches.value(1, 9)), (3.0, 29.0));
        let refused = |work: fn(&[f32])| {
            let values = values.clone();
            std::panic::catch_unwind(move || work(&values)).is_err()
        };
        assert!(!refused(|values| assert_eq!(
            Stretches::of(values, [3, 20], 10).value(0, 9),
            12.0
        )));
        assert!(refused(|values| assert_eq!(
            Stretches::of(values, [3, 20], 10).value(0, 10),
            13.0
        )));
        assert!(refused(|values| assert_eq!(
            Stretches::of(values, [3, 21], 10).value(0, 9),
            12.0
        )));
        assert!(refused(|values| assert_eq!(
            Stretches::of(values, [3, usize::MAX], 2).value(0, 0),
            3.0
        )));
    }

    /// One value too few for the last vector; steps whose sum is no number of ours.
    #[test]
    fn a_grid_that_does_not_lie_in_its_slice_is_refused() {
        let last = 100 + 2 * 17;
        let hold = |lanes, values, row| {
            let steps = Steps { row, column: 17 };
            std::panic::catch_unwind(move || steps.hold([2, 3], lanes, values)).is_ok()
        };
        for lanes in [4, 8, 16] {
            assert!(hold(lanes, last + lanes, 100));
            assert!(!hold(lanes, last + lanes - 1, 100));
            assert!(!hold(lanes, last + lanes, 101));
            assert!(!hold(lanes, last + lanes, usize::MAX - 33));
        }
    }
}
