//! The definitions of published tokenizers: they can be read, name the files that the hub's catalogue names, and have the sizes of
//! their published configurations.

use ravel_families::{dac, encodec, firefly, mimi, read_config, snac};
use ravel_pipeline::{Definition, PUBLISHED_TOKENIZERS, Source, TokenizerPart};

fn definition(name: &str) -> Definition {
    let (_, files) = PUBLISHED_TOKENIZERS
        .iter()
        .find(|(known, _)| *known == name)
        .unwrap();
    let text = Source::Embedded(files).read("pipeline.toml").unwrap();
    Definition::parse(name, std::str::from_utf8(&text).unwrap()).unwrap()
}

#[test]
fn definitions_and_catalogue_agree() {
    for (name, _) in PUBLISHED_TOKENIZERS {
        let definition = definition(name);
        assert_eq!(definition.name, *name);
        assert!(
            !definition.description.is_empty() && !definition.licence.is_empty(),
            "{name}"
        );
        let entry = ravel_hub::entry(name).unwrap_or_else(|| panic!("{name} cannot be pulled"));
        assert_eq!(entry.licence, definition.licence, "{name}");
        let pulled: Vec<String> = entry
            .targets()
            .unwrap()
            .iter()
            .map(|target| target.to_string())
            .collect();
        for file in definition.files() {
            let file = file
                .strip_prefix("hub:")
                .unwrap_or_else(|| panic!("{name}: {file}"));
            let target = ravel_hub::Target::of_definition(file).unwrap();
            // A repository that comes by its format is named as a whole.
            let found = [target.to_string(), target.repo.to_string()];
            assert!(
                found.iter().any(|name| pulled.contains(name)),
                "{name}: {target} is not pulled"
            );
        }
        let again = Definition::parse("again", &definition.to_toml()).unwrap();
        assert_eq!(again, definition);
    }
}

/// The configuration of a definition's codec.
macro_rules! config {
    ($kind:ident, $name:expr) => {
        match definition($name).tokenizer.unwrap() {
            TokenizerPart::$kind { config, .. } => config,
            other => panic!("{}", other.kind()),
        }
    };
}

#[test]
fn codecs_have_the_sizes_of_their_published_configurations() {
    // What `config.json` of each repository says, as far as it differs from its library's defaults.
    let check = |name: &str, json: &str| {
        let read = read_config::<encodec::Config>("encodec", json).unwrap();
        let mut expected = read.tokenizer().unwrap();
        let found = config!(Encodec, name);
        // How many of the codebooks encoding uses is the definition's own choice.
        expected.bandwidth_kbps = found.bandwidth_kbps;
        assert_eq!(found, expected, "{name}");
    };
    check("encodec-24khz", "{}");
    check(
        "encodec-48khz",
        r#"{"audio_channels": 2, "chunk_length_s": 1.0, "norm_type": "time_group_norm", "normalize": true, "overlap": 0.01,
            "sampling_rate": 48000, "target_bandwidths": [3.0, 6.0, 12.0, 24.0], "use_causal_conv": false}"#,
    );
    let check = |name: &str, json: &str| {
        let read = read_config::<dac::Config>("dac", json).unwrap();
        assert_eq!(config!(Dac, name), read.tokenizer().unwrap(), "{name}");
    };
    check(
        "dac-16khz",
        r#"{"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12, "sampling_rate": 16000}"#,
    );
    check(
        "dac-24khz",
        r#"{"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32, "sampling_rate": 24000}"#,
    );
    check(
        "dac-44khz",
        r#"{"downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 9, "sampling_rate": 44100}"#,
    );
    let check = |name: &str, json: &str| {
        let read = read_config::<snac::Config>("snac", json).unwrap();
        assert_eq!(config!(Snac, name), read.tokenizer().unwrap(), "{name}");
    };
    check(
        "snac-24khz",
        r#"{"sampling_rate": 24000, "encoder_dim": 48, "encoder_rates": [2, 4, 8, 8], "decoder_dim": 1024,
            "decoder_rates": [8, 8, 4, 2], "attn_window_size": null, "vq_strides": [4, 2, 1]}"#,
    );
    for (name, rate) in [("snac-32khz", 32_000), ("snac-44khz", 44_100)] {
        let json = format!(
            r#"{{"sampling_rate": {rate}, "encoder_rates": [2, 3, 8, 8], "decoder_rates": [8, 8, 3, 2]}}"#
        );
        check(name, &json);
    }
    let mut expected = mimi::Config::default().tokenizer().unwrap();
    let found = config!(Mimi, "mimi");
    expected.encode_depth = found.encode_depth;
    assert_eq!(found, expected);
    assert_eq!(
        config!(Firefly, "firefly"),
        firefly::Config::default().tokenizer().unwrap()
    );
}

#[test]
fn picture_tokenizers_have_their_stated_codes() {
    let check = |name: &str, side: usize, codes: usize, size: usize, depth: usize| {
        let spec = definition(name).tokenizer.unwrap().spec().unwrap();
        assert_eq!(spec.signal_size, (side, side), "{name}");
        assert_eq!(spec.layout.len(), codes, "{name}");
        assert_eq!(
            (spec.codes.codebook_size, spec.codes.depth),
            (size, depth),
            "{name}"
        );
    };
    check("llamagen-vq-ds16", 256, 256, 16_384, 1);
    check("llamagen-vq-ds8", 256, 1024, 16_384, 1);
    check("janus-vq", 384, 576, 16_384, 1);
    check("chameleon-vq", 512, 1024, 8192, 1);
    let bits = [
        ("d16", 16),
        ("d24", 24),
        ("d32", 32),
        ("d32reg", 32),
        ("d64", 64),
    ];
    for (name, bits) in bits {
        check(&format!("infinity-vae-{name}"), 1024, 9451, 2, bits);
    }
}

#[test]
fn clip_tokenizers_have_their_stated_codes() {
    let check = |name: &str, time: usize, side: usize, size: usize, first_alone: bool| {
        let spec = definition(name).tokenizer.unwrap().clip_spec().unwrap();
        assert_eq!((spec.group, spec.stride), (time, side), "{name}");
        assert_eq!(
            (spec.codes.codebook_size, spec.codes.depth),
            (size, 1),
            "{name}"
        );
        assert_eq!(spec.first_alone, first_alone, "{name}");
    };
    check("emu3-visiontokenizer", 4, 8, 32_768, false);
    check("cosmos-dv4x8x8", 4, 8, 64_000, true);
    check("cosmos-dv8x8x8", 8, 8, 64_000, true);
    check("cosmos-dv8x16x16", 8, 16, 64_000, true);
}

/// What the projects state: rates of codes in a second, and kilobits.
#[test]
fn codecs_have_their_stated_rates() {
    let check = |name: &str, frames: f64, channels: usize| {
        let spec = definition(name).tokenizer.unwrap().sound_spec().unwrap();
        assert!(
            (spec.frames_per_second() - frames).abs() < 0.5,
            "{name}: {spec:?}"
        );
        assert_eq!(spec.channels, channels, "{name}");
    };
    check("encodec-24khz", 75.0, 1);
    check("encodec-48khz", 150.0, 2);
    check("dac-16khz", 50.0, 1);
    check("dac-24khz", 75.0, 1);
    check("dac-44khz", 86.1, 1);
    check("snac-24khz", 46.9, 1);
    check("snac-32khz", 83.3, 1);
    check("snac-44khz", 114.8, 1);
    check("mimi", 12.5, 1);
    check("firefly", 21.5, 1);
}

/// SNAC's page states 19.8 and 54.5 million parameters.
#[test]
fn snac_has_its_stated_parameters() {
    use burn::module::Module;
    for (name, millions) in [
        ("snac-24khz", 19.8),
        ("snac-32khz", 54.5),
        ("snac-44khz", 54.5),
    ] {
        let module = config!(Snac, name).init(&ravel_testkit::device());
        let found = module.num_params() as f64 / 1e6;
        assert!((found - millions).abs() < 0.1, "{name}: {found} million");
    }
}
