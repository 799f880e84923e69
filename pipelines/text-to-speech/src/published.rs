//! Definitions of published models. Their weights are pulled by the same name (`ravel models pull csm-1b`).

use ravel_pipeline::{Files, published_definitions};

/// Names with definitions of models that speak and of models that make music.
pub static PUBLISHED: &[(&str, Files)] = published_definitions![
    []:
    "fish-speech-1.5",
    "csm-1b",
    "dia-1.6b",
    "musicgen-small",
    "musicgen-medium",
    "musicgen-large",
    "musicgen-melody",
];

/// Definitions without weights, of sizes to measure.
pub static SHAPES: &[(&str, Files)] = &[
    (
        "speak",
        &[(
            "pipeline.toml",
            include_bytes!("../../../assets/models/speak/pipeline.toml"),
        )],
    ),
    (
        "tiny",
        &[("pipeline.toml", include_bytes!("../presets/tiny.toml"))],
    ),
];
