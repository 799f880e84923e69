//! Compressed files of sound: FLAC, MP3 and Opus, with the feature `video`, through FFmpeg's libraries.

use std::path::Path;

use crate::MediaError;

/// What sound is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoundFormat {
    /// Samples of 16 bits, by [`crate::wav_header`] and [`crate::pcm16`].
    Wav,
    /// Without loss.
    Flac,
    /// At 96 kbit/s.
    Mp3,
    /// At 32 kbit/s, in Ogg.
    Opus,
}

impl SoundFormat {
    /// By the end of a file's name.
    pub fn of_path(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "wav" => Some(Self::Wav),
            "flac" => Some(Self::Flac),
            "mp3" => Some(Self::Mp3),
            "opus" | "ogg" => Some(Self::Opus),
            _ => None,
        }
    }
}

/// A file that takes sound of one channel as it comes.
pub trait SoundSink {
    /// Takes samples in `-1..=1`.
    ///
    /// # Errors
    /// [`MediaError`] if they cannot be encoded or written.
    fn push(&mut self, samples: &[f32]) -> Result<(), MediaError>;

    /// Puts the file in its place.
    ///
    /// # Errors
    /// As [`SoundSink::push`].
    fn finish(self: Box<Self>) -> Result<(), MediaError>;
}

/// Begins a compressed file that says `text` about itself; nothing is left of one that is not finished.
///
/// # Errors
/// [`MediaError`] if it is there already and not forced, if there is no encoder for the rate, or if the program was built without the
/// libraries.
#[cfg(feature = "video")]
pub fn sound_file(
    path: &Path,
    format: SoundFormat,
    sample_rate_hz: u32,
    text: &str,
    force: bool,
) -> Result<Box<dyn SoundSink>, MediaError> {
    let file = crate::clip::SoundFile::create(path, format, sample_rate_hz, text, force)?;
    Ok(Box::new(file))
}

/// As it is with the feature `video`: this program has no encoder.
///
/// # Errors
/// [`MediaError::NeedsSound`].
#[cfg(not(feature = "video"))]
pub fn sound_file(
    path: &Path,
    _format: SoundFormat,
    _sample_rate_hz: u32,
    _text: &str,
    _force: bool,
) -> Result<Box<dyn SoundSink>, MediaError> {
    Err(MediaError::NeedsSound { path: path.into() })
}

#[cfg(all(test, feature = "video"))]
mod tests {
    use super::*;
    use crate::read_clip_text;

    #[test]
    fn compressed_files_say_what_they_are_and_are_the_same_bytes_again() {
        let folder = tempfile::tempdir().unwrap();
        let samples: Vec<f32> = (0..20_000)
            .map(|at| (at as f32 * 0.1).sin() * 0.5)
            .collect();
        let made = |name: &str| {
            let path = folder.path().join(name);
            let format = SoundFormat::of_path(&path).unwrap();
            let mut file = sound_file(&path, format, 16_000, "how it was made", true).unwrap();
            // Pieces of any length are the whole.
            file.push(&samples[..7]).unwrap();
            file.push(&samples[7..]).unwrap();
            file.finish().unwrap();
            std::fs::read(path).unwrap()
        };
        for (name, start) in [
            ("a.flac", b"fLaC"),
            ("a.mp3", b"ID3\x04"),
            ("a.opus", b"OggS"),
        ] {
            let bytes = made(name);
            assert!(bytes.starts_with(start), "{name}: {:?}", &bytes[..4]);
            assert!(bytes == made(name), "{name}: other bytes");
            let text = read_clip_text(&folder.path().join(name)).unwrap();
            assert_eq!(text.as_deref(), Some("how it was made"), "{name}");
        }
        let slow = folder.path().join("slow.opus");
        let refused = sound_file(&slow, SoundFormat::Opus, 4000, "", false);
        let line = refused.err().unwrap().to_string();
        assert!(line.contains("4000 samples a second"), "{line}");
        assert!(!slow.exists());
    }
}
