//! Published models that fill in latents instead of choosing codes (MAR).

use burn::tensor::Device;
use ravel_decode::SamplerConfig;
use ravel_families::kl_vae::{self, KlDecoder};
use ravel_families::mar::{self, Mar};
use ravel_text::Classes;

use crate::build::{Faults, fingerprint};
use crate::definition::{Definition, TextPart};
use crate::image_model::ModelPart;
use crate::sizes::Sizes;
use crate::tokenizer_part::TokenizerPart;
use crate::{PipelineError, Source};

/// The parts of a pipeline whose model fills in latents, ready to run.
pub struct LatentParts {
    /// What prompts name.
    pub classes: Classes,
    /// Fills in latents.
    pub model: Mar,
    /// The model's sizes.
    pub config: mar::Config,
    /// Latents to pictures.
    pub decoder: KlDecoder,
    /// Temperature and guidance where a request names none.
    pub sampler: SamplerConfig,
    /// The pipeline's name.
    pub name: String,
    /// Fingerprint of the definition and all its files.
    pub hash: String,
    /// Where it runs.
    pub device: Device,
}

/// Builds a definition whose model fills in latents.
///
/// # Errors
/// [`PipelineError`]; missing, unused and misshapen tensors of both weight files are reported together.
pub fn build_latents(
    definition: &Definition,
    source: &Source,
    device: &Device,
) -> Result<LatentParts, PipelineError> {
    definition.check(source)?;
    let Some(ModelPart::Mar(Sizes(config))) = &definition.model else {
        return Err(definition.lacks("model of kind \"mar\""));
    };
    let (file, vae) = definition.kl_vae()?;
    let mut faults = Faults::default();
    let decoder = match faults.keep(source.weights(file)?) {
        Some(checkpoint) => faults.keep_family(vae.load(checkpoint, device))?,
        None => None,
    };
    let weights = definition.weights.as_deref().unwrap_or_default();
    let model = match faults.keep(source.weights(weights)?) {
        Some(checkpoint) => faults.keep_family(mar::build(config, checkpoint, device))?,
        None => None,
    };
    let (Some(decoder), Some(model)) = (decoder, model) else {
        return Err(faults.report());
    };
    let classes = definition.classes(source)?;
    Ok(LatentParts {
        classes: classes.expect("the definition was checked"),
        model,
        config: config.clone(),
        decoder,
        sampler: definition.sampler.clone(),
        name: definition.name.clone(),
        hash: fingerprint(definition, source)?,
        device: device.clone(),
    })
}

impl Definition {
    /// Whether its model fills in latents.
    pub fn makes_latents(&self) -> bool {
        matches!(self.model, Some(ModelPart::Mar(_)))
    }

    /// What turns latents into pictures: its file and its sizes.
    fn kl_vae(&self) -> Result<(&str, &kl_vae::Config), PipelineError> {
        match self.tokenizer_part()? {
            TokenizerPart::KlVae { weights, config } => Ok((weights, &config.0)),
            _ => Err(self.lacks("tokenizer of kind \"kl-vae\"")),
        }
    }

    /// Checks all that can be known of a model that fills in latents without building it.
    pub(crate) fn check_latents(
        &self,
        config: &mar::Config,
        source: &Source,
    ) -> Result<(), PipelineError> {
        let wrong = |field: &str, found: String, expected: String| PipelineError::Part {
            name: self.name.clone(),
            source: ravel_core::Error::Config {
                field: field.into(),
                found,
                expected,
            },
        };
        self.weights.as_ref().ok_or_else(|| self.lacks("weights"))?;
        let (_, vae) = self.kl_vae()?;
        for file in self.files().into_iter().rev() {
            source.check(file).map_err(|error| error.of(&self.name))?;
        }
        config.encoder()?;
        config.decoder()?;
        config.head()?;
        vae.validate(config.img_size)?;
        let agree = |field: &str, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => {
                let expected = format!("{expected}, the tokenizer's own");
                Err(wrong(field, found.to_string(), expected))
            }
        };
        agree("model.vae_embed_dim", config.vae_embed_dim, vae.embed_dim)?;
        agree("model.vae_stride", config.vae_stride, vae.stride())?;
        let unsaid = mar::Config::default();
        let said = [
            ("model.cfg", config.cfg != unsaid.cfg),
            (
                "model.cfg_schedule",
                config.cfg_schedule != unsaid.cfg_schedule,
            ),
            (
                "model.temperature",
                config.temperature != unsaid.temperature,
            ),
        ];
        if let Some((field, _)) = said.iter().find(|(_, said)| *said) {
            let expected = "nothing: guidance and temperature are said under `sampler`";
            return Err(wrong(field, "set".into(), expected.into()));
        }
        let sampler = self.sampler.validate();
        sampler.map_err(|source| PipelineError::Part {
            name: self.name.clone(),
            source,
        })?;
        let Some(TextPart::Classes { file }) = &self.text else {
            return Err(self.lacks("text of kind \"classes\""));
        };
        let classes = self.classes(source)?.map_or(0, |classes| classes.len());
        match classes == config.class_num {
            true => Ok(()),
            false => Err(PipelineError::File {
                file: file.clone(),
                reason: format!("{classes} classes, the model knows {}", config.class_num),
            }),
        }
    }
}
