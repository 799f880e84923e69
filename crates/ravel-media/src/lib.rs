//! The outside world of signals: pictures, clips and sound in and out, with limits on what is believed and metadata beside the pixels.

mod clip;
mod picture;
mod read;
mod sheet;
mod sound;
mod sound_file;
mod wav;
mod write;

use std::path::PathBuf;

pub use clip::{
    ClipFormat, ClipInfo, ClipPlan, ClipReader, ClipTarget, ClipWriter, FrameRate, MAX_CLIP_SIDE,
    MAX_FRAMES, clip_formats, read_clip_text,
};
pub use picture::{Picture, images_from_pictures, pictures_from_images};
pub use read::{MAX_SIDE, decode_image, read_image, read_png_text};
pub use sheet::{contact_sheet, grid};
pub use sound::{SAMPLE_RATES, Sound};
pub use sound_file::{MAX_SOUND_SAMPLES, SoundFormat, SoundSink, read_sound, sound_file};
pub use wav::{decode_wav, encode_wav, pcm16, read_wav, wav_header, wav_text};
pub use write::{encode_png, write_new};

/// What is wrong with a picture file, or with writing one.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The file cannot be opened, read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bytes are no picture that is known here, or a broken one.
    #[error("{path}: not a picture that can be read (PNG, JPEG, WebP or GIF): {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        reason: String,
    },
    /// A picture without pixels or with too many.
    #[error("{path}: the picture is {width} x {height} pixels, 1 to {MAX_SIDE} a side are taken")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// The bytes are no sound that is known here, or broken.
    #[error("{path}: not a sound that can be read (WAV): {reason}")]
    Sound {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A compressed file of sound that is broken, or holds none.
    #[error("{path}: not a FLAC, MP3 or Opus file that can be read: {reason}")]
    Compressed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file that is no clip, or a broken one.
    #[error("{path}: not a clip that can be read: {reason}")]
    Clip {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A clip without frames.
    #[error("{path}: there is no frame in it")]
    NoFrames {
        /// The file or folder.
        path: PathBuf,
    },
    /// Frames without pixels or with too many.
    #[error(
        "{path}: the frames are {width} x {height} pixels, 1 to {MAX_CLIP_SIDE} a side are taken"
    )]
    FrameSize {
        /// The file.
        path: PathBuf,
        /// Their width.
        width: usize,
        /// Their height.
        height: usize,
    },
    /// A video file where the program was built without FFmpeg's libraries.
    #[error(
        "{path}: this program was built without video files; it takes folders of pictures, GIF, APNG and WebP"
    )]
    NeedsVideo {
        /// The file.
        path: PathBuf,
    },
    /// A compressed file of sound where the program was built without FFmpeg's libraries.
    #[error("{path}: this program was built without FLAC, MP3 and Opus; it takes WAV")]
    NeedsSound {
        /// The file.
        path: PathBuf,
    },
    /// A clip or a sound that cannot be encoded.
    #[error("{path}: it cannot be encoded: {reason}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder says.
        reason: String,
    },
    /// The output is there already.
    #[error("{path} exists already; name another file or allow it with --force")]
    Exists {
        /// The file.
        path: PathBuf,
    },
}
