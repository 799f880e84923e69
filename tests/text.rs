//! `ravel text`: continuing, asking, streaming, stopping, and everything that can be handed in wrongly.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use burn::tensor::TensorData;
use ravel_testkit::noise;
use ravel_weights::{Dtype, save};
use serde_json::{Value, json};

use crate::command::{Run, check_refused, command, from, ravel};

/// The width of the tiny model.
const WIDTH: usize = 16;
/// Its positions.
const CONTEXT: usize = 64;

fn golden(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    std::fs::read(path.join(file)).unwrap()
}

/// A folder with a published model of a few numbers and a real vocabulary.
fn published(rows: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let config = json!({
        "model_type": "llama", "vocab_size": rows, "hidden_size": WIDTH, "intermediate_size": 24,
        "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": true, "eos_token_id": 1,
    });
    write("config.json", config.to_string().as_bytes());
    write(
        "tokenizer.json",
        &golden("tokenizer_bpe_gpt2/tokenizer.json"),
    );
    let chat = json!({
        "eos_token": "<|endoftext|>",
        "chat_template": [
            {"name": "default", "template":
                "{% for m in messages %}\n{{ m.role }}: {{ m.content | trim }}\n{% endfor %}\nassistant:"},
            {"name": "short", "template": "{{ messages[-1]['content'].strip('.') }}"},
            {"name": "strict", "template": "{{ raise_exception('only pictures are discussed') }}"},
        ],
    });
    write("tokenizer_config.json", chat.to_string().as_bytes());
    write(
        "generation_config.json",
        br#"{"do_sample": true, "top_p": 0.9}"#,
    );
    weights(&folder.path().join("model.safetensors"), rows, 0);
    folder
}

fn weights(path: &Path, rows: usize, first: u32) {
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".into(), vec![rows, WIDTH]),
        ("model.norm.weight".into(), vec![WIDTH]),
        (layer("input_layernorm"), vec![WIDTH]),
        (layer("post_attention_layernorm"), vec![WIDTH]),
        (layer("self_attn.q_proj"), vec![WIDTH, WIDTH]),
        (layer("self_attn.k_proj"), vec![WIDTH, WIDTH]),
        (layer("self_attn.v_proj"), vec![WIDTH, WIDTH]),
        (layer("self_attn.o_proj"), vec![WIDTH, WIDTH]),
        (layer("mlp.gate_proj"), vec![24, WIDTH]),
        (layer("mlp.up_proj"), vec![24, WIDTH]),
        (layer("mlp.down_proj"), vec![WIDTH, 24]),
    ];
    let tensors = shapes.into_iter().enumerate().map(|(salt, (name, shape))| {
        let count: usize = shape.iter().product();
        let values = (0..count as u32)
            .map(|at| noise(at, first + salt as u32))
            .collect();
        (name, TensorData::new::<f32, _>(values, shape))
    });
    save(path, tensors, &BTreeMap::new(), Dtype::Keep).unwrap();
}

fn text(folder: &Path, arguments: &[&str]) -> Run {
    let all = ["text", "--pipeline", ".", "--max-tokens", "20"];
    let all: Vec<&str> = all.iter().chain(arguments).copied().collect();
    ravel(folder, &all)
}

#[track_caller]
fn object(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}", run.err);
    serde_json::from_slice(&run.out).unwrap()
}

#[test]
fn a_published_folder_is_a_pipeline_and_a_seed_gives_the_same_text() {
    let folder = published(600);
    let first = text(folder.path(), &["The river", "--seed", "3"]);
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(first.out.len() > 1);
    let again = text(folder.path(), &["The river", "--seed", "3"]);
    assert!(first.out == again.out);
    let other = text(folder.path(), &["The river", "--seed", "4"]);
    assert!(first.out != other.out);
    let object = object(&text(
        folder.path(),
        &["The river", "--seed", "3", "--json"],
    ));
    assert_eq!(
        format!("{}\n", object["text"].as_str().unwrap()),
        first.text()
    );
    assert_eq!(object["sampler"]["top-p"], 0.9);
    assert_eq!(object["finish"], "length");
    assert_eq!(object["tokens"], 20);
    let check = ravel(folder.path(), &["pipelines", "check", "."]);
    assert_eq!(check.code, 0, "{}", check.err);
}

#[test]
fn prompts_come_from_files_and_standard_input_alike() {
    let folder = published(600);
    let expected = text(folder.path(), &["The river"]).out;
    std::fs::write(folder.path().join("prompt.txt"), "The river\n").unwrap();
    assert!(text(folder.path(), &["--file", "prompt.txt"]).out == expected);
    let mut child = command(
        folder.path(),
        &["text", "-", "--pipeline", ".", "--max-tokens", "20"],
    )
    .stdin(std::process::Stdio::piped())
    .spawn()
    .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"The river\n")
        .unwrap();
    assert!(from(child.wait_with_output().unwrap()).out == expected);
}

#[test]
fn a_file_of_prompts_becomes_a_text_for_each() {
    let folder = published(600);
    let write = |text: &str| std::fs::write(folder.path().join("prompts.txt"), text).unwrap();
    let many = |more: &[&str]| {
        let asked = [
            "text",
            "--prompts",
            "prompts.txt",
            "--pipeline",
            ".",
            "--max-tokens",
            "20",
        ];
        ravel(folder.path(), &[&asked[..], more].concat())
    };
    let rows_of = |run: &Run| -> Vec<Value> {
        let text = run.text();
        let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
        rows.collect()
    };
    write("The river\n\n{\"prompt\": \"The hill\", \"seed\": 4}\nThe river\n");
    let run = many(&["--seed", "3"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let rows = rows_of(&run);
    let expected = [("The river", 3), ("The hill", 4), ("The river", 3)];
    assert_eq!(rows.len(), expected.len());
    for (row, (prompt, seed)) in rows.iter().zip(expected) {
        assert_eq!(
            (&row["prompt"], &row["seed"]),
            (&json!(prompt), &json!(seed))
        );
        let seed = seed.to_string();
        let alone = object(&text(folder.path(), &[prompt, "--seed", &seed, "--json"]));
        assert_eq!(row["text"], alone["text"]);
    }
    // Each ends where it ends: what stops the first does not stop the second.
    let letters: Vec<char> = rows[0]["text"].as_str().unwrap().chars().collect();
    let middle = letters.len() / 2;
    let stop: String = letters[middle..middle + 4].iter().collect();
    let stopped = rows_of(&many(&["--seed", "3", "--stop", &stop, "--batch", "2"]));
    for at in [0, 2] {
        assert_eq!(stopped[at]["finish"], "stop");
    }
    assert_eq!(stopped[1]["text"], rows[1]["text"]);
    // Methods that have a text to themselves make one after the other.
    let beams = many(&["--beams", "2"]);
    assert_eq!((beams.code, rows_of(&beams).len()), (0, 3), "{}", beams.err);

    check_refused(
        &many(&["--stop", ""]),
        "prompts.txt:1: a stop string is empty",
    );
    for (lines, expected) in [
        ("\n \n".to_string(), "there is no prompt in it"),
        (
            "The river\n{\"prompt\": \"x\", \"temperature\": 1}\n".into(),
            "prompts.txt:2: the key `temperature` is not read",
        ),
        (
            "{\"prompt\": \"x\", \"seed\": -1}".into(),
            "prompts.txt:1: `seed` is no whole number",
        ),
        ("{\"seed\": 1}".into(), "needs the key `prompt`"),
        (
            format!("short\n{}\n", "river ".repeat(CONTEXT)),
            "prompts.txt:2: the prompt has",
        ),
    ] {
        write(&lines);
        check_refused(&many(&[]), expected);
    }
    std::fs::remove_file(folder.path().join("prompts.txt")).unwrap();
    check_refused(&many(&[]), "prompts.txt");
    assert_eq!(many(&["--file", "x"]).code, 2);
    assert_eq!(text(folder.path(), &["x", "--batch", "2"]).code, 2);
}

#[test]
fn a_text_ends_before_a_stop_string() {
    let folder = published(600);
    let whole = object(&text(folder.path(), &["The river", "--json"]));
    let whole = whole["text"].as_str().unwrap();
    // From the middle of one piece into another.
    let letters: Vec<char> = whole.chars().collect();
    let stop: String = letters[letters.len() / 2..letters.len() / 2 + 4]
        .iter()
        .collect();
    let cut = object(&text(
        folder.path(),
        &["The river", "--json", "--stop", &stop],
    ));
    let before = &whole[..whole.find(&stop).unwrap()];
    assert_eq!(cut["text"], before);
    assert_eq!(
        (&cut["finish"], &cut["stop"]),
        (&json!("stop"), &json!(stop))
    );
    let plain = text(folder.path(), &["The river", "--stop", &stop]);
    assert_eq!(plain.text(), format!("{before}\n"));
}

#[test]
fn log_probabilities_are_the_models_own() {
    let folder = published(600);
    let run = text(
        folder.path(),
        &["The river", "--logprobs", "3", "--temperature", "0"],
    );
    let object = object(&run);
    let tokens = object["logprobs"].as_array().unwrap();
    assert_eq!(tokens.len(), 20);
    for token in tokens {
        let top = token["top"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedy: what was taken is the most likely.
        assert_eq!(top[0]["id"], token["id"]);
        let numbers: Vec<f64> = top.iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a >= b) && numbers[0] <= 0.0);
    }
}

#[test]
fn beams_contrast_and_drafts() {
    let folder = published(600);
    let go = |arguments: &[&str]| {
        let all: Vec<&str> = ["The river"].iter().chain(arguments).copied().collect();
        text(folder.path(), &all)
    };
    let greedy = go(&["--temperature", "0"]);
    assert_eq!(greedy.code, 0, "{}", greedy.err);
    assert!(go(&["--beams", "1"]).out == greedy.out);
    assert!(go(&["--contrastive", "1,0.6"]).out == greedy.out);
    let beams = object(&go(&["--beams", "4", "--length-penalty", "0.5", "--json"]));
    assert_eq!(beams["decoding"]["kind"], "beam-search");
    assert_eq!(beams["decoding"]["length-penalty"], 0.5);
    assert!(beams["tokens"].as_u64().unwrap() <= 20);
    let streamed = go(&["--beams", "4", "--length-penalty", "0.5"]);
    let whole = beams["text"].as_str().unwrap();
    assert_eq!(streamed.text(), format!("{whole}\n"));
    let contrast = go(&["--contrastive", "6,0.8"]);
    assert!(contrast.code == 0 && contrast.out != greedy.out);

    let draft = published(600);
    weights(&draft.path().join("model.safetensors"), 600, 50);
    let name = draft.path().to_str().unwrap();
    let drafted = go(&["--draft", name, "--temperature", "0"]);
    assert!(drafted.out == greedy.out, "{}", drafted.err);
    let itself = object(&go(&["--draft", ".", "--draft-tokens", "3", "--json"]));
    // Five rounds of three drafted tokens and one more.
    assert_eq!(
        (&itself["drafted"], &itself["accepted"]),
        (&json!(15), &json!(15))
    );
    let drawn = go(&["--draft", name, "--seed", "3"]);
    assert!(drawn.code == 0 && drawn.out == go(&["--draft", name, "--seed", "3"]).out);

    check_refused(&go(&["--beams", "0"]), "beams is 0");
    check_refused(&go(&["--contrastive", "0,0.5"]), "candidates is 0");
    check_refused(&go(&["--contrastive", "5,2"]), "alpha is 2");
    check_refused(&go(&["--beams", "2", "--logprobs", "1"]), "one by one");
    check_refused(
        &go(&["--draft", name, "--draft-tokens", "0"]),
        "draft tokens is 0",
    );
    for wrong in [
        ["--contrastive", "5", "--seed", "1"],
        ["--beams", "2", "--temperature", "0.5"],
        ["--beams", "2", "--draft", name],
    ] {
        assert_eq!(go(&wrong).code, 2);
    }
    let other = published(700);
    check_refused(
        &go(&["--draft", other.path().to_str().unwrap()]),
        "it has 700 ids, 600 are expected",
    );
    let vocabulary = std::fs::read_to_string(draft.path().join("tokenizer.json")).unwrap();
    std::fs::write(
        draft.path().join("tokenizer.json"),
        vocabulary.replacen("\"!\"", "\"\u{2190}\"", 1),
    )
    .unwrap();
    check_refused(&go(&["--draft", name]), "cannot draft for");
}

#[test]
fn a_chat_goes_through_the_models_template() {
    let folder = published(600);
    let chat = text(
        folder.path(),
        &["Hello. ", "--chat", "--system", "Be brief"],
    );
    assert_eq!(chat.code, 0, "{}", chat.err);
    let written = "system: Be brief\nuser: Hello.\nassistant:";
    assert!(chat.out == text(folder.path(), &[written]).out);
    let short = text(folder.path(), &["Hello.", "--chat", "--template", "short"]);
    assert!(short.out == text(folder.path(), &["Hello"]).out);
    check_refused(
        &text(folder.path(), &["Hello", "--chat", "--template", "long"]),
        "no chat template `long`; there are: default, short, strict",
    );
    check_refused(
        &text(folder.path(), &["Hello", "--chat", "--template", "strict"]),
        "only pictures are discussed",
    );
    std::fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    check_refused(
        &text(folder.path(), &["Hello", "--chat"]),
        "no chat template",
    );
}

#[test]
fn prompts_that_cannot_be_used() {
    let folder = published(600);
    let go = |arguments: &[&str]| text(folder.path(), arguments);
    check_refused(&go(&[]), "there is no prompt");
    check_refused(&go(&[""]), "the prompt is empty");
    let none = ["text", "x", "--pipeline", ".", "--max-tokens", "0"];
    check_refused(&ravel(folder.path(), &none), "0 tokens are asked for");
    check_refused(&go(&["x", "--stop", ""]), "a stop string is empty");
    check_refused(&go(&["x", "--temperature", "-1"]), "temperature");
    let long = "river ".repeat(CONTEXT);
    check_refused(&go(&[&long]), &format!("this model sees {CONTEXT} at once"));
    std::fs::write(folder.path().join("bad.txt"), b"good \xff\xfe").unwrap();
    check_refused(
        &go(&["--file", "bad.txt"]),
        "bad.txt: not UTF-8 from byte 5 on",
    );
    std::fs::write(folder.path().join("empty.txt"), b"\n").unwrap();
    check_refused(&go(&["--file", "empty.txt"]), "the prompt is empty");
    std::fs::write(folder.path().join("zero.txt"), b"a\0b").unwrap();
    check_refused(&go(&["--file", "zero.txt"]), "zero bytes");
    check_refused(&go(&["--file", "absent.txt"]), "absent.txt");
}

#[test]
fn the_vocabulary_of_another_model_is_refused() {
    let folder = published(100);
    check_refused(
        &text(folder.path(), &["The river"]),
        "the model's table of embeddings 100 rows: the file belongs to another model",
    );
    // One that has too few ids is told by those that the configuration names.
    let folder = published(4000);
    let path = folder.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let config = config.replace("\"eos_token_id\":1", "\"eos_token_id\":3999");
    std::fs::write(&path, config).unwrap();
    check_refused(
        &text(folder.path(), &["The river"]),
        "tokenizer.json has no id 3999, by which the model's texts begin or end (config.json): the file belongs to another model",
    );
}

#[test]
fn an_index_of_weights_cannot_lead_out_of_its_folder() {
    let folder = published(600);
    let secret = folder.path().join("model.safetensors");
    let beside = tempfile::tempdir().unwrap();
    let outside = beside.path().join("outside.safetensors");
    std::fs::rename(secret, &outside).unwrap();
    let steps = "../".repeat(12);
    for file in [
        outside.display().to_string(),
        format!("{steps}{}", outside.strip_prefix("/").unwrap().display()),
    ] {
        let index = json!({"weight_map": {"model.norm.weight": file}});
        let path = folder.path().join("model.safetensors.index.json");
        std::fs::write(path, index.to_string()).unwrap();
        check_refused(
            &text(folder.path(), &["The river"]),
            "is no plain file name beside it",
        );
    }
}

#[test]
fn folders_that_are_no_published_model() {
    let folder = published(600);
    let go = || text(folder.path(), &["The river"]);
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    put("config.json", config.replace("llama", "mamba").as_bytes());
    check_refused(&go(), "`model_type` is \"mamba\"");
    put(
        "config.json",
        config
            .replace("\"hidden_size\":16", "\"hidden_size\":32")
            .as_bytes(),
    );
    check_refused(&go(), "`model.layers.0.input_layernorm.weight`");
    put("config.json", b"{");
    check_refused(&go(), "cannot be read");
    put("config.json", config.as_bytes());
    put("generation_config.json", b"[1]");
    check_refused(&go(), "generation_config.json");
    std::fs::remove_file(folder.path().join("generation_config.json")).unwrap();
    let whole = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    put("model.safetensors", &whole[..whole.len() / 2]);
    check_refused(&go(), "model.safetensors");
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    check_refused(&go(), "model.safetensors");
    put("model.safetensors", &whole);
    put("tokenizer.json", b"{}");
    check_refused(&go(), "tokenizer.json");
}

#[test]
fn a_text_is_measured_in_bits_per_byte() {
    let folder = published(600);
    let line = "The river keeps its own time. ".repeat(40);
    std::fs::write(folder.path().join("a.txt"), &line).unwrap();
    let eval = ["eval", "--pipeline", ".", "--data", "a.txt", "--json"];
    let report = object(&ravel(folder.path(), &eval));
    let number = |name: &str| report[name].as_f64().unwrap();
    let nats = number("nats-per-token") * number("tokens");
    let bits = nats / std::f64::consts::LN_2 / number("bytes");
    assert!((bits - number("bits-per-byte")).abs() < 1e-9);
    assert!((number("perplexity").ln() - number("nats-per-token")).abs() < 1e-9);
    std::fs::write(folder.path().join("a.txt"), "x").unwrap();
    check_refused(&ravel(folder.path(), &eval), "2 at least are needed");
    std::fs::write(folder.path().join("a.txt"), b"\xff").unwrap();
    check_refused(&ravel(folder.path(), &eval), "not UTF-8");
}

#[test]
fn published_models_run_by_name() {
    let files = published(600);
    let hub = files.path().join("hub");
    let go = |arguments: &[&str]| {
        let mut command = command(files.path(), arguments);
        from(command.env("HF_HOME", &hub).output().unwrap())
    };
    let list = go(&["pipelines", "list", "--json"]).text();
    for name in [
        "gpt2-xl",
        "llama-3.2-3b-instruct",
        "qwen2.5-7b",
        "qwen3-0.6b",
        "mistral-7b",
    ] {
        assert!(list.contains(&format!("\"name\":\"{name}\"")), "{name}");
        let run = go(&["text", "The river", "--pipeline", name]);
        check_refused(&run, "not in the cache");
        let hint = format!("hint: `ravel models pull {name}` fetches it");
        assert!(run.err.contains(&hint), "{}", run.err);
    }
    // A tiny model in the place of the published one.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let root = hub.join("hub/models--meta-llama--Llama-3.2-1B");
    let snapshot = root.join("snapshots").join(commit);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(root.join("refs")).unwrap();
    std::fs::write(root.join("refs/main"), commit).unwrap();
    for entry in std::fs::read_dir(files.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, snapshot.join(path.file_name().unwrap())).unwrap();
        }
    }
    let by_name = [
        "text",
        "The river",
        "--pipeline",
        "llama-3.2-1b",
        "--max-tokens",
        "20",
    ];
    let run = go(&by_name);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out == text(files.path(), &["The river"]).out);
    let check = go(&["pipelines", "check", "llama-3.2-1b"]);
    assert_eq!(check.code, 0, "{}", check.err);
    let weights = snapshot.join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    check_refused(&go(&by_name), "model.safetensors");
    std::fs::remove_file(&weights).unwrap();
    check_refused(&go(&by_name), "not in the cache");
}

#[test]
fn the_embedded_model_goes_on_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = ravel(
        folder.path(),
        &["text", "Once upon a time", "--max-tokens", "12"],
    );
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.text().trim().len() > 10, "{}", run.text());
    check_refused(
        &ravel(folder.path(), &["text", "x", "--pipeline", "emoji-ar"]),
        "text-generation is needed",
    );
    check_refused(
        &ravel(folder.path(), &["image", "x", "--pipeline", "novels"]),
        "text-to-image is needed",
    );
}

#[test]
fn weights_are_cut_once_and_where_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/models/novels");
    let from = format!("{here}/model.safetensors");
    let cut = |from: &str, to: &str| ravel(folder.path(), &["quantize", from, to, "--type", "q8"]);
    let run = cut(&from, "model.safetensors");
    assert_eq!(run.code, 0, "{}", run.err);
    check_refused(&cut(&from, "model.safetensors"), "is there already");
    check_refused(&cut("model.safetensors", "again.safetensors"), "already");
    check_refused(&cut(&from, "nowhere/x.safetensors"), "there is no folder");
    std::fs::write(folder.path().join("empty"), b"").unwrap();
    check_refused(&cut("empty", "x.safetensors"), "0 bytes");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);

    for file in ["pipeline.toml", "tokenizer.json"] {
        std::fs::copy(format!("{here}/{file}"), folder.path().join(file)).unwrap();
    }
    let said = |more: &[&str]| {
        let mut arguments = vec!["text", "It is", "--max-tokens", "8", "--temperature", "0"];
        arguments.extend(more);
        let run = ravel(folder.path(), &arguments);
        assert_eq!(run.code, 0, "{}", run.err);
        run.text()
    };
    let from_file = said(&["--pipeline", "pipeline.toml"]);
    assert_eq!(from_file, said(&["--weights-type", "q8"]));
}
