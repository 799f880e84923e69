//! Compressed files of sound: FLAC, MP3 and Opus, with the feature `video`, through FFmpeg's libraries.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{MediaError, Sound, read_wav};

/// Most samples of a compressed file, all channels together: an hour and a half at 48 kHz. A few bytes can stand for many.
pub const MAX_SOUND_SAMPLES: usize = 1 << 28;

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

/// Reads a file of sound, told by its first bytes: WAV as [`read_wav`] does, and FLAC, MP3 and Opus with the feature `video`.
///
/// # Errors
/// As [`read_wav`]; [`MediaError::Compressed`], or [`MediaError::NeedsSound`] if the program was built without the libraries.
pub fn read_sound(path: &Path) -> Result<Sound, MediaError> {
    let mut head = Vec::new();
    // What comes through a pipe can be read once only.
    let read = match path.is_file() {
        true => File::open(path).and_then(|file| file.take(4).read_to_end(&mut head)),
        false => Ok(0),
    };
    let frame = head.len() == 4 && head[0] == 0xff && head[1] & 0xe0 == 0xe0;
    let compressed = [&b"fLaC"[..], b"OggS", b"ID3"];
    if read.is_ok() && (frame || compressed.iter().any(|start| head.starts_with(start))) {
        return decoded(path);
    }
    read_wav(path)
}

#[cfg(feature = "video")]
fn decoded(path: &Path) -> Result<Sound, MediaError> {
    crate::clip::sound(path)
}

#[cfg(not(feature = "video"))]
fn decoded(path: &Path) -> Result<Sound, MediaError> {
    Err(MediaError::NeedsSound { path: path.into() })
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
    fn broken_files_of_sound_are_told_in_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        for (name, bytes) in [
            ("a.flac", &b"fLaC"[..]),
            (
                "b.flac",
                b"fLaC and then nothing of the kind, over and over",
            ),
            ("a.opus", b"OggS\0\x02 no page at all"),
            ("a.mp3", b"ID3\x04\0\0\0\0\0\0"),
            ("b.mp3", b"\xff\xfb\x90\x64 one frame that breaks off"),
        ] {
            let error = read_sound(&written(name, bytes)).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("not a FLAC"),
                "{error}"
            );
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let error = read_sound(&written("a.txt", b"no sound")).unwrap_err();
        assert!(error.to_string().contains("(WAV)"), "{error}");
        assert!(read_sound(&folder.path().join("absent.flac")).is_err());
    }

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
        // What was written is read back: exactly where nothing is lost, of the same length and nearly the same samples elsewhere.
        for (name, most) in [("a.flac", 1e-4), ("a.mp3", 0.05), ("a.opus", 0.1)] {
            let sound = read_sound(&folder.path().join(name)).unwrap();
            assert_eq!(sound.channels.len(), 1, "{name}");
            let seconds = sound.duration_secs();
            assert!((seconds - 1.25).abs() < 0.1, "{name}: {seconds} s");
            let rate = f64::from(sound.sample_rate_hz);
            // A tone of a tenth of a radian per sample at 16 kHz, in the middle: its own sine and cosine tell how much of it is there.
            let step = 0.1 * 16_000.0 / rate;
            let middle = &sound.channels[0][(0.4 * rate) as usize..(0.8 * rate) as usize];
            let part = |wave: fn(f64) -> f64| {
                let terms = middle.iter().enumerate();
                let sum: f64 = terms
                    .map(|(at, &sample)| f64::from(sample) * wave(at as f64 * step))
                    .sum();
                2.0 * sum / middle.len() as f64
            };
            let loudness = part(f64::sin).hypot(part(f64::cos));
            assert!(
                (loudness - 0.5).abs() < 0.5 * most + 5e-3,
                "{name}: {loudness}"
            );
        }
        let flac = read_sound(&folder.path().join("a.flac")).unwrap();
        let differences = flac.channels[0].iter().zip(&samples);
        let most = differences.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(flac.len() == samples.len() && most < 1e-4, "{most}");
        let whole = std::fs::read(folder.path().join("a.flac")).unwrap();
        let half = folder.path().join("half.flac");
        std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
        let error = read_sound(&half).unwrap_err().to_string();
        assert!(error.contains("half.flac: not a FLAC"), "{error}");
        let slow = folder.path().join("slow.opus");
        let refused = sound_file(&slow, SoundFormat::Opus, 4000, "", false);
        let line = refused.err().unwrap().to_string();
        assert!(line.contains("4000 samples a second"), "{line}");
        assert!(!slow.exists());
    }
}
