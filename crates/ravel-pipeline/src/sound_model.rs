//! Published models that speak or make music: the files of each, and the built parts.

use burn::tensor::Device;
use ravel_core::{SoundSpec, SoundTokenizer};
use ravel_decode::SamplerConfig;
use ravel_decode::sampler::Ending;
use ravel_families::csm::{self, Csm};
use ravel_families::dia::{self, Dia};
use ravel_families::fish_dual_ar::{self, DualAr};
use ravel_families::musicgen::{self, WholeMusicGen};
use ravel_families::{FamilyError, t5};
use ravel_text::Vocabulary;
use ravel_weights::Checkpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::fingerprint;
use crate::fish_vocabulary::FishVocabulary;
use crate::sound::build_sound_tokenizer;
use crate::{Definition, PipelineError, Source, Task, check_vocabulary};

/// What begins and ends a text of CSM.
const AROUND: [&str; 2] = ["<|begin_of_text|>", "<|end_of_text|>"];

/// A published model that speaks or makes music. Its weights are the definition's `weights`, its codec is the `tokenizer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
pub enum SoundModelPart {
    /// Fish-Speech 1.5.
    FishSpeech {
        /// The model's configuration (`config.json`).
        config: String,
        /// Its vocabulary (`tokenizer.tiktoken`).
        vocabulary: String,
    },
    /// CSM.
    Csm {
        /// The model's configuration (`config.json`).
        config: String,
        /// Its vocabulary (`tokenizer.json`).
        vocabulary: String,
    },
    /// Dia, which reads bytes.
    Dia {
        /// The model's configuration (`config.json`).
        config: String,
    },
    /// MusicGen, with its text model.
    Musicgen {
        /// The configuration of the whole model (`config.json`).
        config: String,
        /// The text model's vocabulary (`tokenizer.json`).
        vocabulary: String,
    },
}

impl SoundModelPart {
    /// All files that it names.
    pub(crate) fn files(&self) -> Vec<&str> {
        match self {
            Self::FishSpeech { config, vocabulary }
            | Self::Csm { config, vocabulary }
            | Self::Musicgen { config, vocabulary } => vec![config, vocabulary],
            Self::Dia { config } => vec![config],
        }
    }

    fn config(&self) -> &str {
        match self {
            Self::FishSpeech { config, .. }
            | Self::Csm { config, .. }
            | Self::Musicgen { config, .. }
            | Self::Dia { config } => config,
        }
    }

    /// What it makes.
    fn task(&self) -> Task {
        match self {
            Self::Musicgen { .. } => Task::TextToMusic,
            _ => Task::TextToSpeech,
        }
    }
}

/// A built model with what reads its texts.
#[allow(clippy::large_enum_variant)] // One per pipeline.
pub enum SoundModel {
    /// Fish-Speech.
    FishSpeech {
        /// Its sizes.
        config: fish_dual_ar::Config,
        /// Words as ids.
        vocabulary: FishVocabulary,
        /// Both transformers.
        model: DualAr,
    },
    /// CSM.
    Csm {
        /// Its sizes.
        config: csm::Config,
        /// Words as ids.
        vocabulary: Vocabulary,
        /// What begins and what ends a text.
        around: [u32; 2],
        /// Both transformers.
        model: Csm,
    },
    /// Dia.
    Dia {
        /// Its sizes.
        config: dia::Config,
        /// Encoder and decoder.
        model: Dia,
    },
    /// MusicGen.
    Musicgen {
        /// Its sizes.
        config: musicgen::Whole,
        /// Words as ids.
        vocabulary: Vocabulary,
        /// Text model and decoder.
        model: WholeMusicGen,
    },
}

/// Everything that a published model makes sound with.
pub struct SoundModelParts {
    /// The model.
    pub model: SoundModel,
    /// Codes to sound.
    pub codec: Box<dyn SoundTokenizer>,
    /// Settings where a request names none.
    pub sampler: SamplerConfig,
    /// The definition's name.
    pub name: String,
    /// A fingerprint of the definition and its files.
    pub hash: String,
    /// Where the weights are.
    pub device: Device,
}

/// A model's sizes, before any weights.
enum Sizes {
    FishSpeech(fish_dual_ar::Config),
    Csm(csm::Config),
    Dia(dia::Config),
    Musicgen(musicgen::Whole),
}

impl Sizes {
    fn read(part: &SoundModelPart, source: &Source) -> Result<Self, PipelineError> {
        let file = part.config();
        let json = source.read(file)?;
        let json = String::from_utf8_lossy(&json);
        let read = match part {
            SoundModelPart::FishSpeech { .. } => {
                fish_dual_ar::Config::read(&json).map(Self::FishSpeech)
            }
            SoundModelPart::Csm { .. } => csm::Config::read(&json).map(Self::Csm),
            SoundModelPart::Dia { .. } => dia::Config::read(&json).map(Self::Dia),
            SoundModelPart::Musicgen { .. } => musicgen::Whole::read(&json).map(Self::Musicgen),
        };
        read.map_err(|error| PipelineError::File {
            file: file.into(),
            reason: error.to_string(),
        })
    }

    /// The field with the number of codebooks, that number, and ids of a codebook that can be chosen.
    fn codes(&self) -> (&'static str, usize, usize) {
        match self {
            Self::FishSpeech(config) => {
                ("num_codebooks", config.num_codebooks, config.codebook_size)
            }
            Self::Csm(config) => ("num_codebooks", config.num_codebooks, config.vocab_size),
            Self::Dia(config) => (
                "decoder_config.num_channels",
                config.decoder_config.num_channels,
                config.eos_token_id,
            ),
            Self::Musicgen(config) => {
                let decoder = &config.decoder;
                (
                    "decoder.num_codebooks",
                    decoder.num_codebooks,
                    decoder.vocab_size,
                )
            }
        }
    }

    /// Whether the codec's codes are the model's.
    fn check_codec(&self, file: &str, codec: &SoundSpec) -> Result<(), PipelineError> {
        let (field, depth, ids) = self.codes();
        let codes = &codec.codes;
        let wrong = |reason: String| {
            Err(PipelineError::File {
                file: file.into(),
                reason: format!("{reason}: they belong to different models"),
            })
        };
        if depth != codes.depth {
            return wrong(format!(
                "`{field}` is {depth}, the tokenizer has {} codebooks",
                codes.depth
            ));
        }
        if ids < codes.codebook_size {
            return wrong(format!(
                "{ids} ids of a codebook can be chosen, the tokenizer has {}",
                codes.codebook_size
            ));
        }
        match self {
            Self::Musicgen(config) if config.decoder.audio_channels != 1 => wrong(format!(
                "`decoder.audio_channels` is {}, one channel is decoded here",
                config.decoder.audio_channels
            )),
            _ => Ok(()),
        }
    }

    /// Settings that the model's files fix.
    fn sampler(&self, given: &SamplerConfig) -> SamplerConfig {
        let ending = match self {
            Self::Dia(config) => Some(Ending {
                end: config.eos_token_id,
                after: config.pad_token_id,
                steps: config.delay_pattern.clone(),
            }),
            _ => None,
        };
        SamplerConfig {
            ending: given.ending.clone().or(ending),
            ..given.clone()
        }
    }

    fn build(
        self,
        part: &SoundModelPart,
        checkpoint: Checkpoint,
        source: &Source,
        device: &Device,
    ) -> Result<SoundModel, PipelineError> {
        match (self, part) {
            (Self::FishSpeech(config), SoundModelPart::FishSpeech { vocabulary, .. }) => {
                let words = FishVocabulary::from_bytes(&source.read(vocabulary)?, vocabulary)?;
                if words.size() > config.vocab_size {
                    return Err(PipelineError::Vocabulary {
                        file: vocabulary.clone(),
                        ids: words.size(),
                        rows: config.vocab_size,
                    });
                }
                let model = config.build(checkpoint, words.semantic_begin(), device);
                Ok(SoundModel::FishSpeech {
                    model: model.map_err(of_weights)?,
                    vocabulary: words,
                    config,
                })
            }
            (Self::Csm(config), SoundModelPart::Csm { vocabulary, .. }) => {
                let words = read_vocabulary(vocabulary, config.text_vocab_size, source)?;
                let [begin, end] = AROUND.map(|token| special(&words, token, vocabulary));
                Ok(SoundModel::Csm {
                    around: [begin?, end?],
                    model: config.build(checkpoint, device).map_err(of_weights)?,
                    vocabulary: words,
                    config,
                })
            }
            (Self::Dia(config), SoundModelPart::Dia { .. }) => Ok(SoundModel::Dia {
                model: config.build(checkpoint, device).map_err(of_weights)?,
                config,
            }),
            (Self::Musicgen(config), SoundModelPart::Musicgen { vocabulary, .. }) => {
                let text = &config.text_encoder;
                let words = read_vocabulary(vocabulary, text.vocab_size, source)?;
                let end = special(&words, t5::END, vocabulary)?;
                if end as usize != text.eos_token_id {
                    return Err(PipelineError::File {
                        file: vocabulary.clone(),
                        reason: format!(
                            "`{}` is id {end}, {} in the text model: the file belongs to another model",
                            t5::END,
                            text.eos_token_id
                        ),
                    });
                }
                Ok(SoundModel::Musicgen {
                    model: config.build(checkpoint, device).map_err(of_weights)?,
                    vocabulary: words,
                    config,
                })
            }
            _ => unreachable!("the sizes were read for this part"),
        }
    }
}

fn read_vocabulary(file: &str, rows: usize, source: &Source) -> Result<Vocabulary, PipelineError> {
    let vocabulary = Vocabulary::from_bytes(&source.read(file)?, file)?;
    check_vocabulary(&vocabulary, rows, file)?;
    Ok(vocabulary)
}

fn special(vocabulary: &Vocabulary, token: &str, file: &str) -> Result<u32, PipelineError> {
    vocabulary.id(token).ok_or_else(|| PipelineError::File {
        file: file.into(),
        reason: format!("there is no `{token}` in it: the file belongs to another model"),
    })
}

fn of_weights(error: FamilyError) -> PipelineError {
    match error {
        FamilyError::Weights(error) => PipelineError::Weights(error.to_string()),
        other => other.into(),
    }
}

/// Builds a published model that speaks or makes music.
///
/// # Errors
/// [`PipelineError`] if a part is missing or does not fit, or a vocabulary belongs to another model.
pub fn build_sound_model(
    definition: &Definition,
    source: &Source,
    device: &Device,
) -> Result<SoundModelParts, PipelineError> {
    definition.check(source)?;
    let part = definition.sound_model_part()?;
    let sizes = Sizes::read(part, source)?;
    let sampler = sizes.sampler(&definition.sampler);
    let checkpoint = source.checkpoint(definition.weights.as_deref().unwrap_or_default())?;
    let model = sizes.build(part, checkpoint, source, device)?;
    Ok(SoundModelParts {
        model,
        codec: build_sound_tokenizer(definition.tokenizer_part()?, source, device)?,
        sampler,
        name: definition.name.clone(),
        hash: fingerprint(definition, source)?,
        device: device.clone(),
    })
}

impl Definition {
    fn sound_model_part(&self) -> Result<&SoundModelPart, PipelineError> {
        self.sound_model
            .as_ref()
            .ok_or_else(|| self.lacks("sound-model"))
    }

    /// Checks all that can be known of a published model that makes sound without building it.
    pub(crate) fn check_sound_model(&self, source: &Source) -> Result<(), PipelineError> {
        let wrong = |source| PipelineError::Part {
            name: self.name.clone(),
            source,
        };
        let part = self.sound_model_part()?;
        if part.task() != self.task {
            return Err(wrong(ravel_core::Error::Config {
                field: "task".into(),
                found: self.task.name().into(),
                expected: part.task().name().into(),
            }));
        }
        self.weights.as_ref().ok_or_else(|| self.lacks("weights"))?;
        let codec = self.tokenizer_part()?.sound_spec().map_err(wrong)?;
        for file in self.files() {
            source.check(file).map_err(|error| error.of(&self.name))?;
        }
        self.sampler.validate().map_err(wrong)?;
        Sizes::read(part, source)?.check_codec(part.config(), &codec)
    }
}
