//! Golden vectors: safetensors files made by running published reference code.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};

/// The tensors of one golden file.
pub struct Golden {
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Golden {
    /// Reads `tests/golden/FOLDER/FILE`.
    ///
    /// # Panics
    /// If the file is missing or not safetensors: a test cannot go on then.
    pub fn open(folder: &str, file: &str) -> Self {
        let path = crate::golden_folder().join(folder).join(file);
        Self::read(&path).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Reads a safetensors file anywhere.
    ///
    /// # Errors
    /// A line that names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(&error))?;
        let entries = file
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let entry = Entry {
                    shape: view.shape().to_vec(),
                    values: numbers(view.dtype(), view.data()),
                };
                (name, entry)
            })
            .collect();
        Ok(Self { entries })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether the file holds this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.entry(name).shape
    }

    /// The numbers of a tensor in row-major order.
    pub fn numbers(&self, name: &str) -> &[f64] {
        &self.entry(name).values
    }

    /// A tensor of real numbers, as f32.
    ///
    /// # Panics
    /// If it is absent or not of rank `D`.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let entry = self.entry(name);
        let values = entry.values.iter().map(|&value| value as f32).collect();
        Tensor::from_data(
            TensorData::new::<f32, _>(values, entry.shape.clone()),
            device,
        )
    }

    /// A tensor of ids.
    ///
    /// # Panics
    /// If it is absent or not of rank `D`.
    pub fn ids<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D, Int> {
        let entry = self.entry(name);
        let values = entry.values.iter().map(|&value| value as i32).collect();
        Tensor::from_data(
            TensorData::new::<i32, _>(values, entry.shape.clone()),
            device,
        )
    }

    fn entry(&self, name: &str) -> &Entry {
        self.entries
            .get(name)
            .unwrap_or_else(|| panic!("no golden tensor {name}"))
    }
}

fn numbers(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes
            .chunks_exact(N)
            .map(|chunk| read(chunk.try_into().expect("exact chunk")))
            .collect()
    }
    match dtype {
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F32 => each(bytes, |b| f32::from_le_bytes(b).into()),
        Dtype::F16 => each(bytes, |b| half::f16::from_le_bytes(b).into()),
        Dtype::BF16 => each(bytes, |b| half::bf16::from_le_bytes(b).into()),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b).into()),
        Dtype::U8 | Dtype::BOOL => bytes.iter().map(|&b| f64::from(b)).collect(),
        other => panic!("golden files hold no {other:?}"),
    }
}
