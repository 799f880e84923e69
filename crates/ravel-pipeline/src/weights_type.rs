//! Of what type the weights are while a pipeline runs.

use std::str::FromStr;

use burn::tensor::Device;
use ravel_nn::{Narrowable, WeightsType, multiplies, narrowed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Of what type the weights of the sequence model's and the head's linear layers are kept, and the table that embeds where it also gives the scores (on the
/// CPU). On other devices a half can be asked for where the device computes in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeptAs {
    /// Half precision or bfloat16 (on the CPU), eight or four bits, where no weight changes by it, because the file holds no more; f32 otherwise.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Eight bits, a scale per 32 rows of a column; on the CPU what is multiplied with them is rounded to eight bits, too.
    Q8,
    /// Four bits, otherwise as `q8`.
    Q4,
}

impl KeptAs {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Auto,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8,
        Self::Q4,
    ];

    /// Its name in definitions and flags.
    pub fn name(self) -> &'static str {
        self.fixed().map_or("auto", WeightsType::name)
    }

    /// The type, unless it is found out for each weight.
    pub fn fixed(self) -> Option<WeightsType> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(WeightsType::F32),
            Self::F16 => Some(WeightsType::F16),
            Self::Bf16 => Some(WeightsType::Bf16),
            Self::Q8 => Some(WeightsType::Q8),
            Self::Q4 => Some(WeightsType::Q4),
        }
    }

    /// Whether a device multiplies by such weights.
    pub fn runs_on(self, device: &Device) -> bool {
        self.fixed().is_none_or(|kind| multiplies(device, kind))
    }

    pub(crate) fn is_auto(&self) -> bool {
        *self == Self::Auto
    }

    /// The module with its weights kept so.
    pub(crate) fn kept<M: Narrowable>(self, module: M) -> M {
        narrowed(module, self.fixed())
    }
}

impl FromStr for KeptAs {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|kept| kept.name() == name)
            .ok_or_else(|| format!("`{name}` is none of {}", names()))
    }
}
