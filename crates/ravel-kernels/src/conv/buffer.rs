//! Numbers at addresses that vectors and the system's tables of pages like.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What a line of a cache holds.
const LINE: usize = 64;
/// What one entry of the system's tables can hold if it is asked to.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Numbers of which the first stands at a multiple of 64 bytes; of 2 MiB, and in huge pages, where there are as many.
pub struct Aligned<T> {
    start: NonNull<T>,
    len: usize,
    own: PhantomData<T>,
}

/// A type that every pattern of bits is a value of, and zeros are zero.
///
/// # Safety
/// Just that; it is not empty, and its alignment is at most 64.
pub unsafe trait Bits: Copy + Send + Sync {}
// SAFETY: every pattern of bits is a number, zeros are 0.0.
unsafe impl Bits for f32 {}
// SAFETY: a transparent `u16`, zero for 0.0.
unsafe impl Bits for half::bf16 {}

// SAFETY: it owns its numbers, which may go to other threads.
unsafe impl<T: Bits> Send for Aligned<T> {}
// SAFETY: and be read by several.
unsafe impl<T: Bits> Sync for Aligned<T> {}

impl<T> Aligned<T> {
    fn layout(len: usize) -> Layout {
        let bytes = len
            .checked_mul(size_of::<T>())
            .expect("so many numbers fit no memory");
        let align = if bytes < HUGE_PAGE { LINE } else { HUGE_PAGE };
        Layout::from_size_align(bytes, align).expect("so many numbers fit no memory")
    }
}

impl<T: Bits> Aligned<T> {
    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        let layout = Self::layout(len);
        if layout.size() == 0 {
            let own = PhantomData;
            return Self {
                start: NonNull::dangling(),
                len,
                own,
            };
        }
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) });
        let start = start.unwrap_or_else(|| handle_alloc_error(layout));
        ask_for_huge_pages(start, layout.size());
        // SAFETY: the memory is as large as the layout, and zeros are values of `T`.
        unsafe { start.write_bytes(0, layout.size()) };
        Self {
            start: start.cast(),
            len,
            own: PhantomData,
        }
    }

    /// Room for at least so many numbers; what they are is left open.
    pub fn reserve(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            *self = Self::zeros(len);
        }
        &mut self[..len]
    }
}

/// Asks for huge pages behind memory that nothing has touched yet, of so many bytes.
#[cfg(target_os = "linux")]
pub(crate) fn ask_for_huge_pages(start: NonNull<u8>, size: usize) {
    if size >= HUGE_PAGE {
        // SAFETY: it is advice on memory that was just given; whether it is taken changes no number in it.
        unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn ask_for_huge_pages(_start: NonNull<u8>, _size: usize) {}

impl<T> Drop for Aligned<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.len);
        if layout.size() > 0 {
            // SAFETY: it was allocated with the layout of this length.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

impl<T: Bits> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T> std::fmt::Debug for Aligned<T> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} numbers", self.len)
    }
}

impl<T: Bits> Default for Aligned<T> {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl<T: Bits> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` numbers stand there, all of them set.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Bits> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: likewise, and they are borrowed from here alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zeros_on_a_line_of_their_own_and_copies_are_equal() {
        for len in [0, 1, 15, 1 << 10, HUGE_PAGE / 4, HUGE_PAGE / 4 + 3] {
            let mut numbers = Aligned::<f32>::zeros(len);
            assert!(numbers.iter().all(|x| *x == 0.0) && numbers.len() == len);
            assert!(len == 0 || numbers.as_ptr().addr().is_multiple_of(LINE));
            numbers
                .iter_mut()
                .enumerate()
                .for_each(|(at, x)| *x = at as f32);
            let copy = numbers.clone();
            assert_eq!(copy[..], numbers[..]);
            assert_eq!(numbers.reserve(len)[..], copy[..]);
            assert_eq!(numbers.reserve(2 * len + 1).len(), 2 * len + 1);
        }
    }
}
