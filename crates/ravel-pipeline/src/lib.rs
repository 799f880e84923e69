//! The definition file that names every part of a pipeline, and the one place that turns a `kind` into a built part.
//!
//! A [`Definition`] is TOML; its files lie beside it or in the binary ([`Source`]). [`build`] gives [`Parts`], trait objects that a
//! task's crate runs; [`build_language`] gives those of a language model.

mod build;
mod caption;
mod clip;
mod conditioner;
mod costs;
mod definition;
mod fish_vocabulary;
mod image_model;
mod known;
mod language;
mod latent_model;
mod published;
mod sizes;
mod sound;
mod sound_model;
mod source;
mod speech;
mod speech_model;
mod tokenizer_part;
mod toml_error;
mod video;
mod weights_type;

pub use build::{Parts, build, build_tokenizer, build_video_tokenizer, fresh_tokenizer};
pub use caption::{CaptionConditioner, DescriptionConditioner};
pub use clip::build_clip_tokenizer;
pub use conditioner::{ClassConditioner, Conditioner, WordConditioner};
pub use costs::{Costs, Span, Work};
pub use definition::{BackbonePart, Definition, Task, TextPart, schema};
pub use fish_vocabulary::FishVocabulary;
pub use image_model::{ModelPart, build_random};
pub use known::{Files, PUBLISHED_TOKENIZERS};
pub use language::{
    FreshLanguage, LanguageParts, build_language, build_random_language, check_vocabulary,
};
pub use latent_model::{LatentParts, build_latents};
pub use published::Published;
pub use ravel_nn::WeightsType;
pub use sizes::Sizes;
pub use sound::build_sound_tokenizer;
pub use sound_model::{SoundModel, SoundModelPart, SoundModelParts, build_sound_model};
pub use source::Source;
pub use speech::{SpeechParts, SpeechText, build_random_speech, build_speech};
pub use speech_model::{
    DepthModel, DepthPart, DurationModel, DurationsConfig, Prompt, SpeechModel, SpeechPart,
    SpeechShape,
};
pub use tokenizer_part::TokenizerPart;
pub use toml_error::{DefinitionError, parse_toml};
pub use video::{TextParts, VideoParts, build_video};
pub use weights_type::KeptAs;

/// What keeps a pipeline from being built.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The definition cannot be read.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A part that the task needs is not in the definition.
    #[error("{name}: a {task} pipeline needs `{part}`")]
    Lacks {
        /// The pipeline.
        name: String,
        /// Its task.
        task: String,
        /// The missing table or key.
        part: &'static str,
    },
    /// A file that the definition names cannot be used.
    #[error("{file}: {reason}")]
    File {
        /// The file as the definition names it.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of a published model that is not in the cache.
    #[error("{file}: not in the cache ({cache})")]
    NotPulled {
        /// The file as the definition names it.
        file: String,
        /// The same as `ravel models pull` takes it.
        target: String,
        /// Where it was looked for.
        cache: String,
    },
    /// Weights that do not fit: all of both files.
    #[error("{0}")]
    Weights(String),
    /// A configuration that no part can be built from.
    #[error("{name}: {source}")]
    Part {
        /// The pipeline.
        name: String,
        /// Field, value and what would do.
        source: ravel_core::Error,
    },
    /// A vocabulary that has more ids than the model has rows.
    #[error(
        "{file} has {ids} ids, the model's table of embeddings {rows} rows: the file belongs to another model"
    )]
    Vocabulary {
        /// The vocabulary's file.
        file: String,
        /// One more than its largest id.
        ids: usize,
        /// Rows of the table.
        rows: usize,
    },
    /// A vocabulary without an id that the model's configuration names.
    #[error(
        "{file} has no id {id}, by which the model's texts begin or end ({config}): the file belongs to another model"
    )]
    Foreign {
        /// The vocabulary's file.
        file: String,
        /// The id.
        id: u32,
        /// The configuration's file.
        config: String,
    },
    /// A published model that cannot be built.
    #[error(transparent)]
    Family(#[from] ravel_families::FamilyError),
    /// Text that cannot be said.
    #[error(transparent)]
    Pronounce(#[from] ravel_pronounce::PronounceError),
    /// The subword file.
    #[error(transparent)]
    Text(#[from] ravel_text::TextError),
}

impl PipelineError {
    /// Names what is to be pulled by the pipeline's own name, where the hub's catalogue knows a model of that name with that file.
    fn of(self, name: &str) -> Self {
        let Self::NotPulled {
            file,
            target,
            cache,
        } = self
        else {
            return self;
        };
        let needs = |needed: &ravel_hub::Target| match needed.file {
            Some(_) => needed.to_string() == target,
            None => target.starts_with(&format!("{needed}:")),
        };
        let all = ravel_hub::entry(name).and_then(|entry| entry.targets().ok());
        let known = all.is_some_and(|all| all.iter().any(needs));
        Self::NotPulled {
            target: if known { name.into() } else { target },
            file,
            cache,
        }
    }
}
