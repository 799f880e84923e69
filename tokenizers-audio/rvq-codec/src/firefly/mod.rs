//! Fish-Speech's firefly codec (Liao et al. 2024, section 3.2): a log-mel front end and a ConvNeXt encoder, grouped finite scalar
//! quantization at a quarter of the frame rate, and a HiFi-GAN head (Kong et al. 2020). All convolutions are causal.

mod backbone;
mod grouped;
mod head;
mod mel;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ravel_core::{CodeSpec, Codes, Layout, Result, SoundSpec, SoundTokenizer, Tokenizer, Waveform};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{filled_up, sequence, wrong};

pub use backbone::{FireflyBackbone, FireflyBackboneConfig};
pub use grouped::{GroupedFsq, GroupedFsqConfig, GroupedQuantized};
pub use head::{FireflyHead, FireflyHeadConfig};
pub use mel::{LogMel, LogMelConfig};

/// What fixes the codec. The defaults are those of `firefly-gan-vq-fsq-8x1024-21hz`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FireflyConfig {
    /// The front end.
    pub mel: LogMelConfig,
    /// Mels to features.
    pub backbone: FireflyBackboneConfig,
    /// Features to codes and back.
    pub quantizer: GroupedFsqConfig,
    /// Features to sound.
    pub head: FireflyHeadConfig,
}

impl FireflyConfig {
    /// # Errors
    /// [`ravel_core::Error::Config`] names the field that no codec can be built from.
    pub fn validate(&self) -> Result<()> {
        self.mel.validate()?;
        self.backbone.validate()?;
        self.quantizer.validate()?;
        self.head.validate()?;
        let agree = |field: &str, found: usize, expected: usize, of: &str| match found == expected {
            true => Ok(()),
            false => wrong(field, found, &format!("{expected}, `{of}`")),
        };
        let features = self.backbone.widths.last().copied().unwrap_or(0);
        let quantizer = self.quantizer.width;
        agree(
            "backbone.channels",
            self.backbone.channels,
            self.mel.mels,
            "mel.mels",
        )?;
        agree(
            "quantizer.width",
            quantizer,
            features,
            "the last of backbone.widths",
        )?;
        agree(
            "head.channels",
            self.head.channels,
            quantizer,
            "quantizer.width",
        )?;
        agree("head.strides", self.head.hop(), self.mel.hop, "mel.hop")
    }

    /// Samples of one frame of codes.
    pub fn hop(&self) -> usize {
        self.mel.hop * self.quantizer.factor()
    }

    /// A codec with random weights.
    pub fn init(&self, device: &Device) -> Firefly {
        Firefly {
            backbone: self.backbone.init(device),
            quantizer: self.quantizer.init(device),
            head: self.head.init(device),
        }
    }

    /// What the codes look like.
    pub fn spec(&self) -> SoundSpec {
        SoundSpec {
            codes: CodeSpec {
                codebook_size: self.quantizer.levels.iter().product(),
                code_width: self.quantizer.levels.len(),
                depth: self.quantizer.groups * self.quantizer.depth,
            },
            sample_rate_hz: self.mel.sample_rate_hz,
            channels: 1,
            hop: self.hop(),
        }
    }
}

/// The weights.
#[derive(Module, Debug)]
pub struct Firefly {
    /// Mels to features.
    pub backbone: FireflyBackbone,
    /// Features to codes and back.
    pub quantizer: GroupedFsq,
    /// Features to sound.
    pub head: FireflyHead,
}

/// The codec as the rest of Ravel sees it.
#[derive(Debug)]
pub struct FireflyTokenizer {
    module: Firefly,
    mel: LogMel,
    spec: SoundSpec,
}

impl FireflyTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: Firefly, config: &FireflyConfig, device: &Device) -> Self {
        Self {
            module,
            mel: config.mel.init(device),
            spec: config.spec(),
        }
    }

    /// The weights.
    pub fn module(&self) -> &Firefly {
        &self.module
    }

    /// The front end.
    pub fn mel(&self) -> &LogMel {
        &self.mel
    }

    /// Features of sound.
    ///
    /// # Shapes
    /// - `samples`: `[b, 1, t]`
    /// - returns: `[b, width, t / mel.hop]`
    pub fn features(&self, samples: Tensor<3>) -> Tensor<3> {
        self.module.backbone.forward(self.mel.forward(samples))
    }
}

impl Tokenizer for FireflyTokenizer {
    type Signal = Waveform;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    /// Sound is filled up with zeros to whole frames of codes.
    fn encode(&self, signal: Waveform) -> Result<Codes> {
        self.spec.check(&signal)?;
        let samples = filled_up(signal.samples, self.spec.hop);
        let ids = self.module.quantizer.ids(self.features(samples));
        let layout = Layout::Sequence { len: ids.dims()[2] };
        Ok(Codes { ids, layout })
    }

    /// All groups are needed: codes of fewer are refused.
    fn decode(&self, codes: &Codes) -> Result<Waveform> {
        sequence(codes, &self.spec)?;
        let depth = self.spec.codes.depth;
        codes.check_ids(depth..=depth, self.spec.codes.codebook_size)?;
        let features = self.module.quantizer.vectors(codes.ids.clone());
        Ok(Waveform {
            samples: self.module.head.forward(features),
            sample_rate_hz: self.spec.sample_rate_hz,
        })
    }
}

impl SoundTokenizer for FireflyTokenizer {
    fn sound_spec(&self) -> &SoundSpec {
        &self.spec
    }
}
