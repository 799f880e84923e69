//! Classifier-free guidance: scores are pushed away from those of the empty prompt.
//!
//! Ho and Salimans 2022. Symbols: `c` conditioned, `u` unconditioned scores, `t` the strength: `c + t (c − u)`. Zero changes
//! nothing. LlamaGen's `cfg_scale` is `1 + t`; VAR's `cfg` is the `t` of the last scale, rising linearly from zero.

use std::fmt;

use burn::tensor::{Int, Tensor};
use ravel_core::{Codes, Result, Sampler, Unit};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// How strong guidance is: a number, or `{ from = 0.0, to = 3.0 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(deny_unknown_fields)]
pub enum Guidance {
    /// The same at every unit.
    Constant(f64),
    /// From the first unit's strength to the last one's, linearly.
    Ramp {
        /// At the first unit.
        from: f64,
        /// At the last unit.
        to: f64,
    },
}

impl Default for Guidance {
    fn default() -> Self {
        Self::Constant(0.0)
    }
}

impl Guidance {
    /// The strength at a unit out of `units`.
    pub fn at(&self, index: usize, units: usize) -> f64 {
        match *self {
            Self::Constant(strength) => strength,
            Self::Ramp { from, to } => {
                from + (to - from) * index as f64 / units.saturating_sub(1).max(1) as f64
            }
        }
    }

    /// Whether it changes nothing at any unit.
    pub fn is_off(&self) -> bool {
        matches!(
            *self,
            Self::Constant(0.0) | Self::Ramp { from: 0.0, to: 0.0 }
        )
    }
}

/// Written out because serde's own reading of untagged enums lets unknown keys pass and names no key in its errors.
impl<'de> Deserialize<'de> for Guidance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(GuidanceVisitor)
    }
}

struct GuidanceVisitor;

impl<'de> Visitor<'de> for GuidanceVisitor {
    type Value = Guidance;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, or a table with `from` and `to`")
    }

    fn visit_f64<E>(self, strength: f64) -> std::result::Result<Guidance, E> {
        Ok(Guidance::Constant(strength))
    }

    fn visit_i64<E>(self, strength: i64) -> std::result::Result<Guidance, E> {
        Ok(Guidance::Constant(strength as f64))
    }

    fn visit_u64<E>(self, strength: u64) -> std::result::Result<Guidance, E> {
        Ok(Guidance::Constant(strength as f64))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> std::result::Result<Guidance, M::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Ramp {
            from: f64,
            to: f64,
        }
        let Ramp { from, to } = Ramp::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Guidance::Ramp { from, to })
    }
}

/// `scores` of the ids with the `k` largest `guided` scores, minus infinity elsewhere.
fn among_best(scores: Tensor<3>, guided: Tensor<3>, k: usize) -> Tensor<3> {
    let [_, _, ids] = guided.dims();
    let least = guided.clone().topk(k.min(ids), 2).min_dim(2);
    scores.mask_fill(guided.lower(least), f32::NEG_INFINITY)
}

/// Guidance around another sampler. It takes twice the rows, conditioned half first, and answers for both halves alike.
pub struct Guided<S> {
    /// How strong.
    pub guidance: Guidance,
    /// If set, guidance only says which ids may be chosen: so many with the largest guided scores, whose conditioned scores are
    /// handed on (Dia).
    pub top_k: Option<usize>,
    /// Units in all.
    pub units: usize,
    /// What chooses.
    pub inner: S,
}

impl<S: Sampler> Sampler for Guided<S> {
    /// # Panics
    /// If the number of rows is odd.
    fn pick(&mut self, logits: Tensor<3>, unit: &Unit) -> Result<Tensor<2, Int>> {
        let [rows, ..] = logits.dims();
        assert!(
            rows.is_multiple_of(2),
            "batch axis: guidance takes pairs of rows"
        );
        let conditioned = logits.clone().narrow(0, 0, rows / 2);
        let unconditioned = logits.narrow(0, rows / 2, rows / 2);
        let guided = match self.guidance.at(unit.index, self.units) {
            0.0 => conditioned,
            strength => {
                let guided = conditioned.clone() + (conditioned.clone() - unconditioned) * strength;
                match self.top_k {
                    Some(k) => among_best(conditioned, guided, k),
                    None => guided,
                }
            }
        };
        let ids = self.inner.pick(guided, unit)?;
        Ok(Tensor::cat(vec![ids.clone(), ids], 0))
    }

    fn settled(&mut self, ids: &Tensor<2, Int>, unit: &Unit) {
        let [rows, _] = ids.dims();
        self.inner
            .settled(&ids.clone().narrow(0, 0, rows / 2), unit);
    }

    fn given(&mut self, prompt: &Codes) {
        self.inner.given(&prompt.rows(0, prompt.batch() / 2));
    }
}
