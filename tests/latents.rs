//! MAR from outside: a tiny model under the published names that fills in latents and a decoder that makes pictures of them.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use ravel_media::read_image;
use ravel_weights::{Checkpoint, Dtype, save};

use crate::command::{check_refused, ravel};
use crate::published::{CLASSES, check_classes, edited, golden, image, made};

const MAR: &str = include_str!("published/mar.toml");
/// Channels of a latent, and of the decoder's finest grid.
const LATENT: usize = 4;
const CHANNELS: usize = 32;

/// Weights under the names of the published autoencoder.
#[derive(Default)]
struct Autoencoder(Vec<(String, TensorData)>);

impl Autoencoder {
    fn conv(&mut self, name: &str, to: usize, from: usize, kernel: usize) {
        let seed = self.0.len();
        let fan = (from * kernel * kernel) as f32;
        let wave = |at: usize| ((at * 11 + seed * 29) as f32).sin();
        let values = (0..to * from * kernel * kernel).map(|at| wave(at) * (3.0 / fan).sqrt());
        let weight = TensorData::new::<f32, _>(values.collect(), [to, from, kernel, kernel]);
        let bias = (0..to).map(|at| wave(at) * 0.1).collect();
        self.0.push((format!("{name}.weight"), weight));
        let bias = TensorData::new::<f32, _>(bias, [to]);
        self.0.push((format!("{name}.bias"), bias));
    }

    fn norm(&mut self, name: &str, width: usize) {
        let ones = TensorData::new::<f32, _>(vec![1.0; width], [width]);
        self.0.push((format!("{name}.weight"), ones));
        let zeros = TensorData::new::<f32, _>(vec![0.0; width], [width]);
        self.0.push((format!("{name}.bias"), zeros));
    }

    fn block(&mut self, name: &str, from: usize, to: usize) {
        self.norm(&format!("{name}.norm1"), from);
        self.conv(&format!("{name}.conv1"), to, from, 3);
        self.norm(&format!("{name}.norm2"), to);
        self.conv(&format!("{name}.conv2"), to, to, 3);
        if from != to {
            self.conv(&format!("{name}.nin_shortcut"), to, from, 1);
        }
    }

    /// Five levels of one residual block, the coarsest twice as wide. Of the encoder there is what shows that it is not needed.
    fn published() -> Self {
        let mut all = Self::default();
        all.conv("encoder.conv_in", CHANNELS, 3, 3);
        all.conv("quant_conv", 2 * LATENT, 2 * LATENT, 1);
        all.conv("post_quant_conv", LATENT, LATENT, 1);
        let deepest = 2 * CHANNELS;
        all.conv("decoder.conv_in", deepest, LATENT, 3);
        all.block("decoder.mid.block_1", deepest, deepest);
        all.norm("decoder.mid.attn_1.norm", deepest);
        for part in ["q", "k", "v", "proj_out"] {
            all.conv(&format!("decoder.mid.attn_1.{part}"), deepest, deepest, 1);
        }
        all.block("decoder.mid.block_2", deepest, deepest);
        let mut from = deepest;
        for level in (0..5).rev() {
            let to = if level == 4 { deepest } else { CHANNELS };
            for block in 0..2 {
                all.block(&format!("decoder.up.{level}.block.{block}"), from, to);
                from = to;
            }
            if level > 0 {
                all.conv(&format!("decoder.up.{level}.upsample.conv"), to, to, 3);
            }
        }
        all.norm("decoder.norm_out", CHANNELS);
        all.conv("decoder.conv_out", 3, CHANNELS, 3);
        all
    }
}

fn write(path: &Path, tensors: Vec<(String, TensorData)>) {
    save(path, tensors, &BTreeMap::new(), Dtype::Keep).unwrap();
}

fn mar() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |file: &str| folder.path().join(file);
    std::fs::copy(golden("mar/model.safetensors"), at("mar.safetensors")).unwrap();
    write(&at("kl.safetensors"), Autoencoder::published().0);
    std::fs::write(at("classes.tsv"), CLASSES).unwrap();
    std::fs::write(at("pipeline.toml"), MAR).unwrap();
    folder
}

#[test]
fn a_tiny_mar_as_published_makes_pictures() {
    let folder = mar();
    let folder = folder.path();
    check_classes(folder, 64);
    let told = |strength: &str| {
        let output = format!("guided{strength}.png");
        let rest = ["-o", &output, "--pipeline", "pipeline.toml", "--seed", "3"];
        let run = ravel(
            folder,
            &[&["image", "6", "--guidance", strength], &rest[..]].concat(),
        );
        assert_eq!(run.code, 0, "{}", run.err);
        read_image(&folder.join(output)).unwrap()
    };
    let (free, guided) = (told("0"), told("4"));
    assert_ne!(free, guided, "guidance must show");
    let rising = made(folder, &["6"], "ramp.png", "ramp.png");
    assert!(rising != guided && rising != free);
}

#[test]
fn what_mar_does_not_do_or_cannot_be_built_from_is_refused() {
    let folder = mar();
    let folder = folder.path();
    let go = || image(folder, &["6"], "out.png");
    check_refused(&image(folder, &["10"], "out.png"), "there is no class 10");
    let options = |options: &[&str]| {
        let rest = ["-o", "out.png", "--pipeline", "pipeline.toml"];
        ravel(folder, &[&["image", "6"], options, &rest[..]].concat())
    };
    check_refused(
        &options(&["--top-k", "5"]),
        "temperature and guidance alone",
    );
    let change = |from: &str, to: &str, expected: &str| {
        let whole = std::fs::read(folder.join("pipeline.toml")).unwrap();
        edited(folder, from, to);
        check_refused(&go(), expected);
        std::fs::write(folder.join("pipeline.toml"), whole).unwrap();
    };
    change("img_size = 64", "cfg = 2.5\nimg_size = 64", "model.cfg");
    change("img_size = 64", "img_size = 72", "size");
    change("class_num = 10", "class_num = 11", "10 classes");
    change("vae_embed_dim = 4", "vae_embed_dim = 5", "vae_embed_dim");
    change(
        "kind = \"kl-vae\"",
        "kind = \"kl-vea\"",
        "did you mean `kl-vae`?",
    );
    change("\"kl.safetensors\"", "\"mar.safetensors\"", "missing: ");
    change("\"mar.safetensors\"", "\"classes.tsv\"", "classes.tsv");
    change(
        "\"mar.safetensors\"",
        "\"gone.safetensors\"",
        "gone.safetensors",
    );
    let file = Checkpoint::open(&folder.join("kl.safetensors")).unwrap();
    let kept = file.names().filter(|name| *name != "decoder.norm_out.bias");
    let kept = kept.map(|name| (name.to_string(), file.real(name).unwrap()));
    let kept = kept.collect();
    write(&folder.join("kl.safetensors"), kept);
    check_refused(&go(), "`decoder.norm_out.bias`");
    assert!(!folder.join("out.png").exists());
}
