//! A safetensors file in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use crate::WeightsError;

/// Largest header that is believed, as in the safetensors library.
const MAX_HEADER: u64 = 100_000_000;

/// Named tensors and string metadata of one file.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: String,
    metadata: BTreeMap<String, String>,
    entries: BTreeMap<String, Entry>,
    bytes: Cow<'static, [u8]>,
}

#[derive(Debug, Clone)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

impl Checkpoint {
    /// Reads a file.
    ///
    /// # Errors
    /// [`WeightsError::File`] or [`WeightsError::Format`].
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let shown = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| WeightsError::File {
            path: shown.clone(),
            source,
        })?;
        Self::from_bytes(bytes.into(), &shown)
    }

    /// Reads bytes in memory; `shown` stands for them in messages.
    ///
    /// # Errors
    /// [`WeightsError::Format`] if a length, a shape or an offset does not add up.
    pub fn from_bytes(bytes: Cow<'static, [u8]>, shown: &str) -> Result<Self, WeightsError> {
        let wrong = |reason: String| WeightsError::Format {
            path: shown.into(),
            reason,
        };
        let length = bytes
            .first_chunk::<8>()
            .map(|length| u64::from_le_bytes(*length))
            .ok_or_else(|| wrong(format!("{} bytes are too few", bytes.len())))?;
        let room = bytes.len() as u64 - 8;
        if length > room || length > MAX_HEADER {
            return Err(wrong(format!(
                "it announces a header of {length} bytes and {room} follow (truncated?)"
            )));
        }
        let (data_start, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| wrong(error.to_string()))?;
        let data_start = data_start + 8;
        let entries = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (start, end) = info.data_offsets;
                let entry = Entry {
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    start: data_start + start,
                    end: data_start + end,
                };
                (name, entry)
            })
            .collect();
        let metadata = metadata
            .metadata()
            .iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Ok(Self {
            path: shown.into(),
            metadata,
            entries,
            bytes,
        })
    }

    /// The file as messages name it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file's string metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// A tensor's shape, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| &entry.shape[..])
    }

    /// A tensor of real numbers, widened to f32.
    ///
    /// # Errors
    /// [`WeightsError::Format`] if it is absent or of a type that holds no real numbers.
    pub fn real(&self, name: &str) -> Result<TensorData, WeightsError> {
        let (entry, bytes) = self.entry(name)?;
        let values: Vec<f32> = match entry.dtype {
            Dtype::F32 => each(bytes, f32::from_le_bytes),
            Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            other => return Err(self.wrong_type(name, other)),
        };
        Ok(TensorData::new::<f32, _>(values, entry.shape.clone()))
    }

    /// A tensor of whole numbers.
    ///
    /// # Errors
    /// As [`Checkpoint::real`].
    pub fn whole(&self, name: &str) -> Result<TensorData, WeightsError> {
        let (entry, bytes) = self.entry(name)?;
        let values: Vec<i64> = match entry.dtype {
            Dtype::I64 => each(bytes, i64::from_le_bytes),
            Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b).into()),
            Dtype::U8 => bytes.iter().map(|&b| b.into()).collect(),
            other => return Err(self.wrong_type(name, other)),
        };
        Ok(TensorData::new::<i64, _>(values, entry.shape.clone()))
    }

    /// All tensors whose name begins with `prefix` and a dot, without that prefix.
    ///
    /// # Errors
    /// [`WeightsError::Format`] for an element type that is not known here.
    pub fn tensors_under(&self, prefix: &str) -> Result<Vec<(String, TensorData)>, WeightsError> {
        self.entries
            .iter()
            .filter_map(|(name, entry)| {
                let rest = name.strip_prefix(prefix)?.strip_prefix('.')?;
                let whole = matches!(entry.dtype, Dtype::I64 | Dtype::I32 | Dtype::U8);
                let data = if whole { self.whole(name) } else { self.real(name) };
                Some(data.map(|data| (rest.to_string(), data)))
            })
            .collect()
    }

    fn entry(&self, name: &str) -> Result<(&Entry, &[u8]), WeightsError> {
        let entry = self.entries.get(name).ok_or_else(|| WeightsError::Format {
            path: self.path.clone(),
            reason: format!("no tensor `{name}`"),
        })?;
        Ok((entry, &self.bytes[entry.start..entry.end]))
    }

    fn wrong_type(&self, name: &str, found: Dtype) -> WeightsError {
        WeightsError::Format {
            path: self.path.clone(),
            reason: format!("`{name}` holds {found:?}, another type is needed"),
        }
    }
}

fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .chunks_exact(N)
        .map(|chunk| read(chunk.try_into().expect("exact chunk")))
        .collect()
}
