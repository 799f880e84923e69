//! `ravel bench decode`: how long a position takes at a model's sizes, from random weights, and how near that comes to what the
//! machine can do.

use std::time::Instant;

use ravel_kernels::isa::Isa;
use ravel_kernels::pool;
use ravel_pipeline::{FreshLanguage, KeptAs, Span};
use serde::Serialize;
use serde_json::json;

use super::limit::{Machine, Times};
use super::sequence::{self, Sequence};
use super::{scales, use_threads};
use crate::arguments::{BenchDecodeOptions, name_of};
use crate::failure::Failure;
use crate::progress::say;
use crate::{interrupt, system};

/// Positions that are not counted, at the start of each round.
const WARM: usize = 4;
/// Times that decoding and the machine are measured in turn.
pub const ROUNDS: usize = 4;
/// Positions of a round where none are asked for.
const TOKENS: usize = 64;

/// What a measurement says.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    preset: String,
    weights_type: &'static str,
    batch: usize,
    /// Positions in front of the first one that is counted.
    at: usize,
    tokens: usize,
    threads: usize,
    instructions: &'static str,
    seed: u64,
    /// Of one step of all rows.
    milliseconds: Spread,
    /// Of all rows together.
    tokens_per_second: f64,
    /// Weights, and keys and values on average, that a step reads.
    bytes_per_step: [usize; 2],
    gigabytes_per_second: f64,
    /// What the machine reads per second of as many bytes, over and over.
    memory_gigabytes_per_second: f64,
    /// Products and sums of f32 per second.
    gigaflops: f64,
    /// What a step would take at these rates, the longer of reading and multiplying.
    idealised_milliseconds: f64,
    /// The median over that.
    measured_over_idealised: f64,
    /// That the other way round.
    share_of_limit: f64,
    peak_mib: Option<f64>,
}

#[derive(Serialize)]
struct Spread {
    least: f64,
    median: f64,
    tenth_from_top: f64,
}

/// Runs `ravel bench decode`.
pub fn run(options: &BenchDecodeOptions) -> Result<(), Failure> {
    use_threads(options.bench.threads)?;
    let Some(preset) = options.preset.sequence() else {
        return scales::run(options);
    };
    let device = options.bench.device.device;
    let device = device.open_for(sequence::kept(options.weights))?;
    let size = Size {
        at: options.at.unwrap_or(0),
        tokens: options.tokens.unwrap_or(TOKENS),
    };
    let preset = name_of(&preset);
    let (weights, bench) = (options.weights, &options.bench);
    let model = sequence::open(&preset, weights, size.capacity(), bench, &device)?;
    let report = measure(options, preset, size, &model, &device)?;
    match options.bench.json {
        true => say(&json!(report).to_string()),
        false => print(&report),
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Size {
    at: usize,
    tokens: usize,
}

impl Size {
    fn capacity(self) -> usize {
        self.at.saturating_add(self.tokens + WARM)
    }
}

fn measure(
    options: &BenchDecodeOptions,
    preset: String,
    size: Size,
    model: &FreshLanguage,
    device: &burn::tensor::Device,
) -> Result<Report, Failure> {
    let kept = sequence::kept(options.weights);
    let mut machine = Machine::new(Some(model.costs.weight_bytes));
    let mut steps = Vec::new();
    let mut rows = Sequence::new(model, [options.batch, size.capacity()], device);
    if size.at > 0 {
        rows.append(rows.any_ids(size.at));
    }
    for _ in 0..ROUNDS {
        machine.measure();
        rows.rewind(size.at);
        let mut ids = (0..options.batch as i64).collect();
        for position in 0..WARM + size.tokens {
            let begin = Instant::now();
            ids = rows.append(ids);
            if position >= WARM {
                steps.push(begin.elapsed().as_secs_f64());
            }
            if interrupt::asked() {
                return Err(Failure::Interrupted);
            }
        }
    }
    let steps = Times::new(steps);
    Ok(report(options, preset, size, kept, model, &machine, &steps))
}

fn report(
    options: &BenchDecodeOptions,
    preset: String,
    size: Size,
    kept: KeptAs,
    model: &FreshLanguage,
    machine: &Machine,
    steps: &Times,
) -> Report {
    let costs = &model.costs;
    let past = size.at + WARM + size.tokens / 2;
    let work = costs.step(Span {
        rows: options.batch,
        new: 1,
        past,
        scored: 1,
        causal: true,
    });
    let remembered = options.batch * (past + 1) * costs.remembered_bytes;
    let (median, least) = (steps.median(), machine.least(work, kept));
    Report {
        preset,
        weights_type: kept.name(),
        batch: options.batch,
        at: size.at,
        tokens: size.tokens,
        threads: pool::global().threads(),
        instructions: Isa::best().name(),
        seed: options.bench.seed,
        milliseconds: Spread {
            least: 1e3 * steps.at(0.0),
            median: 1e3 * median,
            tenth_from_top: 1e3 * steps.at(0.9),
        },
        tokens_per_second: options.batch as f64 / median,
        bytes_per_step: [costs.weight_bytes, remembered],
        gigabytes_per_second: work.bytes / median / 1e9,
        memory_gigabytes_per_second: machine.memory_rate() / 1e9,
        gigaflops: machine.product_rate() / 1e9,
        idealised_milliseconds: 1e3 * least,
        measured_over_idealised: median / least,
        share_of_limit: least / median,
        peak_mib: system::peak_mib(),
    }
}

fn print(report: &Report) {
    let Report {
        preset,
        weights_type,
        batch,
        at,
        threads,
        instructions,
        ..
    } = report;
    say(&format!(
        "{preset}: weights {weights_type}, {batch} rows, {} positions from {at} on, random weights, {threads} threads, {instructions}",
        report.tokens
    ));
    let ms = &report.milliseconds;
    say(&format!(
        "step              {:9.3} ms (least {:.3}, nine in ten below {:.3})",
        ms.median, ms.least, ms.tenth_from_top
    ));
    say(&format!(
        "tokens            {:9.1} a second",
        report.tokens_per_second
    ));
    let [weights, remembered] = report.bytes_per_step;
    say(&format!(
        "read per step     {:9.1} MB of weights, {:.1} MB of keys and values",
        weights as f64 / 1e6,
        remembered as f64 / 1e6
    ));
    say(&format!(
        "reading           {:9.1} GB/s; the machine reads as much at {:.1} GB/s and multiplies at {:.0} GFLOP/s",
        report.gigabytes_per_second, report.memory_gigabytes_per_second, report.gigaflops
    ));
    say(&format!(
        "idealised         {:9.3} ms a step; measured {:.2} times that, {:.0} % of the limit reached",
        report.idealised_milliseconds,
        report.measured_over_idealised,
        100.0 * report.share_of_limit
    ));
    if let Some(peak) = report.peak_mib {
        say(&format!("{:17} {peak:9.0} MiB", "peak memory"));
    }
}
