//! Heads: what is predicted, in which order, and how a hidden state becomes ids.
//!
//! [`NextToken`] predicts one code after the other, [`NextScale`] one scale after the other.
//! [`PrefixEmbedding`] turns a text's ids into what stands in front of them.

mod config;
mod next_scale;
mod next_token;
mod place;
mod prefix;

pub use config::{HeadConfig, StartKind};
pub use next_scale::{NextScale, NextScaleConfig};
pub use next_token::{NextToken, NextTokenConfig};
pub use prefix::{PrefixConfig, PrefixEmbedding};
