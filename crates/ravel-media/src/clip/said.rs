//! What a clip says about how it was made.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::picture_writers::WEBP_TEXT;
use super::write::{KEYWORD, about};
use crate::{MediaError, read_png_text};

/// Longest text that is read.
const MAX_TEXT: usize = 1 << 20;

/// The text that [`super::ClipPlan::text`] put into a file; none if there is none.
///
/// # Errors
/// [`MediaError`] if the file cannot be read.
pub fn read_clip_text(path: &Path) -> Result<Option<String>, MediaError> {
    if path.is_dir() {
        let first = path.join("frame-00001.png");
        return match first.is_file() {
            true => of_png(&first),
            false => Ok(None),
        };
    }
    let mut file = BufReader::new(File::open(path).map_err(about(path))?);
    let mut start = [0; 12];
    let read = file.read_exact(&mut start);
    file.rewind().map_err(about(path))?;
    match (read.is_ok(), &start[..4], &start[8..]) {
        (true, b"\x89PNG", _) => of_png(path),
        (true, b"GIF8", _) => Ok(of_gif(&mut file)),
        (true, b"RIFF", b"WEBP") => Ok(of_webp(&mut file)),
        _ => of_video(path),
    }
}

fn of_png(path: &Path) -> Result<Option<String>, MediaError> {
    let text = read_png_text(path)?;
    let ours = text.into_iter().find(|(keyword, _)| keyword == KEYWORD);
    Ok(ours.map(|(_, text)| text))
}

/// The first comment before the first frame (GIF89a, sections 18 to 24).
fn of_gif(file: &mut (impl Read + Seek)) -> Option<String> {
    let mut head = [0; 13];
    file.read_exact(&mut head).ok()?;
    if head[10] & 0x80 != 0 {
        let colours = 3 * (2i64 << (head[10] & 7));
        file.seek(SeekFrom::Current(colours)).ok()?;
    }
    loop {
        let mut introducer = [0; 2];
        file.read_exact(&mut introducer).ok()?;
        if introducer[0] != 0x21 {
            return None;
        }
        let mut text = Vec::new();
        loop {
            let mut size = [0];
            file.read_exact(&mut size).ok()?;
            if size[0] == 0 {
                break;
            }
            let block = file.take(size[0].into()).read_to_end(&mut text).ok()?;
            if block < size[0].into() || text.len() > MAX_TEXT {
                return None;
            }
        }
        if introducer[1] == 0xfe {
            return String::from_utf8(text).ok();
        }
    }
}

fn of_webp(file: &mut (impl Read + Seek)) -> Option<String> {
    file.seek(SeekFrom::Start(12)).ok()?;
    loop {
        let mut head = [0; 8];
        file.read_exact(&mut head).ok()?;
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if head[..4] == *WEBP_TEXT {
            let mut text = Vec::new();
            file.take(size.min(MAX_TEXT as u32).into())
                .read_to_end(&mut text)
                .ok()?;
            return String::from_utf8(text).ok();
        }
        file.seek(SeekFrom::Current(i64::from(size) + i64::from(size % 2)))
            .ok()?;
    }
}

#[cfg(feature = "video")]
fn of_video(path: &Path) -> Result<Option<String>, MediaError> {
    super::libav::comment(path)
}

#[cfg(not(feature = "video"))]
fn of_video(path: &Path) -> Result<Option<String>, MediaError> {
    Err(MediaError::NeedsVideo { path: path.into() })
}
