//! The recipe file: data, parts and numbers of one training run.

use std::path::{Path, PathBuf};

use causal_video::CausalVideoConfig;
use multiscale_image::MultiscaleImageConfig;
use ravel_backbone::TransformerConfig;
use ravel_decode::{FillingConfig, SamplerConfig};
use ravel_heads::{HeadConfig, NextFrameConfig, NextTokensConfig};
use ravel_pipeline::SpeechPart;
use ravel_quant::EmaConfig;
use ravel_text::Rewrite;
use rvq_codec::SpectralConfig;
use serde::{Deserialize, Serialize};
use vq_image::VqImageConfig;

use crate::{DataConfig, OptimizerConfig, ReconstructionConfig, SoundLossConfig, TrainError};

/// Most rows of a step.
const MOST_BATCH: usize = 65_536;

/// One training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// The trained part's name.
    pub name: String,
    /// What it is, for the definition that is exported.
    #[serde(default)]
    pub description: String,
    /// Licence of the trained weights.
    #[serde(default)]
    pub licence: String,
    /// The one source of randomness.
    #[serde(default = "one")]
    pub seed: u64,
    /// Updates in all.
    pub steps: usize,
    /// Pictures or stretches of text per update.
    pub batch: usize,
    /// What the factors of products are rounded to.
    #[serde(default, skip_serializing_if = "Products::is_f32")]
    pub products: Products,
    /// Where the pictures are, for tasks that see any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataConfig>,
    /// What is trained.
    pub task: TaskConfig,
    /// How weights are updated.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// What is written, and when.
    #[serde(default)]
    pub output: OutputConfig,
}

fn one() -> u64 {
    1
}

/// What the factors of a step's products are rounded to. Weights, sums, norms and the optimizer stay in 32 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Products {
    /// Not at all.
    #[default]
    F32,
    /// To bfloat16, in linear layers and attention, several times as fast where the processor multiplies such numbers.
    /// On other processors and on a GPU it changes nothing.
    Bf16,
}

impl Products {
    fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// What a step gives whose products' factors are rounded so.
    pub(crate) fn within<T>(self, step: impl FnOnce() -> T) -> T {
        match self {
            Self::F32 => step(),
            Self::Bf16 => ravel_kernels::tracked::in_halves(step),
        }
    }
}

/// What is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)] // One recipe exists per run.
pub enum TaskConfig {
    /// An image tokenizer.
    Tokenizer(TokenizerConfig),
    /// A text-to-image generator over a trained tokenizer's codes.
    Generator(GeneratorConfig),
    /// A video tokenizer.
    VideoTokenizer(VideoTokenizerConfig),
    /// A next-frame generator over a trained video tokenizer's codes.
    VideoGenerator(VideoGeneratorConfig),
    /// A language model on plain text.
    Text(LanguageConfig),
    /// A sound tokenizer.
    SoundTokenizer(SoundTokenizerConfig),
    /// A speech generator over a trained sound tokenizer's codes.
    Speech(SpeechConfig),
}

/// Training of an image tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TokenizerConfig {
    /// The tokenizer.
    pub model: TokenizerModelConfig,
    /// Steps as a plain autoencoder before the quantizer is switched on.
    #[serde(default)]
    pub warm_steps: usize,
    /// Weight of the commitment loss (beta).
    #[serde(default = "quarter")]
    pub commitment: f64,
    /// How codebook vectors follow the encoder.
    #[serde(default)]
    pub codebook: EmaConfig,
    /// The last share of the steps in which dead codes are left alone, so that the codebook settles.
    #[serde(default)]
    pub settle: f64,
    /// The reconstruction loss.
    #[serde(default)]
    pub reconstruction: ReconstructionConfig,
}

fn quarter() -> f64 {
    0.25
}

/// Training of a sound tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SoundTokenizerConfig {
    /// A file of JSON lines that names the recordings (see [`crate::Sounds::read`]).
    pub rows: PathBuf,
    /// The tokenizer.
    #[serde(default)]
    pub model: SpectralConfig,
    /// Frames of codes of a stretch of sound; a step hears `batch` of them.
    pub frames: usize,
    /// Steps as a plain autoencoder before the quantizer is switched on.
    #[serde(default)]
    pub warm_steps: usize,
    /// Weight of the commitment loss (beta).
    #[serde(default = "quarter")]
    pub commitment: f64,
    /// How codebook vectors follow the encoder.
    #[serde(default)]
    pub codebook: EmaConfig,
    /// The last share of the steps in which dead codes are left alone, so that the codebooks settle.
    #[serde(default)]
    pub settle: f64,
    /// The reconstruction loss.
    #[serde(default)]
    pub loss: SoundLossConfig,
}

/// Training of a speech generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SpeechConfig {
    /// A file of JSON lines that names the recordings (see [`crate::Sounds::read`]).
    pub rows: PathBuf,
    /// Folder with the trained tokenizer's `tokenizer.toml`, or the `pipeline.toml` of a pipeline that has it.
    pub tokenizer: PathBuf,
    /// Voices by name that stand first in the exported definition, in this order; the others follow by the alphabet. The first of all is what
    /// people get who ask for none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voices: Vec<String>,
    /// Speeds by name, as the rows have them; the first one is what people get who ask for none.
    #[serde(default)]
    pub speeds: Vec<String>,
    /// Symbols of an utterance at most, in the exported definition.
    pub text_length: usize,
    /// The sequence model.
    #[serde(default)]
    pub backbone: TransformerConfig,
    /// What is predicted.
    pub head: NextTokensConfig,
    /// Share of utterances whose voice is not told, so that given codes can tell it.
    #[serde(default = "tenth")]
    pub drop_voice: f64,
    /// Share of utterances whose voice is shown by another one of the same voice rather than told: read by `speech.reference`, or with its
    /// words in front. With `speech.reference`, voices without a name are always shown.
    #[serde(default)]
    pub references: f64,
    /// What the model has beside text, sequence model and head.
    #[serde(default)]
    pub speech: SpeechPart,
    /// Folder of a finished run with the same voices, speeds, backbone and head, whose weights are the first ones. Durations, and other parts
    /// of `speech` that it has not, are drawn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// Sampling settings, for samples and in the exported definition.
    #[serde(default)]
    pub sampler: SamplerConfig,
}

/// Which tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "config", rename_all = "kebab-case")]
pub enum TokenizerModelConfig {
    /// One grid of codes.
    VqImage(VqImageConfig),
    /// A coarse-to-fine pyramid of codes.
    MultiscaleImage(MultiscaleImageConfig),
}

/// Training of a video tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VideoTokenizerConfig {
    /// The tokenizer.
    pub model: CausalVideoConfig,
    /// Groups after the first frame that a step decodes one on another; none trains the coder of first frames alone.
    pub groups: usize,
    /// Folder of a finished run of the same tokenizer, where training begins. Without groups to train, its coder of later groups is
    /// kept and first frames are learned anew.
    #[serde(default)]
    pub start_from: Option<PathBuf>,
    /// Whether the coder of first frames stays as it is.
    #[serde(default)]
    pub keep_first: bool,
    /// The largest share of later codes that are decoded wrongly, as those of a neighbouring cell or as none, so that the decoder
    /// makes up for a generator's mistakes.
    #[serde(default)]
    pub wrong_codes: f64,
    /// Weight of the later groups' loss; the first frame's is 1.
    #[serde(default = "four")]
    pub later_weight: f64,
    /// Weight of the share of pixels that are painted anew rather than moved.
    #[serde(default = "hundredth")]
    pub paint: f64,
    /// The reconstruction loss.
    #[serde(default)]
    pub reconstruction: ReconstructionConfig,
}

/// Training of a next-frame generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VideoGeneratorConfig {
    /// Folder with the trained tokenizer's `tokenizer.toml`.
    pub tokenizer: PathBuf,
    /// Groups of frames that a step predicts, one after another.
    pub groups: usize,
    /// The sequence model.
    #[serde(default)]
    pub backbone: TransformerConfig,
    /// What is predicted.
    pub head: NextFrameConfig,
    /// Share of clips whose canvases are always the true frames.
    #[serde(default = "quarter")]
    pub clean: f64,
    /// The largest share of wrong codes on canvases of the tokenizer's own.
    #[serde(default)]
    pub corrupt_codes: f64,
    /// The largest share of groups on canvases of the tokenizer's own whose codes are guesses of the run that this one starts from, drawn as
    /// `sampler` says, so that what is to be mended looks like the model's own mistakes.
    #[serde(default)]
    pub own_codes: f64,
    /// Whether the colour channels of a clip change places at random.
    #[serde(default)]
    pub recolour: bool,
    /// What the model is told of a clip in words, if anything.
    #[serde(default)]
    pub text: Option<ClipTextConfig>,
    /// Folder of a finished run with the same backbone, head and text, whose weights are the first ones. The window may be another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// How frames are filled, for validation and in the exported definition.
    #[serde(default)]
    pub filling: FillingConfig,
    /// Sampling settings written into the exported definition.
    #[serde(default)]
    pub sampler: SamplerConfig,
}

fn four() -> f64 {
    4.0
}

fn hundredth() -> f64 {
    0.01
}

/// Captions of clips as a prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClipTextConfig {
    /// Ids of the subword vocabulary that is trained on the captions.
    pub vocabulary_size: usize,
    /// Positions of the prefix.
    pub length: usize,
    /// Share of captions replaced by the empty prompt, so that the model also goes on without words.
    #[serde(default = "half")]
    pub drop: f64,
}

fn half() -> f64 {
    0.5
}

/// Training of a text-to-image generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GeneratorConfig {
    /// Folder with the trained tokenizer's `tokenizer.toml`.
    pub tokenizer: PathBuf,
    /// Ids of the subword vocabulary that is trained on the captions.
    pub vocabulary_size: usize,
    /// Positions of the text prefix.
    pub text_length: usize,
    /// Whether subwords may span words, so that a phrase that many captions share is one of them.
    #[serde(default)]
    pub phrases: bool,
    /// What is written differently in captions and prompts alike: leading articles left out, say.
    #[serde(default)]
    pub rewrites: Vec<Rewrite>,
    /// The sequence model.
    #[serde(default)]
    pub backbone: TransformerConfig,
    /// What is predicted.
    pub head: HeadConfig,
    /// Share of captions replaced by the empty prompt, for guidance.
    #[serde(default = "tenth")]
    pub drop_caption: f64,
    /// Share of captions replaced by one of the picture's alternates.
    #[serde(default)]
    pub alternate_caption: f64,
    /// The largest share of a picture's codes that are shown as another picture's, each picture's share drawn evenly from
    /// zero to it. What is predicted stays clean, so that the model trusts the words more than its own codes and mends
    /// wrong ones (the idea of Infinity's self-correction, Han et al. 2024, section 3.3).
    #[serde(default)]
    pub corrupt_codes: f64,
    /// Whether the scales after a wrong code are predicted as what mends it, not as what the clean picture has there:
    /// each later scale is coded again from what the wrong canvas left (Infinity, section 3.3). Wrong codes are then those
    /// of the row before or of a neighbour in the data, half and half. Needs a next-scale head.
    #[serde(default)]
    pub self_correct: bool,
    /// Share of each answer's weight that goes to the codes nearest to it, so that a code is learned as a place among others
    /// and not as a name only: what was never seen together then lands near where it belongs.
    #[serde(default)]
    pub soft_codes: f64,
    /// Folder of a finished run with the same text, backbone and head, whose weights are the first ones.
    #[serde(default)]
    pub start_from: Option<PathBuf>,
    /// Sampling settings written into the exported definition.
    #[serde(default)]
    pub sampler: SamplerConfig,
}

fn tenth() -> f64 {
    0.1
}

/// Training of a language model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LanguageConfig {
    /// Plain text files (UTF-8) to learn from.
    pub train: Vec<PathBuf>,
    /// Plain text files that are never learned from.
    #[serde(default)]
    pub held_out: Vec<PathBuf>,
    /// Ids of the vocabulary that is learned from the same files.
    pub vocabulary_size: usize,
    /// Positions that the model sees at once.
    pub context: usize,
    /// Stretches of `context` positions that a validation reads at most, spread evenly.
    #[serde(default = "sixty_four")]
    pub validate_stretches: usize,
    /// The sequence model.
    #[serde(default)]
    pub backbone: TransformerConfig,
    /// Whether the table of embeddings is also the projection to scores.
    #[serde(default = "yes")]
    pub tie: bool,
    /// Sampling settings written into the exported definition.
    #[serde(default)]
    pub sampler: SamplerConfig,
}

fn sixty_four() -> usize {
    64
}

fn yes() -> bool {
    true
}

/// What a run writes, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OutputConfig {
    /// Minutes between checkpoints.
    pub checkpoint_minutes: f64,
    /// Checkpoints that are kept.
    pub keep: usize,
    /// Steps between lines of the log.
    pub log_steps: usize,
    /// Steps between validations on the held-out pictures.
    pub validate_steps: usize,
    /// Steps between sample sheets.
    pub sample_steps: usize,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            checkpoint_minutes: 5.0,
            keep: 2,
            log_steps: 10,
            validate_steps: 250,
            sample_steps: 500,
        }
    }
}

impl Recipe {
    /// Reads a recipe. Relative paths in it stay relative to the working folder.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] with line and column.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|source| TrainError::File {
            path: path.into(),
            source,
        })?;
        let recipe: Self = ravel_pipeline::parse_toml(&path.display().to_string(), &text)
            .map_err(ravel_pipeline::PipelineError::from)?;
        recipe.validate(&path.display().to_string())?;
        Ok(recipe)
    }

    /// Where the pictures are.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] if the recipe names none.
    pub fn pictures(&self) -> Result<&DataConfig, TrainError> {
        self.data.as_ref().ok_or_else(|| TrainError::Recipe {
            path: self.name.clone(),
            reason: "the table `data` is missing: where the pictures are".into(),
        })
    }

    fn validate(&self, path: &str) -> Result<(), TrainError> {
        let wrong = |reason: &str| {
            Err(TrainError::Recipe {
                path: path.into(),
                reason: reason.into(),
            })
        };
        if self.steps == 0 || !(1..=MOST_BATCH).contains(&self.batch) {
            return wrong("`steps` must be at least 1, `batch` 1 to 65536");
        }
        if let Some(data) = &self.data {
            if data.size == 0 || data.size > 4096 {
                return wrong("`data.size` must be in 1..=4096 pixels");
            }
            if data.shift >= data.size {
                return wrong("`data.shift` must be smaller than `data.size`");
            }
        }
        if let TaskConfig::Text(task) = &self.task {
            if task.train.is_empty() {
                return wrong("`task.train` names no file");
            }
            if task.context == 0 || task.validate_stretches == 0 {
                return wrong("`task.context` and `task.validate-stretches` must be at least 1");
            }
        } else if self.data.is_none()
            && !matches!(
                self.task,
                TaskConfig::SoundTokenizer(_) | TaskConfig::Speech(_)
            )
        {
            return wrong("the table `data` is missing: where the pictures are");
        }
        if let TaskConfig::VideoGenerator(task) = &self.task {
            let shares = [task.clean, task.corrupt_codes, task.own_codes];
            if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || task.groups == 0 {
                return wrong(
                    "`clean`, `corrupt-codes` and `own-codes` are shares in 0..=1, `groups` is at least 1",
                );
            }
            if task.own_codes > 0.0 && task.start_from.is_none() {
                return wrong("`own-codes` needs `start-from`, whose model guesses them");
            }
        }
        if let TaskConfig::VideoTokenizer(task) = &self.task
            && task.groups == 0
            && task.start_from.is_none()
            && !task.model.later.moves_only
        {
            return wrong(
                "`groups` must be at least 1 unless codes only move pixels (`moves-only`) or `start-from` names a run whose groups are kept",
            );
        }
        if let TaskConfig::VideoTokenizer(task) = &self.task
            && !(0.0..=1.0).contains(&task.wrong_codes)
        {
            return wrong("`wrong-codes` is a share in 0..=1");
        }
        if let TaskConfig::VideoTokenizer(task) = &self.task
            && task.keep_first
            && (task.groups == 0 || task.start_from.is_none() || task.model.later.moves_only)
        {
            return wrong(
                "`keep-first` needs `start-from`, whose coder of first frames it keeps, and `groups` that something is to be learned of (not `moves-only`)",
            );
        }
        if let TaskConfig::Speech(task) = &self.task {
            let shares = [task.drop_voice, task.references];
            if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
                return wrong("`drop-voice` and `references` are shares in 0..=1");
            }
        }
        if let TaskConfig::VideoGenerator(task) = &self.task
            && let Some(text) = &task.text
            && !(0.0..=1.0).contains(&text.drop)
        {
            return wrong("`text.drop` is a share in 0..=1");
        }
        if let TaskConfig::Generator(task) = &self.task {
            let shares = [
                task.drop_caption,
                task.alternate_caption,
                task.corrupt_codes,
                task.soft_codes,
            ];
            if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
                return wrong(
                    "`drop-caption`, `alternate-caption`, `corrupt-codes` and `soft-codes` are shares in 0..=1",
                );
            }
            if task.self_correct && !matches!(task.head, HeadConfig::NextScale(_)) {
                return wrong("`self-correct` needs a head of kind \"next-scale\"");
            }
        }
        Ok(())
    }
}
