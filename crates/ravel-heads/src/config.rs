//! The kinds of heads that a definition can name.

use ravel_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NextFrameConfig, NextScaleConfig, NextTokenConfig, NextTokensConfig};

/// Which head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum HeadConfig {
    /// One code after the other.
    NextToken(NextTokenConfig),
    /// One scale after the other.
    NextScale(NextScaleConfig),
    /// One frame of video after the other.
    NextFrame(NextFrameConfig),
    /// One frame of several codes after the other.
    NextTokens(NextTokensConfig),
}

impl HeadConfig {
    /// Checks that a head can be built.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::NextToken(config) => config.validate(),
            Self::NextScale(config) => config.validate(),
            Self::NextFrame(config) => config.validate(),
            Self::NextTokens(config) => config.validate(),
        }
    }

    /// The kind as definitions write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NextToken(_) => "next-token",
            Self::NextScale(_) => "next-scale",
            Self::NextFrame(_) => "next-frame",
            Self::NextTokens(_) => "next-tokens",
        }
    }
}

/// What the backbone is fed to predict the first unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartKind {
    /// A learned vector, after the whole prefix.
    #[default]
    Learned,
    /// The prefix's last position (LlamaGen).
    Prefix,
    /// The prefix's last position plus a learned vector (VAR).
    PrefixPlusLearned,
}

impl StartKind {
    /// Whether there is a learned vector.
    pub fn is_learned(self) -> bool {
        self != Self::Prefix
    }

    /// Whether the prefix's last position predicts the first unit.
    pub fn uses_prefix(self) -> bool {
        self != Self::Learned
    }
}

pub(crate) fn positive(field: &str, found: usize) -> Result<()> {
    const MOST: usize = 1 << 24;
    if (1..=MOST).contains(&found) {
        return Ok(());
    }
    Err(Error::Config {
        field: field.into(),
        found: found.to_string(),
        expected: format!("1 to {MOST}"),
    })
}
