//! `ravel bench tokenizer`: how long the decoder of a tokenizer takes at a published model's sizes, from random weights and codes.

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::{Codes, DecodeType, ImageTokenizer, Images, Seed};
use ravel_pipeline::{TokenizerPart, Work, fresh_tokenizer};
use serde::Serialize;
use serde_json::json;
use text_to_image::TINY;

use super::limit::{Limit, Machine};
use super::use_threads;
use crate::arguments::{BenchTokenizerOptions, DecodeKind, TokenizerPreset, name_of};
use crate::failure::Failure;
use crate::progress::say;
use crate::{interrupt, pipelines, system};

/// Pixels a side of a code, in all presets.
const STRIDE: usize = 16;

/// What was measured.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Seconds {
    /// Until the weights are there.
    load: f64,
    /// The first picture, for which the weights are laid out.
    first: f64,
    /// The middle one of the others.
    decode: f64,
    /// The fastest of the others.
    least: f64,
}

/// Runs it.
pub fn run(options: &BenchTokenizerOptions) -> Result<(), Failure> {
    use_threads(options.bench.threads)?;
    let (definition, source) = match options.preset {
        TokenizerPreset::LlamagenVq16 => pipelines::open("llamagen-b-256"),
        TokenizerPreset::VarVqvae => pipelines::open("var-d16"),
        TokenizerPreset::Tiny => pipelines::of_files("tiny", TINY),
    }?;
    drop(source);
    let device = options.bench.device.device.open()?;
    let begin = Instant::now();
    super::seed(&options.bench, &device);
    let mut part = definition.tokenizer_part()?.clone();
    if let Some(size) = options.size {
        resize(&mut part, size)?;
    }
    let mut tokenizer = fresh_tokenizer(&part, &device)?;
    let load = begin.elapsed().as_secs_f64();
    (options.decode).tell(&mut *tokenizer, options.bench.device.device)?;
    if options.kind == DecodeKind::Bf16 && !tokenizer.decode_in(DecodeType::Bf16) {
        return Err(Failure::input("this tokenizer decodes in f32 alone"));
    }
    let codes = random_codes(&*tokenizer, options.bench.seed, &device);
    let mut times = Vec::new();
    let mut picture = None;
    for _ in 0..=options.rounds {
        if interrupt::asked() {
            return Err(Failure::Interrupted);
        }
        let begin = Instant::now();
        picture = Some(decoded(&*tokenizer, &codes)?);
        times.push(begin.elapsed().as_secs_f64());
    }
    let peak = system::peak_mib();
    // Behind the peak, which shall not count the memory that is read here.
    let mut machine = Machine::new(None);
    machine.measure();
    let picture = picture.expect("a picture was decoded");
    let quality = match options.kind {
        DecodeKind::F32 => None,
        DecodeKind::Bf16 => {
            tokenizer.decode_in(DecodeType::F32);
            Some(psnr(&picture, &decoded(&*tokenizer, &codes)?))
        }
    };
    let first = times.remove(0);
    times.sort_by(f64::total_cmp);
    let seconds = Seconds {
        load,
        first,
        decode: times[times.len() / 2],
        least: times[0],
    };
    let limit = limit(&*tokenizer, &machine, seconds.decode);
    report(options, &*tokenizer, &seconds, limit, peak, quality);
    Ok(())
}

/// Brings a tokenizer to pictures of another size.
fn resize(part: &mut TokenizerPart, pixels: usize) -> Result<(), Failure> {
    if !pixels.is_multiple_of(STRIDE) {
        return Err(Failure::input(format!(
            "--size: {pixels} pixels, a multiple of {STRIDE} is expected"
        )));
    }
    match part {
        TokenizerPart::LlamagenVq { size, .. } => *size = pixels,
        TokenizerPart::VarVqvae { config, .. } => {
            let sides = &mut config.0.v_patch_nums;
            let (last, cells) = (sides.last().copied().unwrap_or(1), pixels / STRIDE);
            // As many scales, each the same share of the last one.
            sides
                .iter_mut()
                .for_each(|side| *side = (*side * cells).div_ceil(last));
        }
        other => {
            return Err(Failure::input(format!(
                "--size: a tokenizer of kind {} has one size",
                other.kind()
            )));
        }
    }
    Ok(())
}

/// Of a decoder whose products are known: what it would take at the rate of `f32`.
fn limit(tokenizer: &dyn ImageTokenizer, machine: &Machine, seconds: f64) -> Option<Limit> {
    let work = Work {
        bytes: 0.0,
        flops: 2.0 * tokenizer.decode_products()? as f64,
    };
    let idealised = work.flops / machine.product_rate();
    Some(machine.limit(work, idealised, seconds))
}

/// As many codes as a picture has.
fn random_codes(tokenizer: &dyn ImageTokenizer, seed: u64, device: &Device) -> Codes {
    let spec = tokenizer.image_spec();
    let (len, ids) = (spec.layout.len(), spec.codes.codebook_size as u64);
    let seed = Seed::new(seed).named("random codes");
    let id = |at: usize| (seed.indexed(at as u64).number() % ids) as i64;
    let drawn = TensorData::new((0..len).map(id).collect(), [1, len]);
    Codes::flat(
        Tensor::<2, Int>::from_data(drawn, device),
        spec.layout.clone(),
    )
}

/// The pixels of a picture, once they are there.
fn decoded(tokenizer: &dyn ImageTokenizer, codes: &Codes) -> Result<Vec<f32>, Failure> {
    let Images { pixels } = tokenizer.decode(codes)?;
    let data = pixels.into_data().convert::<f32>();
    let pixels = data
        .try_into_vec::<f32>()
        .map_err(|error| Failure::runtime(format!("{error:?}")))?;
    match pixels.iter().all(|pixel| pixel.is_finite()) {
        true => Ok(pixels),
        false => Err(Failure::runtime("the picture holds NaN or infinity")),
    }
}

/// Peak signal-to-noise ratio in decibels, with the range of `wanted` as the peak: random weights need not use the whole range.
fn psnr(found: &[f32], wanted: &[f32]) -> f64 {
    let least = wanted
        .iter()
        .fold(f32::INFINITY, |least, pixel| least.min(*pixel));
    let most = wanted
        .iter()
        .fold(f32::NEG_INFINITY, |most, pixel| most.max(*pixel));
    let squares =
        (found.iter().zip(wanted)).map(|(found, wanted)| f64::from(found - wanted).powi(2));
    let error = squares.sum::<f64>() / wanted.len() as f64;
    10.0 * (f64::from(most - least).powi(2) / error).log10()
}

fn report(
    options: &BenchTokenizerOptions,
    tokenizer: &dyn ImageTokenizer,
    seconds: &Seconds,
    limit: Option<Limit>,
    peak: Option<f64>,
    quality: Option<f64>,
) {
    let threads = rayon::current_num_threads();
    let spec = tokenizer.image_spec();
    let (height, width) = spec.signal_size;
    let codes = spec.layout.len();
    let (name, kind) = (name_of(&options.preset), name_of(&options.kind));
    if options.bench.json {
        let row = json!({
            "preset": name,
            "width": width,
            "height": height,
            "codes": codes,
            "type": kind,
            "decode-memory-mib": options.decode.decode_memory,
            "rounds": options.rounds,
            "seed": options.bench.seed,
            "threads": threads,
            "seconds": seconds,
            "limit": limit,
            "peak-mib": peak,
            "psnr-db": quality,
        });
        return say(&row.to_string());
    }
    say(&format!(
        "{name}: {width} x {height}, {codes} codes, {kind}, random weights, {threads} threads"
    ));
    for (part, seconds) in [
        ("load", seconds.load),
        ("first picture", seconds.first),
        ("decode, median", seconds.decode),
        ("decode, least", seconds.least),
    ] {
        say(&format!("{part:17} {seconds:9.3} s"));
    }
    if let Some(limit) = &limit {
        limit.print("a picture, products as the formula has them");
    }
    match peak {
        Some(peak) => say(&format!("{:17} {peak:9.0} MiB", "peak memory")),
        None => say("peak memory       not told by this system"),
    }
    if let Some(quality) = quality {
        say(&format!(
            "{:17} {quality:9.1} dB against f32, the peak being its range",
            "PSNR"
        ));
    }
}
