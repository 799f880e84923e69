//! Definitions of published models at their real sizes: each builds, and has the parameters that its project states. Nothing is
//! allocated: parameters are counted on their shapes.

use std::collections::BTreeMap;

use ravel_families::llamagen_gpt::{self, Prefix};
use ravel_families::{infinity, infinity_vae, kl_vae, llamagen_vq, mar, t5, var};
use ravel_pipeline::{Definition, ModelPart, Sizes, Task, TextPart, TokenizerPart};
use ravel_testkit::device;
use ravel_weights::parameters;
use text_to_image::PUBLISHED;

/// Parameters of each model, counted by hand from the shapes in its published code, and as its project states them.
const COUNTS: [(&str, usize, &str); 18] = [
    ("llamagen-b-256", 110_888_448, "111M"),
    ("llamagen-b-384", 110_888_448, "111M"),
    ("llamagen-l-256", 342_910_976, "343M"),
    ("llamagen-l-384", 342_910_976, "343M"),
    ("llamagen-xl-384", 774_699_520, "775M"),
    ("llamagen-xxl-384", 1_410_972_672, "1.4B"),
    ("llamagen-3b-384", 3_096_659_200, "3.1B"),
    ("llamagen-t2i-256", 777_923_840, "775M"),
    ("llamagen-t2i-512", 777_923_840, "775M"),
    ("var-d16", 310_283_520, "310M"),
    ("var-d20", 600_917_136, "600M"),
    ("var-d24", 1_033_399_360, "1.0B"),
    ("var-d30", 2_010_020_356, "2.0B"),
    ("var-d36", 2_353_893_904, "2.3B"),
    ("mar-base", 207_924_768, "208M"),
    ("mar-large", 478_326_304, "479M"),
    ("mar-huge", 942_403_104, "943M"),
    ("infinity-2b", 2_204_564_032, "2B"),
];

fn definitions() -> impl Iterator<Item = (&'static str, Definition)> {
    PUBLISHED.iter().map(|&(name, files)| {
        let (_, text) = files
            .iter()
            .find(|(file, _)| *file == "pipeline.toml")
            .unwrap();
        let text = std::str::from_utf8(text).unwrap();
        (name, Definition::parse(name, text).unwrap())
    })
}

fn llamagen(config: &llamagen_gpt::Config) -> usize {
    let parts = config.init(&device()).unwrap();
    let prefix = match &parts.prefix {
        Prefix::Class(prefix) => parameters(prefix),
        Prefix::Caption(prefix) => parameters(prefix),
    };
    prefix + parameters(&parts.backbone) + parameters(&parts.head)
}

fn of_var(config: &var::Config, tokenizer: &TokenizerPart) -> usize {
    let TokenizerPart::VarVqvae { config: vae, .. } = tokenizer else {
        panic!("a tokenizer of VAR");
    };
    let config = var::Config {
        patch_nums: vae.0.v_patch_nums.clone(),
        vae: vae.0.clone(),
        ..config.clone()
    };
    let parts = config.init(&device()).unwrap();
    let all = parameters(&parts.prefix) + parameters(&parts.backbone) + parameters(&parts.head);
    // Keys have a bias here; in the published files it is a buffer of zeros, which is no parameter.
    all - config.depth * config.embed_dim
}

fn of_mar(config: &mar::Config) -> usize {
    let device = device();
    let encoder = config.encoder().unwrap().init(&device);
    let decoder = config.decoder().unwrap().init(&device);
    let head = config.head().unwrap().init(&device);
    parameters(&encoder) + parameters(&decoder) + parameters(&head)
}

fn of_infinity(config: &infinity::Config, tokenizer: &TokenizerPart) -> usize {
    let TokenizerPart::InfinityVae { config: vae, .. } = tokenizer else {
        panic!("a tokenizer of Infinity");
    };
    let parts = config.init(&vae.0, &device()).unwrap();
    let all = parameters(&parts.prefix) + parameters(&parts.backbone) + parameters(&parts.head);
    // As with VAR: keys of self-attention, of cross-attention and of the text's sum.
    all - (2 * config.depth + 1) * config.embed_dim
}

/// A count in the words of a model's page: three digits of millions, two of billions (or one), cut off or rounded.
fn states(said: &str, count: usize) -> bool {
    let (digits, unit) = said.split_at(said.len() - 1);
    let unit = if unit == "B" { 1e9 } else { 1e6 };
    let within = if digits.len() == 1 { 0.11 } else { 0.035 };
    let said = digits.parse::<f64>().unwrap() * unit;
    (count as f64 / said - 1.0).abs() < within
}

#[test]
fn every_published_size_has_the_parameters_that_its_project_states() {
    let counted: BTreeMap<&str, usize> = definitions()
        .map(|(name, definition)| {
            let tokenizer = definition.tokenizer.as_ref().unwrap();
            let count = match definition.model.as_ref().unwrap() {
                ModelPart::Llamagen(Sizes(config)) => llamagen(config),
                ModelPart::Var(Sizes(config)) => of_var(config, tokenizer),
                ModelPart::Mar(Sizes(config)) => of_mar(config),
                ModelPart::Infinity(Sizes(config)) => of_infinity(config, tokenizer),
            };
            (name, count)
        })
        .collect();
    assert_eq!(counted.len(), COUNTS.len());
    for (name, count, said) in COUNTS {
        assert_eq!(counted[name], count, "{name}");
        assert!(states(said, count), "{name}: {count} is not {said}");
        assert!(entry(name).parameters == said, "{name}");
    }
    // The largest would take 12 GB.
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: usize = peak
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        assert!(kib < 512 * 1024, "{kib} KiB were allocated");
    }
}

fn entry(name: &str) -> &'static ravel_hub::Entry {
    ravel_hub::entry(name).unwrap_or_else(|| panic!("{name} is not in the catalogue"))
}

#[test]
fn tokenizers_and_the_text_encoder_have_their_published_sizes() {
    let vq = |config: llamagen_vq::Config| parameters(&config.tokenizer(256).init(&device()));
    let ds16 = vq(llamagen_vq::Config::default());
    let ds8 = vq(llamagen_vq::Config {
        ch_mult: vec![1, 2, 2, 4],
        ..llamagen_vq::Config::default()
    });
    assert!(states("72M", ds16) && states("70M", ds8), "{ds16}, {ds8}");
    let vae = parameters(&var::TokenizerConfig::default().tokenizer().init(&device()));
    assert!(states("109M", vae), "{vae}");
    // The decoder's half of the autoencoder that MAR's page names KL-16.
    let kl = parameters(&kl_vae::Config::default().init(&device()));
    assert_eq!(kl, 38_188_931 + 16 * 16 + 16);
    let flan = t5::Config {
        d_model: 2048,
        d_ff: 5120,
        num_layers: 24,
        num_heads: 32,
        feed_forward_proj: "gated-gelu".into(),
        ..t5::Config::default()
    };
    // The encoder's half of flan-t5-xl: 32,128 ids, 24 blocks of 2048, one table of distances.
    let block = 4 * 2048 * 2048 + 3 * 2048 * 5120 + 2 * 2048;
    let expected = 32_128 * 2048 + 24 * block + 32 * 32 + 2048;
    assert_eq!(
        parameters(&flan.encoder().unwrap().init(&device())),
        expected
    );
}

/// The 8B is no definition here, since nobody could look at its files; its sizes are built all the same.
#[test]
fn infinity_8b_has_its_stated_size() {
    let config = infinity::Config {
        depth: 40,
        embed_dim: 3584,
        num_heads: 28,
        ..infinity::Config::default()
    };
    let vae = infinity_vae::Config {
        codebook_dim: 14,
        encoder_ch_mult: vec![1, 2, 4, 4],
        decoder_ch_mult: vec![1, 2, 4, 4],
        patch_size: 8,
        apply_spatial_patchify: true,
        scale_schedule: vec![[1, 1, 1], [1, 64, 64]],
        ..infinity_vae::Config::default()
    };
    assert_eq!(vae.bits(), 56);
    assert_eq!(vae.tokenizer().unwrap().size, [1024, 1024]);
    let parts = config.init(&vae, &device()).unwrap();
    let all = parameters(&parts.prefix) + parameters(&parts.backbone) + parameters(&parts.head);
    assert_eq!(all, 8_376_082_128);
}

#[test]
fn the_schema_names_every_key_of_every_definition() {
    let schema = ravel_pipeline::schema();
    for (name, files) in PUBLISHED {
        let text = std::str::from_utf8(files[0].1).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for (key, _) in lines.filter_map(|line| line.split_once(" = ")) {
            assert!(schema.contains(&format!("\"{key}\"")), "{name}: {key}");
        }
    }
}

#[test]
fn definitions_say_what_the_published_scripts_do() {
    for (name, definition) in definitions() {
        assert_eq!(
            (definition.name.as_str(), definition.task),
            (name, Task::TextToImage)
        );
        let side: usize = match name.rsplit('-').next().unwrap() {
            "d36" => 512,
            "2b" => 1024,
            last => last.parse().unwrap_or(256),
        };
        let found = match definition.model.as_ref().unwrap() {
            ModelPart::Mar(Sizes(config)) => (config.img_size, config.img_size),
            _ => {
                definition
                    .tokenizer
                    .as_ref()
                    .unwrap()
                    .spec()
                    .unwrap()
                    .signal_size
            }
        };
        assert_eq!(found, (side, side), "{name}");
        let sampler = &definition.sampler;
        sampler.validate().unwrap();
        let [first, last] = [0, 9].map(|at| (sampler.guidance.at(at, 10) * 1e6).round() / 1e6);
        let expected = match &definition.text {
            _ if name == "mar-base" => (None, None, 0.0, 1.9),
            _ if name == "mar-large" => (None, None, 0.0, 2.0),
            _ if name == "mar-huge" => (None, None, 0.0, 2.2),
            _ if name == "infinity-2b" => (None, Some(0.97), 3.0, 3.0),
            Some(TextPart::Caption { .. }) => (Some(1000), None, 6.5, 6.5),
            _ if name.starts_with("var") => (Some(900), Some(0.96), 0.0, 1.5),
            _ => (Some(2000), None, 3.0, 3.0),
        };
        assert_eq!(
            (sampler.top_k, sampler.top_p, first, last),
            expected,
            "{name}"
        );
    }
}
