//! MAR's published sizes have the stated number of parameters. Weights are drawn when they are first read, so counting them allocates
//! nothing.

use burn::module::Module;
use ravel_families::mar::Config;
use ravel_testkit::device;

#[test]
fn published_sizes_have_the_stated_parameters() {
    for (millions, width, depth, heads, layers, diffusion_width) in [
        (208.0, 768, 12, 12, 6, 1024),
        (479.0, 1024, 16, 16, 8, 1280),
        (943.0, 1280, 20, 16, 12, 1536),
    ] {
        let config = Config {
            encoder_embed_dim: width,
            encoder_depth: depth,
            encoder_num_heads: heads,
            decoder_embed_dim: width,
            decoder_depth: depth,
            decoder_num_heads: heads,
            diffloss_d: layers,
            diffloss_w: diffusion_width,
            ..Config::default()
        };
        let device = device();
        let encoder = config.encoder().unwrap().init(&device).num_params();
        let decoder = config.decoder().unwrap().init(&device).num_params();
        let head = config.head().unwrap().init(&device).num_params();
        let found = (encoder + decoder + head) as f64 / 1e6;
        assert!(
            (found - millions).abs() < 0.01 * millions,
            "{millions}: {found}"
        );
    }
}
