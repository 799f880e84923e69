//! What holds for latents that are filled in: the diffusion's numbers, and the two transformers around them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Int, Tensor};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{Filling, Masked, Seed};
use ravel_decode::{MaskedFilling, SeededNoise, random_orders};
use ravel_heads::{
    Diffusion, DiffusionHeadConfig, MaskedGenerator, MaskedLatent, MaskedLatentConfig,
    NoiseSchedule, grid_from_patches, kept_steps, patches_from_grid,
};
use ravel_nn::{DenoiserConfig, NormKind};
use ravel_testkit::{assert_close, device, formula, values};

const POSITIONS: usize = 6;

struct Fill(u32);

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        let salt = self.0;
        param.map(|old| formula(old.dims(), salt, 0.2, &device()))
    }
}

fn transformer(d_model: usize) -> Transformer {
    let config = TransformerConfig {
        layers: 2,
        d_model,
        n_heads: 2,
        norm: NormKind::Layer,
        bias: true,
        ..TransformerConfig::default()
    };
    config.init(&device()).map(&mut Fill(d_model as u32))
}

fn head() -> MaskedLatent {
    let config = MaskedLatentConfig {
        positions: POSITIONS,
        buffer: 2,
        classes: 3,
        encoder_width: 8,
        diffusion: DiffusionHeadConfig {
            denoiser: DenoiserConfig {
                target_width: 3,
                condition_width: 12,
                width: 8,
                layers: 1,
            },
            schedule: NoiseSchedule::Cosine,
            steps: 50,
            sampled: "4".into(),
        },
    };
    config.validate().unwrap();
    config.init(&device()).map(&mut Fill(100))
}

/// Runs `check` with a generator for these classes.
fn with_generator(classes: &[i64], check: impl FnOnce(&MaskedGenerator<'_>)) {
    let (encoder, decoder, head) = (transformer(8), transformer(12), head());
    let classes = Tensor::<1, Int>::from_data(classes, &device());
    check(&MaskedGenerator {
        encoder: &encoder,
        decoder: &decoder,
        head: &head,
        classes: head.class_vectors(classes),
    });
}

fn filled(classes: &[i64], filling: &MaskedFilling) -> Tensor<3> {
    let mut found = None;
    with_generator(classes, |generator| {
        let seed = Seed::new(1);
        let orders = random_orders(&seed, classes.len(), POSITIONS);
        let watch = &mut |_: usize, _: &Tensor<3>| ControlFlow::Continue(());
        let latents = filling.fill(generator, &orders, &mut SeededNoise(seed), watch);
        found = Some(latents.unwrap());
    });
    found.unwrap()
}

fn filling(guidance: f64) -> MaskedFilling {
    MaskedFilling {
        rounds: 3,
        guidance,
        ..MaskedFilling::default()
    }
}

#[test]
fn a_batch_is_its_rows() {
    for guidance in [0.0, 1.5] {
        let both = filled(&[2, 0], &filling(guidance));
        assert_eq!(both.dims(), [2, POSITIONS, 3]);
        let alone = filled(&[2], &filling(guidance));
        assert_close("first row", &alone, &both.narrow(0, 0, 1), 1e-4);
    }
}

#[test]
fn the_class_matters_and_little_guidance_changes_little() {
    let none = filled(&[1], &filling(0.0));
    assert_ne!(values(&none), values(&filled(&[2], &filling(0.0))));
    assert_close("little", &filled(&[1], &filling(1e-6)), &none, 1e-3);
    assert_ne!(values(&none), values(&filled(&[1], &filling(2.0))));
}

#[test]
fn what_is_not_known_is_not_looked_at() {
    with_generator(&[1, 2], |generator| {
        let known = [vec![1, 4], vec![0, 2]];
        let chosen = [vec![0, 5], vec![1, 4]];
        let latents: Tensor<3> = formula([2, POSITIONS, 3], 7, 1.0, &device());
        let fill = |latents: Tensor<3>| {
            let filling = Filling {
                latents,
                known: &known,
                chosen: &chosen,
                guidance: 0.5,
                temperature: 0.8,
            };
            let found = generator.fill(filling, &mut SeededNoise(Seed::new(3)));
            found.unwrap()
        };
        let found = fill(latents.clone());
        assert_eq!(found.dims(), [2, 2, 3]);
        let place = |row, position| [row..row + 1, position..position + 1, 0..3];
        let noise = formula::<3>([1, 1, 3], 8, 9.0, &device());
        let other = latents.clone().slice_assign(place(0, 3), noise.clone());
        assert_close("unknown", &fill(other), &found, 1e-5);
        let other = latents.slice_assign(place(0, 4), noise);
        assert_ne!(values(&fill(other)), values(&found));
    });
}

#[test]
fn hidden_states_stand_at_their_positions_and_marks_elsewhere() {
    let head = head();
    let hidden: Tensor<3> = formula([1, 4, 8], 5, 1.0, &device());
    let found = head.decoder_input(hidden.clone(), &[vec![2, 5]])
        - head.decoder_positions.val().unsqueeze();
    let projected = head.decoder_in.forward(hidden);
    let mark = head.mark.val().unsqueeze::<3>();
    let expected = [Some(0), Some(1), None, None, Some(2), None, None, Some(3)];
    for (at, place) in expected.into_iter().enumerate() {
        let row = found.clone().narrow(1, at, 1);
        let expected = match place {
            Some(place) => projected.clone().narrow(1, place, 1),
            None => mark.clone(),
        };
        assert_close("row", &row, &expected, 1e-6);
    }
}

#[test]
fn patches_are_read_row_by_row_and_come_back() {
    let grid: Tensor<4> = formula([2, 3, 4, 6], 1, 1.0, &device());
    let patches = patches_from_grid(grid.clone(), 2);
    assert_eq!(patches.dims(), [2, 6, 12]);
    assert_close("grid", &grid_from_patches(patches, 2, 2), &grid, 0.0);
}

#[test]
fn keeping_every_step_changes_nothing_and_fewer_steps_end_in_as_much_noise() {
    let whole = Diffusion::new(NoiseSchedule::Cosine, 20);
    let all = whole.respaced(&(0..20).collect());
    for (a, b) in all.betas.iter().zip(&whole.betas) {
        assert!((a - b).abs() < 1e-12);
    }
    let few = whole.respaced(&BTreeSet::from([3, 19]));
    assert_eq!(few.timesteps, [3, 19]);
    assert!((few.alphas_cumprod[1] - whole.alphas_cumprod[19]).abs() < 1e-12);
}

/// A network that told the noise exactly, and the least variance, would cost nothing.
#[test]
fn the_true_noise_costs_nothing() {
    for schedule in [NoiseSchedule::Cosine, NoiseSchedule::Linear] {
        let process = Diffusion::new(schedule, 100);
        let clean: Tensor<2> = formula([4, 3], 1, 1.0, &device());
        let noise: Tensor<2> = formula([4, 3], 2, 1.0, &device());
        let steps = [1, 20, 50, 90];
        let noised = process.noised(clean.clone(), &steps, noise.clone());
        let least = Tensor::full([4, 3], -1.0, &device());
        let answer = Tensor::cat(vec![noise.clone(), least], 1);
        let losses = process.losses(answer, clean.clone(), noised.clone(), &steps, noise.clone());
        assert!(values(&losses.sum()).iter().all(|cost| cost.abs() < 1e-3));
        let wrong = Tensor::cat(
            vec![noise.clone() + 1.0, Tensor::zeros([4, 3], &device())],
            1,
        );
        let losses = process.losses(wrong, clean, noised, &steps, noise);
        assert!(
            values(&losses.squared)
                .iter()
                .all(|cost| (cost - 1.0).abs() < 1e-4)
        );
        assert!(values(&losses.bound).iter().all(|bits| *bits > 0.0));
    }
}

#[test]
fn the_first_step_ends_at_the_clean_vector() {
    let process = Diffusion::new(NoiseSchedule::Cosine, 100);
    let clean: Tensor<2> = formula([2, 3], 1, 1.0, &device());
    let noise: Tensor<2> = formula([2, 3], 2, 1.0, &device());
    let x = process.noised(clean.clone(), &[0, 0], noise.clone());
    let answer = Tensor::cat(vec![noise.clone(), noise.clone()], 1);
    let found = process.earlier(x, answer, 0, noise * 100.0, 1.0);
    assert_close("clean", &found, &clean, 1e-4);
}

#[test]
fn steps_are_kept_evenly_in_sections_or_by_a_stride() {
    let kept = |spacing| Vec::from_iter(kept_steps(100, spacing).unwrap());
    assert_eq!(kept("3"), [0, 50, 99]); // 49.5 rounds to the even one.
    assert_eq!(kept("1"), [0]);
    assert_eq!(kept("2,1"), [0, 49, 50]);
    assert_eq!(kept("ddim4"), [0, 25, 50, 75]);
    for wrong in ["", "0", "101", "60,1", "ddim60", "many", "-3"] {
        let error = kept_steps(100, wrong).unwrap_err().to_string();
        assert!(error.starts_with("steps is"), "{error}");
    }
}
