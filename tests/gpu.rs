//! The same jobs on a GPU, or on Vulkan in software (Mesa's lavapipe): what the CPU makes is what wgpu makes, within rounding.
//!
//! Compiled with the feature `gpu` only; `make test-gpu` runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ravel_media::read_image;

use crate::command::{Run, ravel};
use crate::training::{good, workshop};

/// How a run's losses may differ between devices, as a share: five steps of float32 in another order of summation.
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
fn a_gpu_that_is_not_there_is_told_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let run = ravel(folder.path(), &["image", "x", "--device", "wgpu:77"]);
    // Drivers may add lines of their own.
    let told = "error: --device wgpu:77: no such GPU answers";
    assert!(run.code == 2 && run.err.contains(told), "{}", run.err);
    assert!(!run.err.contains("panicked"), "{}", run.err);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
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
        let bytes = |name: &str| fs::read(folder.path().join(name)).unwrap();
        assert!(
            bytes("gpu.png") == bytes("again.png"),
            "{pipeline}: a device repeats itself"
        );
    }
}

/// Makes a picture, with a few flags more.
fn picture(folder: &Path, pipeline: &str, device: &str, out: &str, flags: &[&str]) -> Run {
    let arguments = ["image", "a red heart", "--pipeline", pipeline, "--force"];
    let place = ["--device", device, "-o", out];
    ravel(folder, &[&arguments[..], &place, flags].concat())
}

/// Draws are made on the device, by the CPU's numbers. A code that fell to the other side of a border would change all that follows.
#[test]
fn a_drawn_picture_is_the_same_on_both_devices() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        &[][..],
        &["--top-k", "5", "--temperature", "1"],
        &["--top-p", "0.9", "--min-p", "0.01"],
    ];
    for pipeline in ["emoji-ar", "emoji-var"] {
        for flags in flags {
            let flags = [&["--seed", "3"], flags].concat();
            for (out, device) in [
                ("cpu.png", "cpu"),
                ("gpu.png", "wgpu"),
                ("again.png", "wgpu"),
            ] {
                good(picture(folder.path(), pipeline, device, out, &flags));
            }
            let difference = mean_difference(folder.path(), "cpu.png", "gpu.png");
            assert!(
                difference < BYTE,
                "{pipeline} {flags:?}: bytes differ by {difference} on average"
            );
            let bytes = |name: &str| fs::read(folder.path().join(name)).unwrap();
            assert!(
                bytes("gpu.png") == bytes("again.png"),
                "{pipeline} {flags:?}: a device repeats itself"
            );
        }
    }
}

/// A device computes in half precision or says in a line that it does not. Rounding may change codes, so that pictures are not compared.
#[test]
fn weights_in_half_run_where_the_device_computes_in_half() {
    let folder = tempfile::tempdir().unwrap();
    good(picture(
        folder.path(),
        "emoji-ar",
        "cpu",
        "cpu.png",
        &["--temperature", "0"],
    ));
    for kind in ["f16", "bf16"] {
        let out = format!("{kind}.png");
        let flags = ["--temperature", "0", "--weights-type", kind];
        let run = picture(folder.path(), "emoji-ar", "wgpu", &out, &flags);
        if run.code == 0 {
            let size = |name: &str| read_image(&folder.path().join(name)).unwrap().rgb.len();
            assert_eq!(size(&out), size("cpu.png"), "{kind}");
            continue;
        }
        let told = format!("does not multiply by weights of type {kind}");
        assert!(run.code == 2 && run.err.contains(&told), "{}", run.err);
        assert!(run.err.contains("--weights-type f32"), "{}", run.err);
        assert!(!folder.path().join(&out).exists());
    }
}

/// On a GPU only weights are rounded to eight or four bits. So the CPU says the same with what a file of them holds, taken as f32, whether the device rounds
/// the weights or finds that the file holds no more.
#[test]
fn quantized_weights_say_what_their_numbers_say() {
    let folder = tempfile::tempdir().unwrap();
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/models/novels");
    let whole = format!("{assets}/model.safetensors");
    for file in ["pipeline.toml", "tokenizer.json"] {
        fs::copy(format!("{assets}/{file}"), folder.path().join(file)).unwrap();
    }
    let prompt = "It was a truth which the whole neighbourhood, and Mrs. Bennet above all, had acknowledged for";
    let said = |pipeline: &str, device: &str, kind: &str| {
        let surest = ["--max-tokens", "24", "--temperature", "0"];
        let weights = ["--device", device, "--weights-type", kind];
        let arguments = ["text", prompt, "--pipeline", pipeline];
        good(ravel(
            folder.path(),
            &[&arguments[..], &surest, &weights].concat(),
        ))
        .text()
    };
    for kind in ["q8", "q4"] {
        let cut = ["quantize", &whole, "model.safetensors", "--force"];
        good(ravel(
            folder.path(),
            &[&cut[..], &["--type", kind]].concat(),
        ));
        let expected = said("pipeline.toml", "cpu", "f32");
        assert!(expected.trim().len() > 20, "{expected}");
        for (pipeline, weights) in [
            ("novels", kind),
            ("pipeline.toml", kind),
            ("pipeline.toml", "auto"),
        ] {
            assert_eq!(
                said(pipeline, "wgpu", weights),
                expected,
                "{kind}: {pipeline} with weights {weights}"
            );
        }
    }
}

/// Losses of a run by step.
fn losses(folder: &Path, name: &str) -> BTreeMap<u64, f64> {
    let log = fs::read_to_string(folder.join(format!("runs/{name}/log.jsonl"))).unwrap();
    let rows = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let trained = rows.filter(|row| row["kind"] == "train");
    trained
        .map(|row| (row["step"].as_u64().unwrap(), row["loss"].as_f64().unwrap()))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// First weights are drawn by each device's own generator, so the run on wgpu goes on from the CPU's first checkpoint.
#[test]
fn the_same_recipe_trains_on_both_devices() {
    let cpu = workshop();
    for name in ["tiny-tokenizer", "tiny-ar", "tiny-pyramid", "tiny-var"] {
        let recipe = format!("{name}.toml");
        let path = cpu.path().join(&recipe);
        let text = fs::read_to_string(&path).unwrap() + "keep = 10\n";
        fs::write(&path, &text).unwrap();
        let gpu = workshop();
        fs::write(gpu.path().join(&recipe), &text).unwrap();
        if cpu.path().join("runs").exists() {
            copy(&cpu.path().join("runs"), &gpu.path().join("runs"));
        }
        good(ravel(cpu.path(), &["train", &recipe]));
        let run = format!("runs/{name}/checkpoints");
        fs::create_dir_all(gpu.path().join(&run)).unwrap();
        let first = format!("{run}/step-00000001.safetensors");
        fs::copy(cpu.path().join(&first), gpu.path().join(&first)).unwrap();
        good(ravel(
            gpu.path(),
            &["train", &recipe, "--resume", "--device", "wgpu"],
        ));
        let (on_cpu, on_gpu) = (losses(cpu.path(), name), losses(gpu.path(), name));
        for step in 1..6 {
            let (one, other) = (on_cpu[&step], on_gpu[&step]);
            let apart = (one - other).abs() / one.abs().max(1e-3);
            assert!(
                apart < LOSS,
                "{name}, step {step}: {one} on the CPU, {other} on wgpu"
            );
        }
    }
}
