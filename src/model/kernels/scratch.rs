//! Buffers that are used again: a fresh one of some megabytes costs more in page faults than filling it. And new ones that
//! nobody has written.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

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

/// `len` numbers for whoever writes all of them, as every `Kernel::cpu` has to: they are anything. In tests and wherever debugging is
/// wanted they are no numbers, so that one that was not written is seen. To write them first would take 1 to 4 % of a pass.
pub fn unwritten<T: Real>(len: usize) -> Vec<T> {
    if cfg!(any(test, debug_assertions, miri)) {
        return vec![T::of(f64::NAN); len];
    }
    let mut values = Vec::with_capacity(len);
    written(values.spare_capacity_mut());
    // SAFETY: there is room for as many, and for all that the compiler knows they were written. Nobody reads one before it is written
    // in fact, so that it does not matter whether the system still changes what a page holds that nobody wrote.
    unsafe { values.set_len(len) };
    values
}

/// Has the compiler believe that this memory was written: it then holds numbers, whatever they are, like memory that another
/// language hands over.
fn written<T: Real>(memory: &mut [MaybeUninit<T>]) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: no instruction is there to do harm. What it may have done, and the compiler has to assume it did, is to write every
    // number that the memory holds in its own place; all bits are numbers, since `Real` is f32 and f64 alone.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) memory.as_mut_ptr(), options(nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    memory.fill(MaybeUninit::new(T::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_taken_again_and_what_is_not_written_is_no_number() {
        let mut buffer = Scratch::<f64>::take(100);
        buffer.fill(1.0);
        let at = buffer.as_ptr();
        drop(buffer);
        let buffer = Scratch::<f64>::take(50);
        // Another test may have taken the buffer meanwhile; if not, it is the same.
        assert!(buffer.len() == 50 && (buffer.as_ptr() != at || buffer[0] == 1.0));
        for len in [0, 1, 70_000] {
            let unwritten: Vec<f32> = unwritten(len);
            assert_eq!(unwritten.len(), len);
            assert!(unwritten.iter().all(|value| value.is_nan()));
        }
    }
}
