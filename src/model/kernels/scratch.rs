//! Buffers that are used again: a fresh one of some megabytes costs more in page faults than filling it. And new ones,
//! zeroed by every thread at once: by one, that takes as long as some layers.

use std::ops::{Deref, DerefMut};

use rayon::prelude::*;

use super::Real;

/// Buffers kept for the next user at most.
const SHELF: usize = 16;

/// A buffer from the shelf, put back when dropped. Its contents are whatever the last user left.
pub struct Scratch<T: Real> {
    /// At least `len` values: it never shrinks, since growing again would fill it again.
    values: Vec<T>,
    len: usize,
}

impl<T: Real> Scratch<T> {
    /// A buffer of `len` values: the smallest one on the shelf that is large enough, or a new one.
    pub fn take(len: usize) -> Self {
        let mut shelf = T::shelf().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fits = (0..shelf.len())
            .filter(|&i| shelf[i].len() >= len)
            .min_by_key(|&i| shelf[i].len());
        let kept = fits.map(|i| shelf.swap_remove(i));
        drop(shelf);
        let values = kept.unwrap_or_else(|| vec![T::ZERO; len]);
        Scratch { values, len }
    }
}

impl<T: Real> Drop for Scratch<T> {
    fn drop(&mut self) {
        let mut shelf = T::shelf().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shelf.push(std::mem::take(&mut self.values));
        if shelf.len() > SHELF {
            let smallest = (0..shelf.len())
                .min_by_key(|&i| shelf[i].len())
                .expect("the shelf is not empty");
            shelf.swap_remove(smallest);
        }
    }
}

impl<T: Real> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T: Real> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

/// `len` zeros. They cost nothing: training steps that write what is new to memory that holds nothing yet are 2 % slower, since what
/// was written in one sweep is in the caches when kernels write it here and there.
pub fn zeros<T: Real>(len: usize) -> Vec<T> {
    const CHUNK: usize = 65_536;
    let mut values = Vec::with_capacity(len);
    values.spare_capacity_mut()[..len]
        .par_chunks_mut(CHUNK)
        .for_each(|part| {
            part.fill(std::mem::MaybeUninit::new(T::ZERO));
        });
    // SAFETY: the first `len` values were written just now.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_taken_again_and_zeros_are_zeros() {
        let mut buffer = Scratch::<f64>::take(100);
        buffer.fill(1.0);
        let at = buffer.as_ptr();
        drop(buffer);
        let buffer = Scratch::<f64>::take(50);
        // Another test may have taken the buffer meanwhile; if not, it is the same.
        assert!(buffer.len() == 50 && (buffer.as_ptr() != at || buffer[0] == 1.0));
        for len in [0, 1, 70_000] {
            let zeros: Vec<f32> = zeros(len);
            assert!(zeros.len() == len && zeros.iter().all(|value| *value == 0.0));
        }
    }
}
