//! `ravel tokenizer`.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::{Codes, ImageTokenizer, Images, Layout};
use ravel_eval::{TokenizerReport, tokenizer_report};
use ravel_media::{encode_png, images_from_pictures, pictures_from_images, read_image, write_new};
use ravel_pipeline::{Definition, Source, Task, TokenizerPart, build_tokenizer};
use ravel_train::{DataConfig, Item, Pictures};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::arguments::{DecodeOptions, PipelineOptions, TokenizerCommand};
use crate::failure::Failure;
use crate::progress::{say, write};
use crate::{clip_tokenizer, image, interrupt, pipelines, sound_tokenizer};

/// What is measured where no pictures are named.
const PICTURES: &str = "data/emoji/captions-64.jsonl";
/// Pictures measured at a time.
const BATCH: usize = 32;

/// Codes in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CodesFile {
    pipeline: String,
    layout: Layout,
    ids: Vec<u32>,
}

/// A tokenizer of any pipeline.
pub fn open(options: &PipelineOptions) -> Result<(Box<dyn ImageTokenizer>, Device), Failure> {
    let (definition, source) = pipelines::open(&options.pipeline)?;
    if definition.task == Task::ImageTokenizer {
        definition.check(&source)?;
    }
    let device = options.device.device.open()?;
    Ok((
        build_tokenizer(definition.tokenizer_part()?, &source, &device)?,
        device,
    ))
}

/// Runs `ravel tokenizer`.
pub fn run(command: &TokenizerCommand) -> Result<(), Failure> {
    let options = command.pipeline();
    if let Some((definition, source)) = sound_tokenizer::definition(&options.pipeline)? {
        return run_on_sound(command, &definition, &source);
    }
    if command.pieces().is_some() {
        return Err(Failure::input_with(
            "--pieces is for sound",
            "leave it out, or name a codec: `ravel pipelines list`",
        ));
    }
    if let Some((definition, source)) = clip_tokenizer::definition(&options.pipeline)? {
        return run_on_clips(command, &definition, &source);
    }
    match command {
        TokenizerCommand::Encode {
            input,
            output,
            force,
            ..
        } => encode(input, output.as_deref(), *force, options),
        TokenizerCommand::Decode {
            codes,
            output,
            force,
            decode: held,
            ..
        } => decode(codes, output, *force, *held, options),
        TokenizerCommand::Inspect { data, json, .. } => inspect(data.as_deref(), *json, options),
        TokenizerCommand::Eval { data, json, .. } => match &data[..] {
            [] => eval(Path::new(PICTURES), *json, options),
            [rows] => eval(rows, *json, options),
            more => Err(Failure::input(format!(
                "{} files are named with --data, one file of captioned pictures is expected",
                more.len()
            ))),
        },
    }
}

/// Refuses what is for pictures alone.
fn refuse_decode_memory(command: &TokenizerCommand) -> Result<(), Failure> {
    match command.decode().decode_memory {
        None => Ok(()),
        Some(_) => Err(DecodeOptions::refusal(&format!(
            "`{}`",
            command.pipeline().pipeline
        ))),
    }
}

fn run_on_sound(
    command: &TokenizerCommand,
    definition: &Definition,
    source: &Source,
) -> Result<(), Failure> {
    refuse_decode_memory(command)?;
    let device = command.pipeline().device.device;
    let open = || sound_tokenizer::Codec::open(definition, source, device);
    match command {
        TokenizerCommand::Encode {
            input,
            output,
            force,
            pieces,
            ..
        } => sound_tokenizer::encode(&open()?, input, *pieces, (output.as_deref(), *force)),
        TokenizerCommand::Decode {
            codes,
            output,
            force,
            pieces,
            ..
        } => sound_tokenizer::decode(&open()?, codes, *pieces, (output, *force)),
        TokenizerCommand::Inspect { json, .. } => sound_tokenizer::inspect(definition, *json),
        TokenizerCommand::Eval { data, json, .. } => sound_tokenizer::eval(&open()?, data, *json),
    }
}

fn run_on_clips(
    command: &TokenizerCommand,
    definition: &Definition,
    source: &Source,
) -> Result<(), Failure> {
    refuse_decode_memory(command)?;
    let device = command.pipeline().device.device;
    let open = || clip_tokenizer::Codec::open(definition, source, device);
    match command {
        TokenizerCommand::Encode {
            input,
            output,
            force,
            ..
        } => clip_tokenizer::encode(&open()?, input, (output.as_deref(), *force)),
        TokenizerCommand::Decode {
            codes,
            output,
            force,
            ..
        } => clip_tokenizer::decode(&open()?, codes, (output, *force)),
        TokenizerCommand::Inspect { json, .. } => clip_tokenizer::inspect(definition, *json),
        TokenizerCommand::Eval { data, json, .. } => clip_tokenizer::eval(&open()?, data, *json),
    }
}

/// The definition that is asked for, where its tokenizer is of that kind.
pub fn definition_of(
    name: &str,
    is_of_kind: impl Fn(&TokenizerPart) -> bool,
) -> Result<Option<(Definition, Source)>, Failure> {
    let (definition, source) = pipelines::open(name)?;
    let of_kind = definition.tokenizer.as_ref().is_some_and(is_of_kind);
    Ok(of_kind.then_some((definition, source)))
}

/// Writes a file, or to standard output where none is named or `-`.
pub fn put(bytes: &[u8], output: Option<&Path>, force: bool) -> Result<(), Failure> {
    match output {
        Some(path) if path != Path::new("-") => Ok(write_new(path, bytes, force)?),
        _ => {
            write(bytes);
            Ok(())
        }
    }
}

/// Ids by codebook as `encode` wrote them, or what is wrong with them.
///
/// # Shapes
/// - returns: `[1, codebooks, positions]`
pub fn ids_of_books(books: &[Vec<u32>], device: &Device) -> Result<Tensor<3, Int>, String> {
    let filled = books.first().map_or(0, Vec::len);
    if filled == 0 || books.iter().any(|ids| ids.len() != filled) {
        return Err("each codebook needs ids, one as many as the other".into());
    }
    let ids: Result<Vec<i32>, _> = books
        .iter()
        .flatten()
        .map(|&id| i32::try_from(id))
        .collect();
    let ids = ids.map_err(|_| "an id is too large for any codebook".to_string())?;
    let shape = [1, books.len(), filled];
    Ok(Tensor::from_data(
        TensorData::new::<i32, _>(ids, shape),
        device,
    ))
}

fn encode(
    picture: &Path,
    output: Option<&Path>,
    force: bool,
    options: &PipelineOptions,
) -> Result<(), Failure> {
    let (tokenizer, device) = open(options)?;
    let (height, width) = tokenizer.image_spec().signal_size;
    let picture = read_image(picture)?.resized(width, height);
    let codes = tokenizer.encode(images_from_pictures(&[picture], &device))?;
    let file = CodesFile {
        pipeline: options.pipeline.clone(),
        layout: codes.layout.clone(),
        ids: codes.to_host().remove(0),
    };
    put((json!(file).to_string() + "\n").as_bytes(), output, force)
}

fn decode(
    codes: &Path,
    output: &Path,
    force: bool,
    held: DecodeOptions,
    options: &PipelineOptions,
) -> Result<(), Failure> {
    image::check_png(output)?;
    let shown = codes.display();
    let text = std::fs::read_to_string(codes)
        .map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    let file: CodesFile = serde_json::from_str(&text).map_err(|error| {
        Failure::input(format!(
            "{shown}: no codes of `ravel tokenizer encode`: {error}"
        ))
    })?;
    let (mut tokenizer, device) = open(options)?;
    held.tell(&mut *tokenizer, options.device.device)?;
    let ids: Vec<i32> = file
        .ids
        .iter()
        .map(|&id| i32::try_from(id))
        .collect::<Result<_, _>>()
        .map_err(|_| Failure::input(format!("{shown}: an id is too large for any codebook")))?;
    // Of tokenizers with several codebooks one codebook's ids lie behind the other's.
    let depth = tokenizer.spec().depth.max(1);
    if !ids.len().is_multiple_of(depth) {
        return Err(Failure::input(format!(
            "{shown}: {} ids, as many for each of {depth} codebooks are expected",
            ids.len()
        )));
    }
    let shape = [1, depth, ids.len() / depth];
    let codes = Codes {
        ids: Tensor::from_data(TensorData::new::<i32, _>(ids, shape), &device),
        layout: file.layout,
    };
    let images = tokenizer.decode(&codes)?;
    let png = encode_png(&pictures_from_images(&images)[0], &[]);
    put(&png, Some(output), force)
}

fn inspect(data: Option<&Path>, json: bool, options: &PipelineOptions) -> Result<(), Failure> {
    let (tokenizer, device) = open(options)?;
    let spec = tokenizer.image_spec();
    let report = match data {
        Some(rows) => {
            let pictures = pictures(rows, spec.signal_size.0)?;
            let all = pictures.train.iter().chain(&pictures.held_out);
            Some(measured(&*tokenizer, &pictures, all, &device)?)
        }
        None => None,
    };
    if json {
        say(&json!({ "spec": spec, "measured": report }).to_string());
        return Ok(());
    }
    let (height, width) = spec.signal_size;
    say(&format!("pictures  {width} x {height}"));
    say(&format!(
        "codes     {} in {}",
        spec.layout.len(),
        spec.layout.describe()
    ));
    say(&format!(
        "codebook  {} ids of {} numbers",
        spec.codes.codebook_size, spec.codes.code_width
    ));
    match report {
        Some(report) => say(&format!(
            "usage     {:.1} % ({} dead), perplexity {:.0}, on {} pictures",
            100.0 * report.codebook.usage,
            report.codebook.dead(),
            report.codebook.perplexity,
            report.pictures
        )),
        None => say("usage     unknown; name pictures with --data"),
    }
    Ok(())
}

fn eval(data: &Path, json: bool, options: &PipelineOptions) -> Result<(), Failure> {
    let (tokenizer, device) = open(options)?;
    let pictures = pictures(data, tokenizer.image_spec().signal_size.0)?;
    let mut reports = Vec::new();
    for (split, items) in [("train", &pictures.train), ("held-out", &pictures.held_out)] {
        if !items.is_empty() {
            reports.push((
                split,
                measured(&*tokenizer, &pictures, items.iter(), &device)?,
            ));
        }
    }
    if json {
        let all: serde_json::Map<_, _> = reports
            .into_iter()
            .map(|(split, report)| (split.to_string(), json!(report)))
            .collect();
        say(&serde_json::Value::Object(all).to_string());
        return Ok(());
    }
    say("split     pictures   PSNR dB    SSIM  codes    bits   usage  perplexity");
    for (split, report) in reports {
        say(&format!(
            "{split:9} {:8} {:9.2} {:7.4} {:6} {:7.0} {:6.1}% {:11.0}",
            report.pictures,
            report.psnr,
            report.ssim,
            report.codes,
            report.bits,
            100.0 * report.codebook.usage,
            report.codebook.perplexity
        ));
    }
    Ok(())
}

/// Captioned pictures at a tokenizer's size.
pub fn pictures(rows: &Path, size: usize) -> Result<Pictures, Failure> {
    Ok(Pictures::read(&DataConfig {
        rows: rows.into(),
        size,
        shift: 0,
        flip: false,
    })?)
}

fn measured<'a>(
    tokenizer: &dyn ImageTokenizer,
    pictures: &Pictures,
    items: impl Iterator<Item = &'a Item>,
    device: &Device,
) -> Result<TokenizerReport, Failure> {
    let items: Vec<&Item> = items.collect();
    let batches = items.chunks(BATCH).map_while(|chunk| {
        let pixels = pictures.tensor(chunk.iter().copied(), device);
        (!interrupt::asked()).then_some(Images { pixels })
    });
    let report = tokenizer_report(tokenizer, batches)?;
    match interrupt::asked() {
        true => Err(Failure::Interrupted),
        false => Ok(report),
    }
}
