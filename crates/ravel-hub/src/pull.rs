//! Fetching files into the cache: continued where they broke off, and kept only if their sum is the announced one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, INCOMPLETE, at};
use crate::hash::{self, Kind};
use crate::name::{FileName, RepoName, Target, is_commit};
use crate::wire::{Wire, broken, escaped, header};
use crate::{HubError, Settings, one_line};

/// Times that a broken connection is taken up again without having brought anything.
const ATTEMPTS: u32 = 4;
/// First pause before trying again; it doubles.
const PAUSE: Duration = Duration::from_millis(250);
const BUFFER: usize = 1 << 18;
/// Endings of files that say how a model is built and how text is split.
const SMALL: &[&str] = &[
    ".json",
    ".txt",
    ".model",
    ".tiktoken",
    ".jinja",
    ".toml",
    ".yaml",
    ".yml",
];
/// Endings of PyTorch's files.
const PYTORCH: &[&str] = &[".pt", ".pth", ".bin", ".th", ".ckpt", ".jit"];

/// A hub and the cache that its files go into.
pub struct Hub {
    cache: Cache,
    wire: Wire,
    offline: bool,
}

/// What a target comes down to: a commit and files.
#[derive(Debug, Clone)]
pub struct Plan {
    repo: RepoName,
    revision: String,
    /// The commit that the revision is at.
    pub commit: String,
    /// Licence as the repository states it.
    pub licence: Option<String>,
    /// The files to fetch.
    pub files: Vec<FileName>,
}

/// How far a file is.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The file.
    pub file: &'a FileName,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes that it has.
    pub total: u64,
}

/// A file in the cache.
#[derive(Debug, Clone, Serialize)]
pub struct Pulled {
    /// Its name in the repository.
    pub file: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it was there already.
    pub cached: bool,
    /// Whether its sum was compared with the announced one; a mirror may name files by something that is no sum.
    pub checked: bool,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Where a file comes from and what it must be.
struct Fetch<'a> {
    file: &'a FileName,
    path: String,
    blob: String,
    size: u64,
}

impl Hub {
    /// A hub by its settings. Nothing is asked yet.
    ///
    /// # Errors
    /// [`HubError::Name`] if the address is none.
    pub fn new(settings: &Settings) -> Result<Self, HubError> {
        Ok(Self {
            cache: Cache::new(&settings.cache),
            wire: Wire::new(settings)?,
            offline: settings.offline,
        })
    }

    /// The cache that files go into.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Asks which commit a target is at and which files it means. Without the network the cache answers.
    ///
    /// # Errors
    /// [`HubError`], with [`HubError::Name`] for a file name of the server that leads out of its repository.
    pub fn plan(&self, target: &Target) -> Result<Plan, HubError> {
        if self.offline {
            return self.cached_plan(target);
        }
        let path = format!("api/models/{}/revision/{}", target.repo, target.revision);
        let text = self.wire.text(&path)?;
        let wrong = |reason: String| HubError::Answer {
            url: self.wire.url(&path),
            reason,
        };
        let info: Info =
            serde_json::from_str(&text).map_err(|error| wrong(one_line(&error.to_string())))?;
        if !is_commit(&info.sha) {
            return Err(wrong(format!("`{}` is no commit", one_line(&info.sha))));
        }
        let all: Vec<FileName> = info
            .siblings
            .iter()
            .map(|file| file.rfilename.parse())
            .collect::<Result<_, _>>()?;
        let licence = info.card.as_ref().and_then(|card| card.get("license"));
        let licence =
            licence.and_then(|licence| licence.as_str().or_else(|| licence.get(0)?.as_str()));
        let files = match &target.file {
            Some(file) if all.is_empty() || all.contains(file) => vec![file.clone()],
            Some(file) => {
                return Err(HubError::NotFound {
                    url: format!("{}:{file}", target.repo),
                });
            }
            None => usual(all),
        };
        if files.is_empty() {
            return Err(wrong("the repository has no weights".into()));
        }
        Ok(Plan {
            repo: target.repo.clone(),
            revision: target.revision.clone(),
            commit: info.sha,
            licence: licence.map(one_line),
            files,
        })
    }

    fn cached_plan(&self, target: &Target) -> Result<Plan, HubError> {
        let offline = || HubError::Offline {
            what: target.to_string(),
        };
        let commit = self
            .cache
            .commit(&target.repo, &target.revision)
            .ok_or_else(offline)?;
        let files = match &target.file {
            Some(file) => vec![file.clone()],
            None => {
                let cached = self.cache.repo(&target.repo)?.files.into_iter();
                let here = cached.filter(|file| file.commit == commit);
                here.map(|file| file.file.parse())
                    .collect::<Result<_, _>>()?
            }
        };
        let snapshot = self.cache.snapshot(&target.repo, &commit);
        match !files.is_empty()
            && files
                .iter()
                .all(|file| snapshot.join(file.path()).is_file())
        {
            true => Ok(Plan {
                repo: target.repo.clone(),
                revision: target.revision.clone(),
                commit,
                licence: None,
                files,
            }),
            false => Err(offline()),
        }
    }

    /// Fetches one file of a plan, unless the cache has it. `watch` sees how far it is and may stop it; what came stays and is continued
    /// next time.
    ///
    /// # Errors
    /// [`HubError`]. A file appears in the cache whole or not at all.
    pub fn pull(
        &self,
        plan: &Plan,
        file: &FileName,
        watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Pulled, HubError> {
        let there = self
            .cache
            .snapshot(&plan.repo, &plan.commit)
            .join(file.path());
        if let (true, Ok(size)) = (self.offline, fs::metadata(&there)) {
            let checked = fs::canonicalize(&there).is_ok_and(|blob| sum_kind(&blob).is_some());
            return Ok(pulled(file, there, size.len(), true, checked));
        }
        let path = format!(
            "{}/resolve/{}/{}",
            plan.repo,
            plan.commit,
            escaped(file.as_str())
        );
        let fetch = self.facts(file, path)?;
        let blobs = self.cache.folder(&plan.repo).join("blobs");
        fs::create_dir_all(&blobs).map_err(|source| at(&blobs, source))?;
        let blob = blobs.join(&fetch.blob);
        let cached = fs::metadata(&blob).is_ok_and(|blob| blob.len() == fetch.size);
        if !cached {
            self.fetch(&fetch, &blob, watch)?;
        }
        let path = self
            .cache
            .link(&plan.repo, &plan.commit, file, &fetch.blob)?;
        self.cache.note(&plan.repo, &plan.revision, &plan.commit)?;
        Ok(pulled(
            file,
            path,
            fetch.size,
            cached,
            sum_kind(&blob).is_some(),
        ))
    }

    fn facts<'a>(&self, file: &'a FileName, path: String) -> Result<Fetch<'a>, HubError> {
        let facts = self.wire.facts(&path)?;
        let wrong = |reason: &str| HubError::Answer {
            url: self.wire.url(&path),
            reason: reason.into(),
        };
        let etag = facts.etag.as_deref().unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        let letters = etag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if etag.is_empty() || etag.len() > 128 || !letters || etag.starts_with('.') {
            return Err(wrong("no ETag that a file could be named by"));
        }
        let size = facts.size.ok_or_else(|| wrong("no size"))?;
        let blob = etag.to_ascii_lowercase();
        Ok(Fetch {
            file,
            path,
            blob,
            size,
        })
    }

    /// Brings all bytes of a blob, checks them and gives them their name.
    fn fetch(
        &self,
        fetch: &Fetch,
        blob: &Path,
        watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), HubError> {
        let part_path = blob.with_file_name(format!("{}{INCOMPLETE}", fetch.blob));
        let failed = |source| at(&part_path, source);
        let mut part = OpenOptions::new();
        let part = part
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&part_path);
        let mut part = part.map_err(failed)?;
        match part.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failed(std::io::Error::other(
                    "another program is fetching this file",
                )));
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        self.persist(fetch, &mut part, &part_path, watch)?;
        part.sync_all().map_err(failed)?;
        if let Some(kind) = Kind::of(&fetch.blob) {
            let found = hash::of_file(&part_path, kind).map_err(failed)?;
            if found != fetch.blob {
                fs::remove_file(&part_path).map_err(failed)?;
                return Err(HubError::Damaged {
                    file: fetch.file.to_string(),
                    kind: kind.word(),
                    found,
                    expected: fetch.blob.clone(),
                });
            }
        }
        fs::rename(&part_path, blob).map_err(failed)
    }

    /// Asks again after broken connections, as long as each brings something or a few have not.
    fn persist(
        &self,
        fetch: &Fetch,
        part: &mut File,
        part_path: &Path,
        watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), HubError> {
        let mut idle = 0;
        loop {
            let before = part
                .seek(SeekFrom::End(0))
                .map_err(|source| at(part_path, source))?;
            let error = match self.stream(fetch, part, before, watch) {
                Ok(()) => return Ok(()),
                Err(Stop::Here(error)) => return Err(error),
                Err(Stop::Disk(source)) => return Err(at(part_path, source)),
                Err(Stop::Broken(error)) => error,
            };
            let after = part
                .seek(SeekFrom::End(0))
                .map_err(|source| at(part_path, source))?;
            idle = if after > before { 0 } else { idle + 1 };
            if idle == ATTEMPTS {
                return Err(error);
            }
            sleep(PAUSE * 2u32.pow(idle));
        }
    }

    /// One connection's worth of bytes, behind those that are there.
    fn stream(
        &self,
        fetch: &Fetch,
        part: &mut File,
        mut done: u64,
        watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        if done > fetch.size {
            restart(part, &mut done)?;
        }
        if done == fetch.size {
            return Ok(());
        }
        let answer = self
            .wire
            .file(&fetch.path, done)
            .map_err(|error| match error {
                HubError::Network { .. } => Stop::Broken(error),
                error => Stop::Here(error),
            })?;
        let url = self.wire.url(&fetch.path);
        let wrong = |reason: String| {
            Stop::Here(HubError::Answer {
                url: url.clone(),
                reason,
            })
        };
        match answer.status().as_u16() {
            206 => {
                let range = header(&answer, "content-range").unwrap_or_default();
                if !range.starts_with(&format!("bytes {done}-")) {
                    return Err(wrong(format!(
                        "bytes from {done} on were asked for, it sends `{}`",
                        one_line(range)
                    )));
                }
            }
            200 => restart(part, &mut done)?,
            _ => {
                restart(part, &mut done)?;
                return Err(Stop::Broken(HubError::Network {
                    url,
                    reason: "the server has no such part".into(),
                }));
            }
        }
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            if watch(&Progress {
                file: fetch.file,
                done,
                total: fetch.size,
            })
            .is_break()
            {
                return Err(Stop::Here(HubError::Interrupted));
            }
            let count = body
                .read(&mut buffer)
                .map_err(|error| Stop::Broken(broken(&url, &error)))?;
            if count == 0 {
                break;
            }
            done += count as u64;
            if done > fetch.size {
                restart(part, &mut done)?;
                return Err(wrong(format!(
                    "it sends more than the {} bytes that it announced",
                    fetch.size
                )));
            }
            part.write_all(&buffer[..count]).map_err(Stop::Disk)?;
        }
        match done == fetch.size {
            true => Ok(()),
            false => Err(Stop::Broken(HubError::Network {
                url,
                reason: format!("the connection ended after {done} of {} bytes", fetch.size),
            })),
        }
    }
}

/// Why a connection brought no more.
enum Stop {
    /// Trying again may help.
    Broken(HubError),
    /// It will not.
    Here(HubError),
    /// The file cannot be written.
    Disk(std::io::Error),
}

fn restart(part: &mut File, done: &mut u64) -> Result<(), Stop> {
    *done = 0;
    part.set_len(0).map_err(Stop::Disk)?;
    part.seek(SeekFrom::Start(0)).map_err(Stop::Disk)?;
    Ok(())
}

fn sum_kind(blob: &Path) -> Option<Kind> {
    Kind::of(blob.file_name()?.to_str()?)
}

fn pulled(file: &FileName, path: PathBuf, bytes: u64, cached: bool, checked: bool) -> Pulled {
    Pulled {
        file: file.to_string(),
        path,
        bytes,
        cached,
        checked,
    }
}

/// What a model usually needs of a repository: configuration and text files at its top, and its weights, as safetensors if it has any.
fn usual(files: Vec<FileName>) -> Vec<FileName> {
    let ends =
        |file: &FileName, endings: &[&str]| endings.iter().any(|end| file.as_str().ends_with(end));
    let safe = files.iter().any(|file| ends(file, &[".safetensors"]));
    let weights = |file: &FileName| ends(file, if safe { &[".safetensors"] } else { PYTORCH });
    let any = files.iter().any(weights);
    // The index of a format that is not taken would name files that are not there.
    let index = |file: &FileName| file.as_str().ends_with(".bin.index.json") && safe;
    let small = |file: &FileName| file.depth() == 0 && ends(file, SMALL) && !index(file);
    files
        .into_iter()
        .filter(|file| any && (weights(file) || small(file)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_repository_the_useful_files_are_taken() {
        let check = |files: &[&str], expected: &[&str]| {
            let files = files.iter().map(|file| file.parse().unwrap()).collect();
            let found: Vec<String> = usual(files).iter().map(FileName::to_string).collect();
            assert_eq!(found, expected);
        };
        check(
            &[
                "README.md",
                "config.json",
                "model.safetensors",
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
                "onnx/x.json",
            ],
            &["config.json", "model.safetensors"],
        );
        check(&["var_d16.pth", ".gitattributes"], &["var_d16.pth"]);
        check(&["README.md", "config.json"], &[]);
    }
}
