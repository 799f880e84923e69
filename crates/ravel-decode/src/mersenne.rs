//! The Mersenne Twister: the generator that published watermark keys are drawn with.
//!
//! Matsumoto and Nishimura 1998, MT19937, seeded by `init_genrand`. Not for anything but agreeing with others: Ravel's own randomness
//! comes from [`ravel_core::Seed`].

const SIZE: usize = 624;
const MIDDLE: usize = 397;
const UPPER: u32 = 1 << 31;

/// MT19937.
#[derive(Debug, Clone)]
pub struct Mersenne {
    state: [u32; SIZE],
    next: usize,
}

impl Mersenne {
    /// The generator of a key.
    pub fn new(key: u32) -> Self {
        let mut state = [key; SIZE];
        for at in 1..SIZE {
            let before = state[at - 1];
            state[at] = (before ^ (before >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(at as u32);
        }
        Self { state, next: SIZE }
    }

    /// The next 32 bits.
    pub fn bits(&mut self) -> u32 {
        if self.next == SIZE {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C_5680;
        y ^= (y << 15) & 0xEFC6_0000;
        y ^ (y >> 18)
    }

    /// The next number in `0..1`.
    pub fn uniform(&mut self) -> f64 {
        f64::from(self.bits()) / 4_294_967_296.0
    }

    /// A permutation of `0..n` in which nothing stays in its place: Sattolo's shuffle, as in the published watermark code.
    pub fn cycle(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for at in (1..n).rev() {
            order.swap(at, self.bits() as usize % at);
        }
        order
    }

    fn twist(&mut self) {
        for at in 0..SIZE {
            let joined = (self.state[at] & UPPER) | (self.state[(at + 1) % SIZE] & !UPPER);
            let odd = match joined & 1 {
                1 => 0x9908_B0DF,
                _ => 0,
            };
            self.state[at] = self.state[(at + MIDDLE) % SIZE] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C++ fixes this number: the 10,000th of `std::mt19937` with its default seed.
    #[test]
    fn the_ten_thousandth_number_is_the_standards() {
        let mut generator = Mersenne::new(5489);
        let last = (0..10_000).map(|_| generator.bits()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn a_cycle_moves_everything() {
        let order = Mersenne::new(1).cycle(50);
        assert!(order.iter().enumerate().all(|(at, &to)| at != to));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..50));
    }
}
