//! Where the files of a definition are.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use ravel_weights::Checkpoint;

use crate::PipelineError;

/// Files beside a definition, or compiled into the program.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder; names that lead out of it are refused.
    Folder(PathBuf),
    /// Names with bytes.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl Source {
    /// A file of weights. One in a folder is mapped, not read, and may be the index of several.
    ///
    /// # Errors
    /// As [`Source::read`]; [`PipelineError::Weights`] if it is no file of weights.
    pub fn checkpoint(&self, file: &str) -> Result<Checkpoint, PipelineError> {
        let checkpoint = match self {
            Self::Folder(folder) => {
                self.check_name(file)?;
                Checkpoint::open(&folder.join(file))
            }
            Self::Embedded(_) => Checkpoint::from_bytes(self.read(file)?, file),
        };
        checkpoint.map_err(|error| PipelineError::Weights(error.to_string()))
    }

    /// No name may lead out of the folder.
    fn check_name(&self, file: &str) -> Result<(), PipelineError> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        match !file.is_empty() && Path::new(file).components().all(plain) {
            true => Ok(()),
            false => Err(PipelineError::File {
                file: file.into(),
                reason: "only names below the definition's own folder are taken".into(),
            }),
        }
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// [`PipelineError::File`] if it is not there, or its name leads out of the folder.
    pub fn read(&self, file: &str) -> Result<Cow<'static, [u8]>, PipelineError> {
        let wrong = |reason: String| PipelineError::File {
            file: file.into(),
            reason,
        };
        self.check_name(file)?;
        match self {
            Self::Folder(folder) => {
                let path = folder.join(file);
                std::fs::read(&path)
                    .map(Cow::Owned)
                    .map_err(|error| wrong(format!("{error} (looked for {})", path.display())))
            }
            Self::Embedded(files) => files
                .iter()
                .find(|(name, _)| *name == file)
                .map(|(_, bytes)| Cow::Borrowed(*bytes))
                .ok_or_else(|| wrong("not in this program".into())),
        }
    }
}
