//! Definitions of published models that speak or make music: they can be read, name what pulling them brings, and say what the published
//! code does.

use ravel_families::{dac, encodec, firefly, mimi, read_config};
use ravel_pipeline::{Definition, SoundModelPart, Source, Task, TokenizerPart};
use text_to_speech::PUBLISHED;

fn definitions() -> impl Iterator<Item = (&'static str, Definition)> {
    PUBLISHED.iter().map(|&(name, files)| {
        let text = Source::Embedded(files).read("pipeline.toml").unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        (name, Definition::parse(name, text).unwrap())
    })
}

#[test]
fn definitions_and_catalogue_agree() {
    assert_eq!(definitions().count(), 7);
    for (name, definition) in definitions() {
        assert_eq!(definition.name, name);
        let entry = ravel_hub::entry(name).unwrap_or_else(|| panic!("{name} cannot be pulled"));
        assert_eq!(entry.licence, definition.licence, "{name}");
        let stated = entry.parameters.trim_end_matches(" decoder");
        assert!(
            definition.description.contains(stated),
            "{name} has {stated}: {}",
            definition.description
        );
        let targets = entry.targets().unwrap();
        let pulled: Vec<String> = targets.iter().map(ToString::to_string).collect();
        for file in definition.files() {
            let file = file.strip_prefix("hub:").unwrap();
            let target = ravel_hub::Target::of_definition(file).unwrap();
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

#[test]
fn definitions_say_what_the_published_code_does() {
    for (name, definition) in definitions() {
        let sampler = &definition.sampler;
        sampler.validate().unwrap();
        let music = matches!(
            definition.sound_model,
            Some(SoundModelPart::Musicgen { .. })
        );
        let task = if music {
            Task::TextToMusic
        } else {
            Task::TextToSpeech
        };
        assert_eq!(definition.task, task, "{name}");
        let found = (
            sampler.temperature,
            sampler.top_k,
            sampler.top_p,
            sampler.guidance.at(0, 10),
        );
        let expected = match name {
            "csm-1b" => (0.9, Some(50), None, 0.0),
            "dia-1.6b" => (1.2, None, Some(0.95), 3.0),
            "fish-speech-1.5" => (0.7, None, None, 0.0),
            _ => (1.0, Some(250), None, 2.0),
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn codecs_have_the_sizes_of_their_published_configurations() {
    // `audio_encoder` of the published configurations, as far as it differs from its library's defaults.
    let json = r#"{"codebook_size": 2048, "num_filters": 64, "sampling_rate": 32000, "target_bandwidths": [2.2],
        "upsampling_ratios": [8, 5, 4, 4], "use_causal_conv": false, "use_conv_shortcut": false}"#;
    for (name, definition) in definitions() {
        match definition.tokenizer.unwrap() {
            TokenizerPart::Encodec { config, .. } => {
                let read = read_config::<encodec::Config>("encodec", json).unwrap();
                assert_eq!(config, read.tokenizer().unwrap(), "{name}");
            }
            TokenizerPart::Dac { config, .. } => {
                let json = r#"{"downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 9, "sampling_rate": 44100}"#;
                let read = read_config::<dac::Config>("dac", json).unwrap();
                assert_eq!(config, read.tokenizer().unwrap(), "{name}");
            }
            TokenizerPart::Mimi { config, .. } => {
                let mut expected = mimi::Config::default().tokenizer().unwrap();
                expected.encode_depth = config.encode_depth;
                assert_eq!((config.depth, &config), (32, &expected), "{name}");
            }
            TokenizerPart::Firefly { config, .. } => {
                assert_eq!(config, firefly::Config::default().tokenizer().unwrap());
            }
            other => panic!("{name}: {}", other.kind()),
        }
    }
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
