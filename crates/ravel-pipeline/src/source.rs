//! Where the files of a definition are.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use ravel_hub::{Cache, HubError, Settings, Target};
use ravel_weights::{Checkpoint, WeightsError, sha256_file, sha256_hex};

use crate::PipelineError;

/// What stands in front of a file of a published model: `hub:owner/repository/file`.
const HUB: &str = "hub:";

/// Files beside a definition, or compiled into the program. Both may name files of published models, `hub:owner/repository/file`, which
/// are looked for in the hub's cache; a model of several files, `….safetensors.index.json`, also under the name of one.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder; names that lead out of it are refused.
    Folder(PathBuf),
    /// Names with bytes.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// A file that was found.
enum Found {
    Path(PathBuf),
    Bytes(&'static [u8]),
}

impl Source {
    /// Whether a file is there.
    ///
    /// # Errors
    /// [`PipelineError::File`] if it is not there, or its name leads out of the folder; [`PipelineError::NotPulled`] for a file of
    /// a published model that is not in the cache.
    pub fn check(&self, file: &str) -> Result<(), PipelineError> {
        match self.find(file)? {
            Found::Bytes(_) => Ok(()),
            Found::Path(path) => std::fs::File::open(&path)
                .map(|_| ())
                .map_err(|error| unreadable(file, &path, &error)),
        }
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// As [`Source::check`].
    pub fn read(&self, file: &str) -> Result<Cow<'static, [u8]>, PipelineError> {
        match self.find(file)? {
            Found::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Found::Path(path) => std::fs::read(&path)
                .map(Cow::Owned)
                .map_err(|error| unreadable(file, &path, &error)),
        }
    }

    /// A file of weights, opened and not yet read. What is wrong with its inside is the inner error, so that the faults of several
    /// files can be reported together.
    ///
    /// # Errors
    /// As [`Source::check`].
    pub fn weights(&self, file: &str) -> Result<Result<Checkpoint, WeightsError>, PipelineError> {
        self.check(file)?;
        Ok(match self.find(file)? {
            Found::Bytes(bytes) => Checkpoint::from_bytes(Cow::Borrowed(bytes), file),
            Found::Path(path) => Checkpoint::open(&path),
        })
    }

    /// A file of weights. One on the disk is mapped, not read, and may be the index of several.
    ///
    /// # Errors
    /// As [`Source::check`]; [`PipelineError::Weights`] if it is no file of weights.
    pub fn checkpoint(&self, file: &str) -> Result<Checkpoint, PipelineError> {
        let checkpoint = self.weights(file)?;
        checkpoint.map_err(|error| PipelineError::Weights(error.to_string()))
    }

    /// The SHA-256 of a file, in hexadecimal digits.
    ///
    /// # Errors
    /// As [`Source::check`].
    pub fn sha256(&self, file: &str) -> Result<String, PipelineError> {
        match self.find(file)? {
            Found::Bytes(bytes) => Ok(sha256_hex(bytes)),
            Found::Path(path) => {
                sha256_file(&path).map_err(|error| unreadable(file, &path, &error))
            }
        }
    }

    fn find(&self, file: &str) -> Result<Found, PipelineError> {
        if let Some(name) = file.strip_prefix(HUB) {
            let cache = Cache::new(Settings::from_env().cache);
            return in_cache(&cache, file, name).map(Found::Path);
        }
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if file.is_empty() || !Path::new(file).components().all(plain) {
            let reason = "only names below the definition's own folder, and `hub:owner/repository/file`, are taken";
            return Err(wrong(file, reason.into()));
        }
        match self {
            Self::Folder(folder) => Ok(Found::Path(folder.join(file))),
            Self::Embedded(files) => files
                .iter()
                .find(|(name, _)| *name == file)
                .map(|(_, bytes)| Found::Bytes(bytes))
                .ok_or_else(|| wrong(file, "not in this program".into())),
        }
    }
}

fn wrong(file: &str, reason: String) -> PipelineError {
    PipelineError::File {
        file: file.into(),
        reason,
    }
}

fn unreadable(file: &str, path: &Path, error: &std::io::Error) -> PipelineError {
    wrong(file, format!("{error} (looked for {})", path.display()))
}

/// A file of a published model.
fn in_cache(cache: &Cache, file: &str, name: &str) -> Result<PathBuf, PipelineError> {
    let found = |name: &str| {
        let target = Target::of_definition(name).map_err(|error| wrong(file, error.to_string()))?;
        cache.find(&target).map_err(|error| match error {
            HubError::Absent { what, cache } => PipelineError::NotPulled {
                file: file.into(),
                target: what,
                cache,
            },
            error => wrong(file, error.to_string()),
        })
    };
    found(name).or_else(|error| match name.ends_with(".safetensors") {
        // Large models come in several files with an index.
        true => found(&format!("{name}.index.json")).map_err(|_| error),
        false => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn files_of_published_models_are_looked_for_in_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let file = "hub:owner/name/deep/w.pth";
        let name = file.strip_prefix(HUB).unwrap();
        let error = in_cache(&cache, file, name).unwrap_err();
        let PipelineError::NotPulled { target, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(target, "owner/name:deep/w.pth");
        let root = folder.path().join("models--owner--name");
        let snapshot = root.join("snapshots").join(COMMIT).join("deep");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(root.join("refs")).unwrap();
        std::fs::write(root.join("refs/main"), COMMIT).unwrap();
        std::fs::write(snapshot.join("w.pth"), "x").unwrap();
        assert_eq!(
            in_cache(&cache, file, name).unwrap(),
            snapshot.join("w.pth")
        );
    }

    #[test]
    fn a_model_in_several_files_stands_for_the_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let root = folder.path().join("models--owner--name");
        let snapshot = root.join("snapshots").join(COMMIT);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(root.join("refs")).unwrap();
        std::fs::write(root.join("refs/main"), COMMIT).unwrap();
        let (file, index) = ("m.safetensors", "m.safetensors.index.json");
        let find = || in_cache(&cache, "hub:", &format!("owner/name/{file}"));
        let error = find().unwrap_err();
        let PipelineError::NotPulled { target, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(target, "owner/name:m.safetensors");
        std::fs::write(snapshot.join(index), "{}").unwrap();
        assert_eq!(find().unwrap(), snapshot.join(index));
        std::fs::write(snapshot.join(file), "x").unwrap();
        assert_eq!(find().unwrap(), snapshot.join(file));
    }

    #[test]
    fn names_of_published_models_that_lead_elsewhere_are_refused() {
        let cache = Cache::new("absent");
        for name in [
            "",
            "w.pth",
            "owner/w.pth",
            "o/n/../../x",
            "../n/x",
            "o/n//x",
            "o/n/C:x",
        ] {
            let error = in_cache(&cache, "hub:", name).unwrap_err();
            assert!(
                matches!(error, PipelineError::File { .. }),
                "{name}: {error}"
            );
        }
    }
}
