//! Threads that are there for pieces of work of a few microseconds.
//!
//! A product of one decoding step takes some tens of microseconds, less than it takes to wake a sleeping thread. So the
//! pool's threads wait awake for a moment after each job, and sleep only when no next one comes. Pieces are handed out one by
//! one: a thread that the system takes away holds up its own piece alone, and who computes a piece changes nothing in it.
//! There are as many threads as `rayon` has (the program's `--threads`, `RAYON_NUM_THREADS`), the caller among them, and the
//! two pools take turns rather than compete: both sleep while the other works.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread waits awake for the next job.
const AWAKE: Duration = Duration::from_micros(200);

/// The pool that everything in this crate shares, with as many threads as `rayon` has.
pub fn global() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool::new(rayon::current_num_threads()))
}

/// Threads that work on one job at a time.
pub struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Held by the thread whose job runs.
    caller: Mutex<()>,
}

struct Shared {
    /// The job's number, doubled, and one more while helpers may enter it.
    turn: AtomicUsize,
    /// Helpers that are in the job, or are about to find that they are too late.
    inside: AtomicUsize,
    /// The next piece.
    next: AtomicUsize,
    /// Whether a helper's piece panicked.
    broken: AtomicBool,
    stop: AtomicBool,
    asleep: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
    job: UnsafeCell<Option<Job>>,
}

/// What all threads run; the pointer is good while helpers may be inside.
#[derive(Clone, Copy)]
struct Job {
    work: *const (dyn Fn(usize) + Sync),
    pieces: usize,
}

// SAFETY: `job` is written by the thread that holds `Pool::caller` alone, and only while `turn` is even and `inside` is zero; helpers
// read it only after they raised `inside` and then saw `turn` odd. What it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is the only part that is not `Send`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of so many threads, the one that calls [`Pool::run`] among them; at least one.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            turn: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            job: UnsafeCell::new(None),
        });
        let helper = |index: usize| {
            let shared = shared.clone();
            let name = format!("ravel-kernels-{index}");
            std::thread::Builder::new()
                .name(name)
                .spawn(move || shared.help())
        };
        // A system that gives no thread is no reason to stop: the caller does all the work.
        let helpers = (1..threads).map_while(|index| helper(index).ok()).collect();
        Self {
            shared,
            helpers,
            caller: Mutex::new(()),
        }
    }

    /// Threads, the caller among them.
    pub fn threads(&self) -> usize {
        1 + self.helpers.len()
    }

    /// Runs `work(0)` to `work(pieces - 1)`, each once, and returns when all are done. Calls from within a piece, or
    /// while another thread's job runs, do their pieces alone.
    ///
    /// # Panics
    /// If a piece does.
    pub fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        let alone = pieces <= 1 || self.helpers.is_empty();
        let Some(_held) = (!alone).then(|| self.hold()).flatten() else {
            return (0..pieces).for_each(work);
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes: the job is closed and all helpers have left before `run` returns or unwinds.
        let work: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(work) };
        // SAFETY: this thread holds `caller`, `turn` is even and `inside` was seen at zero when the last job was closed: a
        // helper that raises it now sees the even turn and reads nothing.
        unsafe { *shared.job.get() = Some(Job { work, pieces }) };
        // It stays set where the last job's caller panicked, too, and so never came to ask.
        shared.broken.store(false, SeqCst);
        shared.next.store(0, SeqCst);
        shared.turn.fetch_add(1, SeqCst);
        let open = Open(shared);
        if shared.asleep.load(SeqCst) > 0 {
            let _lock = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        shared.take_pieces(Job { work, pieces });
        drop(open);
        if shared.broken.load(SeqCst) {
            panic!("a piece of work panicked on another thread");
        }
    }

    /// The right to lay down a job, unless another thread, or a piece further out, has it.
    fn hold(&self) -> Option<MutexGuard<'_, ()>> {
        match self.caller.try_lock() {
            Ok(held) => Some(held),
            // A job that panicked was closed before the lock was let go.
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Runs `work` on `0..len` in runs of `size`, the last one shorter.
    ///
    /// # Panics
    /// If `size` is zero.
    pub fn run_ranges(&self, len: usize, size: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        self.run(len.div_ceil(size), &|piece| {
            work(piece * size..((piece + 1) * size).min(len));
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        {
            let shared = &self.shared;
            let _lock = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of its pieces.
            let _ = helper.join();
        }
    }
}

/// A job that helpers may enter. Dropping it closes it and waits until they have left.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.turn.fetch_add(1, SeqCst);
        let mut waited = 0u32;
        while self.0.inside.load(SeqCst) > 0 {
            waited += 1;
            match waited {
                // On a machine with more work than cores the helper may need this one.
                ..2000 => std::hint::spin_loop(),
                _ => std::thread::yield_now(),
            }
        }
    }
}

impl Shared {
    fn take_pieces(&self, job: Job) {
        loop {
            let piece = self.next.fetch_add(1, SeqCst);
            if piece >= job.pieces {
                return;
            }
            // SAFETY: the caller of `Pool::run` keeps the work alive until the job is closed and nobody is inside.
            unsafe { (*job.work)(piece) };
        }
    }

    /// The life of a helper.
    fn help(&self) {
        let mut seen = 0;
        while self.wait(seen) {
            seen = self.turn.load(SeqCst);
            if seen.is_multiple_of(2) {
                continue;
            }
            self.inside.fetch_add(1, SeqCst);
            if self.turn.load(SeqCst) == seen {
                // SAFETY: the turn is odd after `inside` was raised, so the caller waits for this helper before it writes again.
                let job = unsafe { *self.job.get() };
                let job = job.expect("a job is laid down before its turn begins");
                if catch_unwind(AssertUnwindSafe(|| self.take_pieces(job))).is_err() {
                    self.broken.store(true, SeqCst);
                }
            }
            self.inside.fetch_sub(1, SeqCst);
        }
    }

    /// Waits for another turn than `seen`, awake for a while and then asleep. False when the pool is gone.
    fn wait(&self, seen: usize) -> bool {
        let begin = Instant::now();
        let mut looked = 0u32;
        let changed = || self.turn.load(SeqCst) != seen;
        loop {
            if self.stop.load(SeqCst) {
                return false;
            }
            if changed() {
                return true;
            }
            std::hint::spin_loop();
            looked = looked.wrapping_add(1);
            if looked.is_multiple_of(64) && begin.elapsed() > AWAKE {
                break;
            }
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, SeqCst);
        while !changed() && !self.stop.load(SeqCst) {
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, SeqCst);
        !self.stop.load(SeqCst)
    }
}

/// A slice that the pieces of a job write to, each a part of its own.
pub struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the slice is borrowed for as long as this lives, and the caller of `part` promises that parts do not overlap.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Parts of this slice.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// A part to write to.
    ///
    /// # Safety
    /// No two parts that live at the same time may overlap.
    ///
    /// # Panics
    /// If the range goes beyond the slice.
    #[allow(clippy::mut_from_ref)] // What the safety section is about.
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: within the slice by the line above; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_piece_is_done_once_whatever_the_threads() {
        for threads in 1..5 {
            let pool = Pool::new(threads);
            for pieces in (0..40).chain([1000]) {
                let done: Vec<AtomicU32> = (0..pieces).map(|_| AtomicU32::new(0)).collect();
                pool.run(pieces, &|piece| {
                    done[piece].fetch_add(1, SeqCst);
                });
                assert!(done.iter().all(|count| count.load(SeqCst) == 1));
            }
        }
    }

    #[test]
    fn a_job_finds_sleeping_threads_and_follows_another_at_once() {
        let pool = Pool::new(3);
        for round in 0..20 {
            if round % 5 == 0 {
                std::thread::sleep(2 * AWAKE);
            }
            let sum = AtomicUsize::new(0);
            pool.run(100, &|piece| {
                sum.fetch_add(piece, SeqCst);
            });
            assert_eq!(sum.load(SeqCst), 4950);
        }
    }

    #[test]
    fn jobs_within_jobs_and_of_many_callers_are_done() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.run(10, &|_| {
                        pool.run(10, &|_| {
                            sum.fetch_add(1, SeqCst);
                        });
                    });
                });
            }
        });
        assert_eq!(sum.load(SeqCst), 400);
    }

    /// Runs two pieces that wait for each other, so that each is on a thread of its own, and then do something.
    fn run_two(pool: &Pool, then: impl Fn() + Sync) {
        let here = AtomicU32::new(0);
        pool.run(2, &|_| {
            here.fetch_add(1, SeqCst);
            let begin = Instant::now();
            while here.load(SeqCst) < 2 {
                let waited = begin.elapsed();
                assert!(waited < Duration::from_secs(20), "the other is not there");
                std::thread::yield_now();
            }
            then();
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        for broken in 0..20 {
            let run = || pool.run(20, &|piece| assert!(piece != broken, "meant"));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            run_two(&pool, || ());
        }
        for _ in 0..20 {
            let run = || run_two(&pool, || panic!("meant"));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            run_two(&pool, || ());
        }
    }

    #[test]
    fn ranges_and_parts_cover_a_slice() {
        let pool = Pool::new(2);
        let mut values = vec![0; 103];
        let parts = Parts::new(&mut values);
        pool.run_ranges(103, 10, &|range| {
            // SAFETY: the ranges of one job do not overlap.
            let part = unsafe { parts.part(range.clone()) };
            part.iter_mut()
                .zip(range)
                .for_each(|(value, at)| *value = at);
        });
        assert!(values.iter().enumerate().all(|(at, value)| at == *value));
    }
}
