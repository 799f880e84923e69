//! What configurations of the `transformers` library have in common.

use ravel_nn::{Activation, Llama3Scaling, RotaryConfig};
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
}

impl Rope {
    /// The rotation, with the family's own base where the file names none.
    pub(crate) fn rotary(
        &self,
        family: &'static str,
        base: f64,
    ) -> Result<RotaryConfig, FamilyError> {
        if let Some(share) = self.partial_rotary_factor.filter(|share| *share != 1.0) {
            return Err(unknown(family, "partial_rotary_factor", share, "1"));
        }
        let scaling = self.rope_scaling.as_ref().or(self.rope_parameters.as_ref());
        let given = scaling.and_then(|scaling| scaling.rope_theta);
        Ok(RotaryConfig {
            base: self.rope_theta.or(given).unwrap_or(base),
            scaling: match scaling {
                Some(scaling) => scaling.stretch(family)?,
                None => None,
            },
            ..RotaryConfig::default()
        })
    }
}

impl Scaling {
    fn stretch(&self, family: &'static str) -> Result<Option<Llama3Scaling>, FamilyError> {
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
            // Within the positions that it was made for, which are all that is offered, the dynamic kind stretches nothing.
            "default" | "dynamic" => Ok(None),
            "linear" => Ok(Some(Llama3Scaling {
                factor: needed("factor", self.factor)?,
                low_frequency_factor: 1.0,
                high_frequency_factor: 1.0,
                // Every wave is longer than this, so all are divided.
                original_positions: 0.0,
            })),
            "llama3" => Ok(Some(Llama3Scaling {
                factor: needed("factor", self.factor)?,
                low_frequency_factor: needed("low_freq_factor", self.low_freq_factor)?,
                high_frequency_factor: needed("high_freq_factor", self.high_freq_factor)?,
                original_positions: needed(
                    "original_max_position_embeddings",
                    self.original_max_position_embeddings,
                )?,
            })),
            other => Err(unknown(
                family,
                "rope_scaling.rope_type",
                other,
                "default, dynamic, linear or llama3",
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
        rope.rotary("llama", 10_000.0).unwrap()
    }

    #[test]
    fn old_and_new_ways_of_writing_are_read() {
        assert_eq!(rotary("{}").base, 10_000.0);
        assert_eq!(rotary(r#"{"rope_theta": 5}"#).base, 5.0);
        let new = rotary(r#"{"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}"#);
        assert_eq!((new.base, new.scaling), (7.0, None));
        let old = rotary(r#"{"rope_scaling": {"type": "linear", "factor": 2.0}}"#);
        assert_eq!(old.scaling.unwrap().factor, 2.0);
        assert_eq!(rotary(r#"{"rope_scaling": null}"#).scaling, None);
    }

    #[test]
    fn a_stretch_without_its_numbers_is_refused() {
        for json in [
            r#"{"rope_scaling": {"type": "linear"}}"#,
            r#"{"rope_scaling": {"rope_type": "llama3", "factor": 0}}"#,
            r#"{"partial_rotary_factor": 0.5}"#,
        ] {
            let rope: Rope = serde_json::from_str(json).unwrap();
            assert!(rope.rotary("llama", 1.0).is_err(), "{json}");
        }
    }
}
