//! Definitions of published models. Their files are pulled by the same name (`ravel models pull qwen3-0.6b`).

use ravel_pipeline::{Files, published_definitions};

/// Names with definitions.
pub static PUBLISHED: &[(&str, Files)] = published_definitions![
    []:
    "gpt2",
    "gpt2-medium",
    "gpt2-large",
    "gpt2-xl",
    "llama-3.2-1b",
    "llama-3.2-1b-instruct",
    "llama-3.2-3b",
    "llama-3.2-3b-instruct",
    "qwen2.5-0.5b",
    "qwen2.5-0.5b-instruct",
    "qwen2.5-1.5b",
    "qwen2.5-1.5b-instruct",
    "qwen2.5-3b",
    "qwen2.5-3b-instruct",
    "qwen2.5-7b",
    "qwen2.5-7b-instruct",
    "qwen3-0.6b",
    "qwen3-1.7b",
    "qwen3-4b",
    "qwen3-8b",
    "mistral-7b",
    "mistral-7b-instruct",
];

/// Definitions without weights, of sizes to measure.
pub static SHAPES: &[(&str, Files)] = &[
    (
        "llama-111m",
        &[(
            "pipeline.toml",
            include_bytes!("../presets/llama-111m.toml"),
        )],
    ),
    (
        "llama-10m",
        &[("pipeline.toml", include_bytes!("../presets/llama-10m.toml"))],
    ),
    (
        "llamagen-b",
        &[(
            "pipeline.toml",
            include_bytes!("../presets/llamagen-b.toml"),
        )],
    ),
    (
        "tiny",
        &[("pipeline.toml", include_bytes!("../presets/tiny.toml"))],
    ),
];
