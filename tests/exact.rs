//! The same bytes on any number of threads and in any batch, whatever the weights are kept as.

use std::path::Path;

use crate::command::{Run, command, from};

const KINDS: [&str; 5] = ["f32", "f16", "bf16", "q8", "q4"];
const PROMPTS: [&str; 3] = ["fox", "red apple", "pizza"];

/// Runs `ravel` on so many threads.
#[track_caller]
fn on(threads: usize, folder: &Path, arguments: &[&str]) -> Run {
    let mut command = command(folder, arguments);
    let command = command.env("RAYON_NUM_THREADS", threads.to_string());
    let run = from(command.output().unwrap());
    assert_eq!(run.code, 0, "{arguments:?}: {}", run.err);
    run
}

/// Three pictures in one batch: their bytes, which tell how they were made.
fn pictures(threads: usize, folder: &Path, pipeline: &str, kind: &str) -> Vec<Vec<u8>> {
    let to = format!("{pipeline}-{kind}-{threads}");
    let flags = [
        "--pipeline",
        pipeline,
        "--weights-type",
        kind,
        "-o",
        &to,
        "--quiet",
    ];
    let arguments = [&["image"], &PROMPTS[..], &flags].concat();
    on(threads, folder, &arguments);
    let names = ["fox.png", "red-apple.png", "pizza.png"];
    names
        .map(|name| std::fs::read(folder.join(&to).join(name)).unwrap())
        .into()
}

#[test]
fn pictures_are_the_same_on_one_two_and_three_threads_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    for pipeline in ["emoji-ar", "emoji-var"] {
        let mut all = Vec::new();
        for kind in KINDS {
            let one = pictures(1, folder.path(), pipeline, kind);
            for threads in [2, 3] {
                let more = pictures(threads, folder.path(), pipeline, kind);
                assert!(one == more, "{pipeline}, {kind}, {threads} threads");
            }
            // Each of the batch by itself; without `-o` what is made is compared with the file.
            for name in ["fox.png", "pizza.png"] {
                let file = format!("{pipeline}-{kind}-2/{name}");
                on(2, folder.path(), &["replay", &file, "--weights-type", kind]);
            }
            all.push(one);
        }
        // The type is no word without effect.
        assert!(all[0] != all[4], "{pipeline}");
    }
}

/// A prompt of more than two cuts (64 ids), so that it is read in pieces and its beginning can be remembered.
fn long() -> String {
    let sentence = "It was a fine morning, and the whole party set out together for the hill, with a basket of cold meat. ";
    sentence.repeat(7)
}

#[test]
fn texts_are_the_same_alone_and_among_others() {
    let folder = tempfile::tempdir().unwrap();
    let long = long();
    let prompts = [
        "It is a truth".to_string(),
        format!("{long}She"),
        "Oh".to_string(),
        format!("{long}They were"),
        format!("{long}They were"),
        format!("{}But he", &long[..long.len() / 2]),
    ];
    let lines: String = prompts.iter().map(|prompt| format!("{prompt}\n")).collect();
    std::fs::write(folder.path().join("prompts.txt"), lines).unwrap();
    let settings = ["--max-tokens", "10", "--logprobs", "2", "--seed", "3"];
    let rows = |run: Run| -> Vec<serde_json::Value> {
        let text = run.text();
        let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
        rows.collect()
    };
    for kind in KINDS {
        let settings = [&settings[..], &["--weights-type", kind]].concat();
        let many = |batch: &str, threads| {
            let asked = ["text", "--prompts", "prompts.txt", "--batch", batch];
            let asked = [&asked[..], &settings].concat();
            rows(on(threads, folder.path(), &asked))
        };
        let together = many("8", 2);
        assert_eq!(together.len(), prompts.len());
        assert!(together[1]["prompt-tokens"].as_u64().unwrap() > 128);
        for batch in ["1", "3"] {
            assert_eq!(many(batch, 3), together, "{kind}, {batch} at a time");
        }
        for (prompt, row) in prompts.iter().zip(&together).skip(1).step_by(2) {
            let asked = [&["text", prompt.as_str()], &settings[..]].concat();
            let mut alone = rows(on(1, folder.path(), &asked)).remove(0);
            alone["prompt"] = prompt.as_str().into();
            assert_eq!(&alone, row, "{kind}");
        }
    }
}

#[test]
fn texts_are_the_same_on_one_two_and_three_threads() {
    let folder = tempfile::tempdir().unwrap();
    let text = |threads, kind| {
        // Log-probabilities tell every bit of the scores.
        let asked = [
            "text",
            "It is a truth",
            "--max-tokens",
            "12",
            "--logprobs",
            "3",
        ];
        let arguments = [&asked[..], &["--weights-type", kind]].concat();
        on(threads, folder.path(), &arguments).out
    };
    let mut all = Vec::new();
    for kind in KINDS {
        let one = text(1, kind);
        for threads in [2, 3] {
            assert!(one == text(threads, kind), "{kind}, {threads} threads");
        }
        all.push(one);
    }
    // The file holds half precision: nothing changes by that, and by every other type something does.
    assert!(all[0] == all[1]);
    assert!((2..5).all(|at| all[0] != all[at]));
}
