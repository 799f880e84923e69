//! Samplers: small records that wrap one another.
//!
//! [`Guided`] combines conditioned and unconditioned rows and hands half as many to the sampler inside it. [`Chain`] reads the scores
//! to the host once, passes each row through its [`Filter`]s and draws.

mod chain;
mod config;
mod filter;
mod guided;

pub use chain::{Chain, Choice, greedy_choice, gumbel_choice, inverse_cdf_choice};
pub use config::SamplerConfig;
pub use filter::{
    EpsilonCutoff, EtaCutoff, Filter, MinLength, MinP, NoRepeat, RepetitionPenalty, SequenceBias,
    Temperature, TopK, TopP, Typical, probabilities, weights,
};
pub use guided::{Guidance, Guided};
