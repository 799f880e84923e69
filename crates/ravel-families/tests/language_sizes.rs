//! Every published language model has the stated number of parameters. Weights are drawn when they are first read, so counting them
//! allocates nothing.

use burn::module::Module;
use ravel_core::Layout;
use ravel_families::language;
use ravel_testkit::device;
use serde_json::{Value, json};

/// Numbers in a model of this configuration.
fn parameters(config: &Value) -> usize {
    let config = language::read(&config.to_string()).unwrap();
    config.validate().unwrap();
    let layout = Layout::Sequence {
        len: config.context,
    };
    let axes = config.backbone.axes();
    let head = config
        .head
        .init(config.backbone.d_model, axes, &layout, &device());
    config.backbone.init(&device()).num_params() + head.num_params()
}

#[track_caller]
fn check(config: Value, expected: usize) {
    assert_eq!(parameters(&config), expected, "{config}");
}

#[test]
fn gpt2() {
    let sized = |width: usize, layers: usize, heads: usize| json!({"model_type": "gpt2", "n_embd": width, "n_layer": layers, "n_head": heads});
    check(sized(768, 12, 12), 124_439_808);
    check(sized(1024, 24, 16), 354_823_168);
    check(sized(1280, 36, 20), 774_030_080);
    check(sized(1600, 48, 25), 1_557_611_200);
}

#[test]
fn llama_3_2() {
    let sized = |width: usize, layers: usize, heads: usize, head: usize| {
        json!({
            "model_type": "llama", "vocab_size": 128_256, "hidden_size": width, "intermediate_size": 8192,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": head,
            "tie_word_embeddings": true, "rope_theta": 500_000.0, "max_position_embeddings": 131_072,
            "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        })
    };
    check(sized(2048, 16, 32, 64), 1_235_814_400);
    check(sized(3072, 28, 24, 128), 3_212_749_824);
}

#[test]
fn qwen_2_5() {
    let sized = |width: usize, inner: usize, layers: usize, heads: usize, shared: usize| {
        json!({
            "model_type": "qwen2", "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": shared, "tie_word_embeddings": width < 3000,
            "vocab_size": if width < 3000 { 151_936 } else { 152_064 }, "rope_theta": 1_000_000.0,
            "max_position_embeddings": 32_768,
        })
    };
    check(sized(896, 4864, 24, 14, 2), 494_032_768);
    check(sized(1536, 8960, 28, 12, 2), 1_543_714_304);
    check(sized(2048, 11_008, 36, 16, 2), 3_085_938_688);
    check(sized(3584, 18_944, 28, 28, 4), 7_615_616_512);
}

#[test]
fn qwen_3() {
    let sized = |width: usize, inner: usize, layers: usize, heads: usize| {
        json!({
            "model_type": "qwen3", "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
            "tie_word_embeddings": width < 4000, "rope_theta": 1_000_000.0, "max_position_embeddings": 40_960,
        })
    };
    check(sized(1024, 3072, 28, 16), 596_049_920);
    check(sized(2048, 6144, 28, 16), 1_720_574_976);
    check(sized(2560, 9728, 36, 32), 4_022_468_096);
    check(sized(4096, 12_288, 36, 32), 8_190_735_360);
}

#[test]
fn mistral() {
    check(
        json!({"model_type": "mistral", "vocab_size": 32_000}),
        7_241_732_096,
    );
}
