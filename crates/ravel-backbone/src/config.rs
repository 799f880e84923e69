//! What fixes a transformer. A definition names only what differs from [`TransformerConfig::default`].

use ravel_core::{Error, Result};
use ravel_nn::{
    Activation, AttentionConfig, DynamicScaling, FeedForwardConfig, NormConfig, NormKind,
    QueryKeyNorm, RelativeConfig, RotaryConfig, Scaling, init,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sizes and choices of a transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TransformerConfig {
    /// Blocks of attention and feed-forward.
    pub layers: usize,
    /// Width of the hidden states.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; `n_heads` if unset.
    pub n_kv_heads: Option<usize>,
    /// Numbers in one head; `d_model / n_heads` if unset.
    pub head_width: Option<usize>,
    /// Width between the products of a feed-forward layer; `4 d_model` if unset.
    pub d_ff: Option<usize>,
    /// Which normalisation.
    pub norm: NormKind,
    /// Added to the mean square before its root.
    pub norm_eps: f64,
    /// Curve of the feed-forward layers.
    pub activation: Activation,
    /// Whether feed-forward layers are gated.
    pub gated: bool,
    /// Rotary positions, if any.
    pub rotary: Option<RotaryConfig>,
    /// Rows of a learned table of running positions, if any.
    pub learned_positions: Option<usize>,
    /// Whether running positions are added as waves: cosines in the first half of the width, sines in the second, of
    /// wavelengths from 2π to 20,000π (tensor2tensor's variant of Vaswani et al. 2017, section 3.5).
    pub sinusoidal_positions: bool,
    /// Learned scores by distance, one table for all blocks, if any (T5).
    pub relative: Option<RelativeConfig>,
    /// How queries and keys are brought to a common length.
    pub qk_norm: QueryKeyNorm,
    /// Factor on attention scores; `1 / sqrt(head_width)` if unset.
    pub attention_scale: Option<f64>,
    /// Whether all projections add a bias.
    pub bias: bool,
    /// Whether the projections to queries, keys and values add a bias; as `bias` if unset.
    pub qkv_bias: Option<bool>,
    /// Whether feed-forward layers add biases; as `bias` if unset.
    pub feed_forward_bias: Option<bool>,
    /// Share of a branch's numbers set to zero while training.
    pub dropout: f64,
    /// Width of what cross-attention reads, if there is any.
    pub cross_attention: Option<usize>,
    /// Query heads of cross-attention; `n_heads` if unset.
    pub cross_heads: Option<usize>,
    /// Key and value heads of cross-attention; as many as self-attention has if `cross_heads` is unset too, otherwise
    /// `cross_heads`.
    pub cross_kv_heads: Option<usize>,
    /// Numbers in one head of cross-attention; as in self-attention if unset.
    pub cross_head_width: Option<usize>,
    /// Width of the vector that sets the norms' gains and biases, if there is one.
    pub modulation: Option<usize>,
    /// Whether all blocks share one projection of that vector, each with offsets of its own (VAR's d36).
    pub shared_modulation: bool,
    /// Whether padding, which no other position sees, still sees itself (LlamaGen).
    pub padding_sees_itself: bool,
    /// Whether attention and feed-forward are multiplied by a learned number per channel before they are added (LayerScale,
    /// Touvron et al. 2021).
    pub layer_scale: bool,
    /// Whether the hidden states leave through a norm.
    pub final_norm: bool,
    /// Whether fresh branches add nothing until they are trained.
    pub zero_init_out: bool,
    /// A position sees only the latest so many, itself included, if set.
    pub window: Option<usize>,
    /// Layers, from 0, in which a position sees everything although there is a window.
    pub full_layers: Vec<usize>,
    /// Whether the factor on attention scores is also divided by the layer's number, from 1.
    pub attention_scale_by_layer: bool,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            layers: 6,
            d_model: 256,
            n_heads: 4,
            n_kv_heads: None,
            head_width: None,
            d_ff: None,
            norm: NormKind::Rms,
            norm_eps: 1e-6,
            activation: Activation::ReluSquared,
            gated: false,
            rotary: None,
            learned_positions: None,
            sinusoidal_positions: false,
            relative: None,
            qk_norm: QueryKeyNorm::None,
            attention_scale: None,
            bias: false,
            qkv_bias: None,
            feed_forward_bias: None,
            dropout: 0.0,
            cross_attention: None,
            cross_heads: None,
            cross_kv_heads: None,
            cross_head_width: None,
            modulation: None,
            shared_modulation: false,
            padding_sees_itself: false,
            layer_scale: false,
            final_norm: true,
            zero_init_out: false,
            window: None,
            full_layers: Vec::new(),
            attention_scale_by_layer: false,
        }
    }
}

impl TransformerConfig {
    /// Key and value heads.
    pub fn n_kv_heads(&self) -> usize {
        self.n_kv_heads.unwrap_or(self.n_heads)
    }

    /// Numbers in one head.
    pub fn head_width(&self) -> usize {
        self.head_width.unwrap_or(self.d_model / self.n_heads)
    }

    /// Numbers that make a position: what a head built for this backbone is told.
    pub fn axes(&self) -> usize {
        self.rotary.as_ref().map_or(1, |rotary| rotary.axes)
    }

    /// Checks that a transformer can be built.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        const WIDEST: usize = 1 << 16;
        between("layers", self.layers, 1, 1 << 10)?;
        between("d-model", self.d_model, 1, WIDEST)?;
        between("n-heads", self.n_heads, 1, self.d_model)?;
        if self.head_width.is_none() && !self.d_model.is_multiple_of(self.n_heads) {
            return wrong(
                "n-heads",
                self.n_heads,
                "a divisor of d-model, or head-width",
            );
        }
        between("head-width", self.head_width(), 1, WIDEST)?;
        if self.n_kv_heads() == 0 || !self.n_heads.is_multiple_of(self.n_kv_heads()) {
            return wrong("n-kv-heads", self.n_kv_heads(), "a divisor of n-heads");
        }
        between("d-ff", self.d_ff.unwrap_or(1), 1, 4 * WIDEST)?;
        between(
            "cross-attention",
            self.cross_attention.unwrap_or(1),
            1,
            WIDEST,
        )?;
        self.validate_cross()?;
        between("modulation", self.modulation.unwrap_or(1), 1, WIDEST)?;
        between("window", self.window.unwrap_or(1), 1, usize::MAX)?;
        if let Some(layer) = self.full_layers.iter().find(|layer| **layer >= self.layers) {
            return wrong("full-layers", layer, "numbers below layers");
        }
        between(
            "learned-positions",
            self.learned_positions.unwrap_or(1),
            1,
            1 << 24,
        )?;
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("dropout", self.dropout, "a number in 0..1");
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return wrong("norm-eps", self.norm_eps, "a small positive number");
        }
        if let Some(relative) = &self.relative {
            between("relative.buckets", relative.buckets, 4, WIDEST)?;
            between(
                "relative.farthest",
                relative.farthest,
                relative.buckets,
                1 << 24,
            )?;
        }
        if self.shared_modulation && self.modulation.is_none() {
            return wrong("shared-modulation", true, "a width of modulation beside it");
        }
        match &self.rotary {
            Some(rotary) => self.validate_rotary(rotary),
            None => Ok(()),
        }
    }

    fn validate_cross(&self) -> Result<()> {
        let heads = self.cross_attention_config();
        between("cross-heads", heads.n_heads, 1, 1 << 16)?;
        between("cross-head-width", heads.head_width, 1, 1 << 16)?;
        if heads.n_kv_heads == 0 || !heads.n_heads.is_multiple_of(heads.n_kv_heads) {
            return wrong(
                "cross-kv-heads",
                heads.n_kv_heads,
                "a divisor of cross-heads",
            );
        }
        Ok(())
    }

    fn validate_rotary(&self, rotary: &RotaryConfig) -> Result<()> {
        between("rotary.axes", rotary.axes, 1, 3)?;
        if !(rotary.base.is_finite() && rotary.base > 0.0) {
            return wrong("rotary.base", rotary.base, "a positive number");
        }
        if rotary.shares(self.head_width()).is_none() {
            let found = format!("{:?} on {} axes", rotary.split, rotary.axes);
            let expected = format!("pairs that fill a head of {}", self.head_width());
            return wrong("rotary.split", found, &expected);
        }
        match rotary.scaling {
            Some(Scaling::Dynamic(by)) => self.validate_dynamic(rotary, by),
            _ => Ok(()),
        }
    }

    fn validate_dynamic(&self, rotary: &RotaryConfig, by: DynamicScaling) -> Result<()> {
        for (field, number) in [
            ("rotary.scaling.factor", by.factor),
            ("rotary.scaling.original-positions", by.original_positions),
        ] {
            if !(number.is_finite() && number > 0.0) {
                return wrong(field, number, "a positive number");
            }
        }
        // The slowest pair takes the whole stretch; of one pair alone it would be infinite.
        let shares = rotary.shares(self.head_width()).unwrap_or_default();
        match shares.contains(&1) {
            true => wrong("rotary.scaling", "dynamic", "two pairs at least to turn"),
            false => Ok(()),
        }
    }

    pub(crate) fn norm_config(&self) -> NormConfig {
        NormConfig {
            // A modulated norm has its gain and bias from the condition.
            kind: match (self.modulation, self.norm) {
                (Some(_), NormKind::Layer) => NormKind::LayerPlain,
                (_, kind) => kind,
            },
            eps: self.norm_eps,
        }
    }

    /// In front of cross-attention, which no condition modulates.
    pub(crate) fn cross_norm_config(&self) -> NormConfig {
        NormConfig {
            kind: self.norm,
            eps: self.norm_eps,
        }
    }

    /// Of one layer.
    pub(crate) fn attention_config(&self, layer: usize) -> AttentionConfig {
        let scale = self.attention_scale;
        let by_layer = |scale: f64| scale / (layer + 1) as f64;
        AttentionConfig {
            d_model: self.d_model,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads(),
            head_width: self.head_width(),
            qk_norm: self.qk_norm,
            norm_eps: self.norm_eps,
            qkv_bias: self.qkv_bias.unwrap_or(self.bias),
            out_bias: self.bias,
            scale: match self.attention_scale_by_layer {
                true => Some(by_layer(
                    scale.unwrap_or_else(|| (self.head_width() as f64).powf(-0.5)),
                )),
                false => scale,
            },
            out_std: self.out_std(),
        }
    }

    /// Cross-attention differs from self-attention in its heads alone.
    pub(crate) fn cross_attention_config(&self) -> AttentionConfig {
        let beside = self.attention_config(0);
        AttentionConfig {
            n_heads: self.cross_heads.unwrap_or(beside.n_heads),
            n_kv_heads: self
                .cross_kv_heads
                .or(self.cross_heads)
                .unwrap_or(beside.n_kv_heads),
            head_width: self.cross_head_width.unwrap_or(beside.head_width),
            ..beside
        }
    }

    pub(crate) fn feed_forward_config(&self) -> FeedForwardConfig {
        FeedForwardConfig {
            d_model: self.d_model,
            d_ff: self.d_ff.unwrap_or(4 * self.d_model),
            activation: self.activation,
            gated: self.gated,
            bias: self.feed_forward_bias.unwrap_or(self.bias),
            out_std: self.out_std(),
        }
    }

    /// GPT-2's: the more branches add up, the less each adds at the start.
    fn out_std(&self) -> f64 {
        if self.zero_init_out {
            return 0.0;
        }
        init::STD / (2.0 * self.layers as f64).sqrt()
    }
}

fn between(field: &str, found: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let expected = match most {
        usize::MAX => format!("at least {least}"),
        most => format!("{least} to {most}"),
    };
    wrong(field, found, &expected)
}

fn wrong(field: &str, found: impl ToString, expected: &str) -> Result<()> {
    Err(Error::Config {
        field: field.into(),
        found: found.to_string(),
        expected: expected.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut TransformerConfig), field: &str) {
        let mut config = TransformerConfig::default();
        change(&mut config);
        let error = config.validate().expect_err(field).to_string();
        assert!(error.starts_with(field), "{error}");
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        TransformerConfig::default()
            .validate()
            .expect("the default fits");
        check(|c| c.layers = 0, "layers");
        check(|c| c.layers = usize::MAX, "layers");
        check(|c| c.n_heads = 5, "n-heads");
        check(|c| c.n_heads = 0, "n-heads");
        check(|c| c.n_kv_heads = Some(3), "n-kv-heads");
        check(|c| c.dropout = f64::NAN, "dropout");
        check(|c| c.window = Some(0), "window");
        check(|c| c.cross_heads = Some(0), "cross-heads");
        check(|c| c.cross_kv_heads = Some(3), "cross-kv-heads");
        check(|c| c.shared_modulation = true, "shared-modulation");
        let relative = RelativeConfig {
            buckets: 2,
            farthest: 128,
            both_ways: true,
        };
        check(|c| c.relative = Some(relative), "relative.buckets");
        check(|c| c.full_layers = vec![0, 6], "full-layers");
        let rotary = RotaryConfig {
            split: Some(vec![1]),
            ..RotaryConfig::default()
        };
        check(|c| c.rotary = Some(rotary), "rotary.split");
        let dynamic = |factor, axes| RotaryConfig {
            axes,
            scaling: Some(Scaling::Dynamic(DynamicScaling {
                factor,
                original_positions: 16.0,
            })),
            ..RotaryConfig::default()
        };
        check(
            |c| c.rotary = Some(dynamic(f64::NAN, 1)),
            "rotary.scaling.factor",
        );
        check(
            |c| (c.head_width, c.rotary) = (Some(4), Some(dynamic(2.0, 2))),
            "rotary.scaling",
        );
    }

    #[test]
    fn a_definition_names_only_what_differs() {
        let read = |text| serde_json::from_str::<TransformerConfig>(text);
        let config = read(r#"{"layers": 2, "rotary": {"axes": 2}, "qk-norm": "rms"}"#);
        let config = config.expect("a sound definition");
        assert_eq!((config.layers, config.axes(), config.d_model), (2, 2, 256));
        let typo = read(r#"{"layer": 2}"#).expect_err("a typo").to_string();
        assert!(typo.contains("unknown field `layer`"), "{typo}");
    }
}
