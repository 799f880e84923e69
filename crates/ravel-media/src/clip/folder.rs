//! A folder of pictures, in the order of the numbers in their names.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use super::{Frames, TimedFrame};
use crate::{MediaError, Picture, read_image};

/// What counts as a frame.
const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "gif"];

/// Frames of a folder.
pub struct Folder {
    path: PathBuf,
    files: std::vec::IntoIter<PathBuf>,
    size: (usize, usize),
    first: Option<Picture>,
}

impl Folder {
    /// Lists the folder and reads its first picture.
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let failed = |source| MediaError::File {
            path: path.into(),
            source,
        };
        let mut files = Vec::new();
        for entry in path.read_dir().map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if is_frame(&file) {
                files.push(file);
            }
        }
        files.sort_by(|a, b| natural(&text(a), &text(b)));
        let mut files = files.into_iter();
        let first = match files.next() {
            Some(file) => read_image(&file)?,
            None => return Err(MediaError::NoFrames { path: path.into() }),
        };
        Ok(Self {
            path: path.into(),
            files,
            size: (first.width, first.height),
            first: Some(first),
        })
    }

    /// Width and height of every frame.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }
}

impl Frames for Folder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn next(&mut self) -> Result<Option<TimedFrame>, MediaError> {
        let picture = match (self.first.take(), self.files.as_slice().first()) {
            (Some(first), _) => first,
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                let file = self.files.next().expect("there is one more file");
                let picture = read_image(&file)?;
                let found = (picture.width, picture.height);
                if found != self.size {
                    return Err(MediaError::Clip {
                        path: file,
                        reason: format!(
                            "{} x {} pixels, the first frame of the folder has {} x {}",
                            found.0, found.1, self.size.0, self.size.1
                        ),
                    });
                }
                picture
            }
        };
        Ok(Some(TimedFrame {
            picture,
            start_secs: 0.0,
        }))
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

fn is_frame(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let known = extension.is_some_and(|found| EXTENSIONS.contains(&&*found.to_ascii_lowercase()));
    known && !text(path).starts_with('.') && path.is_file()
}

fn text(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Names in the order that people expect: `frame-2` before `frame-10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut rest, mut other) = (a, b);
    while !rest.is_empty() && !other.is_empty() {
        let (left, right) = (run(rest), run(other));
        let order = match (number(left), number(right)) {
            (Some(left), Some(right)) => left.len().cmp(&right.len()).then(left.cmp(right)),
            _ => left.cmp(right),
        };
        if order.is_ne() {
            return order;
        }
        (rest, other) = (&rest[left.len()..], &other[right.len()..]);
    }
    rest.len().cmp(&other.len()).then_with(|| a.cmp(b))
}

/// The digits that a text begins with, or what comes before its first digit.
fn run(text: &str) -> &str {
    let digits = text.starts_with(|letter: char| letter.is_ascii_digit());
    let end = text.find(|letter: char| letter.is_ascii_digit() != digits);
    &text[..end.unwrap_or(text.len())]
}

/// The significant digits of a run of digits.
fn number(run: &str) -> Option<&str> {
    let digits = run.starts_with(|letter: char| letter.is_ascii_digit());
    digits.then(|| run.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = [
            "f10.png", "f9.png", "f.png", "f009.png", "e11.png", "f1b.png", "f1a.png",
        ];
        names.sort_by(|a, b| natural(a, b));
        let expected = [
            "e11.png", "f.png", "f1a.png", "f1b.png", "f009.png", "f9.png", "f10.png",
        ];
        let place = |name: &str| names.iter().position(|found| *found == name).unwrap();
        for pair in expected.windows(2).filter(|pair| !pair.contains(&"f.png")) {
            assert!(place(pair[0]) < place(pair[1]), "{names:?}");
        }
    }
}
