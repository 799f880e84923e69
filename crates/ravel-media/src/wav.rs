//! WAV files in and out, with text beside the samples (a `LIST` chunk of kind `INFO`).

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use crate::MediaError;
use crate::sound::{SAMPLE_RATES, Sound, by_channel, interleaved};

/// Largest file that is read, in MiB: an hour and a half of stereo at 48 kHz and 16 bits.
const MAX_FILE_MIB: u64 = 1024;
/// Most channels that are taken.
const MAX_CHANNELS: u16 = 64;
/// Bits of the samples that are written.
const WRITTEN_BITS: u16 = 16;

/// Reads a WAV file of 8, 16, 24 or 32 bits or of 32-bit floating point numbers, of any rate and any number of channels.
///
/// # Errors
/// [`MediaError::File`] or [`MediaError::Sound`]: no WAV file, one that ends early, or one without samples.
pub fn read_wav(path: &Path) -> Result<Sound, MediaError> {
    let failed = |source| MediaError::File {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let limit = MAX_FILE_MIB << 20;
    if size > limit {
        return Err(wrong(path, format!("it is larger than {MAX_FILE_MIB} MiB")));
    }
    // A device says 0 and goes on for ever.
    read_samples(BufReader::new(file.take(limit)), path)
}

/// As [`read_wav`], from bytes; `path` stands for them in messages.
///
/// # Errors
/// As [`read_wav`].
pub fn decode_wav(bytes: &[u8], path: &Path) -> Result<Sound, MediaError> {
    read_samples(bytes, path)
}

fn read_samples(reader: impl Read, path: &Path) -> Result<Sound, MediaError> {
    let reader = WavReader::new(reader).map_err(|error| wrong(path, words(&error)))?;
    let spec = reader.spec();
    check(&spec, path)?;
    let promised = reader.len() as usize;
    let samples = match spec.sample_format {
        SampleFormat::Float => collected(reader.into_samples::<f32>(), promised, path)?,
        SampleFormat::Int => {
            let scale = 1.0 / 2f32.powi(i32::from(spec.bits_per_sample) - 1);
            let whole = collected(reader.into_samples::<i32>(), promised, path)?;
            whole.into_iter().map(|s| s as f32 * scale).collect()
        }
    };
    if let Some(at) = samples.iter().position(|sample| !sample.is_finite()) {
        return Err(wrong(path, format!("sample {at} is no number")));
    }
    let samples: Vec<f32> = samples
        .iter()
        .map(|sample| sample.clamp(-1.0, 1.0))
        .collect();
    Ok(Sound {
        channels: by_channel(&samples, spec.channels.into()),
        sample_rate_hz: spec.sample_rate,
    })
}

fn check(spec: &WavSpec, path: &Path) -> Result<(), MediaError> {
    if !(1..=MAX_CHANNELS).contains(&spec.channels) {
        let reason = format!(
            "it has {} channels, 1 to {MAX_CHANNELS} are taken",
            spec.channels
        );
        return Err(wrong(path, reason));
    }
    if !SAMPLE_RATES.contains(&spec.sample_rate) {
        let (low, high) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
        let reason = format!(
            "it has {} samples a second, {low} to {high} are taken",
            spec.sample_rate
        );
        return Err(wrong(path, reason));
    }
    let known = match spec.sample_format {
        SampleFormat::Int => [8, 16, 24, 32].contains(&spec.bits_per_sample),
        SampleFormat::Float => spec.bits_per_sample == 32,
    };
    match known {
        true => Ok(()),
        false => Err(wrong(
            path,
            format!("samples of {} bits are not taken", spec.bits_per_sample),
        )),
    }
}

/// All samples, as many as the header promises.
fn collected<T>(
    samples: impl Iterator<Item = hound::Result<T>>,
    promised: usize,
    path: &Path,
) -> Result<Vec<T>, MediaError> {
    let mut all = Vec::new();
    for sample in samples {
        match sample {
            Ok(sample) => all.push(sample),
            Err(_) => {
                let reason = format!("it ends after {} of {promised} samples", all.len());
                return Err(wrong(path, reason));
            }
        }
    }
    match all.is_empty() {
        true => Err(wrong(path, "there is no sample in it".into())),
        false => Ok(all),
    }
}

/// A WAV file of 16 bits. Text is kept as `INFO` entries: four letters and a value each (`ISFT` names the software, `ICMT` is a
/// comment).
///
/// # Panics
/// If a text's name is not four letters.
pub fn encode_wav(sound: &Sound, text: &[(&str, &str)]) -> Vec<u8> {
    let spec = WavSpec {
        channels: sound.channels.len() as u16,
        sample_rate: sound.sample_rate_hz,
        bits_per_sample: WRITTEN_BITS,
        sample_format: SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec).expect("16 bits are written everywhere");
    for sample in interleaved(&sound.channels) {
        writer
            .write_sample(scaled(sample))
            .expect("memory takes all bytes");
    }
    writer.finalize().expect("all channels are equally long");
    let mut bytes = bytes.into_inner();
    if !text.is_empty() {
        bytes.extend(info_chunk(text));
        let size = (bytes.len() - 8) as u32;
        bytes[4..8].copy_from_slice(&size.to_le_bytes());
    }
    bytes
}

/// The beginning of a WAV file of one channel and 16 bits: everything in front of its samples, text as in [`encode_wav`].
///
/// `sound_bytes` is how long the sound is; nothing stands for a length that is not known yet, as programs that read from pipes take it.
/// The header's own length does not depend on it.
///
/// # Panics
/// If a text's name is not four letters.
pub fn wav_header(
    sample_rate_hz: u32,
    sound_bytes: Option<usize>,
    text: &[(&str, &str)],
) -> Vec<u8> {
    const BYTES: u32 = WRITTEN_BITS as u32 / 8;
    let info = match text.is_empty() {
        true => Vec::new(),
        false => info_chunk(text),
    };
    let before = 4 + 24 + info.len() + 8;
    let limited = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let (all, sound) = match sound_bytes {
        Some(sound) => (limited(before + sound), limited(sound)),
        None => (u32::MAX, u32::MAX),
    };
    let mut bytes = b"RIFF".to_vec();
    bytes.extend(all.to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(sample_rate_hz.to_le_bytes());
    bytes.extend((sample_rate_hz * BYTES).to_le_bytes());
    bytes.extend((BYTES as u16).to_le_bytes());
    bytes.extend(WRITTEN_BITS.to_le_bytes());
    bytes.extend(info);
    bytes.extend(b"data");
    bytes.extend(sound.to_le_bytes());
    bytes
}

/// Samples as 16 bits, as they follow [`wav_header`]'s bytes.
pub fn pcm16(samples: &[f32]) -> Vec<u8> {
    let scaled = samples.iter().map(|sample| scaled(*sample).to_le_bytes());
    scaled.flatten().collect()
}

pub(crate) fn scaled(sample: f32) -> i16 {
    (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16
}

fn info_chunk(text: &[(&str, &str)]) -> Vec<u8> {
    let mut body = b"INFO".to_vec();
    for (name, value) in text {
        assert_eq!(name.len(), 4, "`{name}` is not four letters");
        let mut value = value.as_bytes().to_vec();
        value.push(0);
        body.extend(name.as_bytes());
        body.extend((value.len() as u32).to_le_bytes());
        body.extend(&value);
        // Chunks begin at even places.
        body.extend(std::iter::repeat_n(0, value.len() % 2));
    }
    let mut chunk = b"LIST".to_vec();
    chunk.extend((body.len() as u32).to_le_bytes());
    chunk.extend(body);
    chunk
}

/// The text entries of a WAV file, in their order. What cannot be made out is left out.
pub fn wav_text(bytes: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let body = bytes.get(12..).unwrap_or_default();
    for (name, body) in chunks(body) {
        if name == b"LIST" && body.starts_with(b"INFO") {
            for (name, value) in chunks(&body[4..]) {
                let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                found.push((text(name), text(value)));
            }
        }
    }
    found
}

/// Chunks by name, up to the first that goes beyond the end.
fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let size = bytes.get(4..8)?;
        let size = u32::from_le_bytes(size.try_into().expect("four bytes")) as usize;
        let name = &bytes[..4];
        let body = bytes.get(8..)?.get(..size)?;
        bytes = bytes.get(8 + size + size % 2..).unwrap_or_default();
        Some((name, body))
    })
}

fn wrong(path: &Path, reason: String) -> MediaError {
    MediaError::Sound {
        path: path.into(),
        reason,
    }
}

fn words(error: &hound::Error) -> String {
    match error {
        // The library says so in words of its own kind.
        hound::Error::IoError(_) => "it ends within its header".into(),
        hound::Error::Unsupported => "its encoding is not taken, only plain samples are".into(),
        error => error.to_string().replace('\n', " "),
    }
}
