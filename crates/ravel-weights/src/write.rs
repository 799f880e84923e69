//! Writing that survives a kill: a temporary file beside the target, fsync, rename, fsync of the folder.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
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
    let stored: BTreeMap<String, Written> = tensors
        .into_iter()
        .map(|(name, data)| (name, Written::new(data, dtype)))
        .collect();
    write(path, &stored, metadata)
}

/// Writes tensors that are bytes already.
pub(crate) fn write(
    path: &Path,
    stored: &BTreeMap<String, Written>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    if let Some((name, _)) = stored.iter().find(|(_, stored)| stored.overflows) {
        return Err(WeightsError::Format {
            path: path.display().to_string(),
            reason: format!(
                "tensor `{name}` holds numbers beyond ±65504, too large for half precision"
            ),
        });
    }
    let views = stored.iter().map(|(name, stored)| {
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes)
            .expect("shape axis: bytes were made from the same tensor");
        (name.as_str(), view)
    });
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| error.to_string())
        .and_then(sorted_header)
        .map_err(|reason| WeightsError::Format {
            path: path.display().to_string(),
            reason,
        })?;
    atomic_write(path, &bytes)
}

/// The same file with the names in its header sorted: `safetensors` writes metadata in an order that changes from run to
/// run, and equal models should be equal files.
fn sorted_header(mut file: Vec<u8>) -> Result<Vec<u8>, String> {
    let (len, rest) = file.split_first_chunk_mut::<8>().ok_or("no header")?;
    let len = u64::from_le_bytes(*len) as usize;
    let header = rest.get_mut(..len).ok_or("a header that is cut off")?;
    let names: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| error.to_string())?;
    let sorted = serde_json::to_vec(&names).map_err(|error| error.to_string())?;
    header.fill(b' ');
    header[..sorted.len()].copy_from_slice(&sorted);
    Ok(file)
}

/// A tensor as it is written.
pub(crate) struct Written {
    pub(crate) dtype: safetensors::Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
    /// Whether a number became infinite by being stored.
    pub(crate) overflows: bool,
}

impl Written {
    pub(crate) fn new(data: TensorData, dtype: Dtype) -> Self {
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
                overflows: false,
            };
        }
        let values = data
            .convert::<f32>()
            .try_into_vec::<f32>()
            .unwrap_or_default();
        let overflows = dtype == Dtype::F16
            && values
                .iter()
                .any(|&value| value.is_finite() && f16::from_f32(value).is_infinite());
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
            overflows,
        }
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// [`WeightsError::File`]; an existing file is then untouched.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    ravel_files::write_whole(path, bytes, true).map_err(|source| WeightsError::File {
        path: path.display().to_string(),
        source,
    })
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// The SHA-256 of a file, in hexadecimal digits, without holding it in memory.
///
/// # Errors
/// What the system says.
pub fn sha256_file(path: &Path) -> std::io::Result<String> {
    let (mut file, mut digest) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
