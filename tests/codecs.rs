//! `ravel tokenizer` on sound: the published codecs' own tiny checkpoints, whole and in pieces, and everything that can be handed in wrongly.

use std::path::Path;

use ravel_families::{dac, encodec, firefly, mimi, read_config, snac};
use ravel_media::{Sound, encode_wav, read_wav};
use ravel_pipeline::{Definition, TokenizerPart};
use ravel_testkit::Golden;
use serde_json::{Value, json};

use crate::command::{Run, check_refused, command, from, ravel};

const WEIGHTS: &str = "model.safetensors";

fn golden(case: &str, file: &str) -> std::path::PathBuf {
    ravel_testkit::golden_folder().join(case).join(file)
}

/// A folder with a definition of the codec of a case, its weights as they were published, and the case's sound.
fn codec(case: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(golden(case, "config.json")).unwrap();
    let weights = WEIGHTS.to_string();
    let part = match case.split('_').next().unwrap() {
        "encodec" => TokenizerPart::Encodec {
            weights,
            config: read_config::<encodec::Config>("encodec", &text)
                .unwrap()
                .tokenizer()
                .unwrap(),
        },
        "dac" => TokenizerPart::Dac {
            weights,
            config: read_config::<dac::Config>("dac", &text)
                .unwrap()
                .tokenizer()
                .unwrap(),
        },
        "snac" => TokenizerPart::Snac {
            weights,
            config: read_config::<snac::Config>("snac", &text)
                .unwrap()
                .tokenizer()
                .unwrap(),
        },
        "mimi" => {
            // The reference's vectors were made without the window, which it only reads where flash attention runs.
            let mut config = read_config::<mimi::Config>("mimi", &text).unwrap();
            config.sliding_window = None;
            let config = config.tokenizer().unwrap();
            TokenizerPart::Mimi { weights, config }
        }
        "fish" => TokenizerPart::Firefly {
            weights,
            config: read_config::<firefly::Config>("firefly", &text)
                .unwrap()
                .tokenizer()
                .unwrap(),
        },
        other => panic!("no codec {other}"),
    };
    let spec = part.sound_spec().unwrap();
    let mut definition =
        Definition::parse("definition", "task = \"sound-tokenizer\"\nname = \"tiny\"").unwrap();
    definition.name = case.into();
    definition.tokenizer = Some(part);
    std::fs::write(folder.path().join("pipeline.toml"), definition.to_toml()).unwrap();
    std::fs::copy(golden(case, WEIGHTS), folder.path().join(WEIGHTS)).unwrap();
    let io = Golden::read(&golden(case, "io.safetensors")).unwrap();
    let shape = io.shape("audio").to_vec();
    let row: Vec<f32> = io
        .numbers("audio")
        .iter()
        .map(|s| *s as f32)
        .take(shape[1] * shape[2])
        .collect();
    float_wav(
        &folder.path().join("a.wav"),
        &row,
        shape[1],
        spec.sample_rate_hz,
    );
    folder
}

/// Writes samples as they are, in numbers of 32 bits.
fn float_wav(path: &Path, by_channel: &[f32], channels: usize, rate: u32) {
    let frames = by_channel.len() / channels;
    let data: Vec<u8> = (0..frames)
        .flat_map(|at| (0..channels).map(move |channel| by_channel[channel * frames + at]))
        .flat_map(f32::to_le_bytes)
        .collect();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(3u16.to_le_bytes());
    bytes.extend((channels as u16).to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * channels as u32 * 4).to_le_bytes());
    bytes.extend((channels as u16 * 4).to_le_bytes());
    bytes.extend(32u16.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    std::fs::write(path, bytes).unwrap();
}

fn tokenizer(folder: &Path, arguments: &[&str]) -> Run {
    let (verb, rest) = arguments.split_first().unwrap();
    let all = ["tokenizer", verb, "--pipeline", "pipeline.toml"];
    let all: Vec<&str> = all.iter().chain(rest).copied().collect();
    ravel(folder, &all)
}

#[track_caller]
fn object(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}", run.err);
    serde_json::from_slice(&run.out).unwrap()
}

fn ids(codes: &Value) -> Vec<f64> {
    let rows = codes["ids"].as_array().unwrap().iter();
    rows.flat_map(|row| {
        row.as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_f64().unwrap())
    })
    .collect()
}

#[test]
fn published_codecs_give_the_codes_of_their_references() {
    let check = |case: &str, tensors: &[&str]| {
        let folder = codec(case);
        let found = object(&tokenizer(folder.path(), &["encode", "a.wav"]));
        assert_eq!(found["codec"], case);
        let io = Golden::read(&golden(case, "io.safetensors")).unwrap();
        let expected = tensors.iter().flat_map(|name| io.numbers(name).to_vec());
        // Of several rows the first was written.
        let found = ids(&found);
        let expected: Vec<f64> = expected.take(found.len()).collect();
        assert_eq!(found, expected, "{case}");
    };
    check("encodec", &["codes_bw1"]);
    check("dac", &["codes_nq0"]);
    check("snac", &["codes0", "codes1", "codes2"]);
    check("mimi", &["codes_nq0"]);
    check("fish_firefly", &["indices"]);
}

#[test]
fn decoded_sound_is_that_of_the_references() {
    let check = |case: &str, tensor: &str, bound: f64| {
        let folder = codec(case);
        let path = |name: &str| folder.path().join(name);
        assert_eq!(
            tokenizer(folder.path(), &["encode", "a.wav", "-o", "a.json"]).code,
            0
        );
        let run = tokenizer(folder.path(), &["decode", "a.json", "-o", "b.wav"]);
        assert_eq!(run.code, 0, "{}", run.err);
        let (original, found) = (
            read_wav(&path("a.wav")).unwrap(),
            read_wav(&path("b.wav")).unwrap(),
        );
        assert_eq!(found.sample_rate_hz, original.sample_rate_hz);
        assert!(
            found.len() <= original.len() && found.len() + 16 > original.len(),
            "{case}"
        );
        let io = Golden::read(&golden(case, "io.safetensors")).unwrap();
        for (found, expected) in found.channels[0].iter().zip(io.numbers(tensor)) {
            let expected = expected.clamp(-1.0, 1.0);
            // Beside the case's own bound half a step of 16 bits, and 32767 steps written where 32768 are read.
            assert!(
                (f64::from(*found) - expected).abs() < bound + 6e-5,
                "{case}: {found} {expected}"
            );
        }
    };
    check("encodec", "audio_bw1", 2.2e-5);
    check("dac", "audio_nq0", 3.6e-3);
    check("mimi", "audio_nq0", 1.5e-5);
    check("fish_firefly", "audio_out", 2.5e-6);
}

#[test]
fn stereo_keeps_its_loudness() {
    let folder = codec("encodec_stereo_chunked");
    let found = object(&tokenizer(folder.path(), &["encode", "a.wav"]));
    let io = Golden::read(&golden("encodec_stereo_chunked", "io.safetensors")).unwrap();
    let gains = found["gains"].as_array().unwrap().iter();
    for (found, expected) in gains.zip(io.numbers("scales_bw0")) {
        assert!((found.as_f64().unwrap() - expected).abs() < 1e-6);
    }
    std::fs::write(folder.path().join("a.json"), found.to_string()).unwrap();
    assert_eq!(
        tokenizer(folder.path(), &["decode", "a.json", "-o", "b.wav"]).code,
        0
    );
    let sound = read_wav(&folder.path().join("b.wav")).unwrap();
    assert_eq!((sound.channels.len(), sound.len()), (2, 900));
}

#[test]
fn pieces_are_the_whole() {
    for case in ["encodec", "mimi"] {
        let folder = codec(case);
        let go = |arguments: &[&str]| {
            let run = tokenizer(folder.path(), arguments);
            assert_eq!(run.code, 0, "{}", run.err);
        };
        go(&["encode", "a.wav", "-o", "whole.json"]);
        go(&["decode", "whole.json", "-o", "whole.wav"]);
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        for seconds in ["0.001", "0.07", "100"] {
            go(&[
                "encode",
                "a.wav",
                "-o",
                "pieces.json",
                "--pieces",
                seconds,
                "--force",
            ]);
            assert!(
                read("pieces.json") == read("whole.json"),
                "{case} {seconds}"
            );
            go(&[
                "decode",
                "whole.json",
                "-o",
                "pieces.wav",
                "--pieces",
                seconds,
                "--force",
            ]);
            let sound = |name: &str| {
                read_wav(&folder.path().join(name))
                    .unwrap()
                    .channels
                    .concat()
            };
            let (pieces, whole) = (sound("pieces.wav"), sound("whole.wav"));
            assert_eq!(pieces.len(), whole.len());
            // A step of 16 bits.
            assert!(
                pieces.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 4e-5),
                "{case}"
            );
        }
        check_refused(
            &tokenizer(folder.path(), &["encode", "a.wav", "--pieces", "0"]),
            "pieces of 0 seconds",
        );
    }
    for case in ["dac", "snac", "fish_firefly", "encodec_stereo_chunked"] {
        let folder = codec(case);
        let run = tokenizer(folder.path(), &["encode", "a.wav", "--pieces", "0.1"]);
        check_refused(&run, "cannot work in pieces");
    }
}

fn tone(frames: usize, channels: usize, rate: u32) -> Sound {
    let wave = |at: usize| (at as f32 * 0.2).sin() * 0.4;
    Sound {
        channels: vec![(0..frames).map(wave).collect(); channels],
        sample_rate_hz: rate,
    }
}

#[test]
fn any_wav_file_is_brought_to_the_codec() {
    let folder = codec("encodec");
    let put = |sound: &Sound| {
        std::fs::write(folder.path().join("b.wav"), encode_wav(sound, &[])).unwrap()
    };
    put(&tone(4000, 2, 8000));
    let run = tokenizer(folder.path(), &["encode", "b.wav"]);
    assert!(
        run.err
            .contains("8000 Hz in 2 channels, brought to 2400 Hz in 1"),
        "{}",
        run.err
    );
    assert_eq!(object(&run)["samples"], 1200);
    for frames in [1, 7] {
        put(&tone(frames, 1, 2400));
        for case in [
            "encodec",
            "dac",
            "snac",
            "mimi",
            "fish_firefly",
            "encodec_stereo_chunked",
        ] {
            let other = codec(case);
            std::fs::copy(folder.path().join("b.wav"), other.path().join("b.wav")).unwrap();
            let run = tokenizer(other.path(), &["encode", "b.wav", "-o", "b.json"]);
            assert_eq!(run.code, 0, "{case}: {}", run.err);
            let run = tokenizer(other.path(), &["decode", "b.json", "-o", "c.wav"]);
            assert_eq!(run.code, 0, "{case}: {}", run.err);
        }
    }
}

#[test]
fn a_folder_is_measured() {
    let folder = codec("encodec");
    let sounds = folder.path().join("sounds");
    std::fs::create_dir(&sounds).unwrap();
    std::fs::copy(folder.path().join("a.wav"), sounds.join("a.wav")).unwrap();
    let silence = Sound {
        channels: vec![vec![0.0; 2400]],
        sample_rate_hz: 2400,
    };
    std::fs::write(sounds.join("b.WAV"), encode_wav(&silence, &[])).unwrap();
    std::fs::write(sounds.join("notes.txt"), "no sound").unwrap();
    let report = object(&tokenizer(
        folder.path(),
        &["eval", "--data", "sounds", "--json"],
    ));
    let files = report["files"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    // 60 frames of 8 codes of 6 bits in a second of silence.
    let codes = object(&tokenizer(folder.path(), &["encode", "sounds/b.WAV"]));
    let size =
        object(&tokenizer(folder.path(), &["inspect", "--json"]))["spec"]["codebook_size"].as_f64();
    let bits = ids(&codes).len() as f64 * size.unwrap().log2() / 1000.0;
    assert!((files[1]["kilobits-per-second"].as_f64().unwrap() - bits).abs() < 1e-9);
    for key in ["mel", "encode-real-time-factor", "decode-real-time-factor"] {
        let mean = report["mean"][key].as_f64().unwrap();
        let each: Vec<f64> = files
            .iter()
            .map(|file| file[key].as_f64().unwrap())
            .collect();
        assert!(
            (mean - (each[0] + each[1]) / 2.0).abs() < 1e-9 && mean > 0.0,
            "{key}"
        );
    }
    // Silence is left out of what is relative to the power of a sound.
    for key in ["si-sdr", "stft"] {
        assert_eq!(files[1][key], Value::Null);
        assert_eq!(report["mean"][key], files[0][key]);
        assert!(files[0][key].is_number());
    }
    assert_eq!(
        files[1]["pesq"],
        Value::Null,
        "there is no speech in silence"
    );
    let table = tokenizer(folder.path(), &["eval", "--data", "sounds", "a.wav"]);
    assert_eq!(table.text().lines().count(), 5, "{}", table.text());
    assert!(table.text().contains("silence") && table.text().contains("mean of 3"));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    check_refused(
        &tokenizer(folder.path(), &["eval", "--data", "empty"]),
        "no file of sound in it",
    );
    check_refused(&tokenizer(folder.path(), &["eval"]), "no sound is named");
}

#[test]
fn sounds_that_are_none() {
    let folder = codec("encodec");
    let put = |bytes: &[u8]| std::fs::write(folder.path().join("b.wav"), bytes).unwrap();
    let go = || tokenizer(folder.path(), &["encode", "b.wav", "-o", "b.json"]);
    check_refused(&go(), "b.wav");
    put(b"This is a text and no sound at all, whatever its name says.");
    check_refused(&go(), "not a sound that can be read (WAV)");
    let whole = std::fs::read(folder.path().join("a.wav")).unwrap();
    put(&whole[..whole.len() / 2]);
    check_refused(&go(), "it ends after");
    put(&whole[..30]);
    check_refused(&go(), "not a sound");
    put(&encode_wav(&tone(0, 1, 2400), &[]));
    check_refused(&go(), "there is no sample in it");
    assert!(!folder.path().join("b.json").exists());
}

#[test]
fn codes_that_do_not_fit() {
    let folder = codec("encodec");
    let put =
        |codes: &Value| std::fs::write(folder.path().join("a.json"), codes.to_string()).unwrap();
    let go = || tokenizer(folder.path(), &["decode", "a.json", "-o", "b.wav"]);
    let codes = object(&tokenizer(folder.path(), &["encode", "a.wav"]));
    let with = |key: &str, value: Value| {
        let mut changed = codes.clone();
        changed[key] = value;
        put(&changed);
        go()
    };
    let other = with("codec", json!("mimi"));
    check_refused(&other, "codes of mimi, encodec is asked to read them");
    assert!(other.err.contains("hint: --pipeline mimi"), "{}", other.err);
    check_refused(&with("samples", json!(0)), "0 samples");
    check_refused(&with("samples", json!(1_000_000_000_000_u64)), "samples");
    check_refused(&with("channels", json!(9)), "in 9 channels");
    check_refused(
        &with("ids", json!([[1, 2], [3]])),
        "one as many as the other",
    );
    check_refused(&with("ids", json!([])), "each codebook needs ids");
    check_refused(
        &with("ids", json!([[5_000_000_000u64]])),
        "no codes of sound",
    );
    check_refused(
        &with("ids", json!([[4_000_000_000u64]])),
        "too large for any codebook",
    );
    check_refused(&with("ids", json!([[1], [2]])), "26 places, 1 are filled");
    let beyond: Vec<u32> = vec![60_000; codes["layout"]["len"].as_u64().unwrap() as usize];
    check_refused(&with("ids", json!([beyond])), "id 60000");
    check_refused(
        &with("layout", json!({"kind": "grid", "height": 2, "width": 13})),
        "a sequence is expected",
    );
    check_refused(&with("pitch", json!(1)), "unknown field `pitch`");
    std::fs::write(folder.path().join("a.json"), "{").unwrap();
    check_refused(&go(), "no codes of sound");
    let pictures = ["tokenizer", "decode", "a.json", "-o", "b.png"];
    put(&codes);
    check_refused(
        &ravel(folder.path(), &pictures),
        "no codes of `ravel tokenizer encode`",
    );
    check_refused(
        &ravel(
            folder.path(),
            &["tokenizer", "encode", "a.wav", "--pieces", "1"],
        ),
        "--pieces is for sound",
    );
    assert!(!folder.path().join("b.wav").exists() && !folder.path().join("b.png").exists());
}

#[test]
fn weights_that_do_not_fit() {
    let folder = codec("encodec");
    let weights = folder.path().join(WEIGHTS);
    let go = || tokenizer(folder.path(), &["encode", "a.wav"]);
    let whole = std::fs::read(&weights).unwrap();
    std::fs::copy(golden("dac", WEIGHTS), &weights).unwrap();
    let run = go();
    check_refused(&run, "missing");
    assert!(
        run.err.contains("the weights belong to another definition"),
        "{}",
        run.err
    );
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    check_refused(&go(), WEIGHTS);
    std::fs::remove_file(&weights).unwrap();
    check_refused(&go(), WEIGHTS);
    let definition = std::fs::read_to_string(folder.path().join("pipeline.toml")).unwrap();
    let wrong = definition.replace("codebook-size", "codebook-sise");
    std::fs::write(folder.path().join("pipeline.toml"), wrong).unwrap();
    check_refused(&go(), "codebook-sise");
}

#[test]
fn codecs_by_name_say_what_to_pull() {
    let folder = codec("encodec");
    let go = |arguments: &[&str]| {
        let mut command = command(folder.path(), arguments);
        from(
            command
                .env("HF_HOME", folder.path().join("hub"))
                .output()
                .unwrap(),
        )
    };
    let list = go(&["pipelines", "list", "--json"]).text();
    let names = [
        "encodec-24khz",
        "encodec-48khz",
        "dac-16khz",
        "dac-24khz",
        "dac-44khz",
        "snac-24khz",
        "snac-32khz",
        "snac-44khz",
        "mimi",
        "firefly",
    ];
    for name in names {
        let quoted = format!("\"name\":\"{name}\"");
        let line = list.lines().find(|line| line.contains(&quoted)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["task"], &line["ready"]),
            (&json!("sound-tokenizer"), &json!(false))
        );
        let run = go(&["tokenizer", "encode", "a.wav", "--pipeline", name]);
        check_refused(&run, "not in the cache");
        assert!(
            run.err
                .contains(&format!("`ravel models pull {name}` fetches it")),
            "{}",
            run.err
        );
        let spec = go(&["tokenizer", "inspect", "--pipeline", name]).text();
        assert!(spec.starts_with("sound     "), "{spec}");
    }
    let wrong = go(&["image", "x", "--pipeline", "mimi"]);
    check_refused(&wrong, "text-to-image is needed");
}
