//! What holds for every clip.

use burn::tensor::{Int, Tensor};
use ravel_quant::VectorConfig;
use ravel_testkit::{assert_close, device, formula, formula_ids, ids, values};
use vq_video::{VqVideo, VqVideoConfig};

fn config() -> VqVideoConfig {
    VqVideoConfig {
        channels: 32,
        multiples: vec![1, 2],
        blocks: 1,
        z_channels: 4,
        attention: vec![1],
        n_heads: 2,
        time_halvings: 1,
        in_channels: 3,
        out_channels: 3,
        codebook: VectorConfig {
            codebook_size: 16,
            width: 4,
            l2_normalize: false,
        },
    }
}

fn module() -> VqVideo {
    let mut module = config().init(&device());
    // Rows far apart, so that ids differ from place to place.
    let rows = formula([16, 4], 5, 0.4, &device());
    module.quantizer.codebook = module.quantizer.codebook.map(|_| rows);
    module
}

fn clip(batch: usize, frames: usize) -> Tensor<5> {
    formula([batch, frames, 3, 8, 12], 1, 1.0, &device())
}

#[test]
fn a_group_of_frames_is_a_grid_of_ids_and_back() {
    let module = module();
    let found = module.ids(clip(1, 6));
    assert_eq!(found.dims(), [1, 3, 4, 6]);
    assert_eq!(module.decode(found).dims(), [1, 6, 3, 8, 12]);
}

#[test]
fn a_batch_is_its_rows() {
    let module = module();
    let both = module.ids(clip(2, 4));
    let chosen: Tensor<4, Int> = formula_ids([2, 2, 4, 6], 2, 16, &device());
    let clips = module.decode(chosen.clone());
    for row in 0..2 {
        let alone = module.ids(clip(2, 4).narrow(0, row, 1));
        assert_eq!(ids(&both.clone().narrow(0, row, 1)), ids(&alone));
        let alone = module.decode(chosen.clone().narrow(0, row, 1));
        assert_close("clip", &alone, &clips.clone().narrow(0, row, 1), 1e-5);
    }
}

#[test]
fn earlier_groups_do_not_depend_on_later_ones() {
    let module = module();
    let all = module.ids(clip(1, 6));
    assert_eq!(
        ids(&module.ids(clip(1, 6).narrow(1, 0, 4))),
        ids(&all.narrow(1, 0, 2))
    );
    let chosen: Tensor<4, Int> = formula_ids([1, 3, 4, 6], 3, 16, &device());
    let all = module.decode(chosen.clone());
    let part = module.decode(chosen.narrow(1, 0, 2));
    assert_close("start", &part, &all.narrow(1, 0, 4), 1e-5);
}

#[test]
fn a_picture_is_a_still_clip() {
    let module = module();
    let picture = clip(1, 1).squeeze_dim::<4>(1);
    let still = clip(1, 1).repeat_dim(1, 2);
    assert_eq!(ids(&module.picture_ids(picture)), ids(&module.ids(still)));
}

#[test]
fn the_code_vectors_steer_every_norm() {
    let module = module();
    let chosen: Tensor<4, Int> = Tensor::zeros([1, 1, 2, 2], &device());
    let one = values(&module.decode(chosen.clone()));
    let other = values(&module.decode(chosen + 1));
    assert_ne!(one, other);
    assert!(one.iter().all(|pixel| pixel.is_finite()));
}

#[test]
fn configurations_that_cannot_be_built_are_refused() {
    let check = |change: fn(&mut VqVideoConfig), expected: &str| {
        let mut config = config();
        change(&mut config);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|c| c.channels = 48, "channels is 48");
    check(|c| c.multiples.clear(), "channels is 0 levels");
    check(|c| c.attention = vec![2], "attention is 2");
    check(|c| c.n_heads = 3, "n-heads is 3, a divisor of 64");
    check(
        |c| c.z_channels = 8,
        "z-channels is 8, 4, as codebook.width",
    );
    check(|c| c.blocks = 0, "blocks is 0");
    check(|c| c.time_halvings = 9, "time-halvings is 9");
}
