//! `ravel bench decode`: how long a position takes at a model's sizes, from random weights, and how near that comes to what the
//! machine can do.

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::{Attend, Backbone, Condition, Seed, State, StepInput};
use ravel_kernels::isa::Isa;
use ravel_kernels::machine::{Memory, product_rate};
use ravel_kernels::pool;
use ravel_pipeline::{FreshLanguage, KeptAs, build_random_language};
use serde::Serialize;
use serde_json::json;
use text_generation::SHAPES;

use crate::arguments::BenchDecodeOptions;
use crate::failure::Failure;
use crate::progress::say;
use crate::{bench, interrupt, pipelines, system};

/// Positions that are not counted, at the start of each round.
const WARM: usize = 4;
/// Times that decoding and the machine are measured in turn.
const ROUNDS: usize = 4;
/// Passes over memory in a round; the first is not counted.
const PASSES: usize = 6;

/// Seconds of one position, sorted.
struct Times(Vec<f64>);

impl Times {
    fn new(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    fn at(&self, share: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * share).round() as usize]
    }
}

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
    least_milliseconds: f64,
    /// That over the median.
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
    bench::use_threads(options.threads)?;
    let preset = options.preset.name();
    let (_, files) = SHAPES
        .iter()
        .find(|(name, _)| *name == preset)
        .expect("a preset for every name");
    let (mut definition, _) = pipelines::of_files(preset, files)?;
    definition.weights_type = kept(options);
    let device = options.device.device.open()?;
    device.seed(Seed::new(options.seed).named("random weights").number());
    let model = build_random_language(&definition, &device)?;
    let capacity = options.at + options.tokens + WARM;
    if capacity > model.context {
        return Err(Failure::input_with(
            format!(
                "{capacity} positions are asked for, the model has {}",
                model.context
            ),
            "`--at` and `--tokens` together are too many",
        ));
    }
    let report = measure(options, preset, &model, &device)?;
    match options.json {
        true => say(&json!(report).to_string()),
        false => print(&report),
    }
    Ok(())
}

/// Random weights are not of a narrower type by chance: f32 where nothing is asked for.
fn kept(options: &BenchDecodeOptions) -> KeptAs {
    match options.weights.weights_type {
        None | Some(KeptAs::Auto) => KeptAs::F32,
        Some(kept) => kept,
    }
}

fn measure(
    options: &BenchDecodeOptions,
    preset: &str,
    model: &FreshLanguage,
    device: &Device,
) -> Result<Report, Failure> {
    let (pool, isa) = (pool::global(), Isa::best());
    let memory = Memory::new(model.weight_bytes);
    let products = product_rate(pool, isa);
    let (mut steps, mut passes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let read = (0..PASSES).map(|_| memory.pass(pool, isa));
        passes.extend(read.skip(1));
        let mut run = Run::new(options, model, device);
        for position in 0..WARM + options.tokens {
            let begin = Instant::now();
            run.step();
            if position >= WARM {
                steps.push(begin.elapsed().as_secs_f64());
            }
            if interrupt::asked() {
                return Err(Failure::Interrupted);
            }
        }
    }
    let (steps, passes) = (Times::new(steps), Times::new(passes));
    let seen = options.at + WARM + options.tokens / 2;
    let remembered = options.batch * seen * model.remembered_bytes;
    let read = (model.weight_bytes + remembered) as f64;
    let flops = 2.0 * (model.weights * options.batch) as f64;
    let (median, rate) = (steps.at(0.5), passes.at(0.5));
    // Eight bits at a time there are more products a second; reading is what counts there.
    let multiply = match kept(options) {
        KeptAs::Q8 | KeptAs::Q4 => 0.0,
        _ => flops / products,
    };
    let least = (read / rate).max(multiply);
    Ok(Report {
        preset: preset.into(),
        weights_type: kept(options).name(),
        batch: options.batch,
        at: options.at,
        tokens: options.tokens,
        threads: pool.threads(),
        instructions: isa.name(),
        seed: options.seed,
        milliseconds: Spread {
            least: 1e3 * steps.at(0.0),
            median: 1e3 * median,
            tenth_from_top: 1e3 * steps.at(0.9),
        },
        tokens_per_second: options.batch as f64 / median,
        bytes_per_step: [model.weight_bytes, remembered],
        gigabytes_per_second: read / median / 1e9,
        memory_gigabytes_per_second: rate / 1e9,
        gigaflops: products / 1e9,
        least_milliseconds: 1e3 * least,
        share_of_limit: least / median,
        peak_mib: system::peak_memory().map(|bytes| bytes as f64 / (1 << 20) as f64),
    })
}

/// A sequence that grows by the most likely id, row by row.
struct Run<'a> {
    model: &'a FreshLanguage,
    state: State,
    condition: Condition,
    ids: Vec<i64>,
    at: usize,
    device: &'a Device,
}

impl<'a> Run<'a> {
    fn new(options: &BenchDecodeOptions, model: &'a FreshLanguage, device: &'a Device) -> Self {
        let capacity = options.at + options.tokens + WARM;
        let mut run = Self {
            model,
            state: model.backbone.start(options.batch, capacity),
            condition: Condition::default(),
            ids: (0..options.batch as i64).collect(),
            at: 0,
            device,
        };
        if options.at > 0 {
            let ids = (0..options.batch * options.at)
                .map(|at| (at % 97) as i64)
                .collect();
            run.forward(ids, options.at);
        }
        run
    }

    fn forward(&mut self, ids: Vec<i64>, n: usize) -> Tensor<3> {
        let batch = self.state.batch;
        let ids = TensorData::new(ids, [batch, n]);
        let ids = Tensor::<2, Int>::from_data(ids, self.device);
        let axes = self.model.backbone.config().axes();
        // A picture's rows and columns are as good as any: what a step costs does not depend on them.
        let coords: Vec<i64> = (self.at..self.at + n)
            .flat_map(|at| {
                (0..axes).map(move |axis| if axis + 1 == axes { at } else { at / 16 } as i64)
            })
            .collect();
        let coords = Tensor::from_data(TensorData::new(coords, [n, axes]), self.device);
        let input = StepInput {
            embedded: self.model.head.embedded(ids),
            coords,
            attend: Attend::Causal,
        };
        self.at += n;
        self.model
            .backbone
            .step(input, &self.condition, &mut self.state)
    }

    fn step(&mut self) {
        let hidden = self.forward(self.ids.clone(), 1);
        let scores = self.model.head.scores(hidden);
        let width = scores.dims()[2];
        let scores = scores.into_data();
        let scores = scores.try_into_vec::<f32>().expect("scores of f32");
        self.ids = scores
            .chunks_exact(width)
            .map(|row| greatest(row) as i64)
            .collect();
    }
}

fn greatest(scores: &[f32]) -> usize {
    let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter().position(|&score| score == best).unwrap_or(0)
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
        "limit             {:9.3} ms a step, {:.0} % of it reached",
        report.least_milliseconds,
        100.0 * report.share_of_limit
    ));
    if let Some(peak) = report.peak_mib {
        say(&format!("{:17} {peak:9.0} MiB", "peak memory"));
    }
}
