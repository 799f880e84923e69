//! Published tokenizers of pictures through `ravel tokenizer`: tiny checkpoints under their published names.

use std::path::Path;

use burn::tensor::{Int, Tensor};
use ravel_families::{chameleon_vq, infinity_vae, janus_vq, read_config};
use ravel_media::{images_from_pictures, read_image};
use ravel_testkit::{device, golden_folder, ids};
use ravel_weights::Checkpoint;
use serde_json::{Value, json};

use crate::command::{Run, check_refused, ravel};

/// Keys of a case's configuration that its reader takes.
fn known<T: serde::Serialize + Default>(text: &str) -> Value {
    let given: Value = serde_json::from_str(text).unwrap();
    let mut sizes = json!(T::default());
    for (key, value) in sizes.as_object_mut().unwrap() {
        if let Some(given) = given.get(key) {
            *value = given.clone();
        }
    }
    sizes
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    sizes
}

/// A folder with a definition of a case's tokenizer, its weights and a picture.
fn tokenizer<T: serde::Serialize + Default>(case: &str, kind: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let from = golden_folder().join(case);
    let text = std::fs::read_to_string(from.join("config.json")).unwrap();
    let definition = json!({
        "task": "image-tokenizer", "name": case,
        "tokenizer": {"kind": kind, "weights": "model.safetensors", "config": known::<T>(&text)},
    });
    let definition: ravel_pipeline::Definition = serde_json::from_value(definition).unwrap();
    std::fs::write(folder.path().join("pipeline.toml"), definition.to_toml()).unwrap();
    std::fs::copy(
        from.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let made = ravel(
        folder.path(),
        &["image", "a red heart", "-o", "a.png", "--quiet"],
    );
    assert_eq!(made.code, 0, "{}", made.err);
    (folder, text)
}

fn go(folder: &Path, arguments: &[&str]) -> Run {
    let (verb, rest) = arguments.split_first().unwrap();
    let all = ["tokenizer", verb, "--pipeline", "pipeline.toml"];
    let all: Vec<&str> = all.iter().chain(rest).copied().collect();
    ravel(folder, &all)
}

/// Ids that the command writes.
fn encoded(folder: &Path) -> Vec<i64> {
    let run = go(folder, &["encode", "a.png"]);
    assert_eq!(run.code, 0, "{}", run.err);
    std::fs::write(folder.join("a.json"), &run.out).unwrap();
    let codes: Value = serde_json::from_slice(&run.out).unwrap();
    codes["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_i64().unwrap())
        .collect()
}

fn pixels(folder: &Path, height: usize, width: usize) -> Tensor<4> {
    let picture = read_image(&folder.join("a.png"))
        .unwrap()
        .resized(width, height);
    images_from_pictures(&[picture], &device()).pixels
}

fn weights(folder: &Path) -> Checkpoint {
    Checkpoint::open(&folder.join("model.safetensors")).unwrap()
}

/// `[b, d, h, w]` to `[b, h * w, d]`.
fn sequence(grid: Tensor<4>) -> Tensor<3> {
    let [batch, width, height, columns] = grid.dims();
    grid.reshape([batch, width, height * columns])
        .swap_dims(1, 2)
}

#[test]
fn janus_goes_to_codes_and_back() {
    let (folder, text) = tokenizer::<janus_vq::Config>("janus_vq", "janus-vq");
    let config: janus_vq::Config = read_config("janus_vq", &text).unwrap();
    let module = janus_vq::build(&config, weights(folder.path()), &device()).unwrap();
    let latents = module.encoder.forward(pixels(folder.path(), 32, 32));
    let expected: Tensor<2, Int> = module.quantizer.ids(sequence(latents));
    assert_eq!(encoded(folder.path()), ids(&expected));
    let run = go(folder.path(), &["decode", "a.json", "-o", "b.png"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let picture = read_image(&folder.path().join("b.png")).unwrap();
    assert_eq!((picture.width, picture.height), (32, 32));
}

#[test]
fn chameleon_goes_to_codes_and_not_back() {
    let (folder, text) = tokenizer::<chameleon_vq::Config>("chameleon_vq", "chameleon-vq");
    let config: chameleon_vq::Config = read_config("chameleon_vq", &text).unwrap();
    let reader = chameleon_vq::build(&config, weights(folder.path()), &device()).unwrap();
    let latents = reader.encoder.forward(pixels(folder.path(), 32, 32));
    let expected: Tensor<2, Int> = reader.quantizer.ids(sequence(latents));
    assert_eq!(encoded(folder.path()), ids(&expected));
    check_refused(
        &go(folder.path(), &["decode", "a.json", "-o", "b.png"]),
        "no decoder: this checkpoint was published without one",
    );
    assert!(!folder.path().join("b.png").exists());
}

#[test]
fn infinity_goes_to_bits_and_back() {
    let (folder, text) = tokenizer::<infinity_vae::Config>("infinity_vae", "infinity-vae");
    let config: infinity_vae::Config = read_config("infinity_vae", &text).unwrap();
    let module = infinity_vae::build(&config, weights(folder.path()), &device()).unwrap();
    let latents = module
        .encoder
        .forward(pixels(folder.path(), 8, 12))
        .unsqueeze_dim(2);
    let bits = module.quantizer.quantize(latents).bits.into_iter();
    let flat = bits.map(|bits| {
        let [_, _, rows, columns, depth] = bits.dims();
        bits.reshape([1, rows * columns, depth]).swap_dims(1, 2)
    });
    let expected: Tensor<3, Int> = Tensor::cat(flat.collect(), 2);
    assert_eq!(encoded(folder.path()), ids(&expected));
    let run = go(folder.path(), &["decode", "a.json", "-o", "b.png"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let picture = read_image(&folder.path().join("b.png")).unwrap();
    assert_eq!((picture.width, picture.height), (12, 8));
    let codes = std::fs::read_to_string(folder.path().join("a.json")).unwrap();
    std::fs::write(
        folder.path().join("a.json"),
        codes.replacen("\"ids\":[", "\"ids\":[1,", 1),
    )
    .unwrap();
    check_refused(
        &go(folder.path(), &["decode", "a.json", "-o", "c.png"]),
        "as many for each of 6 codebooks",
    );
}

#[test]
fn sizes_and_weights_of_another_tokenizer_are_refused() {
    let (folder, _) = tokenizer::<janus_vq::Config>("janus_vq", "janus-vq");
    let path = folder.path().join("pipeline.toml");
    let definition = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        definition.replace("num_embeddings = 64", "num_embeddings = 65"),
    )
    .unwrap();
    check_refused(
        &go(folder.path(), &["encode", "a.png"]),
        "quantize.embedding.weight",
    );
    std::fs::write(&path, definition.replace("num_patches", "num_patchs")).unwrap();
    check_refused(&go(folder.path(), &["encode", "a.png"]), "num_patchs");
    std::fs::write(
        &path,
        definition.replace("double_latent = false", "double_latent = true"),
    )
    .unwrap();
    check_refused(
        &go(folder.path(), &["encode", "a.png"]),
        "double_latent is true",
    );
    std::fs::write(&path, definition).unwrap();
    let other = golden_folder().join("chameleon_vq/model.safetensors");
    std::fs::copy(other, folder.path().join("model.safetensors")).unwrap();
    check_refused(&go(folder.path(), &["encode", "a.png"]), "missing");
    let by_name = ["tokenizer", "encode", "a.png", "--pipeline", "janus-vq"];
    let run = crate::command::command(folder.path(), &by_name)
        .env("HF_HUB_CACHE", folder.path().join("cache"))
        .output()
        .unwrap();
    let run = crate::command::from(run);
    check_refused(&run, "not in the cache");
    assert!(
        run.err.contains("`ravel models pull janus-vq` fetches it"),
        "{}",
        run.err
    );
}
