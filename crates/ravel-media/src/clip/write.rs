//! Writing clips, frame by frame: whole or not at all.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::FrameRate;
use super::picture_writers::{ApngWriter, FolderWriter, GifWriter, WebPWriter};
use crate::{MediaError, Picture};

/// The keyword under which files say how they were made.
pub(super) const KEYWORD: &str = "ravel";

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipFormat {
    /// MPEG-4 (feature `video`).
    Mp4,
    /// QuickTime (feature `video`).
    Mov,
    /// Matroska (feature `video`).
    Mkv,
    /// WebM, VP9 (feature `video`).
    WebM,
    /// Animated GIF, 256 colours a frame.
    Gif,
    /// Animated PNG, without loss.
    Apng,
    /// Animated WebP, without loss.
    WebP,
    /// A folder with a PNG for each frame.
    Folder,
}

impl ClipFormat {
    /// The format that a name asks for: by its extension, a folder without one.
    ///
    /// # Errors
    /// [`MediaError::Clip`] for other extensions, [`MediaError::NeedsVideo`] for those that this build cannot write.
    pub fn of(path: &Path) -> Result<Self, MediaError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let format = match extension.map(str::to_ascii_lowercase).as_deref() {
            _ if path.is_dir() => Self::Folder,
            None => Self::Folder,
            Some("mp4" | "m4v") => Self::Mp4,
            Some("mov") => Self::Mov,
            Some("mkv") => Self::Mkv,
            Some("webm") => Self::WebM,
            Some("gif") => Self::Gif,
            Some("png" | "apng") => Self::Apng,
            Some("webp") => Self::WebP,
            Some(other) => {
                return Err(MediaError::Clip {
                    path: path.into(),
                    reason: format!(
                        "`.{other}` cannot be written; .mp4, .mov, .mkv, .webm, .gif, .png, .webp or a folder is expected"
                    ),
                });
            }
        };
        match format.needs_video() && !cfg!(feature = "video") {
            true => Err(MediaError::NeedsVideo { path: path.into() }),
            false => Ok(format),
        }
    }

    fn needs_video(self) -> bool {
        matches!(self, Self::Mp4 | Self::Mov | Self::Mkv | Self::WebM)
    }
}

/// Where a clip goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClipTarget {
    /// A file or folder.
    Path {
        /// Its place.
        path: PathBuf,
        /// Its format.
        format: ClipFormat,
        /// Whether what is there may be replaced.
        force: bool,
    },
    /// Standard output, as fragmented mp4 that players take while it grows.
    Standard,
}

impl ClipTarget {
    /// The target that people name: `-` is standard output. Nothing is written yet, but what can be known is checked.
    ///
    /// # Errors
    /// [`MediaError`] if the format cannot be written or something is there already.
    pub fn of(path: &Path, force: bool) -> Result<Self, MediaError> {
        if path == Path::new("-") {
            return match cfg!(feature = "video") {
                true => Ok(Self::Standard),
                false => Err(MediaError::NeedsVideo { path: path.into() }),
            };
        }
        let format = ClipFormat::of(path)?;
        let taken = match format {
            ClipFormat::Folder if path.is_dir() => {
                path.read_dir().is_ok_and(|mut it| it.next().is_some())
            }
            _ => path.exists(),
        };
        if taken && !force {
            return Err(MediaError::Exists { path: path.into() });
        }
        Ok(Self::Path {
            path: path.into(),
            format,
            force,
        })
    }
}

/// What is known of a clip before it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipPlan {
    /// Width of every frame.
    pub width: usize,
    /// Height of every frame.
    pub height: usize,
    /// How fast they follow one another.
    pub rate: FrameRate,
    /// How many there will be.
    pub frames: usize,
    /// How the clip was made, as JSON; goes into the file where its format has a place for it.
    pub text: String,
}

/// Something that takes frames.
pub(super) trait FrameSink {
    fn push(&mut self, picture: &Picture) -> Result<(), MediaError>;
    /// Makes the clip appear in its place.
    fn finish(self: Box<Self>) -> Result<(), MediaError>;
    /// What people should know.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A clip that is being written. Dropped before [`ClipWriter::finish`], it leaves nothing.
pub struct ClipWriter {
    sink: Box<dyn FrameSink>,
    size: (usize, usize),
}

impl ClipWriter {
    /// Begins to write beside the target.
    ///
    /// # Errors
    /// [`MediaError`] if the place takes no file or no encoder is there.
    pub fn create(target: &ClipTarget, plan: &ClipPlan) -> Result<Self, MediaError> {
        let sink: Box<dyn FrameSink> = match target {
            #[cfg(feature = "video")]
            ClipTarget::Standard => Box::new(super::libav::VideoWriter::to_standard_output(plan)?),
            #[cfg(not(feature = "video"))]
            ClipTarget::Standard => return Err(MediaError::NeedsVideo { path: "-".into() }),
            ClipTarget::Path {
                path,
                format,
                force,
            } => match format {
                ClipFormat::Gif => Box::new(GifWriter::create(path, *force, plan)?),
                ClipFormat::Apng => Box::new(ApngWriter::create(path, *force, plan)?),
                ClipFormat::WebP => Box::new(WebPWriter::create(path, *force, plan)?),
                ClipFormat::Folder => Box::new(FolderWriter::create(path, *force, plan)?),
                #[cfg(feature = "video")]
                video => Box::new(super::libav::VideoWriter::create(
                    path, *video, *force, plan,
                )?),
                #[cfg(not(feature = "video"))]
                _ => return Err(MediaError::NeedsVideo { path: path.clone() }),
            },
        };
        Ok(Self {
            sink,
            size: (plan.width, plan.height),
        })
    }

    /// Writes one more frame.
    ///
    /// # Errors
    /// [`MediaError`] if it cannot be written; a closed standard output is [`ErrorKind::BrokenPipe`].
    ///
    /// # Panics
    /// If the picture has another size than the plan.
    pub fn push(&mut self, picture: &Picture) -> Result<(), MediaError> {
        assert_eq!(
            (picture.width, picture.height),
            self.size,
            "height and width axes: all frames of a clip have one size"
        );
        self.sink.push(picture)
    }

    /// Puts the clip in its place.
    ///
    /// # Errors
    /// [`MediaError`]; nothing is there then that was not before.
    pub fn finish(self) -> Result<(), MediaError> {
        self.sink.finish()
    }

    /// What people should know about how the clip is written.
    pub fn notes(&self) -> Vec<String> {
        self.sink.notes()
    }
}

/// What the system says about a place, as our error.
pub(super) fn about(path: &Path) -> impl Fn(std::io::Error) -> MediaError + '_ {
    |source| match source.kind() {
        ErrorKind::AlreadyExists => MediaError::Exists { path: path.into() },
        _ => MediaError::File {
            path: path.into(),
            source,
        },
    }
}
