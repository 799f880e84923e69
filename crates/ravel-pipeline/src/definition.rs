//! The definition file.

use ravel_backbone::TransformerConfig;
use ravel_core::ImageSpec;
use ravel_decode::{DecodingConfig, FillingConfig, SamplerConfig};
use ravel_heads::{HeadConfig, NextFrameConfig};
use ravel_text::Classes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image_model::ModelPart;
use crate::tokenizer_part::TokenizerPart;
use crate::{
    DefinitionError, KeptAs, PipelineError, Published, Sizes, SoundModelPart, Source, SpeechPart,
    parse_toml,
};

/// What a pipeline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A prompt becomes a picture.
    TextToImage,
    /// A picture becomes codes and back; no generator.
    ImageTokenizer,
    /// A clip becomes codes and back; no generator.
    VideoTokenizer,
    /// Sound becomes codes and back; no generator.
    SoundTokenizer,
    /// Frames in, the frames that come next out.
    VideoContinuation,
    /// Text goes on.
    TextGeneration,
    /// Text is spoken.
    TextToSpeech,
    /// A description becomes music.
    TextToMusic,
}

impl Task {
    /// The task as definitions write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TextToImage => "text-to-image",
            Self::ImageTokenizer => "image-tokenizer",
            Self::VideoTokenizer => "video-tokenizer",
            Self::SoundTokenizer => "sound-tokenizer",
            Self::VideoContinuation => "video-continuation",
            Self::TextGeneration => "text-generation",
            Self::TextToSpeech => "text-to-speech",
            Self::TextToMusic => "text-to-music",
        }
    }
}

/// Every part of a pipeline, and the settings to run it with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Definition {
    /// What it is for.
    pub task: Task,
    /// What people call it.
    pub name: String,
    /// What it makes, in a line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Licence of the weights.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub licence: String,
    /// File with the generator's weights: `prefix.*`, `backbone.*`, `head.*` and what belongs to `speech`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Of what type the generator's weights are kept.
    #[serde(default, skip_serializing_if = "KeptAs::is_auto")]
    pub weights_type: KeptAs,
    /// How a prompt is split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextPart>,
    /// How units follow one another.
    #[serde(default)]
    pub decoding: DecodingConfig,
    /// How a frame of video is filled; in a few passes if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filling: Option<FillingConfig>,
    /// Sampling settings where a request names none.
    #[serde(default)]
    pub sampler: SamplerConfig,
    /// What turns codes into signals; text has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerPart>,
    /// The sequence model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<BackbonePart>,
    /// What is predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadConfig>,
    /// What a pipeline that speaks has beside text, backbone and head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech: Option<SpeechPart>,
    /// A published model of pictures, which stands for backbone and head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelPart>,
    /// A published model that speaks or makes music, which stands for text, backbone and head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound_model: Option<SoundModelPart>,
    /// The files of a published language model, which then say all the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

/// How a prompt is split into ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
pub enum TextPart {
    /// Subwords of a `tokenizer.json`.
    Subword {
        /// The file.
        file: String,
        /// Positions of every prompt.
        length: usize,
    },
    /// All that a language model reads and writes: the vocabulary of a `tokenizer.json`.
    Vocabulary {
        /// The file.
        file: String,
        /// Positions that the model sees at once.
        context: usize,
        /// Tokens that end a text.
        #[serde(default)]
        end: Vec<String>,
    },
    /// The name or number of a class.
    Classes {
        /// A line per class: an id, a tab, names with commas between them.
        file: String,
    },
    /// A caption that a text encoder (T5) reads.
    Caption {
        /// The encoder's `tokenizer.json`.
        vocabulary: String,
        /// The encoder's `config.json`.
        config: String,
        /// The encoder's weights, or the index of several files.
        weights: String,
        /// Positions of every caption.
        length: usize,
    },
    /// English as phonemes, after a voice and a speed.
    Phonemes {
        /// Voices by name, in the order of their ids.
        voices: Vec<String>,
        /// Speeds by name, in the order of their ids.
        #[serde(default)]
        speeds: Vec<String>,
        /// Symbols of one utterance at most; longer sentences are cut.
        length: usize,
    },
}

impl TextPart {
    /// All files that it names.
    fn files(&self) -> Vec<&str> {
        match self {
            Self::Subword { file, .. } | Self::Vocabulary { file, .. } | Self::Classes { file } => {
                vec![file]
            }
            Self::Caption {
                vocabulary,
                config,
                weights,
                ..
            } => vec![vocabulary, config, weights],
            Self::Phonemes { .. } => Vec::new(),
        }
    }
}

/// The sequence model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
pub enum BackbonePart {
    /// The shared transformer.
    Transformer {
        /// Sizes and choices.
        #[serde(default)]
        config: TransformerConfig,
    },
}

impl Definition {
    /// Reads a definition; `path` stands for it in messages.
    ///
    /// # Errors
    /// [`DefinitionError`] with line and column.
    pub fn parse(path: &str, text: &str) -> Result<Self, DefinitionError> {
        parse_toml(path, text)
    }

    /// The definition as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a definition is plain data")
    }

    /// All files that it names: of its text, its generator, its tokenizer, or those of a published language model.
    pub fn files(&self) -> Vec<&str> {
        let mut files = self.text.as_ref().map_or(Vec::new(), TextPart::files);
        files.extend(self.published.iter().flat_map(Published::files));
        files.extend(self.sound_model.iter().flat_map(SoundModelPart::files));
        files.extend(self.weights.as_deref());
        files.extend(self.tokenizer.as_ref().map(TokenizerPart::weights));
        files
    }

    /// The classes that prompts name, if prompts are names of classes.
    ///
    /// # Errors
    /// [`PipelineError`] if the file is not there or holds no classes.
    pub fn classes(&self, source: &Source) -> Result<Option<Classes>, PipelineError> {
        let Some(TextPart::Classes { file }) = &self.text else {
            return Ok(None);
        };
        let bytes = source.read(file)?;
        Ok(Some(Classes::from_bytes(&bytes, file)?))
    }

    /// Checks all that can be known without building: parts, sizes that must agree, files.
    ///
    /// # Errors
    /// [`PipelineError`] names the first thing that does not fit.
    pub fn check(&self, source: &Source) -> Result<(), PipelineError> {
        let part = |source| PipelineError::Part {
            name: self.name.clone(),
            source,
        };
        if matches!(self.task, Task::VideoTokenizer | Task::VideoContinuation) {
            return self.check_video(source);
        }
        if self.task == Task::TextGeneration {
            return self.check_language(source);
        }
        if self.task == Task::SoundTokenizer {
            return self.check_sound(source);
        }
        if self.task == Task::TextToMusic || self.sound_model.is_some() {
            return self.check_sound_model(source);
        }
        if self.task == Task::TextToSpeech {
            return self.check_speech(source);
        }
        if !self.decoding.is_one_by_one() {
            return Err(part(ravel_core::Error::Config {
                field: "decoding.kind".into(),
                found: "a method for text".into(),
                expected: "one-by-one".into(),
            }));
        }
        if let Some(ModelPart::Mar(Sizes(config))) = &self.model {
            return self.check_latents(config, source);
        }
        let tokenizer = self.tokenizer_part()?;
        let spec = tokenizer.spec().map_err(part)?;
        for file in self.files().into_iter().rev() {
            source.check(file).map_err(|error| error.of(&self.name))?;
        }
        if self.task == Task::ImageTokenizer {
            return Ok(());
        }
        if let Some(model) = &self.model {
            return self.check_model(model, source);
        }
        let (text, backbone, head) = self.generator_parts()?;
        let (_, length) = self.subwords(text)?;
        let BackbonePart::Transformer { config } = backbone;
        config.validate().map_err(part)?;
        head.validate().map_err(part)?;
        self.sampler.validate().map_err(part)?;
        check_head(head, &spec).map_err(part)?;
        check_axes(config, &spec).map_err(part)?;
        if length < 2 {
            return Err(part(ravel_core::Error::Config {
                field: "text.length".into(),
                found: length.to_string(),
                expected: "2 at least".into(),
            }));
        }
        Ok(())
    }

    fn check_video(&self, source: &Source) -> Result<(), PipelineError> {
        let part = |source| PipelineError::Part {
            name: self.name.clone(),
            source,
        };
        let tokenizer = self.tokenizer_part()?;
        let weights = || {
            let checked = source.check(tokenizer.weights());
            checked.map_err(|error| error.of(&self.name))
        };
        if self.task == Task::VideoTokenizer && tokenizer.is_clip() {
            tokenizer.clip_spec().map_err(part)?;
            return weights();
        }
        let spec = tokenizer.video_spec().map_err(part)?;
        weights()?;
        if self.task == Task::VideoTokenizer {
            return Ok(());
        }
        let (backbone, head) = self.video_parts()?;
        source.check(self.weights.as_deref().unwrap_or_default())?;
        backbone.validate().map_err(part)?;
        head.validate_for(&spec, backbone.axes()).map_err(part)?;
        self.sampler.validate().map_err(part)?;
        if let Some(filling) = &self.filling {
            filling.validate().map_err(part)?;
        }
        if let Some(TextPart::Subword { file, .. }) = &self.text {
            source.check(file)?;
        }
        Ok(())
    }

    /// The parts that predict video.
    pub(crate) fn video_parts(
        &self,
    ) -> Result<(&TransformerConfig, &NextFrameConfig), PipelineError> {
        self.weights.as_ref().ok_or_else(|| self.lacks("weights"))?;
        let BackbonePart::Transformer { config } = self
            .backbone
            .as_ref()
            .ok_or_else(|| self.lacks("backbone"))?;
        match &self.head {
            Some(HeadConfig::NextFrame(head)) => Ok((config, head)),
            _ => Err(self.lacks("head of kind \"next-frame\"")),
        }
    }

    /// What turns codes into signals.
    ///
    /// # Errors
    /// [`PipelineError::Lacks`] if the definition has no such table.
    pub fn tokenizer_part(&self) -> Result<&TokenizerPart, PipelineError> {
        self.tokenizer
            .as_ref()
            .ok_or_else(|| self.lacks("tokenizer"))
    }

    pub(crate) fn lacks(&self, part: &'static str) -> PipelineError {
        PipelineError::Lacks {
            name: self.name.clone(),
            task: self.task.name().into(),
            part,
        }
    }

    /// The subword file of prompts and the prompts' length.
    pub(crate) fn subwords<'a>(
        &self,
        text: &'a TextPart,
    ) -> Result<(&'a str, usize), PipelineError> {
        match text {
            TextPart::Subword { file, length } => Ok((file, *length)),
            _ => Err(self.lacks("text of kind \"subword\"")),
        }
    }

    /// The parts that only a generator has.
    pub(crate) fn generator_parts(
        &self,
    ) -> Result<(&TextPart, &BackbonePart, &HeadConfig), PipelineError> {
        self.weights.as_ref().ok_or_else(|| self.lacks("weights"))?;
        Ok((
            self.text.as_ref().ok_or_else(|| self.lacks("text"))?,
            self.backbone
                .as_ref()
                .ok_or_else(|| self.lacks("backbone"))?,
            self.head.as_ref().ok_or_else(|| self.lacks("head"))?,
        ))
    }
}

/// Whether codes have as many coordinates as the rotation turns with.
fn check_axes(config: &TransformerConfig, spec: &ImageSpec) -> ravel_core::Result<()> {
    let known = spec.layout.coords().first().map_or(1, Vec::len);
    match config.axes() <= known.max(1) {
        true => Ok(()),
        false => Err(ravel_core::Error::Config {
            field: "backbone.config.rotary.axes".into(),
            found: config.axes().to_string(),
            expected: format!("1 to {known} for {}", spec.layout.describe()),
        }),
    }
}

/// Whether the head's ids are the tokenizer's.
fn check_head(head: &HeadConfig, spec: &ImageSpec) -> ravel_core::Result<()> {
    let (size, width) = match head {
        HeadConfig::NextToken(head) => (head.codebook_size, head.code_width),
        HeadConfig::NextScale(head) => {
            head.validate_for(&spec.layout)?;
            (head.codebook_size, Some(head.code_width))
        }
        HeadConfig::NextFrame(_) | HeadConfig::NextTokens(_) => {
            return Err(ravel_core::Error::Config {
                field: "head.kind".into(),
                found: head.kind().into(),
                expected: "a head that predicts pictures".into(),
            });
        }
    };
    let agree = |field: &str, found: usize, expected: usize| match found == expected {
        true => Ok(()),
        false => Err(ravel_core::Error::Config {
            field: field.into(),
            found: found.to_string(),
            expected: format!("{expected}, the tokenizer's own"),
        }),
    };
    agree("head.codebook-size", size, spec.codes.codebook_size)?;
    agree(
        "head.code-width",
        width.unwrap_or(spec.codes.code_width),
        spec.codes.code_width,
    )
}

/// The JSON schema of definitions.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Definition);
    serde_json::to_string_pretty(&schema).expect("a schema is plain data")
}
