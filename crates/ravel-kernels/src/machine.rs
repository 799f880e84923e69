//! What the machine can do at most: how fast it reads memory and how fast it multiplies.
//!
//! A decoding step cannot be faster than reading its weights once; these two rates say how near it comes.

use std::hint::black_box;
use std::time::Instant;

use crate::conv::Aligned;
use crate::isa::{Isa, Lanes, Set};
use crate::pool::Pool;

/// Bytes per second at which the pool's threads read memory one after the other, over and over: the middle of some passes. Memory that
/// was just read may lie in a cache, so the rate depends on how much there is. It lies in huge pages, as weights do.
pub struct Memory {
    values: Aligned<f32>,
}

/// Numbers that a thread adds up at a time.
const PIECE: usize = 1 << 16;

impl Memory {
    /// So many bytes, at least 64 KiB.
    pub fn new(bytes: usize) -> Self {
        let count = (bytes / size_of::<f32>()).max(1 << 14);
        let mut values = Aligned::zeros(count);
        for (at, value) in values.iter_mut().enumerate() {
            *value = (at % 7) as f32;
        }
        Self { values }
    }

    /// Reads all of it once; bytes per second.
    pub fn pass(&self, pool: &Pool, isa: Isa) -> f64 {
        let begin = Instant::now();
        pool.run_ranges(self.values.len(), PIECE, &|range| {
            let part = &self.values[range];
            // SAFETY: the machine has the set of an `Isa`.
            black_box(unsafe {
                match isa.set() {
                    #[cfg(target_arch = "x86_64")]
                    Set::Avx512 => sum_avx512(part),
                    #[cfg(target_arch = "x86_64")]
                    Set::Avx2 => sum_avx2(part),
                    #[cfg(target_arch = "aarch64")]
                    Set::Neon => sum::<crate::isa::Neon>(part),
                    _ => sum::<crate::isa::Scalar>(part),
                }
            });
        });
        size_of_val(&self.values[..]) as f64 / begin.elapsed().as_secs_f64()
    }
}

/// Asks the C library to keep a little of the memory that is freed: loading takes and frees a matrix after the other, and pages from the system have to be
/// filled with zeros first, and so it is with what layers hand on. What is larger than 32 MiB goes back at once. Where the library knows no such wish, nothing happens.
pub fn keep_some_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 32 << 20;
        // SAFETY: settings of the allocator, which takes its lock to change them.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE);
        }
    }
}

/// Asks the C library to keep memory that is freed for what is needed next: a step of training takes and frees the same gigabytes again and
/// again, and pages from the system have to be filled with zeros first. Where the library knows no such wish, nothing happens.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const MOST: libc::c_int = 1 << 30;
        // SAFETY: settings of the allocator, which takes its lock to change them.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MOST);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}

/// Fused products of f32 and sums per second, times two, from registers: the best of some tries.
pub fn product_rate(pool: &Pool, isa: Isa) -> f64 {
    const STEPS: usize = 20_000;
    let pieces = 8 * pool.threads();
    let once = || {
        let begin = Instant::now();
        pool.run(pieces, &|_| {
            // SAFETY: the machine has the set of an `Isa`.
            black_box(unsafe {
                match isa.set() {
                    #[cfg(target_arch = "x86_64")]
                    Set::Avx512 => products_avx512(STEPS),
                    #[cfg(target_arch = "x86_64")]
                    Set::Avx2 => products_avx2(STEPS),
                    #[cfg(target_arch = "aarch64")]
                    Set::Neon => products::<crate::isa::Neon>(STEPS),
                    _ => products::<crate::isa::Scalar>(STEPS),
                }
            });
        });
        (2 * 16 * CHAINS * STEPS * pieces) as f64 / begin.elapsed().as_secs_f64()
    };
    (0..5).map(|_| once()).fold(0.0, f64::max)
}

/// Sums side by side, so that none waits for itself.
const CHAINS: usize = 12;

/// # Safety
/// The machine has the set's instructions.
#[inline(always)]
unsafe fn products<L: Lanes>(steps: usize) -> f32 {
    // SAFETY: as the caller promises.
    unsafe {
        let by = L::splat(black_box(0.999));
        let mut acc = [L::splat(1.0); CHAINS];
        for _ in 0..steps {
            for acc in &mut acc {
                *acc = L::fma(*acc, by, by);
            }
        }
        let mut all = L::splat(0.0);
        for acc in acc {
            all = L::fma(acc, by, all);
        }
        L::sum(all)
    }
}

/// # Safety
/// The machine has the set's instructions.
#[inline(always)]
unsafe fn sum<L: Lanes>(values: &[f32]) -> f32 {
    // SAFETY: as the caller promises; each block of 128 numbers is whole.
    unsafe {
        let one = L::splat(1.0);
        let mut acc = [L::splat(0.0); 8];
        for block in values.chunks_exact(128) {
            for (at, acc) in acc.iter_mut().enumerate() {
                *acc = L::fma(L::load(block.as_ptr().add(16 * at)), one, *acc);
            }
        }
        let mut all = L::splat(0.0);
        for acc in acc {
            all = L::fma(acc, one, all);
        }
        L::sum(all)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
unsafe fn sum_avx512(values: &[f32]) -> f32 {
    // SAFETY: as the caller promises.
    unsafe { sum::<crate::isa::Avx512>(values) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn sum_avx2(values: &[f32]) -> f32 {
    // SAFETY: as the caller promises.
    unsafe { sum::<crate::isa::Avx2>(values) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
unsafe fn products_avx512(steps: usize) -> f32 {
    // SAFETY: as the caller promises.
    unsafe { products::<crate::isa::Avx512>(steps) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn products_avx2(steps: usize) -> f32 {
    // SAFETY: as the caller promises.
    unsafe { products::<crate::isa::Avx2>(steps) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers_that_a_machine_can_have() {
        let pool = Pool::new(2);
        for isa in Isa::all() {
            let memory = Memory::new(1 << 20);
            assert_eq!(memory.values.len(), 1 << 18);
            let read = memory.pass(&pool, isa);
            assert!(read > 1e6 && read < 1e13, "{read}");
            let products = product_rate(&pool, isa);
            assert!(products > 1e6 && products < 1e14, "{products}");
        }
    }

    #[test]
    fn all_of_the_memory_is_read() {
        let values: Vec<f32> = (0..1024).map(|at| at as f32).collect();
        // SAFETY: this set is on every machine.
        let found = unsafe { sum::<crate::isa::Scalar>(&values) };
        assert_eq!(found, 1023.0 * 512.0);
    }
}
