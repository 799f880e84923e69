//! The encoder and decoder that DAC (Kumar et al. 2023, section 3.1) and SNAC (Siuzdak et al. 2024, section 3) share:
//! residual units with snake activations between strided convolutions.
//!
//! Layers lie in lists in the published order, so that a published name needs only its leaf renamed.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::conv::{Fit, WaveConv, WaveConvConfig};
use super::noise::NoiseSource;
use super::snake::Snake;
use super::window::WindowAttention;

/// Samples that the convolutions of a residual unit see, before dilation.
const UNIT_KERNEL: usize = 7;
/// Dilations of a block's residual units.
const UNIT_DILATIONS: [usize; 3] = [1, 3, 9];

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnakeVariant {
    /// DAC: a snake before the encoder's last convolution; an odd stride's transposed convolution writes one sample less.
    Dac,
    /// SNAC.
    Snac {
        /// Whether wide convolutions stay within a channel.
        depthwise: bool,
        /// Whether the decoder adds noise.
        noise: bool,
        /// Frames of an attention window, if there is attention.
        attention_window: Option<usize>,
    },
}

/// What fixes encoder and decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnakeNetConfig {
    /// Channels after the encoder's first convolution; each block doubles them.
    pub encoder_width: usize,
    /// Strides of the encoder's blocks.
    pub encoder_strides: Vec<usize>,
    /// Channels of the latents.
    pub latent_width: usize,
    /// Channels after the decoder's first convolution; each block halves them.
    pub decoder_width: usize,
    /// Strides of the decoder's blocks.
    pub decoder_strides: Vec<usize>,
    /// Which family.
    pub variant: SnakeVariant,
}

/// Layers one after another.
#[derive(Module, Debug)]
pub struct SnakeStack {
    /// First to last.
    pub layers: Vec<SnakeLayer>,
}

/// One layer.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // Most are convolutions.
pub enum SnakeLayer {
    /// A convolution in either direction.
    Conv(WaveConv),
    /// The activation.
    Snake(Snake),
    /// Layers within.
    Stack(SnakeStack),
    /// Layers whose result is added to their input.
    Unit(SnakeStack),
    /// Noise times a product of the input, added to it.
    Noise(WaveConv),
    /// Attention in windows.
    Attention(WindowAttention),
}

/// Sound to latents.
#[derive(Module, Debug)]
pub struct SnakeEncoder {
    /// All layers.
    pub block: SnakeStack,
}

/// Latents to sound.
#[derive(Module, Debug)]
pub struct SnakeDecoder {
    /// All layers but the `tanh` at the end.
    pub model: SnakeStack,
}

impl SnakeEncoder {
    /// # Shapes
    /// - `samples`: `[b, 1, t]`
    /// - returns: `[b, latent_width, frames]`
    pub fn forward(&self, samples: Tensor<3>) -> Tensor<3> {
        self.block.forward(samples, &mut Silent)
    }
}

impl SnakeDecoder {
    /// # Shapes
    /// - `latents`: `[b, latent_width, frames]`
    /// - returns: `[b, 1, t]`, in `-1..1`
    pub fn forward(&self, latents: Tensor<3>, noise: &mut dyn NoiseSource) -> Tensor<3> {
        self.model.forward(latents, noise).tanh()
    }
}

/// For stacks without noise.
struct Silent;

impl NoiseSource for Silent {
    fn next(&mut self, _: usize, _: usize, _: &Device) -> Tensor<3> {
        unreachable!("only decoders add noise")
    }
}

impl SnakeStack {
    fn forward(&self, x: Tensor<3>, noise: &mut dyn NoiseSource) -> Tensor<3> {
        let layers = self.layers.iter();
        layers.fold(x, |x, layer| layer.forward(x, noise))
    }
}

impl SnakeLayer {
    fn forward(&self, x: Tensor<3>, noise: &mut dyn NoiseSource) -> Tensor<3> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Snake(snake) => snake.forward(x),
            Self::Stack(stack) => stack.forward(x, noise),
            Self::Unit(stack) => x.clone() + stack.forward(x, noise),
            Self::Noise(product) => {
                let [batch, _, time] = x.dims();
                let drawn = noise.next(batch, time, &x.device());
                x.clone() + product.forward(x) * drawn
            }
            Self::Attention(attention) => attention.forward(x),
        }
    }
}

impl SnakeNetConfig {
    /// Channels after the encoder's last block.
    pub fn deepest_width(&self) -> usize {
        self.encoder_width << self.encoder_strides.len()
    }

    /// A fresh encoder.
    pub fn init_encoder(&self, device: &Device) -> SnakeEncoder {
        let mut width = self.encoder_width;
        let mut layers = vec![wide(1, width, 1, device)];
        for &stride in &self.encoder_strides {
            let mut block = self.units(width, device);
            let conv = WaveConvConfig {
                stride,
                ..WaveConvConfig::new(width, 2 * width, 2 * stride, Fit::Even(stride.div_ceil(2)))
            };
            block.push(SnakeLayer::Snake(Snake::new(width, device)));
            block.push(SnakeLayer::Conv(conv.init(device)));
            layers.push(SnakeLayer::Stack(SnakeStack { layers: block }));
            width *= 2;
        }
        match self.variant {
            SnakeVariant::Dac => {
                let last = WaveConvConfig::new(width, self.latent_width, 3, Fit::Even(1));
                layers.push(SnakeLayer::Snake(Snake::new(width, device)));
                layers.push(SnakeLayer::Conv(last.init(device)));
            }
            SnakeVariant::Snac { .. } => {
                layers.extend(self.attention(width, device));
                layers.push(wide(width, width, self.groups(width), device));
            }
        }
        SnakeEncoder {
            block: SnakeStack { layers },
        }
    }

    /// A fresh decoder.
    pub fn init_decoder(&self, device: &Device) -> SnakeDecoder {
        let (latent, mut width) = (self.latent_width, self.decoder_width);
        let mut layers = match self.groups(latent) {
            1 => vec![wide(latent, width, 1, device)],
            groups => vec![
                wide(latent, latent, groups, device),
                SnakeLayer::Conv(point(latent, width, true, device)),
            ],
        };
        layers.extend(self.attention(width, device));
        for &stride in &self.decoder_strides {
            let block = self.decoder_block(width, stride, device);
            layers.push(SnakeLayer::Stack(SnakeStack { layers: block }));
            width /= 2;
        }
        layers.push(SnakeLayer::Snake(Snake::new(width, device)));
        layers.push(wide(width, 1, 1, device));
        SnakeDecoder {
            model: SnakeStack { layers },
        }
    }

    fn decoder_block(&self, width: usize, stride: usize, device: &Device) -> Vec<SnakeLayer> {
        let (odd, noise) = match self.variant {
            SnakeVariant::Dac => (0, false),
            SnakeVariant::Snac { noise, .. } => (stride % 2, noise),
        };
        let fit = Fit::padded_transposed(stride.div_ceil(2), odd);
        let conv = WaveConvConfig {
            stride,
            ..WaveConvConfig::new(width, width / 2, 2 * stride, fit)
        };
        let mut block = vec![
            SnakeLayer::Snake(Snake::new(width, device)),
            SnakeLayer::Conv(conv.init(device)),
        ];
        if noise {
            block.push(SnakeLayer::Noise(point(
                width / 2,
                width / 2,
                false,
                device,
            )));
        }
        block.extend(self.units(width / 2, device));
        block
    }

    fn units(&self, width: usize, device: &Device) -> Vec<SnakeLayer> {
        let unit = |dilation| {
            let reach = (UNIT_KERNEL - 1) * dilation;
            let conv = WaveConvConfig {
                dilation,
                groups: self.groups(width),
                ..WaveConvConfig::new(width, width, UNIT_KERNEL, Fit::Even(reach / 2))
            };
            SnakeLayer::Unit(SnakeStack {
                layers: vec![
                    SnakeLayer::Snake(Snake::new(width, device)),
                    SnakeLayer::Conv(conv.init(device)),
                    SnakeLayer::Snake(Snake::new(width, device)),
                    SnakeLayer::Conv(point(width, width, true, device)),
                ],
            })
        };
        UNIT_DILATIONS.into_iter().map(unit).collect()
    }

    fn attention(&self, width: usize, device: &Device) -> Option<SnakeLayer> {
        match self.variant {
            SnakeVariant::Snac {
                attention_window: Some(window),
                ..
            } => Some(SnakeLayer::Attention(WindowAttention::new(
                width, window, device,
            ))),
            _ => None,
        }
    }

    /// Groups of a wide convolution over `width` channels.
    fn groups(&self, width: usize) -> usize {
        match self.variant {
            SnakeVariant::Snac {
                depthwise: true, ..
            } => width,
            _ => 1,
        }
    }
}

/// A convolution that sees seven samples.
fn wide(from: usize, to: usize, groups: usize, device: &Device) -> SnakeLayer {
    let conv = WaveConvConfig {
        groups,
        ..WaveConvConfig::new(from, to, UNIT_KERNEL, Fit::Even(UNIT_KERNEL / 2))
    };
    SnakeLayer::Conv(conv.init(device))
}

/// A product at each position.
fn point(from: usize, to: usize, bias: bool, device: &Device) -> WaveConv {
    WaveConvConfig {
        bias,
        ..WaveConvConfig::new(from, to, 1, Fit::Even(0))
    }
    .init(device)
}
