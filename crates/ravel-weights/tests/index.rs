//! Checkpoints in several files.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use ravel_weights::{Checkpoint, Dtype, save};

fn shard(folder: &Path, file: &str, tensors: &[(&str, f32)]) {
    let data = |&(name, value): &(&str, f32)| {
        (
            name.to_string(),
            TensorData::new::<f32, _>(vec![value], [1]),
        )
    };
    save(
        &folder.join(file),
        tensors.iter().map(data),
        &BTreeMap::new(),
        Dtype::Keep,
    )
    .unwrap();
}

fn indexed(map: &str) -> Result<Checkpoint, String> {
    let folder = tempfile::tempdir().unwrap();
    shard(
        folder.path(),
        "model-00001-of-00002.safetensors",
        &[("a", 1.0), ("b", 2.0)],
    );
    shard(
        folder.path(),
        "model-00002-of-00002.safetensors",
        &[("c", 3.0)],
    );
    shard(folder.path(), "again.safetensors", &[("a", 4.0)]);
    let path = folder.path().join("model.safetensors.index.json");
    let text = map
        .replace("#1", "model-00001-of-00002.safetensors")
        .replace("#2", "model-00002-of-00002.safetensors");
    std::fs::write(&path, text).unwrap();
    let opened = Checkpoint::open(&path);
    opened.map_err(|error| {
        let line = error.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
        line
    })
}

#[test]
fn an_index_joins_its_files() {
    let whole =
        indexed(r##"{"metadata":{"total_size":12},"weight_map":{"a":"#1","b":"#1","c":"#2"}}"##)
            .unwrap();
    assert_eq!(whole.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(whole.real("c").unwrap().as_slice::<f32>().unwrap(), [3.0]);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for file in [
        "../x.safetensors",
        "/etc/passwd",
        "a/b",
        "..",
        ".",
        "",
        "a\\\\b",
        "C:x",
        "a\\u0000",
        "loop.index.json",
    ] {
        let line = indexed(&format!(r#"{{"weight_map":{{"a":"{file}"}}}}"#))
            .err()
            .unwrap();
        assert!(
            line.contains("is no plain file name beside it"),
            "{file}: {line}"
        );
    }
}

#[test]
fn an_index_that_lies_is_refused() {
    let check = |map: &str, expected: &str| {
        let line = indexed(map)
            .err()
            .unwrap_or_else(|| panic!("accepted: {map}"));
        assert!(line.contains(expected), "{line}");
    };
    check(
        r##"{"weight_map":{"a":"#2"}}"##,
        "`a` should be in model-00002-of-00002.safetensors and is not",
    );
    check(
        r##"{"weight_map":{"a":"#1","a":"#2"}}"##,
        "`a` occurs twice",
    );
    check(
        r##"{"weight_map":{"b":"#1","a":"again.safetensors"}}"##,
        "`a` is in two files",
    );
    check(
        r##"{"weight_map":{"a":"absent.safetensors"}}"##,
        "absent.safetensors",
    );
    check(r##"{"weight_map":{}}"##, "names no tensors");
    check(r##"{"weight_map":["#1"]}"##, "not an index of weight files");
    check(r##"{"metadata":{}}"##, "weight_map");
    check("{", "not an index of weight files");
}
