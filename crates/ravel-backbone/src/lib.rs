//! The shared transformer, its configuration and its state.
//!
//! [`TransformerConfig`] says which transformer; [`Transformer`] runs whole sequences while training
//! ([`Transformer::forward`]) and step by step with memory while generating ([`ravel_core::Backbone::step`]).

mod config;
mod encoder;
mod transformer;

pub use config::TransformerConfig;
pub use encoder::{TextEncoder, TextEncoderConfig};
pub use transformer::{Block, Transformer};
