//! Lines of a cache, in huge pages where the system gives them.
//!
//! A step reads all weights once. In pages of 4 KiB the processor looks up a hundred thousand of them for each token, behind a hypervisor each one twice;
//! in pages of 2 MiB a few hundred. Matrices are smaller than that, so they share stretches of memory, one behind the other.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::MmapMut;

use crate::conv::{HUGE_PAGE, ask_for_huge_pages};

/// Bytes of a line.
pub(crate) const LINE: usize = 64;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; LINE]);

/// Lines of a stretch that several share. What nobody has written takes no memory yet.
const SHARED: usize = (64 << 20) / LINE;

/// Lines of a stretch. They are given back with all that share it, or at once if they were the last that were taken.
pub(crate) struct Lines {
    stretch: Arc<Stretch>,
    start: NonNull<Line>,
    count: usize,
}

/// Memory from the system that begins at a huge page.
struct Stretch {
    /// Unmapped when the last lines of it are dropped.
    _map: MmapMut,
    start: NonNull<Line>,
    count: usize,
}

// SAFETY: the memory is a stretch's own, and lines of it are changed by their one maker only, before anybody else has them.
unsafe impl Send for Stretch {}
// SAFETY: as above.
unsafe impl Sync for Stretch {}
// SAFETY: they are only read once they were made.
unsafe impl Send for Lines {}
// SAFETY: as above.
unsafe impl Sync for Lines {}

impl Stretch {
    /// So many lines at least, or more if the system has them.
    fn new(count: usize, more: usize) -> Self {
        let map = |count: usize| MmapMut::map_anon(Self::bytes(count) + HUGE_PAGE).ok();
        let Some(mut map) = map(count.max(more)).or_else(|| map(count)) else {
            // As any memory that is not to be had.
            handle_alloc_error(Layout::array::<Line>(count).unwrap_or(Layout::new::<Line>()));
        };
        let before = map.as_ptr().align_offset(HUGE_PAGE);
        let bytes = map.len() - HUGE_PAGE;
        let start = NonNull::from(&mut map[before..]).cast();
        ask_for_huge_pages(start, bytes);
        Self {
            _map: map,
            start: start.cast(),
            count: bytes / LINE,
        }
    }

    fn bytes(count: usize) -> usize {
        (count * LINE).next_multiple_of(HUGE_PAGE)
    }
}

/// The stretch that is being filled, and how many of its lines are taken.
static OPEN: Mutex<(Weak<Stretch>, usize)> = Mutex::new((Weak::new(), 0));

impl Lines {
    /// So many lines of zeros, written by `make` before anybody else sees them.
    pub(crate) fn made(count: usize, make: impl FnOnce(&mut [Line])) -> Self {
        let lines = Self::zeros(count);
        // SAFETY: the lines are zeros that the system gave, they were taken for this value alone, and nobody else has it.
        make(unsafe { std::slice::from_raw_parts_mut(lines.start.as_ptr(), count) });
        lines
    }

    fn zeros(count: usize) -> Self {
        if count > SHARED / 2 {
            return Self::at(Arc::new(Stretch::new(count, 0)), 0, count);
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let left = open
            .0
            .upgrade()
            .filter(|stretch| open.1 + count <= stretch.count);
        let stretch = left.unwrap_or_else(|| {
            let stretch = Arc::new(Stretch::new(count, SHARED));
            *open = (Arc::downgrade(&stretch), 0);
            stretch
        });
        let first = open.1;
        open.1 += count;
        Self::at(stretch, first, count)
    }

    fn at(stretch: Arc<Stretch>, first: usize, count: usize) -> Self {
        assert!(first + count <= stretch.count, "lines beyond their stretch");
        // SAFETY: the stretch holds them.
        let start = unsafe { stretch.start.add(first) };
        Self {
            stretch,
            start,
            count,
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = std::ptr::eq(open.0.as_ptr(), Arc::as_ptr(&self.stretch));
        // SAFETY: the stretch holds all of its lines.
        let taken = unsafe { self.stretch.start.add(open.1.min(self.stretch.count)) };
        // SAFETY: these are lines of the stretch, too.
        if is_open && taken == unsafe { self.start.add(self.count) } {
            // SAFETY: they were this value's alone, and nobody has them before the lock is free.
            unsafe { self.start.write_bytes(0, self.count) };
            open.1 -= self.count;
        }
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        debug_assert!(self.count <= self.stretch.count);
        // SAFETY: the stretch holds them as long as this value lives, and nothing writes them any more.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize, byte: u8) -> Lines {
        Lines::made(count, |lines| {
            assert!(lines.iter().all(|line| line.0 == [0; LINE]));
            lines.fill(Line([byte; LINE]));
        })
    }

    fn is(lines: &Lines, count: usize, byte: u8) -> bool {
        lines.len() == count && lines.iter().all(|line| line.0 == [byte; LINE])
    }

    #[test]
    fn nobody_s_lines_are_somebody_else_s() {
        let sizes = [
            0,
            1,
            100,
            SHARED / 2,
            SHARED / 2 + 1,
            3,
            SHARED / 3,
            SHARED / 3,
            SHARED,
        ];
        let many: Vec<Lines> = (1..)
            .zip(sizes)
            .map(|(byte, count)| filled(count, byte))
            .collect();
        for ((byte, count), lines) in (1..).zip(sizes).zip(&many) {
            assert!(is(lines, count, byte), "{count} lines");
            assert!(lines.as_ptr().addr().is_multiple_of(LINE));
        }
        drop(many);
        // What is taken after others were given back is zeros, too.
        assert!(is(&filled(7, 9), 7, 9));
    }

    #[test]
    fn what_was_taken_last_is_taken_again() {
        let first = filled(1000, 1);
        // Other tests may take some in between, on other threads.
        let again = (0..100).any(|_| {
            let start = filled(300, 2).as_ptr();
            let next = filled(200, 3);
            assert!(is(&next, 200, 3));
            next.as_ptr() == start
        });
        assert!(again && is(&first, 1000, 1));
    }

    #[test]
    fn threads_take_lines_side_by_side() {
        std::thread::scope(|scope| {
            for byte in 0..8 {
                scope.spawn(move || {
                    for count in 1..200 {
                        assert!(is(&filled(count, byte), count, byte));
                    }
                });
            }
        });
    }
}
