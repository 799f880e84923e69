//! A checkpoint in several files: `model.safetensors.index.json` and `pytorch_model.bin.index.json` say which tensor is where.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use serde::Deserialize;

use crate::header::{Unique, one_line};
use crate::{Checkpoint, WeightsError};

/// Largest index that is read: some ten million names.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Deserialize)]
struct IndexFile {
    weight_map: Unique<String>,
}

/// Opens all files that an index names.
pub(crate) fn open(path: &Path, shown: &str) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason| WeightsError::Index {
        path: shown.into(),
        reason,
    };
    let text = read(path).map_err(|source| WeightsError::File {
        path: shown.into(),
        source,
    })?;
    let map = parse(&text).map_err(wrong)?;
    let files: BTreeSet<&str> = map.values().map(String::as_str).collect();
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut whole = Checkpoint::new(shown, [], BTreeMap::new());
    for file in files {
        let shard = Checkpoint::open(&folder.join(file))?;
        let here =
            |named: &(&String, &String)| named.1 == file && !shard.views.contains_key(named.0);
        if let Some((name, _)) = map.iter().find(here) {
            return Err(wrong(format!(
                "`{}` should be in {file} and is not",
                one_line(name)
            )));
        }
        for (name, view) in shard.views {
            if whole.views.contains_key(&name) {
                return Err(wrong(format!("`{}` is in two files", one_line(&name))));
            }
            whole.views.insert(name, view);
        }
        whole.metadata.extend(shard.metadata);
    }
    Ok(whole)
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Names and files, of which none leads out of the index's own folder.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let wrong = |error: serde_json::Error| one_line(&error.to_string());
    let index: IndexFile = serde_json::from_str(text).map_err(wrong)?;
    let Unique(map) = index.weight_map;
    if map.is_empty() {
        return Err("it names no tensors".into());
    }
    match map.values().find(|file| !is_plain(file)) {
        Some(file) => Err(format!(
            "`{}` is no plain file name beside it",
            one_line(file)
        )),
        None => Ok(map),
    }
}

fn is_plain(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    let plain = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
    // An index that names an index would never end.
    let weights = !file.to_ascii_lowercase().ends_with(".json");
    plain && weights && !file.contains(['/', '\\', ':', '\0'])
}
