//! Whatever makes pictures from a text: a model of codes, or one of latents.

use std::ops::ControlFlow;

use ravel_core::Images;
use ravel_decode::SamplerConfig;

use crate::{Error, LatentsToImage, Output, Progress, Request, Shown, TextToImage};

/// A pipeline that makes pictures.
#[allow(clippy::large_enum_variant)] // One per run.
pub enum ImagePipeline {
    /// One that chooses codes.
    Codes(TextToImage),
    /// One that fills in latents.
    Latents(LatentsToImage),
}

impl ImagePipeline {
    /// Settings where a request names none.
    pub fn sampler(&self) -> &SamplerConfig {
        match self {
            Self::Codes(pipeline) => &pipeline.parts().sampler,
            Self::Latents(pipeline) => &pipeline.parts().sampler,
        }
    }

    /// The fingerprint of the definition and its files.
    pub fn hash(&self) -> &str {
        match self {
            Self::Codes(pipeline) => &pipeline.parts().hash,
            Self::Latents(pipeline) => &pipeline.parts().hash,
        }
    }
}

/// What makes the pictures of a request and shows how they grow.
pub trait MakesPictures {
    /// Makes all pictures of a request. `watch` is told as they grow and may stop the run, which then gives `None`.
    ///
    /// # Errors
    /// As [`TextToImage::run`] or [`LatentsToImage::run`].
    fn run(
        &self,
        request: &Request,
        watch: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Output>, Error>;

    /// The picture that can be seen by now.
    ///
    /// # Errors
    /// What the tokenizer reports.
    ///
    /// # Panics
    /// If what is shown is that of another kind of model.
    fn preview(&self, shown: &Shown<'_>) -> Result<Images, Error>;
}

impl MakesPictures for TextToImage {
    fn run(
        &self,
        request: &Request,
        watch: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Output>, Error> {
        Self::run(self, request, watch)
    }

    fn preview(&self, shown: &Shown<'_>) -> Result<Images, Error> {
        match shown {
            Shown::Codes(codes) => Self::preview(self, codes),
            Shown::Latents(_) => panic!("a model of codes shows no latents"),
        }
    }
}

impl MakesPictures for LatentsToImage {
    fn run(
        &self,
        request: &Request,
        watch: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Output>, Error> {
        Self::run(self, request, watch)
    }

    fn preview(&self, shown: &Shown<'_>) -> Result<Images, Error> {
        match shown {
            Shown::Latents(latents) => Ok(Self::preview(self, latents)),
            Shown::Codes(_) => panic!("a model of latents shows no codes"),
        }
    }
}

impl MakesPictures for ImagePipeline {
    fn run(
        &self,
        request: &Request,
        watch: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Output>, Error> {
        match self {
            Self::Codes(pipeline) => pipeline.run(request, watch),
            Self::Latents(pipeline) => pipeline.run(request, watch),
        }
    }

    fn preview(&self, shown: &Shown<'_>) -> Result<Images, Error> {
        match self {
            Self::Codes(pipeline) => MakesPictures::preview(pipeline, shown),
            Self::Latents(pipeline) => MakesPictures::preview(pipeline, shown),
        }
    }
}
