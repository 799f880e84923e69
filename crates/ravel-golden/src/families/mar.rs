//! MAR: its two transformers, the diffusion head with its losses, and a whole sampling run on given noise.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use ravel_core::{Noise, Place};
use ravel_decode::MaskedFilling;
use ravel_families::mar::{Config, Mar, build};
use ravel_families::read_config;
use ravel_heads::{MaskedGenerator, grid_from_patches, patches_from_grid};

use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError`] if the case cannot be read or the model not be built.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs([
        "latents",
        "labels",
        "orders",
        "mask",
        "timesteps",
        "noise",
        "sampling_noise",
    ]);
    let config: Config = read_config("mar", &case.config()?)?;
    let mar = build(&config, case.weights("model.safetensors")?, &case.device())?;
    processes(&mar, report)?;
    training(case, report, &config, &mar)?;
    sampling(case, report, &config, &mar)
}

fn processes(mar: &Mar, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    let diffusion = &mar.head.diffusion;
    let (learned, sampled) = (diffusion.learned(), diffusion.sampled());
    report.wide_numbers("train_alphas_cumprod", &learned.alphas_cumprod)?;
    report.wide_numbers("gen_betas", &sampled.betas)?;
    let kept: Vec<f64> = sampled.timesteps.iter().map(|&step| step as f64).collect();
    report.wide_numbers("gen_timestep_map", &kept)
}

fn training(
    case: &Case,
    report: &mut CaseReport<'_>,
    config: &Config,
    mar: &Mar,
) -> Result<(), GoldenError> {
    let patches = patches_from_grid(case.real("latents")?, config.patch_size);
    report.real("patches", patches.clone())?;
    let back = grid_from_patches(patches.clone(), config.patch_size, config.side());
    report.real("unpatchified", back)?;

    let positions = config.side() * config.side();
    let masked = |row: &[f64]| row.iter().map(|&masked| masked > 0.5).collect();
    let mask: Vec<Vec<bool>> = case
        .numbers("mask")?
        .chunks(positions)
        .map(masked)
        .collect();
    let known = mask.iter().map(|row| {
        let known = row.iter().enumerate().filter(|(_, masked)| !**masked);
        known.map(|(position, _)| position).collect()
    });
    let known: Vec<Vec<usize>> = known.collect();
    let generator = generator(case, mar)?;
    let classes = generator.classes.clone();
    let hidden = generator.encoded(patches.clone(), &known, classes.clone());
    report.real("encoder_out", hidden)?;
    let conditions = generator.conditions(patches.clone(), &known, classes);
    report.real("decoder_out", conditions.clone())?;

    let times = case.numbers("timesteps")?.iter();
    let times: Vec<usize> = times.map(|&time| time as usize).collect();
    let clean: Tensor<2> = patches.flatten(0, 1);
    let noise: Tensor<2> = case.real("noise")?;
    let diffusion = &mar.head.diffusion;
    let noised = diffusion
        .learned()
        .noised(clean.clone(), &times, noise.clone());
    report.real("x_t", noised.clone())?;
    let answer = diffusion
        .denoiser
        .forward(noised.clone(), &times, conditions.flatten(0, 1));
    report.real("net_out", answer.clone())?;
    let losses = diffusion
        .learned()
        .losses(answer, clean, noised, &times, noise);
    report.real("loss_vb", losses.bound.clone())?;
    report.real("loss_mse", losses.squared.clone())?;
    report.real("loss_loss", losses.sum())
}

fn sampling(
    case: &Case,
    report: &mut CaseReport<'_>,
    config: &Config,
    mar: &Mar,
) -> Result<(), GoldenError> {
    let positions = config.side() * config.side();
    let order = |row: &[f64]| row.iter().map(|&position| position as usize).collect();
    let orders: Vec<Vec<usize>> = case
        .numbers("orders")?
        .chunks(positions)
        .map(order)
        .collect();
    let mut noise = Given {
        numbers: case.numbers("sampling_noise")?,
        guided: config.cfg != 1.0,
        sizes: Vec::new(),
    };
    let filling = MaskedFilling {
        rounds: config.num_iter,
        guidance: config.cfg - 1.0,
        ramp: config.guidance_ramps()?,
        temperature: config.temperature,
    };
    let watch = &mut |_: usize, _: &Tensor<3>| ControlFlow::Continue(());
    let latents = filling.fill(&generator(case, mar)?, &orders, &mut noise, watch)?;
    report.wide_numbers("draw_sizes", &noise.sizes)?;
    let grid = grid_from_patches(latents, config.patch_size, config.side());
    report.real("sampled", grid)
}

fn generator<'a>(case: &Case, mar: &'a Mar) -> Result<MaskedGenerator<'a>, GoldenError> {
    Ok(MaskedGenerator {
        encoder: &mar.encoder,
        decoder: &mar.decoder,
        head: &mar.head,
        classes: mar.head.class_vectors(case.ids("labels")?),
    })
}

/// The case's own numbers, one after another. With guidance the reference also draws for the unconditioned half, but at the start;
/// what stands there is never seen again.
struct Given<'a> {
    numbers: &'a [f64],
    guided: bool,
    sizes: Vec<f64>,
}

impl Noise for Given<'_> {
    fn draw(&mut self, places: &[Place], step: usize, width: usize) -> Vec<f32> {
        let used = places.len() * width;
        let drawn = if self.guided && step > 0 {
            2 * used
        } else {
            used
        };
        assert!(
            drawn <= self.numbers.len(),
            "noise axis: {drawn} numbers are wanted, {} are left",
            self.numbers.len()
        );
        let (now, later) = self.numbers.split_at(drawn);
        self.numbers = later;
        self.sizes.push(drawn as f64);
        now[..used].iter().map(|&number| number as f32).collect()
    }
}
