//! Models that speak with what they may have beside text, sequence model and head: voices that are read, durations that are drawn first, a
//! flattened arrangement, a depth transformer. Each is trained and speaks, from outside.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ravel_media::wav_text;
use serde_json::Value;

use crate::command::{Run, check_refused, ravel};
use crate::speak::{files, folder, sound_bytes, studio, trained};
use crate::training::good;

const RECIPES: [(&str, &str); 3] = [
    ("tiny-timed", include_str!("training/tiny-timed.toml")),
    ("tiny-flat", include_str!("training/tiny-flat.toml")),
    ("tiny-deep", include_str!("training/tiny-deep.toml")),
];

/// A studio in which all recipes were run, made once.
fn shop() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = studio();
            prepare(folder.path());
            for (name, _) in RECIPES {
                good(ravel(folder.path(), &["train", &format!("{name}.toml")]));
            }
            folder
        })
        .path()
}

/// The recipes, and the sound tokenizer that they need.
fn prepare(folder: &Path) {
    for (name, text) in RECIPES {
        std::fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    }
    let from = trained().join("runs/tiny-sound");
    let to = folder.join("runs/tiny-sound");
    std::fs::create_dir_all(&to).unwrap();
    for name in ["tokenizer.toml", "tokenizer.safetensors"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn pipeline(name: &str) -> PathBuf {
    shop().join(format!("runs/{name}/pipeline.toml"))
}

fn speak(name: &str, folder: &Path, arguments: &[&str]) -> Run {
    let pipeline = pipeline(name);
    let all = ["speak", "--pipeline", pipeline.to_str().unwrap()];
    ravel(folder, &[&all[..], arguments].concat())
}

#[test]
fn half_a_run_and_a_resume_are_a_whole_run() {
    let broken = studio();
    prepare(broken.path());
    for (name, _) in RECIPES {
        let at = |folder: &Path, step: usize| {
            folder.join(format!(
                "runs/{name}/checkpoints/step-{step:08}.safetensors"
            ))
        };
        let third = at(broken.path(), 3);
        std::fs::create_dir_all(third.parent().unwrap()).unwrap();
        std::fs::copy(at(shop(), 3), &third).unwrap();
        let recipe = format!("{name}.toml");
        good(ravel(broken.path(), &["train", &recipe, "--resume"]));
        let last = |folder| std::fs::read(at(folder, 6)).unwrap();
        assert!(
            last(broken.path()) == last(shop()),
            "{name}: the runs differ"
        );
    }
}

#[test]
fn each_speaks_streams_and_says_the_same_again() {
    for (name, _) in RECIPES {
        let folder = folder();
        let text = "One. Two, three. Four?";
        good(speak(name, folder.path(), &[text, "-o", "file.wav", "-q"]));
        let file = std::fs::read(folder.path().join("file.wav")).unwrap();
        assert!(sound_bytes(&file).len() > 2 * 2 * 400, "{name}");
        let stream = good(speak(name, folder.path(), &[text, "-o", "-", "--stream"])).out;
        assert!(sound_bytes(&stream) == sound_bytes(&file), "{name}");
        let run = good(ravel(folder.path(), &["replay", "file.wav"]));
        assert!(run.text().contains("the same bytes again"), "{name}");
        let other = [text, "-o", "-", "--seed", "9"];
        let other = good(speak(name, folder.path(), &other)).out;
        assert!(sound_bytes(&other) != sound_bytes(&file), "{name}");
    }
}

#[test]
fn each_is_measured_as_its_trainer_did() {
    for name in ["tiny-flat", "tiny-deep"] {
        let pipeline = pipeline(name);
        let all = ["eval", "--data", "rows.jsonl", "--json", "-q", "--pipeline"];
        let all = [&all[..], &[pipeline.to_str().unwrap()]].concat();
        let run = good(ravel(shop(), &all));
        let row: Value = serde_json::from_str(&run.text()).unwrap();
        let loss = |at: usize| row["loss"][at].as_f64().unwrap();
        let log = std::fs::read_to_string(shop().join(format!("runs/{name}/log.jsonl"))).unwrap();
        let mut rows = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let last = rows.rfind(|row| row["kind"] == "held-out").unwrap();
        // The end of the one recording of twenty frames belongs to the first codebook.
        let both = (loss(0) * 21.0 + loss(1) * 20.0) / 41.0;
        let trained = last["loss"].as_f64().unwrap();
        assert!((both - trained).abs() < 1e-4, "{name}: {both}, not {last}");
    }
}

#[test]
fn a_model_that_foretells_durations_ends_when_they_say() {
    let folder = folder();
    let seconds = |more: &[&str]| {
        let all = ["Two cats.", "-o", "-", "--json", "--stream"];
        let run = good(speak(
            "tiny-timed",
            folder.path(),
            &[&all[..], more].concat(),
        ));
        let row: Value = serde_json::from_str(run.err.trim()).unwrap();
        assert_eq!(row["faults"], 0, "{row}");
        row["seconds"].as_f64().unwrap()
    };
    // Eight symbols of 6 frames at most, 25 a second, and the pause; with or without an end of its own it is as long.
    let whole = seconds(&["--seed", "4"]);
    assert!(whole <= 48.0 / 25.0 + 0.25 && whole > 0.25, "{whole}");
    assert_eq!(seconds(&["--seed", "4", "--without", "end,loops"]), whole);
    let log = std::fs::read_to_string(shop().join("runs/tiny-timed/log.jsonl")).unwrap();
    assert!(log.contains("\"durations\":"), "{log}");
}

#[test]
fn a_voice_is_read_without_its_words() {
    let folder = folder();
    let path = folder.path();
    for at in [2, 3] {
        let name = format!("{at}.wav");
        std::fs::copy(shop().join(&name), path.join(&name)).unwrap();
    }
    let clone = |name: &str, more: &[&str]| {
        let all = ["Two cats.", "--clone", name];
        speak("tiny-timed", path, &[&all[..], more].concat())
    };
    let one = good(clone("2.wav", &["-o", "-"])).out;
    let said: Value = serde_json::from_str(&wav_text(&one)[0].1).unwrap();
    assert_eq!(said["voice"], "");
    assert!(said["reference"].get("text").is_none(), "{said}");
    assert_eq!(said["reference"]["codes"].as_array().unwrap().len(), 2);
    // Words are not needed, so they change nothing.
    let with = good(clone("2.wav", &["-o", "-", "--clone-text", "One."])).out;
    assert!(with == one);
    assert!(good(clone("3.wav", &["-o", "-"])).out != one);
    good(clone("2.wav", &["-o", "out.wav", "-q"]));
    let run = good(ravel(path, &["replay", "out.wav"]));
    assert!(run.text().contains("the same bytes again"));
}

#[test]
fn a_run_can_begin_with_the_weights_of_another_one() {
    let folder = studio();
    prepare(folder.path());
    // The voices stand in another order there, and their rows with them; no step moves anything far at a rate of nearly zero.
    let from = folder.path().join("runs/before");
    std::fs::create_dir_all(&from).unwrap();
    let own = trained().join("runs/tiny-speech");
    for name in [
        "generator.safetensors",
        "tokenizer.safetensors",
        "pipeline.toml",
    ] {
        std::fs::copy(own.join(name), from.join(name)).unwrap();
    }
    let path = from.join("pipeline.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let swapped = text
        .replace("\"ann\"", "\"x\"")
        .replace("\"bob\"", "\"ann\"")
        .replace("\"x\"", "\"bob\"");
    assert!(swapped != text);
    std::fs::write(&path, &swapped).unwrap();
    let recipe = include_str!("training/tiny-speech.toml")
        .replace("name = \"tiny-speech\"", "name = \"after\"")
        .replace("runs/tiny-sound", "runs/before")
        .replace(
            "references = 0.4",
            "references = 0.4\nstart-from = \"runs/before\"",
        )
        .replace("muon-learning-rate = 0.02", "learning-rate = 1e-12");
    std::fs::write(folder.path().join("after.toml"), recipe).unwrap();
    good(ravel(folder.path(), &["train", "after.toml"]));
    let said = |pipeline: &Path, voice: &str| {
        let pipeline = pipeline.to_str().unwrap();
        let all = [
            "speak",
            "Two cats.",
            "-o",
            "-",
            "--voice",
            voice,
            "--pipeline",
            pipeline,
        ];
        sound_bytes(&good(ravel(folder.path(), &all)).out).to_vec()
    };
    let after = folder.path().join("runs/after/pipeline.toml");
    let before = own.join("pipeline.toml");
    assert!(said(&after, "bob") == said(&before, "ann"));
    assert!(said(&after, "ann") == said(&before, "bob"));
    // Other voices are no beginning.
    std::fs::write(&path, swapped.replace("\"bob\"", "\"eve\"")).unwrap();
    let run = ravel(folder.path(), &["train", "after.toml", "--out", "other"]);
    check_refused(&run, "start-from");
}

#[test]
fn recipes_that_do_not_fit_are_refused_by_name() {
    let folder = studio();
    prepare(folder.path());
    let path = folder.path().join("wrong.toml");
    let before = files(folder.path()) + 1;
    for (name, found, instead, expected) in [
        ("tiny-deep", "predicts = \"first\"\n", "", "head.predicts"),
        (
            "tiny-deep",
            "codebook-size = 8",
            "codebook-size = 9",
            "depth.head.codebook-size",
        ),
        ("tiny-timed", "most = 6", "most = 0", "durations.most"),
        (
            "tiny-timed",
            "code-width = 4",
            "code-widht = 4",
            "code-widht",
        ),
        (
            "tiny-timed",
            "[task.speech.reference]\ncode-width = 4\nwidth = 8\n",
            "",
            "task.references",
        ),
    ] {
        let recipe = RECIPES.iter().find(|recipe| recipe.0 == name).unwrap().1;
        assert!(recipe.contains(found), "{found}");
        std::fs::write(&path, recipe.replacen(found, instead, 1)).unwrap();
        check_refused(&ravel(folder.path(), &["train", "wrong.toml"]), expected);
    }
    assert_eq!(files(folder.path()), before);
}
