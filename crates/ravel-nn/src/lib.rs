//! Layers used twice or more. They know no model, no file and no device but that of their inputs.
//!
//! [`Norm`], [`Rotary`], [`Attention`], [`FeedForward`] and [`Modulation`] make transformers; [`conv`] holds the
//! encoders and decoders of image tokenizers, [`wave`] the layers of audio tokenizers.

pub mod conv;
pub mod init;
pub mod wave;

mod attention;
mod denoiser;
mod feed_forward;
mod kept;
mod modulation;
mod norm;
mod project;
mod relative;
mod rotary;
mod sight;

pub use attention::{Attention, AttentionConfig, CrossAttention, Part, QueryKeyNorm};
pub use denoiser::{Denoiser, DenoiserConfig};
pub use feed_forward::{Activation, FeedForward, FeedForwardConfig};
pub use kept::{Narrowable, multiplies, narrowed, streamed};
pub use modulation::{Branch, FinalModulation, Modulation, activated};
pub use norm::{Norm, NormConfig, NormKind, rms_normalised, unit_length};
pub use project::{Project, embed_by_table, project_by_table};
pub use ravel_kernels::WeightsType;
pub use relative::RelativeConfig;
pub use rotary::{
    DynamicScaling, Llama3Scaling, Pairs, Rotary, RotaryConfig, Rotation, Scaling, YarnScaling,
};
pub use sight::{Padding, Sight};
