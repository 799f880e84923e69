//! The loop around a task: steps, log, validation, sample sheets, checkpoints, resume and a clean stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::{Device, TensorData};
use ravel_media::Picture;
use ravel_pipeline::Work;
use ravel_weights::Checkpoint;

use crate::log::{Log, log_path};
use crate::{
    Clips, GeneratorTask, LanguageTask, Pictures, Recipe, SoundTokenizerTask, SpeechTask,
    TaskConfig, TokenizerTask, TrainError, VideoGeneratorTask, VideoTokenizerTask, checkpoint,
};

/// What a training run is made of besides its loop.
pub trait Task {
    /// One update. `step` alone, with the recipe's seed, decides what is drawn.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] if a loss or gradient is not a number.
    fn step(&mut self, step: usize) -> Result<BTreeMap<String, f64>, TrainError>;

    /// Measures on held-out pictures, with the averaged weights.
    ///
    /// # Errors
    /// What the parts report.
    fn validate(&self) -> Result<BTreeMap<String, f64>, TrainError>;

    /// A file that shows what the model does now.
    ///
    /// # Errors
    /// What the parts report.
    fn samples(&self) -> Result<Sample, TrainError>;

    /// Everything that the next step depends on.
    fn tensors(&self) -> Vec<(String, TensorData)>;

    /// Takes back what [`Task::tensors`] wrote.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] or [`TrainError::Weights`] if something is missing.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError>;

    /// What a step works through, where that is the same in each and known.
    fn work(&self) -> Option<StepWork> {
        None
    }

    /// Writes the averaged weights (f16) and the definition that uses them into `folder`.
    ///
    /// # Errors
    /// What the system reports.
    fn export(&self, folder: &Path) -> Result<(), TrainError>;
}

/// What a step of training works through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepWork {
    /// Codes that are predicted.
    pub tokens: usize,
    /// What the sequence model and its head read and multiply.
    pub work: Work,
}

/// A file that shows what a model does.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The kind of file: `png`, `txt`.
    pub extension: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

impl From<Picture> for Sample {
    fn from(picture: Picture) -> Self {
        Self {
            extension: "png",
            bytes: ravel_media::encode_png(&picture, &[]),
        }
    }
}

/// What happens in a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run begins or resumes at this step.
    Started {
        /// First step of this process.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// Trained numbers.
        parameters: usize,
    },
    /// A step is done.
    Step {
        /// Steps done so far.
        done: usize,
        /// Losses and other measures of the step.
        values: BTreeMap<String, f64>,
    },
    /// Held-out measures.
    Validated {
        /// Steps done so far.
        done: usize,
        /// The measures.
        values: BTreeMap<String, f64>,
    },
    /// A file was written: a checkpoint, a sample sheet, the exported part.
    Wrote(PathBuf),
}

/// Who looks on, and may ask to stop.
pub trait Watch {
    /// Something happened.
    fn event(&mut self, event: Event);

    /// Whether the run should save and end now.
    fn stop(&mut self) -> bool;
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done and the part is exported.
    Finished,
    /// Stopped on request; a checkpoint is written.
    Interrupted,
}

/// Runs a recipe in `folder`, from its beginning or from the latest checkpoint.
///
/// # Errors
/// [`TrainError`]. A folder that holds a run already is refused unless `resume` is set.
pub fn train(
    recipe: &Recipe,
    folder: &Path,
    resume: bool,
    device: &Device,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    if !resume && checkpoint::exists(folder) {
        return Err(TrainError::Checkpoint {
            reason: format!(
                "{} holds a run already; continue it with --resume or name another folder",
                folder.display()
            ),
        });
    }
    let (task, parameters) = open_task(recipe, device)?;
    run(recipe, folder, resume, task, parameters, watch)
}

/// What a recipe trains, with its data, and how many numbers are trained.
///
/// # Errors
/// [`TrainError`] if the data cannot be read or a part does not fit.
pub(crate) fn open_task(
    recipe: &Recipe,
    device: &Device,
) -> Result<(Box<dyn Task>, usize), TrainError> {
    fn opened<T: Task + 'static>(task: T, parameters: usize) -> (Box<dyn Task>, usize) {
        (Box::new(task), parameters)
    }
    Ok(match &recipe.task {
        TaskConfig::Tokenizer(config) => {
            let pictures = Pictures::read(recipe.pictures()?)?;
            let task = TokenizerTask::new(recipe, config, pictures, device)?;
            let parameters = task.parameters();
            opened(task, parameters)
        }
        TaskConfig::Generator(config) => {
            let pictures = Pictures::read(recipe.pictures()?)?;
            let task = GeneratorTask::new(recipe, config, pictures, device)?;
            let parameters = task.parameters();
            opened(task, parameters)
        }
        TaskConfig::VideoTokenizer(config) => {
            let clips = Clips::read(recipe.pictures()?)?;
            let task = VideoTokenizerTask::new(recipe, config, clips, device)?;
            let parameters = task.parameters();
            opened(task, parameters)
        }
        TaskConfig::VideoGenerator(config) => {
            let clips = Clips::read(recipe.pictures()?)?;
            let task = VideoGeneratorTask::new(recipe, config, clips, device)?;
            let parameters = task.parameters();
            opened(task, parameters)
        }
        TaskConfig::Text(config) => {
            let task = LanguageTask::new(recipe, config, device)?;
            let parameters = task.parameters();
            opened(task, parameters)
        }
        TaskConfig::SoundTokenizer(config) => {
            let task = SoundTokenizerTask::new(recipe, config, device)?;
            let parameters = task.parameters();
            opened(task, parameters)
        }
        TaskConfig::Speech(config) => {
            let task = SpeechTask::new(recipe, config, device)?;
            let parameters = task.parameters();
            opened(task, parameters)
        }
    })
}

fn run(
    recipe: &Recipe,
    folder: &Path,
    resume: bool,
    mut task: Box<dyn Task>,
    parameters: usize,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    let hash = recipe_hash(recipe);
    let made = folder.join("checkpoints");
    std::fs::create_dir_all(&made).map_err(|source| TrainError::File { path: made, source })?;
    let mut first = 0;
    if resume {
        let (step, checkpoint) = checkpoint::latest(folder, &hash)?;
        task.restore(&checkpoint)?;
        first = step;
    }
    let mut log = Log::open(log_path(folder), first);
    watch.event(Event::Started {
        step: first,
        steps: recipe.steps,
        parameters,
    });
    let output = &recipe.output;
    let mut saver = Saver {
        folder,
        hash: &hash,
        keep: output.keep,
        every: Duration::from_secs_f64(output.checkpoint_minutes.max(0.0) * 60.0),
        last: Instant::now(),
    };
    for step in first..recipe.steps {
        let values = recipe.products.within(|| task.step(step))?;
        let done = step + 1;
        if done % output.log_steps.max(1) == 0 || done == recipe.steps {
            log.add(step, "train", &values);
        }
        watch.event(Event::Step { done, values });
        let finished = done == recipe.steps;
        if finished || done % output.validate_steps.max(1) == 0 {
            let values = task.validate()?;
            log.add(step, "held-out", &values);
            log.flush()?;
            watch.event(Event::Validated { done, values });
        }
        if finished || done % output.sample_steps.max(1) == 0 {
            let sample = task.samples()?;
            let path = folder.join(format!("samples-{done:08}.{}", sample.extension));
            ravel_weights::atomic_write(&path, &sample.bytes)?;
            watch.event(Event::Wrote(path));
        }
        let stop = !finished && watch.stop();
        if stop || finished || saver.is_due() {
            log.flush()?;
            watch.event(Event::Wrote(saver.save(done, &*task)?));
        }
        if stop {
            return Ok(Outcome::Interrupted);
        }
    }
    task.export(folder)?;
    watch.event(Event::Wrote(folder.to_path_buf()));
    Ok(Outcome::Finished)
}

struct Saver<'a> {
    folder: &'a Path,
    hash: &'a str,
    keep: usize,
    every: Duration,
    last: Instant,
}

impl Saver<'_> {
    fn is_due(&self) -> bool {
        self.last.elapsed() >= self.every
    }

    fn save(&mut self, done: usize, task: &dyn Task) -> Result<PathBuf, TrainError> {
        self.last = Instant::now();
        checkpoint::save(self.folder, done, self.hash, task.tensors(), self.keep)
    }
}

/// A fingerprint of all that changes the numbers of a run. What is written when does not; and `steps` may change between
/// resumes, so that a run can be made longer or shorter (its learning rates then follow the new number).
fn recipe_hash(recipe: &Recipe) -> String {
    let recipe = Recipe {
        output: Default::default(),
        steps: 0,
        ..recipe.clone()
    };
    let text = serde_json::to_string(&recipe).expect("a recipe is plain data");
    ravel_weights::sha256_hex(text.as_bytes())[..16].to_string()
}
