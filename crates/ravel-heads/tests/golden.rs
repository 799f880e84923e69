//! Agreement with published reference code on tiny models with random weights.
//!
//! Bounds are 20 times what the reference itself moves when its weights are rounded differently, as
//! each folder's README measured it.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Int, Tensor};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{Attend, Backbone, Condition, StepInput};
use ravel_nn::{Activation, Llama3Scaling, NormKind, QueryKeyNorm, RotaryConfig};
use ravel_testkit::{Golden, assert_close, device};

/// A reference's weights by their own names.
struct Weights(Golden);

impl Weights {
    fn open(folder: &str, file: &str) -> Self {
        Self(Golden::open(folder, file))
    }

    fn vector(&self, name: &str) -> Tensor<1> {
        self.0.tensor(name, &device())
    }

    fn table(&self, name: &str) -> Tensor<2> {
        self.0.tensor(name, &device())
    }

    /// PyTorch keeps `[out, in]`.
    fn turned(&self, name: &str) -> Tensor<2> {
        self.table(name).transpose()
    }

    fn joined(&self, layer: &str, names: &[&str]) -> Tensor<2> {
        let parts = names
            .iter()
            .map(|name| self.turned(&format!("{layer}.{name}.weight")));
        Tensor::cat(parts.collect(), 1)
    }
}

fn set<const D: usize>(param: &mut Param<Tensor<D>>, value: Tensor<D>) {
    assert_eq!(param.val().dims(), value.dims());
    *param = Param::from_tensor(value);
}

fn set_some<const D: usize>(param: &mut Option<Param<Tensor<D>>>, value: Tensor<D>) {
    set(
        param.as_mut().expect("the configuration has this weight"),
        value,
    );
}

fn set_linear(linear: &mut Linear, weight: Tensor<2>, bias: Option<Tensor<1>>) {
    set(&mut linear.weight, weight);
    assert_eq!(linear.bias.is_some(), bias.is_some());
    if let Some(bias) = bias {
        set_some(&mut linear.bias, bias);
    }
}

fn running(n: usize) -> Tensor<2, Int> {
    Tensor::arange(0..n as i64, &device()).unsqueeze_dim(1)
}

fn causal(embedded: Tensor<3>) -> StepInput {
    StepInput {
        coords: running(embedded.dims()[1]),
        embedded,
        attend: Attend::Causal,
    }
}

/// Checks a causal language model whole and step by step.
fn check_language_model(
    folder: &str,
    model: &Transformer,
    table: Tensor<2>,
    out: Tensor<2>,
    bound: f32,
) {
    let io = Golden::open(folder, "io.safetensors");
    let ids = io.ids::<2>("ids", &device());
    let expected = io.tensor::<3>("logits", &device());
    let embedded = burn::tensor::module::embedding(table, ids);
    let none = Condition::default();
    let scores = |hidden: Tensor<3>| hidden.matmul(out.clone().unsqueeze());

    let whole = scores(model.forward(causal(embedded.clone()), &none));
    assert_close(folder, &whole, &expected, bound);

    let [batch, n, _] = embedded.dims();
    let mut state = model.start(batch, n);
    let mut parts = Vec::new();
    for at in 0..n {
        let input = StepInput {
            embedded: embedded.clone().narrow(1, at, 1),
            coords: running(n).narrow(0, at, 1),
            attend: Attend::Unit,
        };
        parts.push(scores(model.step(input, &none, &mut state)));
    }
    assert_close(folder, &Tensor::cat(parts, 1), &expected, bound);
}

/// The hub's layout of LLaMA and its kin.
fn hub_llama(config: &TransformerConfig, weights: &Weights) -> Transformer {
    let mut model = config.init(&device());
    for (index, block) in model.blocks.iter_mut().enumerate() {
        let layer = format!("model.layers.{index}");
        let vector = |name: &str| weights.vector(&format!("{layer}.{name}.weight"));
        set_some(&mut block.attention_norm.gain, vector("input_layernorm"));
        set_some(
            &mut block.feed_forward_norm.gain,
            vector("post_attention_layernorm"),
        );
        let names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        set_linear(
            &mut block.attention.qkv,
            weights.joined(&layer, &names),
            None,
        );
        set_linear(
            &mut block.attention.out,
            weights.joined(&layer, &["self_attn.o_proj"]),
            None,
        );
        if config.qk_norm == QueryKeyNorm::Rms {
            set_some(&mut block.attention.q_gain, vector("self_attn.q_norm"));
            set_some(&mut block.attention.k_gain, vector("self_attn.k_norm"));
        }
        let names = ["mlp.gate_proj", "mlp.up_proj"];
        set_linear(
            &mut block.feed_forward.up,
            weights.joined(&layer, &names),
            None,
        );
        set_linear(
            &mut block.feed_forward.down,
            weights.joined(&layer, &["mlp.down_proj"]),
            None,
        );
    }
    let norm = model.final_norm.as_mut().expect("a final norm");
    set_some(&mut norm.gain, weights.vector("model.norm.weight"));
    model
}

fn check_hub_llama(folder: &str, config: TransformerConfig, bound: f32) {
    let weights = Weights::open(folder, "model.safetensors");
    let model = hub_llama(&config, &weights);
    let table = weights.table("model.embed_tokens.weight");
    check_language_model(
        folder,
        &model,
        table,
        weights.turned("lm_head.weight"),
        bound,
    );
}

#[test]
fn llama() {
    let config = TransformerConfig {
        layers: 3,
        d_model: 64,
        n_heads: 4,
        n_kv_heads: Some(2),
        d_ff: Some(112),
        activation: Activation::Silu,
        gated: true,
        rotary: Some(RotaryConfig {
            scaling: Some(Llama3Scaling {
                factor: 8.0,
                low_frequency_factor: 1.0,
                high_frequency_factor: 4.0,
                original_positions: 64.0,
            }),
            ..RotaryConfig::default()
        }),
        ..TransformerConfig::default()
    };
    check_hub_llama("llama", config, 20.0 * 3.16e-6);
}

#[test]
fn qwen3() {
    let config = TransformerConfig {
        layers: 2,
        d_model: 48,
        n_heads: 4,
        n_kv_heads: Some(2),
        head_width: Some(16),
        d_ff: Some(96),
        activation: Activation::Silu,
        gated: true,
        qk_norm: QueryKeyNorm::Rms,
        rotary: Some(RotaryConfig {
            base: 1e6,
            ..RotaryConfig::default()
        }),
        ..TransformerConfig::default()
    };
    check_hub_llama("qwen3", config, 20.0 * 3.16e-6);
}

#[test]
fn gpt2() {
    let config = TransformerConfig {
        layers: 3,
        d_model: 48,
        n_heads: 4,
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        activation: Activation::GeluTanh,
        bias: true,
        learned_positions: Some(64),
        ..TransformerConfig::default()
    };
    let weights = Weights::open("gpt2", "model.safetensors");
    let mut model = config.init(&device());
    set_some(
        &mut model.positions,
        weights.table("transformer.wpe.weight"),
    );
    let norm = |norm: &mut ravel_nn::Norm, name: &str| {
        set_some(&mut norm.gain, weights.vector(&format!("{name}.weight")));
        set_some(&mut norm.bias, weights.vector(&format!("{name}.bias")));
    };
    for (index, block) in model.blocks.iter_mut().enumerate() {
        let layer = format!("transformer.h.{index}");
        norm(&mut block.attention_norm, &format!("{layer}.ln_1"));
        norm(&mut block.feed_forward_norm, &format!("{layer}.ln_2"));
        // GPT-2 keeps [in, out].
        let linear = |linear: &mut Linear, name: &str| {
            let weight = weights.table(&format!("{layer}.{name}.weight"));
            let bias = weights.vector(&format!("{layer}.{name}.bias"));
            set_linear(linear, weight, Some(bias));
        };
        linear(&mut block.attention.qkv, "attn.c_attn");
        linear(&mut block.attention.out, "attn.c_proj");
        linear(&mut block.feed_forward.up, "mlp.c_fc");
        linear(&mut block.feed_forward.down, "mlp.c_proj");
    }
    norm(
        model.final_norm.as_mut().expect("a final norm"),
        "transformer.ln_f",
    );
    let table = weights.table("transformer.wte.weight");
    check_language_model(
        "gpt2",
        &model,
        table.clone(),
        table.transpose(),
        20.0 * 1.2e-5,
    );
}
