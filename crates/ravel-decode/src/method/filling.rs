//! How a frame of codes is filled: in a few passes over all of it, each of which keeps some of the codes that it picks.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_core::Rng;
use ravel_core::{Result, Seed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sampler::check;

/// How a frame is filled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FillingConfig {
    /// In so many passes; each keeps the codes that it is surest of, ever more of them (MaskGIT, Chang et al. 2022, section 3.2: the
    /// cosine schedule).
    Refined {
        /// Passes, 1 at least.
        steps: usize,
    },
    /// Each pass keeps all codes that are as good as certain, as long as their entropies add up to no more than a bound (Ben-Hamu et al.
    /// 2025, section 4), and of the others the next in a random order, which hangs on the frame's number alone. So codes that hang together are
    /// chosen one after the other, and still at random, not always the likeliest.
    Bounded {
        /// The bound, in nats.
        entropy: f64,
        /// The greatest number of passes: an even share of what is uncertain is kept in each.
        most: usize,
    },
    /// Code by code, row by row: a pass for each.
    OneByOne {}, // The braces make serde refuse unknown keys.
}

impl Default for FillingConfig {
    fn default() -> Self {
        Self::Refined { steps: 4 }
    }
}

impl FillingConfig {
    /// Checks that a frame can be filled.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] if there is no pass, or the bound is no number of at least zero.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Refined { steps } => check("filling.steps", Some(*steps as f64), 1.0..=1e9),
            Self::Bounded { entropy, most } => {
                check("filling.entropy", Some(*entropy), 0.0..=1e9)?;
                check("filling.most", Some(*most as f64), 1.0..=1e9)
            }
            Self::OneByOne {} => Ok(()),
        }
    }

    /// The greatest number of passes over a frame of `n` codes.
    fn passes(&self, n: usize) -> usize {
        match self {
            Self::Refined { steps } => (*steps).min(n),
            Self::Bounded { most, .. } => (*most).min(n),
            Self::OneByOne {} => n,
        }
    }
}

/// Frames of a batch that are being filled.
pub(super) struct Filled<'a> {
    filling: &'a FillingConfig,
    /// The ids that are known, row by row; -1 where one is to come.
    known: Vec<i32>,
    /// What the latest pass was shown of each row: a row that is whole is shown what it was shown last, so that it is remembered as it would be
    /// without the others.
    shown: Vec<i32>,
    /// A random number for each place of a frame.
    order: Vec<u64>,
    passes: usize,
    pass: usize,
    n: usize,
}

impl<'a> Filled<'a> {
    /// Empty frames of `n` places; `frame` is their number.
    pub fn new(filling: &'a FillingConfig, frame: usize, batch: usize, n: usize) -> Self {
        let mut random = Seed::new(0).named("filling").indexed(frame as u64).stream();
        Self {
            filling,
            known: vec![-1; batch * n],
            shown: vec![-1; batch * n],
            order: (0..n).map(|_| random.next_u64()).collect(),
            passes: filling.passes(n),
            pass: 0,
            n,
        }
    }

    /// Whether nothing is to come.
    pub fn is_whole(&self) -> bool {
        self.known.iter().all(|id| *id >= 0)
    }

    /// The ids, `[batch, n]`.
    pub fn ids(self, device: &Device) -> Tensor<2, Int> {
        rows(self.known, self.n, device)
    }

    /// What the next pass is to be shown, `[batch, n]`; -1 where an id is to come.
    pub fn shown(&mut self, device: &Device) -> Tensor<2, Int> {
        let known = self.known.chunks_exact(self.n);
        for (shown, known) in self.shown.chunks_exact_mut(self.n).zip(known) {
            if known.contains(&-1) {
                shown.copy_from_slice(known);
            }
        }
        rows(self.shown.clone(), self.n, device)
    }

    /// Keeps some of the picked codes, as the pass asks for it: in the last one all of them.
    ///
    /// # Shapes
    /// - `logits`: `[batch, n, ids]`
    /// - `picked`: `[batch, n]`
    pub fn keep(&mut self, logits: Tensor<3>, picked: Tensor<2, Int>) {
        let left = self.passes - self.pass;
        let told = match self.filling {
            _ if left == 1 => Vec::new(),
            FillingConfig::Refined { .. } => sureness(logits, &picked),
            FillingConfig::Bounded { .. } => entropies(logits),
            FillingConfig::OneByOne {} => Vec::new(),
        };
        let picked = host_ids(picked);
        for (row, known) in self.known.chunks_exact_mut(self.n).enumerate() {
            let mut open: Vec<usize> = (0..self.n).filter(|&at| known[at] < 0).collect();
            let own = row * self.n;
            let count = match self.filling {
                _ if left == 1 || open.is_empty() => open.len(),
                FillingConfig::OneByOne {} => 1,
                FillingConfig::Refined { .. } => {
                    open.sort_by(|&a, &b| told[own + b].total_cmp(&told[own + a]));
                    let kept = after_pass(self.pass, self.passes, self.n);
                    kept.saturating_sub(self.n - open.len())
                }
                FillingConfig::Bounded { entropy, .. } => {
                    let of = |at: usize| f64::from(told[own + at]);
                    open.sort_by(|&a, &b| of(a).total_cmp(&of(b)));
                    let sure = within(*entropy, open.iter().map(|&at| of(at)));
                    open[sure..].sort_by_key(|&at| self.order[at]);
                    sure + (open.len() - sure).div_ceil(left)
                }
            };
            for at in open.into_iter().take(count) {
                known[at] = picked[own + at];
            }
        }
        self.pass += 1;
    }
}

fn rows(ids: Vec<i32>, n: usize, device: &Device) -> Tensor<2, Int> {
    let shape = [ids.len() / n, n];
    Tensor::from_data(TensorData::new::<i32, _>(ids, shape), device)
}

/// Codes that are known after pass `pass` of `passes`, of `n`.
fn after_pass(pass: usize, passes: usize, n: usize) -> usize {
    let done = (pass + 1) as f64 / passes as f64;
    let left = n as f64 * (std::f64::consts::FRAC_PI_2 * done).cos();
    (n - left.floor() as usize).max(pass + 1)
}

/// How many of some numbers, the first ones, add up to no more than a bound.
fn within(bound: f64, numbers: impl Iterator<Item = f64>) -> usize {
    let sums = numbers.scan(0.0, |sum, number| {
        *sum += number;
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= bound).count()
}

/// How probable each picked code is, position by position.
fn sureness(logits: Tensor<3>, picked: &Tensor<2, Int>) -> Vec<f32> {
    numbers(softmax(logits, 2).gather(2, picked.clone().unsqueeze_dim(2)))
}

/// Entropies of the codes, position by position, in nats.
fn entropies(logits: Tensor<3>) -> Vec<f32> {
    let logs = log_softmax(logits, 2);
    numbers((logs.clone().exp() * logs).sum_dim(2).neg())
}

fn numbers(tensor: Tensor<3>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec().expect("numbers were converted to f32")
}

fn host_ids(ids: Tensor<2, Int>) -> Vec<i32> {
    let data = ids.into_data().convert::<i32>();
    data.try_into_vec().expect("ids were converted to i32")
}

#[cfg(test)]
mod tests {
    use ravel_testkit::device;

    use super::*;

    /// Scores under which place `at` has the id 1 with the share that its number says, else the id 0.
    fn logits(shares: &[f32]) -> Tensor<3> {
        let scores = shares
            .iter()
            .flat_map(|&share| [(1.0 - share).ln(), share.ln()]);
        let data = TensorData::new::<f32, _>(scores.collect(), [1, shares.len(), 2]);
        Tensor::from_data(data, &device())
    }

    fn picked(ids: &[i32]) -> Tensor<2, Int> {
        let data = TensorData::new::<i32, _>(ids.to_vec(), [1, ids.len()]);
        Tensor::from_data(data, &device())
    }

    /// What is known after each pass of a frame.
    fn passes(filling: &FillingConfig, shares: &[f32], ids: &[i32]) -> Vec<Vec<i32>> {
        let mut filled = Filled::new(filling, 3, 1, ids.len());
        let mut all = Vec::new();
        while !filled.is_whole() {
            filled.keep(logits(shares), picked(ids));
            all.push(filled.known.clone());
        }
        all
    }

    #[test]
    fn the_surest_codes_are_kept_first_and_none_is_taken_back() {
        let filling = FillingConfig::Refined { steps: 3 };
        let all = passes(&filling, &[0.6, 0.99, 0.2, 0.7], &[1, 1, 1, 1]);
        assert_eq!(all, [[-1, 1, -1, -1], [-1, 1, -1, 1], [1, 1, 1, 1]]);
    }

    #[test]
    fn what_is_certain_is_kept_at_once_and_the_rest_one_after_the_other() {
        let filling = FillingConfig::Bounded {
            entropy: 0.3,
            most: 9,
        };
        let shares = [0.999, 0.5, 0.001, 0.4, 0.6, 0.999];
        let all = passes(&filling, &shares, &[1, 1, 0, 0, 1, 1]);
        assert_eq!(all.len(), 3, "{all:?}");
        let open = |known: &[i32]| known.iter().filter(|id| **id < 0).count();
        assert_eq!(open(&all[0]), 2);
        assert_eq!([all[0][0], all[0][2], all[0][5]], [1, 0, 1]);
        assert_eq!(open(&all[1]), 1);
        let two = FillingConfig::Bounded {
            entropy: 0.3,
            most: 2,
        };
        assert_eq!(passes(&two, &shares, &[1, 1, 0, 0, 1, 1]).len(), 2);
    }

    #[test]
    fn every_pass_keeps_more_and_the_last_keeps_all() {
        for (filling, count) in [
            (FillingConfig::Refined { steps: 1 }, 1),
            (FillingConfig::Refined { steps: 5 }, 5),
            (FillingConfig::Refined { steps: 99 }, 16),
            (
                FillingConfig::Bounded {
                    entropy: 0.0,
                    most: 99,
                },
                16,
            ),
            (FillingConfig::OneByOne {}, 16),
        ] {
            let all = passes(&filling, &[0.3; 16], &[1; 16]);
            assert_eq!(all.len(), count, "{filling:?}");
        }
    }

    #[test]
    fn impossible_fillings_are_named() {
        for (filling, field) in [
            (FillingConfig::Refined { steps: 0 }, "filling.steps"),
            (
                FillingConfig::Bounded {
                    entropy: f64::NAN,
                    most: 3,
                },
                "filling.entropy",
            ),
        ] {
            let error = filling.validate().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
