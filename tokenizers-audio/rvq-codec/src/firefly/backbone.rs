//! The encoder: ConvNeXt stages, wider from one to the next, at the mels' own frame rate.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ravel_core::Result;
use ravel_nn::wave::{ConvNext, ConvNextConfig, Fit, PadKind, WaveConv, WaveConvConfig};
use ravel_nn::{Norm, NormConfig, NormKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{counts, turned, wrong};

/// ε of the norms.
const EPSILON: f64 = 1e-6;
/// Frames that the first convolution sees, whatever the blocks' kernel.
const STEM_KERNEL: usize = 7;
pub(super) const CAUSAL: Fit = Fit::Causal(PadKind::Zero);

/// What fixes the encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FireflyBackboneConfig {
    /// Mel bands.
    pub channels: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Channels of each stage.
    pub widths: Vec<usize>,
    /// Frames that a block's convolution sees.
    pub kernel: usize,
}

impl Default for FireflyBackboneConfig {
    fn default() -> Self {
        Self {
            channels: 160,
            depths: vec![3, 3, 9, 3],
            widths: vec![128, 256, 384, 512],
            kernel: 7,
        }
    }
}

impl FireflyBackboneConfig {
    pub(super) fn validate(&self) -> Result<()> {
        counts(&[
            ("backbone.channels", self.channels),
            ("backbone.kernel", self.kernel),
        ])?;
        if self.depths.is_empty() || self.depths.len() != self.widths.len() {
            let expected = format!(
                "a list of {}, as `backbone.widths`",
                self.widths.len().max(1)
            );
            return wrong(
                "backbone.depths",
                format!("a list of {}", self.depths.len()),
                &expected,
            );
        }
        if self.depths.iter().any(|&depth| depth > 256) {
            return wrong(
                "backbone.depths",
                format!("{:?}", self.depths),
                "256 at most each",
            );
        }
        for &width in &self.widths {
            counts(&[("backbone.widths", width)])?;
        }
        Ok(())
    }

    /// A fresh encoder.
    pub fn init(&self, device: &Device) -> FireflyBackbone {
        let first = self.widths[0];
        let widen = self.widths.windows(2).map(|pair| Widen {
            norm: norm(pair[0], device),
            conv: WaveConvConfig::new(pair[0], pair[1], 1, CAUSAL).init(device),
        });
        let block = |channels| {
            ConvNextConfig {
                channels,
                kernel: self.kernel,
                fit: CAUSAL,
            }
            .init(device)
        };
        let stages = self.widths.iter().zip(&self.depths);
        FireflyBackbone {
            stem: WaveConvConfig::new(self.channels, first, STEM_KERNEL, CAUSAL).init(device),
            stem_norm: norm(first, device),
            widen: widen.collect(),
            stages: stages
                .map(|(&width, &depth)| Stage {
                    blocks: (0..depth).map(|_| block(width)).collect(),
                })
                .collect(),
            norm: norm(self.widths[self.widths.len() - 1], device),
        }
    }
}

fn norm(width: usize, device: &Device) -> Norm {
    NormConfig {
        kind: NormKind::Layer,
        eps: EPSILON,
    }
    .init(width, device)
}

/// Mels to features.
#[derive(Module, Debug)]
pub struct FireflyBackbone {
    /// Mels to the first stage's channels.
    pub stem: WaveConv,
    /// After it.
    pub stem_norm: Norm,
    /// Before each further stage.
    pub widen: Vec<Widen>,
    /// First to last.
    pub stages: Vec<Stage>,
    /// At the end.
    pub norm: Norm,
}

/// A norm and a product at each position.
#[derive(Module, Debug)]
pub struct Widen {
    /// Over the channels.
    pub norm: Norm,
    /// To the next stage's channels.
    pub conv: WaveConv,
}

/// Blocks of one width.
#[derive(Module, Debug)]
pub struct Stage {
    /// First to last.
    pub blocks: Vec<ConvNext>,
}

impl FireflyBackbone {
    /// # Shapes
    /// - `mels`: `[b, channels, frames]`
    /// - returns: `[b, last of widths, frames]`
    pub fn forward(&self, mels: Tensor<3>) -> Tensor<3> {
        let mut x = over_channels(&self.stem_norm, self.stem.forward(mels));
        for (at, stage) in self.stages.iter().enumerate() {
            if let Some(widen) = at.checked_sub(1).map(|before| &self.widen[before]) {
                x = widen.conv.forward(over_channels(&widen.norm, x));
            }
            x = stage.blocks.iter().fold(x, |x, block| block.forward(x));
        }
        over_channels(&self.norm, x)
    }
}

fn over_channels(norm: &Norm, x: Tensor<3>) -> Tensor<3> {
    turned(norm.forward(turned(x)))
}
