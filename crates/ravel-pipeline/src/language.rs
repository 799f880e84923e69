//! From a definition to the parts of a language model.

use burn::tensor::Device;
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::Layout;
use ravel_decode::{DecodingConfig, SamplerConfig};
use ravel_heads::{HeadConfig, NextToken, NextTokenConfig};
use ravel_nn::WeightsType;
use ravel_text::Vocabulary;
use ravel_weights::{draw, load};

use crate::build::Faults;
use crate::definition::{BackbonePart, Definition, TextPart};
use crate::{Costs, PipelineError, Source, published};

/// The parts of a text-generation pipeline, ready to run.
pub struct LanguageParts {
    /// Text to ids and back.
    pub vocabulary: Vocabulary,
    /// The sequence model.
    pub backbone: Transformer,
    /// Predicts the next id.
    pub head: NextToken,
    /// Positions that the model sees at once.
    pub context: usize,
    /// Ids that end a text.
    pub ends: Vec<u32>,
    /// The text of a `tokenizer_config.json`, where the model has one: its chat template and special tokens.
    pub chat: Option<String>,
    /// The text of a `chat_template.jinja`, where the model has one.
    pub template: Option<String>,
    /// How ids follow one another where a request names no method.
    pub decoding: DecodingConfig,
    /// Sampling settings where a request names none.
    pub sampler: SamplerConfig,
    /// The pipeline's name.
    pub name: String,
    /// Where it runs.
    pub device: Device,
}

/// What a definition says of a language model.
struct Spec<'a> {
    file: &'a str,
    context: usize,
    end: &'a [String],
    backbone: &'a TransformerConfig,
    head: &'a NextTokenConfig,
    weights: &'a str,
}

/// Builds all parts of a text-generation definition.
///
/// # Errors
/// [`PipelineError`]; missing, unused and misshapen tensors are reported together, and a vocabulary of another model is
/// refused.
pub fn build_language(
    definition: &Definition,
    source: &Source,
    device: &Device,
) -> Result<LanguageParts, PipelineError> {
    if let Some(published) = &definition.published {
        let built = published::build(definition, published, source, device);
        return built.map_err(|error| error.of(&definition.name));
    }
    definition.check_language(source)?;
    let spec = definition.language_spec()?;
    let vocabulary = Vocabulary::from_bytes(&source.read(spec.file)?, spec.file)?;
    check_vocabulary(&vocabulary, spec.head.codebook_size, spec.file)?;
    let checkpoint = source.checkpoint(spec.weights)?;
    let layout = Layout::Sequence { len: spec.context };
    let (width, axes) = (spec.backbone.d_model, spec.backbone.axes());
    let head = spec.head.init(width, axes, &layout, device);
    let mut faults = Faults::default();
    let backbone = faults.keep(load(spec.backbone.init(device), &checkpoint, "backbone"));
    let head = faults.keep(load(head, &checkpoint, "head"));
    let (Some(backbone), Some(head)) = (backbone, head) else {
        return Err(faults.report());
    };
    Ok(LanguageParts {
        ends: spec
            .end
            .iter()
            .filter_map(|token| vocabulary.id(token))
            .collect(),
        context: spec.context,
        vocabulary,
        backbone: definition.weights_type.kept(backbone),
        head: definition.weights_type.kept(head),
        chat: None,
        template: None,
        decoding: definition.decoding.clone(),
        sampler: definition.sampler.clone(),
        name: definition.name.clone(),
        device: device.clone(),
    })
}

/// A sequence model and a head with random weights, and what a step of them reads.
pub struct FreshLanguage {
    /// The sequence model.
    pub backbone: Transformer,
    /// Predicts the next id.
    pub head: NextToken,
    /// Positions that the model sees at once.
    pub context: usize,
    /// What they read and multiply.
    pub costs: Costs,
}

/// Builds the sequence model and head of a text-generation definition with random weights, which follow from the device's seed; no file
/// is looked for.
///
/// # Errors
/// [`PipelineError`] if a part is missing or a size is impossible.
pub fn build_random_language(
    definition: &Definition,
    device: &Device,
) -> Result<FreshLanguage, PipelineError> {
    let spec = definition.language_spec()?;
    let part = |source| PipelineError::Part {
        name: definition.name.clone(),
        source,
    };
    spec.backbone.validate().map_err(part)?;
    spec.head.validate().map_err(part)?;
    let layout = Layout::Sequence { len: spec.context };
    let (width, axes) = (spec.backbone.d_model, spec.backbone.axes());
    let backbone = spec.backbone.init(device);
    // Places of a layout with rows and columns are of no use to a sequence: the head is told of one axis.
    let head = spec.head.init(width, axes.min(1), &layout, device);
    draw(&backbone);
    draw(&head);
    let kind = definition.weights_type.fixed().unwrap_or(WeightsType::F32);
    Ok(FreshLanguage {
        context: spec.context,
        costs: Costs::of(&backbone, &head, kind),
        backbone: definition.weights_type.kept(backbone),
        head: definition.weights_type.kept(head),
    })
}

/// Whether every id of the vocabulary has a row in the model's table.
///
/// # Errors
/// [`PipelineError::Vocabulary`] if the vocabulary is larger: it belongs to another model.
pub fn check_vocabulary(
    vocabulary: &Vocabulary,
    rows: usize,
    file: &str,
) -> Result<(), PipelineError> {
    match vocabulary.size() {
        ids if ids > rows => Err(PipelineError::Vocabulary {
            file: file.into(),
            ids,
            rows,
        }),
        _ => Ok(()),
    }
}

impl Definition {
    /// Checks all that can be known of a language model without building it.
    pub(crate) fn check_language(&self, source: &Source) -> Result<(), PipelineError> {
        let part = |source| PipelineError::Part {
            name: self.name.clone(),
            source,
        };
        self.decoding.validate().map_err(part)?;
        if let Some(published) = &self.published {
            return published::check(published, source).map_err(|error| error.of(&self.name));
        }
        let spec = self.language_spec()?;
        if spec.head.positions && matches!(self.decoding, DecodingConfig::ContrastiveSearch(_)) {
            return Err(part(ravel_core::Error::Config {
                field: "head.positions".into(),
                found: "true".into(),
                expected: "false for contrastive search".into(),
            }));
        }
        for file in [spec.file, spec.weights] {
            source.read(file)?;
        }
        spec.backbone.validate().map_err(part)?;
        spec.head.validate().map_err(part)?;
        self.sampler.validate().map_err(part)?;
        if spec.context < 2 || spec.context > 1 << 24 {
            return Err(part(ravel_core::Error::Config {
                field: "text.context".into(),
                found: spec.context.to_string(),
                expected: format!("2 to {}", 1 << 24),
            }));
        }
        Ok(())
    }

    fn language_spec(&self) -> Result<Spec<'_>, PipelineError> {
        let (text, backbone, head) = self.generator_parts()?;
        let TextPart::Vocabulary { file, context, end } = text else {
            return Err(self.lacks("text of kind \"vocabulary\""));
        };
        let BackbonePart::Transformer { config } = backbone;
        let HeadConfig::NextToken(head) = head else {
            return Err(self.lacks("head of kind \"next-token\""));
        };
        Ok(Spec {
            file,
            context: *context,
            end,
            backbone: config,
            head,
            weights: self.weights.as_deref().unwrap_or_default(),
        })
    }
}
