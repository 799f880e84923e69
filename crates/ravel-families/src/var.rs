//! VAR (Tian et al. 2024): a tokenizer with a pyramid of codes, and a transformer that predicts it scale by scale.
//!
//! Published: `vae_ch160v4096z32.pth` and `var_d{16,20,24,30,36}.pth`, flat.

use burn::tensor::Device;
use multiscale_image::{MultiscaleImage, MultiscaleImageConfig};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::Layout;
use ravel_heads::{NextScale, NextScaleConfig, PrefixConfig, PrefixEmbedding, StartKind};
use ravel_nn::conv::{AutoencoderConfig, VqGanConfig};
use ravel_nn::{Activation, NormKind, QueryKeyNorm};
use ravel_quant::{MultiscaleConfig, VectorConfig};
use ravel_weights::{Checkpoint, load};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::whole::Whole;
use crate::{FamilyError, of_family, renamed};

/// The tokenizer's name as a family.
pub const TOKENIZER: &str = "var_vqvae";
/// The transformer's name as a family.
pub const TRANSFORMER: &str = "var_transformer";
/// The tokenizer's key table, by name and text.
pub const TOKENIZER_KEYS: (&str, &str) = (
    "var_vqvae.keys.toml",
    include_str!("../keys/var_vqvae.keys.toml"),
);
/// The transformer's key table, by name and text.
pub const TRANSFORMER_KEYS: (&str, &str) = (
    "var_transformer.keys.toml",
    include_str!("../keys/var_transformer.keys.toml"),
);

/// Below this the reference leaves φ out.
const NO_PHI: f64 = 1e-6;

/// What the reference's tokenizer takes; the published one's values where a key is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TokenizerConfig {
    /// Codes.
    pub vocab_size: usize,
    /// Numbers in one code.
    pub z_channels: usize,
    /// Channels at the finest grid.
    pub ch: usize,
    /// Channels of each level as multiples of `ch`.
    pub ch_mult: Vec<usize>,
    /// Residual blocks of each level.
    pub num_res_blocks: usize,
    /// Whether the nearest code is the one of greatest cosine.
    pub using_znorm: bool,
    /// Side of the kernels around the quantizer.
    pub quant_conv_ks: usize,
    /// How much of φ's output replaces its input, whatever the sign.
    pub quant_resi: f64,
    /// How many φ scales share: 0 for one each.
    pub share_quant_resi: usize,
    /// Sides of the scales.
    pub v_patch_nums: Vec<usize>,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            vocab_size: 4096,
            z_channels: 32,
            ch: 160,
            ch_mult: vec![1, 1, 2, 2, 4],
            num_res_blocks: 2,
            using_znorm: false,
            quant_conv_ks: 3,
            quant_resi: 0.5,
            share_quant_resi: 4,
            v_patch_nums: vec![1, 2, 3, 4, 5, 6, 8, 10, 13, 16],
        }
    }
}

impl TokenizerConfig {
    /// The tokenizer, for pictures of the size that the finest scale has.
    pub fn tokenizer(&self) -> MultiscaleImageConfig {
        let stride = 1 << (self.ch_mult.len().max(1) - 1);
        let phi = match self.share_quant_resi {
            _ if self.quant_resi.abs() <= NO_PHI => 0,
            0 => self.v_patch_nums.len(),
            shared => shared,
        };
        MultiscaleImageConfig {
            size: stride * self.v_patch_nums.last().copied().unwrap_or_default(),
            autoencoder: AutoencoderConfig::VqGan(VqGanConfig {
                channels: self.ch,
                multiples: self.ch_mult.clone(),
                blocks: self.num_res_blocks,
                z_channels: self.z_channels,
                code_kernel: self.quant_conv_ks,
                ..VqGanConfig::default()
            }),
            quantizer: MultiscaleConfig {
                codebook: VectorConfig {
                    codebook_size: self.vocab_size,
                    width: self.z_channels,
                    l2_normalize: false,
                },
                sides: self.v_patch_nums.clone(),
                phi,
                phi_share: self.quant_resi.abs(),
                cosine: self.using_znorm,
                residual: true,
            },
        }
    }

    /// The tokenizer's weights.
    ///
    /// # Errors
    /// [`FamilyError`] if a size is impossible or the checkpoint does not fit.
    pub fn load(
        &self,
        checkpoint: Checkpoint,
        device: &Device,
    ) -> Result<MultiscaleImage, FamilyError> {
        let config = self.tokenizer();
        config.validate().map_err(of_family(TOKENIZER))?;
        let variables = config.autoencoder.key_variables();
        let checkpoint = renamed(TOKENIZER_KEYS, checkpoint, &variables)?;
        Ok(load(config.init(device), &checkpoint, "")?)
    }
}

/// What the reference's transformer takes; the values of d16 where a key is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Blocks.
    pub depth: usize,
    /// Width.
    pub embed_dim: usize,
    /// Heads.
    pub num_heads: usize,
    /// Feed-forward width as a multiple of the width.
    pub mlp_ratio: f64,
    /// Of the norms.
    pub norm_eps: f64,
    /// Whether all blocks share one projection of the condition.
    pub shared_aln: bool,
    /// Whether queries and keys have unit length.
    pub attn_l2_norm: bool,
    /// Classes, without the one for no class.
    pub num_classes: usize,
    /// Sides of the scales.
    pub patch_nums: Vec<usize>,
    /// The tokenizer whose codes are predicted.
    pub vae: TokenizerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            depth: 16,
            embed_dim: 1024,
            num_heads: 16,
            mlp_ratio: 4.0,
            norm_eps: 1e-6,
            shared_aln: false,
            attn_l2_norm: true,
            num_classes: 1000,
            patch_nums: TokenizerConfig::default().v_patch_nums,
            vae: TokenizerConfig::default(),
        }
    }
}

/// The built parts.
#[derive(Debug)]
pub struct Parts {
    /// What steers: a class.
    pub prefix: PrefixEmbedding,
    /// The blocks.
    pub backbone: Transformer,
    /// Scales in and scores out.
    pub head: NextScale,
}

impl Config {
    /// The blocks.
    pub fn backbone(&self) -> TransformerConfig {
        let head_width = self.embed_dim as f64 / self.num_heads.max(1) as f64;
        TransformerConfig {
            layers: self.depth,
            d_model: self.embed_dim,
            n_heads: self.num_heads,
            d_ff: Some((self.embed_dim as f64 * self.mlp_ratio).round_ties_even() as usize),
            norm: NormKind::LayerPlain,
            norm_eps: self.norm_eps,
            activation: Activation::GeluTanh,
            bias: true,
            qk_norm: match self.attn_l2_norm {
                true => QueryKeyNorm::Cosine,
                false => QueryKeyNorm::None,
            },
            // A quarter of the usual factor, where there is no learned one.
            attention_scale: (!self.attn_l2_norm).then(|| 0.25 / head_width.sqrt()),
            modulation: Some(self.embed_dim),
            shared_modulation: self.shared_aln,
            ..TransformerConfig::default()
        }
    }

    /// Scales in and scores out.
    pub fn head(&self) -> NextScaleConfig {
        NextScaleConfig {
            codebook_size: self.vae.vocab_size,
            code_width: self.vae.z_channels,
            start: StartKind::PrefixPlusLearned,
            ..NextScaleConfig::default()
        }
    }

    /// A class, before the codes and within every norm.
    pub fn classes(&self) -> PrefixConfig {
        PrefixConfig {
            vocabulary_size: self.num_classes + 1,
            len: 1,
            positions: false,
            modulation: true,
            ..PrefixConfig::default()
        }
    }

    /// How the codes are arranged.
    pub fn layout(&self) -> Layout {
        Layout::square_scales(&self.patch_nums)
    }

    /// Checks that the parts can be built.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> ravel_core::Result<()> {
        self.backbone().validate()?;
        self.head().validate_for(&self.layout())?;
        self.classes().validate()
    }

    /// The parts with fresh weights, which are drawn when they are first read.
    ///
    /// # Errors
    /// [`FamilyError::Part`] if a size is impossible.
    pub fn init(&self, device: &Device) -> Result<Parts, FamilyError> {
        self.validate().map_err(of_family(TRANSFORMER))?;
        let (backbone, width) = (self.backbone(), self.embed_dim);
        let (axes, layout) = (backbone.axes(), self.layout());
        Ok(Parts {
            prefix: self.classes().init(width, device),
            head: self.head().init(width, axes, &layout, device),
            backbone: backbone.init(device),
        })
    }

    /// The parts with a checkpoint's weights.
    ///
    /// # Errors
    /// [`FamilyError`] if a size is impossible or the checkpoint does not fit.
    pub fn load(&self, checkpoint: Checkpoint, device: &Device) -> Result<Parts, FamilyError> {
        let Parts {
            prefix,
            backbone,
            head,
        } = self.init(device)?;
        let checkpoint = renamed(TRANSFORMER_KEYS, checkpoint, &[])?;
        let whole = Whole::load(prefix, backbone, head, &checkpoint)?;
        Ok(Parts {
            prefix: whole.prefix,
            backbone: whole.backbone,
            head: whole.head,
        })
    }
}
