//! `ravel eval`: a pipeline measured on captioned pictures, with a pinned protocol. Pipelines that make text are measured in
//! `text.rs`.

use std::path::PathBuf;

use burn::tensor::Device;
use ravel_core::{Generator, Images};
use ravel_eval::{Gallery, RetrievalReport, features, loss_per_token};
use ravel_media::{contact_sheet, encode_png, images_from_pictures, write_new};
use ravel_pipeline::Task;
use ravel_train::{Item, Pictures};
use serde::Serialize;
use serde_json::json;
use text_to_image::{Request, TextToImage};

use crate::arguments::EvalOptions;
use crate::failure::Failure;
use crate::{
    evaluate_speech, evaluate_video, image, interrupt, pipelines, progress, text, tokenizer,
};

/// Pictures encoded at a time.
const BATCH: usize = 32;
/// Columns of the contact sheet.
const COLUMNS: usize = 8;
/// Lines of a caption.
const LINES: usize = 4;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SplitReport {
    loss_per_token: f64,
    retrieval: RetrievalReport,
    /// The same for the data's pictures after the tokenizer alone: what a generator of the right codes would reach.
    round_trip: RetrievalReport,
    misses: Vec<Miss>,
}

/// A picture whose nearest known picture is of another caption.
#[derive(Serialize)]
struct Miss {
    caption: String,
    nearest: Option<String>,
    rank: usize,
}

/// Measures.
pub fn run(options: &EvalOptions) -> Result<(), Failure> {
    let (definition, _) = pipelines::open(&options.pipeline.pipeline)?;
    if definition.task == Task::VideoContinuation {
        return evaluate_video::run(options);
    }
    if definition.task == Task::TextToSpeech {
        return evaluate_speech::run(options);
    }
    if definition.task == Task::TextGeneration {
        return text::evaluate(options);
    }
    let pipeline = pipelines::text_to_image(&options.pipeline, options.weights)?;
    let device = pipeline.parts().device.clone();
    let size = pipeline.parts().tokenizer.image_spec().signal_size.0;
    let rows = options
        .data
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("data/emoji/captions-{size}.jsonl")));
    let pictures = tokenizer::pictures(&rows, size)?;
    let gallery = gallery(&pipeline, &pictures, &device)?;
    let train = spread(&pictures.train, options.captions);
    let held_out: Vec<&Item> = pictures.held_out.iter().collect();
    let mut reports = Vec::new();
    for (split, items) in [("train", &train), ("held-out", &held_out)] {
        if !items.is_empty() {
            let report = measured(&pipeline, &pictures, items, &gallery, options)?;
            reports.push((split, report));
        }
    }
    if let Some(path) = &options.sheet {
        let png = sheet(&pipeline, &pictures, options)?;
        write_new(path, &png, options.force)?;
    }
    tell(&reports, gallery.len(), options);
    Ok(())
}

fn tell(reports: &[(&str, SplitReport)], gallery: usize, options: &EvalOptions) {
    if options.json {
        let all: serde_json::Map<_, _> = reports
            .iter()
            .map(|(split, report)| (split.to_string(), json!(report)))
            .collect();
        return progress::say(&serde_json::Value::Object(all).to_string());
    }
    progress::say("split     captions  loss/token   top-1   top-5  mean rank  round trip");
    for (split, report) in reports {
        progress::say(&format!(
            "{split:9} {:8} {:11.4} {:6.1}% {:6.1}% {:10.2} {:10.1}%",
            report.retrieval.pictures,
            report.loss_per_token,
            100.0 * report.retrieval.top_1,
            100.0 * report.retrieval.top_5,
            report.retrieval.mean_rank,
            100.0 * report.round_trip.top_1
        ));
    }
    progress::say(&format!(
        "nearest of {gallery} pictures by the tokenizer's latents; chance {:.3} %; seed {}\n\
         round trip: top-1 of the data's pictures after the tokenizer alone, the most that a generator can reach",
        100.0 / gallery as f64,
        options.seed
    ));
}

fn stop_if_asked() -> Result<(), Failure> {
    match interrupt::asked() {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}

fn gallery(
    pipeline: &TextToImage,
    pictures: &Pictures,
    device: &Device,
) -> Result<Gallery, Failure> {
    let mut gallery = Gallery::default();
    let all: Vec<&Item> = pictures.train.iter().chain(&pictures.held_out).collect();
    for chunk in all.chunks(BATCH) {
        stop_if_asked()?;
        let pixels = pictures.tensor(chunk.iter().copied(), device);
        let found = features(&*pipeline.parts().tokenizer, Images { pixels })?;
        for (item, found) in chunk.iter().zip(found) {
            gallery.push(item.caption.clone(), found);
        }
    }
    Ok(gallery)
}

/// `count` items at equal distances; all of them for zero.
fn spread(items: &[Item], count: usize) -> Vec<&Item> {
    if count == 0 || count >= items.len() {
        return items.iter().collect();
    }
    (0..count)
        .map(|at| &items[at * items.len() / count])
        .collect()
}

fn measured(
    pipeline: &TextToImage,
    pictures: &Pictures,
    items: &[&Item],
    gallery: &Gallery,
    options: &EvalOptions,
) -> Result<SplitReport, Failure> {
    let parts = pipeline.parts();
    let captions: Vec<String> = items.iter().map(|item| item.caption.clone()).collect();
    let request = Request {
        prompts: captions.clone(),
        seed: options.seed,
        first: 0,
        sampler: image::sampler(&parts.sampler, &options.sampler)?,
    };
    let made = image::made(pipeline, &request, None, options.quiet)?;
    let mut ranks = Vec::new();
    let mut misses = Vec::new();
    for (chunk, captions) in made.chunks(BATCH).zip(captions.chunks(BATCH)) {
        let images = images_from_pictures(chunk, &parts.device);
        for (found, caption) in features(&*parts.tokenizer, images)?.iter().zip(captions) {
            let Some(rank) = gallery.rank(caption, found) else {
                continue;
            };
            ranks.push(rank);
            if rank > 0 {
                misses.push(Miss {
                    caption: caption.clone(),
                    nearest: gallery.nearest(found).map(str::to_string),
                    rank,
                });
            }
        }
    }
    let generator = Generator {
        backbone: &*parts.backbone,
        head: &*parts.head,
        pyramid: parts.tokenizer.pyramid(),
    };
    let mut losses = Vec::new();
    let mut kept = Vec::new();
    for (chunk, captions) in items.chunks(BATCH).zip(captions.chunks(BATCH)) {
        stop_if_asked()?;
        let pixels = pictures.tensor(chunk.iter().copied(), &parts.device);
        let codes = parts.tokenizer.encode(Images { pixels })?;
        let back = features(&*parts.tokenizer, parts.tokenizer.decode(&codes)?)?;
        let ranks = back.iter().zip(captions);
        kept.extend(ranks.filter_map(|(back, caption)| gallery.rank(caption, back)));
        let condition = pipeline.condition(captions)?;
        losses.extend(loss_per_token(&generator, &condition, &codes));
    }
    Ok(SplitReport {
        loss_per_token: losses.iter().sum::<f64>() / losses.len().max(1) as f64,
        retrieval: gallery.report(&ranks),
        round_trip: gallery.report(&kept),
        misses,
    })
}

fn sheet(
    pipeline: &TextToImage,
    pictures: &Pictures,
    options: &EvalOptions,
) -> Result<Vec<u8>, Failure> {
    let held_out = (options.sheet_pictures / 4).min(pictures.held_out.len());
    let mut items = spread(
        &pictures.train,
        options.sheet_pictures.saturating_sub(held_out).max(1),
    );
    items.extend(
        spread(&pictures.held_out, held_out.max(1))
            .into_iter()
            .take(held_out),
    );
    let request = Request {
        prompts: items.iter().map(|item| item.caption.clone()).collect(),
        seed: options.seed,
        first: 0,
        sampler: image::sampler(&pipeline.parts().sampler, &options.sampler)?,
    };
    let made = image::made(pipeline, &request, None, options.quiet)?;
    // Small pictures are shown twice as large, so that captions fit below.
    let shown: Vec<_> = made
        .iter()
        .map(|picture| match picture.width {
            0..128 => picture.repeated(128 / picture.width),
            _ => picture.clone(),
        })
        .collect();
    Ok(encode_png(
        &contact_sheet(&shown, &request.prompts, COLUMNS, LINES),
        &[],
    ))
}
