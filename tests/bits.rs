//! Infinity from outside: a tiny transformer under the published names with a tiny tokenizer and a tiny text encoder.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use ravel_media::read_image;
use ravel_weights::{Dtype, save};

use crate::command::{check_refused, ravel};
use crate::published::{edited, golden, image, made, unigrams};

const INFINITY: &str = include_str!("published/infinity.toml");
const WIDTH: usize = 64;
const HEADS: usize = 4;
const TEXT: usize = 48;

/// Weights under the names of the published transformer.
#[derive(Default)]
struct Published(Vec<(String, TensorData)>);

impl Published {
    fn tensor(&mut self, name: &str, shape: &[usize], strength: f32) {
        let seed = self.0.len();
        let count: usize = shape.iter().product();
        // Without a pattern: waves alone would be matrices of rank 2, behind which no text shows.
        let number = |at: usize| ((at * 7 + seed * 31) as f64).sin() * 43_758.547;
        let number = |at| (2.0 * number(at).rem_euclid(1.0) - 1.0) as f32 * strength;
        let data = TensorData::new::<f32, _>((0..count).map(number).collect(), shape.to_vec());
        self.0.push((name.into(), data));
    }

    /// The weight alone.
    fn weight(&mut self, name: &str, to: usize, from: usize) {
        let strength = (2.0 / from as f32).sqrt();
        self.tensor(&format!("{name}.weight"), &[to, from], strength);
    }

    fn linear(&mut self, name: &str, to: usize, from: usize) {
        self.weight(name, to, from);
        self.tensor(&format!("{name}.bias"), &[to], 0.1);
    }

    /// Keys and values of something beside: the keys' bias is a buffer of zeros.
    fn beside(&mut self, name: &str, from: usize) {
        self.weight(&format!("{name}.mat_kv"), 2 * WIDTH, from);
        self.tensor(&format!("{name}.v_bias"), &[WIDTH], 0.1);
        self.tensor(&format!("{name}.zero_k_bias"), &[WIDTH], 0.0);
        self.linear(&format!("{name}.proj"), WIDTH, WIDTH);
    }

    fn block(&mut self, name: &str) {
        let at = |part: &str| format!("{name}.{part}");
        self.tensor(&at("ada_gss"), &[1, 1, 6, WIDTH], 0.5);
        self.weight(&at("sa.mat_qkv"), 3 * WIDTH, WIDTH);
        self.tensor(&at("sa.q_bias"), &[WIDTH], 0.1);
        self.tensor(&at("sa.v_bias"), &[WIDTH], 0.1);
        self.tensor(&at("sa.zero_k_bias"), &[WIDTH], 0.0);
        self.tensor(&at("sa.scale_mul_1H11"), &[1, HEADS, 1, 1], 1.4);
        self.linear(&at("sa.proj"), WIDTH, WIDTH);
        self.tensor(&at("ca_norm.weight"), &[WIDTH], 1.0);
        self.tensor(&at("ca_norm.bias"), &[WIDTH], 0.1);
        self.linear(&at("ca.mat_q"), WIDTH, WIDTH);
        self.beside(&at("ca"), WIDTH);
        self.linear(&at("ffn.fc1"), 4 * WIDTH, WIDTH);
        self.linear(&at("ffn.fc2"), WIDTH, 4 * WIDTH);
    }

    /// The whole transformer for so many bits of a position; `chunks` chunks of blocks.
    fn transformer(bits: usize, chunks: usize) -> Self {
        let mut all = Self::default();
        all.tensor("text_norm.weight", &[TEXT], 1.0);
        all.tensor("text_proj_for_sos.ca.mat_q", &[1, 1, WIDTH], 0.3);
        all.beside("text_proj_for_sos.ca", TEXT);
        all.linear("text_proj_for_ca.0", WIDTH, TEXT);
        all.linear("text_proj_for_ca.2", WIDTH, WIDTH);
        all.tensor("cfg_uncond", &[16, TEXT], 0.5);
        all.tensor("pos_start", &[1, 1, WIDTH], 0.5);
        all.tensor("lvl_embed.weight", &[15, WIDTH], 0.5);
        all.linear("word_embed", WIDTH, bits);
        all.linear("shared_ada_lin.1", 6 * WIDTH, WIDTH);
        all.linear("head_nm.ada_lin.1", 2 * WIDTH, WIDTH);
        // Small, so that chance has a say.
        all.tensor("head.weight", &[2 * bits, WIDTH], 0.1);
        all.tensor("head.bias", &[2 * bits], 0.1);
        for block in 0..4 {
            let each = 4 / chunks;
            all.block(&match chunks {
                1 => format!("blocks.{block}"),
                _ => format!("block_chunks.{}.module.{}", block / each, block % each),
            });
        }
        all
    }
}

fn infinity(bits: usize, chunks: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |file: &str| folder.path().join(file);
    for (from, to) in [
        ("infinity_vae/model.safetensors", "vae.safetensors"),
        ("t5_encoder/model.safetensors", "t5.safetensors"),
        ("t5_encoder/config.json", "config.json"),
    ] {
        std::fs::copy(golden(from), at(to)).unwrap();
    }
    let weights = Published::transformer(bits, chunks).0;
    let path = at("infinity.safetensors");
    save(&path, weights, &BTreeMap::new(), Dtype::Keep).unwrap();
    let words = unigrams(&["<pad>", "</s>", "<unk>"]);
    std::fs::write(at("tokenizer.json"), words).unwrap();
    std::fs::write(at("pipeline.toml"), INFINITY).unwrap();
    folder
}

#[test]
fn a_tiny_infinity_as_published_makes_pictures() {
    let folder = infinity(6, 2);
    let folder = folder.path();
    let one = made(folder, &["a red boat"], "one.png", "one.png");
    assert_eq!((one.width, one.height), (12, 8));
    let colours: std::collections::BTreeSet<_> = one.rgb.chunks(3).collect();
    assert!(colours.len() > 10, "{} colours", colours.len());
    let prompts = [" a red boat ", "two boats", "boat"];
    let first = made(folder, &prompts, "all", "all/a-red-boat.png");
    assert_eq!(first, one, "descriptions beside it do not matter");
    assert_ne!(read_image(&folder.join("all/boat.png")).unwrap(), one);
    let other = made(folder, &["boat"], "other.png", "other.png");
    assert_ne!(other, one, "descriptions must show");
    let run = ravel(folder, &["replay", "all/two-boats.png"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.text().contains("the same bytes again"));
    let run = ravel(folder, &["pipelines", "check", "pipeline.toml"]);
    assert!(run.text().contains("is whole"), "{}", run.err);
    let rest = [
        "-o",
        "free.png",
        "--pipeline",
        "pipeline.toml",
        "--seed",
        "3",
    ];
    let unguided = [&["image", "a red boat", "--guidance", "0"], &rest[..]].concat();
    let run = ravel(folder, &unguided);
    assert_eq!(run.code, 0, "{}", run.err);
    let free = read_image(&folder.join("free.png")).unwrap();
    assert_ne!(free, one, "guidance must show");
}

/// As the 8B has them: four cells make a position, with the bits of all four.
#[test]
fn positions_of_four_cells_make_pictures_too() {
    let folder = infinity(24, 1);
    let folder = folder.path();
    let schedule = "scale_schedule = [[1, 1, 1], [1, 2, 3], [1, 3, 4], [1, 4, 6]]";
    let patched =
        "scale_schedule = [[1, 1, 1], [1, 2, 2], [1, 2, 3]]\napply_spatial_patchify = true";
    edited(folder, schedule, patched);
    edited(
        folder,
        "block_chunks = 2",
        "block_chunks = 1\nrope_grid = [4, 6]",
    );
    let one = made(folder, &["boat"], "one.png", "one.png");
    assert_eq!((one.width, one.height), (12, 8));
    assert_eq!(made(folder, &["boat", "red"], "all", "all/boat.png"), one);
}

#[test]
fn what_infinity_cannot_be_built_from_is_refused() {
    let folder = infinity(6, 2);
    let folder = folder.path();
    let go = || image(folder, &["boat"], "out.png");
    check_refused(&image(folder, &[" "], "out.png"), "empty");
    let long = "red ".repeat(30);
    check_refused(
        &image(folder, &[&long], "out.png"),
        "this model reads 15 at most",
    );
    let change = |from: &str, to: &str, expected: &str| {
        let whole = std::fs::read(folder.join("pipeline.toml")).unwrap();
        edited(folder, from, to);
        check_refused(&go(), expected);
        std::fs::write(folder.join("pipeline.toml"), whole).unwrap();
    };
    change("length = 16", "length = 17", "text.length");
    change(
        "text_channels = 48",
        "text_channels = 96",
        "model.text_channels",
    );
    change("block_chunks = 2", "block_chunks = 3", "block_chunks");
    change("block_chunks = 2", "block_chunks = 4", "both become");
    change("codebook_dim = 6", "codebook_dim = 5", "`head.weight`");
    change("num_heads = 4", "num_heads = 5", "heads");
    change(
        "\"infinity.safetensors\"",
        "\"vae.safetensors\"",
        "missing: ",
    );
    change(
        "\"vae.safetensors\"",
        "\"infinity.safetensors\"",
        "missing: ",
    );
    change("\"t5.safetensors\"", "\"vae.safetensors\"", "missing: ");
    change("\"tokenizer.json\"", "\"gone.json\"", "gone.json");
    change(
        "kind = \"caption\"",
        "kind = \"captions\"",
        "did you mean `caption`?",
    );
    assert!(!folder.join("out.png").exists());
}
