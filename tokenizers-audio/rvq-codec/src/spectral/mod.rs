//! A compact causal codec that writes spectra: log-mels, ConvNeXt blocks and residual codebooks on the way in; ConvNeXt blocks and an
//! inverse short-time transform on the way out.
//!
//! The way out is Vocos' (Siuzdak 2023, sections 3.2 and 3.3): each frame is given as log-magnitudes and phases. Everything is causal:
//! a frame of codes knows the samples up to its own end, and what it writes ends there too, so that codes can be decoded as
//! they come; only the last `window - hop` samples wait for the frame after them.

mod decoder;
mod encoder;
mod stream;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::{
    CodeSpec, Codes, Layout, Result, SoundSpec, SoundTokenizer, Streaming, Tokenizer, Waveform,
};
use ravel_nn::wave::{ShortTime, ShortTimeConfig};
use ravel_quant::{ResidualConfig, ResidualQuantizer, VectorConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{counts, filled_up, ratios, sequence, turned, wrong};

pub use decoder::{SpectralDecoder, SpectralDecoderState};
pub use encoder::{CausalMel, CausalMelState, SpectralEncoder, SpectralEncoderState};

/// What fixes the codec. The defaults are 25 frames a second at 16 kHz, 900 bits a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SpectralConfig {
    /// Samples in a second.
    pub sample_rate_hz: u32,
    /// Mel bands that the encoder sees.
    pub mels: usize,
    /// Samples from one frame of mels to the next; each sees twice as many.
    pub mel_hop: usize,
    /// Channels of the encoder.
    pub encoder_width: usize,
    /// Its ConvNeXt blocks.
    pub encoder_blocks: usize,
    /// Frames of mels in a frame of codes.
    pub stride: usize,
    /// Numbers that a frame of codes stands for.
    pub code_width: usize,
    /// Codebooks.
    pub depth: usize,
    /// Ids of each.
    pub codebook_size: usize,
    /// Channels of the decoder.
    pub decoder_width: usize,
    /// Its ConvNeXt blocks.
    pub decoder_blocks: usize,
    /// Samples of a frame that the decoder writes.
    pub window: usize,
    /// Samples from one such frame to the next.
    pub hop: usize,
}

impl Default for SpectralConfig {
    fn default() -> Self {
        Self {
            sample_rate_hz: 16_000,
            mels: 80,
            mel_hop: 320,
            encoder_width: 128,
            encoder_blocks: 2,
            stride: 2,
            code_width: 24,
            depth: 4,
            codebook_size: 512,
            decoder_width: 192,
            decoder_blocks: 4,
            window: 640,
            hop: 160,
        }
    }
}

impl SpectralConfig {
    /// # Errors
    /// [`ravel_core::Error::Config`] names the field that no codec can be built from.
    pub fn validate(&self) -> Result<()> {
        counts(&[
            ("sample-rate-hz", self.sample_rate_hz as usize),
            ("mels", self.mels),
            ("encoder-width", self.encoder_width),
            ("code-width", self.code_width),
            ("depth", self.depth),
            ("codebook-size", self.codebook_size),
            ("decoder-width", self.decoder_width),
        ])?;
        for (field, found) in [
            ("encoder-blocks", self.encoder_blocks),
            ("decoder-blocks", self.decoder_blocks),
        ] {
            if found > 256 {
                return wrong(field, found, "256 at most");
            }
        }
        ratios("mel-hop and stride", &[self.mel_hop, self.stride])?;
        self.mel_transform().validate("mel-hop")?;
        self.transform().validate("window and hop")?;
        match self.frame_hop().is_multiple_of(self.hop) {
            true => Ok(()),
            false => wrong(
                "hop",
                self.hop,
                &format!(
                    "a divisor of {}, `mel-hop` times `stride`",
                    self.frame_hop()
                ),
            ),
        }
    }

    /// Samples of one frame of codes.
    pub fn frame_hop(&self) -> usize {
        self.mel_hop * self.stride
    }

    /// Frames that the decoder writes for one of codes.
    fn spread(&self) -> usize {
        self.frame_hop() / self.hop
    }

    /// The transform behind the mels.
    pub fn mel_transform(&self) -> ShortTimeConfig {
        ShortTimeConfig {
            window: 2 * self.mel_hop,
            hop: self.mel_hop,
        }
    }

    /// The transform that the decoder writes for.
    pub fn transform(&self) -> ShortTimeConfig {
        ShortTimeConfig {
            window: self.window,
            hop: self.hop,
        }
    }

    /// A codec with random weights.
    pub fn init(&self, device: &Device) -> Spectral {
        let quantizer = ResidualConfig {
            depth: self.depth,
            codebook: VectorConfig {
                codebook_size: self.codebook_size,
                width: self.code_width,
                l2_normalize: false,
            },
        };
        Spectral {
            encoder: SpectralEncoder::new(self, device),
            quantizer: quantizer.init(device),
            decoder: SpectralDecoder::new(self, device),
        }
    }

    /// What the codes look like.
    pub fn spec(&self) -> SoundSpec {
        SoundSpec {
            codes: CodeSpec {
                codebook_size: self.codebook_size,
                code_width: self.code_width,
                depth: self.depth,
            },
            sample_rate_hz: self.sample_rate_hz,
            channels: 1,
            hop: self.frame_hop(),
        }
    }

    /// The tables beside the weights.
    pub fn tables(&self, device: &Device) -> SpectralTables {
        SpectralTables {
            mel: CausalMel::new(self, device),
            transform: self.transform().init(device),
        }
    }
}

/// The weights.
#[derive(Module, Debug)]
pub struct Spectral {
    /// Mels to latents.
    pub encoder: SpectralEncoder,
    /// Latents to codes and back.
    pub quantizer: ResidualQuantizer,
    /// Latents to spectra.
    pub decoder: SpectralDecoder,
}

/// What is computed, not learned.
#[derive(Debug, Clone)]
pub struct SpectralTables {
    /// Sound to mels.
    pub mel: CausalMel,
    /// Spectra to sound.
    pub transform: ShortTime,
}

/// Sound there and back, with all that losses and moving means need.
#[derive(Debug)]
pub struct SoundTrainingOutput {
    /// The sound, `[b, 1, t]`.
    pub samples: Tensor<3>,
    /// Pulls latents to their code vectors, `[1]`; absent while the quantizer is off.
    pub commitment: Option<Tensor<1>>,
    /// What each codebook was asked for, `[n, d]`, with the ids that it gave, `[n]`, outside the graph; empty while it is off.
    pub groups: Vec<(Tensor<2>, Tensor<1, Int>)>,
}

impl Spectral {
    /// Latents of sound of whole frames.
    ///
    /// # Shapes
    /// - `samples`: `[b, 1, t]`
    /// - returns: `[b, code_width, t / frame_hop]`
    pub fn latents(&self, samples: Tensor<3>, tables: &SpectralTables) -> Tensor<3> {
        self.encoder.forward(tables.mel.forward(samples))
    }

    /// The sound of latents, quantized or not.
    ///
    /// # Shapes
    /// - `latents`: `[b, code_width, n]`
    /// - returns: `[b, 1, n frame_hop]`
    pub fn sound(&self, latents: Tensor<3>, tables: &SpectralTables) -> Tensor<3> {
        tables.transform.whole(self.decoder.forward(latents))
    }

    /// There and back, as a trainer needs it.
    ///
    /// # Shapes
    /// - `samples`: `[b, 1, t]`, whole frames
    pub fn forward(
        &self,
        samples: Tensor<3>,
        tables: &SpectralTables,
        quantize: bool,
    ) -> SoundTrainingOutput {
        let latents = self.latents(samples, tables);
        if !quantize {
            return SoundTrainingOutput {
                samples: self.sound(latents, tables),
                commitment: None,
                groups: Vec::new(),
            };
        }
        let depth = self.quantizer.codebooks.len();
        let quantized = self.quantizer.quantize(turned(latents), depth);
        let groups = quantized.residuals.into_iter().enumerate();
        let groups = groups.map(|(at, residual)| {
            let [batch, n, width] = residual.dims();
            let ids = quantized.ids.clone().narrow(1, at, 1);
            let plain = match residual.is_autodiff() {
                true => residual.inner(),
                false => residual,
            };
            (plain.reshape([batch * n, width]), ids.reshape([batch * n]))
        });
        SoundTrainingOutput {
            groups: groups.collect(),
            samples: self.sound(turned(quantized.vectors), tables),
            commitment: Some(quantized.commitment),
        }
    }
}

/// The codec as the rest of Ravel sees it.
#[derive(Debug)]
pub struct SpectralTokenizer {
    module: Spectral,
    tables: SpectralTables,
    spec: SoundSpec,
}

impl SpectralTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: Spectral, config: &SpectralConfig, device: &Device) -> Self {
        Self {
            module,
            tables: config.tables(device),
            spec: config.spec(),
        }
    }

    /// The weights.
    pub fn module(&self) -> &Spectral {
        &self.module
    }

    fn waveform(&self, samples: Tensor<3>) -> Waveform {
        Waveform {
            samples: samples.clamp(-1.0, 1.0),
            sample_rate_hz: self.spec.sample_rate_hz,
        }
    }

    fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        turned(self.module.quantizer.vectors(ids))
    }

    fn device(&self) -> Device {
        self.module.quantizer.codebooks[0].codebook.val().device()
    }
}

impl Tokenizer for SpectralTokenizer {
    type Signal = Waveform;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    /// Sound is filled up with zeros to whole frames.
    fn encode(&self, signal: Waveform) -> Result<Codes> {
        self.spec.check(&signal)?;
        let samples = filled_up(signal.samples, self.spec.hop);
        let latents = self.module.latents(samples, &self.tables);
        let ids = self.module.quantizer.ids(turned(latents));
        let layout = Layout::Sequence { len: ids.dims()[2] };
        Ok(Codes { ids, layout })
    }

    /// Codes of the first codebooks alone give coarser sound.
    fn decode(&self, codes: &Codes) -> Result<Waveform> {
        sequence(codes, &self.spec)?;
        let latents = self.vectors(codes.ids.clone());
        Ok(self.waveform(self.module.sound(latents, &self.tables)))
    }
}

impl SoundTokenizer for SpectralTokenizer {
    fn sound_spec(&self) -> &SoundSpec {
        &self.spec
    }

    fn streaming(&self) -> Option<&dyn Streaming<Signal = Waveform>> {
        Some(self)
    }
}
