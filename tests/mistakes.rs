//! Mistakes that people make: sizes that fill the memory, marks and keys that editors and habits leave, folders that are not there.

use std::fs;
use std::path::Path;

use ravel_weights::{Checkpoint, Dtype, save};

use crate::bad_input::{edited, image_with, unpacked};
use crate::command::{check_refused, ravel};
use crate::training::{good, workshop};

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Renames the last tensor of a file.
fn with_a_stranger(path: &Path) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let names = checkpoint.names().map(str::to_string);
    let mut tensors: Vec<_> = names
        .map(|name| {
            let data = checkpoint.real(&name).unwrap();
            (name, data)
        })
        .collect();
    tensors.last_mut().unwrap().0 = "stranger".into();
    drop(checkpoint);
    save(path, tensors, &Default::default(), Dtype::F16).unwrap();
}

/// Values that no size should have, in the place of those of the embedded model.
#[test]
fn impossible_sizes_are_refused_before_memory_is_taken() {
    for (from, to, expected) in [
        ("axes = 1", "axes = 3", "rotary.axes is 3, 1 to 2"),
        ("axes = 1", "axes = 9223372036854775807", "axes"),
        (
            "encoder = [",
            "encoder = [\n    65536,",
            "65536, 4096 at most",
        ),
        (
            "encoder-blocks = [",
            "encoder-blocks = [\n    9223372036854775807,",
            "9223372036854775807",
        ),
        ("patch = 4", "patch = 9223372036854775807", "patch"),
        ("layers = ", "layers = 9", "720 missing"),
        (
            "codebook-size = 2048",
            "codebook-size = 9223372036854775807",
            "9223372036854775807",
        ),
    ] {
        let folder = unpacked();
        let before = fs::read_to_string(folder.path().join("pipeline.toml")).unwrap();
        if !before.contains(from) {
            panic!("`{from}` is not in the definition:\n{before}");
        }
        edited(folder.path(), from, to);
        check_refused(&image_with(folder.path()), expected);
    }
}

#[test]
fn tensors_beside_the_parts_are_told_with_those_that_are_missing() {
    let folder = unpacked();
    with_a_stranger(&folder.path().join("generator.safetensors"));
    let run = image_with(folder.path());
    check_refused(&run, "`stranger`");
    assert!(run.err.contains("1 missing"), "{}", run.err);
}

#[test]
fn lines_of_prompts_are_read_as_people_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("plain.txt"), "red heart\r\n").unwrap();
    fs::write(at.join("marked.txt"), "\u{feff}red heart\r\n").unwrap();
    for name in ["plain", "marked"] {
        let (file, out) = (format!("{name}.txt"), format!("{name}/"));
        good(ravel(at, &["image", "--prompts", &file, "-o", &out]));
    }
    let bytes = |name: &str| fs::read(at.join(name).join("red-heart.png")).unwrap();
    assert!(
        bytes("plain") == bytes("marked"),
        "a mark of the encoding is no part of a prompt"
    );
    fs::write(
        at.join("set.jsonl"),
        "{\"prompt\": \"red heart\", \"seed\": 3}\n",
    )
    .unwrap();
    check_refused(
        &ravel(at, &["image", "--prompts", "set.jsonl"]),
        "set.jsonl:1: the key `seed`",
    );
}

#[test]
fn where_pictures_go_is_looked_at_before_they_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let missing = [
        "image",
        "fox",
        "-o",
        "nowhere/fox.png",
        "--preview",
        "shown",
    ];
    check_refused(&ravel(at, &missing), "no folder nowhere");
    fs::write(at.join("one.png"), "x").unwrap();
    check_refused(
        &ravel(at, &["image", "fox", "cat face", "-o", "one.png"]),
        "need a folder",
    );
    check_refused(
        &ravel(at, &["tokenizer", "decode", "a.json", "-o", "b.jpg"]),
        "as PNG",
    );
    assert_eq!(count(at), 1, "nothing but what was there");
}

#[test]
fn a_batch_beyond_all_memory_is_refused() {
    let folder = workshop();
    let path = folder.path().join("tiny-tokenizer.toml");
    let recipe = fs::read_to_string(&path)
        .unwrap()
        .replace("batch = 2", "batch = 100000000");
    fs::write(&path, recipe).unwrap();
    check_refused(
        &ravel(folder.path(), &["train", "tiny-tokenizer.toml"]),
        "`batch` 1 to 65536",
    );
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn what_files_and_prompts_bring_along_does_not_steer_a_terminal() {
    let folder = unpacked();
    edited(
        folder.path(),
        "name = \"emoji-ar\"",
        "name = \"red\\u001b[31m\"",
    );
    let run = good(ravel(
        folder.path(),
        &["pipelines", "check", "pipeline.toml"],
    ));
    assert!(!run.text().contains('\u{1b}'), "{:?}", run.text());
    let run = ravel(
        folder.path(),
        &["image", "fox", "--pipeline", "a\u{1b}[31m"],
    );
    check_refused(&run, "\\u{1b}[31m");
    assert!(!run.err.contains('\u{1b}'), "{:?}", run.err);
}

#[test]
fn strangers_are_told_in_pipelines_of_video_too() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/sprites");
    for entry in fs::read_dir(models).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    with_a_stranger(&folder.path().join("generator.safetensors"));
    let run = ravel(folder.path(), &["pipelines", "check", "pipeline.toml"]);
    check_refused(&run, "`stranger`");
    assert!(run.err.contains("1 missing"), "{}", run.err);
}

/// What Python would run on loading: `os.system("touch TRACE")`, as the pickles of the pickle module's own manual.
fn calls_the_system(trace: &Path) -> Vec<u8> {
    let command = format!("touch {}", trace.display());
    let mut pickle = b"\x80\x02}X\x01\0\0\0wcos\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85Rs.");
    pickle
}

/// The older files of `torch.save`: magic number, version and machine in front, the names of storages behind.
fn old_torch(pickle: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let machine = b"\x80\x02}X\x0d\0\0\0little_endian\x88s.";
    [
        &magic[..],
        b"\x80\x02M\xe9\x03.",
        machine,
        pickle,
        b"\x80\x02].",
    ]
    .concat()
}

#[test]
fn weights_that_would_run_a_program_are_refused_and_run_nothing() {
    let folder = unpacked();
    let trace = folder.path().join("trace");
    let pickle = calls_the_system(&trace);
    let weights = folder.path().join("generator.safetensors");
    for bytes in [old_torch(&pickle), pickle] {
        fs::write(&weights, bytes).unwrap();
        let run = image_with(folder.path());
        check_refused(
            &run,
            "generator.safetensors: not a PyTorch file that can be trusted",
        );
        assert!(!trace.exists() && !folder.path().join("out.png").exists());
    }
    fs::write(&weights, old_torch(&calls_the_system(&trace))).unwrap();
    check_refused(
        &image_with(folder.path()),
        "it asks for `os.system`, which no weights need (nothing of it was run)",
    );
    assert!(!trace.exists());
}
