//! `ravel bench`: how long a whole picture takes at a published model's sizes, from random weights.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use ravel_core::Seed;
use ravel_pipeline::{Definition, Source, build_random};
use serde::Serialize;
use serde_json::json;
use text_to_image::{Request, Shown, TINY, TextToImage};

use crate::arguments::{BenchCommand, BenchImageOptions, Preset};
use crate::failure::Failure;
use crate::progress::say;
use crate::{bench_decode, bench_tokenizer, interrupt, pipelines, system};

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
        BenchCommand::Tokenizer(options) => bench_tokenizer::run(options),
        BenchCommand::Decode(options) => bench_decode::run(options),
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
    use_threads(options.threads)?;
    let (mut definition, source) = definition(options.preset)?;
    if let Some(kept) = options.weights.weights_type {
        definition.weights_type = kept;
    }
    let device = options.device.device.open()?;
    let start = Instant::now();
    device.seed(Seed::new(options.seed).named("random weights").number());
    let parts = build_random(&definition, &source, &device)?;
    let pipeline = TextToImage::new(parts);
    let load = start.elapsed();

    let request = Request {
        prompts: vec![CLASS.into()],
        seed: options.seed,
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
    report(options, &definition, &seconds, codes, (width, height));
    Ok(())
}

/// Limits the threads that products are computed on.
pub fn use_threads(threads: Option<usize>) -> Result<(), Failure> {
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
    codes: usize,
    (width, height): (usize, usize),
) {
    let threads = rayon::current_num_threads();
    let peak = system::peak_memory().map(|bytes| bytes as f64 / (1 << 20) as f64);
    if options.json {
        let row = json!({
            "preset": definition.name,
            "width": width,
            "height": height,
            "codes": codes,
            "seed": options.seed,
            "threads": threads,
            "seconds": seconds,
            "peak-mib": peak,
        });
        return say(&row.to_string());
    }
    let name = &definition.name;
    say(&format!(
        "{name}: {width} x {height}, {codes} codes, guidance on, random weights, {threads} threads"
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
    match peak {
        Some(peak) => say(&format!("{:17} {peak:9.0} MiB", "peak memory")),
        None => say("peak memory       not told by this system"),
    }
}
