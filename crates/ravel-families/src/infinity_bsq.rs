//! Infinity's multi-scale quantizer by bits (Han et al. 2024, section 3.2).

use std::collections::BTreeMap;

use burn::tensor::Device;
use ravel_quant::{MultiscaleBinaryConfig, MultiscaleBinaryQuantizer};
use ravel_weights::{Checkpoint, KeyTable, load};
use serde::Deserialize;

use crate::{FamilyError, refused};

const FAMILY: &str = "infinity_bsq";
const KEYS: &str = include_str!("../keys/infinity_bsq.keys.toml");

/// What the reference's quantizer takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Config {
    /// Numbers in one latent.
    pub dim: usize,
    /// Bits of a code; where there are more or fewer than numbers in a latent, projections stand between.
    pub codebook_dim: usize,
    /// Time, height and width of the scales, coarsest first.
    pub scale_schedule: Vec<[usize; 3]>,
    /// A norm over a latent's numbers before all scales.
    #[serde(default)]
    pub layernorm_before_quant: bool,
    /// Whether later scales count less.
    #[serde(default)]
    pub use_decay_factor: bool,
    /// How scales grow; the reference knows one way.
    #[serde(default = "trilinear")]
    pub upsample: String,
    /// How what is left shrinks; the reference knows one way.
    #[serde(default = "area")]
    pub downsample: String,
}

fn trilinear() -> String {
    "trilinear".into()
}

fn area() -> String {
    "area".into()
}

impl Config {
    /// The quantizer.
    ///
    /// # Errors
    /// [`FamilyError::Part`] names what the reference does not do.
    pub fn quantizer(&self) -> Result<MultiscaleBinaryConfig, FamilyError> {
        for (field, found, known) in [
            ("upsample", &self.upsample, trilinear()),
            ("downsample", &self.downsample, area()),
        ] {
            if *found != known {
                return Err(refused(FAMILY, field, found, &known));
            }
        }
        let sizes = self.scale_schedule.iter().flatten();
        let least = sizes.chain([&self.dim, &self.codebook_dim]).min();
        if self.scale_schedule.is_empty() || least == Some(&0) {
            let found = format!("{:?}", self.scale_schedule);
            let field = "scale_schedule, dim, codebook_dim";
            return Err(refused(FAMILY, field, &found, "scales, and no size of 0"));
        }
        Ok(MultiscaleBinaryConfig {
            width: self.dim,
            bits: self.codebook_dim,
            scales: self.scale_schedule.clone(),
            norm: self.layernorm_before_quant,
            decay: self.use_decay_factor,
        })
    }
}

/// The quantizer; without a checkpoint it must have no weights.
///
/// # Errors
/// [`FamilyError`] if the configuration or the weights do not fit.
pub fn build(
    config: &Config,
    checkpoint: Option<Checkpoint>,
    device: &Device,
) -> Result<MultiscaleBinaryQuantizer, FamilyError> {
    let parts = config.quantizer()?;
    let Some(checkpoint) = checkpoint else {
        if parts.width != parts.bits || parts.norm {
            let needed = "a file with the weights of projections and norm";
            return Err(refused(FAMILY, "weights", "absent", needed));
        }
        return Ok(parts.init(device));
    };
    let table = KeyTable::parse("infinity_bsq.keys.toml", KEYS)?;
    let checkpoint = table.apply(checkpoint, &BTreeMap::new())?;
    Ok(load(parts.init(device), &checkpoint, "")?)
}
