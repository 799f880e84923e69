//! Quantizers: continuous latents in, ids of a codebook out, and back.
//!
//! [`VectorQuantizer`] has a learned codebook that follows the encoder by [`EmaState`]; [`FiniteQuantizer`] and
//! [`BinaryQuantizer`] round each number and have none. [`ResidualQuantizer`] and [`ResidualFiniteQuantizer`] code what the
//! quantizers before left over; [`FactorizedQuantizer`] searches in a narrow projection; [`MultiscaleQuantizer`] codes from coarse
//! to fine over an image, and [`MultiscaleBinaryQuantizer`] with bits.

mod binary;
mod channel_norm;
mod ema;
mod factorized;
mod finite;
mod multiscale;
mod multiscale_binary;
mod residual;
mod resize;
mod usage;
mod vector;

pub use binary::{BinaryQuantizer, Entropy};
pub use channel_norm::ChannelNorm;
pub use ema::{EmaConfig, EmaState};
pub use factorized::{FactorizedConfig, FactorizedQuantizer};
pub use finite::{Bound, FiniteQuantizer, Rounded};
pub use multiscale::{MultiscaleConfig, MultiscaleQuantized, MultiscaleQuantizer};
pub use multiscale_binary::{MultiscaleBinaryConfig, MultiscaleBinaryQuantizer, MultiscaleBits};
pub use residual::{ResidualConfig, ResidualFiniteQuantizer, ResidualQuantized, ResidualQuantizer};
pub use resize::{area_down, area_down_3d, bicubic_up, trilinear_up};
pub use usage::CodebookHealth;
pub use vector::{Quantized, VectorConfig, VectorQuantizer, straight_through};
