//! `ravel speak --clone`: references of every kind, those that tell no voice, and what is remembered of them.

use std::path::Path;

use ravel_media::wav_text;
use serde_json::Value;

use crate::command::{Run, check_refused, ravel};
use crate::speak::{files, folder, speak};
use crate::training::good;

const WORDS: &str = "Number one.";

/// How the samples of a WAV file are written.
#[derive(Clone, Copy)]
enum Bits {
    Eight,
    Sixteen,
    TwentyFour,
    Float,
}

/// A WAV file written by hand, since other kinds are read than are written.
fn wav(rate: u32, channels: u16, bits: Bits, samples: &[f32]) -> Vec<u8> {
    let (format, size) = match bits {
        Bits::Eight => (1u16, 1u16),
        Bits::Sixteen => (1, 2),
        Bits::TwentyFour => (1, 3),
        Bits::Float => (3, 4),
    };
    let mut data = Vec::new();
    for &sample in samples {
        for _ in 0..channels {
            match bits {
                Bits::Eight => data.push((sample * 127.0 + 128.0).round() as u8),
                Bits::Sixteen => data.extend(((sample * 32767.0).round() as i16).to_le_bytes()),
                Bits::TwentyFour => {
                    let whole = ((sample * 8_388_607.0).round() as i32).to_le_bytes();
                    data.extend(&whole[..3]);
                }
                Bits::Float => data.extend(sample.to_le_bytes()),
            }
        }
    }
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(format.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * u32::from(channels * size)).to_le_bytes());
    bytes.extend((channels * size).to_le_bytes());
    bytes.extend((8 * size).to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// A voice, or near to it: a tone of a second with another one above.
fn tone(rate: u32, pitch: f32) -> Vec<f32> {
    let at = |time: u32| time as f32 / rate as f32;
    let wave = |time: u32| (at(time) * pitch).sin() * 0.3 + (at(time) * pitch * 3.1).sin() * 0.2;
    (0..rate).map(wave).collect()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn clone(folder: &Path, reference: &str, more: &[&str]) -> Run {
    let all = ["Two cats.", "--clone", reference, "--clone-text", WORDS];
    speak(folder, &[&all[..], more].concat())
}

#[test]
fn references_of_every_kind_are_taken() {
    let folder = folder();
    let path = folder.path();
    let plain = tone(4000, 900.0);
    let kinds = [
        ("mono.wav", wav(4000, 1, Bits::Sixteen, &plain)),
        ("stereo.wav", wav(4000, 2, Bits::Sixteen, &plain)),
        ("eight.wav", wav(4000, 1, Bits::Eight, &plain)),
        (
            "fine.wav",
            wav(96_000, 1, Bits::TwentyFour, &tone(96_000, 900.0)),
        ),
        (
            "float.wav",
            wav(48_000, 6, Bits::Float, &tone(48_000, 900.0)),
        ),
    ];
    let mut made = Vec::new();
    for (name, bytes) in &kinds {
        write(path, name, bytes);
        made.push(good(clone(path, name, &["-o", "-"])).out);
    }
    // Two equal channels are one.
    assert!(made[0] == made[1]);
    for (one, (name, _)) in made.iter().zip(&kinds) {
        let said = wav_text(one);
        let said: Value = serde_json::from_str(&said[0].1).unwrap();
        assert_eq!(said["voice"], "", "{name}");
        assert_eq!(said["reference"]["text"], "Number one.", "{name}");
        // A second of 25 frames, in two codebooks.
        let codes = said["reference"]["codes"].as_array().unwrap();
        let frames: Vec<usize> = codes
            .iter()
            .map(|row| row.as_array().unwrap().len())
            .collect();
        assert_eq!(frames, [25, 25], "{name}");
    }
    // Another voice is another recording.
    write(
        path,
        "other.wav",
        &wav(4000, 1, Bits::Sixteen, &tone(4000, 2500.0)),
    );
    let other = good(clone(path, "other.wav", &["-o", "-"])).out;
    assert!(other != made[0]);
    // Other words in front change what follows.
    let all = [
        "Two cats.",
        "--clone",
        "mono.wav",
        "--clone-text",
        "Nine.",
        "-o",
        "-",
    ];
    assert!(good(speak(path, &all)).out != made[0]);
}

#[test]
#[cfg(feature = "video")]
fn compressed_references_are_taken() {
    use ravel_media::{SoundFormat, sound_file};
    let folder = folder();
    let path = folder.path();
    let samples = tone(16_000, 900.0);
    write(path, "me.wav", &wav(16_000, 1, Bits::Sixteen, &samples));
    for name in ["me.flac", "me.mp3", "me.opus"] {
        let file = path.join(name);
        let format = SoundFormat::of_path(&file).unwrap();
        let mut sink = sound_file(&file, format, 16_000, "", false).unwrap();
        sink.push(&samples).unwrap();
        sink.finish().unwrap();
    }
    let plain = good(clone(path, "me.wav", &["-o", "-"])).out;
    // Nothing is lost in FLAC, so the codes are the same, and what is said of them.
    assert!(good(clone(path, "me.flac", &["-o", "-"])).out == plain);
    for name in ["me.mp3", "me.opus"] {
        let made = good(clone(path, name, &["-o", "-"])).out;
        let said: Value = serde_json::from_str(&wav_text(&made)[0].1).unwrap();
        let frames = said["reference"]["codes"][0].as_array().unwrap().len();
        assert!((24..=30).contains(&frames), "{name}: {frames}");
    }
    // The bytes tell what a file is, not its name.
    std::fs::rename(path.join("me.flac"), path.join("other.wav")).unwrap();
    assert!(good(clone(path, "other.wav", &["-o", "-"])).out == plain);
    let before = files(path) + 2;
    let whole = std::fs::read(path.join("me.mp3")).unwrap();
    write(path, "head.mp3", &whole[..60]);
    write(path, "flac.flac", b"fLaC");
    for name in ["head.mp3", "flac.flac"] {
        let expected = format!("{name}: not a FLAC, MP3 or Opus file");
        check_refused(&clone(path, name, &[]), &expected);
        assert_eq!(files(path), before);
    }
}

#[test]
#[cfg(not(feature = "video"))]
fn compressed_references_need_the_feature() {
    let folder = folder();
    write(folder.path(), "me.flac", b"fLaC and more");
    let run = clone(folder.path(), "me.flac", &[]);
    check_refused(&run, "me.flac: this program was built without FLAC");
}

#[test]
fn a_clone_is_made_again_without_its_reference() {
    let folder = folder();
    let path = folder.path();
    write(
        path,
        "me.wav",
        &wav(8000, 1, Bits::Sixteen, &tone(8000, 900.0)),
    );
    good(clone(
        path,
        "me.wav",
        &["-o", "out.wav", "--seed", "5", "-q"],
    ));
    std::fs::remove_file(path.join("me.wav")).unwrap();
    let run = good(ravel(path, &["replay", "out.wav"]));
    assert!(run.text().contains("the same bytes again"));
    // What comes with a file is not believed.
    let bytes = std::fs::read(path.join("out.wav")).unwrap();
    let at = bytes
        .windows(9)
        .position(|found| found == b"\"codes\":[")
        .unwrap()
        + 10;
    let mut wrong = bytes.clone();
    let digit = wrong[at..].iter().position(u8::is_ascii_digit).unwrap();
    wrong[at + digit] = b'9';
    write(path, "wrong.wav", &wrong);
    check_refused(
        &ravel(path, &["replay", "wrong.wav"]),
        "do not fit this model",
    );
}

#[test]
fn long_references_are_cut_where_a_sentence_ends() {
    let folder = folder();
    let path = folder.path();
    // Two seconds, a pause, six seconds.
    let mut samples = [tone(4000, 900.0), tone(4000, 1100.0), vec![0.0; 1200]].concat();
    for at in 0..6 {
        samples.extend(tone(4000, 800.0 + 100.0 * at as f32));
    }
    write(path, "long.wav", &wav(4000, 1, Bits::Sixteen, &samples));
    let words = "Two cats sat on the mat. Seven other cats that nobody had ever seen before came by, and then they all went to look for a mouse.";
    let all = [
        "One.",
        "--clone",
        "long.wav",
        "--clone-text",
        words,
        "-o",
        "-",
    ];
    let made = good(speak(path, &all)).out;
    let said: Value = serde_json::from_str(&wav_text(&made)[0].1).unwrap();
    assert_eq!(said["reference"]["text"], "Two cats sat on the mat.");
    let frames = said["reference"]["codes"][0].as_array().unwrap().len();
    assert!((50..=58).contains(&frames), "{frames}");
    let minutes = wav(4000, 1, Bits::Eight, &samples.repeat(8));
    write(path, "minutes.wav", &minutes);
    check_refused(
        &clone(path, "minutes.wav", &[]),
        "66 seconds long, 60 at most",
    );
}

#[test]
fn references_that_tell_no_voice_are_refused_in_a_line() {
    let folder = folder();
    let path = folder.path();
    let whole = wav(4000, 1, Bits::Sixteen, &tone(4000, 900.0));
    write(path, "whole.wav", &whole);
    write(path, "truncated.wav", &whole[..whole.len() / 2]);
    write(path, "header.wav", &whole[..20]);
    write(
        path,
        "silence.wav",
        &wav(4000, 1, Bits::Sixteen, &[0.0; 4000]),
    );
    write(path, "quiet8.wav", &wav(4000, 1, Bits::Eight, &[0.0; 4000]));
    write(path, "one.wav", &wav(4000, 1, Bits::Sixteen, &[0.5]));
    write(path, "none.wav", &wav(4000, 1, Bits::Sixteen, &[]));
    write(path, "text.wav", b"this is no sound at all");
    write(path, "empty.wav", b"");
    write(path, "slow.wav", &wav(10, 1, Bits::Sixteen, &[0.5; 40]));
    let before = files(path);
    let refused = |run: Run, expected: &str| {
        check_refused(&run, expected);
        assert_eq!(files(path), before, "{expected}");
    };
    for (name, expected) in [
        (
            "truncated.wav",
            "truncated.wav: not a sound that can be read (WAV): it ends after 1989 of 4000 samples",
        ),
        ("header.wav", "header.wav: not a sound"),
        ("silence.wav", "silence.wav: nothing is heard in it"),
        ("quiet8.wav", "quiet8.wav: nothing is heard in it"),
        (
            "one.wav",
            "one.wav: 0.00 seconds of speech are in it, 0.5 at least",
        ),
        ("none.wav", "none.wav: not a sound"),
        ("text.wav", "text.wav: not a sound"),
        ("empty.wav", "empty.wav: not a sound"),
        ("slow.wav", "slow.wav: not a sound"),
        ("absent.wav", "absent.wav"),
        (".", "."),
    ] {
        refused(clone(path, name, &[]), expected);
    }
    let with = |more: &[&str]| {
        speak(
            path,
            &[&["Two cats.", "--clone", "whole.wav"], more].concat(),
        )
    };
    refused(with(&[]), "whole.wav: its words are needed");
    refused(
        with(&["--clone-text", "..."]),
        "the reference's words: there is no word",
    );
    refused(
        with(&["--clone-text", "Привет"]),
        "the reference's words: character 1",
    );
    for (run, expected) in [
        (with(&["--clone-text", "One.", "--voice", "ann"]), "--voice"),
        (
            speak(path, &["Two cats.", "--clone-text", "One."]),
            "--clone",
        ),
    ] {
        assert_eq!(run.code, 2);
        assert!(run.err.contains(expected), "{}", run.err);
        assert_eq!(files(path), before);
    }
}
