//! `ravel eval` of a pipeline that continues clips: held-out clips, their first frames given, the rest compared.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Tensor;
use ravel_core::{Clip, Images, VideoTokenizer};
use ravel_eval::video::{
    Compared, ContinuationMeasure, ContinuationReport, Continued, KnownObject,
};
use ravel_media::{encode_png, grid, pictures_from_images, write_new};
use ravel_train::{ClipItem, Clips, DataConfig, Part};
use serde_json::json;
use video_continuation::{Request, VideoContinuation};

use crate::arguments::EvalOptions;
use crate::failure::Failure;
use crate::progress::say;
use crate::{image, interrupt, pipelines, progress};

/// Clips on a contact sheet, and how many times larger their pixels are.
const SHEET_CLIPS: usize = 6;
const SHEET_FRAMES: usize = 16;

/// Measures.
pub fn run(options: &EvalOptions) -> Result<(), Failure> {
    let pipeline = pipelines::video_continuation(&options.pipeline, options.weights)?;
    let (size, _) = pipeline.frame_size();
    let clips = Clips::read_held_out(&DataConfig {
        rows: options
            .data
            .clone()
            .unwrap_or_else(|| PathBuf::from("data/video/clips.jsonl")),
        size,
        shift: 0,
        flip: false,
    })?;
    let items = chosen(&clips, options)?;
    let width = {
        let probe = Tensor::zeros([1, 3, size, size], &pipeline.parts().device);
        pipeline.parts().tokenizer.latents(probe).dims()[1]
    };
    let mut measure = ContinuationMeasure::new(options.frames, width);
    let mut shown = Vec::new();
    let bar = progress::bar(items.len(), options.quiet || options.json);
    for item in &items {
        if interrupt::asked() {
            return Err(Failure::Interrupted);
        }
        let (truth, new, times) = continued(&pipeline, &clips, item, options)?;
        let coded = coded(&*pipeline.parts().tokenizer, &truth, options);
        let objects: Vec<KnownObject> = item.row.objects.iter().map(known).collect();
        measure.add(
            &Continued {
                kind: &item.row.kind,
                truth: &truth,
                given: options.given,
                new: &new,
                coded: &coded,
                milliseconds: &times,
                objects: &objects,
            },
            &*pipeline.parts().tokenizer,
        );
        if shown.len() < SHEET_CLIPS {
            shown.push((truth, new));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(path) = &options.sheet {
        let png = encode_png(&sheet(&shown, options.given), &[]);
        write_new(path, &png, options.force)?;
    }
    tell(&measure.report(), options);
    Ok(())
}

/// Held-out clips that are long enough, or training clips where none is held out.
fn chosen<'a>(clips: &'a Clips, options: &EvalOptions) -> Result<Vec<&'a ClipItem>, Failure> {
    let all = match clips.held_out.is_empty() {
        true => &clips.train,
        false => &clips.held_out,
    };
    let long = |item: &&ClipItem| item.row.frames > options.given;
    let mut items: Vec<_> = all.iter().filter(long).collect();
    if options.clips > 0 {
        items.truncate(options.clips);
    }
    match items.is_empty() {
        true => Err(Failure::input(format!(
            "no clip has more than the {} given frames",
            options.given
        ))),
        false => Ok(items),
    }
}

fn known(object: &ravel_train::ClipObject) -> KnownObject {
    KnownObject {
        size: object.size,
        x: object.x.clone(),
        y: object.y.clone(),
    }
}

/// The true clip, the new frames, and how long each took. Taking in the given frames counts for the first.
fn continued(
    pipeline: &VideoContinuation,
    clips: &Clips,
    item: &ClipItem,
    options: &EvalOptions,
) -> Result<(Clip, Clip, Vec<f64>), Failure> {
    let device = &pipeline.parts().device;
    let truth = Clip {
        frames: clips.tensor(&[Part::beginning(item)], item.row.frames, device),
        frames_per_second: item.row.frames_per_second,
    };
    let context = truth.part(0, options.given);
    let mut request = Request::new(pipeline, context, options.frames, options.seed);
    request.sampler = image::sampler(&pipeline.parts().sampler, &options.sampler)?;
    request.recompute = options.no_cache;
    let mut times = Vec::new();
    let mut clock = Instant::now();
    let new = pipeline.run(&request, &mut |progress| {
        let taken = clock.elapsed().as_secs_f64() * 1e3 / progress.new.len() as f64;
        times.extend(std::iter::repeat_n(taken, progress.new.len()));
        clock = Instant::now();
        std::ops::ControlFlow::Continue(())
    })?;
    Ok((truth, new, times))
}

/// The true frames that follow the given ones, coded and decoded on the tokenizer's own canvas.
fn coded(tokenizer: &dyn VideoTokenizer, truth: &Clip, options: &EvalOptions) -> Clip {
    let group = tokenizer.video_spec().group;
    let known = (truth.len() - options.given).min(options.frames);
    let last = truth.frames.clone().narrow(1, options.given - 1, 1);
    // Whole groups up to the last given frame, as a request takes them.
    let first = (options.given - 1) % group;
    let mut canvas = tokenizer.anchored(truth.frames.clone().narrow(1, first, 1), None);
    for start in (first + 1..options.given).step_by(group) {
        let next = truth.frames.clone().narrow(1, start, group);
        let ids = tokenizer.later_ids(&canvas, next.clone());
        canvas = tokenizer.following(&canvas, next, ids);
    }
    let mut frames = vec![last];
    for start in (0..known / group).map(|at| options.given + at * group) {
        let next = truth.frames.clone().narrow(1, start, group);
        canvas = tokenizer.later(&canvas, tokenizer.later_ids(&canvas, next));
        frames.push(canvas.frames.clone());
    }
    let all = Clip {
        frames: Tensor::cat(frames, 1),
        frames_per_second: truth.frames_per_second,
    };
    all.part(1, all.len() - 1)
}

/// Clips in pairs of rows: the true frames, and below them the given ones followed by the new.
fn sheet(shown: &[(Clip, Clip)], given: usize) -> ravel_media::Picture {
    let longest = |(truth, new): &(Clip, Clip)| truth.len().min(given + new.len());
    let columns = shown
        .iter()
        .map(longest)
        .min()
        .unwrap_or(1)
        .min(SHEET_FRAMES);
    let mut pictures = Vec::new();
    let given = given.min(columns);
    for (truth, new) in shown {
        let made = Tensor::cat(
            vec![
                truth.part(0, given).frames,
                new.part(0, columns - given).frames,
            ],
            1,
        );
        for frames in [truth.part(0, columns).frames, made] {
            let pixels = frames.squeeze_dim(0);
            pictures.extend(pictures_from_images(&Images { pixels }));
        }
    }
    grid(&pictures, columns, 2)
}

fn tell(report: &ContinuationReport, options: &EvalOptions) {
    if options.json {
        return say(&json!(report).to_string());
    }
    say(&format!(
        "{} clips, {} objects, {} frames given, {} new; ours / last frame again / blocks straight on",
        report.clips, report.objects, options.given, options.frames
    ));
    say(
        "frame        PSNR dB                 SSIM            position px     present / true  drift   ms",
    );
    let three = |found: Option<Compared>, digits: usize| match found {
        None => "-".to_string(),
        Some(Compared { ours, copy, linear }) => {
            format!("{ours:.digits$} / {copy:.digits$} / {linear:.digits$}")
        }
    };
    for row in &report.frames {
        say(&format!(
            "{:5}  {:>20}  {:>21}  {:>20}  {:6.1}% {:>7}  {:5.1}  {:5.0}",
            row.frame,
            three(row.psnr, 1),
            three(row.ssim, 3),
            three(row.position, 1),
            100.0 * row.present,
            row.present_true
                .map_or("-".to_string(), |share| format!("{:.1}%", 100.0 * share)),
            row.drift,
            row.milliseconds
        ));
    }
    for (kind, row) in &report.kinds {
        say(&format!(
            "{kind:8} position px  {}, followed and straight on {:.2}, the true frames coded {:.2}, themselves {:.2}",
            three(Some(row.position), 2),
            row.tracked,
            row.coded,
            row.truth
        ));
    }
    say(&format!(
        "Fréchet distance of the tokenizer's features (no FVD): {}",
        three(Some(report.tokenizer_frechet), 3)
    ));
}
