//! Agreement with published reference code on tiny models with random weights.
//!
//! Bounds are 20 times what the reference itself moves when its weights are rounded differently, as
//! each folder's README measured it.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Int, Tensor};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{Attend, Backbone, Codes, Condition, Head, Layout, Scored, StepInput};
use ravel_heads::{NextScaleConfig, NextTokenConfig, PrefixConfig, StartKind};
use ravel_nn::{Activation, Llama3Scaling, NormKind, Pairs, QueryKeyNorm, RotaryConfig};
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

#[test]
fn llamagen_from_a_class() {
    const FOLDER: &str = "llamagen_gpt_c2i";
    let weights = Weights::open(FOLDER, "model.safetensors");
    let io = Golden::open(FOLDER, "io.safetensors");
    let device = device();
    let config = TransformerConfig {
        layers: 3,
        d_model: 48,
        n_heads: 4,
        norm_eps: 1e-5,
        d_ff: Some(128),
        activation: Activation::Silu,
        gated: true,
        rotary: Some(RotaryConfig {
            axes: 2,
            pairs: Pairs::Interleaved,
            mute_negative: true,
            ..RotaryConfig::default()
        }),
        ..TransformerConfig::default()
    };
    let mut model = config.init(&device);
    for (index, block) in model.blocks.iter_mut().enumerate() {
        let layer = format!("layers.{index}");
        let vector = |name: &str| weights.vector(&format!("{layer}.{name}.weight"));
        set_some(&mut block.attention_norm.gain, vector("attention_norm"));
        set_some(&mut block.feed_forward_norm.gain, vector("ffn_norm"));
        let joined = |names: &[&str]| weights.joined(&layer, names);
        set_linear(&mut block.attention.qkv, joined(&["attention.wqkv"]), None);
        set_linear(&mut block.attention.out, joined(&["attention.wo"]), None);
        let gate_and_up = joined(&["feed_forward.w1", "feed_forward.w3"]);
        set_linear(&mut block.feed_forward.up, gate_and_up, None);
        set_linear(
            &mut block.feed_forward.down,
            joined(&["feed_forward.w2"]),
            None,
        );
    }
    let norm = model.final_norm.as_mut().expect("a final norm");
    set_some(&mut norm.gain, weights.vector("norm.weight"));

    let prefix = PrefixConfig {
        vocabulary_size: 11,
        len: 1,
        positions: false,
        ..PrefixConfig::default()
    };
    let mut prefix = prefix.init(48, &device);
    let classes = weights.table("cls_embedding.embedding_table.weight");
    set(&mut prefix.tokens, classes);
    let layout = Layout::Grid {
        height: 4,
        width: 4,
    };
    let head = NextTokenConfig {
        codebook_size: 64,
        start: StartKind::Prefix,
        positions: false,
        causal_prefix: true,
        ..NextTokenConfig::default()
    };
    let mut head = head.init(48, 2, &layout, &device);
    set(&mut head.codebook, weights.table("tok_embeddings.weight"));
    let out = head.out.as_mut().expect("an untied head");
    set_linear(out, weights.turned("output.weight"), None);

    let class = io.ids::<1>("cond", &device).unsqueeze_dim(1);
    let condition = prefix.condition(class);
    let codes = io.ids::<2>("tokens", &device);
    // The reference also predicts what would follow the last code.
    let expected = io.tensor::<3>("full_logits", &device).narrow(1, 0, 16);
    let input = head.inputs(codes.clone(), &condition);
    let found = head.logits_of(model.forward(input, &condition));
    let bound = 20.0 * 1.08e-5;
    assert_close("whole", &found, &expected, bound);

    let codes = Codes::flat(codes, layout.clone());
    let mut state = model.start(2, 16);
    assert!(head.prefill(&condition).is_none());
    for unit in head.units(&layout) {
        let step = head.embed(&codes, &unit, &condition, None);
        let found = head.logits(model.step(step, &condition, &mut state), &unit);
        let expected = expected.clone().narrow(1, unit.index, 1);
        assert_close("step", &found, &expected, bound);
    }
}

#[test]
fn var() {
    const FOLDER: &str = "var_transformer";
    let weights = Weights::open(FOLDER, "var.safetensors");
    let io = Golden::open(FOLDER, "io.safetensors");
    let device = device();
    let config = TransformerConfig {
        layers: 3,
        d_model: 48,
        n_heads: 4,
        norm: NormKind::LayerPlain,
        norm_eps: 1e-6,
        activation: Activation::GeluTanh,
        bias: true,
        qk_norm: QueryKeyNorm::Cosine,
        modulation: Some(48),
        ..TransformerConfig::default()
    };
    let linear = |linear: &mut Linear, name: &str| {
        let bias = weights.vector(&format!("{name}.bias"));
        set_linear(
            linear,
            weights.turned(&format!("{name}.weight")),
            Some(bias),
        );
    };
    let mut model = config.init(&device);
    for (index, block) in model.blocks.iter_mut().enumerate() {
        let layer = format!("blocks.{index}");
        let modulation = block.modulation.as_mut().expect("a modulation");
        linear(
            modulation.linear.as_mut().expect("a projection"),
            &format!("{layer}.ada_lin.1"),
        );
        let vector = |name: &str| weights.vector(&format!("{layer}.attn.{name}"));
        let bias = ["q_bias", "zero_k_bias", "v_bias"].map(vector).to_vec();
        let qkv = weights.joined(&layer, &["attn.mat_qkv"]);
        set_linear(&mut block.attention.qkv, qkv, Some(Tensor::cat(bias, 0)));
        let name = format!("{layer}.attn.scale_mul_1H11");
        let scale = weights.0.tensor::<4>(&name, &device).reshape([4]);
        set_some(&mut block.attention.head_scale, scale);
        linear(&mut block.attention.out, &format!("{layer}.attn.proj"));
        linear(&mut block.feed_forward.up, &format!("{layer}.ffn.fc1"));
        linear(&mut block.feed_forward.down, &format!("{layer}.ffn.fc2"));
    }
    let modulation = model.final_modulation.as_mut().expect("a modulation");
    linear(&mut modulation.linear, "head_nm.ada_lin.1");

    let prefix = PrefixConfig {
        vocabulary_size: 11,
        len: 1,
        positions: false,
        modulation: true,
        ..PrefixConfig::default()
    };
    let mut prefix = prefix.init(48, &device);
    set(&mut prefix.tokens, weights.table("class_emb.weight"));
    let head = NextScaleConfig {
        codebook_size: 64,
        code_width: 16,
        start: StartKind::PrefixPlusLearned,
        ..NextScaleConfig::default()
    };
    let layout = Layout::square_scales(&[1, 2, 3, 4, 5, 6]);
    let mut head = head.init(48, 1, &layout, &device);
    let table = |name: &str| weights.0.tensor::<3>(name, &device).squeeze_dim::<2>(0);
    set_some(&mut head.start, table("pos_start"));
    set_some(&mut head.positions, table("pos_1LC"));
    set_some(&mut head.levels, weights.table("lvl_embed.weight"));
    linear(&mut head.features, "word_embed");
    linear(&mut head.out, "head");

    let class = io.ids::<1>("labels", &device).unsqueeze_dim(1);
    let condition = prefix.condition(class);
    let features = io.tensor::<3>("var_input", &device);
    let input = head.inputs(features, &condition);
    let hidden = model.forward(input.clone(), &condition);
    let expected = io.tensor::<3>("teacher_head_nm", &device);
    assert_close("hidden", &hidden, &expected, 20.0 * 6.44e-6);
    let expected = io.tensor::<3>("teacher_logits", &device);
    assert_close("logits", &head.logits_of(hidden), &expected, 20.0 * 8.88e-6);

    let mut state = model.start(2, layout.len());
    for unit in layout.blocks() {
        let step = StepInput {
            embedded: input
                .embedded
                .clone()
                .narrow(1, unit.span.start, unit.len()),
            coords: input.coords.clone().narrow(0, unit.span.start, unit.len()),
            attend: Attend::Unit,
        };
        let found = head.logits(model.step(step, &condition, &mut state), &unit);
        let expected = expected.clone().narrow(1, unit.span.start, unit.len());
        assert_close("step", &found, &expected, 20.0 * 8.88e-6);
    }
}
