//! Cosmos' discrete video tokenizers (Agarwal et al. 2025, section 4): `DV` in 4×8×8 to 8×16×16.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_weights::{Checkpoint, KeyTable, load};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wavelet_video::{Codebook, Patching, WaveletVideo, WaveletVideoConfig};

use crate::{FamilyError, refused};

const FAMILY: &str = "cosmos_dv";
const KEYS: &str = include_str!("../keys/cosmos_dv.keys.toml");

/// What the reference's model takes, with its defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// Channels of the decoder's input, and of the encoder's output but for `z_factor`.
    pub z_channels: usize,
    /// The encoder's output is so many times as wide.
    #[serde(default = "one")]
    pub z_factor: usize,
    /// Numbers in one code.
    pub embedding_dim: usize,
    /// Sides of the grids with attention.
    #[serde(default)]
    pub attn_resolutions: Vec<usize>,
    /// Channels that every level multiplies.
    pub channels: usize,
    /// Channels of each level as multiples of `channels`.
    pub channels_mult: Vec<usize>,
    /// Channels of a frame that is read.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Channels of a frame that is made.
    #[serde(default = "three")]
    pub out_channels: usize,
    /// Residual blocks of each level.
    pub num_res_blocks: usize,
    /// Pixels a side that attention's resolutions are counted from.
    pub resolution: usize,
    /// Pixels a side of a patch.
    #[serde(default = "one")]
    pub patch_size: usize,
    /// `haar` or `rearrange`.
    #[serde(default = "rearrange")]
    pub patch_method: String,
    /// `FACTORIZED` or `BASE`.
    #[serde(default = "base")]
    pub encoder: String,
    /// `FACTORIZED` or `BASE`.
    #[serde(default = "base")]
    pub decoder: String,
    /// Groups of the norms of `BASE`.
    #[serde(default = "thirty_two")]
    pub num_groups: usize,
    /// Pixels a side that one code stands for, of `FACTORIZED`.
    #[serde(default = "sixteen")]
    pub spatial_compression: usize,
    /// Frames that one code stands for, of `FACTORIZED`.
    #[serde(default = "eight")]
    pub temporal_compression: usize,
    /// Whether the decoder doubles time at its coarsest level already.
    #[serde(default)]
    pub legacy_mode: bool,
    /// `FSQ` or `RESFSQ`; the reference's other two do not run on clips.
    #[serde(default = "residual")]
    pub quantizer: String,
    /// Levels of each number.
    #[serde(default)]
    pub levels: Vec<usize>,
    /// Ids side by side, of `FSQ`.
    #[serde(default = "one")]
    pub num_codebooks: usize,
    /// Ids one after another, of `RESFSQ`.
    #[serde(default = "one")]
    pub num_quantizers: usize,
    /// What code vectors are handed on in; 16 bits unless said otherwise.
    #[serde(default = "half")]
    pub dtype: String,
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

fn eight() -> usize {
    8
}

fn sixteen() -> usize {
    16
}

fn thirty_two() -> usize {
    32
}

fn rearrange() -> String {
    "rearrange".into()
}

fn base() -> String {
    "BASE".into()
}

fn residual() -> String {
    "RESFSQ".into()
}

fn half() -> String {
    "torch.bfloat16".into()
}

impl Config {
    /// The tokenizer.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what the reference cannot run either.
    pub fn tokenizer(&self) -> Result<WaveletVideoConfig, FamilyError> {
        let factorized = self.is_factorized()?;
        let patch = self.patch_size.max(1);
        let halving = |compression| match factorized {
            true => halvings(compression, patch),
            false => 0,
        };
        let config = WaveletVideoConfig {
            channels: self.channels,
            multiples: self.channels_mult.clone(),
            blocks: self.num_res_blocks,
            encoder_channels: self.z_channels * self.z_factor,
            decoder_channels: self.z_channels,
            encoder_attention: self.attending(|side, level| side >> level),
            decoder_attention: self.attending(|side, level| {
                // The decoder counts from the coarsest side, rounded down.
                let coarsest = self.channels_mult.len().saturating_sub(1);
                (side >> coarsest) << (coarsest - level)
            }),
            patch,
            patching: self.patching()?,
            factorized,
            groups: if factorized { 1 } else { self.num_groups },
            space_halvings: halving(self.spatial_compression),
            time_halvings: halving(self.temporal_compression),
            doubles_time_first: self.legacy_mode,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            codebook: self.codebook()?,
            half_vectors: self.half_vectors()?,
        };
        config.validate().map_err(|source| FamilyError::Part {
            family: FAMILY,
            source,
        })?;
        let width = config.codebook.width();
        match width == self.embedding_dim {
            true => Ok(config),
            false => Err(refused(
                FAMILY,
                "embedding_dim",
                &self.embedding_dim.to_string(),
                &format!("{width}, one number for each level of each id"),
            )),
        }
    }

    fn is_factorized(&self) -> Result<bool, FamilyError> {
        match (self.encoder.as_str(), self.decoder.as_str()) {
            ("FACTORIZED", "FACTORIZED") => Ok(true),
            ("BASE", "BASE") => Ok(false),
            (encoder, decoder) => Err(refused(
                FAMILY,
                "encoder, decoder",
                &format!("{encoder}, {decoder}"),
                "FACTORIZED for both, or BASE for both",
            )),
        }
    }

    fn patching(&self) -> Result<Patching, FamilyError> {
        match self.patch_method.as_str() {
            "haar" => Ok(Patching::Haar),
            "rearrange" => Ok(Patching::Pixels),
            other => Err(refused(FAMILY, "patch_method", other, "haar or rearrange")),
        }
    }

    fn codebook(&self) -> Result<Codebook, FamilyError> {
        let levels = self.levels.clone();
        match self.quantizer.as_str() {
            "FSQ" => Ok(Codebook::Finite {
                levels,
                depth: self.num_codebooks,
            }),
            "RESFSQ" => Ok(Codebook::Residual {
                levels,
                depth: self.num_quantizers,
            }),
            other => {
                let known = "FSQ or RESFSQ: the reference's others do not run on clips";
                Err(refused(FAMILY, "quantizer", other, known))
            }
        }
    }

    fn half_vectors(&self) -> Result<bool, FamilyError> {
        match self.dtype.trim_start_matches("torch.") {
            "float32" => Ok(false),
            "bfloat16" => Ok(true),
            other => Err(refused(FAMILY, "dtype", other, "float32 or bfloat16")),
        }
    }

    /// Levels whose side, as `side_at` has it, is one with attention.
    fn attending(&self, side_at: impl Fn(usize, usize) -> usize) -> Vec<usize> {
        let side = self.resolution / self.patch_size.max(1);
        (0..self.channels_mult.len())
            .filter(|&level| self.attn_resolutions.contains(&side_at(side, level)))
            .collect()
    }
}

/// How often a size is halved beside patching.
fn halvings(compression: usize, patch: usize) -> usize {
    let log = |size: usize| size.max(1).ilog2() as usize;
    log(compression).saturating_sub(log(patch))
}

/// The tokenizer with published weights.
///
/// # Errors
/// [`FamilyError`] if the configuration or the weights do not fit.
pub fn build(
    config: &Config,
    checkpoint: Checkpoint,
    device: &Device,
) -> Result<WaveletVideo, FamilyError> {
    let table = KeyTable::parse("cosmos_dv.keys.toml", KEYS)?;
    let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
    Ok(load(config.tokenizer()?.init(device), &checkpoint, "")?)
}
