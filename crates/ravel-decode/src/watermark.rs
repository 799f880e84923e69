//! A watermark that changes no distribution: ids are chosen by random numbers that a key tells, and who has the key finds them again.
//!
//! Kuditipudi et al. 2023 ("Robust distortion-free watermarks for language models"), section 2.3 (exponential minimum sampling) and
//! section 2.4 (alignment by edit distance). Symbols: `xi` random numbers in 0..1, one for each id in each of `n` rows;
//! `p` probabilities; `gamma` cost of an id that was put in or left out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mersenne::Mersenne;

/// What fixes a watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WatermarkConfig {
    /// Who knows it can find the watermark.
    pub key: u32,
    /// Rows of random numbers, after which they come again. Each generation begins somewhere among them.
    #[serde(default = "rows")]
    pub rows: usize,
}

/// The published default.
fn rows() -> usize {
    256
}

/// The random numbers of a key for ids below `vocabulary`.
#[derive(Debug, Clone)]
pub struct Watermark {
    xi: Vec<f32>,
    vocabulary: usize,
}

impl Watermark {
    /// Numbers of MT19937, row by row.
    ///
    /// # Panics
    /// If there is no row or no id.
    pub fn new(config: WatermarkConfig, vocabulary: usize) -> Self {
        assert!(
            config.rows > 0 && vocabulary > 0,
            "a watermark has rows and ids"
        );
        let mut generator = Mersenne::new(config.key);
        let count = config.rows * vocabulary;
        Self {
            xi: (0..count).map(|_| generator.uniform() as f32).collect(),
            vocabulary,
        }
    }

    /// The numbers of a row; rows come again and again.
    pub fn row(&self, row: usize) -> &[f32] {
        let start = row % self.rows() * self.vocabulary;
        &self.xi[start..start + self.vocabulary]
    }

    /// How many different rows there are.
    pub fn rows(&self) -> usize {
        self.xi.len() / self.vocabulary
    }

    /// The id with the largest `xi^(1/p)`: over all keys, each id is chosen with its probability.
    ///
    /// - `probabilities`: one for each id; their sum does not matter
    pub fn choice(&self, probabilities: &[f64], row: usize) -> u32 {
        // The logarithm keeps the order and does not underflow where p is small.
        let exponents = self.row(row).iter().zip(probabilities);
        let exponents = exponents.map(|(&xi, &p)| f64::from(xi).ln() / p);
        let mut best = (0, f64::NEG_INFINITY);
        for (id, exponent) in exponents.enumerate() {
            if exponent > best.1 {
                best = (id as u32, exponent);
            }
        }
        best.0
    }

    /// How badly ids fit the watermark: the cheapest alignment of any `block` ids in a row with as many rows of the key, wherever they
    /// begin. Ids that were chosen with this key cost much less than others.
    ///
    /// # Panics
    /// If an id is beyond the vocabulary, or `block` is not in `1..=ids.len()`.
    pub fn cost(&self, ids: &[u32], block: usize, gamma: f32) -> f32 {
        assert!(
            (1..=ids.len()).contains(&block),
            "position axis: blocks of {block} among {} ids",
            ids.len()
        );
        let starts = 0..self.rows();
        ids.windows(block)
            .flat_map(|ids| {
                starts
                    .clone()
                    .map(move |start| self.alignment(ids, start, gamma))
            })
            .fold(f32::INFINITY, f32::min)
    }

    /// The edit distance between ids and the rows from `start`: an id costs `log(1 - xi)` at its row, and `gamma` if it or the row is
    /// passed over. In 32 bits, as in the published code.
    fn alignment(&self, ids: &[u32], start: usize, gamma: f32) -> f32 {
        let mut above: Vec<f32> = (0..=ids.len()).map(|rows| rows as f32 * gamma).collect();
        for (at, &id) in ids.iter().enumerate() {
            let mut diagonal = above[0];
            above[0] = (at + 1) as f32 * gamma;
            for column in 0..ids.len() {
                let xi = self.row(start + column)[id as usize];
                let matched = diagonal + f64::from(1.0 - xi).ln() as f32;
                diagonal = above[column + 1];
                let passed = (diagonal + gamma).min(above[column] + gamma);
                above[column + 1] = matched.min(passed);
            }
        }
        above[ids.len()]
    }
}

/// The probability that other keys' costs fall as low as this one's by chance: small for a watermark.
pub fn p_value(cost: f32, others: &[f32]) -> f64 {
    let as_low = others.iter().filter(|other| **other <= cost).count();
    (as_low as f64 + 1.0) / (others.len() as f64 + 1.0)
}

/// One watermark for each codebook of a generation, made when its vocabulary is known.
#[derive(Debug, Clone)]
pub(crate) struct Marking {
    config: WatermarkConfig,
    /// Where each row of the batch begins.
    starts: Vec<usize>,
    tables: Vec<Option<Watermark>>,
}

impl Marking {
    /// - `begin`: a number for each row of the batch
    pub(crate) fn new(config: WatermarkConfig, begin: impl Iterator<Item = u64>) -> Self {
        let start = |begin: u64| (begin % config.rows.max(1) as u64) as usize;
        Self {
            config,
            starts: begin.map(start).collect(),
            tables: Vec::new(),
        }
    }

    /// Rows that it can serve.
    pub(crate) fn batch(&self) -> usize {
        self.starts.len()
    }

    /// Makes the table of a codebook; each has a key of its own.
    pub(crate) fn prepare(&mut self, codebook: usize, vocabulary: usize) {
        if self.tables.len() <= codebook {
            self.tables.resize(codebook + 1, None);
        }
        let config = WatermarkConfig {
            key: self.config.key.wrapping_add(codebook as u32),
            ..self.config
        };
        self.tables[codebook].get_or_insert_with(|| Watermark::new(config, vocabulary));
    }

    pub(crate) fn choice(
        &self,
        probabilities: &[f64],
        row: usize,
        codebook: usize,
        position: usize,
    ) -> u32 {
        let table = self.tables[codebook].as_ref().expect("a prepared table");
        table.choice(probabilities, self.starts[row] + position)
    }
}
