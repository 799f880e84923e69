//! Where the files of a definition are.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

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
    /// The bytes of a file.
    ///
    /// # Errors
    /// [`PipelineError::File`] if it is not there, or its name leads out of the folder.
    pub fn read(&self, file: &str) -> Result<Cow<'static, [u8]>, PipelineError> {
        let wrong = |reason: String| PipelineError::File {
            file: file.into(),
            reason,
        };
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if file.is_empty() || !Path::new(file).components().all(plain) {
            return Err(wrong(
                "only names below the definition's own folder are taken".into(),
            ));
        }
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
