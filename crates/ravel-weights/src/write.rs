//! Writing that survives a kill: a temporary file beside the target, fsync, rename, fsync of the folder.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use half::f16;
use safetensors::tensor::TensorView;
use sha2::{Digest, Sha256};

use crate::WeightsError;

/// How real numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// As they are: f32.
    Keep,
    /// Half precision: what exported models use.
    F16,
}

/// Writes tensors as a safetensors file, whole or not at all.
///
/// # Errors
/// [`WeightsError::File`]; an existing file is then untouched.
pub fn save(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, TensorData)>,
    metadata: &BTreeMap<String, String>,
    dtype: Dtype,
) -> Result<(), WeightsError> {
    let stored: BTreeMap<String, Stored> = tensors
        .into_iter()
        .map(|(name, data)| (name, Stored::new(data, dtype)))
        .collect();
    let views = stored.iter().map(|(name, stored)| {
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes)
            .expect("shape axis: bytes were made from the same tensor");
        (name.as_str(), view)
    });
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| WeightsError::Format {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
    atomic_write(path, &bytes)
}

struct Stored {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn new(data: TensorData, dtype: Dtype) -> Self {
        let shape = data.shape().to_vec();
        if matches!(data.dtype(), DType::I64 | DType::I32) {
            let values = data
                .convert::<i64>()
                .try_into_vec::<i64>()
                .unwrap_or_default();
            return Self {
                dtype: safetensors::Dtype::I64,
                shape,
                bytes: values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            };
        }
        let values = data
            .convert::<f32>()
            .try_into_vec::<f32>()
            .unwrap_or_default();
        let (dtype, bytes) = match dtype {
            Dtype::Keep => (
                safetensors::Dtype::F32,
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ),
            Dtype::F16 => (
                safetensors::Dtype::F16,
                values
                    .iter()
                    .flat_map(|&value| f16::from_f32(value).to_le_bytes())
                    .collect(),
            ),
        };
        Self {
            dtype,
            shape,
            bytes,
        }
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// [`WeightsError::File`]; an existing file is then untouched.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    let failed = |source| WeightsError::File {
        path: path.display().to_string(),
        source,
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".ravel-")
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
