//! One case folder.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor};
use ravel_testkit::{Golden, device};
use ravel_weights::Checkpoint;
use serde::de::DeserializeOwned;

use crate::{GoldenError, Readme};

/// The file of inputs and outputs.
const IO: &str = "io.safetensors";
/// What cases of text tokenizers have in its place.
const TEXT_IO: &str = "cases.json";

/// A folder with a README, a configuration, weights, inputs and outputs.
pub struct Case {
    /// The folder.
    pub folder: PathBuf,
    /// The folder's own name.
    pub name: String,
    /// What the README says.
    pub readme: Readme,
    io: Option<Golden>,
}

impl Case {
    /// Whether a folder looks like a case.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(IO).is_file() || folder.join(TEXT_IO).is_file()
    }

    /// Opens a folder and reads its inputs and outputs.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if the README is absent or `io.safetensors` cannot be read.
    pub fn open(folder: &Path) -> Result<Self, GoldenError> {
        let readme = read(&folder.join("README.md"))?;
        let io = folder.join(IO);
        let io = match io.is_file() {
            true => Some(Golden::read(&io).map_err(GoldenError::Input)?),
            false => None,
        };
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        Ok(Self {
            folder: folder.into(),
            name: name.to_string_lossy().into_owned(),
            readme: Readme::parse(&readme),
            io,
        })
    }

    /// The device that all cases run on.
    pub fn device(&self) -> Device {
        device()
    }

    /// Whether the case has this file.
    pub fn has_file(&self, file: &str) -> bool {
        self.folder.join(file).is_file()
    }

    /// Names of files with one of these endings, sorted.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if the folder cannot be read.
    pub fn files_with(&self, endings: &[&str]) -> Result<Vec<String>, GoldenError> {
        let failed = |error| self.input(error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_string_lossy().into_owned();
            let ending = name.rsplit_once('.').map(|(_, ending)| ending);
            if ending.is_some_and(|ending| endings.contains(&ending)) {
                files.push(name);
            }
        }
        files.sort();
        Ok(files)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if it cannot be read.
    pub fn text(&self, file: &str) -> Result<String, GoldenError> {
        read(&self.folder.join(file))
    }

    /// A JSON file of the case; unknown keys are left to the type.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if the file is absent or not of this type.
    pub fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T, GoldenError> {
        serde_json::from_str(&self.text(file)?)
            .map_err(|error| self.input(format!("{file}: {error}")))
    }

    /// `config.json`.
    ///
    /// # Errors
    /// As [`Case::text`].
    pub fn config(&self) -> Result<String, GoldenError> {
        self.text("config.json")
    }

    /// A file of weights under the reference's own names.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if it is absent; [`GoldenError::Weights`] if it cannot be read.
    pub fn weights(&self, file: &str) -> Result<Checkpoint, GoldenError> {
        match self.has_file(file) {
            true => Ok(Checkpoint::open(&self.folder.join(file))?),
            false => Err(self.input(format!("there is no {file}"))),
        }
    }

    /// Whether `io.safetensors` holds this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.io.as_ref().is_some_and(|io| io.has(name))
    }

    /// Names of all tensors of `io.safetensors`, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.io.iter().flat_map(Golden::names).collect()
    }

    /// The shape of a tensor of `io.safetensors`.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if it is absent.
    pub fn shape(&self, name: &str) -> Result<&[usize], GoldenError> {
        Ok(self.io(name)?.shape(name))
    }

    /// The numbers of a tensor of `io.safetensors` in row-major order.
    ///
    /// # Errors
    /// As [`Case::shape`].
    pub fn numbers(&self, name: &str) -> Result<&[f64], GoldenError> {
        Ok(self.io(name)?.numbers(name))
    }

    /// A tensor of real numbers from `io.safetensors`, as f32.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if it is absent or not of rank `D`.
    pub fn real<const D: usize>(&self, name: &str) -> Result<Tensor<D>, GoldenError> {
        Ok(self.ranked::<D>(name)?.tensor(name, &self.device()))
    }

    /// A tensor of whole numbers from `io.safetensors`.
    ///
    /// # Errors
    /// As [`Case::real`].
    pub fn ids<const D: usize>(&self, name: &str) -> Result<Tensor<D, Int>, GoldenError> {
        Ok(self.ranked::<D>(name)?.ids(name, &self.device()))
    }

    /// What the README's table says about a tensor, for cases whose settings stand there.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if the table does not name it.
    pub fn meaning(&self, tensor: &str) -> Result<&str, GoldenError> {
        self.readme
            .meaning(tensor)
            .ok_or_else(|| self.input(format!("the README's table does not name `{tensor}`")))
    }

    /// An error that names this case.
    pub fn input(&self, what: impl std::fmt::Display) -> GoldenError {
        GoldenError::Input(format!("{}: {what}", self.folder.display()))
    }

    fn ranked<const D: usize>(&self, name: &str) -> Result<&Golden, GoldenError> {
        let io = self.io(name)?;
        match io.shape(name) {
            shape if shape.len() == D => Ok(io),
            shape => Err(self.input(format!("`{name}` is {shape:?}, {D} axes are expected"))),
        }
    }

    fn io(&self, name: &str) -> Result<&Golden, GoldenError> {
        self.io
            .as_ref()
            .filter(|io| io.has(name))
            .ok_or_else(|| self.input(format!("{IO} has no `{name}`")))
    }
}

fn read(path: &Path) -> Result<String, GoldenError> {
    std::fs::read_to_string(path)
        .map_err(|error| GoldenError::Input(format!("{}: {error}", path.display())))
}
