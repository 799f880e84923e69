//! Decoding methods, one file each.

mod beam;
mod contrastive;
mod filling;
mod follow;
mod frames;
mod masked;
mod one_by_one;
mod packing;
mod side_by_side;
mod speculative;
mod takes;

use ravel_core::{Decoding, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use beam::{BeamConfig, BeamSearch, Hypothesis, Patience};
pub use contrastive::{ContrastiveSearch, contrastive_choice, likeness};
pub use filling::FillingConfig;
pub use frames::FrameStream;
pub use masked::{MaskedFilling, SeededNoise, WatchRounds, random_orders};
pub use one_by_one::OneByOne;
pub use packing::packed;
pub use side_by_side::{Effort, Heard, Lane, SideBySide, WatchLanes};
pub use speculative::{AHEAD, Speculative, Tally, Verdict, draw, judge};
pub use takes::{Next, Samplers, WatchTakes, in_takes};

/// Which method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DecodingConfig {
    /// One unit after another.
    OneByOne {}, // The braces make serde refuse unknown keys, which it lets pass in a bare variant.
    /// Several sequences at once, the likeliest of which is kept. Text only.
    BeamSearch(BeamConfig),
    /// Ids that are likely and unlike what came before. Text only.
    ContrastiveSearch(ContrastiveSearch),
}

impl Default for DecodingConfig {
    fn default() -> Self {
        Self::OneByOne {}
    }
}

impl DecodingConfig {
    /// Checks that the method can be used.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the setting that makes no sense.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::OneByOne {} => Ok(()),
            Self::BeamSearch(config) => config.validate(),
            Self::ContrastiveSearch(config) => config.validate(),
        }
    }

    /// Whether the sampler picks every unit. The other methods choose by themselves and take its filters alone.
    pub fn is_one_by_one(&self) -> bool {
        *self == Self::default()
    }

    /// The method; `ends` are ids that end a sequence, where it looks for them.
    pub fn build(&self, ends: &[u32]) -> Box<dyn Decoding> {
        match self {
            Self::OneByOne {} => Box::new(OneByOne),
            Self::BeamSearch(config) => Box::new(BeamSearch {
                config: config.clone(),
                ends: ends.to_vec(),
            }),
            Self::ContrastiveSearch(search) => Box::new(search.clone()),
        }
    }
}
