//! Emu3's video and image tokenizer (Wang et al. 2024, section 2.1) as the transformers library has it, and as it was first published.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_quant::VectorConfig;
use ravel_weights::{Checkpoint, KeyTable, load};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vq_video::{VqVideo, VqVideoConfig};

use crate::{FamilyError, refused};

const FAMILY: &str = "emu3_vq";
const KEYS: &str = include_str!("../keys/emu3_vq.keys.toml");
/// From the names that the tokenizer was first published with to those of the transformers library.
const FIRST_KEYS: &str = include_str!("../keys/emu3_vision_tokenizer.keys.toml");
/// A tensor of the first names that all configurations have.
const FIRST_NAME: &str = "encoder.mid.block_1.conv1.weight";

/// What the reference's model takes, with its defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Codes.
    pub codebook_size: usize,
    /// Numbers in one code.
    pub embed_dim: usize,
    /// Channels between frames' and time's convolutions.
    pub latent_channels: usize,
    /// Twice the encoder's channels: the reference's next layer then fails, so it is refused.
    pub double_latent: bool,
    /// Channels of a frame that is read.
    pub in_channels: usize,
    /// Channels of a frame that is made.
    pub out_channels: usize,
    /// Frames of a group.
    pub temporal_downsample_factor: usize,
    /// Channels at the finest grid.
    pub base_channels: usize,
    /// Channels of each level as multiples of `base_channels`.
    pub channel_multiplier: Vec<usize>,
    /// Residual blocks of each level.
    pub num_res_blocks: usize,
    /// Levels (not sides) with attention.
    pub attn_resolutions: Vec<usize>,
    /// Channels of all attention: those of the levels that have it, and of the coarsest.
    pub hidden_size: usize,
    /// Heads of all attention.
    pub num_attention_heads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            codebook_size: 32_768,
            embed_dim: 4,
            latent_channels: 4,
            double_latent: false,
            in_channels: 3,
            out_channels: 3,
            temporal_downsample_factor: 4,
            base_channels: 256,
            channel_multiplier: vec![1, 2, 2, 4],
            num_res_blocks: 2,
            attn_resolutions: vec![3],
            hidden_size: 1024,
            num_attention_heads: 1,
        }
    }
}

impl Config {
    /// The tokenizer.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what the reference cannot run either.
    pub fn tokenizer(&self) -> Result<VqVideoConfig, FamilyError> {
        if self.double_latent {
            return Err(refused(FAMILY, "double_latent", "true", "false"));
        }
        let levels = self.channel_multiplier.len();
        let attending = (0..levels).filter(|level| self.attn_resolutions.contains(level));
        let config = VqVideoConfig {
            channels: self.base_channels,
            multiples: self.channel_multiplier.clone(),
            blocks: self.num_res_blocks,
            z_channels: self.latent_channels,
            attention: attending.collect(),
            n_heads: self.num_attention_heads,
            // The whole number below the logarithm, as the reference takes it.
            time_halvings: self.temporal_downsample_factor.max(1).ilog2() as usize,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            codebook: VectorConfig {
                codebook_size: self.codebook_size,
                width: self.embed_dim,
                l2_normalize: false,
            },
        };
        config.validate().map_err(|source| FamilyError::Part {
            family: FAMILY,
            source,
        })?;
        let mut attending = config.attention.clone();
        attending.push(levels - 1);
        let mut widths = attending
            .iter()
            .map(|level| self.base_channels * self.channel_multiplier[*level]);
        match widths.find(|width| *width != self.hidden_size) {
            Some(width) => {
                let found = self.hidden_size.to_string();
                let expected = format!("{width}, the channels that it attends over");
                Err(refused(FAMILY, "hidden_size", &found, &expected))
            }
            None => Ok(config),
        }
    }
}

/// The tokenizer with published weights.
///
/// # Errors
/// [`FamilyError`] if the configuration or the weights do not fit.
pub fn build(
    config: &Config,
    checkpoint: Checkpoint,
    device: &Device,
) -> Result<VqVideo, FamilyError> {
    let mut checkpoint = checkpoint;
    if checkpoint.shape(FIRST_NAME).is_some() {
        let first = KeyTable::parse("emu3_vision_tokenizer.keys.toml", FIRST_KEYS)?;
        checkpoint = first.apply(checkpoint, &BTreeMap::new())?;
    }
    let table = KeyTable::parse("emu3_vq.keys.toml", KEYS)?;
    let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
    Ok(load(config.tokenizer()?.init(device), &checkpoint, "")?)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Int, Tensor};
    use ravel_testkit::{device, formula_ids, golden_folder, values};
    use ravel_weights::{Dtype, save};

    use super::*;

    /// The name that the tokenizer's first code has for one of the transformers library, and whether its weight was a convolution.
    fn first_name(name: &str) -> (String, bool) {
        let mut name = name
            .replace(".down_block.", ".")
            .replace(".up_block.", ".")
            .replace(".middle_block.", ".mid.")
            .replace("mid.attn_norm.", "mid.attn_1.norm.");
        if let Some((before, after)) = name.clone().split_once("attn_norms.") {
            let (at, rest) = after.split_once('.').unwrap();
            name = format!("{before}attn.{at}.norm.{rest}");
        }
        let mut linear = false;
        for part in ["q", "k", "v", "out"] {
            let (ours, theirs) = (format!(".{part}_proj."), part.replace("out", "proj_out"));
            if name.contains(&ours) {
                name = name.replace(&ours, &format!(".{theirs}."));
                linear = name.ends_with("weight");
            }
        }
        (name, linear)
    }

    #[test]
    fn both_ways_of_naming_its_weights_give_one_tokenizer() {
        for case in ["emu3_vq", "emu3_vq_heads"] {
            let case = golden_folder().join(case);
            let config: Config =
                serde_json::from_str(&std::fs::read_to_string(case.join("config.json")).unwrap())
                    .unwrap();
            let ours = || Checkpoint::open(&case.join("model.safetensors")).unwrap();
            let named = ours();
            let names = named.names().filter(|name| !name.contains("num_batches"));
            let tensors = names.map(|name| {
                let (first, linear) = first_name(name);
                let mut data = named.real(name).unwrap();
                if linear {
                    let mut shape = data.shape().to_vec();
                    shape.extend([1, 1]);
                    data = burn::tensor::TensorData::new::<f32, _>(
                        data.as_slice::<f32>().unwrap().to_vec(),
                        shape,
                    );
                }
                (first, data)
            });
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("first.safetensors");
            save(&path, tensors, &BTreeMap::new(), Dtype::Keep).unwrap();
            let first = Checkpoint::open(&path).unwrap();
            assert!(first.names().any(|name| name.contains(".mid.attn_1.q.")));
            let ids: Tensor<4, Int> = formula_ids([1, 1, 4, 4], 3, 32, &device());
            let made = |checkpoint| {
                let module = build(&config, checkpoint, &device()).unwrap();
                values(&module.decode(ids.clone()))
            };
            assert_eq!(made(ours()), made(first));
        }
    }
}
