//! Layers used twice or more.
//!
//! [`conv`] holds the encoders and decoders of image tokenizers.

pub mod conv;
