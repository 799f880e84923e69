//! Published tokenizers of clips through `ravel tokenizer`: tiny checkpoints under their published names.

use std::path::Path;

use burn::tensor::{Int, Tensor};
use ravel_families::{cosmos_dv, emu3_vq, read_config};
use ravel_media::{
    ClipPlan, ClipReader, ClipTarget, ClipWriter, FrameRate, Picture, images_from_pictures,
    pictures_from_images,
};
use ravel_testkit::{device, golden_folder, ids};
use ravel_weights::Checkpoint;
use serde_json::{Value, json};

use crate::command::{Run, check_refused, command, from, ravel};

/// A folder with a definition of a case's tokenizer and its weights.
fn tokenizer(case: &str, kind: &str, known: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let from = golden_folder().join(case);
    let text = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut sizes: Value = serde_json::from_str(&text).unwrap();
    let sizes_known = sizes.as_object_mut().unwrap();
    sizes_known.retain(|key, _| known.contains(&key.as_str()));
    let definition = json!({
        "task": "video-tokenizer", "name": case,
        "tokenizer": {"kind": kind, "weights": "model.safetensors", "config": sizes},
    });
    let definition: ravel_pipeline::Definition = serde_json::from_value(definition).unwrap();
    std::fs::write(folder.path().join("pipeline.toml"), definition.to_toml()).unwrap();
    std::fs::copy(
        from.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    (folder, text)
}

fn emu3() -> (tempfile::TempDir, String) {
    let known = json!(emu3_vq::Config::default());
    let known: Vec<&str> = known
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    tokenizer("emu3_vq", "emu3-vq", &known)
}

fn cosmos() -> (tempfile::TempDir, String) {
    let text = std::fs::read_to_string(golden_folder().join("cosmos_dv/config.json")).unwrap();
    let config: cosmos_dv::Config = read_config("cosmos_dv", &text).unwrap();
    let known = json!(config);
    let known: Vec<&str> = known
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    tokenizer("cosmos_dv", "cosmos-dv", &known)
}

/// A clip in which a bright square goes over a slope of colours.
fn clip(path: &Path, frames: usize, width: usize, height: usize) {
    let rate = FrameRate::near(8.0).unwrap();
    let plan = ClipPlan {
        width,
        height,
        rate,
        frames,
        text: String::new(),
    };
    let target = ClipTarget::of(path, false).unwrap();
    let mut writer = ClipWriter::create(&target, &plan).unwrap();
    for at in 0..frames {
        let mut picture = Picture::filled(width, height, [0; 3]);
        for (place, pixel) in picture.rgb.chunks_exact_mut(3).enumerate() {
            let (row, column) = (place / width, place % width);
            let inside = (2 * at..2 * at + 4).contains(&column) && (4..8).contains(&row);
            pixel.copy_from_slice(&match inside {
                true => [255, 240, 200],
                false => [(8 * row) as u8, (8 * column) as u8, 90],
            });
        }
        writer.push(&picture).unwrap();
    }
    writer.finish().unwrap();
}

/// The frames of a clip, `[1, time, 3, height, width]`.
fn frames(path: &Path) -> Tensor<5> {
    let pictures: Vec<Picture> = ClipReader::open(path, None)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    images_from_pictures(&pictures, &device())
        .pixels
        .unsqueeze()
}

/// As pictures have them: whole numbers of 256.
fn rounded(frames: Tensor<5>) -> Vec<Picture> {
    let pixels = frames.clamp(-1.0, 1.0).squeeze_dim(0);
    pictures_from_images(&ravel_core::Images { pixels })
}

fn weights(folder: &Path) -> Checkpoint {
    Checkpoint::open(&folder.join("model.safetensors")).unwrap()
}

fn go(folder: &Path, arguments: &[&str]) -> Run {
    let (verb, rest) = arguments.split_first().unwrap();
    let all = ["tokenizer", verb, "--pipeline", "pipeline.toml"];
    let all: Vec<&str> = all.iter().chain(rest).copied().collect();
    ravel(folder, &all)
}

#[track_caller]
fn done(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}", run.err);
    run
}

/// What `encode` writes of a clip, kept as `a.json` too.
fn encoded(folder: &Path, clip: &str) -> Value {
    let run = done(go(folder, &["encode", clip]));
    std::fs::write(folder.join("a.json"), &run.out).unwrap();
    serde_json::from_slice(&run.out).unwrap()
}

fn all_ids(codes: &Value) -> Vec<i64> {
    let books = codes["ids"].as_array().unwrap().iter();
    let ids = books.flat_map(|ids| ids.as_array().unwrap());
    ids.map(|id| id.as_i64().unwrap()).collect()
}

#[test]
fn emu3_takes_clips_to_codes_and_back() {
    let (folder, text) = emu3();
    let here = folder.path();
    let config: emu3_vq::Config = read_config("emu3_vq", &text).unwrap();
    let module = emu3_vq::build(&config, weights(here), &device()).unwrap();
    clip(&here.join("whole.png"), 8, 16, 12);
    let codes = encoded(here, "whole.png");
    let expected = module.ids(frames(&here.join("whole.png")));
    assert_eq!(all_ids(&codes), ids(&expected));
    assert_eq!(codes["frames-per-second"], "8/1");
    done(go(here, &["decode", "a.json", "-o", "b.png"]));
    let made = rounded(frames(&here.join("b.png")));
    assert_eq!(made, rounded(module.decode(expected)));

    // Five frames are two groups, of which the second holds the last frame four times; five come back.
    clip(&here.join("five.png"), 5, 16, 12);
    let run = done(go(here, &["encode", "five.png", "-o", "five.json"]));
    assert!(run.err.contains("stands for 3 more"), "{}", run.err);
    done(go(here, &["decode", "five.json", "-o", "frames"]));
    assert_eq!(std::fs::read_dir(here.join("frames")).unwrap().count(), 5);
    // A size that cells do not fill, and one frame alone.
    clip(&here.join("odd.png"), 1, 19, 11);
    let run = done(go(here, &["encode", "odd.png", "-o", "odd.json"]));
    assert!(run.err.contains("are resized to 18 x 10"), "{}", run.err);
    done(go(here, &["decode", "odd.json", "-o", "odd.gif"]));
    assert_eq!(frames(&here.join("odd.gif")).dims(), [1, 1, 3, 10, 18]);
}

#[test]
fn cosmos_takes_clips_to_codes_and_back() {
    let (folder, text) = cosmos();
    let here = folder.path();
    let config: cosmos_dv::Config = read_config("cosmos_dv", &text).unwrap();
    let module = cosmos_dv::build(&config, weights(here), &device()).unwrap();
    clip(&here.join("a.gif"), 5, 16, 16);
    let codes = encoded(here, "a.gif");
    assert_eq!(
        codes["layout"],
        json!({"kind": "frames", "frames": 3, "height": 4, "width": 4})
    );
    let latents = module.latents(frames(&here.join("a.gif")).swap_dims(1, 2));
    let found: Tensor<5, Int> = module.quantize(latents).ids;
    assert_eq!(all_ids(&codes), ids(&found));
    done(go(here, &["decode", "a.json", "-o", "b.png"]));
    let expected = module.decode(module.vectors(found)).swap_dims(1, 2);
    let made = rounded(frames(&here.join("b.png")));
    assert_eq!(made, rounded(expected));
    let run = done(go(here, &["eval", "--data", "a.gif", "--json"]));
    let report: Value = serde_json::from_slice(&run.out).unwrap();
    let one = &report["clips"][0];
    assert_eq!((&one["frames"], &one["codes"]), (&json!(5), &json!(48)));
    // 48 codes of 1,600 ids on 5 frames of 16 x 16.
    let bits = 48.0 * 1600f64.log2() / (5.0 * 256.0);
    assert!((one["bits-per-pixel"].as_f64().unwrap() - bits).abs() < 1e-9);
    assert!(one["psnr"].as_f64().unwrap().is_finite());
}

#[cfg(feature = "video")]
#[test]
fn video_files_go_in_and_come_out() {
    let (folder, _) = cosmos();
    let here = folder.path();
    clip(&here.join("a.mp4"), 9, 32, 32);
    encoded(here, "a.mp4");
    done(go(here, &["decode", "a.json", "-o", "b.mp4"]));
    assert_eq!(frames(&here.join("b.mp4")).dims(), [1, 9, 3, 32, 32]);
}

#[test]
fn the_embedded_video_model_has_a_tokenizer_too() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let tokenizer = |arguments: &[&str]| {
        let all: Vec<&str> = ["tokenizer"].iter().chain(arguments).copied().collect();
        ravel(here, &[&all[..], &["--pipeline", "sprites"]].concat())
    };
    clip(&here.join("a.png"), 4, 64, 64);
    done(tokenizer(&["encode", "a.png", "-o", "a.json"]));
    done(tokenizer(&["decode", "a.json", "-o", "b.png"]));
    assert_eq!(frames(&here.join("b.png")).dims()[1], 4);
    let spec = done(tokenizer(&["inspect"])).text();
    assert!(spec.starts_with("clips     "), "{spec}");
}

#[test]
fn codes_and_clips_that_do_not_fit() {
    let (folder, _) = cosmos();
    let here = folder.path();
    clip(&here.join("a.png"), 3, 16, 16);
    let codes = encoded(here, "a.png");
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut wrong = codes.clone();
        change(&mut wrong);
        std::fs::write(here.join("wrong.json"), wrong.to_string()).unwrap();
        let run = go(here, &["decode", "wrong.json", "-o", "never.png"]);
        check_refused(&run, expected);
        assert!(!here.join("never.png").exists());
    };
    check(&|c| c["tokenizer"] = json!("emu3_vq"), "codes of emu3_vq");
    check(&|c| c["ids"][0][0] = json!(1600), "id 1600");
    check(&|c| c["ids"][0][0] = json!(u32::MAX), "too large");
    check(&|c| c["ids"] = json!([[1, 2], [1]]), "as many as the other");
    check(&|c| c["ids"] = json!([]), "each codebook needs ids");
    check(&|c| c["frames"] = json!(4), "1 to 3 can be");
    check(&|c| c["frames"] = json!(0), "1 to 3 can be");
    check(&|c| c["frames-per-second"] = json!("fast"), "`fast`");
    check(&|c| c["layout"]["frames"] = json!(3), "ids");
    check(&|c| c["layout"]["height"] = json!(u64::MAX / 2), "ids");
    check(
        &|c| c["layout"] = json!({"kind": "grid", "height": 8, "width": 4}),
        "frames is expected",
    );
    check(&|c| c["more"] = json!(1), "no codes of a clip");
    std::fs::write(here.join("a.txt"), "no clip").unwrap();
    check_refused(&go(here, &["encode", "a.txt"]), "a.txt");
    check_refused(&go(here, &["encode", "absent.gif"]), "absent.gif");
    let pieces = go(here, &["encode", "a.png", "--pieces", "1"]);
    check_refused(&pieces, "--pieces is for sound");
    check_refused(&go(here, &["eval"]), "no clip is named");
    check_refused(
        &go(here, &["decode", "a.json", "-o", "a.png"]),
        "exists already",
    );
    let other = ravel(here, &["video", "a.png", "--pipeline", "pipeline.toml"]);
    check_refused(&other, "video-continuation is needed");
}

#[test]
fn definitions_and_weights_of_another_tokenizer_are_refused() {
    let (folder, _) = emu3();
    let here = folder.path();
    clip(&here.join("a.png"), 4, 16, 16);
    let path = here.join("pipeline.toml");
    let definition = std::fs::read_to_string(&path).unwrap();
    let check = |from: &str, to: &str, expected: &str| {
        assert!(definition.contains(from), "{definition}");
        std::fs::write(&path, definition.replace(from, to)).unwrap();
        check_refused(&go(here, &["encode", "a.png"]), expected);
    };
    check("embed_dim", "embed_dims", "embed_dims");
    check(
        "codebook_size = 64",
        "codebook_size = 65",
        "quantize.embedding.weight",
    );
    check("in_channels = 3", "in_channels = 1", "1, 3, 3 for both");
    check("kind = \"emu3-vq\"", "kind = \"emu-vq\"", "emu-vq");
    std::fs::write(&path, &definition).unwrap();
    let other = golden_folder().join("cosmos_dv/model.safetensors");
    std::fs::copy(other, here.join("model.safetensors")).unwrap();
    check_refused(&go(here, &["encode", "a.png"]), "missing");
}

#[test]
fn tokenizers_of_clips_by_name_say_what_to_pull() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let go = |arguments: &[&str]| {
        let mut command = command(here, arguments);
        from(command.env("HF_HOME", here.join("hub")).output().unwrap())
    };
    clip(&here.join("a.png"), 1, 16, 16);
    let list = go(&["pipelines", "list", "--json"]).text();
    for name in [
        "emu3-visiontokenizer",
        "cosmos-dv4x8x8",
        "cosmos-dv8x8x8",
        "cosmos-dv8x16x16",
    ] {
        let quoted = format!("\"name\":\"{name}\"");
        let line = list.lines().find(|line| line.contains(&quoted)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["task"], "video-tokenizer");
        let run = go(&["tokenizer", "encode", "a.png", "--pipeline", name]);
        check_refused(&run, "not in the cache");
        let pull = format!("`ravel models pull {name}` fetches it");
        assert!(run.err.contains(&pull), "{}", run.err);
        let spec = go(&["tokenizer", "inspect", "--pipeline", name]).text();
        assert!(spec.starts_with("clips     any size"), "{spec}");
    }
}
