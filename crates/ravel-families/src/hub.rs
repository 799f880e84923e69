//! What configurations of the `transformers` library have in common.

use ravel_nn::{
    Activation, DynamicScaling, Llama3Scaling, RotaryConfig, Scaling as Stretch, YarnScaling,
};
use serde::Deserialize;

use crate::FamilyError;

/// The keys about rotary positions, which all families share. Newer files keep them in a table `rope_parameters`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Rope {
    rope_theta: Option<f64>,
    rope_scaling: Option<Scaling>,
    rope_parameters: Option<Scaling>,
    partial_rotary_factor: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Scaling {
    rope_type: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
}

impl Rope {
    /// The rotation of a model of so many `positions`, with the family's own base where the file names none.
    pub(crate) fn rotary(
        &self,
        family: &'static str,
        base: f64,
        positions: usize,
    ) -> Result<RotaryConfig, FamilyError> {
        if let Some(share) = self.partial_rotary_factor.filter(|share| *share != 1.0) {
            return Err(unknown(family, "partial_rotary_factor", share, "1"));
        }
        let scaling = self.rope_scaling.as_ref().or(self.rope_parameters.as_ref());
        let given = scaling.and_then(|scaling| scaling.rope_theta);
        Ok(RotaryConfig {
            base: self.rope_theta.or(given).unwrap_or(base),
            scaling: match scaling {
                Some(scaling) => scaling.stretch(family, positions)?,
                None => None,
            },
            ..RotaryConfig::default()
        })
    }
}

impl Scaling {
    fn stretch(
        &self,
        family: &'static str,
        positions: usize,
    ) -> Result<Option<Stretch>, FamilyError> {
        let kind = self.rope_type.as_deref().or(self.kind.as_deref());
        let needed = |name: &str, value: Option<f64>| {
            value.filter(|value| *value > 0.0).ok_or_else(|| {
                let found = value.map_or("absent".into(), |value| value.to_string());
                unknown(
                    family,
                    &format!("rope_scaling.{name}"),
                    found,
                    "a positive number",
                )
            })
        };
        match kind.unwrap_or("default") {
            "default" => Ok(None),
            "dynamic" => Ok(Some(Stretch::Dynamic(DynamicScaling {
                factor: needed("factor", self.factor)?,
                original_positions: positions as f64,
            }))),
            "linear" => Ok(Some(Stretch::Llama3(Llama3Scaling {
                factor: needed("factor", self.factor)?,
                low_frequency_factor: 1.0,
                high_frequency_factor: 1.0,
                // Every wave is longer than this, so all are divided.
                original_positions: 0.0,
            }))),
            "llama3" => Ok(Some(Stretch::Llama3(Llama3Scaling {
                factor: needed("factor", self.factor)?,
                low_frequency_factor: needed("low_freq_factor", self.low_freq_factor)?,
                high_frequency_factor: needed("high_freq_factor", self.high_freq_factor)?,
                original_positions: needed(
                    "original_max_position_embeddings",
                    self.original_max_position_embeddings,
                )?,
            }))),
            "yarn" => {
                let factor = needed("factor", self.factor)?;
                let steep = |weight| YarnScaling::usual_attention_factor(factor, weight);
                let usual = match (self.mscale, self.mscale_all_dim) {
                    (Some(one), Some(all)) if one != 0.0 && all != 0.0 => steep(one) / steep(all),
                    _ => steep(1.0),
                };
                let original = self.original_max_position_embeddings;
                Ok(Some(Stretch::Yarn(YarnScaling {
                    factor,
                    fast_turns: self.beta_fast.unwrap_or(32.0),
                    slow_turns: self.beta_slow.unwrap_or(1.0),
                    whole_pairs: self.truncate.unwrap_or(true),
                    original_positions: original.unwrap_or(positions as f64),
                    attention_factor: self.attention_factor.unwrap_or(usual),
                })))
            }
            other => Err(unknown(
                family,
                "rope_scaling.rope_type",
                other,
                "default, dynamic, linear, llama3 or yarn",
            )),
        }
    }
}

/// The curve by the name that configurations give it.
pub(crate) fn activation(
    family: &'static str,
    field: &str,
    name: &str,
) -> Result<Activation, FamilyError> {
    match name {
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "silu" | "swish" => Ok(Activation::Silu),
        "relu" => Ok(Activation::Relu),
        "relu2" => Ok(Activation::ReluSquared),
        other => Err(unknown(
            family,
            field,
            other,
            "gelu, gelu_new, gelu_pytorch_tanh, silu, relu or relu2",
        )),
    }
}

/// What is not implemented, by field.
pub(crate) fn unknown(
    family: &'static str,
    field: &str,
    found: impl ToString,
    expected: &str,
) -> FamilyError {
    FamilyError::Part {
        family,
        source: ravel_core::Error::Config {
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotary(json: &str) -> RotaryConfig {
        let rope: Rope = serde_json::from_str(json).unwrap();
        rope.rotary("llama", 10_000.0, 64).unwrap()
    }

    #[test]
    fn old_and_new_ways_of_writing_are_read() {
        assert_eq!(rotary("{}").base, 10_000.0);
        assert_eq!(rotary(r#"{"rope_theta": 5}"#).base, 5.0);
        let new = rotary(r#"{"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}"#);
        assert_eq!((new.base, new.scaling), (7.0, None));
        let old = rotary(r#"{"rope_scaling": {"type": "linear", "factor": 2.0}}"#);
        assert!(matches!(old.scaling, Some(Stretch::Llama3(by)) if by.factor == 2.0));
        let yarn = r#"{"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}"#;
        let Some(Stretch::Yarn(by)) = rotary(yarn).scaling else {
            panic!("a stretch of YaRN's kind");
        };
        assert_eq!((by.original_positions, by.fast_turns), (64.0, 32.0));
        assert!((by.attention_factor - 1.138_629_436).abs() < 1e-9);
        let dynamic = r#"{"rope_scaling": {"type": "dynamic", "factor": 2.0}}"#;
        let Some(Stretch::Dynamic(by)) = rotary(dynamic).scaling else {
            panic!("a stretch by the length of the text");
        };
        assert_eq!((by.factor, by.original_positions), (2.0, 64.0));
        assert_eq!(rotary(r#"{"rope_scaling": null}"#).scaling, None);
    }

    #[test]
    fn a_stretch_without_its_numbers_is_refused() {
        for json in [
            r#"{"rope_scaling": {"type": "linear"}}"#,
            r#"{"rope_scaling": {"rope_type": "llama3", "factor": 0}}"#,
            r#"{"rope_scaling": {"rope_type": "yarn"}}"#,
            r#"{"rope_scaling": {"rope_type": "dynamic"}}"#,
            r#"{"partial_rotary_factor": 0.5}"#,
        ] {
            let rope: Rope = serde_json::from_str(json).unwrap();
            assert!(rope.rotary("llama", 1.0, 64).is_err(), "{json}");
        }
    }
}
