//! Video files through FFmpeg's libraries.
//!
//! Nothing but the file that was named is ever opened: the libraries get its bytes through a reader of ours and are allowed no
//! protocol, and containers that point elsewhere (playlists, concatenations) are not on the list of formats.

mod colour;
mod listen;
mod place;
mod read;
mod sound;
mod write;

use std::fs::File;
use std::path::Path;
use std::sync::Once;

use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::{Dictionary, Error, ffi, format, log};

use super::write::about;
use crate::MediaError;

pub use listen::sound;
pub use read::VideoFile;
pub use sound::SoundFile;
pub use write::VideoWriter;

/// Containers that are read.
const CONTAINERS: &str = "mov,matroska,avi,mpegts,mpeg,ogg,ivf";
/// Those and containers of sound, which are asked for their comments.
const COMMENTED: &str = "mov,matroska,avi,mpegts,mpeg,ogg,ivf,flac,mp3";
/// Most bytes of one allocation inside the libraries: a frame of the largest size that is taken.
const MAX_ALLOCATION: usize = 1 << 28;

/// Quiet libraries with bounded allocations.
fn initialize() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Both only fill tables or are empty in the versions that are built against.
        let _ = ffmpeg_next::init();
        log::set_level(log::Level::Quiet);
        // SAFETY: sets one number, before any other call from here.
        unsafe { ffi::av_max_alloc(MAX_ALLOCATION) };
    });
}

/// Opens a container and looks at its streams.
fn open(path: &Path, containers: &str) -> Result<Input, MediaError> {
    initialize();
    let file = File::open(path).map_err(about(path))?;
    let mut options = Dictionary::new();
    options.set("format_whitelist", containers);
    options.set("protocol_whitelist", "none");
    let io = StreamIo::from_read_seek(file).map_err(|error| undecodable(path, error))?;
    format::input_from_stream(io, None, Some(options)).map_err(|error| match error {
        Error::InvalidData | Error::Other { .. } | Error::Eof => MediaError::Clip {
            path: path.into(),
            reason: format!(
                "no whole mp4, mov, mkv, webm, avi, MPEG or Ogg file, and no GIF, APNG or WebP ({error})"
            ),
        },
        error => undecodable(path, error),
    })
}

fn undecodable(path: &Path, error: Error) -> MediaError {
    MediaError::Clip {
        path: path.into(),
        reason: format!("it cannot be decoded: {error}"),
    }
}

/// The comment of a container, or of its first stream.
pub fn comment(path: &Path) -> Result<Option<String>, MediaError> {
    let input = open(path, COMMENTED)?;
    let own = input.metadata().get("comment").map(String::from);
    let first = || {
        let stream = input.stream(0)?;
        stream.metadata().get("comment").map(String::from)
    };
    Ok(own.or_else(first))
}
