//! Sound to latents.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ravel_nn::wave::{
    ConvNext, ConvNextConfig, ConvNextState, Fit, PadKind, Piece, ShortTime, WaveConv,
    WaveConvConfig, WaveConvState, joined, pad_time,
};

use super::SpectralConfig;
use crate::LogMelConfig;

/// Samples that a convolution sees.
const KERNEL: usize = 7;
/// Added to squared magnitudes.
const LEAST_POWER: f64 = 1e-9;
/// The smallest mel.
const LEAST_MEL: f64 = 1e-5;

const CAUSAL: Fit = Fit::Causal(PadKind::Zero);

/// Log-mels of frames that end with the samples that have come.
#[derive(Debug, Clone)]
pub struct CausalMel {
    transform: ShortTime,
    bank: Tensor<2>,
}

/// Samples that frames to come need.
#[derive(Debug, Clone, Default)]
pub struct CausalMelState {
    kept: Piece,
    begun: bool,
}

impl CausalMel {
    /// The tables.
    pub fn new(config: &SpectralConfig, device: &Device) -> Self {
        let transform = config.mel_transform();
        let mel = LogMelConfig {
            sample_rate_hz: config.sample_rate_hz,
            points: transform.window,
            window: transform.window,
            hop: transform.hop,
            mels: config.mels,
            ..LogMelConfig::default()
        };
        Self {
            transform: transform.init(device),
            bank: mel.init(device).bank,
        }
    }

    /// # Shapes
    /// - `samples`: `[b, 1, t]`
    /// - returns: `[b, mels, t / mel_hop]`
    pub fn forward(&self, samples: Tensor<3>) -> Tensor<3> {
        self.framed(pad_time(samples, self.before(), 0, PadKind::Zero))
    }

    /// The mels that these samples complete.
    pub fn step(&self, samples: Piece, state: &mut CausalMelState) -> Piece {
        let samples = samples?;
        let samples = match state.begun {
            true => samples,
            false => pad_time(samples, self.before(), 0, PadKind::Zero),
        };
        state.begun = true;
        let all = joined(state.kept.take(), Some(samples))?;
        let [batch, _, time] = all.dims();
        let (window, hop) = (self.transform.config().window, self.transform.config().hop);
        let frames = match time.checked_sub(window) {
            Some(rest) => rest / hop + 1,
            None => 0,
        };
        state.kept = Some(all.clone().slice([0..batch, 0..1, frames * hop..time]));
        (frames > 0).then(|| {
            let end = (frames - 1) * hop + window;
            self.framed(all.slice([0..batch, 0..1, 0..end]))
        })
    }

    fn before(&self) -> usize {
        self.transform.config().window - self.transform.config().hop
    }

    fn framed(&self, padded: Tensor<3>) -> Tensor<3> {
        let magnitudes = self.transform.magnitudes(padded, LEAST_POWER);
        let mels = magnitudes.matmul(self.bank.clone().unsqueeze());
        mels.clamp_min(LEAST_MEL).log().swap_dims(1, 2)
    }
}

/// Mels to latents.
#[derive(Module, Debug)]
pub struct SpectralEncoder {
    /// Mels to channels.
    pub conv_in: WaveConv,
    /// At the mels' rate.
    pub blocks: Vec<ConvNext>,
    /// To the codes' rate.
    pub down: WaveConv,
    /// Channels to latents.
    pub conv_out: WaveConv,
}

/// What the encoder remembers between pieces.
#[derive(Debug, Clone)]
pub struct SpectralEncoderState {
    conv_in: WaveConvState,
    blocks: Vec<ConvNextState>,
    down: WaveConvState,
    conv_out: WaveConvState,
}

impl SpectralEncoder {
    /// Random weights.
    pub fn new(config: &SpectralConfig, device: &Device) -> Self {
        let (width, stride) = (config.encoder_width, config.stride);
        let block = ConvNextConfig {
            channels: width,
            kernel: KERNEL,
            fit: CAUSAL,
        };
        let down = WaveConvConfig {
            stride,
            ..WaveConvConfig::new(width, width, 2 * stride, CAUSAL)
        };
        Self {
            conv_in: WaveConvConfig::new(config.mels, width, KERNEL, CAUSAL).init(device),
            blocks: (0..config.encoder_blocks)
                .map(|_| block.init(device))
                .collect(),
            down: down.init(device),
            conv_out: WaveConvConfig::new(width, config.code_width, 1, CAUSAL).init(device),
        }
    }

    /// # Shapes
    /// - `mels`: `[b, mels, n stride]`
    /// - returns: `[b, code_width, n]`
    pub fn forward(&self, mels: Tensor<3>) -> Tensor<3> {
        let inner = self.conv_in.forward(mels);
        let inner = self
            .blocks
            .iter()
            .fold(inner, |inner, block| block.forward(inner));
        self.conv_out.forward(self.down.forward(inner))
    }

    /// The state before the first piece.
    pub fn start(&self) -> SpectralEncoderState {
        SpectralEncoderState {
            conv_in: self.conv_in.start(),
            blocks: self.blocks.iter().map(ConvNext::start).collect(),
            down: self.down.start(),
            conv_out: self.conv_out.start(),
        }
    }

    /// As [`WaveConv::step`].
    pub fn step(&self, mels: Piece, last: bool, state: &mut SpectralEncoderState) -> Piece {
        let inner = self.conv_in.step(mels, last, &mut state.conv_in);
        let blocks = self.blocks.iter().zip(&mut state.blocks);
        let inner = blocks.fold(inner, |inner, (block, state)| {
            block.step(inner, last, state)
        });
        let inner = self.down.step(inner, last, &mut state.down);
        self.conv_out.step(inner, last, &mut state.conv_out)
    }
}
