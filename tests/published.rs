//! Published image models from outside: their definitions, and tiny checkpoints in the published formats that run end to end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use ravel_media::{Picture, read_image};
use ravel_weights::{Checkpoint, Dtype, save};

use crate::command::{Run, check_refused, command, from, ravel};
use crate::mirror::Mirror;

/// Ten classes: two share a name.
pub const CLASSES: &str = "n01\ttench, Tinca tinca\nn02\tgoldfish\nn03\tcrane, wader\nn04\tcrane, derrick\nn05\tgolden retriever\n\
                       n06\ttabby\nn07\tvolcano\nn08\tfountain\nn09\tdaisy\nn10\tcliff\n";

const VAR: &str = include_str!("published/var.toml");

const LLAMAGEN: &str = include_str!("published/llamagen.toml");

const CAPTIONS: &str = include_str!("published/captions.toml");

pub fn golden(file: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    golden.join(file)
}

/// Copies tensors of a published file with what `change` makes of them; it gives none for one that is left out.
fn rewritten(
    from: &Path,
    to: &Path,
    change: impl Fn(&str, Vec<f32>, Vec<usize>) -> Option<(Vec<f32>, Vec<usize>)>,
) {
    let checkpoint = Checkpoint::open(from).unwrap();
    let tensors = checkpoint.names().filter_map(|name| {
        let data = checkpoint.real(name).unwrap();
        let shape = data.shape().to_vec();
        let (values, shape) = change(name, data.try_into_vec().unwrap(), shape)?;
        Some((name.to_string(), TensorData::new::<f32, _>(values, shape)))
    });
    let tensors: Vec<_> = tensors.collect();
    save(to, tensors, &BTreeMap::new(), Dtype::Keep).unwrap();
}

/// The tiny VAR as it was published, and a definition beside it.
fn var() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["var_tiny.pth", "vae_tiny.pth"] {
        let from = golden("var_transformer").join(file);
        std::fs::copy(from, folder.path().join(file)).unwrap();
    }
    std::fs::write(folder.path().join("classes.tsv"), CLASSES).unwrap();
    std::fs::write(folder.path().join("pipeline.toml"), VAR).unwrap();
    folder
}

/// LlamaGen's tokenizer with as many codes as its tiny transformers have.
fn write_vq(folder: &Path) {
    let from = golden("llamagen_vq/model.safetensors");
    rewritten(
        &from,
        &folder.join("vq.safetensors"),
        |name, values, shape| match name == "quantize.embedding.weight" {
            true => Some((values[..64 * 8].to_vec(), vec![64, 8])),
            false => Some((values, shape)),
        },
    );
}

/// The tiny LlamaGen from classes, its transformer as `torch.save` wrote it.
fn llamagen() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = golden("llamagen_gpt_c2i/c2i_tiny.pt");
    std::fs::copy(from, folder.path().join("c2i_tiny.pt")).unwrap();
    write_vq(folder.path());
    std::fs::write(folder.path().join("classes.tsv"), CLASSES).unwrap();
    std::fs::write(folder.path().join("pipeline.toml"), LLAMAGEN).unwrap();
    folder
}

/// A vocabulary as T5 has it: unigrams, with spaces as a letter of their own.
fn vocabulary() -> String {
    unigrams(&["<pad>", "</s>", "<unk>"])
}

/// Unigrams behind three special tokens, of which the last stands for what is not known.
pub fn unigrams(special: &[&str; 3]) -> String {
    let pieces = ["\u{2581}", "\u{2581}a", "\u{2581}red", "\u{2581}boat"];
    let letters = ('a'..='z')
        .chain(['0', '1'])
        .map(|letter| letter.to_string());
    let special_pieces = special.iter().map(|token| token.to_string());
    let pieces = special_pieces
        .chain(pieces.map(String::from))
        .chain(letters);
    let scored = pieces.enumerate().map(|(at, piece)| {
        let score = if at < 3 { 0.0 } else { -(at as f64) };
        serde_json::json!([piece, score])
    });
    let added = special.iter().enumerate().map(|(id, content)| {
        serde_json::json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    });
    let spaces = serde_json::json!({
        "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true
    });
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "pre_tokenizer": spaces.clone(), "decoder": spaces,
        "model": { "type": "Unigram", "unk_id": 2, "vocab": scored.collect::<Vec<_>>() }
    })
    .to_string()
}

/// Twice the columns: what a wider text encoder takes.
fn doubled(values: &[f32], shape: &[usize]) -> (Vec<f32>, Vec<usize>) {
    let rows = values.chunks(shape[1]);
    let wide = rows.flat_map(|row| row.iter().chain(row).copied());
    (wide.collect(), vec![shape[0], 2 * shape[1]])
}

/// The tiny LlamaGen from captions, made as wide as the tiny text encoder.
fn captions() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |file: &str| folder.path().join(file);
    let from = golden("llamagen_gpt_t2i/model.safetensors");
    rewritten(
        &from,
        &at("t2i.safetensors"),
        |name, values, shape| match name.contains("fc1.weight") || name.contains("uncond_embedding")
        {
            true => Some(doubled(&values, &shape)),
            false => Some((values, shape)),
        },
    );
    write_vq(folder.path());
    std::fs::copy(golden("t5_encoder/model.safetensors"), at("t5.safetensors")).unwrap();
    std::fs::copy(golden("t5_encoder/config.json"), at("config.json")).unwrap();
    // Large encoders are published in several files with an index.
    let encoder = Checkpoint::open(&at("t5.safetensors")).unwrap();
    let shards = encoder
        .names()
        .map(|name| (name.to_string(), "t5.safetensors".into()));
    let shards: serde_json::Map<String, serde_json::Value> = shards.collect();
    let index = serde_json::json!({ "metadata": {}, "weight_map": shards });
    std::fs::write(at("t5.safetensors.index.json"), index.to_string()).unwrap();
    std::fs::write(at("tokenizer.json"), vocabulary()).unwrap();
    std::fs::write(at("pipeline.toml"), CAPTIONS).unwrap();
    folder
}

pub fn image(folder: &Path, prompts: &[&str], output: &str) -> Run {
    let rest = ["-o", output, "--pipeline", "pipeline.toml", "--seed", "3"];
    ravel(folder, &[&["image"], prompts, &rest].concat())
}

/// Makes pictures and gives the one of them that is in `file`.
pub fn made(folder: &Path, prompts: &[&str], output: &str, file: &str) -> Picture {
    let run = image(folder, prompts, output);
    assert_eq!(run.code, 0, "{}", run.err);
    read_image(&folder.join(file)).unwrap()
}

pub fn edited(folder: &Path, from: &str, to: &str) {
    let path = folder.join("pipeline.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in the definition");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// What holds of every model of classes: same seed, same bytes; a batch is the same as one alone; a class by any of its names.
pub fn check_classes(folder: &Path, side: usize) {
    let one = made(folder, &["golden retriever"], "one.png", "one.png");
    assert_eq!((one.width, one.height), (side, side));
    made(folder, &["golden retriever"], "again.png", "again.png");
    let bytes = |file: &str| std::fs::read(folder.join(file)).unwrap();
    assert_eq!(bytes("one.png"), bytes("again.png"));
    let colours: std::collections::BTreeSet<_> = one.rgb.chunks(3).collect();
    assert!(colours.len() > 10, "{} colours", colours.len());

    let prompts = ["Golden Retriever", "6", "n02"];
    let first = made(folder, &prompts, "all", "all/golden-retriever.png");
    assert_eq!(first, one);
    let second = read_image(&folder.join("all/6.png")).unwrap();
    assert_ne!(second, one, "classes must show");
    for file in ["all/6.png", "all/n02.png"] {
        let run = ravel(folder, &["replay", file]);
        assert_eq!(run.code, 0, "{}", run.err);
        assert!(run.text().contains("the same bytes again"));
    }
    let run = ravel(folder, &["pipelines", "check", "pipeline.toml"]);
    assert!(run.text().contains("is whole"), "{}", run.err);
    let run = ravel(folder, &["pipelines", "classes", "pipeline.toml"]);
    assert!(run.text().contains("4\tn05\tgolden retriever"));
}

#[test]
fn a_tiny_var_as_published_makes_pictures() {
    let folder = var();
    check_classes(folder.path(), 12);
    let picture = "all/6.png";
    let arguments = [
        "tokenizer",
        "encode",
        picture,
        "--pipeline",
        "pipeline.toml",
    ];
    let run = ravel(folder.path(), &arguments);
    let codes: serde_json::Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!(
        codes["ids"].as_array().unwrap().len(),
        1 + 4 + 9 + 16 + 25 + 36
    );
}

#[test]
fn weights_that_a_definition_names_are_pulled_and_used_from_the_cache() {
    let folder = var();
    let folder = folder.path();
    let expected = made(folder, &["6"], "beside.png", "beside.png");
    let files = ["var_tiny.pth", "vae_tiny.pth"];
    for file in files {
        edited(
            folder,
            &format!("\"{file}\""),
            &format!("\"hub:o/n/{file}\""),
        );
    }
    let bytes = files.map(|file| std::fs::read(folder.join(file)).unwrap());
    for file in files {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    let served = [(files[0], &*bytes[0]), (files[1], &*bytes[1])];
    let hub = Mirror::hub(&served, |_, reply| reply);
    let run = |hub: &str, arguments: &[&str]| {
        let mut command = command(folder, arguments);
        command.env("HF_HUB_CACHE", folder.join("cache"));
        command.env("HF_ENDPOINT", hub).env_remove("HF_HUB_OFFLINE");
        from(command.output().unwrap())
    };
    let image = [
        "image",
        "6",
        "-o",
        "pulled.png",
        "--seed",
        "3",
        "--pipeline",
        "pipeline.toml",
    ];
    let refused = run(&hub.url, &image);
    check_refused(&refused, "hub:o/n/");
    let (_, hint) = refused.err.split_once("`ravel models pull ").unwrap();
    let (first, _) = hint.split_once('`').unwrap();
    for target in [first, "o/n:var_tiny.pth"] {
        let pulled = run(&hub.url, &["models", "pull", target]);
        assert_eq!(pulled.code, 0, "{target}: {}", pulled.err);
    }
    // What is in the cache needs no hub.
    let made = run("http://127.0.0.1:9", &image);
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!(read_image(&folder.join("pulled.png")).unwrap(), expected);
}

#[test]
fn a_tiny_llamagen_as_published_makes_pictures() {
    check_classes(llamagen().path(), 16);
}

#[test]
fn a_tiny_llamagen_as_published_makes_pictures_from_captions() {
    let folder = captions();
    let folder = folder.path();
    let one = made(folder, &["a red boat"], "one.png", "one.png");
    assert_eq!((one.width, one.height), (16, 16));
    let prompts = [
        "A  RED boat",
        "two boats on the water of a wide river",
        "boat",
    ];
    let first = made(folder, &prompts, "all", "all/a-red-boat.png");
    assert_eq!(first, one, "neither case nor the captions beside it matter");
    let run = ravel(folder, &["replay", "all/boat.png"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_ne!(read_image(&folder.join("all/boat.png")).unwrap(), one);
}

#[test]
fn captions_and_text_encoders_that_do_not_fit_are_refused() {
    let folder = captions();
    let folder = folder.path();
    let go = |caption: &str| image(folder, &[caption], "out.png");
    check_refused(&go(""), "empty");
    check_refused(&go(&"zq ".repeat(100)), "this model reads 119 at most");
    let run = ravel(folder, &["pipelines", "classes", "pipeline.toml"]);
    check_refused(&run, "is not steered by classes");
    let ours = std::fs::read(folder.join("tokenizer.json")).unwrap();
    for (from, expected) in [
        ("tokenizer_bpe_gpt2", "the file belongs to another model"),
        ("tokenizer_bpe_llama3", "the file belongs to another model"),
    ] {
        std::fs::copy(
            golden(from).join("tokenizer.json"),
            folder.join("tokenizer.json"),
        )
        .unwrap();
        check_refused(&go("boat"), expected);
    }
    let turned = String::from_utf8(ours.clone())
        .unwrap()
        .replace("</s>", "<s>");
    std::fs::write(folder.join("tokenizer.json"), turned).unwrap();
    check_refused(&go("boat"), "`</s>` is no token, 1 in the text encoder");
    std::fs::write(folder.join("tokenizer.json"), ours).unwrap();
    edited(folder, "caption_dim = 48", "caption_dim = 24");
    check_refused(&go("boat"), "model.caption_dim");
    edited(folder, "caption_dim = 24", "caption_dim = 48");
    edited(folder, "length = 120", "length = 77");
    check_refused(&go("boat"), "text.length");
    edited(folder, "length = 77", "length = 120");
    edited(
        folder,
        "\"t5.safetensors.index.json\"",
        "\"vq.safetensors\"",
    );
    check_refused(&go("boat"), "missing: ");
    std::fs::write(folder.join("config.json"), "{\"d_model\": \"wide\"}").unwrap();
    check_refused(
        &go("boat"),
        "config.json: t5_encoder: the configuration cannot be read",
    );
    assert!(!folder.join("out.png").exists());
}

#[test]
fn classes_that_do_not_exist_are_refused_with_near_names() {
    let folder = var();
    let go = |prompt: &str| image(folder.path(), &["6", prompt], "out");
    let run = go("golden retreiver");
    check_refused(
        &run,
        "prompt 2: no class is called `golden retreiver`; near names: golden retriever (4)",
    );
    assert!(
        run.err.contains("hint: ") && run.err.contains("ravel pipelines classes"),
        "{}",
        run.err
    );
    check_refused(&go("crane"), "2 (crane, wader), 3 (crane, derrick)");
    check_refused(&go("10"), "there is no class 10; this model has 0 to 9");
    check_refused(&go(" "), "empty");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn definitions_of_published_models_are_known_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = command(folder.path(), arguments);
        from(
            command
                .env("HF_HUB_CACHE", folder.path().join("cache"))
                .output()
                .unwrap(),
        )
    };
    let listed = run(&["pipelines", "list", "--json"]).text();
    let listed: Vec<serde_json::Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let published: Vec<&str> = listed
        .iter()
        .filter(|row| row["published"] == true && row["task"] == "text-to-image")
        .map(|row| {
            assert_eq!(row["ready"], false, "{row}");
            row["name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(published.len(), 18, "{published:?}");
    for name in &published {
        let models = run(&["models", "show", name]);
        assert_eq!(models.code, 0, "{name} can be pulled: {}", models.err);
        let shown = run(&["pipelines", "show", name]).text();
        std::fs::write(folder.path().join("copy.toml"), &shown).unwrap();
        let again = run(&["pipelines", "show", "copy.toml"]).text();
        assert_eq!(again, shown, "{name}");
        let checked = run(&["pipelines", "check", name]);
        check_refused(&checked, "not in the cache");
        let hint = format!("hint: `ravel models pull {name}` fetches it");
        assert!(checked.err.contains(&hint), "{}", checked.err);
        // All that a definition needs is what pulling its name brings.
        let needs = models.text();
        for file in shown
            .split('"')
            .filter_map(|part| part.strip_prefix("hub:"))
        {
            let mut parts = file.splitn(3, '/');
            let mut part = || parts.next().unwrap();
            let repo = format!("{}/{}", part(), part());
            let whole = needs.lines().any(|line| line == format!("needs {repo}"));
            let file = format!("needs {repo}:{}", part());
            assert!(
                whole || needs.contains(&file),
                "{name} lacks {file}:\n{needs}"
            );
        }
    }
    let refused = run(&["image", "golden retreiver", "--pipeline", "var-d16"]);
    check_refused(&refused, "near names: golden retriever (207)");
    let refused = run(&["image", "golden retriever", "--pipeline", "var-d16"]);
    check_refused(&refused, "hub:FoundationVision/var/");
    assert!(
        refused.err.contains("ravel models pull var-d16"),
        "{}",
        refused.err
    );
    assert!(
        run(&["pipelines", "classes", "var-d16"])
            .text()
            .contains("207\tn02099601\tgolden retriever")
    );
}

#[test]
fn weights_of_another_model_are_refused() {
    let folder = var();
    let go = || image(folder.path(), &["6"], "out.png");
    edited(
        folder.path(),
        "weights = \"var_tiny.pth\"",
        "weights = \"vae_tiny.pth\"",
    );
    let run = go();
    check_refused(&run, "vae_tiny.pth: ");
    assert!(
        run.err.contains("missing: `class_emb.weight`") && run.err.contains("unused: `"),
        "{}",
        run.err
    );
    assert!(
        run.err
            .contains("hint: the weights belong to another definition"),
        "{}",
        run.err
    );
    edited(
        folder.path(),
        "weights = \"vae_tiny.pth\"",
        "weights = \"classes.tsv\"",
    );
    check_refused(&go(), "classes.tsv");
    edited(
        folder.path(),
        "weights = \"classes.tsv\"",
        "weights = \"gone.pth\"",
    );
    check_refused(&go(), "gone.pth");
    assert!(!folder.path().join("out.png").exists());
}

#[test]
fn all_missing_and_misshapen_tensors_are_told_together() {
    let folder = llamagen();
    let weights = folder.path().join("gpt.safetensors");
    rewritten(
        &folder.path().join("c2i_tiny.pt"),
        &weights,
        |name, values, shape| match name {
            "cls_embedding.embedding_table.weight" | "layers.1.attention.wo.weight" => None,
            "output.weight" => Some((values[..48].to_vec(), vec![1, 48])),
            _ => Some((values, shape)),
        },
    );
    let vq = folder.path().join("vq.safetensors");
    rewritten(&vq.clone(), &vq, |name, values, shape| {
        (name != "quant_conv.bias").then_some((values, shape))
    });
    edited(folder.path(), "c2i_tiny.pt", "gpt.safetensors");
    let run = image(folder.path(), &["6"], "out.png");
    for name in [
        "`cls_embedding.embedding_table.weight`",
        "`layers.1.attention.wo.weight`",
        "`output.weight`",
        "`quant_conv.bias`",
    ] {
        check_refused(&run, name);
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let folder = llamagen();
    let weights = folder.path().join("gpt.safetensors");
    rewritten(
        &folder.path().join("c2i_tiny.pt"),
        &weights,
        |name, mut values, shape| {
            if name == "layers.2.ffn_norm.weight" {
                values[5] = f32::NAN;
            }
            Some((values, shape))
        },
    );
    edited(folder.path(), "c2i_tiny.pt", "gpt.safetensors");
    let run = image(folder.path(), &["6"], "out.png");
    check_refused(&run, "`layers.2.ffn_norm.weight` holds NaN");
}

#[test]
fn definitions_whose_parts_do_not_fit_name_the_field() {
    let check = |folder: tempfile::TempDir, from: &str, to: &str, expected: &str| {
        edited(folder.path(), from, to);
        check_refused(&image(folder.path(), &["6"], "out.png"), expected);
    };
    check(var(), "depth = 3", "dept = 3", "did you mean `depth`?");
    check(var(), "depth = 3", "depth = \"three\"", "invalid type");
    check(
        var(),
        "num_classes = 10",
        "num_classes = 11",
        "10 classes, the model knows 11",
    );
    check(
        var(),
        "kind = \"var-vqvae\"",
        "kind = \"var-vqvea\"",
        "did you mean `var-vqvae`?",
    );
    check(var(), "num_heads = 4", "num_heads = 5", "heads");
    check(
        var(),
        "[model]",
        "[model]\npatch_nums = [1, 2]\n",
        "model.patch_nums",
    );
    check(
        llamagen(),
        "block_size = 16",
        "block_size = 25",
        "model.block_size",
    );
    check(
        llamagen(),
        "\nvocab_size = 64",
        "\nvocab_size = 63",
        "model.vocab_size",
    );
    check(llamagen(), "size = 16", "size = 15", "size");
    check(
        llamagen(),
        "kind = \"classes\"",
        "kind = \"subword\"\nlength = 4",
        "text of kind \"classes\"",
    );
    let folder = var();
    std::fs::write(folder.path().join("classes.tsv"), "tench\n").unwrap();
    check_refused(
        &image(folder.path(), &["6"], "out.png"),
        "classes.tsv: not a list of classes: line 1",
    );
}
