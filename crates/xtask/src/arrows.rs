//! The dependency arrows that ARCHITECTURE.md forbids, asked of `cargo tree`.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A crate and those that it must not reach, with the reason that is printed when it does.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "ravel-hub",
        &["burn", "ravel-weights", "clap", "indicatif"],
        "fetching knows no tensor and prints nothing",
    ),
    (
        "ravel-pipeline",
        &["ureq"],
        "running a pipeline looks into the cache and needs no network",
    ),
    (
        "ravel-core",
        &[
            "ravel-nn",
            "ravel-quant",
            "image",
            "tokenizers",
            "safetensors",
        ],
        "the shared words know no model and no file",
    ),
    (
        "ravel-decode",
        &[
            "ravel-heads",
            "ravel-backbone",
            "vq-image",
            "multiscale-image",
            "causal-video",
            "image",
        ],
        "decoding knows no head, no tokenizer and no pixels",
    ),
    (
        "ravel-heads",
        &[
            "vq-image",
            "multiscale-image",
            "causal-video",
            "ravel-quant",
            "ravel-decode",
            "ravel-backbone",
        ],
        "heads know no tokenizer, no decoding method and no backbone",
    ),
    (
        "ravel-backbone",
        &[
            "ravel-heads",
            "ravel-decode",
            "vq-image",
            "multiscale-image",
        ],
        "the backbone does not know what is predicted",
    ),
    (
        "vq-image",
        &[
            "ravel-heads",
            "ravel-backbone",
            "ravel-decode",
            "image",
            "safetensors",
        ],
        "a tokenizer does not know that anything predicts its codes",
    ),
    (
        "multiscale-image",
        &[
            "ravel-heads",
            "ravel-backbone",
            "ravel-decode",
            "image",
            "safetensors",
        ],
        "a tokenizer does not know that anything predicts its codes",
    ),
    (
        "causal-video",
        &[
            "ravel-heads",
            "ravel-backbone",
            "ravel-decode",
            "image",
            "safetensors",
        ],
        "a tokenizer does not know that anything predicts its codes",
    ),
    (
        "video-continuation",
        &["clap", "indicatif", "image", "ravel-train"],
        "only the command line prints, and running needs no trainer",
    ),
    (
        "vq-video",
        &[
            "ravel-heads",
            "ravel-backbone",
            "ravel-decode",
            "image",
            "safetensors",
        ],
        "a tokenizer does not know that anything predicts its codes",
    ),
    (
        "wavelet-video",
        &[
            "ravel-heads",
            "ravel-backbone",
            "ravel-decode",
            "image",
            "safetensors",
        ],
        "a tokenizer does not know that anything predicts its codes",
    ),
    (
        "rvq-codec",
        &[
            "ravel-heads",
            "ravel-decode",
            "image",
            "hound",
            "safetensors",
        ],
        "a tokenizer does not know that anything predicts its codes",
    ),
    (
        "multirate-codec",
        &[
            "ravel-heads",
            "ravel-backbone",
            "ravel-decode",
            "image",
            "hound",
            "safetensors",
        ],
        "a tokenizer does not know that anything predicts its codes",
    ),
    (
        "ravel-quant",
        &["ravel-nn", "vq-image", "image"],
        "quantizers know no network",
    ),
    (
        "ravel-train",
        &["clap", "indicatif"],
        "only the command line prints",
    ),
    (
        "ravel-pipeline",
        &["clap", "indicatif", "image", "ravel-train"],
        "only the command line prints, and running needs no trainer",
    ),
    (
        "ravel-families",
        &["ravel-pipeline", "ravel-decode", "clap", "image"],
        "a published family is configuration and names, not a way of running",
    ),
    (
        "ravel-pronounce",
        &["burn", "tokenizers", "clap"],
        "text to phonemes knows no tensor and prints nothing",
    ),
    (
        "text-to-speech",
        &["clap", "indicatif", "image", "ravel-train", "ravel-media"],
        "only the command line prints, and sound is written elsewhere",
    ),
    (
        "text-generation",
        &["clap", "indicatif", "image", "ravel-train", "ravel-media"],
        "only the command line prints, and text has no pictures",
    ),
    (
        "ravel-eval",
        &["ravel-train", "clap", "image"],
        "measures open no file",
    ),
];

/// Asks `cargo tree` about every forbidden arrow.
pub fn check() -> Result<()> {
    let mut broken = Vec::new();
    for package in ["ravel-cli", "ravel-train"] {
        if reached_by(package)?.contains("ravel-golden") {
            broken.push(format!("{package} reaches ravel-golden: development only"));
        }
    }
    for (package, forbidden, reason) in FORBIDDEN {
        let reached = reached_by(package)?;
        for target in forbidden.iter().filter(|target| reached.contains(**target)) {
            broken.push(format!("{package} reaches {target}: {reason}"));
        }
    }
    if broken.is_empty() {
        println!("{} crates keep to their arrows", FORBIDDEN.len());
        return Ok(());
    }
    bail!("{}", broken.join("\n       "))
}

/// All packages that `package` uses, directly or not, outside tests.
fn reached_by(package: &str) -> Result<BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--package", package, "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .context("cargo tree cannot be run")?;
    if !output.status.success() {
        bail!(
            "cargo tree {package}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(String::from)
        .collect())
}
