//! Quantizers: continuous latents in, ids of a codebook out, and back.
//!
//! [`VectorQuantizer`] has a learned codebook that follows the encoder by [`EmaState`]; [`FiniteQuantizer`] and
//! [`BinaryQuantizer`] round each number and have none. [`ResidualQuantizer`] and [`ResidualFiniteQuantizer`] code what the
//! quantizers before left over; [`MultiscaleQuantizer`] does so from coarse to fine over an image.

mod binary;
mod ema;
mod finite;
mod multiscale;
mod residual;
mod resize;
mod usage;
mod vector;

pub use binary::{BinaryQuantizer, Entropy};
pub use ema::{EmaConfig, EmaState};
pub use finite::{Bound, FiniteQuantizer, Rounded};
pub use multiscale::{MultiscaleConfig, MultiscaleQuantized, MultiscaleQuantizer};
pub use residual::{ResidualConfig, ResidualFiniteQuantizer, ResidualQuantized, ResidualQuantizer};
pub use resize::{area_down, bicubic_up};
pub use usage::CodebookHealth;
pub use vector::{Quantized, VectorConfig, VectorQuantizer, straight_through};
