//! Encoders and decoders of image tokenizers: pictures to a small grid of latents and back.
//!
//! One configuration, two families: [`CompactConfig`] for the small models that are trained here, [`VqGanConfig`] for the
//! layout of the published VQ-GAN family.

pub mod blocks;
pub mod causal;
pub mod cells;
mod compact;
mod ready;
mod vq_gan;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ravel_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use compact::{
    CompactConfig, CompactDecoder, CompactEncoder, ResidualBlock, kaiming_convolution,
};
pub use ready::{HELD, ReadyDecoder};
pub use vq_gan::{VqGanConfig, VqGanDecoder, VqGanEncoder};

/// Which encoder and decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "arch", rename_all = "kebab-case")]
pub enum AutoencoderConfig {
    /// Residual convolutions without norm between pixel shuffles.
    Compact(CompactConfig),
    /// The VQ-GAN family: residual blocks with group norm, attention at some grids.
    VqGan(VqGanConfig),
}

impl AutoencoderConfig {
    /// Pixels a side that one latent stands for.
    pub fn stride(&self) -> usize {
        match self {
            Self::Compact(config) => config.stride(),
            Self::VqGan(config) => config.stride(),
        }
    }

    /// Checks that a picture of `size` pixels a side has a whole number of latents.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn validate(&self, size: usize) -> Result<()> {
        match self {
            Self::Compact(config) => config.validate()?,
            Self::VqGan(config) => config.validate()?,
        }
        let stride = self.stride();
        if size == 0 || !size.is_multiple_of(stride) {
            return Err(Error::Config {
                field: "size".into(),
                found: size.to_string(),
                expected: format!("a multiple of {stride}, the pixels of one latent"),
            });
        }
        Ok(())
    }

    /// Checks that latents can have `code_width` numbers.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing brings the encoder's channels to that width.
    pub fn check_width(&self, code_width: usize) -> Result<()> {
        match self {
            Self::VqGan(config) if config.code_kernel == 0 && config.z_channels != code_width => {
                Err(Error::Config {
                    field: "codebook.width".into(),
                    found: code_width.to_string(),
                    expected: format!("{}, as z-channels", config.z_channels),
                })
            }
            _ => Ok(()),
        }
    }

    /// Numbers that key tables of published checkpoints may name: `last`, the number of the last level, and `deepest`, the channels
    /// there.
    pub fn key_variables(&self) -> Vec<(&'static str, usize)> {
        match self {
            Self::Compact(_) => Vec::new(),
            Self::VqGan(config) => {
                let deepest = config.multiples.last().copied().unwrap_or_default();
                vec![
                    ("last", config.multiples.len().saturating_sub(1)),
                    ("deepest", deepest * config.channels),
                ]
            }
        }
    }

    /// An encoder to, and a decoder from, latents of `code_width` numbers.
    pub fn init(&self, code_width: usize, device: &Device) -> (Encoder, Decoder) {
        match self {
            Self::Compact(config) => (
                Encoder::Compact(config.init_encoder(code_width, device)),
                Decoder::Compact(config.init_decoder(code_width, device)),
            ),
            Self::VqGan(config) => (
                Encoder::VqGan(config.init_encoder(code_width, device)),
                Decoder::VqGan(config.init_decoder(code_width, device)),
            ),
        }
    }
}

/// Pictures to latents.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // One per model.
pub enum Encoder {
    /// See [`CompactConfig`].
    Compact(CompactEncoder),
    /// See [`VqGanConfig`].
    VqGan(VqGanEncoder),
}

impl Encoder {
    /// # Shapes
    /// - `pixels`: `[b, 3, height, width]`
    /// - returns: `[b, code_width, height / stride, width / stride]`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Compact(encoder) => encoder.forward(pixels),
            Self::VqGan(encoder) => encoder.forward(pixels),
        }
    }
}

/// Latents to pictures.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // One per model.
pub enum Decoder {
    /// See [`CompactConfig`].
    Compact(CompactDecoder),
    /// See [`VqGanConfig`].
    VqGan(VqGanDecoder),
}

impl Decoder {
    /// # Shapes
    /// - `latents`: `[b, code_width, h, w]`
    /// - returns: `[b, 3, h * stride, w * stride]`, not clamped
    pub fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Compact(decoder) => decoder.forward(latents),
            Self::VqGan(decoder) => decoder.forward(latents),
        }
    }
}

/// Cells of `factor` by `factor` pixels become channels.
///
/// # Shapes
/// - `grid`: `[b, c, h * factor, w * factor]`
/// - returns: `[b, c * factor * factor, h, w]`
pub fn pixel_unshuffle(grid: Tensor<4>, factor: usize) -> Tensor<4> {
    let [batch, channels, height, width] = grid.dims();
    let (rows, columns) = (height / factor, width / factor);
    grid.reshape([batch, channels, rows, factor, columns, factor])
        .permute([0, 1, 3, 5, 2, 4])
        .reshape([batch, channels * factor * factor, rows, columns])
}

/// The inverse of [`pixel_unshuffle`].
///
/// # Shapes
/// - `grid`: `[b, c * factor * factor, h, w]`
/// - returns: `[b, c, h * factor, w * factor]`
pub fn pixel_shuffle(grid: Tensor<4>, factor: usize) -> Tensor<4> {
    let [batch, channels, rows, columns] = grid.dims();
    let channels = channels / (factor * factor);
    grid.reshape([batch, channels, factor, factor, rows, columns])
        .permute([0, 1, 4, 2, 5, 3])
        .reshape([batch, channels, rows * factor, columns * factor])
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{assert_close, device, formula, values};

    use super::*;

    #[test]
    fn shuffling_undoes_unshuffling() {
        let grid: Tensor<4> = formula([2, 3, 8, 4], 1, 1.0, &device());
        let back = pixel_shuffle(pixel_unshuffle(grid.clone(), 2), 2);
        assert_close("grid", &back, &grid, 0.0);
        let cell = pixel_unshuffle(
            Tensor::from_data([[[[1.0, 2.0], [3.0, 4.0]]]], &device()),
            2,
        );
        assert_eq!(values(&cell), [1.0, 2.0, 3.0, 4.0]);
    }
}
