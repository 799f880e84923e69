//! The cache in the hub's layout: `blobs` hold bytes under their sum, `snapshots/COMMIT` link to them by file name, `refs` say which
//! commit a branch is.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::hash::{self, Kind};
use crate::name::{FileName, RepoName, Target, is_commit};
use crate::{HubError, one_line};

/// Folders within folders of a snapshot that are looked into.
const MAX_DEPTH: usize = 16;
/// Ending of a blob that is still being fetched.
pub(crate) const INCOMPLETE: &str = ".incomplete";

/// The folder that checkpoints are kept in.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// A repository of which something is cached.
#[derive(Debug, Clone, Serialize)]
pub struct CachedRepo {
    /// `owner/name`.
    pub repo: String,
    /// Its files, of all commits.
    pub files: Vec<CachedFile>,
    /// Bytes of all blobs, each counted once.
    pub bytes: u64,
    /// Bytes of downloads that broke off and can be continued.
    pub incomplete_bytes: u64,
}

/// A file of a snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct CachedFile {
    /// Its name in the repository.
    pub file: String,
    /// The commit that it belongs to.
    pub commit: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// What verifying one file found.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The file.
    pub file: CachedFile,
    /// Whether it is what its name promises.
    pub state: State,
}

/// Whether a cached file is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Its sum is the one that the hub gave it.
    Whole,
    /// Its bytes have another sum.
    Damaged {
        /// The sum of the bytes.
        found: String,
        /// The sum that it should have.
        expected: String,
    },
    /// The hub named it by something that is no sum.
    Unchecked,
    /// It links to nothing, or cannot be read.
    Unreadable {
        /// What the system says.
        reason: String,
    },
}

impl Cache {
    /// The cache in a folder, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn folder(&self, repo: &RepoName) -> PathBuf {
        self.root.join(repo.folder())
    }

    /// The commit that a branch was at when something was last fetched from it; a commit is itself.
    pub fn commit(&self, repo: &RepoName, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let text = fs::read_to_string(self.folder(repo).join("refs").join(revision)).ok()?;
        Some(text.trim().to_string()).filter(|commit| is_commit(commit))
    }

    /// Where a file is.
    ///
    /// # Errors
    /// [`HubError::Absent`] if it is not there; [`HubError::Name`] if the target names no file.
    pub fn find(&self, target: &Target) -> Result<PathBuf, HubError> {
        let Some(file) = &target.file else {
            return Err(HubError::Name {
                name: target.to_string(),
                reason: "a file of the repository is expected".into(),
            });
        };
        let commit = self.commit(&target.repo, &target.revision);
        let path = commit.map(|commit| self.snapshot(&target.repo, &commit).join(file.path()));
        path.filter(|path| path.is_file())
            .ok_or_else(|| HubError::Absent {
                what: target.to_string(),
                cache: self.root.display().to_string(),
            })
    }

    pub(crate) fn snapshot(&self, repo: &RepoName, commit: &str) -> PathBuf {
        self.folder(repo).join("snapshots").join(commit)
    }

    /// All repositories of which something is cached, by name.
    ///
    /// # Errors
    /// [`HubError::File`] if the cache is there and cannot be read.
    pub fn list(&self) -> Result<Vec<CachedRepo>, HubError> {
        let names = children(&self.root)?;
        let repos: BTreeSet<RepoName> = names
            .iter()
            .filter_map(|name| RepoName::of_folder(name))
            .collect();
        repos.iter().map(|repo| self.look(repo)).collect()
    }

    /// What is cached of a repository.
    ///
    /// # Errors
    /// [`HubError::Absent`] if nothing is; [`HubError::File`] if it cannot be read.
    pub fn repo(&self, repo: &RepoName) -> Result<CachedRepo, HubError> {
        match self.folder(repo).is_dir() {
            true => self.look(repo),
            false => Err(HubError::Absent {
                what: repo.to_string(),
                cache: self.root.display().to_string(),
            }),
        }
    }

    fn look(&self, repo: &RepoName) -> Result<CachedRepo, HubError> {
        let folder = self.folder(repo);
        let (mut files, mut bytes, mut incomplete_bytes) = (Vec::new(), 0, 0);
        for blob in children(&folder.join("blobs"))? {
            let size = fs::metadata(folder.join("blobs").join(&blob)).map_or(0, |blob| blob.len());
            match blob.ends_with(INCOMPLETE) {
                true => incomplete_bytes += size,
                false => bytes += size,
            }
        }
        for commit in children(&folder.join("snapshots"))?
            .into_iter()
            .filter(|name| is_commit(name))
        {
            let start = self.snapshot(repo, &commit);
            walk(&start, "", &mut |name, path| {
                files.push(CachedFile {
                    file: name.into(),
                    commit: commit.clone(),
                    bytes: fs::metadata(path).map_or(0, |file| file.len()),
                    path: path.into(),
                });
            })?;
        }
        Ok(CachedRepo {
            repo: repo.to_string(),
            files,
            bytes,
            incomplete_bytes,
        })
    }

    /// Compares every file of a repository with the sum in its blob's name.
    ///
    /// # Errors
    /// As [`Cache::repo`].
    pub fn verify(&self, repo: &RepoName) -> Result<Vec<Checked>, HubError> {
        let files = self.repo(repo)?.files;
        Ok(files
            .into_iter()
            .map(|file| Checked {
                state: state(&file.path),
                file,
            })
            .collect())
    }

    /// Removes a repository, or one of its files in every commit together with bytes that nothing links to any more. Gives the bytes
    /// that became free.
    ///
    /// # Errors
    /// [`HubError::Absent`] if there is nothing to remove; [`HubError::File`] if it cannot be removed.
    pub fn remove(&self, target: &Target) -> Result<u64, HubError> {
        let cached = self.repo(&target.repo)?;
        let folder = self.folder(&target.repo);
        let Some(file) = &target.file else {
            fs::remove_dir_all(&folder).map_err(|source| at(&folder, source))?;
            return Ok(cached.bytes + cached.incomplete_bytes);
        };
        let (gone, kept): (Vec<_>, Vec<_>) = cached
            .files
            .iter()
            .partition(|cached| cached.file == file.as_str());
        if gone.is_empty() {
            return Err(HubError::Absent {
                what: target.to_string(),
                cache: self.root.display().to_string(),
            });
        }
        let blobs = |files: &[&CachedFile]| {
            files
                .iter()
                .filter_map(|file| fs::canonicalize(&file.path).ok())
                .collect()
        };
        let (candidates, needed): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) =
            (blobs(&gone), blobs(&kept));
        for file in gone {
            fs::remove_file(&file.path).map_err(|source| at(&file.path, source))?;
        }
        let own = fs::canonicalize(folder.join("blobs")).unwrap_or_default();
        let mut free = 0;
        for blob in candidates
            .difference(&needed)
            .filter(|blob| blob.parent() == Some(&own))
        {
            free += fs::metadata(blob).map_or(0, |blob| blob.len());
            fs::remove_file(blob).map_err(|source| at(blob, source))?;
        }
        Ok(free)
    }

    /// Gives a blob its name in a snapshot, as a relative link, and notes the branch's commit.
    pub(crate) fn link(
        &self,
        repo: &RepoName,
        commit: &str,
        file: &FileName,
        blob: &str,
    ) -> Result<PathBuf, HubError> {
        let path = self.snapshot(repo, commit).join(file.path());
        let folder = path.parent().expect("a file in a snapshot has a folder");
        fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
        let up = "../".repeat(file.depth() + 2);
        let target = format!("{up}blobs/{blob}");
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(at(&path, source)),
        }
        link_or_copy(&target, &self.folder(repo).join("blobs").join(blob), &path)
            .map_err(|source| at(&path, source))?;
        Ok(path)
    }

    /// Notes which commit a branch is at.
    pub(crate) fn note(
        &self,
        repo: &RepoName,
        revision: &str,
        commit: &str,
    ) -> Result<(), HubError> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.folder(repo).join("refs").join(revision);
        let folder = path.parent().expect("a ref has a folder");
        fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
        fs::write(&path, commit).map_err(|source| at(&path, source))
    }
}

#[cfg(unix)]
fn link_or_copy(target: &str, _blob: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn link_or_copy(_target: &str, blob: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(|_| ()))
}

pub(crate) fn at(path: &Path, source: io::Error) -> HubError {
    HubError::File {
        path: one_line(&path.display().to_string()),
        source,
    }
}

/// Names in a folder, sorted; none if it does not exist.
fn children(folder: &Path) -> Result<Vec<String>, HubError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(at(folder, source)),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Every file below a folder, with its name from there. Links to folders are not followed.
fn walk(folder: &Path, name: &str, found: &mut impl FnMut(&str, &Path)) -> Result<(), HubError> {
    for child in children(folder)? {
        let path = folder.join(&child);
        let name = if name.is_empty() {
            child
        } else {
            format!("{name}/{child}")
        };
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|file| file.is_dir());
        if !is_folder {
            found(&name, &path);
        } else if name.matches('/').count() < MAX_DEPTH {
            walk(&path, &name, found)?;
        }
    }
    Ok(())
}

fn state(path: &Path) -> State {
    let blob = match fs::canonicalize(path) {
        Ok(blob) => blob,
        Err(error) => {
            return State::Unreadable {
                reason: error.to_string(),
            };
        }
    };
    let expected = blob
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let Some(kind) = Kind::of(&expected) else {
        return State::Unchecked;
    };
    match hash::of_file(&blob, kind) {
        Ok(found) if found == expected => State::Whole,
        Ok(found) => State::Damaged { found, expected },
        Err(error) => State::Unreadable {
            reason: error.to_string(),
        },
    }
}
