//! Mimi, the streaming codec of Moshi (Défossez et al. 2024, section 3.3): causal SEANet, a transformer with a window on either
//! side of the codebooks, and a first group of codebooks that is kept apart for meaning.

mod quantizer;
mod stream;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{
    Attend, CodeSpec, Codes, Condition, Layout, Result, SoundSpec, SoundTokenizer, StepInput,
    Streaming, Tokenizer, Waveform,
};
use ravel_nn::wave::{Fit, PadKind, WaveConv, WaveConvConfig};
use ravel_nn::{Activation, NormKind, Pairs, RotaryConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{counts, sequence, turned, wrong};
use crate::{Seanet, SeanetConfig};

pub use quantizer::MimiQuantizer;

/// Stride of the convolutions between the transformers and the codebooks.
const FRAME_STRIDE: usize = 2;

/// What fixes the codec. The defaults are those of the published one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MimiConfig {
    /// Samples in a second.
    pub sample_rate_hz: u32,
    /// Encoder and decoder.
    pub seanet: SeanetConfig,
    /// The transformers between them and the codebooks.
    pub transformer: MimiTransformerConfig,
    /// Samples that the convolutions to and from half the frame rate see; none halves it if unset.
    pub frame_kernel: Option<usize>,
    /// Groups of the convolution that doubles the frame rate again.
    pub upsample_groups: usize,
    /// Codebooks.
    pub depth: usize,
    /// Of those, the first ones that are quantized by themselves.
    pub semantic_depth: usize,
    /// Ids in each.
    pub codebook_size: usize,
    /// Numbers in one row.
    pub code_width: usize,
    /// Codebooks that encoding uses; all if unset.
    pub encode_depth: Option<usize>,
}

/// What fixes a transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MimiTransformerConfig {
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Numbers in one head.
    pub head_width: usize,
    /// Width between the products of a feed-forward layer.
    pub d_ff: usize,
    /// Curve between them.
    pub activation: Activation,
    /// ε of the norms.
    pub norm_eps: f64,
    /// Base of the rotary waves.
    pub rotary_base: f64,
    /// A frame sees the latest so many, itself included, if set.
    pub window: Option<usize>,
    /// Whether attention's projections add biases.
    pub attention_bias: bool,
}

impl Default for MimiTransformerConfig {
    fn default() -> Self {
        Self {
            layers: 8,
            n_heads: 8,
            n_kv_heads: 8,
            head_width: 64,
            d_ff: 2048,
            activation: Activation::Gelu,
            norm_eps: 1e-5,
            rotary_base: 10_000.0,
            window: Some(250),
            attention_bias: false,
        }
    }
}

impl Default for MimiConfig {
    fn default() -> Self {
        Self {
            sample_rate_hz: 24_000,
            seanet: SeanetConfig {
                width: 512,
                filters: 64,
                ratios: vec![8, 6, 5, 4],
                last_kernel: 3,
                shortcut: false,
                lstm_layers: 0,
                pad: PadKind::Zero,
                ..SeanetConfig::default()
            },
            transformer: MimiTransformerConfig::default(),
            frame_kernel: Some(4),
            upsample_groups: 512,
            depth: 32,
            semantic_depth: 1,
            codebook_size: 2048,
            code_width: 256,
            encode_depth: None,
        }
    }
}

impl MimiConfig {
    /// # Errors
    /// [`ravel_core::Error::Config`] names the field that no codec can be built from.
    pub fn validate(&self) -> Result<()> {
        self.seanet.validate()?;
        self.transformer(self.seanet.width).validate()?;
        counts(&[
            ("sample-rate-hz", self.sample_rate_hz as usize),
            ("upsample-groups", self.upsample_groups),
            ("depth", self.depth),
            ("semantic-depth", self.semantic_depth),
            ("codebook-size", self.codebook_size),
            ("code-width", self.code_width),
            ("frame-kernel", self.frame_kernel.unwrap_or(1)),
        ])?;
        if self.semantic_depth > self.depth {
            let expected = format!("1 to {}, `depth`", self.depth);
            return wrong("semantic-depth", self.semantic_depth, &expected);
        }
        if !self.seanet.width.is_multiple_of(self.upsample_groups) {
            let expected = format!("a divisor of {}, `seanet.width`", self.seanet.width);
            return wrong("upsample-groups", self.upsample_groups, &expected);
        }
        if self
            .frame_kernel
            .is_some_and(|kernel| kernel < FRAME_STRIDE)
        {
            let found = self.frame_kernel.unwrap_or_default();
            return wrong("frame-kernel", found, &format!("at least {FRAME_STRIDE}"));
        }
        let depths = self.semantic_depth..=self.depth;
        if self
            .encode_depth
            .is_some_and(|depth| !depths.contains(&depth))
        {
            let found = self.encode_depth.unwrap_or_default();
            let expected = format!("{} to {}", self.semantic_depth, self.depth);
            return wrong("encode-depth", found, &expected);
        }
        Ok(())
    }

    /// Samples of one frame.
    pub fn hop(&self) -> usize {
        self.seanet.hop() * self.frame_kernel.map_or(1, |_| FRAME_STRIDE)
    }

    fn transformer(&self, d_model: usize) -> TransformerConfig {
        let MimiTransformerConfig {
            layers,
            n_heads,
            n_kv_heads,
            head_width,
            d_ff,
            activation,
            norm_eps,
            rotary_base,
            window,
            attention_bias,
        } = self.transformer;
        TransformerConfig {
            layers,
            d_model,
            n_heads,
            n_kv_heads: Some(n_kv_heads),
            head_width: Some(head_width),
            d_ff: Some(d_ff),
            norm: NormKind::Layer,
            norm_eps,
            activation,
            rotary: Some(RotaryConfig {
                base: rotary_base,
                pairs: Pairs::HalfSplit,
                ..RotaryConfig::default()
            }),
            bias: attention_bias,
            feed_forward_bias: Some(false),
            layer_scale: true,
            final_norm: false,
            window,
            ..TransformerConfig::default()
        }
    }

    /// A codec with random weights.
    pub fn init(&self, device: &Device) -> Mimi {
        let width = self.seanet.width;
        let transformer = self.transformer(width);
        let frames = |fit, groups, kernel| WaveConvConfig {
            stride: FRAME_STRIDE,
            groups,
            bias: false,
            ..WaveConvConfig::new(width, width, kernel, fit)
        };
        let down = match self.seanet.causal {
            true => Fit::Causal(PadKind::Replicate),
            false => Fit::Centered(PadKind::Replicate),
        };
        let up = |kernel| self.seanet.transposed_fit(kernel, FRAME_STRIDE);
        Mimi {
            encoder: self.seanet.init_encoder(device),
            encoder_transformer: transformer.init(device),
            downsample: self
                .frame_kernel
                .map(|kernel| frames(down, 1, kernel).init(device)),
            quantizer: MimiQuantizer::new(self, device),
            upsample: self
                .frame_kernel
                .map(|kernel| frames(up(kernel), self.upsample_groups, kernel).init(device)),
            decoder_transformer: transformer.init(device),
            decoder: self.seanet.init_decoder(device),
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
            channels: self.seanet.channels,
            hop: self.hop(),
        }
    }
}

/// The weights.
#[derive(Module, Debug)]
pub struct Mimi {
    /// Sound to latents.
    pub encoder: Seanet,
    /// Over the latents.
    pub encoder_transformer: Transformer,
    /// To half the frame rate.
    pub downsample: Option<WaveConv>,
    /// The codebooks.
    pub quantizer: MimiQuantizer,
    /// Back from half the frame rate.
    pub upsample: Option<WaveConv>,
    /// Over what the codes stand for.
    pub decoder_transformer: Transformer,
    /// Latents to sound.
    pub decoder: Seanet,
}

impl Mimi {
    /// The encoder's transformer, without memory.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    /// - returns: like `latents`
    pub fn encoder_context(&self, latents: Tensor<3>) -> Tensor<3> {
        in_context(&self.encoder_transformer, latents)
    }

    /// The decoder's transformer, without memory.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    /// - returns: like `latents`
    pub fn decoder_context(&self, latents: Tensor<3>) -> Tensor<3> {
        in_context(&self.decoder_transformer, latents)
    }

    /// Latents at the codebooks' frame rate.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    /// - returns: `[b, width, fewer frames]`
    pub fn downsampled(&self, latents: Tensor<3>) -> Tensor<3> {
        match &self.downsample {
            Some(conv) => conv.forward(latents),
            None => latents,
        }
    }

    /// Latents at the convolutions' frame rate.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    /// - returns: `[b, width, more frames]`
    pub fn upsampled(&self, latents: Tensor<3>) -> Tensor<3> {
        match &self.upsample {
            Some(conv) => conv.forward(latents),
            None => latents,
        }
    }
}

fn in_context(transformer: &Transformer, latents: Tensor<3>) -> Tensor<3> {
    let input = step_input(latents, 0);
    turned(transformer.forward(input, &Condition::default()))
}

/// Frames `[b, width, n]` that follow `past` ones.
fn step_input(latents: Tensor<3>, past: usize) -> StepInput {
    let [_, _, frames] = latents.dims();
    let positions = past as i64..(past + frames) as i64;
    StepInput {
        coords: Tensor::<1, Int>::arange(positions, &latents.device()).unsqueeze_dim(1),
        embedded: turned(latents),
        attend: Attend::Causal,
    }
}

/// The codec as the rest of Ravel sees it.
#[derive(Debug)]
pub struct MimiTokenizer {
    module: Mimi,
    quantizer: quantizer::Split,
    spec: SoundSpec,
    encode_depth: usize,
    causal: bool,
}

impl MimiTokenizer {
    /// Weights with the configuration that they were made for.
    pub fn new(module: Mimi, config: &MimiConfig) -> Self {
        Self {
            quantizer: module.quantizer.split(),
            module,
            spec: config.spec(),
            encode_depth: config.encode_depth.unwrap_or(config.depth),
            causal: config.seanet.causal,
        }
    }

    /// The weights.
    pub fn module(&self) -> &Mimi {
        &self.module
    }

    /// Ids by the first `depth` codebooks.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    /// - returns: `[b, depth, frames]`
    ///
    /// # Panics
    /// If `depth` is below the count of semantic codebooks or above that of all.
    pub fn ids(&self, latents: Tensor<3>, depth: usize) -> Tensor<3, Int> {
        self.quantizer.ids(turned(latents), depth)
    }

    /// What ids stand for.
    ///
    /// # Shapes
    /// - `ids`: `[b, depth, frames]`
    /// - returns: `[b, width, frames]`
    pub fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        turned(self.quantizer.vectors(ids))
    }

    /// The sound of what ids stand for.
    ///
    /// # Shapes
    /// - `latents`: `[b, width, frames]`
    /// - returns: `[b, channels, t]`
    pub fn decode_latents(&self, latents: Tensor<3>) -> Tensor<3> {
        let latents = self.module.upsampled(latents);
        let latents = self.module.decoder_context(latents);
        self.module.decoder.forward(latents)
    }

    fn waveform(&self, samples: Tensor<3>) -> Waveform {
        Waveform {
            samples,
            sample_rate_hz: self.spec.sample_rate_hz,
        }
    }
}

impl Tokenizer for MimiTokenizer {
    type Signal = Waveform;

    fn spec(&self) -> &CodeSpec {
        &self.spec.codes
    }

    fn encode(&self, signal: Waveform) -> Result<Codes> {
        self.spec.check(&signal)?;
        let latents = self.module.encoder.forward(signal.samples);
        let latents = self.module.encoder_context(latents);
        let ids = self.ids(self.module.downsampled(latents), self.encode_depth);
        let layout = Layout::Sequence { len: ids.dims()[2] };
        Ok(Codes { ids, layout })
    }

    fn decode(&self, codes: &Codes) -> Result<Waveform> {
        sequence(codes, &self.spec)?;
        let latents = self.vectors(codes.ids.clone());
        Ok(self.waveform(self.decode_latents(latents)))
    }
}

impl SoundTokenizer for MimiTokenizer {
    fn sound_spec(&self) -> &SoundSpec {
        &self.spec
    }

    fn streaming(&self) -> Option<&dyn Streaming<Signal = Waveform>> {
        self.causal.then_some(self as _)
    }
}
