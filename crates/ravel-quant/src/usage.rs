//! Whether a codebook is used: the first thing to look at when a tokenizer disappoints.

use serde::{Deserialize, Serialize};

/// How the ids of some signals spread over a codebook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CodebookHealth {
    /// Ids in the codebook.
    pub size: usize,
    /// Ids that occur at least once.
    pub used: usize,
    /// `used / size`.
    pub usage: f64,
    /// The exponential of the entropy of the ids in nats: as many equally frequent ids would be as varied.
    pub perplexity: f64,
}

impl CodebookHealth {
    /// The spread of some ids.
    ///
    /// # Panics
    /// If an id is not below `size`.
    pub fn of(size: usize, ids: impl IntoIterator<Item = u32>) -> Self {
        let mut counts = vec![0u64; size];
        for id in ids {
            counts[id as usize] += 1;
        }
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let entropy: f64 = counts
            .iter()
            .filter(|&&count| count > 0)
            .map(|&count| count as f64 / total)
            .map(|share| -share * share.ln())
            .sum();
        let used = counts.iter().filter(|&&count| count > 0).count();
        Self {
            size,
            used,
            usage: used as f64 / size as f64,
            perplexity: entropy.exp(),
        }
    }

    /// Ids that never occur.
    pub fn dead(&self) -> usize {
        self.size - self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_have_the_perplexity_of_their_number() {
        let health = CodebookHealth::of(8, [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!((health.used, health.dead()), (4, 4));
        assert!((health.perplexity - 4.0).abs() < 1e-12);
        assert_eq!(health.usage, 0.5);
    }
}
