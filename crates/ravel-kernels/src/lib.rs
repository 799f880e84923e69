//! The few operations that burn lacks or runs slowly on the CPU.
//!
//! Everything here is an ordinary function on tensors that says whether it can serve: a tensor on another device, of
//! another type, or one that gradients flow through gets nothing back, and its caller goes burn's way. Inside are plain functions
//! over slices, written once over sixteen lanes and compiled for each set of instructions ([`isa`]), shared out to threads by
//! [`pool`], and tested against the plain path without a tensor.
//!
//! - [`linear`], [`gated`], [`normed`]: what a decoding step spends its time on, with weights as they are or [`Packed`] in
//!   half precision, eight or four bits.
//! - [`conv`], [`norm`]: decoders of pictures, channels last from the latents to the pixels.
//! - [`tracked`]: what training spends its time on, with gradients, in `bf16`.
//! - [`shifts`]: what a video tokenizer moves pixels by.
//! - [`gpu`]: products with weights of eight or four bits on a GPU.
//! - [`attention`]: from the product with query, key and value weights to joined heads, over a memory that stays in place.
//!
//! A result depends neither on the number of threads nor on what else is in the batch: every output number is one sum in a fixed
//! order, computed by one thread.

// Tensors that cannot be served are given back as they came, and they are large.
#![allow(clippy::result_large_err, clippy::large_enum_variant)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod attend;
pub mod blocks;
pub mod conv;
pub mod gpu;
pub mod isa;
pub mod machine;
pub mod norm;
pub mod pool;
pub mod product;
pub mod random;
pub mod row_norm;
pub mod shifts;
pub mod tensor;
pub mod tiles;
pub mod tracked;

mod attention;
mod curve;
mod halves;
mod linear;
mod lines;
mod packed;
mod stream;

pub use attention::{HeadNorm, Step, Turn, attention};
pub use curve::Curve;
pub use linear::{Norm, Then, Weight, gated, linear, normed};
pub use packed::{Packed, WeightsType};
