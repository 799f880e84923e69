//! A small autoencoder for small pictures: pixel shuffles for most of the size change, residual 3×3 convolutions
//! without norm between them, so that nearly all time goes into matrix products.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use ravel_core::{Error, Result};
use ravel_kernels::Curve;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ready::{Maker, Residual, Step};
use super::{pixel_shuffle, pixel_unshuffle};

/// Most channels of a level: beyond it a typing mistake would fill the memory.
const WIDEST: usize = 4096;
/// Most residual blocks of a level.
const DEEPEST: usize = 256;

/// Widths and depths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CompactConfig {
    /// Pixels a side that the first step folds into channels.
    pub patch: usize,
    /// Channels of the encoder's levels, finest first; each further level halves the grid.
    pub encoder: Vec<usize>,
    /// Channels of the decoder's levels, coarsest first.
    pub decoder: Vec<usize>,
    /// Residual blocks of each encoder level, finest first.
    pub encoder_blocks: Vec<usize>,
    /// Residual blocks of each decoder level, coarsest first.
    pub decoder_blocks: Vec<usize>,
}

impl CompactConfig {
    pub(super) fn stride(&self) -> usize {
        self.patch << (self.encoder.len().max(1) - 1)
    }

    pub(super) fn validate(&self) -> Result<()> {
        let levels = self.encoder.len();
        let wrong = |field: &str, found: usize| {
            Err(Error::Config {
                field: field.into(),
                found: format!("a list of {found}"),
                expected: format!("a list of {levels}, one for each level of `encoder`"),
            })
        };
        if self.patch == 0
            || levels == 0
            || self.encoder.iter().chain(&self.decoder).any(|&w| w == 0)
        {
            return Err(Error::Config {
                field: "patch, encoder, decoder".into(),
                found: "zero or none".into(),
                expected: "numbers of at least 1".into(),
            });
        }
        let blocks = self.encoder_blocks.iter().chain(&self.decoder_blocks);
        let most = |field: &str, found: usize, most: usize| {
            Err(Error::Config {
                field: field.into(),
                found: found.to_string(),
                expected: format!("{most} at most"),
            })
        };
        if let Some(&wide) = self
            .encoder
            .iter()
            .chain(&self.decoder)
            .find(|&&w| w > WIDEST)
        {
            return most("encoder, decoder", wide, WIDEST);
        }
        if let Some(&many) = blocks.clone().find(|&&blocks| blocks > DEEPEST) {
            return most("encoder-blocks, decoder-blocks", many, DEEPEST);
        }
        if self.patch > WIDEST {
            return most("patch", self.patch, WIDEST);
        }
        if self.decoder.len() != levels {
            return wrong("decoder", self.decoder.len());
        }
        if self.encoder_blocks.len() != levels {
            return wrong("encoder-blocks", self.encoder_blocks.len());
        }
        if self.decoder_blocks.len() != levels {
            return wrong("decoder-blocks", self.decoder_blocks.len());
        }
        Ok(())
    }

    pub(super) fn init_encoder(&self, code_width: usize, device: &Device) -> CompactEncoder {
        let mut channels = 3 * self.patch * self.patch;
        let mut stride = 1;
        let levels = self
            .encoder
            .iter()
            .zip(&self.encoder_blocks)
            .map(|(&width, &blocks)| {
                let level = Level {
                    enter: kaiming_convolution(channels, width, 3, stride, device),
                    blocks: (0..blocks)
                        .map(|_| ResidualBlock::new(width, device))
                        .collect(),
                };
                (channels, stride) = (width, 2);
                level
            });
        let levels = levels.collect();
        CompactEncoder {
            levels,
            out: kaiming_convolution(channels, code_width, 1, 1, device),
            patch: self.patch,
        }
    }

    pub(super) fn init_decoder(&self, code_width: usize, device: &Device) -> CompactDecoder {
        let mut channels = code_width;
        let (mut grow, mut kernel) = (1, 3);
        let levels = self
            .decoder
            .iter()
            .zip(&self.decoder_blocks)
            .map(|(&width, &blocks)| {
                let level = Level {
                    enter: kaiming_convolution(channels, width * grow, kernel, 1, device),
                    blocks: (0..blocks)
                        .map(|_| ResidualBlock::new(width, device))
                        .collect(),
                };
                // A cell grows into four by itself; the blocks after it look around.
                (channels, grow, kernel) = (width, 4, 1);
                level
            });
        let levels = levels.collect();
        CompactDecoder {
            levels,
            out: kaiming_convolution(channels, 3 * self.patch * self.patch, 3, 1, device),
            patch: self.patch,
        }
    }
}

/// A square convolution that keeps the size where `stride` is 1 (odd kernels), its fresh weights from a normal distribution of
/// variance 1 / inputs.
pub fn kaiming_convolution(
    from: usize,
    to: usize,
    kernel: usize,
    stride: usize,
    device: &Device,
) -> Conv2d {
    let around = kernel / 2;
    Conv2dConfig::new([from, to], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(around, around, around, around))
        .with_initializer(Initializer::KaimingNormal {
            gain: 1.0,
            fan_out_only: false,
        })
        .init(device)
}

/// One grid size: a convolution that enters it and the blocks in it.
#[derive(Module, Debug)]
struct Level {
    enter: Conv2d,
    blocks: Vec<ResidualBlock>,
}

/// `x + conv(relu(conv(relu(x))))`, the identity at first.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    first: Conv2d,
    second: Conv2d,
}

impl ResidualBlock {
    /// A block of `width` channels.
    pub fn new(width: usize, device: &Device) -> Self {
        let mut second = kaiming_convolution(width, width, 3, 1, device);
        // A block begins as the identity, so that deep stacks learn from the first step.
        second.weight = Param::from_tensor(Tensor::zeros([width, width, 3, 3], device));
        Self {
            first: kaiming_convolution(width, width, 3, 1, device),
            second,
        }
    }

    /// # Shapes
    /// - `grid`: `[b, width, rows, columns]`
    /// - returns: like `grid`
    pub fn forward(&self, grid: Tensor<4>) -> Tensor<4> {
        let inner = self.first.forward(relu(grid.clone()));
        grid + self.second.forward(relu(inner))
    }
}

/// Pictures to latents.
#[derive(Module, Debug)]
pub struct CompactEncoder {
    levels: Vec<Level>,
    out: Conv2d,
    #[module(skip)]
    patch: usize,
}

impl CompactEncoder {
    pub(super) fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let mut grid = pixel_unshuffle(pixels, self.patch);
        for level in &self.levels {
            grid = level.enter.forward(grid);
            for block in &level.blocks {
                grid = block.forward(grid);
            }
        }
        self.out.forward(relu(grid))
    }
}

/// Latents to pictures.
#[derive(Module, Debug)]
pub struct CompactDecoder {
    levels: Vec<Level>,
    out: Conv2d,
    #[module(skip)]
    patch: usize,
}

impl CompactDecoder {
    pub(super) fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let mut grid = latents;
        for (at, level) in self.levels.iter().enumerate() {
            grid = level.enter.forward(grid);
            if at > 0 {
                grid = pixel_shuffle(grid, 2);
            }
            for block in &level.blocks {
                grid = block.forward(grid);
            }
        }
        pixel_shuffle(self.out.forward(relu(grid)), self.patch)
    }

    /// The layers for the kernels, and the side of the cells that the last one's channels are.
    pub(super) fn lay_out(&self, to: &mut Maker) -> usize {
        for (at, level) in self.levels.iter().enumerate() {
            to.push(Step::Conv(to.conv(&level.enter)));
            if at > 0 {
                to.push(Step::Shuffle);
            }
            for block in &level.blocks {
                to.push(Step::Residual(Residual {
                    norms: [None, None],
                    curve: Curve::Relu,
                    convs: [to.conv(&block.first), to.conv(&block.second)],
                    shortcut: None,
                }));
            }
        }
        to.push(Step::Bent(None, Curve::Relu, to.conv(&self.out)));
        self.patch
    }
}
