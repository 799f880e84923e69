//! Training on clips of a few pixels: a tokenizer, then a generator that is told in words what moves.

use std::path::Path;

use ravel_media::{Picture, encode_png};

use super::{bytes, good};
use crate::command::{check_refused, ravel};

const FRAMES: usize = 17;
const SIDE: usize = 16;

/// A folder with four clips of a square that moves, and the recipes.
fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for clip in 0..4 {
        let mut rgb = vec![40 * clip as u8; 3 * FRAMES * SIDE * SIDE];
        for frame in 0..FRAMES {
            for at in 0..16 {
                let row = frame * SIDE + 4 + at / 4;
                let column = (frame + 3 * clip + at % 4) % SIDE;
                rgb[3 * (row * SIDE + column)] = 240;
            }
        }
        let picture = Picture {
            width: SIDE,
            height: FRAMES * SIDE,
            rgb,
        };
        let name = format!("{clip}.png");
        std::fs::write(folder.path().join(&name), encode_png(&picture, &[])).unwrap();
        let split = if clip == 3 { "held-out" } else { "train" };
        rows += &format!(
            "{{\"file\": \"{name}\", \"frames\": {FRAMES}, \"caption\": \"cross: {clip}\", \"split\": \"{split}\"}}\n"
        );
    }
    std::fs::write(folder.path().join("clips.jsonl"), rows).unwrap();
    for (name, text) in [
        ("tiny-clips.toml", include_str!("tiny-clips.toml")),
        ("tiny-moving.toml", include_str!("tiny-moving.toml")),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    good(ravel(folder.path(), &["train", "tiny-clips.toml"]));
    folder
}

/// The frames that come after three given ones.
fn gone_on(folder: &Path, out: &str, more: &[&str]) -> Vec<u8> {
    let context = folder.join("given");
    if !context.exists() {
        std::fs::create_dir(&context).unwrap();
        for frame in 0..3u8 {
            let picture = Picture {
                width: SIDE,
                height: SIDE,
                rgb: vec![60 * frame; 3 * SIDE * SIDE],
            };
            let png = encode_png(&picture, &[]);
            std::fs::write(context.join(format!("{frame}.png")), png).unwrap();
        }
    }
    let mut arguments = vec!["video", "given", "-o", out, "--frames", "4"];
    arguments.extend(["--pipeline", "runs/tiny-moving/pipeline.toml"]);
    arguments.extend(more);
    good(ravel(folder, &arguments));
    bytes(folder, &format!("{out}/frame-00004.png"))
}

#[test]
fn a_generator_of_clips_learns_with_words_and_resumes_as_if_nothing_was() {
    let folder = workshop();
    let train = |more: &[&str]| {
        let mut arguments = vec!["train", "tiny-moving.toml"];
        arguments.extend(more);
        good(ravel(folder.path(), &arguments));
        bytes(folder.path(), "runs/tiny-moving/generator.safetensors")
    };
    let whole = train(&[]);
    let checkpoints = folder.path().join("runs/tiny-moving/checkpoints");
    for step in 4..=6 {
        std::fs::remove_file(checkpoints.join(format!("step-{step:08}.safetensors"))).unwrap();
    }
    assert!(train(&["--resume"]) == whole, "the runs differ");

    let plain = gone_on(folder.path(), "plain", &[]);
    let told = gone_on(folder.path(), "told", &["--prompt", "cross: 1"]);
    assert!(!plain.is_empty() && !told.is_empty());
    let check = ["pipelines", "check", "runs/tiny-moving/pipeline.toml"];
    good(ravel(folder.path(), &check));
}

#[test]
fn captions_that_are_too_long_and_shares_that_are_none() {
    let folder = workshop();
    let recipe = include_str!("tiny-moving.toml").replace("length = 6", "length = 6\ndrop = 1.5");
    std::fs::write(folder.path().join("tiny-moving.toml"), recipe).unwrap();
    let run = ravel(folder.path(), &["train", "tiny-moving.toml"]);
    check_refused(&run, "`text.drop` is a share in 0..=1");
    let recipe = include_str!("tiny-moving.toml").replace("length = 6", "length = 2");
    std::fs::write(folder.path().join("tiny-moving.toml"), recipe).unwrap();
    let run = ravel(folder.path(), &["train", "tiny-moving.toml"]);
    check_refused(
        &run,
        "the prompt has 4 subwords, this model reads 1 at most",
    );
}
