//! What the machine can do at most, and how near a measured time comes to it.

use ravel_kernels::isa::Isa;
use ravel_kernels::machine::{Memory, product_rate};
use ravel_kernels::pool;
use ravel_pipeline::{KeptAs, Work};
use serde::Serialize;

use crate::progress::say;

/// Passes over memory in a round; the first is not counted.
const PASSES: usize = 6;
/// Bytes that are read to find the memory's rate, where the work does not say how many.
const BYTES: usize = 256 << 20;

/// Seconds, sorted.
pub struct Times(Vec<f64>);

impl Times {
    /// # Panics
    /// If there is none.
    pub fn new(mut seconds: Vec<f64>) -> Self {
        assert!(!seconds.is_empty(), "nothing was timed");
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    /// The time that such a share of them stays below.
    pub fn at(&self, share: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * share).round() as usize]
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.at(0.5)
    }
}

/// The machine's rates, measured in turn with the work.
pub struct Machine {
    memory: Memory,
    passes: Vec<f64>,
    products: f64,
}

impl Machine {
    /// Memory is read in stretches of as many bytes as the work reads over and over: a few may stay in a cache.
    pub fn new(bytes: Option<usize>) -> Self {
        Self {
            memory: Memory::new(bytes.unwrap_or(BYTES)),
            passes: Vec::new(),
            products: 0.0,
        }
    }

    /// One round of measurements.
    pub fn measure(&mut self) {
        let (pool, isa) = (pool::global(), Isa::best());
        let passes = (0..PASSES).map(|_| self.memory.pass(pool, isa));
        self.passes.extend(passes.skip(1));
        self.products = self.products.max(product_rate(pool, isa));
    }

    /// Bytes per second.
    pub fn memory_rate(&self) -> f64 {
        Times::new(self.passes.clone()).median()
    }

    /// Products and sums of f32 per second.
    pub fn product_rate(&self) -> f64 {
        self.products
    }

    /// The least seconds that some work takes: the longer of reading and multiplying.
    pub fn least(&self, work: Work, kept: KeptAs) -> f64 {
        let multiplying = work.flops / (self.products * at_once(kept));
        (work.bytes / self.memory_rate()).max(multiplying)
    }

    /// How near a measured time comes to the least one.
    pub fn limit(&self, work: Work, idealised: f64, measured: f64) -> Limit {
        Limit {
            bytes: work.bytes,
            flops: work.flops,
            memory_gigabytes_per_second: self.memory_rate() / 1e9,
            gigabytes_per_second: work.bytes / measured / 1e9,
            gigaflops: self.products / 1e9,
            share_of_product_rate: work.flops / measured / self.products,
            idealised_seconds: idealised,
            measured_over_idealised: measured / idealised,
        }
    }
}

/// Products of a type for each of f32 that an instruction computes: eight bits go four at a time.
fn at_once(kept: KeptAs) -> f64 {
    match kept {
        KeptAs::Q8 | KeptAs::Q4 => 4.0,
        _ => 1.0,
    }
}

/// What some work would take at the machine's rates, and what it took.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limit {
    /// Bytes that the work reads.
    bytes: f64,
    /// Products and sums of two numbers, by the formula.
    flops: f64,
    /// What the machine reads per second of as many bytes, over and over.
    memory_gigabytes_per_second: f64,
    /// What the work read per second, were each byte read once a step.
    gigabytes_per_second: f64,
    /// Products and sums of f32 per second that the machine computes.
    gigaflops: f64,
    /// The work's products and sums per second over that. Narrower numbers and Winograd's way can come above 1.
    share_of_product_rate: f64,
    /// What the work would take at these rates, the longer of reading and multiplying.
    idealised_seconds: f64,
    /// The measured time over that.
    measured_over_idealised: f64,
}

impl Limit {
    /// Prints it. `what` is what was measured.
    pub fn print(&self, what: &str) {
        say(&format!(
            "the machine       {:9.1} GB/s read, {:.0} GFLOP/s multiplied",
            self.memory_gigabytes_per_second, self.gigaflops
        ));
        say(&format!(
            "idealised         {:9.6} s {what}: {:.1} MB, {:.2} GFLOP",
            self.idealised_seconds,
            self.bytes / 1e6,
            self.flops / 1e9
        ));
        say(&format!(
            "measured          {:9.2} times that: {:.1} GB/s read, {:.0} % of the product rate",
            self.measured_over_idealised,
            self.gigabytes_per_second,
            100.0 * self.share_of_product_rate
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            memory: Memory::new(1 << 16),
            passes: vec![3e9, 1e9, 2e9],
            products: 1e10,
        }
    }

    #[test]
    fn the_longer_of_reading_and_multiplying_counts() {
        let machine = machine();
        let work = |bytes, flops| Work { bytes, flops };
        assert_eq!(machine.least(work(4e9, 1e10), KeptAs::F32), 2.0);
        assert_eq!(machine.least(work(1e9, 3e10), KeptAs::F16), 3.0);
        assert_eq!(machine.least(work(1e9, 3e10), KeptAs::Q8), 0.75);
        let limit = machine.limit(work(4e9, 1e10), 2.0, 4.0);
        assert_eq!(limit.measured_over_idealised, 2.0);
        assert_eq!(limit.share_of_product_rate, 0.25);
        assert_eq!(limit.gigabytes_per_second, 1.0);
    }

    #[test]
    fn rates_are_measured() {
        let mut machine = Machine::new(Some(1 << 20));
        machine.measure();
        assert!(machine.memory_rate() > 1e6 && machine.product_rate() > 1e6);
        assert_eq!(machine.passes.len(), PASSES - 1);
    }
}
