//! Published models of pictures: the sequence model and its head in the words of their own code.

use burn::tensor::Device;
use ravel_core::{Backbone, Head, ImageSpec};
use ravel_families::llamagen_gpt::ModelType;
use ravel_families::{FamilyError, infinity, infinity_vae, llamagen_gpt, mar, var};
use ravel_heads::{CaptionEmbedding, DescriptionEmbedding, PrefixEmbedding};
use ravel_nn::WeightsType;
use ravel_text::Classes;
use ravel_weights::{Checkpoint, draw};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::{Faults, Parts, fingerprint, fresh_tokenizer, tokenizer};
use crate::caption::{CaptionConditioner, CaptionSpec, DescriptionConditioner};
use crate::conditioner::{ClassConditioner, Conditioner};
use crate::definition::{Definition, TextPart};
use crate::sizes::Sizes;
use crate::tokenizer_part::TokenizerPart;
use crate::{Costs, KeptAs, PipelineError, Source};

/// A published sequence model with its head. Their weights are the definition's `weights`, as they were published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModelPart {
    /// LlamaGen's transformer.
    Llamagen(Sizes<llamagen_gpt::Config>),
    /// VAR's transformer. Its codes and scales are the tokenizer's.
    Var(Sizes<var::Config>),
    /// MAR's transformers and its diffusion head, whose latents a `kl-vae` turns into pictures.
    Mar(Sizes<mar::Config>),
    /// Infinity's transformer. Its bits and scales are the tokenizer's.
    Infinity(Sizes<infinity::Config>),
}

/// A model that fits its tokenizer.
enum Model {
    Llamagen(llamagen_gpt::Config),
    Var(var::Config),
    Infinity(infinity::Config, infinity_vae::Config),
}

/// The built model before its prompts' reader is there.
struct Built {
    prefix: Prefix,
    backbone: Box<dyn Backbone>,
    head: Box<dyn Head>,
    costs: Costs,
}

/// What embeds the condition.
#[allow(clippy::large_enum_variant)] // One per pipeline.
enum Prefix {
    Class(PrefixEmbedding),
    Caption(CaptionEmbedding),
    Description(DescriptionEmbedding),
}

/// How prompts are read.
enum Reader<'a> {
    Classes(Classes),
    Captions(CaptionSpec<'a>),
}

fn differs(field: &str, found: impl ToString, expected: impl ToString) -> ravel_core::Error {
    ravel_core::Error::Config {
        field: field.into(),
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

impl ModelPart {
    /// The model with what the tokenizer says of codes and scales.
    fn fitted(&self, tokenizer: &TokenizerPart) -> ravel_core::Result<Model> {
        let spec = tokenizer.spec()?;
        match self {
            Self::Llamagen(Sizes(config)) => {
                config.validate()?;
                check_codes(config, &spec)?;
                Ok(Model::Llamagen(config.clone()))
            }
            Self::Var(Sizes(config)) => {
                let config = with_tokenizer(config, tokenizer)?;
                config.validate()?;
                Ok(Model::Var(config))
            }
            Self::Infinity(Sizes(config)) => {
                let TokenizerPart::InfinityVae { config: vae, .. } = tokenizer else {
                    return Err(differs("tokenizer.kind", tokenizer.kind(), "infinity-vae"));
                };
                config.validate(&vae.0)?;
                Ok(Model::Infinity(config.clone(), vae.0.clone()))
            }
            Self::Mar(_) => Err(differs("model.kind", "mar", "a model that predicts codes")),
        }
    }
}

/// Whether LlamaGen's ids and their places are the tokenizer's.
fn check_codes(config: &llamagen_gpt::Config, spec: &ImageSpec) -> ravel_core::Result<()> {
    let codes = spec.codes.codebook_size;
    if config.vocab_size != codes {
        let expected = format!("{codes}, the tokenizer's own");
        return Err(differs("model.vocab_size", config.vocab_size, expected));
    }
    if config.layout()? != spec.layout {
        let theirs = spec.layout.describe();
        let expected = format!("{}, the tokenizer's own ({theirs})", spec.layout.len());
        return Err(differs("model.block_size", config.block_size, expected));
    }
    Ok(())
}

/// VAR's configuration with its tokenizer's. What it says of the tokenizer itself must agree.
fn with_tokenizer(
    config: &var::Config,
    tokenizer: &TokenizerPart,
) -> ravel_core::Result<var::Config> {
    let TokenizerPart::VarVqvae { config: vae, .. } = tokenizer else {
        return Err(differs("tokenizer.kind", tokenizer.kind(), "var-vqvae"));
    };
    let (unsaid, scales) = (var::Config::default(), &vae.0.v_patch_nums);
    if config.vae != unsaid.vae && config.vae != vae.0 {
        return Err(differs(
            "model.vae",
            "another tokenizer",
            "that of `tokenizer.config`",
        ));
    }
    if config.patch_nums != unsaid.patch_nums && config.patch_nums != *scales {
        let found = format!("{:?}", config.patch_nums);
        let expected = format!("{scales:?}, the tokenizer's own");
        return Err(differs("model.patch_nums", found, expected));
    }
    Ok(var::Config {
        vae: vae.0.clone(),
        patch_nums: scales.clone(),
        ..config.clone()
    })
}

impl Model {
    /// Classes that it knows; none if captions steer it.
    fn classes(&self) -> Option<usize> {
        match self {
            Self::Llamagen(config) if config.model_type == ModelType::T2i => None,
            Self::Llamagen(config) => Some(config.num_classes),
            Self::Var(config) => Some(config.num_classes),
            Self::Infinity(..) => None,
        }
    }

    /// Positions of a caption and the width of its features, where captions steer it, and the names of the two.
    fn captions(&self) -> Option<[(&'static str, usize); 2]> {
        match self {
            Self::Llamagen(config) => Some([
                ("text.length", config.cls_token_num),
                ("model.caption_dim", config.caption_dim),
            ]),
            Self::Infinity(config, _) => Some([
                ("text.length", config.text_maxlen),
                ("model.text_channels", config.text_channels),
            ]),
            Self::Var(_) => None,
        }
    }

    /// The model with a checkpoint's weights; with random ones if there is none.
    fn build(
        &self,
        checkpoint: Option<Checkpoint>,
        kept: KeptAs,
        device: &Device,
    ) -> Result<Built, FamilyError> {
        let kind = kept.fixed().unwrap_or(WeightsType::F32);
        match self {
            Self::Llamagen(config) => {
                let parts = match checkpoint {
                    Some(checkpoint) => config.load(checkpoint, device)?,
                    None => config.init(device)?,
                };
                draw(&parts.backbone);
                draw(&parts.head);
                let costs = Costs::of(&parts.backbone, &parts.head, kind);
                let (backbone, head) = (kept.kept(parts.backbone), kept.kept(parts.head));
                Ok(Built {
                    costs,
                    prefix: match parts.prefix {
                        llamagen_gpt::Prefix::Class(prefix) => Prefix::Class(prefix),
                        llamagen_gpt::Prefix::Caption(prefix) => Prefix::Caption(prefix),
                    },
                    backbone: Box::new(backbone),
                    head: Box::new(head),
                })
            }
            Self::Var(config) => {
                let parts = match checkpoint {
                    Some(checkpoint) => config.load(checkpoint, device)?,
                    None => config.init(device)?,
                };
                draw(&parts.backbone);
                draw(&parts.head);
                let costs = Costs::of(&parts.backbone, &parts.head, kind);
                let (backbone, head) = (kept.kept(parts.backbone), kept.kept(parts.head));
                Ok(Built {
                    costs,
                    prefix: Prefix::Class(parts.prefix),
                    backbone: Box::new(backbone),
                    head: Box::new(head),
                })
            }
            Self::Infinity(config, vae) => {
                let parts = match checkpoint {
                    Some(checkpoint) => config.load(vae, checkpoint, device)?,
                    None => config.init(vae, device)?,
                };
                draw(&parts.backbone);
                draw(&parts.head);
                let costs = Costs::of(&parts.backbone, &parts.head, kind);
                let (backbone, head) = (kept.kept(parts.backbone), kept.kept(parts.head));
                Ok(Built {
                    costs,
                    prefix: Prefix::Description(parts.prefix),
                    backbone: Box::new(backbone),
                    head: Box::new(head),
                })
            }
        }
    }
}

impl Definition {
    /// Checks all that can be known of a published model without building it.
    pub(crate) fn check_model(
        &self,
        model: &ModelPart,
        source: &Source,
    ) -> Result<(), PipelineError> {
        let (model, reader) = self.fitted(model, source)?;
        if let (Reader::Captions(spec), Some([length, width])) = (&reader, model.captions()) {
            let config = spec.config(source)?;
            spec.vocabulary(&config, source)?;
            let same = |field: &str, found: usize, expected: usize| match found == expected {
                true => Ok(()),
                false => Err(self.part(differs(field, found, expected))),
            };
            same(length.0, spec.length, length.1)?;
            same(width.0, width.1, config.d_model)?;
        }
        self.sampler.validate().map_err(|error| self.part(error))
    }

    fn part(&self, source: ravel_core::Error) -> PipelineError {
        PipelineError::Part {
            name: self.name.clone(),
            source,
        }
    }

    /// The model that fits the tokenizer, and the reader of prompts that fits the model.
    fn fitted<'a>(
        &'a self,
        model: &ModelPart,
        source: &Source,
    ) -> Result<(Model, Reader<'a>), PipelineError> {
        if self.backbone.is_some() || self.head.is_some() {
            let both = differs(
                "model",
                "a backbone or a head beside it",
                "one or the other",
            );
            return Err(self.part(both));
        }
        let text = self.text.as_ref().ok_or_else(|| self.lacks("text"))?;
        let model = model.fitted(self.tokenizer_part()?);
        let model = model.map_err(|error| self.part(error))?;
        let Some(known) = model.classes() else {
            let spec =
                CaptionSpec::of(text).ok_or_else(|| self.lacks("text of kind \"caption\""))?;
            return Ok((model, Reader::Captions(spec)));
        };
        let TextPart::Classes { file } = text else {
            return Err(self.lacks("text of kind \"classes\""));
        };
        let classes = self.classes(source)?;
        let classes = classes.expect("the text is of this kind");
        match classes.len() == known {
            true => Ok((model, Reader::Classes(classes))),
            false => Err(PipelineError::File {
                file: file.clone(),
                reason: format!("{} classes, the model knows {known}", classes.len()),
            }),
        }
    }
}

/// Builds a definition with a published model.
pub(crate) fn build(
    definition: &Definition,
    part: &ModelPart,
    source: &Source,
    device: &Device,
) -> Result<Parts, PipelineError> {
    let (model, reader) = definition.fitted(part, source)?;
    let mut faults = Faults::default();
    let tokenizer = tokenizer(definition.tokenizer_part()?, source, device, &mut faults)?;
    let weights = definition.weights.as_deref();
    let weights = weights.ok_or_else(|| definition.lacks("weights"))?;
    let built = match faults.keep(source.weights(weights)?) {
        Some(checkpoint) => {
            faults.keep_family(model.build(Some(checkpoint), definition.weights_type, device))?
        }
        None => None,
    };
    let (Some(tokenizer), Some(built)) = (tokenizer, built) else {
        return Err(faults.report());
    };
    let conditioner = match (reader, built.prefix) {
        (Reader::Classes(classes), Prefix::Class(prefix)) => {
            Conditioner::Class(ClassConditioner { classes, prefix })
        }
        (Reader::Captions(spec), Prefix::Caption(prefix)) => Conditioner::Caption(
            CaptionConditioner::new(spec.reader(source, device)?, prefix),
        ),
        (Reader::Captions(spec), Prefix::Description(prefix)) => Conditioner::Description(
            DescriptionConditioner::new(spec.reader(source, device)?, prefix),
        ),
        _ => unreachable!("the reader was chosen for the model"),
    };
    Ok(Parts {
        conditioner,
        backbone: built.backbone,
        head: built.head,
        tokenizer,
        decoding: definition.decoding.build(&[]),
        sampler: definition.sampler.clone(),
        name: definition.name.clone(),
        hash: fingerprint(definition, source)?,
        device: device.clone(),
    })
}

/// Builds a definition of a model of classes with random weights, which follow from the device's seed: what it costs, which is also
/// told, is the same as with the published ones. No file of weights is looked for.
///
/// # Errors
/// [`PipelineError`] if a part is missing or does not fit, or the model is none of classes.
pub fn build_random(
    definition: &Definition,
    source: &Source,
    device: &Device,
) -> Result<(Parts, Costs), PipelineError> {
    let part = definition.model.as_ref();
    let part = part.ok_or_else(|| definition.lacks("model"))?;
    let (model, reader) = definition.fitted(part, source)?;
    let built = model.build(None, definition.weights_type, device)?;
    let (Reader::Classes(classes), Prefix::Class(prefix)) = (reader, built.prefix) else {
        return Err(definition.lacks("text of kind \"classes\""));
    };
    let parts = Parts {
        conditioner: Conditioner::Class(ClassConditioner { classes, prefix }),
        backbone: built.backbone,
        head: built.head,
        tokenizer: fresh_tokenizer(definition.tokenizer_part()?, device)?,
        decoding: definition.decoding.build(&[]),
        sampler: definition.sampler.clone(),
        name: definition.name.clone(),
        hash: "random".into(),
        device: device.clone(),
    };
    Ok((parts, built.costs))
}
