//! Definitions of published models. Their weights are pulled by the same name (`ravel models pull var-d16`).

use ravel_pipeline::{Files, published_definitions};

static CLASSES: &[u8] = include_bytes!("../../../assets/classes/imagenet-1k.tsv");

/// Names with definitions and what lies beside them: the names of ImageNet's classes.
pub static PUBLISHED: &[(&str, Files)] = published_definitions![
    [("imagenet-1k.tsv", CLASSES)]:
    "llamagen-b-256",
    "llamagen-b-384",
    "llamagen-l-256",
    "llamagen-l-384",
    "llamagen-xl-384",
    "llamagen-xxl-384",
    "llamagen-3b-384",
    "llamagen-t2i-256",
    "llamagen-t2i-512",
    "var-d16",
    "var-d20",
    "var-d24",
    "var-d30",
    "var-d36",
    "mar-base",
    "mar-large",
    "mar-huge",
    "infinity-2b",
];

/// A definition without weights, of toy sizes, to try measurements out.
pub static TINY: Files = &[
    ("pipeline.toml", include_bytes!("../presets/tiny.toml")),
    ("imagenet-1k.tsv", CLASSES),
];
