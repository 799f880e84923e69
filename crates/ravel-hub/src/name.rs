//! Names of repositories, revisions and files, checked before anything is done with them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{HubError, one_line};

/// Where a repository is read from if nobody says otherwise.
pub(crate) const MAIN: &str = "main";
/// Bytes of one part of a path, as file systems have them.
const MAX_PART: usize = 255;
/// Parts of a file's path.
const MAX_DEPTH: usize = 16;

/// A repository on the hub: `owner/name`, or one name alone for the oldest ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepoName(String);

/// A file of a repository: relative, with slashes, staying below where it starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

/// What a user asks for: `owner/repo`, `owner/repo:file`, `owner/repo@revision:file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The repository.
    pub repo: RepoName,
    /// Branch, tag or commit; `main` unless given.
    pub revision: String,
    /// One file; none for what a model usually needs.
    pub file: Option<FileName>,
}

fn wrong(name: &str, reason: &str) -> HubError {
    HubError::Name {
        name: one_line(name),
        reason: reason.into(),
    }
}

/// Whether a part of a repository's or revision's name has only harmless letters.
fn is_plain(part: &str) -> bool {
    let letters = part
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    letters
        && !part.is_empty()
        && part.len() <= 96
        && !part.starts_with(['.', '-'])
        && !part.contains("..")
}

impl FromStr for RepoName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let parts: Vec<&str> = text.split('/').collect();
        // Two hyphens divide owner from name in the cache, so no name has them, on the hub either.
        let fits = parts.len() <= 2
            && parts
                .iter()
                .all(|part| is_plain(part) && !part.contains("--"));
        match fits {
            true => Ok(Self(text.into())),
            false => Err(wrong(
                text,
                "a repository is expected, like `owner/name`, of letters, digits, `.`, `_` and `-`",
            )),
        }
    }
}

impl RepoName {
    /// Its folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// The repository of a folder in the cache.
    pub(crate) fn of_folder(folder: &str) -> Option<Self> {
        folder
            .strip_prefix("models--")?
            .replace("--", "/")
            .parse()
            .ok()
    }
}

impl FromStr for FileName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let part = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.len() <= MAX_PART
                && !part.ends_with([' ', '.'])
        };
        let letters = !text.contains(['\\', ':']) && !text.contains(char::is_control);
        match letters && text.split('/').count() <= MAX_DEPTH && text.split('/').all(part) {
            true => Ok(Self(text.into())),
            false => Err(wrong(
                text,
                "a file name is expected that stays below its repository",
            )),
        }
    }
}

impl FileName {
    /// The path below a snapshot.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.split('/').collect()
    }

    /// How far below the snapshot the file's folder is.
    pub(crate) fn depth(&self) -> usize {
        self.0.matches('/').count()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Target {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (head, file) = match text.split_once(':') {
            Some((head, file)) => (head, Some(file.parse()?)),
            None => (text, None),
        };
        let (repo, revision) = head.split_once('@').unwrap_or((head, MAIN));
        Ok(Self {
            repo: repo.parse()?,
            revision: checked_revision(revision)?,
            file,
        })
    }
}

impl Target {
    /// Reads what definitions write after `hub:`, where a slash stands before the file: `owner/repo/file`, `owner/repo@revision/file`.
    ///
    /// # Errors
    /// [`HubError::Name`] if there is no owner, no file, or a part that no name can have.
    pub fn of_definition(text: &str) -> Result<Self, HubError> {
        let mut parts = text.splitn(3, '/');
        let (Some(owner), Some(name), Some(file)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong(text, "`hub:owner/repository/file` is expected"));
        };
        format!("{owner}/{name}:{file}").parse()
    }
}

/// A branch, tag or commit.
pub(crate) fn checked_revision(text: &str) -> Result<String, HubError> {
    match is_plain(text) {
        true => Ok(text.into()),
        false => Err(wrong(
            text,
            "a revision is expected: a branch, a tag or a commit",
        )),
    }
}

/// A commit as hubs name them.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Display for RepoName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.repo)?;
        if self.revision != MAIN {
            write!(formatter, "@{}", self.revision)?;
        }
        match &self.file {
            Some(file) => write!(formatter, ":{file}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written_alike() {
        for text in [
            "gpt2",
            "owner/name",
            "owner/name:a/b.bin",
            "o/n.1@v1.0:f",
            "o/n@0123abc",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        let target = Target::of_definition("owner/name/deep/file.pt").unwrap();
        assert_eq!(target.to_string(), "owner/name:deep/file.pt");
        assert_eq!(Target::of_definition("o/n@v2/file").unwrap().revision, "v2");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let repos = [
            "", "/", "a/", "/a", "a/b/c", "..", "../a", "a/..", ".a/b", "a--b/c", "a/b--c", "a b",
            "a\\b", "a/\u{e9}", "-a/b",
        ];
        for repo in repos {
            assert!(repo.parse::<RepoName>().is_err(), "{repo}");
        }
        let files = [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/..",
            "..",
            ".",
            "a//b",
            "a/",
            "C:\\x",
            "a\\b",
            "c:x",
            "a\nb",
            "a\0b",
            "x.",
            "a./b",
        ];
        for file in files {
            assert!(file.parse::<FileName>().is_err(), "{file:?}");
            assert!(format!("o/n:{file}").parse::<Target>().is_err(), "{file:?}");
        }
        assert!("a/".repeat(20).parse::<FileName>().is_err());
        assert!("x".repeat(256).parse::<FileName>().is_err());
        for revision in ["", "..", "a/b", "refs/../x", "-x"] {
            assert!(
                format!("o/n@{revision}").parse::<Target>().is_err(),
                "{revision}"
            );
        }
        for text in ["", "file", "owner/file", "o/n/../x", "../n/x"] {
            assert!(Target::of_definition(text).is_err(), "{text}");
        }
    }

    #[test]
    fn folders_of_the_cache_are_those_of_the_hub() {
        let repo: RepoName = "FoundationVision/var".parse().unwrap();
        assert_eq!(repo.folder(), "models--FoundationVision--var");
        assert_eq!(
            RepoName::of_folder("models--FoundationVision--var"),
            Some(repo)
        );
        assert_eq!(RepoName::of_folder("datasets--a--b"), None);
        assert_eq!(RepoName::of_folder("models--.."), None);
    }
}
