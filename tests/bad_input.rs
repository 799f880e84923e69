//! Everything that can be handed in wrongly: one clear line, exit code 2, nothing written.

use std::collections::BTreeMap;
use std::path::Path;

use ravel_media::{Picture, encode_png};
use ravel_weights::{Checkpoint, Dtype, save};

use crate::command::{check_refused, ravel};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// The embedded `emoji-ar` as files, to be damaged.
pub fn unpacked() -> tempfile::TempDir {
    let folder = folder();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/emoji-ar");
    for name in [
        "pipeline.toml",
        "generator.safetensors",
        "tokenizer.safetensors",
        "text.json",
    ] {
        std::fs::copy(models.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Changes the definition in a folder.
pub fn edited(folder: &Path, from: &str, to: &str) {
    let path = folder.join("pipeline.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in the definition");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// A picture by the definition in a folder.
pub fn image_with(folder: &Path) -> crate::command::Run {
    ravel(
        folder,
        &[
            "image",
            "fox",
            "-o",
            "out.png",
            "--pipeline",
            "pipeline.toml",
        ],
    )
}

#[test]
fn unknown_pipelines_and_prompts_that_cannot_be_used() {
    let folder = folder();
    let go = |arguments: &[&str]| ravel(folder.path(), arguments);
    check_refused(
        &go(&["image", "fox", "--pipeline", "emoji-arr"]),
        "no pipeline `emoji-arr`",
    );
    check_refused(&go(&["image"]), "no prompt");
    check_refused(&go(&["image", ""]), "empty");
    check_refused(&go(&["image", " \t "]), "empty");
    check_refused(&go(&["image", &"a cat ".repeat(17_000)]), "bytes");
    check_refused(
        &go(&[
            "image",
            "one two three four five six seven eight nine ten eleven twelve thirteen fourteen",
        ]),
        "subwords",
    );
    check_refused(&go(&["image", "fox", "-n", "0"]), "0 pictures");
    check_refused(
        &go(&["image", "fox", "--prompts", "nothing.txt"]),
        "nothing.txt",
    );
    check_refused(&go(&["image", "fox", "--temperature", "-1"]), "temperature");
    check_refused(&go(&["image", "fox", "--top-p", "7"]), "top-p");
    check_refused(&go(&["image", "fox", "-o", "fox.jpg"]), "PNG");
    check_refused(&go(&["image", "fox", "owl", "-o", "-"]), "standard output");
    assert_eq!(files(folder.path()), 0, "nothing was written");
}

#[test]
fn flags_that_do_not_exist_and_devices_that_are_not_there() {
    let folder = folder();
    let run = ravel(folder.path(), &["image", "fox", "--guidence", "1"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("--guidance"), "{}", run.err);
    let run = ravel(folder.path(), &["image", "fox", "--device", "tpu"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("cpu"), "{}", run.err);
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn outputs_are_never_overwritten_and_must_be_writable() {
    let folder = folder();
    let out = folder.path().join("out.png");
    std::fs::write(&out, "mine").unwrap();
    check_refused(
        &ravel(folder.path(), &["image", "fox", "-o", "out.png"]),
        "exists already",
    );
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    let run = ravel(folder.path(), &["image", "fox", "-o", "out.png", "--force"]);
    assert_eq!(run.code, 0, "{}", run.err);
    check_refused(
        &ravel(folder.path(), &["image", "fox", "-o", "no/such/out.png"]),
        "no/such",
    );
    check_refused(
        &ravel(folder.path(), &["image", "fox", "-o", "/proc/out.png"]),
        "/proc",
    );
    assert_eq!(files(folder.path()), 1);
}

#[test]
fn a_typo_in_a_definition_is_shown_at_its_place() {
    let folder = unpacked();
    edited(folder.path(), "guidance", "guidence");
    let run = image_with(folder.path());
    check_refused(&run, "pipeline.toml:");
    check_refused(&run, "did you mean `guidance`?");
    let text = std::fs::read_to_string(folder.path().join("pipeline.toml")).unwrap();
    let line = text
        .lines()
        .position(|line| line.starts_with("guidence"))
        .unwrap()
        + 1;
    check_refused(&run, &format!("pipeline.toml:{line}:1:"));
    assert!(!folder.path().join("out.png").exists());
}

#[test]
fn sizes_that_do_not_agree_are_named() {
    let folder = unpacked();
    edited(folder.path(), "length = 20", "length = 0");
    check_refused(&image_with(folder.path()), "text.length");
    let folder = unpacked();
    edited(folder.path(), "size = 64", "size = 63");
    check_refused(&image_with(folder.path()), "size");
    let folder = unpacked();
    edited(
        folder.path(),
        "file = \"text.json\"",
        "file = \"../text.json\"",
    );
    check_refused(&image_with(folder.path()), "own folder");
}

#[test]
fn missing_extra_and_misshapen_tensors_are_reported_together() {
    let folder = unpacked();
    let path = folder.path().join("generator.safetensors");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let mut tensors = Vec::new();
    for name in checkpoint.names() {
        match name {
            "prefix.tokens" => {}
            "head.out.weight" => {
                let data = burn::tensor::TensorData::new::<f32, _>(vec![0.0; 6], [2, 3]);
                tensors.push((name.to_string(), data));
            }
            name => tensors.push((name.to_string(), checkpoint.real(name).unwrap())),
        }
    }
    let extra = burn::tensor::TensorData::new::<f32, _>(vec![0.0], [1]);
    tensors.push(("backbone.extra".to_string(), extra));
    save(&path, tensors, &BTreeMap::new(), Dtype::F16).unwrap();
    let run = image_with(folder.path());
    for part in [
        "missing: `prefix.tokens`",
        "unused: `backbone.extra`",
        "`head.out.weight` is [2, 3]",
    ] {
        check_refused(&run, part);
    }
}

#[test]
fn damaged_weights_are_refused() {
    let folder = unpacked();
    let path = folder.path().join("tokenizer.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() / 2], b"", &u64::MAX.to_le_bytes()[..]] {
        std::fs::write(&path, bytes).unwrap();
        check_refused(&image_with(folder.path()), "tokenizer.safetensors");
    }
    std::fs::remove_file(&path).unwrap();
    check_refused(&image_with(folder.path()), "tokenizer.safetensors");
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let folder = unpacked();
    let path = folder.path().join("generator.safetensors");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let tensors = checkpoint.names().map(|name| {
        let data = checkpoint.real(name).unwrap();
        let shape = data.shape().clone();
        let mut values: Vec<f32> = data.try_into_vec().unwrap();
        if name == "prefix.tokens" {
            values[7] = f32::NAN;
        }
        (
            name.to_string(),
            burn::tensor::TensorData::new::<f32, _>(values, shape),
        )
    });
    let tensors: Vec<_> = tensors.collect();
    save(&path, tensors, &BTreeMap::new(), Dtype::F16).unwrap();
    check_refused(&image_with(folder.path()), "`prefix.tokens` holds NaN");
}

#[test]
fn pictures_that_cannot_be_read() {
    let folder = folder();
    let go = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        ravel(folder.path(), &["tokenizer", "encode", name])
    };
    check_refused(&go("empty.png", b""), "empty");
    check_refused(&go("text.png", b"no picture"), "not a picture");
    let mut huge = encode_png(&Picture::filled(9, 7, [1, 2, 3]), &[]);
    for at in [16, 20] {
        huge[at..at + 4].copy_from_slice(&20_000u32.to_be_bytes());
    }
    let sum = huge[12..29].iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    });
    huge[29..33].copy_from_slice(&(!sum).to_be_bytes());
    check_refused(&go("huge.png", &huge), "20000 x 20000");
    let mut none = huge.clone();
    none[16..24].fill(0);
    assert_eq!(go("none.png", &none).code, 2);
    check_refused(
        &ravel(folder.path(), &["tokenizer", "encode", "missing.png"]),
        "missing.png",
    );
}

#[test]
fn codes_and_pictures_that_cannot_be_used_again() {
    let folder = folder();
    let go = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        ravel(
            folder.path(),
            &["tokenizer", "decode", name, "-o", "out.png"],
        )
    };
    let codes = |ids: &str| {
        format!(
            "{{\"pipeline\":\"emoji-ar\",\"layout\":{{\"kind\":\"grid\",\"height\":8,\"width\":8}},\"ids\":[{ids}]}}"
        )
    };
    check_refused(&go("a.json", "[]"), "a.json");
    check_refused(&go("b.json", &codes("1, 2")), "2 filled positions");
    check_refused(
        &go("c.json", &codes(&vec!["9999"; 64].join(","))),
        "id 9999",
    );
    check_refused(
        &go("d.json", &codes(&vec!["4294967295"; 64].join(","))),
        "too large",
    );
    std::fs::write(
        folder.path().join("plain.png"),
        encode_png(&Picture::filled(4, 4, [0; 3]), &[]),
    )
    .unwrap();
    check_refused(
        &ravel(folder.path(), &["replay", "plain.png"]),
        "how it was made",
    );
    assert!(!folder.path().join("out.png").exists());
}

#[test]
fn recipes_that_cannot_be_run() {
    let folder = folder();
    let go = |text: &str| {
        std::fs::write(folder.path().join("recipe.toml"), text).unwrap();
        ravel(folder.path(), &["train", "recipe.toml"])
    };
    check_refused(&go("name = 3"), "recipe.toml:1:8");
    check_refused(&go("nmae = \"x\""), "recipe.toml:1:1");
    check_refused(
        &ravel(folder.path(), &["train", "missing.toml"]),
        "missing.toml",
    );
    let recipe = include_str!("training/tiny-tokenizer.toml");
    check_refused(&go(recipe), "rows.jsonl");
    check_refused(&go(&recipe.replace("steps = 6", "steps = 0")), "steps");
    std::fs::write(folder.path().join("rows.jsonl"), "{\"file\": 3}\n").unwrap();
    check_refused(&go(recipe), "line 1");
    assert!(
        !folder
            .path()
            .join("runs")
            .join("tiny-tokenizer")
            .join("checkpoints")
            .exists()
    );
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let folder = folder();
    let mut child = crate::command::command(folder.path(), &["pipelines", "schema"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let run = crate::command::from(child.wait_with_output().unwrap());
    assert!(!run.err.contains("panicked"), "{}", run.err);
}
