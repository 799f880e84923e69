//! The trainer from outside: resume, interrupts and refusals, on pictures of a few pixels.

use std::path::Path;
use std::time::{Duration, Instant};

use ravel_media::{Picture, encode_png};
use ravel_weights::Checkpoint;

use crate::command::{Run, check_refused, command, from, ravel};

mod clips;

const RECIPES: [(&str, &str); 5] = [
    ("tiny-tokenizer", include_str!("tiny-tokenizer.toml")),
    ("tiny-ar", include_str!("tiny-ar.toml")),
    ("tiny-pyramid", include_str!("tiny-pyramid.toml")),
    ("tiny-var", include_str!("tiny-var.toml")),
    ("tiny-mended-var", include_str!("tiny-mended-var.toml")),
];

/// A folder with six small pictures and all recipes.
pub fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for at in 0..6u8 {
        let rgb = (0..16 * 16 * 3u32).map(|byte| (byte * (u32::from(at) + 3) % 251) as u8);
        let picture = Picture {
            width: 16,
            height: 16,
            rgb: rgb.collect(),
        };
        let name = format!("{at}.png");
        std::fs::write(folder.path().join(&name), encode_png(&picture, &[])).unwrap();
        let split = if at == 5 { "held-out" } else { "train" };
        rows += &format!(
            "{{\"file\": \"{name}\", \"caption\": \"thing {at}\", \"split\": \"{split}\", \"alternates\": [\"a {at}\"]}}\n"
        );
    }
    std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    for (name, text) in RECIPES {
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    }
    folder
}

/// A folder with a text of some hundred words and its recipe.
fn library() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let line = |at: usize| format!("The {} saw the {} of number {at}.\n\n", at % 7, at % 5);
    let text: String = (0..120).map(line).collect();
    std::fs::write(folder.path().join("train.txt"), &text).unwrap();
    std::fs::write(folder.path().join("held-out.txt"), &text[..1500]).unwrap();
    let recipe = include_str!("tiny-text.toml");
    std::fs::write(folder.path().join("tiny-text.toml"), recipe).unwrap();
    folder
}

/// A run that ended well.
#[track_caller]
pub fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}", run.err);
    run
}

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    let path = folder.join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn half_a_run_and_a_resume_are_a_whole_run_bit_for_bit() {
    let (straight, broken) = (workshop(), workshop());
    for (name, _) in RECIPES {
        let recipe = format!("{name}.toml");
        good(ravel(straight.path(), &["train", &recipe]));
        // A run of half the steps under the whole run's learning rates: killed after its third checkpoint.
        let mut child = command(broken.path(), &["train", &recipe, "--json"])
            .spawn()
            .unwrap();
        let third = broken
            .path()
            .join(format!("runs/{name}/checkpoints/step-00000003.safetensors"));
        let started = Instant::now();
        while !third.exists() && child.try_wait().unwrap().is_none() {
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "no checkpoint came"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let finished = broken
            .path()
            .join(format!("runs/{name}/tokenizer.toml"))
            .exists();
        if !finished || name.ends_with("ar") {
            good(ravel(broken.path(), &["train", &recipe, "--resume"]));
        }
        let last = format!("runs/{name}/checkpoints/step-00000006.safetensors");
        assert!(
            bytes(straight.path(), &last) == bytes(broken.path(), &last),
            "{name}: the runs differ"
        );
    }
}

#[test]
fn half_a_run_over_text_and_a_resume_are_a_whole_run() {
    let (straight, broken) = (library(), library());
    good(ravel(straight.path(), &["train", "tiny-text.toml"]));
    // A kill after the third step, of which a checkpoint is left.
    let kept = "runs/tiny-text/checkpoints/step-00000003.safetensors";
    let third = bytes(straight.path(), kept);
    std::fs::create_dir_all(broken.path().join("runs/tiny-text/checkpoints")).unwrap();
    std::fs::write(broken.path().join(kept), third).unwrap();
    good(ravel(
        broken.path(),
        &["train", "tiny-text.toml", "--resume"],
    ));
    for file in ["model.safetensors", "tokenizer.json", "pipeline.toml"] {
        let file = format!("runs/tiny-text/{file}");
        assert!(
            bytes(straight.path(), &file) == bytes(broken.path(), &file),
            "{file}: the runs differ"
        );
    }
    let check = ["pipelines", "check", "runs/tiny-text/pipeline.toml"];
    good(ravel(straight.path(), &check));
    let log = String::from_utf8(bytes(straight.path(), "runs/tiny-text/log.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let nats = last["loss"].as_f64().unwrap();
    assert!((last["perplexity"].as_f64().unwrap() - nats.exp()).abs() < 1e-9);
    assert!(last["bits-per-byte"].as_f64().unwrap() > 0.0);
    assert!(!bytes(straight.path(), "runs/tiny-text/samples-00000006.txt").is_empty());
}

#[test]
fn products_of_fewer_bits_train_alike_and_repeat_whatever_the_threads() {
    let folder = library();
    for (name, products) in [("plain", "f32"), ("halves", "bf16"), ("alone", "bf16")] {
        let named = format!("name = \"{name}\"\nproducts = \"{products}\"");
        let recipe = include_str!("tiny-text.toml").replace("name = \"tiny-text\"", &named);
        std::fs::write(folder.path().join(format!("{name}.toml")), recipe).unwrap();
        let threads = if name == "alone" { "1" } else { "2" };
        let recipe = format!("{name}.toml");
        let mut command = command(folder.path(), &["train", &recipe]);
        let run = command.env("RAYON_NUM_THREADS", threads).output();
        good(from(run.unwrap()));
    }
    let losses = |name: &str| -> Vec<f64> {
        let log = bytes(folder.path(), &format!("runs/{name}/log.jsonl"));
        let rows = String::from_utf8(log).unwrap();
        let rows = rows.lines().map(|row| serde_json::from_str(row).unwrap());
        rows.filter_map(|row: serde_json::Value| row["loss"].as_f64())
            .collect()
    };
    let (plain, halves) = (losses("plain"), losses("halves"));
    assert_eq!(plain.len(), halves.len());
    for (plain, halves) in plain.iter().zip(&halves) {
        assert!((plain - halves).abs() < 0.02 * plain, "{plain} {halves}");
    }
    // Where the processor has such products they were used; where it has none, nothing changed.
    assert_eq!(plain != halves, ravel_kernels::tracked::has_halves());
    for file in ["model.safetensors", "checkpoints/step-00000006.safetensors"] {
        let of = |name: &str| bytes(folder.path(), &format!("runs/{name}/{file}"));
        let tensors = |bytes: Vec<u8>| {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            bytes[8 + length..].to_vec() // What stands before names the run.
        };
        assert!(tensors(of("halves")) == tensors(of("alone")), "{file}");
    }
    let recipe =
        include_str!("tiny-text.toml").replace("steps = 6", "steps = 6\nproducts = \"f8\"");
    std::fs::write(folder.path().join("wrong.toml"), recipe).unwrap();
    check_refused(
        &ravel(folder.path(), &["train", "wrong.toml"]),
        "`f32` or `bf16`",
    );
}

#[test]
fn texts_that_cannot_be_learned_from() {
    let folder = library();
    let go = || ravel(folder.path(), &["train", "tiny-text.toml"]);
    let write = |bytes: &[u8]| std::fs::write(folder.path().join("train.txt"), bytes).unwrap();
    write(b"words \xff words");
    check_refused(&go(), "not UTF-8 from byte 6 on");
    write(b"few words");
    check_refused(&go(), "more than the context of 24");
    std::fs::remove_file(folder.path().join("train.txt")).unwrap();
    check_refused(&go(), "train.txt");
    let recipe = include_str!("tiny-text.toml").replace("kind = \"text\"", "kind = \"txt\"");
    std::fs::write(folder.path().join("tiny-text.toml"), recipe).unwrap();
    check_refused(&go(), "unknown variant `txt`");
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn a_trained_pipeline_makes_pictures() {
    let folder = workshop();
    for (name, _) in RECIPES {
        good(ravel(
            folder.path(),
            &["train", &format!("{name}.toml"), "--quiet"],
        ));
        let run = format!("runs/{name}");
        for file in ["loss.svg", "log.jsonl", "samples-00000006.png"] {
            assert!(!bytes(folder.path(), &format!("{run}/{file}")).is_empty());
        }
        if name.ends_with("ar") {
            let definition = format!("{run}/pipeline.toml");
            good(ravel(folder.path(), &["pipelines", "check", &definition]));
            let out = format!("{name}.png");
            good(ravel(
                folder.path(),
                &["image", "thing 1", "-o", &out, "--pipeline", &definition],
            ));
            let eval = [
                "eval",
                "--pipeline",
                &definition,
                "--data",
                "rows.jsonl",
                "--json",
            ];
            let report: serde_json::Value =
                serde_json::from_slice(&good(ravel(folder.path(), &eval)).out).unwrap();
            assert_eq!(report["train"]["retrieval"]["pictures"], 5);
            assert_eq!(report["train"]["round-trip"]["pictures"], 5);
            assert!(report["held-out"]["loss-per-token"].as_f64().unwrap() > 0.0);
        } else {
            let definition = format!("{run}/tokenizer.toml");
            let eval = [
                "tokenizer",
                "eval",
                "--pipeline",
                &definition,
                "--data",
                "rows.jsonl",
                "--json",
            ];
            let report: serde_json::Value =
                serde_json::from_slice(&good(ravel(folder.path(), &eval)).out).unwrap();
            assert!(report["train"]["psnr"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn first_weights_come_from_a_run_of_the_same_words_and_mistakes_need_a_pyramid() {
    let folder = workshop();
    let mended = RECIPES[4].1;
    let go = |text: &str| {
        std::fs::write(folder.path().join("recipe.toml"), text).unwrap();
        ravel(folder.path(), &["train", "recipe.toml"])
    };
    good(ravel(folder.path(), &["train", "tiny-pyramid.toml"]));
    check_refused(&go(mended), "runs/tiny-var");
    good(ravel(folder.path(), &["train", "tiny-var.toml"]));
    let words = mended.replace("vocabulary-size = 264", "vocabulary-size = 263");
    assert_ne!(words, mended);
    check_refused(&go(&words), "start-from");
    good(ravel(folder.path(), &["train", "tiny-tokenizer.toml"]));
    let flat = RECIPES[1]
        .1
        .replace("text-length", "self-correct = true\ntext-length");
    assert_ne!(flat, RECIPES[1].1);
    check_refused(&go(&flat), "self-correct");
    good(go(mended));
}

#[test]
fn a_run_is_not_begun_over_another_and_only_its_own_recipe_resumes_it() {
    let folder = workshop();
    good(ravel(folder.path(), &["train", "tiny-tokenizer.toml"]));
    check_refused(
        &ravel(folder.path(), &["train", "tiny-tokenizer.toml"]),
        "--resume",
    );
    let other = RECIPES[0].1.replace("batch = 2", "batch = 3");
    std::fs::write(folder.path().join("tiny-tokenizer.toml"), other).unwrap();
    check_refused(
        &ravel(folder.path(), &["train", "tiny-tokenizer.toml", "--resume"]),
        "another recipe",
    );
    check_refused(
        &ravel(folder.path(), &["train", "tiny-pyramid.toml", "--resume"]),
        "nothing to resume",
    );
    let kept = std::fs::read_dir(folder.path().join("runs/tiny-tokenizer/checkpoints"))
        .unwrap()
        .count();
    assert_eq!(kept, 2, "two checkpoints are kept");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_its_place() {
    let folder = workshop();
    let wild = RECIPES[0].1.replace(
        "warm-up = 2",
        "warm-up = 0\nlearning-rate = 1e30\nclip-norm = 0.0",
    );
    std::fs::write(folder.path().join("wild.toml"), wild).unwrap();
    let run = ravel(folder.path(), &["train", "wild.toml"]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(run.err.contains("NaN or infinity in"), "{}", run.err);
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_ends_with_130() {
    let folder = workshop();
    let long = RECIPES[0]
        .1
        .replace("steps = 6", "steps = 1000000")
        .replace("checkpoint-minutes = 0.0", "checkpoint-minutes = 60.0");
    std::fs::write(folder.path().join("long.toml"), long).unwrap();
    let child = command(folder.path(), &["train", "long.toml"])
        .spawn()
        .unwrap();
    let log = folder.path().join("runs/tiny-tokenizer/log.jsonl");
    let started = Instant::now();
    while !log.exists() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "the run does not begin"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let signal = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(signal.unwrap().success());
    let run = from(child.wait_with_output().unwrap());
    assert_eq!(run.code, 130, "{}", run.err);
    let checkpoints = folder.path().join("runs/tiny-tokenizer/checkpoints");
    let saved = std::fs::read_dir(checkpoints)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert!(Checkpoint::open(&saved).unwrap().names().count() > 10);
}
