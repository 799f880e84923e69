//! `ravel speak`, and `ravel replay` of what it wrote.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ravel_decode::SamplerConfig;
use ravel_files::WholeFile;
use ravel_media::{MediaError, pcm16, wav_header, wav_text};
use serde_json::json;
use text_to_speech::{Metadata, Plan, Request, TextToSpeech};

use crate::arguments::{DeviceName, ReplayOptions, SpeakOptions};
use crate::failure::Failure;
use crate::{interrupt, pipelines, progress};

/// The `INFO` entries of a recording: how it was made, by what, and that nobody said it.
const COMMENT: &str = "ICMT";
const SOFTWARE: &str = "ISFT";
const SOURCE: &str = "ISRC";
/// Texts from files and standard input beyond this are not read.
const MOST_BYTES: u64 = 1 << 26;
/// Bytes of a file that are looked at for its metadata.
const HEAD: u64 = 1 << 20;

/// Speaks.
pub fn run(options: &SpeakOptions) -> Result<(), Failure> {
    let text = given(options)?;
    let output = Output::plan(options, &text)?;
    let pipeline = open(&options.pipeline, options.device.device)?;
    let request = Request {
        text,
        voice: options.voice.clone(),
        speed: options.speed.clone(),
        seed: options.seed,
        sampler: sampler(&pipeline.parts().sampler, options)?,
    };
    let plan = pipeline.plan(&request)?;
    let metadata = metadata(&pipeline, &request, &plan, &options.pipeline);
    let mut sink = output.open(&pipeline, &metadata, options.force, options.stream)?;
    let told = spoken(&pipeline, &plan, &mut sink, options.quiet)?;
    let path = sink.finish()?;
    report(options, &metadata, path.as_deref(), &told);
    Ok(())
}

/// What a run came to.
struct Told {
    seconds: f64,
    compute_seconds: f64,
    first_seconds: f64,
    utterances: usize,
    draws: u64,
    faults: usize,
}

/// Speaks a plan into a sink.
fn spoken(
    pipeline: &TextToSpeech,
    plan: &Plan,
    sink: &mut Sink,
    quiet: bool,
) -> Result<Told, Failure> {
    let bar = progress::bar(plan.len(), quiet);
    let rate = f64::from(pipeline.sample_rate_hz());
    let begun = Instant::now();
    let mut told = Told {
        seconds: 0.0,
        compute_seconds: 0.0,
        first_seconds: 0.0,
        utterances: plan.len(),
        draws: 0,
        faults: 0,
    };
    let mut failed = None;
    let whole = pipeline.run(plan, &mut |piece| {
        let elapsed = begun.elapsed().as_secs_f64();
        if piece.number == 0 {
            told.first_seconds = elapsed;
        }
        told.seconds += piece.samples.len() as f64 / rate;
        told.draws += piece.attempts;
        told.faults += usize::from(piece.fault.is_some());
        if let Err(failure) = sink.write(piece.samples) {
            failed = Some(failure);
            return ControlFlow::Break(());
        }
        bar.set_position(piece.number as u64 + 1);
        let share = elapsed / told.seconds.max(1e-9);
        bar.set_message(format!("{:.1} s, {share:.2} of real time", told.seconds));
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    bar.finish_and_clear();
    told.compute_seconds = begun.elapsed().as_secs_f64();
    match (failed, whole) {
        (Some(failure), _) => Err(failure),
        (None, false) => Err(Failure::Interrupted),
        (None, true) => Ok(told),
    }
}

fn report(options: &SpeakOptions, metadata: &Metadata, path: Option<&Path>, told: &Told) {
    let share = told.compute_seconds / told.seconds.max(1e-9);
    if options.json {
        let mut row = json!(metadata);
        row["file"] = json!(path);
        row["seconds"] = json!(told.seconds);
        row["real-time-factor"] = json!(share);
        row["seconds-to-first-sound"] = json!(told.first_seconds);
        row["utterances"] = json!(told.utterances);
        row["draws"] = json!(told.draws);
        row["faults"] = json!(told.faults);
        match path {
            Some(_) => progress::say(&row.to_string()),
            None => progress::note(&row.to_string()),
        }
        return;
    }
    if options.quiet {
        return;
    }
    if let Some(path) = path {
        progress::say(&format!(
            "{}  {:.1} s, {share:.2} of real time",
            path.display(),
            told.seconds
        ));
    }
    if told.faults > 0 {
        progress::note(&format!(
            "{} of {} utterances may be wrong: try another --seed",
            told.faults, told.utterances
        ));
    }
}

fn metadata(pipeline: &TextToSpeech, request: &Request, plan: &Plan, name: &str) -> Metadata {
    Metadata {
        text: request.text.clone(),
        voice: plan.voice.clone(),
        speed: plan.speed.clone(),
        seed: request.seed,
        pipeline: name.into(),
        hash: pipeline.parts().hash.clone(),
        sampler: request.sampler.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// What is said on the command line, in a file or on standard input.
fn given(options: &SpeakOptions) -> Result<String, Failure> {
    match (&options.text, &options.text_file) {
        (Some(text), None) if text != "-" => Ok(text.clone()),
        (_, Some(path)) if path != Path::new("-") => {
            let shown = path.display().to_string();
            let file =
                File::open(path).map_err(|error| Failure::input(format!("{shown}: {error}")))?;
            read(file, &shown)
        }
        (None, None) => Err(Failure::input_with(
            "there is no text",
            "say what is to be spoken: ravel speak \"Good morning.\"; or name a file: --text-file FILE, or `-` for standard input",
        )),
        _ => read(std::io::stdin(), "standard input"),
    }
}

fn read(from: impl Read, shown: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Failure::input(format!(
            "{shown}: longer than {MOST_BYTES} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::input(format!("{shown}: not UTF-8 from byte {at} on"))
    })
}

/// The pipeline's settings with those that were given.
fn sampler(own: &SamplerConfig, given: &SpeakOptions) -> Result<SamplerConfig, Failure> {
    let config = SamplerConfig {
        temperature: given.temperature.unwrap_or(own.temperature),
        top_k: given.top_k.or(own.top_k),
        top_p: given.top_p.or(own.top_p),
        ..own.clone()
    };
    config.validate()?;
    Ok(config)
}

fn open(name: &str, device: DeviceName) -> Result<TextToSpeech, Failure> {
    Ok(TextToSpeech::new(pipelines::speech(name, device)?))
}

/// Where the sound goes, decided before anything is computed.
enum Output {
    File(PathBuf),
    Standard,
}

impl Output {
    fn plan(options: &SpeakOptions, text: &str) -> Result<Self, Failure> {
        let path = match options.output.as_deref() {
            Some(path) if path == Path::new("-") => return Ok(Self::Standard),
            Some(path) => path.to_path_buf(),
            None => PathBuf::from(named(text)),
        };
        let extension = path.extension().and_then(|extension| extension.to_str());
        let other = [
            "flac", "mp3", "ogg", "opus", "m4a", "aac", "aif", "aiff", "raw",
        ];
        if let Some(found) = extension.map(str::to_ascii_lowercase)
            && other.contains(&found.as_str())
        {
            return Err(Failure::input_with(
                format!("{}: sound is written as WAV", path.display()),
                "name a file that ends in .wav",
            ));
        }
        if !options.force && path.exists() {
            return Err(MediaError::Exists { path }.into());
        }
        Ok(Self::File(path))
    }

    fn open(
        self,
        pipeline: &TextToSpeech,
        metadata: &Metadata,
        force: bool,
        stream: bool,
    ) -> Result<Sink, Failure> {
        let said = json!(metadata).to_string();
        let mut sink = Sink {
            rate: pipeline.sample_rate_hz(),
            text: vec![
                (COMMENT, said),
                (
                    SOFTWARE,
                    concat!("ravel ", env!("CARGO_PKG_VERSION")).to_string(),
                ),
                (SOURCE, "generated".to_string()),
            ],
            written: 0,
            place: match self {
                Self::Standard if stream => Place::Stream,
                Self::Standard => Place::Memory(Vec::new()),
                Self::File(path) => Place::File(
                    WholeFile::create(&path, force).map_err(|error| at(&path, &error))?,
                    path,
                ),
            },
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

/// A WAV file that grows.
struct Sink {
    rate: u32,
    text: Vec<(&'static str, String)>,
    /// Bytes of sound so far.
    written: usize,
    place: Place,
}

enum Place {
    /// Takes its place when it is whole.
    File(WholeFile, PathBuf),
    /// Standard output as the sound is made; the header cannot know how long it will be.
    Stream,
    /// Standard output at the end.
    Memory(Vec<u8>),
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
            Place::Memory(_) => Ok(()),
        }
    }

    fn write(&mut self, samples: &[f32]) -> Result<(), Failure> {
        let bytes = pcm16(samples);
        self.written += bytes.len();
        match &mut self.place {
            Place::File(file, path) => file
                .file()
                .write_all(&bytes)
                .map_err(|error| at(path, &error))?,
            Place::Stream => progress::write(&bytes),
            Place::Memory(all) => all.extend(bytes),
        }
        Ok(())
    }

    /// Puts the file in its place; nothing is left of one that is not finished.
    fn finish(self) -> Result<Option<PathBuf>, Failure> {
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
            Place::Stream => Ok(None),
            Place::Memory(all) => {
                progress::write(&header);
                progress::write(&all);
                Ok(None)
            }
        }
    }
}

/// What a WAV file says about how it was made; nothing of another kind of file.
pub fn said(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(path)
        .ok()?
        .take(HEAD)
        .read_to_end(&mut head)
        .ok()?;
    if !head.starts_with(b"RIFF") || head.get(8..12) != Some(b"WAVE") {
        return None;
    }
    let text = wav_text(&head);
    let comment = text.into_iter().find(|(name, _)| name == COMMENT);
    Some(comment.map_or(String::new(), |(_, value)| value))
}

/// Speaks a recording again from its own metadata.
pub fn replay(options: &ReplayOptions, said: &str) -> Result<(), Failure> {
    let shown = options.file.display();
    if said.is_empty() {
        return Err(Failure::input_with(
            format!("{shown} does not say how it was made"),
            "only recordings that `ravel speak` wrote can be replayed",
        ));
    }
    let metadata: Metadata = serde_json::from_str(said).map_err(|error| {
        Failure::input(format!("{shown}: its metadata cannot be read: {error}"))
    })?;
    let pipeline = open(&metadata.pipeline, options.device.device)?;
    if pipeline.parts().hash != metadata.hash {
        return Err(Failure::input_with(
            format!(
                "{shown} was made by `{}` with hash {}, this program has hash {}",
                metadata.pipeline,
                metadata.hash,
                pipeline.parts().hash
            ),
            "use the version of the pipeline that made it",
        ));
    }
    let plan = pipeline.plan(&Request {
        text: metadata.text.clone(),
        voice: Some(metadata.voice.clone()),
        speed: Some(metadata.speed.clone()).filter(|speed| !speed.is_empty()),
        seed: metadata.seed,
        sampler: metadata.sampler.clone(),
    })?;
    let output = match options.output.as_deref() {
        Some(path) if path == Path::new("-") => Some(Output::Standard),
        Some(path) => Some(Output::File(path.into())),
        None => None,
    };
    let Some(output) = output else {
        return compared(options, &pipeline, &metadata, &plan);
    };
    let mut sink = output.open(&pipeline, &metadata, options.force, false)?;
    spoken(&pipeline, &plan, &mut sink, true)?;
    sink.finish()?;
    Ok(())
}

/// Whether the same bytes come out again.
fn compared(
    options: &ReplayOptions,
    pipeline: &TextToSpeech,
    metadata: &Metadata,
    plan: &Plan,
) -> Result<(), Failure> {
    let shown = options.file.display();
    let mut sink = Output::Standard.open(pipeline, metadata, false, false)?;
    spoken(pipeline, plan, &mut sink, true)?;
    let header = sink.header(Some(sink.written));
    let Place::Memory(sound) = sink.place else {
        unreachable!("standard output that is no stream is kept in memory");
    };
    let before = std::fs::read(&options.file)
        .map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    if before != [header, sound].concat() {
        return Err(Failure::runtime(format!("{shown}: the bytes differ")));
    }
    progress::say(&format!("{shown}: the same bytes again"));
    Ok(())
}

impl From<text_to_speech::Error> for Failure {
    fn from(error: text_to_speech::Error) -> Self {
        match error {
            text_to_speech::Error::Part(part) => part.into(),
            error => Self::input(error),
        }
    }
}
