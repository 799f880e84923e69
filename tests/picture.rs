//! Pictures from the embedded models.

use std::path::Path;

use ravel_media::{read_image, read_png_text};

use crate::command::ravel;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn words_become_a_picture_that_says_how_it_was_made() {
    let folder = folder();
    for (pipeline, side) in [("emoji-ar", 64), ("emoji-var", 128)] {
        let name = format!("{pipeline}.png");
        let run = ravel(
            folder.path(),
            &[
                "image",
                "a red heart",
                "-o",
                &name,
                "--pipeline",
                pipeline,
                "--seed",
                "3",
            ],
        );
        assert_eq!(run.code, 0, "{}", run.err);
        let path = folder.path().join(&name);
        let picture = read_image(&path).unwrap();
        assert_eq!((picture.width, picture.height), (side, side));
        let colours: std::collections::BTreeSet<&[u8]> = picture.rgb.chunks(3).collect();
        assert!(
            colours.len() > 20,
            "a picture has more than {} colours",
            colours.len()
        );
        let text = read_png_text(&path).unwrap();
        let says = &text
            .iter()
            .find(|(keyword, _)| keyword == "ravel")
            .unwrap()
            .1;
        for part in ["a red heart", "\"seed\":3", pipeline, "hash"] {
            assert!(says.contains(part), "{part} is not in {says}");
        }
    }
}

/// The colours of a picture in its middle, and above on the left.
fn colours(path: &Path) -> [Vec<u8>; 2] {
    let picture = read_image(path).unwrap();
    let (width, height) = (picture.width, picture.height);
    [
        height / 2 * width + width / 2,
        height * 3 / 10 * width + width / 5,
    ]
    .map(|at| picture.rgb[3 * at..3 * at + 3].to_vec())
}

#[test]
fn a_red_heart_is_red() {
    let folder = folder();
    for pipeline in ["emoji-ar", "emoji-var"] {
        let name = format!("{pipeline}.png");
        let run = ravel(
            folder.path(),
            &["image", "red heart", "-o", &name, "--pipeline", pipeline],
        );
        assert_eq!(run.code, 0, "{}", run.err);
        let [heart, _] = colours(&folder.path().join(name));
        assert!(
            heart[0] > 150 && heart[1] < 120 && heart[2] < 120,
            "{pipeline} {heart:?}"
        );
    }
}

#[test]
fn the_flag_of_japan_is_white_with_a_red_disc() {
    let folder = folder();
    let run = ravel(folder.path(), &["image", "flag: Japan", "-o", "flag.png"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let [disc, cloth] = colours(&folder.path().join("flag.png"));
    assert!(disc[0] > 140 && disc[1] < 120 && disc[2] < 120, "{disc:?}");
    assert!(cloth.iter().all(|&value| value > 180), "{cloth:?}");
}

#[test]
fn a_picture_is_the_same_in_any_batch_and_on_any_number_of_threads() {
    let folder = folder();
    let go = |arguments: &[&str], threads: &str| {
        let mut command = crate::command::command(folder.path(), arguments);
        let run = crate::command::from(command.env("RAYON_NUM_THREADS", threads).output().unwrap());
        assert_eq!(run.code, 0, "{}", run.err);
    };
    for pipeline in ["emoji-ar", "emoji-var"] {
        let (one, many) = (format!("{pipeline}-one.png"), format!("{pipeline}-many"));
        go(&["image", "fox", "-o", &one, "--pipeline", pipeline], "1");
        go(
            &[
                "image",
                "fox",
                "red apple",
                "pizza",
                "-o",
                &many,
                "--pipeline",
                pipeline,
            ],
            "2",
        );
        let alone = read_image(&folder.path().join(&one)).unwrap();
        let together = read_image(&folder.path().join(&many).join("fox.png")).unwrap();
        assert_eq!(alone, together, "{pipeline}");
    }
}

#[test]
fn replay_makes_the_same_bytes_again() {
    let folder = folder();
    for pipeline in ["emoji-ar", "emoji-var"] {
        let run = ravel(
            folder.path(),
            &[
                "image",
                "fox",
                "owl",
                "-n",
                "2",
                "-o",
                pipeline,
                "--pipeline",
                pipeline,
                "--seed",
                "9",
                "--guidance",
                "0.7",
            ],
        );
        assert_eq!(run.code, 0, "{}", run.err);
        let file = format!("{pipeline}/owl-2.png");
        let run = ravel(folder.path(), &["replay", &file]);
        assert_eq!(run.code, 0, "{}", run.err);
        assert!(run.text().contains("same bytes"));
        let run = ravel(
            folder.path(),
            &["replay", &file, "-o", "again.png", "--force"],
        );
        assert_eq!(run.code, 0, "{}", run.err);
        assert_eq!(
            bytes(&folder.path().join("again.png")),
            bytes(&folder.path().join(&file))
        );
    }
}

#[test]
fn seeds_differ_and_zero_guidance_is_no_guidance() {
    let folder = folder();
    let go = |extra: &[&str]| {
        let mut arguments = vec!["image", "party popper", "-o", "-", "--temperature", "1"];
        arguments.extend(extra);
        let run = ravel(folder.path(), &arguments);
        assert_eq!(run.code, 0, "{}", run.err);
        ravel_media::decode_image(&run.out, Path::new("out")).unwrap()
    };
    assert_ne!(go(&["--seed", "1"]), go(&["--seed", "2"]));
    assert_eq!(go(&["--seed", "1"]), go(&["--seed", "1"]));
    assert_eq!(
        go(&["--guidance", "0"]),
        go(&["--guidance", "0.0000000001"])
    );
}

#[test]
fn previews_show_the_scales_and_the_last_is_the_picture() {
    let folder = folder();
    let run = ravel(
        folder.path(),
        &[
            "image",
            "fox",
            "-o",
            "fox.png",
            "--pipeline",
            "emoji-var",
            "--preview",
            "scales",
        ],
    );
    assert_eq!(run.code, 0, "{}", run.err);
    let mut scales: Vec<_> = std::fs::read_dir(folder.path().join("scales"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scales.sort();
    assert_eq!(scales.len(), 4, "one preview per scale");
    let last = read_image(scales.last().unwrap()).unwrap();
    assert_eq!(last, read_image(&folder.path().join("fox.png")).unwrap());
    assert_ne!(last, read_image(&scales[0]).unwrap());
}

#[test]
fn prompts_come_from_files_and_sheets_hold_all() {
    let folder = folder();
    std::fs::write(
        folder.path().join("prompts.jsonl"),
        "{\"prompt\": \"fox\"}\nowl\n\n",
    )
    .unwrap();
    let run = ravel(
        folder.path(),
        &[
            "image",
            "--prompts",
            "prompts.jsonl",
            "--grid",
            "-o",
            "sheet.png",
            "--json",
        ],
    );
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(run.text().lines().count(), 2);
    for line in run.text().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["file"], "sheet.png");
    }
    let sheet = read_image(&folder.path().join("sheet.png")).unwrap();
    assert_eq!((sheet.width, sheet.height), (2 * 64 + 12, 64 + 8));
}

#[test]
fn codes_go_out_and_come_back() {
    let folder = folder();
    ravel(folder.path(), &["image", "fox", "-o", "fox.png"]);
    let run = ravel(
        folder.path(),
        &["tokenizer", "encode", "fox.png", "-o", "fox.json"],
    );
    assert_eq!(run.code, 0, "{}", run.err);
    let run = ravel(
        folder.path(),
        &["tokenizer", "decode", "fox.json", "-o", "back.png"],
    );
    assert_eq!(run.code, 0, "{}", run.err);
    let within = ["tokenizer", "decode", "fox.json", "-o", "within.png"];
    let run = ravel(
        folder.path(),
        &[&within[..], &["--decode-memory", "1"]].concat(),
    );
    assert_eq!(run.code, 0, "{}", run.err);
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("within.png") == bytes("back.png"));
    let back = read_image(&folder.path().join("back.png")).unwrap();
    let fox = read_image(&folder.path().join("fox.png")).unwrap();
    let error: f64 = back
        .rgb
        .iter()
        .zip(&fox.rgb)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum();
    let mean = error / fox.rgb.len() as f64;
    assert!(
        mean < 600.0,
        "a picture of codes survives its codes: {mean}"
    );
    let run = ravel(folder.path(), &["tokenizer", "inspect", "--json"]);
    let spec: serde_json::Value = serde_json::from_slice(&run.out).unwrap();
    assert_eq!(spec["spec"]["layout"]["kind"], "grid");
}

#[test]
fn the_program_tells_what_it_has() {
    let folder = folder();
    let run = ravel(folder.path(), &[]);
    assert_eq!(run.code, 0);
    assert_eq!(
        run.text().matches("\n  ravel ").count(),
        3,
        "three examples:\n{}",
        run.text()
    );
    for (arguments, expected) in [
        (&["pipelines", "list"][..], "emoji-var"),
        (&["pipelines", "show", "emoji-ar"], "next-token"),
        (&["pipelines", "check", "emoji-var"], "is whole"),
        (&["pipelines", "schema"], "\"$schema\""),
        (&["doctor"], "computes rightly"),
        (&["completions", "bash"], "complete"),
        (&["man"], ".TH"),
        (&["--version"], "ravel "),
    ] {
        let run = ravel(folder.path(), arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.err);
        assert!(
            run.text().contains(expected),
            "{arguments:?}: {}",
            run.text()
        );
    }
}
