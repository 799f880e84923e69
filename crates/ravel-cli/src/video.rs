//! `ravel video`: frames in, the frames that come next out, written as they come.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use ravel_core::{Clip, Images};
use ravel_media::{
    ClipPlan, ClipReader, ClipTarget, ClipWriter, FrameRate, MediaError, Picture, encode_png,
    images_from_pictures, pictures_from_images, write_new,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use video_continuation::{Metadata, Request, VideoContinuation};

use crate::arguments::{ReplayOptions, VideoOptions};
use crate::drift::Drift;
use crate::failure::Failure;
use crate::{image, interrupt, pipelines, progress};

/// Most new frames of one run.
const MOST: usize = 100_000;
/// Most given frames that `--extend-all` takes in.
const MOST_GIVEN: usize = 4096;
/// Frames a second where neither the clip nor the user says.
const USUAL_RATE: f64 = 12.0;

/// What a clip says about how it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Said {
    /// The program.
    generated_by: String,
    /// The given clip, as it was named.
    input: String,
    /// SHA-256 of the given frames that were used, as the pipeline saw them.
    input_hash: String,
    /// The rate of the clip.
    frames_per_second: String,
    /// Whether the rate was asked for, so that the input is resampled to it.
    resampled: bool,
    /// Whether the given frames stand before the new ones.
    with_context: bool,
    /// The request.
    how: Metadata,
}

/// Continues a clip.
pub fn run(options: &VideoOptions) -> Result<(), Failure> {
    if options.frames == 0 || options.frames > MOST {
        return Err(Failure::input_with(
            format!(
                "{} new frames are asked for, 1 to {MOST} are possible",
                options.frames
            ),
            "say how many with --frames",
        ));
    }
    if options.context == Some(0) {
        return Err(Failure::input_with(
            "--context 0: at least two given frames show a motion",
            "leave --context out to use all that are in view",
        ));
    }
    let output = options
        .output
        .clone()
        .unwrap_or_else(|| named(&options.input));
    let target = ClipTarget::of(&output, options.force)?;
    let standard = target == ClipTarget::Standard;
    if standard && (options.json || options.report.as_deref() == Some(Path::new("-"))) {
        return Err(Failure::input_with(
            "standard output takes the video, and nothing beside it",
            "name a file with -o, or a file for the report with --report=FILE",
        ));
    }
    check_places(options, &output)?;
    let mut given = Given::open(&options.input, options.fps)?;
    let pipeline = pipelines::video_continuation_on(
        &options.pipeline,
        options.device.device,
        options.weights,
    )?;
    given.read(&pipeline, options.context, options.extend_all)?;
    let job = Job::new(&pipeline, options, given)?;
    job.run(&target, &output, options)
}

/// Beside the input, with a format that this build writes.
fn named(input: &Path) -> PathBuf {
    let stem = input.file_stem().unwrap_or_default().to_string_lossy();
    let extension = if cfg!(feature = "video") {
        "mp4"
    } else {
        "gif"
    };
    PathBuf::from(format!("{stem}-continued.{extension}"))
}

/// Checks before any work that what is written replaces nothing that is read, nothing else that is written, and nothing that is there
/// without `--force`.
fn check_places(options: &VideoOptions, output: &Path) -> Result<(), Failure> {
    if is_same(&options.input, output) {
        return Err(Failure::input_with(
            format!("{} is the clip that goes on", output.display()),
            "name another file with -o",
        ));
    }
    let report = options.report.as_deref();
    if let Some(report) = report.filter(|path| *path != Path::new("-")) {
        check_free(report, options.force)?;
        if report == output || is_same(report, output) || is_same(report, &options.input) {
            return Err(Failure::input_with(
                format!("--report={}: it is a clip's place", report.display()),
                "name another file for the report",
            ));
        }
        let folder = report.parent().filter(|folder| *folder != Path::new(""));
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(Failure::input_with(
                format!("there is no folder {}", folder.display()),
                "make it first, or name another",
            ));
        }
    }
    if let Some(folder) = options.preview.as_deref().filter(|folder| folder.is_dir()) {
        let frames = (1..=options.frames).map(|number| preview(folder, number));
        for frame in frames {
            check_free(&frame, options.force)?;
        }
    }
    Ok(())
}

/// Whether two names are of one file or folder that is there.
fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Where a new frame's preview goes, counted from one.
fn preview(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("frame-{number:05}.png"))
}

fn check_free(path: &Path, force: bool) -> Result<(), Failure> {
    match path.exists() && !force {
        true => Err(MediaError::Exists { path: path.into() }.into()),
        false => Ok(()),
    }
}

/// The given frames.
struct Given {
    path: PathBuf,
    reader: ClipReader,
    rate: FrameRate,
    resampled: bool,
    frames: VecDeque<Picture>,
    notes: Vec<String>,
}

impl Given {
    /// Opens a clip and reads its first two frames.
    fn open(path: &Path, rate: Option<FrameRate>) -> Result<Self, Failure> {
        let mut reader = ClipReader::open(path, rate)?;
        let frames: VecDeque<Picture> = reader.by_ref().take(2).collect::<Result<_, _>>()?;
        if frames.is_empty() {
            return Err(MediaError::NoFrames { path: path.into() }.into());
        }
        if frames.len() < 2 {
            return Err(Failure::input_with(
                format!(
                    "{}: one frame, at least two are needed to see a motion",
                    path.display()
                ),
                "give a clip, an animated picture or a folder of frames",
            ));
        }
        Ok(Self {
            path: path.into(),
            rate: rate.or(reader.info().rate).unwrap_or_else(usual_rate),
            resampled: rate.is_some(),
            frames,
            notes: Vec::new(),
            reader,
        })
    }

    /// Reads to the end and keeps the last frames, as many as are used.
    fn read(
        &mut self,
        pipeline: &VideoContinuation,
        context: Option<usize>,
        all: bool,
    ) -> Result<(), Failure> {
        let (height, width) = pipeline.frame_size();
        let most = pipeline.most_context();
        if let Some(asked) = context.filter(|&asked| asked > most && !all) {
            return Err(Failure::input_with(
                format!("the last {asked} frames are to be used, {most} are in view"),
                "--extend-all takes in more, one after another",
            ));
        }
        let keep = match all {
            true => context.unwrap_or(MOST_GIVEN),
            false => context.unwrap_or(most),
        };
        self.note_size(width, height);
        for frame in &mut self.frames {
            *frame = frame.resized(width, height);
        }
        let mut found = self.frames.len();
        while self.frames.len() > keep {
            self.frames.pop_front();
        }
        for frame in self.reader.by_ref() {
            self.frames.push_back(frame?.resized(width, height));
            found += 1;
            if self.frames.len() > keep {
                self.frames.pop_front();
            }
            if interrupt::asked() {
                return Err(Failure::Interrupted);
            }
        }
        if found > keep && all && context.is_none() {
            self.notes
                .push(format!("the last {keep} of {found} frames are taken in"));
        }
        if let Some(asked) = context.filter(|&asked| asked > found) {
            return Err(Failure::input(format!(
                "{}: the last {asked} frames are to be used, it has {found}",
                self.path.display()
            )));
        }
        self.notes.extend(self.reader.notes());
        Ok(())
    }

    fn note_size(&mut self, width: usize, height: usize) {
        let info = self.reader.info();
        if (info.width, info.height) == (width, height) {
            return;
        }
        let bars = match info.width * height == info.height * width {
            true => "",
            false => ", with white bars where the proportions differ",
        };
        self.notes.push(format!(
            "frames of {} x {} are resized to {width} x {height}{bars}",
            info.width, info.height
        ));
    }

    /// As the pipeline takes them.
    fn clip(&self, pipeline: &VideoContinuation) -> Clip {
        let pictures: Vec<Picture> = self.frames.iter().cloned().collect();
        let images = images_from_pictures(&pictures, &pipeline.parts().device);
        Clip {
            frames: images.pixels.unsqueeze(),
            frames_per_second: self.rate.per_second() as f32,
        }
    }

    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for frame in &self.frames {
            hash.update(&frame.rgb);
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// A request that is ready to run.
struct Job<'a> {
    pipeline: &'a VideoContinuation,
    request: Request,
    given: Given,
    said: Said,
}

impl<'a> Job<'a> {
    fn new(
        pipeline: &'a VideoContinuation,
        options: &VideoOptions,
        given: Given,
    ) -> Result<Self, Failure> {
        let clip = given.clip(pipeline);
        let mut request = Request::new(pipeline, clip, options.frames, options.seed);
        request.keep = Some(given.frames.len());
        request.extend_all = options.extend_all;
        request.prompt = options.prompt.clone();
        request.sampler = image::sampler(&request.sampler, &options.sampler)?;
        let said = Said {
            generated_by: concat!("ravel ", env!("CARGO_PKG_VERSION")).into(),
            input: options.input.display().to_string(),
            input_hash: given.hash(),
            frames_per_second: fraction(given.rate),
            resampled: given.resampled,
            with_context: options.with_context,
            how: Metadata {
                frames: options.frames,
                context: given.frames.len(),
                extend_all: options.extend_all,
                seed: options.seed,
                pipeline: options.pipeline.clone(),
                hash: pipeline.parts().hash.clone(),
                sampler: request.sampler.clone(),
                filling: pipeline.parts().filling.clone(),
                prompt: options.prompt.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
            },
        };
        Ok(Self {
            pipeline,
            request,
            given,
            said,
        })
    }

    fn plan(&self) -> ClipPlan {
        let (height, width) = self.pipeline.frame_size();
        let before = if self.said.with_context {
            self.given.frames.len()
        } else {
            0
        };
        ClipPlan {
            width,
            height,
            rate: self.given.rate,
            frames: before + self.request.frames,
            text: json!(self.said).to_string(),
        }
    }

    fn run(
        self,
        target: &ClipTarget,
        output: &Path,
        options: &VideoOptions,
    ) -> Result<(), Failure> {
        let mut writer = match ClipWriter::create(target, &self.plan()) {
            Err(error) => return quiet_end(error),
            Ok(writer) => writer,
        };
        let mut notes = self.given.notes.clone();
        notes.extend(writer.notes());
        if !options.quiet && !options.json {
            notes.iter().for_each(|note| progress::note(note));
        }
        if let Some(folder) = &options.preview {
            std::fs::create_dir_all(folder)
                .map_err(|error| Failure::input(format!("{}: {error}", folder.display())))?;
        }
        let mut drift = Drift::new(self.given.frames.iter());
        let mut shown = 0;
        let made = self.frames(&mut writer, options.quiet, &mut |picture| {
            drift.add(picture);
            shown += 1;
            match &options.preview {
                None => Ok(()),
                Some(folder) => {
                    let name = preview(folder, shown);
                    Ok(write_new(&name, &encode_png(picture, &[]), options.force)?)
                }
            }
        });
        match made.and_then(|()| Ok(writer.finish()?)) {
            Err(Failure::ClosedPipe) => return Ok(()),
            made => made?,
        }
        if let Some(report) = &options.report {
            let text = drift.report();
            match report == Path::new("-") {
                true => progress::write(text.as_bytes()),
                false => write_new(report, text.as_bytes(), options.force)?,
            }
        }
        if options.json {
            let row = json!({
                "file": output,
                "frames": options.frames,
                "frames-per-second": self.given.rate.per_second(),
                "notes": notes,
                "made": self.said,
            });
            progress::say(&row.to_string());
        } else if !options.quiet && *target != ClipTarget::Standard {
            progress::say(&format!(
                "{}  {} new frames",
                output.display(),
                options.frames
            ));
        }
        Ok(())
    }

    /// Makes the frames and hands each on as it comes.
    fn frames(
        &self,
        writer: &mut ClipWriter,
        quiet: bool,
        watch: &mut dyn FnMut(&Picture) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.said.with_context {
            for frame in &self.given.frames {
                writer.push(frame)?;
            }
        }
        let bar = progress::bar(self.request.frames, quiet);
        let mut failed = None;
        self.pipeline.run(&self.request, &mut |progress| {
            let pictures = pictures(&progress.new.frames);
            let done = pictures.iter().try_for_each(|picture| {
                writer.push(picture)?;
                watch(picture)
            });
            bar.set_position(progress.done as u64);
            let over = match (done, interrupt::asked()) {
                (Err(failure), _) => Some(failure),
                (Ok(()), true) => Some(Failure::Interrupted),
                (Ok(()), false) => None,
            };
            failed = over;
            match failed {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        })?;
        bar.finish_and_clear();
        failed.map_or(Ok(()), Err)
    }
}

/// The rate of clips of which nobody says it.
pub fn usual_rate() -> FrameRate {
    FrameRate::near(USUAL_RATE).expect("a rate that is written here")
}

/// `[1, time, 3, height, width]` as pictures.
pub fn pictures(frames: &Tensor<5>) -> Vec<Picture> {
    pictures_from_images(&Images {
        pixels: frames.clone().squeeze_dim(0),
    })
}

/// A rate as files have it.
pub fn fraction(rate: FrameRate) -> String {
    let (numerator, denominator) = rate.fraction();
    format!("{numerator}/{denominator}")
}

/// A pipe that nobody reads any more is a quiet end.
fn quiet_end(error: MediaError) -> Result<(), Failure> {
    match error {
        MediaError::File { source, .. } if source.kind() == ErrorKind::BrokenPipe => Ok(()),
        error => Err(error.into()),
    }
}

/// What a file says, if it is a clip that `ravel video` made.
pub fn said(path: &Path) -> Option<Said> {
    let text = ravel_media::read_clip_text(path).ok().flatten()?;
    serde_json::from_str(&text).ok()
}

/// Makes a clip again from its own metadata and the clip that it continues.
pub fn replay(options: &ReplayOptions, said: Said) -> Result<(), Failure> {
    let shown = options.file.display();
    let input = match &options.input {
        Some(input) => input.clone(),
        None => found(&options.file, &said.input)?,
    };
    let wrong = |_| Failure::input(format!("{shown}: its metadata names no rate"));
    let rate: FrameRate = said.frames_per_second.parse().map_err(wrong)?;
    if !(1..=MOST).contains(&said.how.frames) {
        return Err(Failure::input(format!(
            "{shown}: its metadata asks for {} new frames, 1 to {MOST} are possible",
            said.how.frames
        )));
    }
    let mut given = Given::open(&input, said.resampled.then_some(rate))?;
    let pipeline = pipelines::video_continuation_on(
        &said.how.pipeline,
        options.device.device,
        options.weights,
    )?;
    if pipeline.parts().hash != said.how.hash {
        return Err(Failure::input_with(
            format!(
                "{shown} was made by `{}` with hash {}, this program has hash {}",
                said.how.pipeline,
                said.how.hash,
                pipeline.parts().hash
            ),
            "use the version of the pipeline that made it",
        ));
    }
    given.read(&pipeline, Some(said.how.context), said.how.extend_all)?;
    if given.hash() != said.input_hash {
        return Err(Failure::input_with(
            format!("{} is not the clip that {shown} continues", input.display()),
            "name that clip with --input",
        ));
    }
    let clip = given.clip(&pipeline);
    let mut request = Request::new(&pipeline, clip, said.how.frames, said.how.seed);
    request.keep = Some(said.how.context);
    request.extend_all = said.how.extend_all;
    request.prompt = said.how.prompt.clone();
    request.sampler = said.how.sampler.clone();
    request.filling = Some(said.how.filling.clone());
    let job = Job {
        pipeline: &pipeline,
        request,
        given,
        said,
    };
    job.again(options)
}

/// The clip that was continued, where it was or beside what was made of it.
fn found(made: &Path, input: &str) -> Result<PathBuf, Failure> {
    let beside = Path::new(input)
        .file_name()
        .map(|name| made.parent().unwrap_or(Path::new("")).join(name));
    let places = [Some(PathBuf::from(input)), beside];
    let mut places = places.into_iter().flatten();
    places.find(|place| place.exists()).ok_or_else(|| {
        Failure::input_with(
            format!(
                "{}: the clip that it continues, {input}, is not there",
                made.display()
            ),
            "name it with --input",
        )
    })
}

impl Job<'_> {
    fn again(self, options: &ReplayOptions) -> Result<(), Failure> {
        let shown = options.file.display();
        let folder = tempfile::tempdir().map_err(Failure::runtime)?;
        let again = folder
            .path()
            .join(options.file.file_name().unwrap_or_default());
        let output = options.output.as_deref().unwrap_or(&again);
        let target = ClipTarget::of(output, options.force)?;
        let mut writer = ClipWriter::create(&target, &self.plan())?;
        self.frames(&mut writer, false, &mut |_| Ok(()))?;
        writer.finish()?;
        if options.output.is_some() {
            return Ok(());
        }
        match same(&options.file, &again).map_err(Failure::runtime)? {
            true => progress::say(&format!("{shown}: the same bytes again")),
            false => return Err(Failure::runtime(format!("{shown}: the bytes differ"))),
        }
        Ok(())
    }
}

/// Whether two files, or the frames of two folders, are equal.
fn same(one: &Path, other: &Path) -> std::io::Result<bool> {
    if !one.is_dir() {
        return Ok(std::fs::read(one)? == std::fs::read(other)?);
    }
    for entry in other.read_dir()? {
        let entry = entry?;
        let before = one.join(entry.file_name());
        if !before.is_file() || std::fs::read(before)? != std::fs::read(entry.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}
