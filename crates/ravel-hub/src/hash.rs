//! Sums of files. The hub names a large file by its SHA-256 and a small one as git does.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The sum that a blob's name promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sha256,
    /// SHA-1 of a git blob: the word `blob`, the size, a zero byte, the bytes.
    Git,
}

impl Kind {
    /// The kind of a name, if it is one of the two.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let hex = name
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        match name.len() {
            64 if hex => Some(Self::Sha256),
            40 if hex => Some(Self::Git),
            _ => None,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Git => "the git hash",
        }
    }
}

/// A file's sum in hexadecimal digits.
pub(crate) fn of_file(path: &Path, kind: Kind) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    match kind {
        Kind::Sha256 => sum(Sha256::new(), &mut file),
        Kind::Git => sum(Sha1::new_with_prefix(format!("blob {size}\0")), &mut file),
    }
}

fn sum<D: Digest>(mut digest: D, file: &mut File) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
    }
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_published_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "hello\n").unwrap();
        // `git hash-object` and `sha256sum` of the same bytes.
        assert_eq!(
            of_file(&path, Kind::Git).unwrap(),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
        let expected = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(of_file(&path, Kind::Sha256).unwrap(), expected);
        assert_eq!(Kind::of(expected), Some(Kind::Sha256));
        assert_eq!(Kind::of("etag-of-a-mirror"), None);
    }
}
