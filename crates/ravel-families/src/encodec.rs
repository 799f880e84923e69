//! EnCodec (Défossez et al. 2022).
//!
//! Published: `facebook/encodec_24khz`, `facebook/encodec_48khz`, `facebook/encodec_32khz` (MusicGen's), as the transformers
//! library writes them; and `encodec_24khz-d7cc33bc.th`, `encodec_48khz-7e698e3e.th` as Meta's package does, whose settings are
//! those of the first two.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_nn::wave::PadKind;
use ravel_weights::{Checkpoint, KeyTable, load};
use rvq_codec::{Chunks, Encodec, EncodecConfig, EncodecTokenizer, SeanetConfig};
use serde::Deserialize;

use crate::{FamilyError, refused, within};

const FAMILY: &str = "encodec";
const KEYS: &str = include_str!("../keys/encodec.keys.toml");

/// What `config.json` holds; the values at 24 kHz where a key is absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Rates that the codec was made for, in kbps; the last one says how many codebooks there are.
    pub target_bandwidths: Vec<f64>,
    /// Samples in a second.
    pub sampling_rate: u32,
    /// Channels.
    pub audio_channels: usize,
    /// Whether chunks are divided by their loudness.
    pub normalize: bool,
    /// Seconds of a chunk, if there are chunks.
    pub chunk_length_s: Option<f64>,
    /// Share of a chunk that the next one repeats.
    pub overlap: Option<f64>,
    /// Channels of the latents.
    pub hidden_size: usize,
    /// Channels at the sound's own rate.
    pub num_filters: usize,
    /// Residual blocks before each stride.
    pub num_residual_layers: usize,
    /// Strides of the decoder.
    pub upsampling_ratios: Vec<usize>,
    /// `weight_norm` or `time_group_norm`.
    pub norm_type: String,
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
    /// Layers of the recurrence.
    pub num_lstm_layers: usize,
    /// Share of transposed convolutions' surplus that is taken off the right.
    pub trim_right_ratio: f64,
    /// Ids in each codebook.
    pub codebook_size: usize,
    /// Numbers in one row; `hidden_size` if unset.
    pub codebook_dim: Option<usize>,
    /// Whether the way around a residual block is a convolution.
    pub use_conv_shortcut: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target_bandwidths: vec![1.5, 3.0, 6.0, 12.0, 24.0],
            sampling_rate: 24_000,
            audio_channels: 1,
            normalize: false,
            chunk_length_s: None,
            overlap: None,
            hidden_size: 128,
            num_filters: 32,
            num_residual_layers: 1,
            upsampling_ratios: vec![8, 5, 4, 2],
            norm_type: "weight_norm".into(),
            kernel_size: 7,
            last_kernel_size: 7,
            residual_kernel_size: 3,
            dilation_growth_rate: 2,
            use_causal_conv: true,
            pad_mode: "reflect".into(),
            compress: 2,
            num_lstm_layers: 2,
            trim_right_ratio: 1.0,
            codebook_size: 1024,
            codebook_dim: None,
            use_conv_shortcut: true,
        }
    }
}

/// How a published configuration names what padding is made of.
pub(crate) fn pad_kind(family: &'static str, name: &str) -> Result<PadKind, FamilyError> {
    match name {
        "reflect" => Ok(PadKind::Reflect),
        "constant" => Ok(PadKind::Zero),
        "replicate" => Ok(PadKind::Replicate),
        other => Err(refused(
            family,
            "pad_mode",
            other,
            "reflect, constant or replicate",
        )),
    }
}

/// The least that a rate may be below a whole number to count as it.
const ROUNDING: f64 = 1e-9;

impl Config {
    /// The codec.
    ///
    /// # Errors
    /// [`FamilyError::Part`] for a norm or padding that is not known, or sizes that do not fit.
    pub fn tokenizer(&self) -> Result<EncodecConfig, FamilyError> {
        let time_norm = match self.norm_type.as_str() {
            "weight_norm" => false,
            "time_group_norm" => true,
            other => {
                let expected = "weight_norm or time_group_norm";
                return Err(refused(FAMILY, "norm_type", other, expected));
            }
        };
        let mut config = EncodecConfig {
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
                lstm_layers: self.num_lstm_layers,
                causal: self.use_causal_conv,
                pad: pad_kind(FAMILY, &self.pad_mode)?,
                trim_right_ratio: self.trim_right_ratio,
                time_norm,
            },
            codebook_size: self.codebook_size,
            code_width: self.codebook_dim.unwrap_or(self.hidden_size),
            depth: 1,
            bandwidth_kbps: self.target_bandwidths.first().copied(),
            normalize: self.normalize,
            chunks: self.chunks(),
        };
        let refused = |source| FamilyError::Part {
            family: FAMILY,
            source,
        };
        config.validate().map_err(refused)?;
        config.depth = self.depth(config.frame_rate())?;
        config.validate().map_err(refused)?;
        Ok(config)
    }

    /// Codebooks: as many as the highest rate pays for, with whole bits for each id.
    fn depth(&self, frame_rate: usize) -> Result<usize, FamilyError> {
        let bits = self.codebook_size.max(2).next_power_of_two().ilog2() as usize;
        let highest = self.target_bandwidths.last().copied().unwrap_or(0.0);
        let depth = (1000.0 * highest / (frame_rate * bits) as f64 + ROUNDING).floor();
        match (1.0..=4096.0).contains(&depth) {
            true => Ok(depth as usize),
            false => {
                let expected = "a rate that pays for 1 to 4096 codebooks at its end";
                let found = format!("{:?}", self.target_bandwidths);
                Err(refused(FAMILY, "target_bandwidths", &found, expected))
            }
        }
    }

    fn chunks(&self) -> Option<Chunks> {
        let length = (self.chunk_length_s? * f64::from(self.sampling_rate)) as usize;
        let stride = match self.overlap {
            Some(overlap) => (((1.0 - overlap) * length as f64) as usize).max(1),
            None => length,
        };
        Some(Chunks { length, stride })
    }

    /// Builds the codec from weights under their published names.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible, [`FamilyError::Weights`] if the weights do not fit.
    pub fn build(
        &self,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<EncodecTokenizer, FamilyError> {
        let config = self.tokenizer()?;
        Ok(EncodecTokenizer::new(
            module(&config, checkpoint, device)?,
            &config,
        ))
    }
}

/// The weights of a codec under their published names, alone or below `audio_encoder.` in a file of MusicGen.
///
/// # Errors
/// [`FamilyError::Weights`] if they do not fit.
pub fn module(
    config: &EncodecConfig,
    checkpoint: Checkpoint,
    device: &Device,
) -> Result<Encodec, FamilyError> {
    let checkpoint = within(checkpoint, "audio_encoder.");
    let table = KeyTable::parse("encodec.keys.toml", KEYS)?;
    let checkpoint = table.apply(checkpoint.fold_weight_norm()?, &BTreeMap::new())?;
    Ok(load(config.init(device), &checkpoint, "")?)
}
