//! `ravel bench speech`: how long a text takes to be spoken, from random weights.
//!
//! Random weights end an utterance by chance, so none is ended: each is as long as its symbols allow.

use std::ops::ControlFlow;
use std::time::Instant;

use ravel_kernels::isa::Isa;
use ravel_kernels::pool;
use ravel_pipeline::{Costs, Span, SpeechParts, Work, build_random_speech};
use serde_json::json;
use text_to_speech::{Checks, Plan, Request, SHAPES, TextToSpeech};

use super::limit::{Machine, Times};
use super::{sequence, use_threads};
use crate::arguments::{BenchSpeechOptions, name_of};
use crate::failure::Failure;
use crate::progress::say;
use crate::{interrupt, pipelines, system};

/// Seconds of one time that the text was spoken.
struct Spoken {
    first_sound: f64,
    whole: f64,
    /// Of sound, pauses included.
    sound: f64,
}

/// Runs it.
pub fn run(options: &BenchSpeechOptions) -> Result<(), Failure> {
    let bench = &options.bench;
    use_threads(bench.threads)?;
    let preset = name_of(&options.preset);
    let shape = SHAPES.iter().find(|(name, _)| *name == preset);
    let (_, files) = shape.expect("a preset for every name");
    let (mut definition, _) = pipelines::of_files(&preset, files)?;
    definition.weights_type = sequence::kept(options.weights);
    let device = bench.device.device;
    let device = device.open_for(definition.weights_type)?;
    let begin = Instant::now();
    super::seed(bench, &device);
    let (parts, costs) = build_random_speech(&definition, &device)?;
    let pipeline = TextToSpeech::new(parts);
    let load = begin.elapsed().as_secs_f64();
    let plan = pipeline.plan(&request(options, &pipeline))?;
    let steps = steps(pipeline.parts(), &options.text)?;
    let mut machine = Machine::new(Some(costs.weight_bytes));
    let mut all = Vec::new();
    for _ in 0..=options.rounds {
        machine.measure();
        all.push(spoken(&pipeline, &plan)?);
    }
    all.remove(0);
    let median = |of: fn(&Spoken) -> f64| Times::new(all.iter().map(of).collect()).median();
    let (first, whole, sound) = (
        median(|spoken| spoken.first_sound),
        median(|spoken| spoken.whole),
        median(|spoken| spoken.sound),
    );
    let (mut work, mut idealised) = (Work::default(), 0.0);
    for step in works(&steps, &costs) {
        work += step;
        idealised += machine.least(step, sequence::kept(options.weights));
    }
    let limit = machine.limit(work, idealised, whole);
    let positions: usize = steps.iter().map(|[_, steps]| steps).sum();
    let (threads, instructions) = (pool::global().threads(), Isa::best().name());
    let kept = sequence::kept(options.weights).name();
    if bench.json {
        let row = json!({
            "preset": preset,
            "weights-type": kept,
            "utterances": steps.len(),
            "steps": positions,
            "seconds-of-sound": sound,
            "rounds": options.rounds,
            "threads": threads,
            "instructions": instructions,
            "seed": bench.seed,
            "seconds": { "load": load, "first-sound": first, "whole": whole },
            "real-time-factor": whole / sound,
            "steps-per-second": positions as f64 / whole,
            "limit": limit,
            "peak-mib": system::peak_mib(),
        });
        say(&row.to_string());
        return Ok(());
    }
    say(&format!(
        "{preset}: weights {kept}, {} utterances, {sound:.1} s of sound in {positions} steps, random weights, {threads} threads, {instructions}",
        steps.len()
    ));
    for (part, seconds) in [("load", load), ("first sound", first), ("whole", whole)] {
        say(&format!("{part:17} {seconds:9.4} s"));
    }
    say(&format!(
        "pace              {:9.4} of real time, {:.1} steps a second",
        whole / sound,
        positions as f64 / whole
    ));
    limit.print("for all steps of the sequence model (the codec not counted)");
    if let Some(peak) = system::peak_mib() {
        say(&format!("{:17} {peak:9.0} MiB", "peak memory"));
    }
    Ok(())
}

fn request(options: &BenchSpeechOptions, pipeline: &TextToSpeech) -> Request {
    Request {
        text: options.text.clone(),
        voice: None,
        reference: None,
        speed: None,
        seconds: None,
        seed: options.bench.seed,
        sampler: pipeline.parts().sampler.clone(),
        checks: Checks {
            end: false,
            loops: false,
            ..Checks::default()
        },
    }
}

fn spoken(pipeline: &TextToSpeech, plan: &Plan) -> Result<Spoken, Failure> {
    let begin = Instant::now();
    let (mut first, mut samples) = (None, 0);
    let whole = pipeline.run(plan, &mut |piece| {
        first.get_or_insert_with(|| begin.elapsed().as_secs_f64());
        samples += piece.samples.len();
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    match whole {
        true => Ok(Spoken {
            first_sound: first.unwrap_or(seconds),
            whole: seconds,
            sound: samples as f64 / f64::from(pipeline.sample_rate_hz()),
        }),
        false => Err(Failure::Interrupted),
    }
}

/// Positions in front of each utterance, and those that are chosen.
fn steps(parts: &SpeechParts, text: &str) -> Result<Vec<[usize; 2]>, Failure> {
    let (config, reader) = (parts.model.head.config(), &parts.text);
    let utterances = reader.utterances(text);
    let utterances = utterances.map_err(text_to_speech::Error::from)?;
    let steps = utterances.iter().map(|(_, symbols)| {
        let front = reader.ids(None, "", symbols).len();
        let frames = reader.most_frames(symbols.len());
        let layout = config.arrangement.layout(frames, config.depth);
        [front, layout.len()]
    });
    Ok(steps.collect())
}

/// What the sequence model does, step by step.
fn works<'a>(steps: &'a [[usize; 2]], costs: &'a Costs) -> impl Iterator<Item = Work> + 'a {
    steps.iter().flat_map(move |&[front, len]| {
        let span = move |new, past, scored| Span {
            rows: 1,
            new,
            past,
            scored,
            causal: new == 1,
        };
        let rest = (0..len).map(move |at| costs.step(span(1, front + at, 1)));
        std::iter::once(costs.step(span(front, 0, 0))).chain(rest)
    })
}
