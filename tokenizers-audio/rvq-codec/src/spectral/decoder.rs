//! Latents to spectra.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use ravel_nn::wave::{
    ConvNext, ConvNextConfig, ConvNextState, Fit, PadKind, Piece, WaveConv, WaveConvConfig,
    WaveConvState,
};
use ravel_nn::{Norm, NormConfig, NormKind, init};

use super::SpectralConfig;

/// Samples that a convolution sees.
const KERNEL: usize = 7;
/// ε of the norm.
const EPSILON: f64 = 1e-6;
/// The largest log-magnitude, so that no frame is beyond all bounds (Vocos clips magnitudes at 100).
const LOUDEST: f64 = 4.6;

const CAUSAL: Fit = Fit::Causal(PadKind::Zero);

/// Latents to spectra.
#[derive(Module, Debug)]
pub struct SpectralDecoder {
    /// Latents to channels.
    pub conv_in: WaveConv,
    /// To the rate of spectra.
    pub up: WaveConv,
    /// At that rate.
    pub blocks: Vec<ConvNext>,
    /// Over the channels.
    pub norm: Norm,
    /// `[decoder_width, 2 bins]`: log-magnitudes, then phases.
    pub out: Linear,
}

/// What the decoder remembers between pieces.
#[derive(Debug, Clone)]
pub struct SpectralDecoderState {
    conv_in: WaveConvState,
    up: WaveConvState,
    blocks: Vec<ConvNextState>,
}

impl SpectralDecoder {
    /// Random weights.
    pub fn new(config: &SpectralConfig, device: &Device) -> Self {
        let (width, spread) = (config.decoder_width, config.spread());
        let block = ConvNextConfig {
            channels: width,
            kernel: KERNEL,
            fit: CAUSAL,
        };
        let up = WaveConvConfig {
            stride: spread,
            ..WaveConvConfig::new(
                width,
                width,
                spread,
                Fit::causal_transposed(spread, spread, 1.0),
            )
        };
        let norm = NormConfig {
            kind: NormKind::Layer,
            eps: EPSILON,
        };
        let bins = config.transform().bins();
        Self {
            conv_in: WaveConvConfig::new(config.code_width, width, KERNEL, CAUSAL).init(device),
            up: up.init(device),
            blocks: (0..config.decoder_blocks)
                .map(|_| block.init(device))
                .collect(),
            norm: norm.init(width, device),
            out: init::linear(width, 2 * bins, true, init::STD, device),
        }
    }

    /// # Shapes
    /// - `latents`: `[b, code_width, n]`
    /// - returns: `[b, n spread, 2 bins]`, real parts, then imaginary parts
    pub fn forward(&self, latents: Tensor<3>) -> Tensor<3> {
        let inner = self.up.forward(self.conv_in.forward(latents));
        let inner = self
            .blocks
            .iter()
            .fold(inner, |inner, block| block.forward(inner));
        self.spectra(inner)
    }

    /// The state before the first piece.
    pub fn start(&self) -> SpectralDecoderState {
        SpectralDecoderState {
            conv_in: self.conv_in.start(),
            up: self.up.start(),
            blocks: self.blocks.iter().map(ConvNext::start).collect(),
        }
    }

    /// [`SpectralDecoder::forward`] in pieces.
    pub fn step(&self, latents: Piece, last: bool, state: &mut SpectralDecoderState) -> Piece {
        let inner = self.conv_in.step(latents, last, &mut state.conv_in);
        let inner = self.up.step(inner, last, &mut state.up);
        let blocks = self.blocks.iter().zip(&mut state.blocks);
        let inner = blocks.fold(inner, |inner, (block, state)| {
            block.step(inner, last, state)
        });
        inner.map(|inner| self.spectra(inner))
    }

    fn spectra(&self, inner: Tensor<3>) -> Tensor<3> {
        let both = self.out.forward(self.norm.forward(inner.swap_dims(1, 2)));
        let bins = both.dims()[2] / 2;
        let magnitudes = both.clone().narrow(2, 0, bins).clamp_max(LOUDEST).exp();
        let phases = both.narrow(2, bins, bins);
        let real = magnitudes.clone() * phases.clone().cos();
        Tensor::cat(vec![real, magnitudes * phases.sin()], 2)
    }
}
