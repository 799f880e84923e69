//! Training: recipes, data readers, losses, optimizers, checkpoints that survive a kill and exact resume.
//!
//! A [`Recipe`] (TOML) names the data, the parts and the numbers; [`train`] runs it in a folder and tells a
//! [`Watch`] what happens. Every random choice of step `n` follows from the recipe's seed and `n` alone, so a run
//! that was stopped and resumed gives the same bytes as one that was not (on the CPU).

mod align;
mod checkpoint;
mod clip_captions;
mod clips;
mod code_table;
mod data;
mod generator;
mod language;
mod learner;
mod lessons;
mod log;
mod loss;
mod optimizer;
mod recipe;
mod run;
mod self_correct;
mod sound_loss;
mod sound_tokenizer;
mod sounds;
mod speech;
mod speech_lesson;
mod speech_loss;
mod steps;
mod tokenizer;
mod video_generator;
mod video_tokenizer;

use std::path::PathBuf;

use burn::tensor::Tensor;

pub use clips::{ClipItem, ClipObject, ClipRow, Clips, Part};
pub use data::{Batches, DataConfig, Item, LikeLengths, Pictures};
pub use generator::{GeneratorTask, TextToImageModel};
pub use language::{LanguageModel, LanguageTask};
pub use log::loss_plot;
pub use loss::{
    ReconstructionConfig, cross_entropy, reconstruction, soft_answers, soft_cross_entropy,
};
pub use optimizer::{Optimizer, OptimizerConfig, Update, follow};
pub use recipe::{
    ClipTextConfig, GeneratorConfig, LanguageConfig, OutputConfig, Products, Recipe,
    SoundTokenizerConfig, SpeechConfig, TaskConfig, TokenizerConfig, VideoGeneratorConfig,
    VideoTokenizerConfig,
};
pub use run::{Event, Outcome, Sample, StepWork, Task, Watch, train};
pub use sound_loss::{MelDistance, SoundLoss, SoundLossConfig};
pub use sound_tokenizer::SoundTokenizerTask;
pub use sounds::{Recording, Sounds, Split};
pub use speech::SpeechTask;
pub use speech_loss::speech_loss;
pub use steps::Steps;
pub use tokenizer::TokenizerTask;
pub use video_generator::{VideoGeneratorTask, VideoModel};
pub use video_tokenizer::VideoTokenizerTask;

/// What stops a training run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe cannot be read or says something impossible.
    #[error("{path}: {reason}")]
    Recipe {
        /// The recipe's file, with line and column where they are known.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The training data cannot be read.
    #[error("{path}: {reason}")]
    Data {
        /// File, and line where it applies.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint cannot be written, read or resumed.
    #[error("checkpoint: {reason}")]
    Checkpoint {
        /// What is wrong with it.
        reason: String,
    },
    /// A number that is none: the run stops before it spoils the weights.
    #[error("step gives NaN or infinity in {place}")]
    NotFinite {
        /// The tensor.
        place: String,
    },
    /// Weights that do not fit.
    #[error(transparent)]
    Weights(#[from] ravel_weights::WeightsError),
    /// Pictures that cannot be read or written.
    #[error(transparent)]
    Media(#[from] ravel_media::MediaError),
    /// Text that cannot be split.
    #[error(transparent)]
    Text(#[from] ravel_text::TextError),
    /// A definition that cannot be read or built.
    #[error(transparent)]
    Pipeline(#[from] ravel_pipeline::PipelineError),
    /// A part that cannot be built or fed.
    #[error(transparent)]
    Part(#[from] ravel_core::Error),
    /// The run folder cannot be written.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The tensor's numbers on the host. Waits for the device.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("numbers were converted to f32")
}
