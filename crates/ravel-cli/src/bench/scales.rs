//! `ravel bench decode` of pictures that are made scale by scale.

use std::ops::ControlFlow;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use ravel_core::{Codes, Generator, Start, Unit};
use ravel_decode::SamplerConfig;
use ravel_kernels::isa::Isa;
use ravel_kernels::pool;
use ravel_pipeline::{Costs, Parts, Span, Work, build_random};
use serde::Serialize;
use serde_json::json;

use super::decode::ROUNDS;
use super::limit::{Limit, Machine, Times};
use super::{CLASS, sequence};
use crate::arguments::{BenchDecodeOptions, name_of};
use crate::failure::Failure;
use crate::progress::say;
use crate::{interrupt, pipelines, system};

/// One scale.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Scale {
    /// Codes of a row.
    positions: usize,
    /// The middle of the rounds.
    milliseconds: f64,
    /// What it would take at the machine's rates.
    idealised_milliseconds: f64,
}

/// What a measurement says.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    preset: String,
    weights_type: &'static str,
    batch: usize,
    threads: usize,
    instructions: &'static str,
    seed: u64,
    scales: Vec<Scale>,
    /// Of all scales.
    milliseconds: f64,
    /// Of all rows together.
    tokens_per_second: f64,
    /// Bytes of weights, read once a scale.
    weight_bytes: usize,
    limit: Limit,
    peak_mib: Option<f64>,
}

/// Runs it.
pub fn run(options: &BenchDecodeOptions) -> Result<(), Failure> {
    let preset = name_of(&options.preset);
    if options.tokens.is_some() || options.at.is_some() {
        return Err(Failure::input_with(
            format!("--tokens and --at count positions; {preset} makes a picture scale by scale"),
            "leave them out",
        ));
    }
    let (mut definition, source) = pipelines::open(&preset)?;
    definition.weights_type = sequence::kept(options.weights);
    let device = options.bench.device.device;
    let device = device.open_for(definition.weights_type)?;
    super::seed(&options.bench, &device);
    let (parts, costs) = build_random(&definition, &source, &device)?;
    let units = parts.head.units(&parts.tokenizer.image_spec().layout);
    let mut machine = Machine::new(Some(costs.weight_bytes));
    let mut times = vec![Vec::new(); units.len()];
    for _ in 0..ROUNDS {
        machine.measure();
        for (times, seconds) in times.iter_mut().zip(picture(&parts, options, &device)?) {
            times.push(seconds);
        }
    }
    let report = report(options, preset, &units, &costs, &machine, times);
    match options.bench.json {
        true => say(&json!(report).to_string()),
        false => print(&report),
    }
    Ok(())
}

/// Seconds of each scale of one picture, or of several side by side, the likeliest codes chosen.
fn picture(
    parts: &Parts,
    options: &BenchDecodeOptions,
    device: &Device,
) -> Result<Vec<f64>, Failure> {
    let layout = parts.tokenizer.image_spec().layout.clone();
    let class = parts.conditioner.read(CLASS);
    let class = class.map_err(Failure::runtime)?;
    let rows = vec![class; options.batch];
    let numbers: Vec<u64> = (0..options.batch as u64).collect();
    let likeliest = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    let units = parts.head.units(&layout).len();
    let mut sampler = likeliest.build(ravel_core::Seed::new(0), &numbers, units);
    let generator = Generator {
        backbone: &*parts.backbone,
        head: &*parts.head,
        pyramid: parts.tokenizer.pyramid(),
    };
    let start = Start {
        condition: parts.conditioner.condition(&rows, false, device),
        prompt: Codes {
            ids: Tensor::zeros([options.batch, 1, 0], device),
            layout: layout.clone(),
        },
    };
    let mut seconds = Vec::new();
    let mut begin = Instant::now();
    let mut watch = |_: &Unit, _: &Codes| {
        seconds.push(begin.elapsed().as_secs_f64());
        begin = Instant::now();
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let decoding = &parts.decoding;
    decoding.decode(&generator, start, &layout, &mut *sampler, &mut watch)?;
    match interrupt::asked() {
        true => Err(Failure::Interrupted),
        false => Ok(seconds),
    }
}

/// What a scale does.
fn work(unit: &Unit, rows: usize, costs: &Costs) -> Work {
    costs.step(Span {
        rows,
        new: unit.len(),
        past: unit.span.start,
        scored: unit.len(),
        causal: false,
    })
}

fn report(
    options: &BenchDecodeOptions,
    preset: String,
    units: &[Unit],
    costs: &Costs,
    machine: &Machine,
    times: Vec<Vec<f64>>,
) -> Report {
    let kept = sequence::kept(options.weights);
    let (mut all, mut idealised, mut whole) = (Work::default(), 0.0, 0.0);
    let scales = units.iter().zip(times).map(|(unit, times)| {
        let work = work(unit, options.batch, costs);
        let (median, least) = (Times::new(times).median(), machine.least(work, kept));
        all += work;
        idealised += least;
        whole += median;
        Scale {
            positions: unit.len(),
            milliseconds: 1e3 * median,
            idealised_milliseconds: 1e3 * least,
        }
    });
    let scales: Vec<Scale> = scales.collect();
    let codes: usize = units.iter().map(Unit::len).sum();
    Report {
        preset,
        weights_type: kept.name(),
        batch: options.batch,
        threads: pool::global().threads(),
        instructions: Isa::best().name(),
        seed: options.bench.seed,
        scales,
        milliseconds: 1e3 * whole,
        tokens_per_second: (options.batch * codes) as f64 / whole,
        weight_bytes: costs.weight_bytes,
        limit: machine.limit(all, idealised, whole),
        peak_mib: system::peak_mib(),
    }
}

fn print(report: &Report) {
    say(&format!(
        "{}: weights {}, {} rows, random weights, {} threads, {}",
        report.preset, report.weights_type, report.batch, report.threads, report.instructions
    ));
    for scale in &report.scales {
        say(&format!(
            "{:4} codes        {:9.3} ms, idealised {:.3} ms",
            scale.positions, scale.milliseconds, scale.idealised_milliseconds
        ));
    }
    say(&format!("all scales        {:9.3} ms", report.milliseconds));
    say(&format!(
        "tokens            {:9.1} a second",
        report.tokens_per_second
    ));
    report.limit.print("for all scales");
    if let Some(peak) = report.peak_mib {
        say(&format!("{:17} {peak:9.0} MiB", "peak memory"));
    }
}
