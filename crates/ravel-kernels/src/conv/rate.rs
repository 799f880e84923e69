//! What a core can multiply at most, and what a convolution has to: the measures that kernels are held against.

use super::Conv;
use super::work::{Work, on};
use crate::isa::{Isa, Lanes};
use std::hint::black_box;

/// Vectors that are summed side by side, enough to hide how long a product takes.
const SIDE_BY_SIDE: usize = 12;
const ROUNDS: usize = 200_000;

/// Products of numbers, each with its addition, of one call of [`rate_f32`].
pub const RATE_PRODUCTS: usize = SIDE_BY_SIDE * ROUNDS * 16;

/// Multiplies numbers in registers on the thread that calls, [`RATE_PRODUCTS`] times; gives their sum, so that nothing is
/// left out.
pub fn rate_f32() -> f32 {
    let mut sum = 0.0;
    // SAFETY: it has no pointers.
    unsafe { on(Isa::best(), Rate(&mut sum)) };
    sum
}

impl Conv {
    /// Products of numbers that the formula takes for so many cells out, whichever way they are computed.
    pub fn products(&self, cells: usize) -> u64 {
        (cells * self.kernel * self.kernel) as u64 * (self.from * self.to) as u64
    }
}

struct Rate<'a>(&'a mut f32);

impl Work for Rate<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller runs where L's instructions exist; the array has sixteen numbers.
        unsafe {
            // Numbers that the compiler does not know, so that it cannot multiply them beforehand.
            let (by, plus) = (L::splat(black_box(0.999)), L::splat(black_box(1e-3)));
            let mut sums = [L::splat(black_box(1.5)); SIDE_BY_SIDE];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = L::fma(*sum, by, plus);
                }
            }
            let mut numbers = [0.0; 16];
            for sum in sums {
                L::store(numbers.as_mut_ptr(), sum);
                *self.0 += numbers.iter().sum::<f32>();
            }
        }
    }
}
