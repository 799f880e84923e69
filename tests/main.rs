//! The program from outside: what it prints, writes and refuses, and the trainer that made its models.

mod bad_input;
mod bench;
mod bits;
mod codecs;
mod command;
mod continued;
mod exact;
#[cfg(feature = "gpu")]
mod gpu;
mod latents;
#[path = "../crates/ravel-hub/tests/common/mod.rs"]
mod mirror;
mod mistakes;
mod models;
mod moving;
mod picture;
mod published;
mod speak;
mod speak_clone;
mod speak_parts;
mod spoken;
mod studio;
mod text;
mod training;
mod video;
mod visual;
