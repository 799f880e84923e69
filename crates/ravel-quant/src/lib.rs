//! Quantizers: continuous latents in, ids of a codebook out, and back.
//!
//! [`VectorQuantizer`] has a learned codebook that follows the encoder by [`EmaState`]; 
//! [`MultiscaleQuantizer`] codes an image from
//! coarse to fine.

mod ema;
mod multiscale;
mod resize;
mod usage;
mod vector;

pub use ema::{EmaConfig, EmaState};
pub use multiscale::{MultiscaleConfig, MultiscaleQuantized, MultiscaleQuantizer};
pub use resize::{area_down, bicubic_up};
pub use usage::CodebookHealth;
pub use vector::{Quantized, VectorConfig, VectorQuantizer, straight_through};
