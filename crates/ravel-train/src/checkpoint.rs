//! Checkpoints of a run: everything that the next step depends on, written so that a kill leaves the last one whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use ravel_weights::{Checkpoint, Dtype};

use crate::TrainError;

/// Writes `checkpoints/step-N.safetensors` in the run's folder and removes all but the latest `keep`.
///
/// # Errors
/// [`TrainError::Weights`] if the file cannot be written; earlier checkpoints stay.
pub(crate) fn save(
    folder: &Path,
    step: usize,
    recipe_hash: &str,
    tensors: Vec<(String, TensorData)>,
    keep: usize,
) -> Result<PathBuf, TrainError> {
    let metadata = BTreeMap::from([
        ("step".to_string(), step.to_string()),
        ("recipe".to_string(), recipe_hash.to_string()),
    ]);
    let path = checkpoints(folder).join(format!("step-{step:08}.safetensors"));
    ravel_weights::save(&path, tensors, &metadata, Dtype::Keep)?;
    let all = list(folder);
    let surplus = all.len().saturating_sub(keep.max(1));
    for (_, old) in &all[..surplus] {
        std::fs::remove_file(old).map_err(|source| TrainError::File {
            path: old.clone(),
            source,
        })?;
    }
    Ok(path)
}

/// The latest checkpoint of a run and its step.
///
/// # Errors
/// [`TrainError::Checkpoint`] if there is none, or if it belongs to another recipe.
pub(crate) fn latest(folder: &Path, recipe_hash: &str) -> Result<(usize, Checkpoint), TrainError> {
    let (step, path) = list(folder).pop().ok_or_else(|| TrainError::Checkpoint {
        reason: format!(
            "nothing to resume in {}: no checkpoints/step-*.safetensors",
            folder.display()
        ),
    })?;
    let checkpoint = Checkpoint::open(&path)?;
    match checkpoint.metadata().get("recipe") {
        Some(found) if found == recipe_hash => Ok((step, checkpoint)),
        _ => Err(TrainError::Checkpoint {
            reason: format!(
                "{} was made by another recipe; take that one, or train into another folder",
                path.display()
            ),
        }),
    }
}

/// Whether the folder holds a run already.
pub(crate) fn exists(folder: &Path) -> bool {
    !list(folder).is_empty()
}

fn checkpoints(folder: &Path) -> PathBuf {
    folder.join("checkpoints")
}

/// All checkpoints, earliest first.
fn list(folder: &Path) -> Vec<(usize, PathBuf)> {
    let entries = std::fs::read_dir(checkpoints(folder)).into_iter().flatten();
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
            Some((step.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort_unstable();
    found
}
