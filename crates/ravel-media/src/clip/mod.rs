//! Clips: frames in time, read one after the other and written as they come.
//!
//! Folders of pictures, animated GIF, APNG and WebP always; mp4, mov, mkv, webm, avi and MPEG streams with the feature `video`,
//! through FFmpeg's libraries.

mod animation;
mod folder;
#[cfg(feature = "video")]
mod libav;
mod picture_writers;
mod rate;
mod said;
mod steady;
mod write;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{MediaError, Picture};
use animation::{Animation, Kind};
use folder::Folder;
use steady::Steady;

#[cfg(feature = "video")]
pub use libav::{SoundFile, sound};
pub use rate::FrameRate;
pub use said::read_clip_text;
pub use write::{ClipFormat, ClipPlan, ClipTarget, ClipWriter};

/// Most pixels a side of a frame that are taken.
pub const MAX_CLIP_SIDE: u32 = 8192;
/// Most frames of a clip, after resampling: more than two hours at 24 a second.
pub const MAX_FRAMES: u64 = 200_000;

/// A frame and when it begins.
struct TimedFrame {
    picture: Picture,
    start_secs: f64,
}

/// Where frames come from, in order, one in memory at a time.
trait Frames {
    /// The file, for messages.
    fn path(&self) -> &Path;
    /// The next frame; none at the end.
    fn next(&mut self) -> Result<Option<TimedFrame>, MediaError>;
    /// What people should know about what was read so far.
    fn notes(&self) -> Vec<String>;
}

/// What is known of a clip before its frames are read.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipInfo {
    /// Width of every frame, as it is to be seen (upright, square pixels).
    pub width: usize,
    /// Height of every frame.
    pub height: usize,
    /// The constant rate at which the frames are given; none where the file does not tell (a folder).
    pub rate: Option<FrameRate>,
    /// Format and codec, in words.
    pub format: String,
}

/// The frames of a clip, upright, at a constant rate, one in memory at a time.
pub struct ClipReader {
    info: ClipInfo,
    frames: Steady,
}

impl ClipReader {
    /// Opens a folder, an animated picture or (with the feature `video`) a video file; the kind is found by content. `rate` is the
    /// rate that is wanted, the file's own without it; a folder's frames stand once each whatever the rate.
    ///
    /// # Errors
    /// [`MediaError`] for what is no clip: addresses and playlists (nothing but the named file is ever opened), sound, damaged
    /// files, frames of more than [`MAX_CLIP_SIDE`] pixels a side (refused before a pixel is decoded), animations of more
    /// pixels than 512 million.
    pub fn open(path: &Path, rate: Option<FrameRate>) -> Result<Self, MediaError> {
        let kind = path.metadata().map_err(|source| missing(path, source))?;
        if kind.is_dir() {
            let folder = Folder::open(path)?;
            let size = folder.size();
            let format = "folder of pictures".into();
            let mut reader = Self::new(Box::new(folder), size, None, format);
            reader.info.rate = rate; // Its frames have no times that they could be moved to.
            return Ok(reader);
        }
        if !kind.is_file() {
            return Err(refused(path, "it is neither a file nor a folder"));
        }
        let (kind, name) = match sniffed(path)? {
            Content::Animation(kind, name) => (kind, name),
            Content::Other => return Self::open_video(path, rate),
        };
        let animation = Animation::open(path, kind)?;
        let (size, own) = (animation.size(), animation.rate());
        Ok(Self::new(
            Box::new(animation),
            size,
            rate.or(own),
            name.into(),
        ))
    }

    fn new(
        source: Box<dyn Frames>,
        (width, height): (usize, usize),
        rate: Option<FrameRate>,
        format: String,
    ) -> Self {
        let info = ClipInfo {
            width,
            height,
            rate,
            format,
        };
        Self {
            info,
            frames: Steady::new(source, rate),
        }
    }

    #[cfg(feature = "video")]
    fn open_video(path: &Path, rate: Option<FrameRate>) -> Result<Self, MediaError> {
        let video = libav::VideoFile::open(path)?;
        let (size, own, format) = (video.size(), video.rate(), video.format());
        Ok(Self::new(Box::new(video), size, rate.or(own), format))
    }

    #[cfg(not(feature = "video"))]
    fn open_video(path: &Path, _: Option<FrameRate>) -> Result<Self, MediaError> {
        Err(MediaError::NeedsVideo { path: path.into() })
    }

    /// What is known of the clip.
    pub fn info(&self) -> &ClipInfo {
        &self.info
    }

    /// What people should know about the frames that were read so far: resampling, damage, missing frames.
    pub fn notes(&self) -> Vec<String> {
        self.frames.notes()
    }
}

impl Iterator for ClipReader {
    type Item = Result<Picture, MediaError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frames.next().transpose()
    }
}

/// Names the formats that can be read and written in this build.
pub fn clip_formats() -> &'static [&'static str] {
    match cfg!(feature = "video") {
        true => &["frames", "GIF", "APNG", "WebP", "mp4", "mov", "mkv", "webm"],
        false => &["frames", "GIF", "APNG", "WebP"],
    }
}

enum Content {
    Animation(Kind, &'static str),
    Other,
}

/// What the first bytes say.
fn sniffed(path: &Path) -> Result<Content, MediaError> {
    let failed = |source| MediaError::File {
        path: path.into(),
        source,
    };
    let mut start = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(64).read_to_end(&mut start).map_err(failed)?;
    let begins = |with: &[u8]| start.starts_with(with);
    let riff = |kind: &[u8]| begins(b"RIFF") && start.get(8..12) == Some(kind);
    if start.is_empty() {
        return Err(refused(path, "it is empty"));
    }
    for (mark, what) in [
        (&b"#EXTM3U"[..], "a playlist"),
        (b"ffconcat", "a playlist"),
        (b"[playlist]", "a playlist"),
        (b"<?xml", "XML, perhaps a playlist"),
        (b"ID3", "sound"),
        (b"fLaC", "sound"),
        (b"\xff\xfb", "sound"),
    ] {
        if begins(mark) {
            return Err(refused(path, &format!("it is {what}, not a video itself")));
        }
    }
    if riff(b"WAVE") {
        return Err(refused(path, "it is sound, not a video itself"));
    }
    Ok(match () {
        () if begins(b"GIF8") => Content::Animation(Kind::Gif, "GIF"),
        () if begins(b"\x89PNG") => Content::Animation(Kind::Png, "PNG"),
        () if riff(b"WEBP") => Content::Animation(Kind::WebP, "WebP"),
        () if begins(b"\xff\xd8\xff") => {
            return Err(refused(path, "it is a single picture (JPEG), not a clip"));
        }
        () => Content::Other,
    })
}

fn missing(path: &Path, source: std::io::Error) -> MediaError {
    match path.to_string_lossy().contains("://") {
        true => refused(path, "it is an address; only local files are opened"),
        false => MediaError::File {
            path: path.into(),
            source,
        },
    }
}

fn refused(path: &Path, reason: &str) -> MediaError {
    MediaError::Clip {
        path: path.into(),
        reason: reason.into(),
    }
}
