//! Products with weights of eight or four bits on a GPU, which burn multiplies by at full width only.
//!
//! Compiled with the feature `gpu`; without it [`Blocks`] cannot be made and nothing here runs.

#[cfg(feature = "gpu")]
mod blocks;
#[cfg(feature = "gpu")]
mod kernel;
#[cfg(not(feature = "gpu"))]
mod none;

#[cfg(feature = "gpu")]
pub use blocks::Blocks;
#[cfg(not(feature = "gpu"))]
pub use none::Blocks;

#[cfg(all(test, feature = "gpu"))]
mod tests;
