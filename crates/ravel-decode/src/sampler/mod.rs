//! Samplers: small records that wrap one another.
//!
//! [`Guided`] combines conditioned and unconditioned rows and hands half as many to the sampler inside it. [`Chain`] reads the scores
//! to the host once, passes each row through its [`Filter`]s and draws; on a GPU it does so there where every filter is a [`Cut`], and reads the
//! ids alone. [`Recorded`] notes what another sampler picked.

mod chain;
mod config;
mod delayed_end;
mod filter;
mod guided;
mod hindsight;
mod on_device;
mod recorded;

pub use chain::{Chain, Choice, Coupled, Marked, greedy_choice, gumbel_choice, inverse_cdf_choice};
pub use config::SamplerConfig;
pub(crate) use config::check;
pub use delayed_end::{DelayedEnd, Ending, all_ended};
pub use filter::{
    EndIfLargest, EpsilonCutoff, EtaCutoff, Filter, MinLength, MinP, NoRepeat, RecentPenalty,
    RepetitionPenalty, SequenceBias, Temperature, TopK, TopP, TopPWithin, Typical, probabilities,
    weights,
};
pub use guided::{Guidance, Guided};
pub use hindsight::{Hindsight, hindsight_noise, noisy_choice};
pub use on_device::Cut;
pub use recorded::{Pick, Recorded};
