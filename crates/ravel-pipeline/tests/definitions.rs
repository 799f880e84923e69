//! Definitions: round trips, files that lead out of the folder, parts that do not fit each other.

use std::path::Path;

use ravel_pipeline::{Definition, Source, schema};

const EMBEDDED: [&str; 2] = [
    include_str!("../../../assets/models/emoji-ar/pipeline.toml"),
    include_str!("../../../assets/models/emoji-var/pipeline.toml"),
];

/// The files that the embedded definitions name; a check needs them to be there, not to be right.
const FILES: Source = Source::Embedded(&[
    ("generator.safetensors", b""),
    ("tokenizer.safetensors", b""),
    ("text.json", b""),
]);

#[test]
fn a_definition_comes_back_from_its_own_toml() {
    for text in EMBEDDED {
        let first = Definition::parse("first.toml", text).unwrap();
        first.check(&FILES).unwrap();
        let again = Definition::parse("again.toml", &first.to_toml()).unwrap();
        assert_eq!(again, first);
    }
}

#[test]
fn the_schema_names_every_key_of_a_definition() {
    let schema = schema();
    for text in EMBEDDED {
        let keys = text.lines().filter_map(|line| line.split_once(" = "));
        for (key, _) in keys {
            assert!(schema.contains(&format!("\"{key}\"")), "{key}");
        }
    }
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(folder.path().join("secret"), b"x").unwrap();
    std::fs::write(inside.join("plain"), b"y").unwrap();
    let source = Source::Folder(inside.clone());
    assert_eq!(&*source.read("plain").unwrap(), b"y");
    let absolute = folder.path().join("secret");
    for name in [
        "../secret",
        "",
        ".",
        "a/../../secret",
        absolute.to_str().unwrap(),
    ] {
        let line = source.read(name).unwrap_err().to_string();
        assert!(
            line.contains("below the definition's own folder"),
            "{name}: {line}"
        );
    }
    assert!(!Path::new(&inside).join("secret").exists());
}

#[test]
fn a_head_that_does_not_fit_the_tokenizer_is_named() {
    let wrong = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let text = text.replace(from, to);
        let definition = Definition::parse("a.toml", &text).unwrap();
        definition.check(&FILES).unwrap_err().to_string()
    };
    let [ar, var] = EMBEDDED;
    let head = "[head]\nkind = \"next-scale\"\ncodebook-size = 2048";
    let line = wrong(var, head, &head.replace("2048", "1024"));
    assert!(
        line.contains("head.codebook-size") && line.contains("1024"),
        "{line}"
    );
    let head = &ar[ar.find("[head]").unwrap()..];
    let scales = "[head]\nkind = \"next-scale\"\ncodebook-size = 2048\ncode-width = 16\n";
    let line = wrong(ar, head, scales);
    assert!(line.contains("layout"), "{line}");
    let line = wrong(ar, "length = 20", "length = 1");
    assert!(line.contains("text.length"), "{line}");
    let line = wrong(ar, "weights = \"generator.safetensors\"\n", "");
    assert!(line.contains("weights"), "{line}");
}
