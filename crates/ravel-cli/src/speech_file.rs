//! Where speech goes: a file that takes its place when it is whole, or standard output.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ravel_files::WholeFile;
use ravel_media::{MediaError, SoundFormat, SoundSink, pcm16, sound_file, wav_header};
use serde_json::json;
use text_to_speech::{Metadata, SoundPipeline};

use crate::arguments::SpeakOptions;
use crate::failure::Failure;
use crate::progress;

/// The `INFO` entries of a recording: how it was made, by what, and that nobody said it.
pub const COMMENT: &str = "ICMT";
const SOFTWARE: &str = "ISFT";
const SOURCE: &str = "ISRC";

/// Where the sound goes, decided before anything is computed.
pub enum Output {
    File(PathBuf),
    Standard,
}

impl Output {
    /// From what was asked for.
    ///
    /// # Errors
    /// If the file is there already or of a kind that is not written.
    pub fn plan(options: &SpeakOptions, text: &str) -> Result<Self, Failure> {
        let path = match options.output.as_deref() {
            Some(path) if path == Path::new("-") => return Ok(Self::Standard),
            Some(path) => path.to_path_buf(),
            None => PathBuf::from(named(text)),
        };
        if path.extension().is_some() && SoundFormat::of_path(&path).is_none() {
            return Err(Failure::input_with(
                format!(
                    "{}: sound is written as WAV, FLAC, MP3 or Opus",
                    path.display()
                ),
                "name a file that ends in .wav, .flac, .mp3 or .opus",
            ));
        }
        if !options.force && path.exists() {
            return Err(MediaError::Exists { path }.into());
        }
        Ok(Self::File(path))
    }

    /// Begins to write.
    pub fn open(
        self,
        pipeline: &SoundPipeline,
        metadata: &Metadata,
        force: bool,
        stream: bool,
    ) -> Result<Sink, Failure> {
        let said = json!(metadata).to_string();
        let mut sink = Sink {
            rate: pipeline.sample_rate_hz(),
            written: 0,
            place: match self {
                Self::Standard if stream => Place::Stream,
                Self::Standard => Place::Memory(Vec::new()),
                Self::File(path) => {
                    let rate = pipeline.sample_rate_hz();
                    Place::of_file(path, rate, &said, force)?
                }
            },
            text: vec![
                (COMMENT, said),
                (
                    SOFTWARE,
                    concat!("ravel ", env!("CARGO_PKG_VERSION")).to_string(),
                ),
                (SOURCE, "generated".to_string()),
            ],
        };
        sink.begin()?;
        Ok(sink)
    }
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::input(format!("{}: {error}", path.display()))
}

/// The first words of the text as a file name.
fn named(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|letter| match letter.is_alphanumeric() {
            true => letter.to_ascii_lowercase(),
            false => ' ',
        })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().take(6).collect();
    let name: String = words.join("-").chars().take(60).collect();
    match name.is_empty() {
        true => "speech.wav".into(),
        false => format!("{name}.wav"),
    }
}

/// A file that grows.
pub struct Sink {
    rate: u32,
    text: Vec<(&'static str, String)>,
    /// Bytes of sound so far.
    written: usize,
    place: Place,
}

enum Place {
    /// Takes its place when it is whole.
    File(WholeFile, PathBuf),
    /// The same, compressed.
    Compressed(Box<dyn SoundSink>, PathBuf),
    /// Standard output as the sound is made; the header cannot know how long it will be.
    Stream,
    /// Standard output at the end.
    Memory(Vec<u8>),
}

impl Place {
    /// By the end of the file's name; WAV where it says nothing.
    fn of_file(path: PathBuf, rate: u32, said: &str, force: bool) -> Result<Self, Failure> {
        match SoundFormat::of_path(&path) {
            None | Some(SoundFormat::Wav) => {
                let file = WholeFile::create(&path, force).map_err(|error| at(&path, &error))?;
                Ok(Self::File(file, path))
            }
            Some(format) => {
                let sink = sound_file(&path, format, rate, said, force)?;
                Ok(Self::Compressed(sink, path))
            }
        }
    }
}

impl Sink {
    fn header(&self, len: Option<usize>) -> Vec<u8> {
        let text: Vec<(&str, &str)> = self
            .text
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        wav_header(self.rate, len, &text)
    }

    fn begin(&mut self) -> Result<(), Failure> {
        let header = self.header(None);
        match &mut self.place {
            Place::File(file, path) => file
                .file()
                .write_all(&header)
                .map_err(|error| at(path, &error)),
            Place::Stream => {
                progress::write(&header);
                Ok(())
            }
            Place::Memory(_) | Place::Compressed(..) => Ok(()),
        }
    }

    /// Takes more sound.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), Failure> {
        let bytes = pcm16(samples);
        self.written += bytes.len();
        match &mut self.place {
            Place::File(file, path) => file
                .file()
                .write_all(&bytes)
                .map_err(|error| at(path, &error))?,
            Place::Compressed(sink, _) => sink.push(samples)?,
            Place::Stream => progress::write(&bytes),
            Place::Memory(all) => all.extend(bytes),
        }
        Ok(())
    }

    /// Puts the file in its place; nothing is left of one that is not finished.
    pub fn finish(self) -> Result<Option<PathBuf>, Failure> {
        let header = self.header(Some(self.written));
        match self.place {
            Place::File(mut file, path) => {
                let out = file.file();
                let done = out
                    .seek(SeekFrom::Start(0))
                    .and_then(|_| out.write_all(&header));
                done.and_then(|()| file.commit())
                    .map_err(|error| at(&path, &error))?;
                Ok(Some(path))
            }
            Place::Compressed(sink, path) => {
                sink.finish()?;
                Ok(Some(path))
            }
            Place::Stream => Ok(None),
            Place::Memory(all) => {
                progress::write(&header);
                progress::write(&all);
                Ok(None)
            }
        }
    }

    /// The whole file, where it was kept in memory.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        let header = self.header(Some(self.written));
        match self.place {
            Place::Memory(sound) => Some([header, sound].concat()),
            _ => None,
        }
    }
}
