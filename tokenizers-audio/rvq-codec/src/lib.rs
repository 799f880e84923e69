//! Audio codecs whose positions hold several codebooks, each for what the ones before left over.
//!
//! | codec | what it is made of |
//! | --- | --- |
//! | [`EncodecConfig`] | SEANet with a recurrence, Euclidean codebooks; 48 kHz in normalised, overlapping chunks |
//! | [`MimiConfig`] | causal SEANet, transformers with a window, semantic and acoustic codebooks; streaming |
//! | [`DacConfig`] | snake activations, codebooks in narrow projections |
//! | [`FireflyConfig`] | a log-mel front end, ConvNeXt, grouped finite scalars, a HiFi-GAN head |
//! | [`SpectralConfig`] | a compact one of our own: log-mels, ConvNeXt, an inverse short-time transform; streaming |
//!
//! Codes are `[batch, depth, frames]` of a [`ravel_core::Layout::Sequence`], or of [`ravel_core::Layout::Frames`] where a codec
//! works in chunks.

mod check;
mod dac;
mod encodec;
mod firefly;
mod mimi;
mod seanet;
mod spectral;

pub use dac::{Dac, DacConfig, DacQuantized, DacTokenizer};
pub use encodec::{Chunks, Encodec, EncodecChunk, EncodecConfig, EncodecTokenizer};
pub use firefly::{
    Firefly, FireflyBackbone, FireflyBackboneConfig, FireflyConfig, FireflyHead, FireflyHeadConfig,
    FireflyTokenizer, GroupedFsq, GroupedFsqConfig, GroupedQuantized, LogMel, LogMelConfig,
};
pub use mimi::{Mimi, MimiConfig, MimiQuantizer, MimiTokenizer, MimiTransformerConfig};
pub use seanet::{Seanet, SeanetConfig, SeanetState};
pub use spectral::{
    CausalMel, CausalMelState, SoundTrainingOutput, Spectral, SpectralConfig, SpectralDecoder,
    SpectralDecoderState, SpectralEncoder, SpectralEncoderState, SpectralTables, SpectralTokenizer,
};
