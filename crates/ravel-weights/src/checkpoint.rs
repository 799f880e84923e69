//! A safetensors file in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::tensor::TensorData;
use half::{bf16, f16};
use safetensors::Dtype;

use crate::WeightsError;
use crate::header::{self, Entry, Header, one_line};

/// Named tensors and string metadata of one file.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: String,
    metadata: BTreeMap<String, String>,
    entries: BTreeMap<String, Entry>,
    bytes: Cow<'static, [u8]>,
}

impl Checkpoint {
    /// Reads a file. Its header must fit the file's size before the rest is read.
    ///
    /// # Errors
    /// [`WeightsError::File`] or [`WeightsError::Format`].
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let shown = path.display().to_string();
        let failed = |source| WeightsError::File {
            path: shown.clone(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut bytes = Vec::new();
        let mut read = |bytes: &mut Vec<u8>, count: u64| {
            (&mut file).take(count).read_to_end(bytes).map_err(failed)
        };
        read(&mut bytes, header::LENGTH_BYTES as u64)?;
        let wrong = |reason| wrong(&shown, reason);
        let length = header::length(&bytes, size).map_err(wrong)?;
        read(&mut bytes, length as u64)?;
        header::parse(&bytes[header::LENGTH_BYTES..], size).map_err(wrong)?;
        read(&mut bytes, size)?;
        Self::from_bytes(bytes.into(), &shown)
    }

    /// Reads bytes in memory; `shown` stands for them in messages.
    ///
    /// # Errors
    /// [`WeightsError::Format`] if a length, a shape or an offset does not add up.
    pub fn from_bytes(bytes: Cow<'static, [u8]>, shown: &str) -> Result<Self, WeightsError> {
        let size = bytes.len() as u64;
        let wrong = |reason| wrong(shown, reason);
        let length = header::length(&bytes, size).map_err(wrong)?;
        let json = &bytes[header::LENGTH_BYTES..][..length];
        let Header { entries, metadata } = header::parse(json, size).map_err(wrong)?;
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
                let data = if whole {
                    self.whole(name)
                } else {
                    self.real(name)
                };
                Some(data.map(|data| (rest.to_string(), data)))
            })
            .collect()
    }

    fn entry(&self, name: &str) -> Result<(&Entry, &[u8]), WeightsError> {
        let entry = self.entries.get(name).ok_or_else(|| WeightsError::Format {
            path: self.path.clone(),
            reason: format!("no tensor `{}`", one_line(name)),
        })?;
        Ok((entry, &self.bytes[entry.start..entry.end]))
    }

    fn wrong_type(&self, name: &str, found: Dtype) -> WeightsError {
        WeightsError::Format {
            path: self.path.clone(),
            reason: format!(
                "`{}` holds {found:?}, another type is needed",
                one_line(name)
            ),
        }
    }
}

fn wrong(shown: &str, reason: String) -> WeightsError {
    WeightsError::Format {
        path: shown.into(),
        reason,
    }
}

fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .chunks_exact(N)
        .map(|chunk| read(chunk.try_into().expect("exact chunk")))
        .collect()
}
