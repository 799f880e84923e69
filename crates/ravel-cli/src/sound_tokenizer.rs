//! `ravel tokenizer` for sound: files of sound to codes and back.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use ravel_core::{Codes, Layout, SoundCodes, SoundTokenizer, Waveform};
use ravel_eval::{PESQ_RATE_HZ, SoundDistance, pesq, sound_distance};
use ravel_media::{Sound, SoundFormat, encode_wav, read_sound};
use ravel_pipeline::{Definition, Source, build_sound_tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arguments::DeviceName;
use crate::failure::Failure;
use crate::interrupt;
use crate::progress::{note, say};
use crate::tokenizer::{ids_of_books, put};

/// A tokenizer of sound with the name of its definition.
pub struct Codec {
    tokenizer: Box<dyn SoundTokenizer>,
    name: String,
    device: Device,
}

/// Codes of a sound in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SoundFile {
    /// The definition's name, which codes of another codec do not have.
    codec: String,
    sample_rate_hz: u32,
    channels: usize,
    /// Samples of one channel.
    samples: usize,
    layout: Layout,
    /// Of each chunk, where the codec normalises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gains: Option<Vec<f32>>,
    /// Of each codebook.
    ids: Vec<Vec<u32>>,
}

impl Codec {
    /// Builds the codec of a definition.
    pub fn open(
        definition: &Definition,
        source: &Source,
        device: DeviceName,
    ) -> Result<Self, Failure> {
        definition.check(source)?;
        let device = device.open()?;
        Ok(Self {
            tokenizer: build_sound_tokenizer(definition.tokenizer_part()?, source, &device)?,
            name: definition.name.clone(),
            device,
        })
    }

    /// A file of sound at the codec's rate and channels; says what was changed.
    fn read(&self, path: &Path) -> Result<Sound, Failure> {
        let spec = self.tokenizer.sound_spec();
        let sound = read_sound(path)?;
        let (rate, channels) = (sound.sample_rate_hz, sound.channels.len());
        if (rate, channels) != (spec.sample_rate_hz, spec.channels) {
            note(&format!(
                "{}: {rate} Hz in {channels} channels, brought to {} Hz in {}",
                path.display(),
                spec.sample_rate_hz,
                spec.channels
            ));
        }
        Ok(sound
            .with_channels(spec.channels)
            .resampled(spec.sample_rate_hz))
    }

    /// Codes of a sound, whole or in pieces of so many seconds.
    fn encode(&self, sound: &Sound, pieces: Option<f64>) -> Result<SoundCodes, Failure> {
        let waveform = sound.to_waveform(&self.device);
        let Some(seconds) = pieces else {
            return Ok(self.tokenizer.encode_sound(waveform)?);
        };
        let mut stream = self.streaming()?.begin_encode(1);
        let [_, channels, time] = waveform.samples.dims();
        let mut found = Vec::new();
        for from in (0..time).step_by(self.piece(seconds, 1)?) {
            let to = time.min(from + self.piece(seconds, 1)?);
            let samples = waveform
                .samples
                .clone()
                .slice([0..1, 0..channels, from..to]);
            found.push(stream.push(Waveform {
                samples,
                ..waveform.clone()
            })?);
        }
        found.push(stream.finish()?);
        let ids = found.into_iter().map(|codes| codes.ids);
        let ids = Tensor::cat(ids.filter(|ids| ids.dims()[2] > 0).collect(), 2);
        let len = ids.dims()[2];
        Ok(SoundCodes {
            codes: Codes {
                ids,
                layout: Layout::Sequence { len },
            },
            gains: None,
            samples: time,
        })
    }

    fn decode(&self, codes: &SoundCodes, pieces: Option<f64>) -> Result<Waveform, Failure> {
        let Some(seconds) = pieces else {
            return Ok(self.tokenizer.decode_sound(codes)?);
        };
        if codes.gains.is_some() {
            return Err(Failure::input_with(
                format!("{} normalises chunks and cannot work in pieces", self.name),
                "leave --pieces out",
            ));
        }
        let hop = self.tokenizer.sound_spec().hop;
        let [_, depth, len] = codes.codes.ids.dims();
        let step = self.piece(seconds, hop)?;
        let mut stream = self.streaming()?.begin_decode(1, depth);
        let mut found = Vec::new();
        for from in (0..len).step_by(step) {
            let n = step.min(len - from);
            let piece = Codes {
                ids: codes.codes.ids.clone().narrow(2, from, n),
                layout: Layout::Sequence { len: n },
            };
            found.push(stream.push(&piece)?.samples);
        }
        found.push(stream.finish()?.samples);
        found.retain(|samples| samples.dims()[2] > 0);
        let whole = Waveform {
            samples: Tensor::cat(found, 2),
            sample_rate_hz: self.tokenizer.sound_spec().sample_rate_hz,
        };
        Ok(whole.shortened(codes.samples))
    }

    fn streaming(&self) -> Result<&dyn ravel_core::Streaming<Signal = Waveform>, Failure> {
        self.tokenizer.streaming().ok_or_else(|| {
            Failure::input_with(
                format!("{} looks ahead and cannot work in pieces", self.name),
                "leave --pieces out",
            )
        })
    }

    /// Steps of `hop` samples in so many seconds, one at least.
    fn piece(&self, seconds: f64, hop: usize) -> Result<usize, Failure> {
        if !(seconds > 0.0 && seconds <= 3600.0) {
            return Err(Failure::input(format!(
                "pieces of {seconds} seconds are asked for, more than 0 and at most 3600 are expected"
            )));
        }
        let rate = f64::from(self.tokenizer.sound_spec().sample_rate_hz);
        Ok(((seconds * rate / hop as f64).round() as usize).max(1))
    }

    /// Bits of codes if every id costs the same.
    fn bits(&self, codes: &Codes) -> f64 {
        let ids = codes.depth() * codes.filled();
        ids as f64 * (self.tokenizer.spec().codebook_size as f64).log2()
    }
}

/// Writes the codes of a WAV file.
pub fn encode(
    codec: &Codec,
    path: &Path,
    pieces: Option<f64>,
    (output, force): (Option<&Path>, bool),
) -> Result<(), Failure> {
    let sound = codec.read(path)?;
    let found = codec.encode(&sound, pieces)?;
    let (depth, filled) = (found.codes.depth(), found.codes.filled());
    let ids = found.codes.to_host().remove(0);
    let gains = found.gains.as_ref();
    let file = SoundFile {
        codec: codec.name.clone(),
        sample_rate_hz: sound.sample_rate_hz,
        channels: sound.channels.len(),
        samples: found.samples,
        layout: found.codes.layout.clone(),
        gains: gains.map(|gains| gains.to_data().iter::<f32>().collect()),
        ids: ids
            .chunks(filled.max(1))
            .take(depth)
            .map(<[u32]>::to_vec)
            .collect(),
    };
    put((json!(file).to_string() + "\n").as_bytes(), output, force)
}

/// Writes the WAV file of codes.
pub fn decode(
    codec: &Codec,
    path: &Path,
    pieces: Option<f64>,
    (output, force): (&Path, bool),
) -> Result<(), Failure> {
    let codes = read_codes(codec, path)?;
    let sound = Sound::of_waveform(&codec.decode(&codes, pieces)?).remove(0);
    let wav = encode_wav(&sound, &[("ISFT", "ravel"), ("ICMT", &codec.name)]);
    put(&wav, Some(output), force)
}

fn read_codes(codec: &Codec, path: &Path) -> Result<SoundCodes, Failure> {
    let shown = path.display();
    let wrong = |line: String| Failure::input(format!("{shown}: {line}"));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file: SoundFile = serde_json::from_str(&text).map_err(|error| {
        wrong(format!(
            "no codes of sound by `ravel tokenizer encode`: {error}"
        ))
    })?;
    if file.codec != codec.name {
        return Err(Failure::input_with(
            format!(
                "{shown}: codes of {}, {} is asked to read them",
                file.codec, codec.name
            ),
            format!("--pipeline {}", file.codec),
        ));
    }
    let ids = ids_of_books(&file.ids, &codec.device).map_err(&wrong)?;
    let filled = ids.dims()[2];
    let spec = codec.tokenizer.sound_spec();
    if (file.sample_rate_hz, file.channels) != (spec.sample_rate_hz, spec.channels) {
        return Err(wrong(format!(
            "{} Hz in {} channels, {} has {} Hz in {}",
            file.sample_rate_hz, file.channels, codec.name, spec.sample_rate_hz, spec.channels
        )));
    }
    let (frames, places) = (file.layout.len(), file.ids.len() * filled);
    if frames != filled {
        return Err(wrong(format!(
            "the layout has {frames} places, {filled} are filled"
        )));
    }
    let most = places.saturating_mul(spec.hop);
    if !(1..=most).contains(&file.samples) {
        return Err(wrong(format!(
            "{} samples are to be written, 1 to {most} can be of these codes",
            file.samples
        )));
    }
    let gains = file.gains.map(|gains| {
        let data = TensorData::new::<f32, _>(gains.clone(), [1, gains.len()]);
        Tensor::from_data(data, &codec.device)
    });
    Ok(SoundCodes {
        codes: Codes {
            ids,
            layout: file.layout,
        },
        gains,
        samples: file.samples,
    })
}

/// Says what a definition's codec takes and gives; its weights need not be there.
pub fn inspect(definition: &Definition, json: bool) -> Result<(), Failure> {
    let spec = definition.tokenizer_part()?.sound_spec()?;
    if json {
        say(&json!({ "codec": definition.name, "spec": spec }).to_string());
        return Ok(());
    }
    say(&format!(
        "sound     {} Hz, {} channel{}",
        spec.sample_rate_hz,
        spec.channels,
        if spec.channels == 1 { "" } else { "s" }
    ));
    say(&format!(
        "frames    {:.2} a second, one for {} samples",
        spec.frames_per_second(),
        spec.hop
    ));
    say(&format!(
        "codebook  {} ids of {} numbers, {} per frame",
        spec.codes.codebook_size, spec.codes.code_width, spec.codes.depth
    ));
    Ok(())
}

/// What was measured on one file.
struct Measured {
    path: PathBuf,
    seconds: f64,
    kilobits_per_second: f64,
    distance: SoundDistance,
    /// Wideband PESQ of all channels together; none where no speech is found.
    pesq: Option<f64>,
    /// Time of computing over time of sound.
    encode_factor: f64,
    decode_factor: f64,
}

impl Measured {
    fn of(codec: &Codec, path: PathBuf) -> Result<Self, Failure> {
        let sound = codec.read(&path)?;
        let begin = Instant::now();
        let codes = codec.encode(&sound, None)?;
        // Reading the codes waits for the device.
        let _ = codes.codes.to_host();
        let encoded = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let found = Sound::of_waveform(&codec.decode(&codes, None)?).remove(0);
        let decoded = begin.elapsed().as_secs_f64();
        let seconds = sound.duration_secs();
        // Codecs with odd strides give back a little less.
        let len = found.len();
        let original: Vec<Vec<f32>> = (sound.channels.iter())
            .map(|all| all[..len].to_vec())
            .collect();
        Ok(Self {
            path,
            seconds,
            kilobits_per_second: codec.bits(&codes.codes) / seconds / 1000.0,
            distance: sound_distance(&found.channels, &original, sound.sample_rate_hz),
            pesq: quality(found, original),
            encode_factor: encoded / seconds,
            decode_factor: decoded / seconds,
        })
    }

    fn json(&self) -> Value {
        json!({
            "file": self.path,
            "seconds": self.seconds,
            "kilobits-per-second": self.kilobits_per_second,
            "si-sdr": self.distance.si_sdr,
            "stft": self.distance.stft,
            "mel": self.distance.mel,
            "pesq": self.pesq,
            "encode-real-time-factor": self.encode_factor,
            "decode-real-time-factor": self.decode_factor,
        })
    }

    fn line(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        let shown = |value: Option<f64>, digits: usize| {
            value.map_or("silence".into(), |value| format!("{value:.digits$}"))
        };
        format!(
            "{:24} {:8.2} {:7.2} {:>10} {:>7} {:7.3} {:>7} {:8.3} {:8.3}",
            name.to_string_lossy(),
            self.seconds,
            self.kilobits_per_second,
            shown(self.distance.si_sdr, 2),
            shown(self.distance.stft, 3),
            self.distance.mel,
            shown(self.pesq, 2),
            self.encode_factor,
            self.decode_factor
        )
    }
}

/// How good decoded speech sounds beside the original.
fn quality(found: Sound, original: Vec<Vec<f32>>) -> Option<f64> {
    let rate = found.sample_rate_hz;
    let original = Sound {
        channels: original,
        sample_rate_hz: rate,
    };
    let heard = |sound: Sound| {
        let sound = sound.with_channels(1).resampled(PESQ_RATE_HZ);
        sound.channels.into_iter().next().unwrap_or_default()
    };
    pesq(&heard(found), &heard(original))
}

/// Measures what is lost on the way to codes and back, file by file, and the mean over files.
pub fn eval(codec: &Codec, data: &[PathBuf], json: bool) -> Result<(), Failure> {
    let mut all = Vec::new();
    for path in sound_files(data)? {
        if interrupt::asked() {
            return Err(Failure::Interrupted);
        }
        all.push(Measured::of(codec, path)?);
    }
    let mean = mean(&all);
    if json {
        let files: Vec<Value> = all.iter().map(Measured::json).collect();
        let mut mean = mean.json();
        mean.as_object_mut().expect("an object").remove("file");
        say(&json!({ "codec": codec.name, "files": files, "mean": mean }).to_string());
        return Ok(());
    }
    say(
        "file                      seconds    kbps  SI-SDR dB    STFT     mel    PESQ   encode   decode",
    );
    for measured in all.iter().chain([&mean]) {
        say(&measured.line());
    }
    Ok(())
}

/// Means over files; of SI-SDR and STFT distance over those that are not silent. The length is that of all.
fn mean(all: &[Measured]) -> Measured {
    let mean =
        |of: &dyn Fn(&Measured) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
    let heard = |of: &dyn Fn(&Measured) -> Option<f64>| {
        let values: Vec<f64> = all.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Measured {
        path: format!("mean of {}", all.len()).into(),
        seconds: all.iter().map(|one| one.seconds).sum(),
        kilobits_per_second: mean(&|one| one.kilobits_per_second),
        distance: SoundDistance {
            si_sdr: heard(&|one| one.distance.si_sdr),
            stft: heard(&|one| one.distance.stft),
            mel: mean(&|one| one.distance.mel),
        },
        pesq: heard(&|one| one.pesq),
        encode_factor: mean(&|one| one.encode_factor),
        decode_factor: mean(&|one| one.decode_factor),
    }
}

/// Files as they are named, and the files of sound in folders, sorted.
fn sound_files(data: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in data {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |error: std::io::Error| Failure::input(format!("{}: {error}", path.display()));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if SoundFormat::of_path(&file).is_some() {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(Failure::input(format!(
                "{}: no file of sound in it",
                path.display()
            )));
        }
        found.sort();
        files.extend(found);
    }
    match files.is_empty() {
        true => Err(Failure::input_with(
            "no sound is named",
            "name files of sound or folders with --data",
        )),
        false => Ok(files),
    }
}

/// The definition that is asked for, where its tokenizer is one of sound.
pub fn definition(name: &str) -> Result<Option<(Definition, Source)>, Failure> {
    crate::tokenizer::definition_of(name, |part| part.is_sound())
}
