//! Pictures from latents that are filled in at random places, few at first and more in every round (MAR, Li et al. 2024).

use std::ops::ControlFlow;

use burn::tensor::{Tensor, TensorData};
use ravel_core::{Images, Noise, Place, Seed};
use ravel_decode::method::{SeededNoise, random_orders};
use ravel_decode::{Guidance, MaskedFilling, SamplerConfig};
use ravel_heads::{MaskedGenerator, grid_from_patches};
use ravel_pipeline::LatentParts;

use crate::{BATCH, Error, Output, Progress, Request, Shown};

/// A pipeline whose model fills in latents.
pub struct LatentsToImage {
    parts: LatentParts,
}

impl LatentsToImage {
    /// The pipeline of built parts.
    pub fn new(parts: LatentParts) -> Self {
        Self { parts }
    }

    /// The parts.
    pub fn parts(&self) -> &LatentParts {
        &self.parts
    }

    /// Makes all pictures of a request. `watch` is told after each round and may stop the run, which then gives `None`.
    ///
    /// # Errors
    /// [`Error`] before anything is made if a prompt names no class, or a setting is one of codes.
    pub fn run(
        &self,
        request: &Request,
        watch: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Output>, Error> {
        if request.prompts.is_empty() {
            return Err(Error::Nothing);
        }
        let filling = self.filling(&request.sampler)?;
        let find = |(at, prompt): (usize, &String)| {
            let found = self.parts.classes.find(prompt);
            found.map_err(|source| Error::Prompt {
                number: at + 1,
                source,
            })
        };
        let classes: Result<Vec<usize>, Error> =
            request.prompts.iter().enumerate().map(find).collect();
        let mut pixels = Vec::new();
        for (batch, rows) in classes?.chunks(BATCH).enumerate() {
            match self.batch(request, &filling, rows, batch * BATCH, watch)? {
                Some(images) => pixels.push(images.pixels),
                None => return Ok(None),
            }
        }
        let pixels = Tensor::cat(pixels, 0);
        Ok(Some(Output {
            images: Images { pixels },
        }))
    }

    /// The picture that latents stand for; where nothing is known yet they are zero.
    pub fn preview(&self, latents: &Tensor<3>) -> Images {
        let config = &self.parts.config;
        let grid = grid_from_patches(latents.clone(), config.patch_size, config.side());
        self.parts.decoder.pictures(grid)
    }

    /// How latents are filled in: of a sampler's settings there are temperature and guidance here, which is the same in all rounds or
    /// grows from zero with what is known.
    fn filling(&self, sampler: &SamplerConfig) -> Result<MaskedFilling, Error> {
        sampler.validate()?;
        let SamplerConfig {
            temperature,
            guidance,
            ..
        } = *sampler;
        let alone = SamplerConfig {
            temperature,
            guidance,
            ..SamplerConfig::default()
        };
        let wrong = |field: &str, found: &str, expected: &str| {
            let (field, found) = (field.into(), found.into());
            let expected = expected.into();
            Err(Error::Part(ravel_core::Error::Config {
                field,
                found,
                expected,
            }))
        };
        if *sampler != alone {
            let expected = "temperature and guidance alone, since this model chooses no codes";
            return wrong(
                "sampler",
                "a choice among codes (top-k, top-p, …)",
                expected,
            );
        }
        let (guidance, ramp) = match guidance {
            Guidance::Constant(strength) => (strength, false),
            Guidance::Ramp { from: 0.0, to } => (to, true),
            Guidance::Ramp { .. } => {
                return wrong(
                    "guidance.from",
                    "not 0",
                    "0, or the same guidance throughout",
                );
            }
        };
        let filling = MaskedFilling {
            rounds: self.parts.config.num_iter,
            guidance,
            ramp,
            temperature,
        };
        filling.validate()?;
        Ok(filling)
    }

    fn batch(
        &self,
        request: &Request,
        filling: &MaskedFilling,
        classes: &[usize],
        picture: usize,
        watch: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Images>, Error> {
        let LatentParts {
            model,
            config,
            device,
            ..
        } = &self.parts;
        let seed = Seed::new(request.seed).named("text-to-image");
        let first = request.first + picture as u64;
        let numbers: Vec<u64> = (first..first + classes.len() as u64).collect();
        let positions = config.side() * config.side();
        let orders = numbers.iter().map(|&number| {
            let mut orders = random_orders(&seed.indexed(number), 1, positions);
            orders.remove(0)
        });
        let orders: Vec<Vec<usize>> = orders.collect();
        let labels: Vec<i64> = classes.iter().map(|&class| class as i64).collect();
        let labels = Tensor::from_data(TensorData::new(labels, [classes.len()]), device);
        let generator = MaskedGenerator {
            encoder: &model.encoder,
            decoder: &model.decoder,
            head: &model.head,
            classes: model.head.class_vectors(labels),
        };
        let mut noise = Numbered {
            noise: SeededNoise(seed),
            numbers,
        };
        let mut stopped = false;
        let rounds = filling.rounds;
        let mut told = |round: usize, latents: &Tensor<3>| {
            let flow = watch(&Progress {
                picture,
                rows: classes.len(),
                done: round + 1,
                units: rounds,
                shown: Shown::Latents(latents),
            });
            stopped |= flow.is_break();
            flow
        };
        let latents = filling.fill(&generator, &orders, &mut noise, &mut told)?;
        Ok((!stopped).then(|| self.preview(&latents)))
    }
}

/// Noise by the numbers of pictures rather than by their places in a batch.
struct Numbered {
    noise: SeededNoise,
    numbers: Vec<u64>,
}

impl Noise for Numbered {
    fn draw(&mut self, places: &[Place], step: usize, width: usize) -> Vec<f32> {
        let numbered = places.iter().map(|place| Place {
            row: self.numbers[place.row] as usize,
            ..*place
        });
        self.noise.draw(&numbered.collect::<Vec<_>>(), step, width)
    }
}
