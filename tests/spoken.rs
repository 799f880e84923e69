//! Published models that speak or make music from outside: tiny checkpoints under the published names that run end to end, and everything
//! that can be handed in wrongly.

use ravel_media::{Sound, encode_wav, read_wav};
use serde_json::{Value, json};

use crate::command::{check_refused, command, from, ravel};
use crate::published::{golden, unigrams};
use crate::studio::{Studio, csm, dia, fish, musicgen, ranks};

/// What holds of every model: same seed, same bytes; the file says how it was made; the words and the seed show.
fn check(studio: &Studio, verb: &str, words: [&str; 2], seconds: &str) {
    let make = |words: &str, file: &str, seed: &str| {
        let all = [
            words,
            "-o",
            file,
            "--seed",
            seed,
            "--seconds",
            seconds,
            "--json",
        ];
        let run = studio.run(verb, &all);
        assert_eq!(run.code, 0, "{}", run.err);
        serde_json::from_str::<Value>(&run.text()).unwrap()
    };
    let row = make(words[0], "one.wav", "3");
    assert_eq!(
        (&row["file"], &row["faults"].is_u64()),
        (&json!("one.wav"), &true)
    );
    let sound = read_wav(&studio.path().join("one.wav")).unwrap();
    assert!(
        sound.channels[0].iter().any(|sample| sample.abs() > 1e-4),
        "it is silent"
    );
    assert_eq!(row["seconds"].as_f64().unwrap(), sound.duration_secs());
    let most: f64 = seconds.parse().unwrap();
    // A frame may be cut by the length that is asked for, never by more.
    assert!(
        sound.duration_secs() <= most + 0.2,
        "{}",
        sound.duration_secs()
    );
    make(words[0], "again.wav", "3");
    assert!(studio.bytes("one.wav") == studio.bytes("again.wav"));
    make(words[0], "seed.wav", "4");
    make(words[1], "words.wav", "3");
    for other in ["seed.wav", "words.wav"] {
        assert!(
            samples(studio, other) != samples(studio, "one.wav"),
            "{other}"
        );
    }
    for file in ["one.wav", "words.wav"] {
        let run = ravel(studio.path(), &["replay", file]);
        assert_eq!(run.code, 0, "{}", run.err);
        assert!(run.text().contains("the same bytes again"));
    }
    let whole = ravel(studio.path(), &["pipelines", "check", "pipeline.toml"]);
    assert!(whole.text().contains("is whole"), "{}", whole.err);
}

fn samples(studio: &Studio, file: &str) -> Vec<f32> {
    read_wav(&studio.path().join(file))
        .unwrap()
        .channels
        .remove(0)
}

/// Speaks in the voice of a recording, which can be made again without it.
fn check_clone(studio: &Studio, rate: u32, seconds: &str) {
    let samples = (0..rate as usize / 4).map(|at| (at as f32 * 0.21).sin() * 0.4);
    let sound = Sound {
        channels: vec![samples.collect()],
        sample_rate_hz: rate,
    };
    std::fs::write(studio.path().join("me.wav"), encode_wav(&sound, &[])).unwrap();
    let all = [
        "a red boat",
        "-o",
        "mine.wav",
        "--clone",
        "me.wav",
        "--clone-text",
    ];
    let rest = ["a boat", "--seconds", seconds, "--seed", "3"];
    let run = studio.run("speak", &[&all[..], &rest].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(self::samples(studio, "mine.wav") != self::samples(studio, "one.wav"));
    std::fs::remove_file(studio.path().join("me.wav")).unwrap();
    let run = ravel(studio.path(), &["replay", "mine.wav"]);
    assert!(run.text().contains("the same bytes again"), "{}", run.err);
    std::fs::write(studio.path().join("me.wav"), encode_wav(&sound, &[])).unwrap();
    let run = studio.run("speak", &["a", "-o", "no.wav", "--clone", "me.wav"]);
    check_refused(&run, "its words are needed");
    assert!(!studio.path().join("no.wav").exists());
}

#[test]
fn a_tiny_fish_speech_as_published_speaks() {
    let studio = fish();
    let long = "A red boat. The other boat is blue, and a third one has no colour! What do you see? \
                Nothing at all, it is too dark for that, and it rains on all of the boats out there.";
    check(&studio, "speak", ["a red boat", "the boat"], "0.6");
    check_clone(&studio, 4410, "0.6");
    // A long text is said in pieces.
    let run = studio.run(
        "speak",
        &[long, "-o", "long.wav", "--seconds", "2", "--json"],
    );
    let row: Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!(row["utterances"], 2, "{}", run.err);
}

#[test]
fn a_tiny_csm_as_published_speaks() {
    let studio = csm();
    check(&studio, "speak", ["a red boat", "the boat"], "0.9");
    check_clone(&studio, 2400, "0.9");
    let speak = |extra: &[&str]| {
        let all = ["a red boat", "--seed", "3", "--seconds", "0.9", "-o", "-"];
        let run = studio.run("speak", &[&all[..], extra].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        run.out
    };
    let voice = speak(&["--voice", "1"]);
    assert!(voice != speak(&[]), "speakers must show");
    // What is heard while it is made is what is heard at the end.
    let data = |wav: &[u8]| {
        let at = wav.windows(4).position(|name| name == b"data").unwrap();
        wav[at + 8..].to_vec()
    };
    assert!(data(&speak(&["--stream"])) == data(&speak(&[])));
}

#[test]
fn a_tiny_dia_as_published_speaks() {
    let studio = dia();
    check(
        &studio,
        "speak",
        ["[S1] a red boat [S2] no", "the boat"],
        "0.3",
    );
    check_clone(&studio, 4000, "0.3");
    let bytes = |text: &str, extra: &[&str]| {
        let all = [text, "--seed", "3", "--seconds", "0.3", "-o", "-"];
        let run = studio.run("speak", &[&all[..], extra].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        let at = run.out.windows(4).position(|name| name == b"data").unwrap();
        run.out[at..].to_vec()
    };
    // Who begins is said in the text or by the voice; guidance shows.
    assert!(bytes("hi", &[]) == bytes("[S1] hi", &[]));
    assert!(bytes("hi", &["--voice", "S2"]) == bytes("[S2] hi", &[]));
    assert!(bytes("hi", &["--guidance", "0"]) != bytes("hi", &[]));
}

#[test]
fn a_tiny_musicgen_as_published_makes_music() {
    for melody in [false, true] {
        let studio = musicgen(melody);
        check(&studio, "music", ["a red boat", "the boat"], "0.5");
        let sound = read_wav(&studio.path().join("one.wav")).unwrap();
        // 60 frames a second of 40 samples.
        assert_eq!(sound.channels[0].len(), 30 * 40);
        // The command for speech knows it too.
        let all = [
            "a red boat",
            "-o",
            "two.wav",
            "--seed",
            "3",
            "--seconds",
            "0.5",
        ];
        assert_eq!(studio.run("speak", &all).code, 0);
        assert!(samples(&studio, "two.wav") == samples(&studio, "one.wav"));
    }
}

#[test]
fn what_a_model_does_not_do_is_told_in_a_line() {
    let (csm, dia, music) = (csm(), dia(), musicgen(false));
    let refused = |studio: &Studio, arguments: &[&str], expected: &str| {
        let all = ["a boat", "-o", "out.wav"];
        check_refused(
            &studio.run("speak", &[&all[..], arguments].concat()),
            expected,
        );
        assert!(!studio.path().join("out.wav").exists());
    };
    refused(
        &csm,
        &["--voice", "bob"],
        "there is no voice `bob`; this model has 0, 1",
    );
    refused(&csm, &["--speed", "slow"], "there is no speed `slow`");
    refused(&csm, &["--guidance", "2"], "was not trained to be guided");
    refused(
        &csm,
        &["--without", "loops"],
        "has no checks that could be left out",
    );
    refused(&csm, &["--seconds", "-1"], "-1 seconds are asked for");
    refused(&csm, &["--seconds", "NaN"], "seconds are asked for");
    refused(&csm, &["--temperature", "-1"], "temperature");
    refused(
        &dia,
        &["--voice", "S3"],
        "there is no voice `S3`; this model has S1, S2",
    );
    refused(&music, &["--voice", "S1"], "none to choose from");
    let sound = Sound {
        channels: vec![vec![0.1; 400]],
        sample_rate_hz: 2400,
    };
    std::fs::write(music.path().join("me.wav"), encode_wav(&sound, &[])).unwrap();
    let clone = ["--clone", "me.wav", "--clone-text", "a"];
    refused(&music, &clone, "speaks in no voice of a recording");
    for studio in [&csm, &dia, &music] {
        check_refused(
            &studio.run("speak", &["  ", "-o", "out.wav"]),
            "the text says nothing",
        );
    }
    let long = "boat ".repeat(400);
    let run = dia.run("speak", &[&long, "-o", "out.wav"]);
    check_refused(&run, "this model reads 64 at most");
    let run = music.run("music", &[&long.repeat(2), "-o", "out.wav"]);
    check_refused(&run, "this model reads 512 at most");
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let refused = |studio: &Studio, expected: &str| {
        let run = studio.run("speak", &["a boat", "-o", "out.wav"]);
        check_refused(&run, expected);
        assert!(!studio.path().join("out.wav").exists());
    };
    let remove = |studio: &Studio, file: &str| {
        std::fs::remove_file(studio.path().join(file)).unwrap();
    };
    // A vocabulary that is not there, or of another model.
    let studio = fish();
    remove(&studio, "tokenizer.tiktoken");
    refused(&studio, "tokenizer.tiktoken: ");
    std::fs::write(studio.path().join("tokenizer.tiktoken"), "{}").unwrap();
    refused(&studio, "tokenizer.tiktoken");
    let more: String = (257..400)
        .map(|rank| format!("{}= {rank}\n", ["YWI", "YWM"][rank % 2]))
        .collect();
    std::fs::write(studio.path().join("tokenizer.tiktoken"), ranks() + &more).unwrap();
    refused(&studio, "the token is there twice");
    let studio = csm();
    remove(&studio, "tokenizer.json");
    refused(&studio, "tokenizer.json: ");
    std::fs::write(
        studio.path().join("tokenizer.json"),
        unigrams(&["<pad>", "</s>", "<unk>"]),
    )
    .unwrap();
    refused(&studio, "there is no `<|begin_of_text|>` in it");
    let other = golden("tokenizer_bpe_gpt2/tokenizer.json");
    std::fs::copy(other, studio.path().join("tokenizer.json")).unwrap();
    refused(&studio, "the file belongs to another model");
    // Weights of another model, half a file, no numbers.
    let studio = dia();
    studio.edit(
        "weights = \"model.safetensors\"",
        "weights = \"dac.safetensors\"",
    );
    refused(&studio, "missing: ");
    studio.edit(
        "weights = \"dac.safetensors\"",
        "weights = \"model.safetensors\"",
    );
    let bytes = studio.bytes("model.safetensors");
    std::fs::write(
        studio.path().join("model.safetensors"),
        &bytes[..bytes.len() / 2],
    )
    .unwrap();
    refused(&studio, "model.safetensors");
    remove(&studio, "model.safetensors");
    refused(&studio, "model.safetensors");
    let studio = csm();
    remove(&studio, "transformers-00002-of-00002.safetensors");
    refused(&studio, "transformers-00002-of-00002.safetensors");
    // A codec of another model, and a configuration of none.
    let studio = musicgen(false);
    studio.edit("depth = 4", "depth = 3");
    refused(
        &studio,
        "`decoder.num_codebooks` is 4, the tokenizer has 3 codebooks",
    );
    let studio = dia();
    studio.edit("config = \"config.json\"", "config = \"gone.json\"");
    refused(&studio, "gone.json");
    studio.edit("config = \"gone.json\"", "config = \"config.json\"");
    std::fs::write(studio.path().join("config.json"), "{\"delay_pattern\": 3}").unwrap();
    refused(
        &studio,
        "config.json: dia: the configuration cannot be read",
    );
    let studio = csm();
    studio.edit("text-to-speech", "text-to-music");
    refused(&studio, "task is text-to-music, text-to-speech is expected");
    studio.edit("kind = \"csm\"", "kind = \"cms\"");
    refused(&studio, "did you mean `csm`?");
}

#[test]
fn definitions_of_published_models_are_known_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = command(folder.path(), arguments);
        let cache = folder.path().join("cache");
        from(command.env("HF_HUB_CACHE", cache).output().unwrap())
    };
    let listed = run(&["pipelines", "list", "--json"]).text();
    for (name, _) in text_to_speech::PUBLISHED {
        assert!(listed.contains(&format!("\"name\":\"{name}\"")), "{name}");
        let models = run(&["models", "show", name]);
        assert_eq!(models.code, 0, "{name}: {}", models.err);
        let verb = if name.starts_with("musicgen") {
            "music"
        } else {
            "speak"
        };
        let refused = run(&[verb, "a boat", "--pipeline", name]);
        check_refused(&refused, "not in the cache");
        let hint = format!("hint: `ravel models pull {name}` fetches it");
        assert!(refused.err.contains(&hint), "{name}: {}", refused.err);
    }
}
