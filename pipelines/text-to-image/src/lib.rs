//! Text to image: a prompt becomes codes, codes become a picture.
//!
//! The text goes in front of the codes as a prefix; the head and the tokenizer decide what a unit is. Each picture of a request
//! follows from the seed and its number alone, whatever else is made beside it. Models that fill in latents instead of choosing codes are
//! run by [`LatentsToImage`]. Definitions of published models are here as data ([`PUBLISHED`]).

mod latents;
mod pipeline;
mod published;

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use ravel_core::{Codes, Condition, Generator, Images, Seed, Start};
use ravel_decode::SamplerConfig;
use ravel_pipeline::Parts;
use ravel_text::{Classes, TextError};
use serde::{Deserialize, Serialize};

pub use latents::LatentsToImage;
pub use pipeline::{ImagePipeline, MakesPictures};
pub use published::{PUBLISHED, TINY};

/// Pictures that are made side by side.
const BATCH: usize = 16;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// One picture each.
    pub prompts: Vec<String>,
    /// The source of all randomness.
    pub seed: u64,
    /// Number of the first picture in its series: picture `n` of a series is the same however the series is cut.
    pub first: u64,
    /// How ids are drawn.
    pub sampler: SamplerConfig,
}

/// What is told after every unit.
pub struct Progress<'a> {
    /// Number of the batch's first picture within the request.
    pub picture: usize,
    /// Pictures of the batch.
    pub rows: usize,
    /// Units that are done.
    pub done: usize,
    /// Units in all.
    pub units: usize,
    /// What there is of them so far.
    pub shown: Shown<'a>,
}

/// What there is of pictures so far.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// Codes.
    Codes(&'a Codes),
    /// Latents, `[batch, positions, width]`; zero where nothing is known yet.
    Latents(&'a Tensor<3>),
}

/// The pictures of a request, in its order.
#[derive(Debug)]
pub struct Output {
    /// `[prompts, 3, height, width]`.
    pub images: Images,
}

/// What is wrong with a request, or what the parts report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No prompt.
    #[error("there is no prompt; at least one picture is needed")]
    Nothing,
    /// A prompt that cannot be used.
    #[error("prompt {number}: {source}")]
    Prompt {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        source: TextError,
    },
    /// What the parts report.
    #[error(transparent)]
    Part(#[from] ravel_core::Error),
}

/// What a picture was made from; enough to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metadata {
    /// The prompt.
    pub prompt: String,
    /// The request's seed.
    pub seed: u64,
    /// The picture's number in its series.
    pub number: u64,
    /// The pipeline's name, or the path of its definition.
    pub pipeline: String,
    /// The pipeline's fingerprint.
    pub hash: String,
    /// How ids were drawn.
    pub sampler: SamplerConfig,
    /// The program's version.
    pub version: String,
}

/// Checks prompts before anything is built, as far as that can be done: that they name classes of a model of classes.
///
/// # Errors
/// [`Error::Prompt`] for the first that does not.
pub fn check_classes(classes: &Classes, prompts: &[String]) -> Result<(), Error> {
    let check = |(at, prompt): (usize, &String)| {
        let found = classes.find(prompt).map(|_| ());
        found.map_err(|source| Error::Prompt {
            number: at + 1,
            source,
        })
    };
    prompts.iter().enumerate().try_for_each(check)
}

/// A text-to-image pipeline.
pub struct TextToImage {
    parts: Parts,
}

impl TextToImage {
    /// A pipeline of built parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// The parts.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Makes all pictures of a request. `watch` is told after each unit and may stop the run, which then gives `None`.
    ///
    /// # Errors
    /// [`Error`] before anything is made if a prompt cannot be used.
    pub fn run(
        &self,
        request: &Request,
        watch: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Output>, Error> {
        if request.prompts.is_empty() {
            return Err(Error::Nothing);
        }
        request.sampler.validate()?;
        let prompts = self.ids_of(&request.prompts)?;
        let mut pixels = Vec::new();
        for (batch, rows) in prompts.chunks(BATCH).enumerate() {
            let picture = batch * BATCH;
            match self.batch(request, rows, picture, watch)? {
                Some(images) => pixels.push(images.pixels),
                None => return Ok(None),
            }
        }
        let pixels = Tensor::cat(pixels, 0);
        Ok(Some(Output {
            images: Images { pixels },
        }))
    }

    /// The picture that codes already show.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn preview(&self, codes: &Codes) -> Result<Images, Error> {
        Ok(self.parts.tokenizer.preview(codes)?)
    }

    /// The condition of some prompts.
    ///
    /// # Errors
    /// [`Error::Prompt`].
    pub fn condition(&self, prompts: &[String]) -> Result<Condition, Error> {
        let rows = self.ids_of(prompts)?;
        let Parts {
            conditioner,
            device,
            ..
        } = &self.parts;
        Ok(conditioner.condition(&rows, false, device))
    }

    fn ids_of(&self, prompts: &[String]) -> Result<Vec<Vec<u32>>, Error> {
        let ids = prompts.iter().enumerate().map(|(at, prompt)| {
            let ids = self.parts.conditioner.read(prompt);
            ids.map_err(|source| Error::Prompt {
                number: at + 1,
                source,
            })
        });
        ids.collect()
    }

    fn batch(
        &self,
        request: &Request,
        rows: &[Vec<u32>],
        picture: usize,
        watch: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Images>, Error> {
        let parts = &self.parts;
        let layout = parts.tokenizer.image_spec().layout.clone();
        let units = parts.head.units(&layout).len();
        let guided = request.sampler.is_guided();
        let condition = parts.conditioner.condition(rows, guided, &parts.device);
        let batch = rows.len() * if guided { 2 } else { 1 };
        let numbers: Vec<u64> = (0..rows.len() as u64)
            .map(|row| request.first + picture as u64 + row)
            .collect();
        let seed = Seed::new(request.seed).named("text-to-image");
        let mut sampler = request.sampler.build(seed, &numbers, units);
        let generator = Generator {
            backbone: &*parts.backbone,
            head: &*parts.head,
            pyramid: parts.tokenizer.pyramid(),
        };
        let prompt = Codes {
            ids: Tensor::zeros([batch, 1, 0], &parts.device),
            layout: layout.clone(),
        };
        let mut stopped = false;
        let codes = parts.decoding.decode(
            &generator,
            Start { condition, prompt },
            &layout,
            &mut *sampler,
            &mut |unit, codes| {
                let codes = codes.rows(0, rows.len());
                let flow = watch(&Progress {
                    picture,
                    rows: rows.len(),
                    done: unit.index + 1,
                    units,
                    shown: Shown::Codes(&codes),
                });
                stopped |= flow.is_break();
                flow
            },
        )?;
        if stopped {
            return Ok(None);
        }
        Ok(Some(parts.tokenizer.decode(&codes.rows(0, rows.len()))?))
    }
}
