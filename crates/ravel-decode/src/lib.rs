//! Decoding: the loop over units, and samplers that turn scores into ids. No model code: a method sees a
//! [`ravel_core::Generator`], a sampler sees scores.

pub mod mersenne;
pub mod method;
pub mod sampler;
pub mod watermark;

pub use method::{
    BeamConfig, BeamSearch, ContrastiveSearch, DecodingConfig, FillingConfig, FrameStream,
    MaskedFilling, OneByOne, Patience, SeededNoise, SideBySide, Speculative, random_orders,
};
pub use sampler::{Guidance, SamplerConfig};
