use ravel_testkit::{assert_close, device, formula, values};

use super::*;
use crate::conv::{AutoencoderConfig, CompactConfig, VqGanConfig};

fn decoders() -> Vec<(usize, Decoder)> {
    let compact = |patch, decoder: [usize; 2]| {
        AutoencoderConfig::Compact(CompactConfig {
            patch,
            encoder: vec![8, 8],
            decoder: decoder.to_vec(),
            encoder_blocks: vec![0, 0],
            decoder_blocks: vec![1, 2],
        })
    };
    let vq_gan = |channels, multiples: &[usize], code_kernel, attention| {
        AutoencoderConfig::VqGan(VqGanConfig {
            channels,
            multiples: multiples.to_vec(),
            blocks: 1,
            z_channels: if code_kernel == 0 { 5 } else { 24 },
            code_kernel,
            attention,
            ..VqGanConfig::default()
        })
    };
    let configs = [
        compact(4, [12, 9]),
        compact(2, [96, 64]),
        vq_gan(32, &[1, 2], 1, None),
        vq_gan(32, &[2, 1, 1], 3, Some(vec![0, 2])),
        // Winograd's way begins at 64 channels.
        vq_gan(64, &[1, 1], 0, Some(vec![])),
    ];
    let built = configs.map(|config| {
        config.validate(16).unwrap();
        (5, config.init(5, &device()).1)
    });
    built.into()
}

#[test]
fn the_kernels_make_what_the_layers_make() {
    for (width, decoder) in decoders() {
        for [rows, columns] in [[4, 4], [3, 5], [1, 9]] {
            let latents = formula([2, width, rows, columns], 3, 1.0, &device());
            let wanted = decoder.forward(latents.clone());
            let found = ReadyDecoder::default().forward(&decoder, latents);
            let most = values(&wanted)
                .iter()
                .fold(0.0f32, |most, x| most.max(x.abs()));
            assert_close("pixels", &found, &wanted, 1e-5 * most);
        }
    }
}

#[test]
fn products_are_those_of_the_formula() {
    let config = VqGanConfig {
        channels: 32,
        multiples: vec![1, 1],
        blocks: 1,
        z_channels: 8,
        ..VqGanConfig::default()
    };
    let decoder = AutoencoderConfig::VqGan(config).init(5, &device()).1;
    let found = ReadyDecoder::default().products(&decoder, [2, 3]);
    let (square, wide) = (32 * 32, 9 * 32 * 32);
    // Two convolutions in; then residual blocks (two in the middle, two at the coarse grid), attention after each of the
    // coarse ones and between the middle ones.
    let coarse = 6 * (5 * 8 + 9 * 8 * 32 + 4 * 2 * wide + 3 * 4 * square) + 3 * 2 * 36 * 32;
    // At the fine grid: the convolution after the doubling, two blocks, the way out.
    let fine = 24 * (wide + 2 * 2 * wide + 9 * 32 * 3);
    assert_eq!(found, (coarse + fine) as u64);
}

#[test]
fn a_batch_is_its_pictures() {
    for (width, decoder) in decoders() {
        let ready = ReadyDecoder::default();
        let latents: Tensor<4> = formula([3, width, 4, 3], 4, 1.0, &device());
        let all = values(&ready.forward(&decoder, latents.clone()));
        let each = (0..3)
            .flat_map(|row| values(&ready.forward(&decoder, latents.clone().narrow(0, row, 1))));
        assert!(each.eq(all));
    }
}

#[test]
fn narrow_products_stay_near() {
    for (width, decoder) in decoders() {
        let latents: Tensor<4> = formula([1, width, 4, 6], 5, 1.0, &device());
        let wanted = values(&decoder.forward(latents.clone()));
        let mut ready = ReadyDecoder::default();
        ready.decode_in(DecodeType::Bf16);
        let found = values(&ready.forward(&decoder, latents));
        let most = wanted.iter().fold(f32::MIN, |most, x| most.max(*x));
        let least = wanted.iter().fold(f32::MAX, |least, x| least.min(*x));
        let squares = wanted
            .iter()
            .zip(&found)
            .map(|(x, y)| f64::from(x - y).powi(2));
        let error = squares.sum::<f64>() / wanted.len() as f64;
        let decibels = 10.0 * (f64::from(most - least).powi(2) / error).log10();
        assert!(decibels > 40.0, "{decibels}");
    }
}

#[test]
fn gradients_go_through_the_layers() {
    let (width, decoder) = decoders().remove(0);
    let device = device().autodiff();
    let decoder = burn::module::Module::to_device(decoder, &device);
    let latents = formula::<4>([1, width, 2, 2], 6, 1.0, &device).require_grad();
    let pixels = ReadyDecoder::default().forward(&decoder, latents.clone());
    let gradients = pixels.sum().backward();
    assert!(latents.grad(&gradients).is_some());
}

/// Pictures of a decoder's layers, held in a given way.
fn held_so(layers: &Layers, pool: &Pool, plan: &Plan, latents: &Tensor<4>) -> Vec<f32> {
    let [_, width, rows, columns] = latents.dims();
    let picture = plan.out.iter().product();
    let mut planes = Planes::default();
    let each = values(latents);
    let each = each.chunks_exact(width * rows * columns).map(|latents| {
        let grid = Grid::read(latents, rows, columns, width);
        let mut pixels = vec![f32::NAN; picture];
        layers.run(pool, &mut planes, plan, grid, &mut pixels);
        pixels
    });
    each.flatten().collect()
}

#[test]
fn strips_make_the_same_bits_wherever_they_begin() {
    for (width, decoder) in decoders() {
        for kind in [DecodeType::F32, DecodeType::Bf16] {
            let pools = [1, 3].map(Pool::new);
            let layers = Layers::of(&decoder, kind, &pools[0]);
            for [rows, columns] in [[21, 5], [9, 20], [1, 1]] {
                let latents: Tensor<4> = formula([2, width, rows, columns], 8, 1.0, &device());
                let whole = layers.plan([rows, columns, width], usize::MAX, 1);
                let all = layers.steps.len();
                assert_eq!(whole.sparing, vec![false; all]);
                let wanted = held_so(&layers, &pools[0], &whole, &latents);
                let attention = |step: &Step| matches!(step, Step::Attention(_));
                let first = layers.steps.iter().rposition(attention);
                let first = first.map_or(0, |at| at + 1);
                for (at, strip) in (first..=all).zip([8, 1, 13, 32, 1000].into_iter().cycle()) {
                    let plan = Plan {
                        sparing: vec![true; at],
                        rows: strip,
                        out: whole.out,
                    };
                    let found = held_so(&layers, &pools[at % 2], &plan, &latents);
                    assert!(
                        found == wanted,
                        "{rows}x{columns}, whole up to {at} of {all}, strips of {strip}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_limit_changes_no_bit() {
    for (width, decoder) in decoders() {
        let latents: Tensor<4> = formula([2, width, 24, 10], 9, 1.0, &device());
        let wanted = values(&ReadyDecoder::default().forward(&decoder, latents.clone()));
        for bytes in [0, 100_000, 300_000, 1_000_000, 3_000_000] {
            let mut ready = ReadyDecoder::default();
            ready.decode_within(bytes);
            assert!(values(&ready.forward(&decoder, latents.clone())) == wanted);
        }
    }
}

#[test]
fn plans_keep_within_the_limit() {
    let pool = Pool::new(1);
    for (width, decoder) in decoders() {
        let layers = Layers::of(&decoder, DecodeType::F32, &pool);
        let attention = |step: &Step| matches!(step, Step::Attention(_));
        let first = layers.steps.iter().rposition(attention);
        let mut before = usize::MAX;
        for limit in (10..40).rev().map(|bits| 1 << bits) {
            let plan = layers.plan([32, 32, width], limit, 4);
            // A smaller limit leaves no more layers whole.
            assert!(plan.sparing.len() <= before);
            before = plan.sparing.len();
            let mut size = [32, 32, width];
            for (at, (step, sparing)) in layers.steps.iter().zip(&plan.sparing).enumerate() {
                let fits = 4 * step.held(size, *sparing) <= limit;
                assert!(fits || first.is_some_and(|first| at <= first));
                size = step.out(size);
            }
        }
    }
}

#[test]
fn strips_have_the_rows_that_were_planned_however_high_a_picture_is() {
    let config = VqGanConfig {
        channels: 64,
        multiples: vec![1, 2, 2],
        blocks: 1,
        z_channels: 8,
        ..VqGanConfig::default()
    };
    let decoder = AutoencoderConfig::VqGan(config).init(4, &device()).1;
    let pool = Pool::new(2);
    let layers = Layers::of(&decoder, DecodeType::F32, &pool);
    let first = layers
        .steps
        .iter()
        .rposition(|step| matches!(step, Step::Attention(_)));
    let steps = &layers.steps[first.unwrap() + 1..];
    for rows in [8, 16] {
        let rooms = [16, 32].map(|height| {
            let grid = Grid::zeros(height, 2, 128);
            let mut strips = Strips::new(steps, &grid, rows);
            let out = steps
                .iter()
                .fold([height, 2, 128], |size, step| step.out(size));
            strips.run(
                &pool,
                &Sums::none(128),
                1,
                &mut vec![0.0; out.iter().product()],
            );
            let planned = plan::held_in_strips(steps, [height, 2, 128], rows);
            assert!(strips.room() <= planned, "{} {planned}", strips.room());
            strips.room()
        });
        assert_eq!(rooms[0], rooms[1]);
    }
}
