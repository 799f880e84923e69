//! Decoding methods, one file each.

mod frames;
mod masked;
mod one_by_one;

use ravel_core::Decoding;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use frames::{FillingConfig, FrameStream};
pub use masked::{MaskedFilling, SeededNoise, WatchRounds, random_orders};
pub use one_by_one::OneByOne;

/// Which method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DecodingConfig {
    /// One unit after another.
    OneByOne {}, // The braces make serde refuse unknown keys, which it lets pass in a bare variant.
}

impl Default for DecodingConfig {
    fn default() -> Self {
        Self::OneByOne {}
    }
}

impl DecodingConfig {
    /// The method.
    pub fn build(&self) -> Box<dyn Decoding> {
        match self {
            Self::OneByOne {} => Box::new(OneByOne),
        }
    }
}
