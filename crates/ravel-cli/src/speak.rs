//! `ravel speak`, `ravel music`, and `ravel replay` of what they wrote.

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use ravel_decode::{Guidance, SamplerConfig};
use ravel_media::{MediaError, SoundFormat, read_clip_text, read_sound, wav_text};
use serde_json::json;
use text_to_speech::{Checks, Metadata, Plan, Reference, Request, SoundPipeline, TextToSpeech};

use crate::arguments::{Check, DeviceName, ReplayOptions, SpeakOptions, WeightsOptions};
use crate::failure::Failure;
use crate::speech_file::{COMMENT, Output, Sink};
use crate::{interrupt, pipelines, progress};

/// Texts from files and standard input beyond this are not read.
const MOST_BYTES: u64 = 1 << 26;
/// Bytes of a file that are looked at for its metadata.
const HEAD: u64 = 1 << 20;
/// Longest recording of a voice in seconds that is taken; a few are enough.
const LONGEST_REFERENCE: f64 = 60.0;

/// Speaks.
pub fn run(options: &SpeakOptions) -> Result<(), Failure> {
    let text = given(options)?;
    let output = Output::plan(options, &text)?;
    let pipeline = pipelines::sound(&options.pipeline, options.device.device, options.weights)?;
    let request = Request {
        text,
        voice: options.voice.clone(),
        reference: reference(&pipeline, options)?,
        speed: options.speed.clone(),
        seconds: options.seconds,
        seed: options.seed,
        sampler: sampler(pipeline.sampler(), options)?,
        checks: checks(&options.without),
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
    first_seconds: Option<f64>,
    utterances: usize,
    retakes: u64,
    faults: usize,
}

impl Told {
    /// Time of computing over time of sound.
    fn share(&self) -> f64 {
        self.compute_seconds / self.seconds.max(1e-9)
    }

    /// How fast it went.
    fn pace(&self) -> String {
        format!(
            "{:.1} s, {:.2} of real time, first sound after {:.2} s",
            self.seconds,
            self.share(),
            self.first_seconds.unwrap_or(0.0)
        )
    }
}

/// Speaks a plan into a sink.
fn spoken(
    pipeline: &SoundPipeline,
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
        first_seconds: None,
        utterances: plan.len(),
        retakes: 0,
        faults: 0,
    };
    let mut samples = 0;
    let mut failed = None;
    let whole = pipeline.run(plan, &mut |piece| {
        told.compute_seconds = begun.elapsed().as_secs_f64();
        told.first_seconds.get_or_insert(told.compute_seconds);
        samples += piece.samples.len();
        told.seconds = samples as f64 / rate;
        if let Some(end) = piece.end {
            told.retakes += end.retakes;
            told.faults += usize::from(end.fault.is_some());
            bar.set_position(piece.number as u64 + 1);
        }
        if let Err(failure) = sink.write(piece.samples) {
            failed = Some(failure);
            return ControlFlow::Break(());
        }
        bar.set_message(told.pace());
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
    if options.json {
        let mut row = json!(metadata);
        row["file"] = json!(path);
        row["seconds"] = json!(told.seconds);
        row["real-time-factor"] = json!(told.share());
        row["seconds-to-first-sound"] = json!(told.first_seconds);
        row["utterances"] = json!(told.utterances);
        row["retakes"] = json!(told.retakes);
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
        progress::say(&format!("{}  {}", path.display(), told.pace()));
    }
    if told.faults > 0 {
        progress::note(&format!(
            "{} of {} utterances may be wrong: try another --seed",
            told.faults, told.utterances
        ));
    }
}

fn metadata(pipeline: &SoundPipeline, request: &Request, plan: &Plan, name: &str) -> Metadata {
    Metadata {
        text: request.text.clone(),
        voice: plan.voice.clone(),
        reference: request.reference.clone(),
        speed: plan.speed.clone(),
        seconds: request.seconds,
        seed: request.seed,
        checks: request.checks,
        pipeline: name.into(),
        hash: pipeline.hash().into(),
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

/// The voice of a recording, if one is to be spoken with.
fn reference(
    pipeline: &SoundPipeline,
    options: &SpeakOptions,
) -> Result<Option<Reference>, Failure> {
    let Some(path) = &options.clone else {
        return Ok(None);
    };
    let shown = path.display();
    let sound = read_sound(path)?;
    if sound.duration_secs() > LONGEST_REFERENCE {
        return Err(Failure::input_with(
            format!(
                "{shown}: {:.0} seconds long, {LONGEST_REFERENCE} at most are taken",
                sound.duration_secs()
            ),
            "cut it to a few seconds, and --clone-text to what is said in them",
        ));
    }
    let sound = sound.with_channels(1).resampled(pipeline.sample_rate_hz());
    let words = options.clone_text.as_deref();
    let needs_words = pipeline.needs_words();
    let found = pipeline.reference(&sound.channels[0], words);
    let found = found.map_err(|error| match error {
        text_to_speech::Error::Reference(reason) if words.is_none() && needs_words => {
            Failure::input_with(
                format!("{shown}: {reason}"),
                "--clone-text \"WORDS\" says what is said in the recording",
            )
        }
        text_to_speech::Error::Reference(reason) => Failure::input(format!("{shown}: {reason}")),
        error => error.into(),
    })?;
    Ok(Some(found))
}

/// What is looked after, with those left out that were named.
pub fn checks(without: &[Check]) -> Checks {
    let with = |check| !without.contains(&check);
    Checks {
        end: with(Check::End),
        shortest: with(Check::Shortest),
        longest: with(Check::Longest),
        loops: with(Check::Loops),
    }
}

/// The pipeline's settings with those that were given.
fn sampler(own: &SamplerConfig, given: &SpeakOptions) -> Result<SamplerConfig, Failure> {
    let config = SamplerConfig {
        temperature: given.temperature.unwrap_or(own.temperature),
        top_k: given.top_k.or(own.top_k),
        top_p: given.top_p.or(own.top_p),
        guidance: given.guidance.map_or(own.guidance, Guidance::Constant),
        ..own.clone()
    };
    config.validate()?;
    Ok(config)
}

/// A pipeline that speaks and was trained here.
pub fn open(
    name: &str,
    device: DeviceName,
    weights: WeightsOptions,
) -> Result<TextToSpeech, Failure> {
    Ok(TextToSpeech::new(pipelines::speech(name, device, weights)?))
}

/// What a recording says about how it was made; nothing of another kind of file.
///
/// # Errors
/// If it is compressed sound and this build cannot read that.
pub fn said(path: &Path) -> Result<Option<String>, Failure> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    if read.is_err() {
        return Ok(None);
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WAVE") {
        let comment = wav_text(&head)
            .into_iter()
            .find(|(name, _)| name == COMMENT);
        return Ok(Some(comment.map_or(String::new(), |(_, value)| value)));
    }
    if !compressed(path) {
        return Ok(None);
    }
    match read_clip_text(path) {
        Err(error @ MediaError::NeedsVideo { .. }) => Err(error.into()),
        read => Ok(Some(read.ok().flatten().unwrap_or_default())),
    }
}

/// Whether a file is compressed sound by its name.
fn compressed(path: &Path) -> bool {
    SoundFormat::of_path(path).is_some_and(|format| format != SoundFormat::Wav)
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
    let pipeline = pipelines::sound(&metadata.pipeline, options.device.device, options.weights)?;
    if pipeline.hash() != metadata.hash {
        return Err(Failure::input_with(
            format!(
                "{shown} was made by `{}` with hash {}, this program has hash {}",
                metadata.pipeline,
                metadata.hash,
                pipeline.hash()
            ),
            "use the version of the pipeline that made it",
        ));
    }
    let plan = pipeline.plan(&Request {
        text: metadata.text.clone(),
        voice: Some(metadata.voice.clone()),
        reference: metadata.reference.clone(),
        speed: Some(metadata.speed.clone()).filter(|speed| !speed.is_empty()),
        seconds: metadata.seconds,
        seed: metadata.seed,
        sampler: metadata.sampler.clone(),
        checks: metadata.checks,
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
    pipeline: &SoundPipeline,
    metadata: &Metadata,
    plan: &Plan,
) -> Result<(), Failure> {
    let shown = options.file.display();
    let failed = |error: std::io::Error| Failure::input(format!("{shown}: {error}"));
    let given = std::fs::read(&options.file).map_err(failed)?;
    let made = match !given.starts_with(b"RIFF") && compressed(&options.file) {
        true => {
            let folder = tempfile::tempdir().map_err(failed)?;
            let again = folder
                .path()
                .join(options.file.file_name().unwrap_or_default());
            let mut sink = Output::File(again.clone()).open(pipeline, metadata, false, false)?;
            spoken(pipeline, plan, &mut sink, true)?;
            sink.finish()?;
            Some(std::fs::read(again).map_err(failed)?)
        }
        false => {
            let mut sink = Output::Standard.open(pipeline, metadata, false, false)?;
            spoken(pipeline, plan, &mut sink, true)?;
            sink.into_bytes()
        }
    };
    if made != Some(given) {
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
