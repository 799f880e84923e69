//! The definitions of published models can be read, and what they name is what is pulled by their names.

use ravel_hub::{Target, entry};
use ravel_pipeline::{Definition, Source, Task};
use text_generation::PUBLISHED;

#[test]
fn definitions_and_catalogue_agree() {
    for (name, files) in PUBLISHED {
        let text = Source::Embedded(files).read("pipeline.toml").unwrap();
        let definition = Definition::parse(name, std::str::from_utf8(&text).unwrap()).unwrap();
        assert_eq!(
            (&*definition.name, definition.task),
            (*name, Task::TextGeneration)
        );
        let entry = entry(name).unwrap_or_else(|| panic!("{name} cannot be pulled"));
        assert_eq!(entry.licence, definition.licence, "{name}");
        let repo = entry.repo.as_deref().unwrap();
        // By its format: configuration, vocabulary and all shards.
        assert!(entry.files.is_empty(), "{name}");
        let files = definition.files();
        assert_eq!(files.len(), 5, "{name}");
        for file in files {
            let target = file
                .strip_prefix("hub:")
                .unwrap_or_else(|| panic!("{name}: {file}"));
            let target = Target::of_definition(target).unwrap();
            assert_eq!(target.repo.to_string(), repo, "{name}");
            let file = target.file.unwrap().to_string();
            assert!(
                file.ends_with(".json") || file == "model.safetensors",
                "{name}: {file}"
            );
        }
        let again = Definition::parse("again", &definition.to_toml()).unwrap();
        assert_eq!(again, definition);
    }
}
