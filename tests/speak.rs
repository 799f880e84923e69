//! `ravel speak`: training a tiny voice, speaking, streaming, replaying, and everything that can be handed in wrongly.

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use ravel_media::{Sound, decode_wav, encode_wav, wav_text};
use serde_json::Value;

use crate::command::{Run, check_refused, command, from, ravel};
use crate::training::good;

const RECIPES: [(&str, &str); 2] = [
    ("tiny-sound", include_str!("training/tiny-sound.toml")),
    ("tiny-speech", include_str!("training/tiny-speech.toml")),
];

/// A folder with short recordings and both recipes.
pub fn studio() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for at in 0..5usize {
        let tone = |time: usize| (time as f32 * (0.2 + 0.1 * at as f32)).sin() * 0.5;
        let sound = Sound {
            channels: vec![(0..1500 + 400 * at).map(tone).collect()],
            sample_rate_hz: 4000,
        };
        let name = format!("{at}.wav");
        std::fs::write(folder.path().join(&name), encode_wav(&sound, &[])).unwrap();
        let split = if at == 4 { "held-out" } else { "train" };
        let voice = ["ann", "bob"][at % 2];
        rows += &format!(
            "{{\"file\": \"{name}\", \"text\": \"Number {at}.\", \"voice\": \"{voice}\", \"speed\": \"slow\", \"split\": \"{split}\"}}\n"
        );
    }
    for at in 3..5 {
        rows += &format!(
            "{{\"file\": \"{at}.wav\", \"text\": \"Cat {at}.\", \"voice\": \"zoe\", \"split\": \"held-out-voice\"}}\n"
        );
    }
    for at in 0..3 {
        rows += &format!(
            "{{\"file\": \"{at}.wav\", \"text\": \"Dog {at}.\", \"voice\": \"crowd-1\", \"unnamed\": true}}\n"
        );
    }
    std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    for (name, text) in RECIPES {
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    }
    folder
}

/// A studio in which both recipes were run, made once.
pub fn trained() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = studio();
            for (name, _) in RECIPES {
                good(ravel(folder.path(), &["train", &format!("{name}.toml")]));
            }
            folder
        })
        .path()
}

pub fn speak(folder: &Path, arguments: &[&str]) -> Run {
    let pipeline = trained().join("runs/tiny-speech/pipeline.toml");
    let pipeline = pipeline.to_str().unwrap();
    let all = ["speak", "--pipeline", pipeline];
    ravel(folder, &[&all[..], arguments].concat())
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// Everything behind the header of a WAV file.
pub fn sound_bytes(wav: &[u8]) -> &[u8] {
    let at = wav.windows(4).position(|name| name == b"data").unwrap();
    &wav[at + 8..]
}

#[test]
fn half_a_run_and_a_resume_are_a_whole_run() {
    let broken = studio();
    for (name, _) in RECIPES {
        let at = |folder: &Path, step: usize| {
            folder.join(format!(
                "runs/{name}/checkpoints/step-{step:08}.safetensors"
            ))
        };
        let third = at(broken.path(), 3);
        std::fs::create_dir_all(third.parent().unwrap()).unwrap();
        std::fs::copy(at(trained(), 3), &third).unwrap();
        let recipe = format!("{name}.toml");
        good(ravel(broken.path(), &["train", &recipe, "--resume"]));
        let last = |folder| std::fs::read(at(folder, 6)).unwrap();
        assert!(
            last(broken.path()) == last(trained()),
            "{name}: the runs differ"
        );
    }
}

#[test]
fn a_recording_says_how_it_was_made_and_can_be_made_again() {
    let folder = folder();
    let run = speak(
        folder.path(),
        &["Two cats. One dog!", "--seed", "3", "--json"],
    );
    let row: Value = serde_json::from_str(&good(run).text()).unwrap();
    assert_eq!(row["file"], "two-cats-one-dog.wav");
    assert_eq!(row["utterances"], 2);
    let wav = std::fs::read(folder.path().join("two-cats-one-dog.wav")).unwrap();
    let sound = decode_wav(&wav, Path::new("out.wav")).unwrap();
    assert_eq!(sound.sample_rate_hz, 4000);
    assert_eq!(row["seconds"].as_f64().unwrap(), sound.duration_secs());
    let text = wav_text(&wav);
    assert!(
        text.contains(&("ISRC".into(), "generated".into())),
        "{text:?}"
    );
    let run = ravel(folder.path(), &["replay", "two-cats-one-dog.wav"]);
    assert!(good(run).text().contains("the same bytes again"));
    good(ravel(
        folder.path(),
        &["replay", "two-cats-one-dog.wav", "-o", "again.wav"],
    ));
    assert!(std::fs::read(folder.path().join("again.wav")).unwrap() == wav);
    // Another seed, voice or speed is another recording.
    for other in [
        ["4", "ann", "normal"],
        ["3", "bob", "normal"],
        ["3", "ann", "slow"],
    ] {
        let [seed, voice, speed] = other;
        let all = [
            "Two cats. One dog!",
            "-o",
            "-",
            "--seed",
            seed,
            "--voice",
            voice,
        ];
        let run = good(speak(
            folder.path(),
            &[&all[..], &["--speed", speed]].concat(),
        ));
        assert!(run.out != wav, "{other:?}: the same recording");
        // Six steps teach a model no voices, but another seed is heard.
        if seed != "3" {
            assert!(sound_bytes(&run.out) != sound_bytes(&wav), "{other:?}");
        }
    }
}

#[test]
fn a_stream_is_the_file_but_for_its_open_length() {
    let folder = folder();
    let text = "One. Two, three. Four?";
    good(speak(folder.path(), &[text, "-o", "file.wav", "-q"]));
    let file = std::fs::read(folder.path().join("file.wav")).unwrap();
    let whole = good(speak(folder.path(), &[text, "-o", "-"])).out;
    assert!(whole == file);
    let stream = good(speak(folder.path(), &[text, "-o", "-", "--stream"])).out;
    assert_eq!(stream.len(), file.len());
    assert!(sound_bytes(&stream) == sound_bytes(&file));
    assert_eq!(stream[4..8], [0xff; 4]);
    assert_eq!(wav_text(&stream), wav_text(&file));
}

#[test]
fn sound_begins_while_the_rest_is_still_to_be_said() {
    let pipeline = trained().join("runs/tiny-speech/pipeline.toml");
    // Without an end an utterance is some three seconds long: far more than a frame.
    let all = [
        "speak",
        "Nine hundred and ninety nine.",
        "-o",
        "-",
        "--stream",
        "--without",
        "end,loops",
    ];
    let all = [
        &all[..],
        &["--json", "--pipeline", pipeline.to_str().unwrap()],
    ]
    .concat();
    let run = good(ravel(trained(), &all));
    let row: Value = serde_json::from_str(run.err.trim()).unwrap();
    assert_eq!(row["utterances"], 1);
    let (seconds, share) = (
        row["seconds"].as_f64().unwrap(),
        row["real-time-factor"].as_f64().unwrap(),
    );
    let first = row["seconds-to-first-sound"].as_f64().unwrap();
    // The whole takes some milliseconds: what is asked is the order, not a pace.
    assert!(first < 0.9 * seconds * share, "{row}");
    assert_eq!(run.out.len() % 2, 0);
    assert_eq!(
        sound_bytes(&run.out).len(),
        (seconds * 4000.0).round() as usize * 2
    );
}

/// A voice that learned from recordings of a single frame, and so ends as soon as it may.
fn hasty() -> std::path::PathBuf {
    let folder = trained();
    let mut rows = String::new();
    for at in 0..4 {
        let name = format!("frame-{at}.wav");
        let sound = Sound {
            channels: vec![
                (0..160)
                    .map(|time| (time as f32 * 0.3).sin() * 0.5)
                    .collect(),
            ],
            sample_rate_hz: 4000,
        };
        std::fs::write(folder.join(&name), encode_wav(&sound, &[])).unwrap();
        rows += &format!("{{\"file\": \"{name}\", \"text\": \"Two cats.\", \"voice\": \"ann\"}}\n");
    }
    std::fs::write(folder.join("frames.jsonl"), rows).unwrap();
    let recipe = RECIPES[1].1;
    for found in [
        "\"tiny-speech\"",
        "steps = 6\n",
        "rows.jsonl",
        "warm-up = 2",
    ] {
        assert!(recipe.contains(found), "{found}");
    }
    let recipe = recipe
        .replace("\"tiny-speech\"", "\"hasty\"")
        .replace("steps = 6\n", "steps = 80\n")
        .replace("rows.jsonl", "frames.jsonl")
        .replace("warm-up = 2", "learning-rate = 0.02\nwarm-up = 2")
        .replace("checkpoint-minutes = 0.0", "checkpoint-minutes = 9.0");
    std::fs::write(folder.join("hasty.toml"), recipe).unwrap();
    good(ravel(folder, &["train", "hasty.toml", "--quiet"]));
    folder.join("runs/hasty/pipeline.toml")
}

#[test]
fn checks_can_be_left_out_and_are_remembered() {
    let folder = folder();
    let seconds = |name: &str, without: &str| {
        let all = ["Two cats.", "-o", name, "--json", "--without", without];
        let run = good(speak(folder.path(), &all));
        let row: Value = serde_json::from_str(&run.text()).unwrap();
        let run = ravel(folder.path(), &["replay", name]);
        assert!(good(run).text().contains("the same bytes again"), "{name}");
        row["seconds"].as_f64().unwrap()
    };
    // T UW1 | K AE1 T S . are eight symbols: 25 + 4 * 8 frames at most, 25 a second, and the pause.
    let most = (25.0 + 32.0) / 25.0 + 0.25;
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
    near(seconds("endless.wav", "end,loops"), most);
    // Those of 40 symbols.
    let longest = (25.0 + 160.0) / 25.0 + 0.25;
    near(seconds("unbounded.wav", "end,loops,longest"), longest);
    // 0.9 frames of each symbol are seven: a model that would end at once is held to them.
    let hasty = hasty();
    let length = |more: &[&str]| {
        let all = [
            "speak",
            "Two cats.",
            "-o",
            "-",
            "--stream",
            "--json",
            "--pipeline",
        ];
        let all = [&all[..], &[hasty.to_str().unwrap()], more].concat();
        let run = good(ravel(folder.path(), &all));
        let row: Value = serde_json::from_str(run.err.trim()).unwrap();
        row["seconds"].as_f64().unwrap()
    };
    near(length(&[]), 7.0 / 25.0 + 0.25);
    let short = length(&["--without", "shortest"]);
    assert!(short < 4.0 / 25.0 + 0.25, "{short}");
    let run = speak(folder.path(), &["Two cats.", "--without", "luck"]);
    assert!(run.code == 2 && run.err.contains("luck"), "{}", run.err);
}

#[test]
#[cfg(feature = "video")]
fn compressed_recordings_can_be_made_again() {
    let folder = folder();
    good(speak(folder.path(), &["Two cats.", "-o", "a.flac", "-q"]));
    good(speak(folder.path(), &["Two cats.", "-o", "a.wav", "-q"]));
    let run = ravel(folder.path(), &["replay", "a.flac"]);
    assert!(good(run).text().contains("the same bytes again"));
    // Without loss: the WAV file comes out of it, but for its own name.
    good(ravel(folder.path(), &["replay", "a.flac", "-o", "b.wav"]));
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("b.wav") == read("a.wav"));
    assert!(read("a.flac").starts_with(b"fLaC"));
    std::fs::write(folder.path().join("b.flac"), &read("a.flac")[..100]).unwrap();
    check_refused(&ravel(folder.path(), &["replay", "b.flac"]), "b.flac");
}

#[test]
#[cfg(unix)]
fn a_full_standard_output_is_told() {
    let pipeline = trained().join("runs/tiny-speech/pipeline.toml");
    let all = [
        "speak",
        "One.",
        "-o",
        "-",
        "--stream",
        "--pipeline",
        pipeline.to_str().unwrap(),
    ];
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let run = command(trained(), &all).stdout(full).output().unwrap();
    check_refused(&from(run), "standard output");
}

#[test]
fn text_comes_from_files_and_standard_input() {
    let folder = folder();
    std::fs::write(folder.path().join("text.txt"), "One.\n\nTwo.\n").unwrap();
    let file = good(speak(
        folder.path(),
        &["--text-file", "text.txt", "-o", "-"],
    ))
    .out;
    let pipeline = trained().join("runs/tiny-speech/pipeline.toml");
    let all = [
        "speak",
        "-",
        "-o",
        "-",
        "--pipeline",
        pipeline.to_str().unwrap(),
    ];
    let mut child = command(folder.path(), &all)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"One.\n\nTwo.\n").unwrap();
    drop(input);
    let run = good(from(child.wait_with_output().unwrap()));
    assert!(run.out == file);
}

#[test]
fn a_voice_is_measured_on_what_was_held_out() {
    let pipeline = trained().join("runs/tiny-speech/pipeline.toml");
    let pipeline = pipeline.to_str().unwrap();
    let eval = |more: &[&str]| {
        let all = ["eval", "--data", "rows.jsonl", "--pipeline", pipeline];
        ravel(trained(), &[&all[..], more].concat())
    };
    let run = good(eval(&["--json", "-q"]));
    let row: Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!((&row["recordings"], &row["clones"]), (&1.into(), &2.into()));
    // The loss is that of the trainer, which counts the end with the first codebook's twenty frames.
    let loss = |at: usize| row["loss"][at].as_f64().unwrap();
    let log = std::fs::read_to_string(trained().join("runs/tiny-speech/log.jsonl")).unwrap();
    let mut rows = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let last = rows.rfind(|row| row["kind"] == "held-out").unwrap();
    let both = (loss(0) * 21.0 + loss(1) * 20.0) / 41.0;
    let trained_loss = last["loss"].as_f64().unwrap();
    assert!((both - trained_loss).abs() < 1e-4, "{both}, not {last}");
    assert!(row["pace"]["seconds"].as_f64().unwrap() > 0.7, "{row}");
    let likeness = row["voices"]["to-reference"].as_f64().unwrap();
    assert!(likeness != 0.0 && likeness.abs() <= 1.0, "{row}");
    let table = good(eval(&["-q"])).text();
    assert!(
        table.contains("nats a code") && table.contains("of 2 clones"),
        "{table}"
    );
    check_refused(&eval(&["--recogniser", "no-such-python"]), "no-such-python");
    // A recording that tells no voice is named.
    let short = Sound {
        channels: vec![vec![0.5; 120]],
        sample_rate_hz: 4000,
    };
    std::fs::write(trained().join("short.wav"), encode_wav(&short, &[])).unwrap();
    let row = r#"{"file": "short.wav", "text": "Cat.", "voice": "zoe", "split": "held-out-voice"}"#;
    let rows = std::fs::read_to_string(trained().join("rows.jsonl")).unwrap();
    std::fs::write(trained().join("short.jsonl"), format!("{row}\n{rows}")).unwrap();
    let all = [
        "eval",
        "--data",
        "short.jsonl",
        "-q",
        "--pipeline",
        pipeline,
    ];
    check_refused(&ravel(trained(), &all), "short.wav: 0.03 seconds of speech");
    let all = ["eval", "--data", "absent.jsonl", "--pipeline", pipeline];
    check_refused(&ravel(trained(), &all), "absent.jsonl");
}

#[test]
fn the_voice_inside_the_program_speaks_at_once() {
    let folder = folder();
    let said = |name: &str, arguments: &[&str]| {
        let all = ["speak", "The farmer is brown.", "-o", name];
        good(ravel(folder.path(), &[&all[..], arguments].concat()));
        std::fs::read(folder.path().join(name)).unwrap()
    };
    let cal = said("cal.wav", &[]);
    let sound = ravel_media::read_wav(&folder.path().join("cal.wav")).unwrap();
    let (samples, rate) = (&sound.channels[0], sound.sample_rate_hz);
    let seconds = samples.len() as f64 / f64::from(rate);
    assert!((0.7..3.0).contains(&seconds), "{seconds} s for four words");
    let loudest = samples.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(loudest > 0.05, "silence: {loudest}");
    assert_eq!(said("again.wav", &[]), cal);
    assert_ne!(said("bob.wav", &["--voice", "bob"]), cal);
    good(ravel(
        folder.path(),
        &["replay", "cal.wav", "-o", "back.wav"],
    ));
    assert_eq!(std::fs::read(folder.path().join("back.wav")).unwrap(), cal);
}

#[test]
fn the_voice_inside_the_program_follows_a_reference_without_its_words() {
    let folder = folder();
    let said = |text: &str, how: &[&str]| {
        let all = ["speak", text, "-o", "said.wav", "--force"];
        good(ravel(folder.path(), &[&all[..], how].concat()));
        let sound = ravel_media::read_wav(&folder.path().join("said.wav")).unwrap();
        ravel_eval::voice_print(&sound.channels[0], sound.sample_rate_hz).unwrap()
    };
    let names = ["cal", "bob", "ann", "dot"];
    let texts = [
        "The leaves of Japan are clean.",
        "We arrived with the rivers.",
    ];
    let prints = names
        .iter()
        .flat_map(|name| texts.map(|text| (name.to_string(), said(text, &["--voice", name]))));
    let voices = ravel_eval::Voices::new(prints.collect());
    for name in ["cal", "dot"] {
        let reference = folder.path().join("said.wav");
        said(
            "My uncle has seven green boats and a kind friend.",
            &["--voice", name],
        );
        std::fs::rename(reference, folder.path().join("shown.wav")).unwrap();
        let print = said(
            "The farmer is brown, and the night is long.",
            &["--clone", "shown.wav"],
        );
        let nearest = voices.nearest(&print);
        assert_eq!(nearest[0].0, name, "{nearest:?}");
    }
}

#[test]
fn what_cannot_be_said_is_refused_and_leaves_nothing() {
    let folder = folder();
    let refused = |arguments: &[&str], expected: &str| {
        check_refused(&speak(folder.path(), arguments), expected);
        assert_eq!(files(folder.path()), 0, "{arguments:?}");
    };
    refused(&[], "there is no text");
    refused(&[&"la".repeat(30)], "a word of 60 letters");
    refused(&[""], "no word to say");
    refused(&["  ... "], "no word to say");
    refused(&["a\u{7}b"], "control character U+0007");
    refused(&["Привет"], "U+041F");
    refused(
        &["hello", "--voice", "zed"],
        "no voice `zed`; this model has ann, bob",
    );
    refused(&["hello", "--speed", "warp"], "no speed `warp`");
    refused(&["hello", "--temperature", "-1"], "temperature");
    for name in ["out.m4a", "out.png", "out.mp4"] {
        refused(&["hello", "-o", name], "written as WAV");
    }
    refused(&["hello", "-o", "absent/out.wav"], "absent/out.wav");
    refused(&["hello", "-o", "absent/out.flac"], "absent/out.flac");
    refused(&["hello", "-o", "/dev/null/out.wav"], "/dev/null/out.wav");
    #[cfg(feature = "video")]
    refused(&["hello", "-o", "out.opus"], "4000 samples a second");
    #[cfg(not(feature = "video"))]
    refused(&["hello", "-o", "out.opus"], "it takes WAV");
    refused(&["--text-file", "absent.txt"], "absent.txt");
    let long = folder.path().join("long.txt");
    std::fs::write(&long, "a ".repeat(500_000)).unwrap();
    let run = speak(folder.path(), &["--text-file", "long.txt", "-o", "out.wav"]);
    check_refused(&run, "1000000 bytes");
    std::fs::write(&long, b"\xff\xfe").unwrap();
    let run = speak(folder.path(), &["--text-file", "long.txt", "-o", "out.wav"]);
    check_refused(&run, "not UTF-8");
    assert_eq!(files(folder.path()), 1);
    std::fs::write(folder.path().join("out.wav"), "mine").unwrap();
    let run = speak(folder.path(), &["hello", "-o", "out.wav"]);
    check_refused(&run, "out.wav");
    assert_eq!(
        std::fs::read(folder.path().join("out.wav")).unwrap(),
        b"mine"
    );
    let run = ravel(folder.path(), &["speak", "hello", "--pipeline", "emoji-ar"]);
    check_refused(&run, "text-to-speech is needed");
    let run = ravel(folder.path(), &["replay", "out.wav"]);
    check_refused(&run, "out.wav");
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let pipeline = trained().join("runs/tiny-speech/pipeline.toml");
    let text = "One two three. ".repeat(200);
    let all = ["speak", &text, "-o", "-", "--stream", "--pipeline"];
    let all = [&all[..], &[pipeline.to_str().unwrap()]].concat();
    let mut child = command(trained(), &all).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    std::io::Read::read_exact(&mut out, &mut [0; 64]).unwrap();
    drop(out);
    let run = from(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.err.as_str()), (0, ""));
}

#[test]
fn a_definition_that_does_not_fit_is_refused_by_name() {
    let folder = folder();
    let from = trained().join("runs/tiny-speech");
    for name in [
        "pipeline.toml",
        "generator.safetensors",
        "tokenizer.safetensors",
    ] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("pipeline.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    for (found, instead, expected) in [
        ("depth = 2", "depth = 3", "depth"),
        ("length = 40", "length = 2", "text.length"),
        ("\"bob\"", "\"bob\", \"eve\"", "prefix"),
    ] {
        assert!(text.contains(found), "{text}");
        std::fs::write(&path, text.replacen(found, instead, 1)).unwrap();
        let run = ravel(folder.path(), &["pipelines", "check", "pipeline.toml"]);
        check_refused(&run, expected);
    }
}
