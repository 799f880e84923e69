//! `ravel bench` at toy sizes.

use crate::command::ravel;

fn bench(arguments: &[&str]) -> crate::command::Run {
    let folder = tempfile::tempdir().unwrap();
    ravel(folder.path(), &[&["bench", "image"], arguments].concat())
}

#[test]
fn a_picture_is_timed_in_parts_that_add_up() {
    let run = bench(&[
        "--preset",
        "tiny",
        "--json",
        "--seed",
        "5",
        "--threads",
        "1",
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    let row: serde_json::Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!(
        (row["width"].as_u64(), row["codes"].as_u64()),
        (Some(64), Some(16))
    );
    assert_eq!(row["threads"], 1);
    let seconds = |part: &str| row["seconds"][part].as_f64().unwrap();
    let parts = ["prefill", "decode", "tokenizer-decode"].map(seconds);
    assert!(parts.iter().all(|&part| part > 0.0), "{row}");
    let sum: f64 = parts.iter().sum();
    assert!((sum - seconds("picture")).abs() < 1e-3, "{row}");
    assert!(
        seconds("whole") >= seconds("picture") + seconds("load"),
        "{row}"
    );
    if cfg!(target_os = "linux") {
        assert!(row["peak-mib"].as_f64().unwrap() > 1.0, "{row}");
    }
    let text = bench(&["--preset", "tiny"]).text();
    assert!(
        text.contains("tokenizer decode") && text.contains("16 codes"),
        "{text}"
    );
}

#[test]
fn a_decoder_is_timed_and_narrow_products_are_held_against_wide_ones() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |more: &[&str]| {
        let common = ["bench", "tokenizer", "--preset", "tiny", "--rounds", "2"];
        ravel(folder.path(), &[&common, more].concat())
    };
    let run = bench(&["--type", "bf16", "--json", "--threads", "2"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let row: serde_json::Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!(
        (row["width"].as_u64(), row["type"].as_str()),
        (Some(64), Some("bf16"))
    );
    let seconds = |part: &str| row["seconds"][part].as_f64().unwrap();
    assert!(
        0.0 < seconds("least") && seconds("least") <= seconds("decode"),
        "{row}"
    );
    // Where the processor has no narrow products both pictures are the same, and the ratio is no number.
    assert!(row["psnr-db"].as_f64().is_none_or(|db| db > 40.0), "{row}");
    let run = bench(&[]);
    assert!(run.text().contains("decode, least") && !run.text().contains("PSNR"));
    let run = bench(&["--type", "f64"]);
    assert!(run.code == 2 && run.err.contains("bf16"), "{}", run.err);
}

#[test]
fn pictures_of_other_sizes_are_decoded_in_little_memory() {
    let common = ["tokenizer", "--preset", "tiny", "--rounds", "1"];
    let within = ["--size", "128", "--decode-memory", "1"];
    let found = row(&[&common[..], &within].concat());
    let number = |key: &str| found[key].as_u64();
    assert_eq!(
        ["width", "height", "codes", "decode-memory-mib"].map(number),
        [Some(128), Some(128), Some(64), Some(1)]
    );
    for (more, said) in [
        (["--size", "100"], "a multiple of 16"),
        (["--size", "0"], "1..=16384"),
        (["--decode-memory", "0"], "1..=1048576"),
        (["--decode-memory", "lots"], "invalid digit"),
    ] {
        let run = run(&[&common[..], &more].concat());
        assert!(run.code == 2 && run.err.contains(said), "{}", run.err);
    }
}

#[test]
fn presets_and_threads_that_do_not_exist_are_refused() {
    let run = bench(&["--preset", "var-d17"]);
    assert!(run.code == 2 && run.err.contains("var-d16"), "{}", run.err);
    let run = bench(&["--preset", "tiny", "--threads", "0"]);
    assert_eq!(run.code, 2, "{}", run.err);
}

/// Runs `ravel bench` with these arguments in an empty folder.
fn run(arguments: &[&str]) -> crate::command::Run {
    let folder = tempfile::tempdir().unwrap();
    ravel(folder.path(), &[&["bench"], arguments].concat())
}

/// What a run printed as JSON.
#[track_caller]
fn row(arguments: &[&str]) -> serde_json::Value {
    let run = run(&[arguments, &["--json"]].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    serde_json::from_str(&run.text()).unwrap()
}

/// What a measurement says of the least time that its work could take.
#[track_caller]
fn check_limit(row: &serde_json::Value, seconds: f64) {
    let limit = |key: &str| row["limit"][key].as_f64().unwrap();
    let idealised = limit("idealised-seconds");
    let by_reading = limit("bytes") / 1e9 / limit("memory-gigabytes-per-second");
    let by_multiplying = limit("flops") / 1e9 / limit("gigaflops");
    // Summed over steps it is at least what all of them together would take.
    let least = by_reading.max(by_multiplying);
    assert!(idealised >= 0.999 * least, "{row}");
    assert!(idealised <= 1.001 * (by_reading + by_multiplying), "{row}");
    let ratio = seconds / idealised;
    let told = limit("measured-over-idealised");
    assert!((told / ratio - 1.0).abs() < 1e-6, "{row}");
}

#[test]
fn a_prompt_is_timed_beside_the_least_that_it_could_take() {
    let short = row(&[
        "prefill",
        "--preset",
        "tiny",
        "--positions",
        "32",
        "--rounds",
        "3",
    ]);
    let long = row(&[
        "prefill",
        "--preset",
        "tiny",
        "--positions",
        "64",
        "--batch",
        "3",
    ]);
    for row in [&short, &long] {
        let seconds = |part: &str| row["seconds"][part].as_f64().unwrap();
        assert!(seconds("least") > 0.0 && seconds("least") <= seconds("median"));
        check_limit(row, seconds("median"));
    }
    assert_eq!(
        (&long["positions"], &long["batch"]),
        (&64.into(), &3.into())
    );
    // Six times the positions, and attention on top; the head is counted once a row.
    let flops = |row: &serde_json::Value| row["limit"]["flops"].as_f64().unwrap();
    assert!(flops(&long) > 5.9 * flops(&short), "{short} {long}");
    let text = run(&["prefill", "--preset", "tiny", "--rounds", "1"]).text();
    assert!(
        text.contains("idealised") && text.contains("tokens"),
        "{text}"
    );
}

#[test]
fn prompts_of_different_lengths_are_read_in_three_ways() {
    let asked = [
        "prefill",
        "--preset",
        "tiny",
        "--lengths",
        "3,70,1,20",
        "--rounds",
        "2",
    ];
    let all = row(&asked);
    let way = |name: &str, key: &str| all["ways"][name][key].as_f64().unwrap();
    for (name, positions) in [("packed", 94.0), ("padded", 280.0), ("alone", 94.0)] {
        assert_eq!(way(name, "positions"), positions);
        assert!(0.0 < way(name, "least") && way(name, "least") <= way(name, "seconds"));
    }
    let text = run(&[&asked[..], &["--way", "packed"]].concat()).text();
    assert!(
        text.contains("packed") && !text.contains("padded"),
        "{text}"
    );
    for (more, expected) in [
        (&["--lengths", "3", "--batch", "2"][..], "--batch"),
        (&["--lengths", "0"], "0"),
        (&["--lengths", "3", "--way", "tight"], "packed"),
        (&["--way", "packed"], "--lengths"),
    ] {
        let run = run(&[&asked[..3], more].concat());
        assert!(run.code == 2 && run.err.contains(expected), "{}", run.err);
    }
    let long = run(&["prefill", "--preset", "tiny", "--lengths", "4,600"]);
    crate::command::check_refused(&long, "the model has 512");
}

#[test]
fn narrow_weights_are_told_in_bytes() {
    let bytes = |kind: &str| {
        let row = row(&[
            "decode",
            "--preset",
            "tiny",
            "--tokens",
            "4",
            "--weights-type",
            kind,
        ]);
        assert_eq!(row["weights-type"], kind);
        let share = row["share-of-limit"].as_f64().unwrap();
        let ratio = row["measured-over-idealised"].as_f64().unwrap();
        assert!((share * ratio - 1.0).abs() < 1e-6, "{row}");
        row["bytes-per-step"][0].as_f64().unwrap()
    };
    let [wide, half, eight, four] = ["f32", "bf16", "q8", "q4"].map(bytes);
    assert_eq!(wide, 2.0 * half);
    // A scale of two bytes per 32 numbers.
    assert_eq!(eight, wide * (32.0 + 2.0) / 128.0);
    assert_eq!(four, wide * (16.0 + 2.0) / 128.0);
}

#[test]
fn speech_is_timed_until_its_first_sound_and_whole() {
    let say = |text: &str| {
        row(&[
            "speech", "--preset", "tiny", "--rounds", "1", "--text", text,
        ])
    };
    let (short, long) = (say("Yes."), say("Good morning, said the old man. Yes."));
    for row in [&short, &long] {
        let seconds = |part: &str| row["seconds"][part].as_f64().unwrap();
        assert!(0.0 < seconds("first-sound") && seconds("first-sound") <= seconds("whole"));
        check_limit(row, seconds("whole"));
        // 25 positions of four codes make a second, the delays of the later codes and pauses apart.
        let sound = row["seconds-of-sound"].as_f64().unwrap();
        let steps = row["steps"].as_f64().unwrap();
        assert!((sound - steps / 25.0).abs() < 1.0, "{row}");
    }
    let sound = |row: &serde_json::Value| row["seconds-of-sound"].as_f64().unwrap();
    assert!(sound(&long) > sound(&short), "{short} {long}");
    let refused = run(&["speech", "--preset", "tiny", "--text", "…"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
}

#[test]
fn a_step_of_training_is_timed() {
    let small = [
        "train",
        "--preset",
        "tiny",
        "--batch",
        "2",
        "--context",
        "16",
        "--steps",
        "2",
    ];
    let of_preset = row(&small);
    assert_eq!(
        (&of_preset["tokens"], &of_preset["rows"]),
        (&32.into(), &2.into())
    );
    check_limit(&of_preset, of_preset["seconds"]["median"].as_f64().unwrap());
    // Ids at random cannot be foretold better than by chance.
    let loss = of_preset["loss"].as_f64().unwrap();
    assert!((loss - 512f64.ln()).abs() < 0.5, "{of_preset}");
    let text = run(&small).text();
    assert!(
        text.contains("step, median") && text.contains("product rate"),
        "{text}"
    );
}

#[test]
fn a_step_of_a_recipe_is_timed_on_its_own_data() {
    let folder = tempfile::tempdir().unwrap();
    let words = "a cat sat on a mat and a dog ran to a log\n\n".repeat(60);
    std::fs::write(folder.path().join("words.txt"), words).unwrap();
    let recipe = r#"
        name = "words"
        steps = 10
        batch = 3
        [task]
        kind = "text"
        train = ["words.txt"]
        vocabulary-size = 280
        context = 8
        [task.backbone]
        layers = 1
        d-model = 32
        n-heads = 2
    "#;
    std::fs::write(folder.path().join("words.toml"), recipe).unwrap();
    let arguments = ["bench", "train", "words.toml", "--steps", "1", "--json"];
    let run = ravel(folder.path(), &arguments);
    assert_eq!(run.code, 0, "{}", run.err);
    let row: serde_json::Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!(
        (&row["name"], &row["tokens"]),
        (&"words".into(), &24.into())
    );
    check_limit(&row, row["seconds"]["median"].as_f64().unwrap());
    let of_two = ravel(folder.path(), &[&arguments[..], &["--batch", "2"]].concat());
    let row: serde_json::Value = serde_json::from_str(&of_two.text()).unwrap();
    assert_eq!(row["tokens"], 16);
    // Nothing is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn pictures_and_decoders_are_told_beside_the_least_time_too() {
    let picture = row(&["image", "--preset", "tiny"]);
    check_limit(&picture, picture["seconds"]["picture"].as_f64().unwrap());
    let decoder = row(&["tokenizer", "--preset", "tiny", "--rounds", "2"]);
    let products = decoder["limit"]["flops"].as_f64().unwrap();
    check_limit(&decoder, decoder["seconds"]["decode"].as_f64().unwrap());
    // All of a picture's products, the decoder's among them.
    assert!(picture["limit"]["flops"].as_f64().unwrap() > products && products > 1e6);
}

#[test]
fn what_cannot_be_measured_is_refused_in_a_line() {
    let check = |arguments: &[&str], expected: &str| {
        crate::command::check_refused(&run(arguments), expected);
    };
    check(
        &["decode", "--preset", "var-d16", "--tokens", "3"],
        "scale by scale",
    );
    check(
        &["decode", "--preset", "tiny", "--at", "4000"],
        "the model has 512",
    );
    check(
        &["prefill", "--preset", "tiny", "--positions", "513"],
        "the model has 512",
    );
    check(&["train", "nothing.toml"], "nothing.toml");
    for (arguments, expected) in [
        (&["train"][..], "RECIPE"),
        (&["train", "a.toml", "--preset", "tiny"], "--preset"),
        (&["train", "a.toml", "--context", "8"], "--context"),
        (&["prefill", "--preset", "var-d16"], "llama-111m"),
        (&["speech", "--preset", "nobody"], "speak"),
    ] {
        let run = run(arguments);
        assert!(run.code == 2 && run.err.contains(expected), "{}", run.err);
    }
}

#[test]
fn help_shows_how_each_is_asked_for() {
    for command in ["image", "decode", "prefill", "tokenizer", "speech", "train"] {
        let help = run(&[command, "--help"]);
        let example = format!("ravel bench {command} ");
        assert!(help.code == 0 && help.text().contains(&example));
    }
}
