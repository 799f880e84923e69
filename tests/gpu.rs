//! The same jobs on a GPU, or on Vulkan in software (Mesa's lavapipe): what the CPU makes is what wgpu makes, within rounding.
//!
//! Compiled with the feature `gpu` only; `make test-gpu` runs it.

use std::path::Path;

use ravel_media::read_image;

use crate::command::ravel;
use crate::training::{good, workshop};

/// How a run's losses may differ between devices, as a share: six steps of float32 in another order of summation.
const LOSS: f64 = 2e-3;

/// Largest mean difference of a byte of a picture made of the same codes.
const BYTE: f64 = 1.0;

fn mean_difference(folder: &Path, one: &str, other: &str) -> f64 {
    let read = |name: &str| read_image(&folder.join(name)).unwrap().rgb;
    let (one, other) = (read(one), read(other));
    assert_eq!(one.len(), other.len());
    let difference = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b));
    one.iter().zip(&other).map(difference).sum::<f64>() / one.len() as f64
}

#[test]
fn the_doctor_finds_a_device_that_computes_rightly() {
    let folder = tempfile::tempdir().unwrap();
    let run = good(ravel(folder.path(), &["doctor", "--json"]));
    let report: serde_json::Value = serde_json::from_slice(&run.out).unwrap();
    assert_eq!(report["devices"]["wgpu"], true, "{report}");
}

#[test]
fn the_surest_picture_is_the_same_on_both_devices() {
    let folder = tempfile::tempdir().unwrap();
    for pipeline in ["emoji-ar", "emoji-var"] {
        for (out, device) in [
            ("cpu.png", "cpu"),
            ("gpu.png", "wgpu"),
            ("again.png", "wgpu"),
        ] {
            let arguments = [
                "image",
                "a red heart",
                "--pipeline",
                pipeline,
                "--temperature",
                "0",
                "--device",
                device,
                "-o",
                out,
                "--force",
            ];
            good(ravel(folder.path(), &arguments));
        }
        let difference = mean_difference(folder.path(), "cpu.png", "gpu.png");
        assert!(
            difference < BYTE,
            "{pipeline}: bytes differ by {difference} on average"
        );
        let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        assert!(
            bytes("gpu.png") == bytes("again.png"),
            "{pipeline}: a device repeats itself"
        );
    }
}

#[test]
fn the_same_recipe_trains_on_both_devices() {
    let (cpu, gpu) = (workshop(), workshop());
    for name in ["tiny-tokenizer", "tiny-ar", "tiny-pyramid", "tiny-var"] {
        let recipe = format!("{name}.toml");
        good(ravel(cpu.path(), &["train", &recipe]));
        good(ravel(gpu.path(), &["train", &recipe, "--device", "wgpu"]));
        let losses = |folder: &Path| -> Vec<f64> {
            let log =
                std::fs::read_to_string(folder.join(format!("runs/{name}/log.jsonl"))).unwrap();
            let rows = log
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            rows.filter_map(|row| row["loss"].as_f64()).collect()
        };
        let (on_cpu, on_gpu) = (losses(cpu.path()), losses(gpu.path()));
        assert_eq!(on_cpu.len(), on_gpu.len());
        assert!(on_cpu.len() >= 6, "a loss for every step");
        for (at, (one, other)) in on_cpu.iter().zip(&on_gpu).enumerate() {
            let apart = (one - other).abs() / one.abs().max(1e-3);
            assert!(
                apart < LOSS,
                "{name}, row {at}: {one} on the CPU, {other} on wgpu"
            );
        }
    }
}
