//! `ravel eval` of a pipeline that speaks: what it foretells, how fast it is, what a recogniser understands, and whose voice is heard.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use ravel_core::Waveform;
use ravel_decode::SamplerConfig;
use ravel_eval::{Voices, voice_print};
use ravel_media::Sound;
use ravel_train::{Recording, Split, speech_loss};
use serde::Serialize;
use serde_json::json;
use text_to_speech::{Checks, Reference, Request, TextToSpeech};

use crate::arguments::EvalOptions;
use crate::failure::Failure;
use crate::recogniser::{Recogniser, WordErrors};
use crate::speak::{checks, open};
use crate::{interrupt, progress};

/// What is measured where no data is named.
const DATA: &str = "data/speech/speech.jsonl";

/// Everything that was measured.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    recordings: usize,
    clones: usize,
    checks: Checks,
    seed: u64,
    /// Mean nats of a code of each codebook.
    loss: Vec<f64>,
    loss_per_code: f64,
    pace: Pace,
    #[serde(skip_serializing_if = "Option::is_none")]
    word_errors: Option<WordErrorTable>,
    voices: VoiceReport,
}

/// How fast it spoke, and how it went.
#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Pace {
    seconds: f64,
    compute_seconds: f64,
    real_time_factor: f64,
    /// Mean over utterances that are spoken by themselves.
    seconds_to_first_sound: f64,
    retakes: u64,
    faults: usize,
}

/// By kind of recording, each with the grammar of the vocabulary and without.
#[derive(Serialize)]
struct WordErrorTable {
    grammar: Vec<(&'static str, WordErrors)>,
    open: Vec<(&'static str, WordErrors)>,
}

/// Whose voice is heard.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct VoiceReport {
    /// Generated in a named voice: how many are nearest to recordings of that voice.
    named_nearest: usize,
    named: usize,
    /// Cloned: how many are nearest to other recordings of the reference's voice.
    clones_nearest: usize,
    clones: usize,
    /// Mean similarity of clones with their reference, with other recordings of its voice, and with the nearest other voice.
    to_reference: f64,
    to_voice: f64,
    to_nearest_other: f64,
}

/// A recording that was made.
struct Made {
    sound: Sound,
    text: String,
}

/// Measures.
pub fn run(options: &EvalOptions) -> Result<(), Failure> {
    let pipeline = open(
        &options.pipeline.pipeline,
        options.pipeline.device.device,
        options.weights,
    )?;
    let rate = pipeline.sample_rate_hz();
    let data = options.data.clone().unwrap_or_else(|| PathBuf::from(DATA));
    let known = Recording::spread(&data, Split::HeldOut, options.utterances, rate)?;
    let new = Recording::spread(&data, Split::HeldOutVoice, options.utterances, rate)?;
    if known.is_empty() {
        return Err(Failure::input(format!(
            "{}: no held-out recording in it",
            data.display()
        )));
    }
    let recogniser = Recogniser::find(options.recogniser.as_deref(), &data)?;
    if recogniser.is_none() && !options.quiet {
        progress::note(
            "word errors are left out: this needs pocketsphinx (pip install pocketsphinx, then --recogniser PYTHON)",
        );
    }
    let loss = speech_loss(pipeline.parts(), &known)?;
    let clones = new.len().min(options.clones);
    let bar = progress::bar(known.len() + clones, options.quiet);
    let mut pace = Pace::default();
    let mut speak = |text: &str, voice: Voice<'_>| {
        let made = said(&pipeline, options, text, voice, &mut pace)?;
        bar.inc(1);
        Ok::<Made, Failure>(made)
    };
    let generated: Result<Vec<Made>, Failure> = known
        .iter()
        .map(|row| speak(&row.text, Voice::Named(row)))
        .collect();
    let generated = generated?;
    let cloned: Result<Vec<Made>, Failure> = (0..clones)
        .map(|at| {
            let reference = pipeline.reference(&new[at].samples(), Some(&new[at].text));
            let named = |error| Failure::input(format!("{}: {error}", new[at].file.display()));
            let reference = reference.map_err(named)?;
            speak(&new[(at + 1) % new.len()].text, Voice::Of(reference))
        })
        .collect();
    let cloned = cloned?;
    bar.finish_and_clear();
    pace.real_time_factor = pace.compute_seconds / pace.seconds.max(1e-9);
    pace.seconds_to_first_sound /= (generated.len() + cloned.len()) as f64;
    let word_errors = match &recogniser {
        Some(recogniser) => Some(listened(
            recogniser, &pipeline, &known, &generated, &cloned,
        )?),
        None => None,
    };
    let report = Report {
        recordings: known.len(),
        clones,
        checks: checks(&options.without),
        seed: options.seed,
        loss_per_code: loss.iter().sum::<f64>() / loss.len().max(1) as f64,
        loss,
        pace,
        word_errors,
        voices: voices(&known, &new, &generated, &cloned),
    };
    tell(&report, options.json, &data);
    Ok(())
}

/// Whose voice is asked for.
enum Voice<'a> {
    Named(&'a Recording),
    Of(Reference),
}

/// Speaks a text by itself.
fn said(
    pipeline: &TextToSpeech,
    options: &EvalOptions,
    text: &str,
    voice: Voice<'_>,
    pace: &mut Pace,
) -> Result<Made, Failure> {
    let own = &pipeline.parts().text;
    let known = |names: &[String], name: &str| names.iter().find(|known| *known == name).cloned();
    let (name, speed, reference) = match voice {
        Voice::Named(row) => (
            known(own.voices(), &row.voice),
            known(own.speeds(), &row.speed),
            None,
        ),
        Voice::Of(reference) => (None, None, Some(reference)),
    };
    let plan = pipeline.plan(&Request {
        text: text.into(),
        voice: name,
        reference,
        speed,
        seconds: None,
        seed: options.seed,
        sampler: sampler(&pipeline.parts().sampler, options),
        checks: checks(&options.without),
    })?;
    let begun = Instant::now();
    let mut samples = Vec::new();
    let whole = pipeline.run(&plan, &mut |piece| {
        if samples.is_empty() {
            pace.seconds_to_first_sound += begun.elapsed().as_secs_f64();
        }
        samples.extend(piece.samples);
        if let Some(end) = piece.end {
            pace.retakes += end.retakes;
            pace.faults += usize::from(end.fault.is_some());
        }
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    if !whole {
        return Err(Failure::Interrupted);
    }
    let rate = pipeline.sample_rate_hz();
    pace.compute_seconds += begun.elapsed().as_secs_f64();
    pace.seconds += samples.len() as f64 / f64::from(rate);
    Ok(Made {
        sound: mono(samples, rate),
        text: text.into(),
    })
}

/// The pipeline's settings with those that were given; speech knows no guidance.
fn sampler(own: &SamplerConfig, options: &EvalOptions) -> SamplerConfig {
    let given = &options.sampler;
    SamplerConfig {
        temperature: given.temperature.unwrap_or(own.temperature),
        top_k: given.top_k.or(own.top_k),
        top_p: given.top_p.or(own.top_p),
        min_p: given.min_p.or(own.min_p),
        ..own.clone()
    }
}

fn mono(samples: Vec<f32>, sample_rate_hz: u32) -> Sound {
    Sound {
        channels: vec![samples],
        sample_rate_hz,
    }
}

/// What a recogniser understands of the recordings, of them after the tokenizer alone, and of what was generated and cloned.
fn listened(
    recogniser: &Recogniser,
    pipeline: &TextToSpeech,
    known: &[Recording],
    generated: &[Made],
    cloned: &[Made],
) -> Result<WordErrorTable, Failure> {
    let rate = pipeline.sample_rate_hz();
    let original = known
        .iter()
        .map(|row| (mono(row.samples(), rate), row.text.clone()));
    let original: Vec<(Sound, String)> = original.collect();
    let coded: Result<Vec<(Sound, String)>, Failure> = original
        .iter()
        .map(|(sound, text)| Ok((there_and_back(pipeline, sound)?, text.clone())))
        .collect();
    let of = |made: &[Made]| -> Vec<(Sound, String)> {
        let all = made.iter();
        all.map(|made| (made.sound.clone(), made.text.clone()))
            .collect()
    };
    let kinds = [
        ("original", original.clone()),
        ("tokenizer", coded?),
        ("generated", of(generated)),
        ("cloned", of(cloned)),
    ];
    let heard = |open: bool| {
        let kinds = kinds.iter().filter(|(_, all)| !all.is_empty());
        let counted = kinds.map(|(kind, all)| Ok((*kind, recogniser.listen(all, open)?)));
        counted.collect::<Result<Vec<_>, Failure>>()
    };
    Ok(WordErrorTable {
        grammar: heard(false)?,
        open: heard(true)?,
    })
}

/// A sound after the tokenizer alone.
fn there_and_back(pipeline: &TextToSpeech, sound: &Sound) -> Result<Sound, Failure> {
    let parts = pipeline.parts();
    let samples = sound.channels[0].clone();
    let shape = [1, 1, samples.len()];
    let coded = parts.codec.encode_sound(Waveform {
        samples: Tensor::from_data(TensorData::new::<f32, _>(samples, shape), &parts.device),
        sample_rate_hz: sound.sample_rate_hz,
    })?;
    Ok(Sound::of_waveform(&parts.codec.decode_sound(&coded)?).remove(0))
}

/// Whose voice is heard in what was made.
fn voices(
    known: &[Recording],
    new: &[Recording],
    generated: &[Made],
    cloned: &[Made],
) -> VoiceReport {
    let print_of = |sound: &Sound| voice_print(&sound.channels[0], sound.sample_rate_hz);
    let rate = generated[0].sound.sample_rate_hz;
    let prints_of = |all: &[Recording]| -> Vec<Option<Vec<f64>>> {
        let all = all.iter();
        all.map(|row| voice_print(&row.samples(), rate)).collect()
    };
    let references = prints_of(new);
    let named = known.iter().zip(prints_of(known));
    let all = named.chain(new.iter().zip(references.clone()));
    let prints = all.filter_map(|(row, print)| Some((row.voice.clone(), print?)));
    let voices = Voices::new(prints.collect());
    let mut report = VoiceReport {
        named_nearest: 0,
        named: generated.len(),
        clones_nearest: 0,
        clones: cloned.len(),
        to_reference: 0.0,
        to_voice: 0.0,
        to_nearest_other: 0.0,
    };
    for (row, made) in known.iter().zip(generated) {
        let print = print_of(&made.sound);
        let nearest = print.map(|print| {
            voices
                .nearest(&print)
                .first()
                .map(|found| found.0 == row.voice)
        });
        report.named_nearest += usize::from(nearest == Some(Some(true)));
    }
    let mut measured = 0u32;
    for (at, made) in cloned.iter().enumerate() {
        let (Some(print), Some(reference)) = (print_of(&made.sound), &references[at]) else {
            continue;
        };
        let nearest = voices.nearest(&print);
        let own = &new[at].voice;
        let first = nearest.first();
        report.clones_nearest += usize::from(first.is_some_and(|found| found.0 == own));
        report.to_reference += voices.similarity(&print, reference);
        let of = |own_voice: bool| nearest.iter().find(|(name, _)| (name == own) == own_voice);
        report.to_voice += of(true).map_or(0.0, |found| found.1);
        report.to_nearest_other += of(false).map_or(0.0, |found| found.1);
        measured += 1;
    }
    for sum in [
        &mut report.to_reference,
        &mut report.to_voice,
        &mut report.to_nearest_other,
    ] {
        *sum /= f64::from(measured.max(1));
    }
    report
}

fn tell(report: &Report, json: bool, data: &Path) {
    if json {
        return progress::say(&json!(report).to_string());
    }
    let Report { pace, voices, .. } = report;
    let books: Vec<String> = report
        .loss
        .iter()
        .map(|loss| format!("{loss:.3}"))
        .collect();
    progress::say(&format!(
        "held-out   {} recordings and {} clones, {}, seed {}",
        report.recordings,
        report.clones,
        data.display(),
        report.seed
    ));
    progress::say(&format!(
        "loss       {:.4} nats a code; by codebook {}",
        report.loss_per_code,
        books.join(" ")
    ));
    progress::say(&format!(
        "pace       {:.1} s of speech, {:.3} of real time, first sound after {:.3} s; {} retakes, {} faults",
        pace.seconds, pace.real_time_factor, pace.seconds_to_first_sound, pace.retakes, pace.faults
    ));
    if let Some(table) = &report.word_errors {
        let heads = table.grammar.iter().map(|(kind, _)| format!("{kind:>12}"));
        progress::say(&format!("word errors{}", heads.collect::<String>()));
        for (name, row) in [("grammar", &table.grammar), ("open", &table.open)] {
            let cells = row
                .iter()
                .map(|(_, errors)| format!("{:10.1} %", errors.percent()));
            progress::say(&format!("  {name:9}{}", cells.collect::<String>()));
        }
    }
    progress::say(&format!(
        "voices     {} of {} named ones are nearest to their voice",
        voices.named_nearest, voices.named
    ));
    if voices.clones > 0 {
        progress::say(&format!(
            "           {} of {} clones are nearest to theirs: likeness {:.2} to the reference, {:.2} to its voice, {:.2} to the nearest other one",
            voices.clones_nearest,
            voices.clones,
            voices.to_reference,
            voices.to_voice,
            voices.to_nearest_other
        ));
    }
}
