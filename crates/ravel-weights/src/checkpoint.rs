//! Named tensors of a file, read when they are asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::TensorData;
use safetensors::Dtype;

use crate::WeightsError;
use crate::bytes::Bytes;
use crate::header::{self, Header, one_line};
use crate::index;
use crate::keys::Naming;
use crate::pytorch;
use crate::quantized;
use crate::stored::{Number, Stored};
use crate::view::View;

/// Named tensors and string metadata of one file, or of the files that one index names.
///
/// Files are mapped into memory and tensors stay of the type that the file has them in until [`Checkpoint::real`] or
/// [`load`](crate::load) reads them, one at a time. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(crate) path: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) views: BTreeMap<String, Arc<View>>,
    /// The key table that gave the tensors these names, and what it left over.
    pub(crate) naming: Option<Arc<Naming>>,
}

impl Checkpoint {
    /// Opens a safetensors file, the index of a sharded one (`….index.json`) or a file of `torch.save`.
    ///
    /// Headers must fit the file's size before anything else is read, and pickles are read as descriptions, never executed. Of
    /// nested dictionaries in PyTorch files the usual one is taken (`model_ema`, `model`, `module`, `state_dict`, …, or the only one).
    ///
    /// # Errors
    /// [`WeightsError::File`], [`WeightsError::Format`], [`WeightsError::Pytorch`] or [`WeightsError::Index`].
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::open_as(path, None)
    }

    /// Opens a PyTorch file and takes the dictionary that `inside` names: `model`, `ema.generator`.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; a dictionary that is not there is answered with those that are.
    pub fn open_inside(path: &Path, inside: &str) -> Result<Self, WeightsError> {
        Self::open_as(path, Some(inside))
    }

    fn open_as(path: &Path, inside: Option<&str>) -> Result<Self, WeightsError> {
        let shown = path.display().to_string();
        if path.extension().is_some_and(|end| end == "json") {
            return index::open(path, &shown);
        }
        let bytes = map(path).map_err(|source| WeightsError::File {
            path: shown.clone(),
            source,
        })?;
        Self::read(bytes, &shown, inside)
    }

    /// Reads the bytes of a file in memory; `shown` stands for them in messages.
    ///
    /// # Errors
    /// [`WeightsError::Format`] or [`WeightsError::Pytorch`] if a length, a shape or an offset does not add up.
    pub fn from_bytes(bytes: Cow<'static, [u8]>, shown: &str) -> Result<Self, WeightsError> {
        Self::read(Bytes::Memory(bytes), shown, None)
    }

    fn read(bytes: Bytes, shown: &str, inside: Option<&str>) -> Result<Self, WeightsError> {
        let path = shown.to_string();
        if let Some(other) = no_weights(&bytes) {
            return Err(WeightsError::Format {
                path,
                reason: other.into(),
            });
        }
        if pytorch::looks_like(&bytes) {
            return pytorch::open(bytes, shown, inside)
                .map_err(|reason| WeightsError::Pytorch { path, reason });
        }
        match inside {
            None => safetensors(bytes, shown),
            Some(_) => Err("safetensors files have no dictionaries to choose from".into()),
        }
        .map_err(|reason| WeightsError::Format { path, reason })
    }

    pub(crate) fn new(
        shown: &str,
        tensors: impl IntoIterator<Item = (String, Stored)>,
        metadata: BTreeMap<String, String>,
    ) -> Self {
        let view = |(name, stored): (String, Stored)| {
            let view = View::stored(&one_line(&name), stored);
            (name, Arc::new(view))
        };
        Self {
            path: shown.into(),
            metadata,
            views: tensors.into_iter().map(view).collect(),
            naming: None,
        }
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
        self.views.keys().map(String::as_str)
    }

    /// A tensor's shape, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.views.get(name).map(|view| &view.shape[..])
    }

    /// A tensor of real numbers, widened to f32.
    ///
    /// # Errors
    /// [`WeightsError::Tensor`] if it is absent or of a type that holds no real numbers.
    pub fn real(&self, name: &str) -> Result<TensorData, WeightsError> {
        let (values, shape) = self.numbers::<f32>(name)?;
        Ok(TensorData::new::<f32, _>(values, shape))
    }

    /// A tensor of whole numbers or truth values, widened to i64.
    ///
    /// # Errors
    /// As [`Checkpoint::real`].
    pub fn whole(&self, name: &str) -> Result<TensorData, WeightsError> {
        let (values, shape) = self.numbers::<i64>(name)?;
        Ok(TensorData::new::<i64, _>(values, shape))
    }

    /// All tensors whose name begins with `prefix` and a dot, without that prefix.
    ///
    /// # Errors
    /// [`WeightsError::Tensor`] for an element type that is not known here.
    pub fn tensors_under(&self, prefix: &str) -> Result<Vec<(String, TensorData)>, WeightsError> {
        self.views
            .iter()
            .filter_map(|(name, view)| {
                let rest = name.strip_prefix(prefix)?.strip_prefix('.')?;
                let data = match i64::reader(view.dtype()) {
                    Ok(_) => self.whole(name),
                    Err(_) => self.real(name),
                };
                Some(data.map(|data| (rest.to_string(), data)))
            })
            .collect()
    }

    /// The tensors whose name begins with `prefix`, without it: one model of several that lie in one file. Messages keep the names that
    /// the file has.
    pub fn under(mut self, prefix: &str) -> Self {
        let views = self.views.into_iter().filter_map(|(name, view)| {
            let rest = name.strip_prefix(prefix)?;
            Some((rest.to_string(), view))
        });
        self.views = views.collect();
        self
    }

    /// The tensors whose name begins with `prefix`.
    pub fn only(mut self, prefix: &str) -> Self {
        self.views.retain(|name, _| name.starts_with(prefix));
        self
    }

    /// Weight norm undone: `length · direction / |direction|` under the weight's own name, for every spelling that PyTorch has
    /// had (`weight_g` and `weight_v`; `parametrizations.weight.original0` and `original1`).
    ///
    /// # Errors
    /// [`WeightsError::Tensor`] if lengths do not belong to their directions.
    pub fn fold_weight_norm(mut self) -> Result<Self, WeightsError> {
        let pairs: Vec<[String; 3]> = self.names().filter_map(|name| pair(name, &self)).collect();
        for [lengths, directions, weight] in pairs {
            let lengths = self.views.remove(&lengths).expect("its name was just read");
            let directions = self.views.remove(&directions).expect("pair looked for it");
            let folded = View::normed(lengths, directions).map_err(|reason| self.wrong(reason))?;
            let folded = Arc::new(View::clone(&folded).named(&one_line(&weight)));
            self.views.insert(weight, folded);
        }
        Ok(self)
    }

    pub(crate) fn wrong(&self, reason: String) -> WeightsError {
        WeightsError::Tensor {
            path: self.path.clone(),
            reason,
        }
    }

    fn numbers<T: Number>(&self, name: &str) -> Result<(Vec<T>, Vec<usize>), WeightsError> {
        let shown = one_line(name);
        let view = self.views.get(name);
        let view = view.ok_or_else(|| self.wrong(format!("no tensor `{shown}`")))?;
        let wrong_type = |found: Dtype| {
            let shown = &view.published;
            self.wrong(format!("`{shown}` holds {found:?}, another type is needed"))
        };
        Ok((view.read().map_err(wrong_type)?, view.shape.clone()))
    }
}

/// Names of lengths, directions and the weight that they make, if `name` is that of lengths and the rest fits.
fn pair(name: &str, checkpoint: &Checkpoint) -> Option<[String; 3]> {
    let (directions, weight) = match name.strip_suffix(".original0") {
        Some(owner) => {
            let (module, parameter) = owner.split_once("parametrizations.")?;
            (format!("{owner}.original1"), format!("{module}{parameter}"))
        }
        None => {
            let weight = name.strip_suffix("_g")?;
            (format!("{weight}_v"), weight.to_string())
        }
    };
    let both =
        checkpoint.views.contains_key(&directions) && !checkpoint.views.contains_key(&weight);
    both.then(|| [name.to_string(), directions, weight])
}

/// What a download may have brought instead of weights.
fn no_weights(bytes: &[u8]) -> Option<&'static str> {
    let begins = |text: &str| {
        bytes
            .get(..text.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
    };
    if begins("version https://git-lfs") {
        return Some("it is a Git LFS pointer; the file itself was not fetched");
    }
    (begins("<!doctype") || begins("<html")).then_some("it is a web page")
}

fn map(path: &Path) -> std::io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    Bytes::map(&file)
}

fn safetensors(bytes: Bytes, shown: &str) -> Result<Checkpoint, String> {
    let size = bytes.len() as u64;
    let length = header::length(&bytes, size)?;
    let json = &bytes[header::LENGTH_BYTES..][..length];
    let Header { entries, metadata } = header::parse(json, size)?;
    let bytes = Arc::new(bytes);
    let tensors = entries.into_iter().map(|(name, entry)| {
        let stored = Stored {
            bytes: bytes.clone(),
            dtype: entry.dtype,
            shape: entry.shape,
            strides: None,
            start: entry.start,
        };
        (name, stored)
    });
    let mut checkpoint = Checkpoint::new(shown, tensors, metadata);
    quantized::undo(&mut checkpoint)?;
    Ok(checkpoint)
}
