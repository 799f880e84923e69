//! `ravel bench`: how long things take at a published model's sizes, from random weights, beside the least that they could take at
//! the rates at which the machine reads memory and multiplies (Narayanan et al. 2023: the idealised runtime). Here a whole picture.

mod decode;
mod lengths;
mod limit;
mod prefill;
mod scales;
mod sequence;
mod speech;
mod tokenizer;
mod train;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use ravel_core::Seed;
use ravel_pipeline::{Costs, Definition, Parts, Source, Span, Work, build_random};
use serde::Serialize;
use serde_json::json;
use text_to_image::{Request, Shown, TINY, TextToImage};

use crate::arguments::{BenchCommand, BenchImageOptions, BenchOptions, Preset};
use crate::failure::Failure;
use crate::progress::say;
use crate::{interrupt, pipelines, system};
use limit::{Limit, Machine};

/// The class of every measured picture: golden retriever.
const CLASS: &str = "207";

/// Seconds of the parts of one picture.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Seconds {
    /// Until the parts with their weights are there.
    load: f64,
    /// Until the first unit is chosen.
    prefill: f64,
    /// From there until the last one is.
    decode: f64,
    /// From codes to pixels.
    tokenizer_decode: f64,
    /// The picture without loading.
    picture: f64,
    /// All together.
    whole: f64,
}

/// Runs `ravel bench`.
pub fn run(command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Image(options) => image(options),
        BenchCommand::Tokenizer(options) => tokenizer::run(options),
        BenchCommand::Decode(options) => decode::run(options),
        BenchCommand::Prefill(options) => prefill::run(options),
        BenchCommand::Speech(options) => speech::run(options),
        BenchCommand::Train(options) => train::run(options),
    }
}

fn definition(preset: Preset) -> Result<(Definition, Source), Failure> {
    match preset {
        Preset::LlamagenB => pipelines::open("llamagen-b-256"),
        Preset::VarD16 => pipelines::open("var-d16"),
        Preset::Tiny => pipelines::of_files("tiny", TINY),
    }
}

fn image(options: &BenchImageOptions) -> Result<(), Failure> {
    use_threads(options.bench.threads)?;
    let (mut definition, source) = definition(options.preset)?;
    if let Some(kept) = options.weights.weights_type {
        definition.weights_type = kept;
    }
    let device = options.bench.device.device;
    let device = device.open_for(definition.weights_type)?;
    let start = Instant::now();
    seed(&options.bench, &device);
    let (parts, costs) = build_random(&definition, &source, &device)?;
    let pipeline = TextToImage::new(parts);
    let load = start.elapsed();
    let mut machine = Machine::new(Some(costs.weight_bytes));
    machine.measure();
    let request = Request {
        prompts: vec![CLASS.into()],
        seed: options.bench.seed,
        first: 0,
        sampler: pipeline.parts().sampler.clone(),
    };
    let begin = Instant::now();
    let (mut first, mut last) = (Duration::ZERO, Duration::ZERO);
    let mut codes = 0;
    let output = pipeline.run(&request, &mut |progress| {
        last = begin.elapsed();
        if progress.done == 1 {
            first = last;
        }
        if let Shown::Codes(all) = progress.shown {
            codes = all.filled();
        }
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    let pixels = output.ok_or(Failure::Interrupted)?.images.pixels;
    let sum = pixels.clone().sum().into_data().convert::<f32>();
    if sum.iter::<f32>().any(|sum| !sum.is_finite()) {
        return Err(Failure::runtime("the picture holds NaN or infinity"));
    }
    let picture = begin.elapsed();
    let seconds = Seconds {
        load: load.as_secs_f64(),
        prefill: first.as_secs_f64(),
        decode: (last - first).as_secs_f64(),
        tokenizer_decode: (picture - last).as_secs_f64(),
        picture: picture.as_secs_f64(),
        whole: start.elapsed().as_secs_f64(),
    };
    let [_, _, height, width] = pixels.dims();
    machine.measure();
    let limit = limit(options, pipeline.parts(), &costs, &machine, seconds.picture);
    report(
        options,
        &definition,
        &seconds,
        limit,
        codes,
        (width, height),
    );
    Ok(())
}

/// What a picture would take at the machine's rates: its units one after the other, then the tokenizer, its products as its formula
/// has them.
fn limit(
    options: &BenchImageOptions,
    parts: &Parts,
    costs: &Costs,
    machine: &Machine,
    seconds: f64,
) -> Limit {
    let kept = sequence::kept(options.weights);
    let rows = 1 + usize::from(parts.sampler.is_guided());
    let (mut all, mut idealised) = (Work::default(), 0.0);
    for unit in parts.head.units(&parts.tokenizer.image_spec().layout) {
        let step = costs.step(Span {
            rows,
            new: unit.len(),
            past: unit.span.start,
            scored: unit.len(),
            causal: false,
        });
        idealised += machine.least(step, kept);
        all += step;
    }
    let flops = 2.0 * parts.tokenizer.decode_products().unwrap_or(0) as f64;
    idealised += flops / machine.product_rate();
    all += Work { bytes: 0.0, flops };
    machine.limit(all, idealised, seconds)
}

/// Seeds what weights are drawn from.
fn seed(options: &BenchOptions, device: &Device) {
    device.seed(Seed::new(options.seed).named("random weights").number());
}

/// Limits the threads that products are computed on.
fn use_threads(threads: Option<usize>) -> Result<(), Failure> {
    let Some(threads) = threads else {
        return Ok(());
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().map_err(Failure::runtime)
}

fn report(
    options: &BenchImageOptions,
    definition: &Definition,
    seconds: &Seconds,
    limit: Limit,
    codes: usize,
    (width, height): (usize, usize),
) {
    let threads = rayon::current_num_threads();
    let peak = system::peak_mib();
    let kept = sequence::kept(options.weights).name();
    let pace = codes as f64 / (seconds.prefill + seconds.decode);
    if options.bench.json {
        let row = json!({
            "preset": definition.name,
            "width": width,
            "height": height,
            "codes": codes,
            "codes-per-second": pace,
            "weights-type": kept,
            "seed": options.bench.seed,
            "threads": threads,
            "seconds": seconds,
            "limit": limit,
            "peak-mib": peak,
        });
        return say(&row.to_string());
    }
    let name = &definition.name;
    say(&format!(
        "{name}: weights {kept}, {width} x {height}, {codes} codes, guidance on, random weights, {threads} threads"
    ));
    for (part, seconds) in [
        ("load", seconds.load),
        ("prefill", seconds.prefill),
        ("decode", seconds.decode),
        ("tokenizer decode", seconds.tokenizer_decode),
        ("picture", seconds.picture),
        ("whole", seconds.whole),
    ] {
        say(&format!("{part:17} {seconds:9.3} s"));
    }
    say(&format!("codes             {pace:9.1} a second"));
    limit.print("a picture");
    match peak {
        Some(peak) => say(&format!("{:17} {peak:9.0} MiB", "peak memory")),
        None => say("peak memory       not told by this system"),
    }
}
