//! Mimi (Défossez et al. 2024), the codec of Moshi and CSM.
//!
//! Published: `kyutai/mimi`, as the transformers library writes it.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_weights::{Checkpoint, KeyTable, load};
use rvq_codec::{Mimi, MimiConfig, MimiTokenizer, MimiTransformerConfig, SeanetConfig};
use serde::Deserialize;

use crate::encodec::pad_kind;
use crate::hub::activation;
use crate::{FamilyError, refused, within};

const FAMILY: &str = "mimi";
const KEYS: &str = include_str!("../keys/mimi.keys.toml");

/// What `config.json` holds; the published values where a key is absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Samples in a second.
    pub sampling_rate: u32,
    /// Frames of codes in a second; half the convolutions' rate if unset.
    #[serde(alias = "_frame_rate")]
    pub frame_rate: Option<f64>,
    /// Channels.
    pub audio_channels: usize,
    /// Channels of the latents.
    pub hidden_size: usize,
    /// Channels at the sound's own rate.
    pub num_filters: usize,
    /// Residual blocks before each stride.
    pub num_residual_layers: usize,
    /// Strides of the decoder.
    pub upsampling_ratios: Vec<usize>,
    /// Samples that the first convolution sees.
    pub kernel_size: usize,
    /// Samples that the last convolution sees.
    pub last_kernel_size: usize,
    /// Samples that a residual block sees.
    pub residual_kernel_size: usize,
    /// Dilation of a residual block over that of the one before.
    pub dilation_growth_rate: usize,
    /// Whether no frame depends on a later sample.
    pub use_causal_conv: bool,
    /// `reflect`, `constant` or `replicate`.
    pub pad_mode: String,
    /// By how much residual blocks narrow their channels.
    pub compress: usize,
    /// Share of transposed convolutions' surplus that is taken off the right.
    pub trim_right_ratio: f64,
    /// Ids in each codebook.
    pub codebook_size: usize,
    /// Numbers in one row; `hidden_size` if unset.
    pub codebook_dim: Option<usize>,
    /// Codebooks.
    pub num_quantizers: usize,
    /// Whether the way around a residual block is a convolution.
    pub use_conv_shortcut: bool,
    /// Width of the projected latents.
    pub vector_quantization_hidden_dimension: usize,
    /// The first codebooks.
    pub num_semantic_quantizers: usize,
    /// Groups of the convolution that doubles the frame rate.
    pub upsample_groups: usize,
    /// Blocks of each transformer.
    pub num_hidden_layers: usize,
    /// Width between the products of a feed-forward layer.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Numbers in one head; `hidden_size / num_attention_heads` if unset.
    pub head_dim: Option<usize>,
    /// Curve of the feed-forward layers.
    pub hidden_act: String,
    /// ε of the norms.
    pub norm_eps: f64,
    /// Base of the rotary waves.
    pub rope_theta: f64,
    /// A frame sees the latest so many.
    pub sliding_window: Option<usize>,
    /// Whether attention's projections add biases.
    pub attention_bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sampling_rate: 24_000,
            frame_rate: None,
            audio_channels: 1,
            hidden_size: 512,
            num_filters: 64,
            num_residual_layers: 1,
            upsampling_ratios: vec![8, 6, 5, 4],
            kernel_size: 7,
            last_kernel_size: 3,
            residual_kernel_size: 3,
            dilation_growth_rate: 2,
            use_causal_conv: true,
            pad_mode: "constant".into(),
            compress: 2,
            trim_right_ratio: 1.0,
            codebook_size: 2048,
            codebook_dim: Some(256),
            num_quantizers: 32,
            use_conv_shortcut: false,
            vector_quantization_hidden_dimension: 256,
            num_semantic_quantizers: 1,
            upsample_groups: 512,
            num_hidden_layers: 8,
            intermediate_size: 2048,
            num_attention_heads: 8,
            num_key_value_heads: 8,
            head_dim: None,
            hidden_act: "gelu".into(),
            norm_eps: 1e-5,
            rope_theta: 10_000.0,
            sliding_window: Some(250),
            attention_bias: false,
        }
    }
}

impl Config {
    /// The codec.
    ///
    /// # Errors
    /// [`FamilyError::Part`] for padding or a curve that is not known, or sizes that do not fit.
    pub fn tokenizer(&self) -> Result<MimiConfig, FamilyError> {
        let activation = activation(FAMILY, "hidden_act", &self.hidden_act)?;
        let code_width = self.codebook_dim.unwrap_or(self.hidden_size);
        if code_width != self.vector_quantization_hidden_dimension {
            let expected = format!(
                "{}, vector_quantization_hidden_dimension",
                self.vector_quantization_hidden_dimension
            );
            return Err(refused(
                FAMILY,
                "codebook_dim",
                &code_width.to_string(),
                &expected,
            ));
        }
        let heads = self.num_attention_heads.max(1);
        let config = MimiConfig {
            sample_rate_hz: self.sampling_rate,
            seanet: SeanetConfig {
                channels: self.audio_channels,
                width: self.hidden_size,
                filters: self.num_filters,
                ratios: self.upsampling_ratios.clone(),
                residual_layers: self.num_residual_layers,
                kernel: self.kernel_size,
                last_kernel: self.last_kernel_size,
                residual_kernel: self.residual_kernel_size,
                dilation_growth: self.dilation_growth_rate,
                compress: self.compress,
                shortcut: self.use_conv_shortcut,
                lstm_layers: 0,
                causal: self.use_causal_conv,
                pad: pad_kind(FAMILY, &self.pad_mode)?,
                trim_right_ratio: self.trim_right_ratio,
                time_norm: false,
            },
            transformer: MimiTransformerConfig {
                layers: self.num_hidden_layers,
                n_heads: self.num_attention_heads,
                n_kv_heads: self.num_key_value_heads,
                head_width: self.head_dim.unwrap_or(self.hidden_size / heads),
                d_ff: self.intermediate_size,
                activation,
                norm_eps: self.norm_eps,
                rotary_base: self.rope_theta,
                window: self.sliding_window,
                attention_bias: self.attention_bias,
            },
            frame_kernel: self.frame_kernel(),
            upsample_groups: self.upsample_groups,
            depth: self.num_quantizers,
            semantic_depth: self.num_semantic_quantizers,
            codebook_size: self.codebook_size,
            code_width,
            encode_depth: None,
        };
        config.validate().map_err(|source| FamilyError::Part {
            family: FAMILY,
            source,
        })?;
        Ok(config)
    }

    /// Twice the whole ratio of the convolutions' frame rate to the codes', where they differ.
    fn frame_kernel(&self) -> Option<usize> {
        let hop = self.upsampling_ratios.iter().product::<usize>().max(1);
        let convolutions = (self.sampling_rate as usize).div_ceil(hop) as f64;
        let halved = f64::from(self.sampling_rate) / (2 * hop) as f64;
        let codes = self.frame_rate.unwrap_or(halved);
        let ratio = (convolutions / codes) as usize;
        (codes != convolutions).then_some(2 * ratio)
    }

    /// Builds the codec from weights under their published names.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(
        &self,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<MimiTokenizer, FamilyError> {
        let config = self.tokenizer()?;
        Ok(MimiTokenizer::new(
            module(&config, checkpoint, device)?,
            &config,
        ))
    }
}

/// The weights of a codec under their published names, alone or below `codec_model.` in a file of CSM.
///
/// # Errors
/// [`FamilyError::Weights`] if they do not fit.
pub fn module(
    config: &MimiConfig,
    checkpoint: Checkpoint,
    device: &Device,
) -> Result<Mimi, FamilyError> {
    let table = KeyTable::parse("mimi.keys.toml", KEYS)?;
    let checkpoint = within(checkpoint, "codec_model.");
    let checkpoint = table.apply(checkpoint.fold_weight_norm()?, &BTreeMap::new())?;
    Ok(load(config.init(device), &checkpoint, "")?)
}
