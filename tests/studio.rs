//! Tiny checkpoints of published models that speak or make music, under the published names, in folders of their own.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use ravel_families::{dac, encodec, firefly, mimi, read_config};
use ravel_pipeline::{Definition, SoundModelPart, TokenizerPart};
use ravel_weights::{Checkpoint, Dtype, save};
use serde_json::{Value, json};

use crate::command::{Run, ravel};
use crate::published::{golden, unigrams};

type Tensors = Vec<(String, TensorData)>;

fn config(case: &str) -> Value {
    let text = std::fs::read_to_string(golden(case).join("config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The tensors of a golden model, with `prefix` in front of their names.
fn published(case: &str, prefix: &str) -> Tensors {
    let file = Checkpoint::open(&golden(case).join("model.safetensors")).unwrap();
    let names: Vec<String> = file.names().map(String::from).collect();
    let tensor = |name: String| {
        let data = file.real(&name).unwrap();
        (format!("{prefix}{name}"), data)
    };
    names.into_iter().map(tensor).collect()
}

/// Another number of rows: more are the first ones again, a little stronger each time.
fn with_rows(tensors: &mut Tensors, name: &str, rows: usize) {
    let (_, data) = tensors.iter_mut().find(|(known, _)| known == name).unwrap();
    let mut shape = data.shape().to_vec();
    let width: usize = shape[1..].iter().product();
    let values: Vec<f32> = data.iter::<f32>().collect();
    let all = (0..rows * width).map(|at| {
        let round = at / values.len();
        values[at % values.len()] * (1.0 + 0.03 * (round % 31) as f32)
    });
    shape[0] = rows;
    *data = TensorData::new::<f32, _>(all.collect(), shape);
}

fn random(shape: [usize; 2], seed: usize) -> TensorData {
    let values = (0..shape[0] * shape[1]).map(|at| ((at * 7 + seed * 13) as f32).sin() * 0.3);
    TensorData::new::<f32, _>(values.collect(), shape)
}

fn write(folder: &Path, file: &str, tensors: Tensors) {
    let path = folder.join(file);
    save(&path, tensors, &BTreeMap::new(), Dtype::Keep).unwrap();
}

/// A folder with all files of a tiny model.
pub struct Studio {
    folder: tempfile::TempDir,
}

impl Studio {
    fn new(
        kind: &str,
        config: &Value,
        weights: Tensors,
        codec: (TokenizerPart, Option<Tensors>),
        sampler: &str,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::write(at.join("config.json"), config.to_string()).unwrap();
        write(at, "model.safetensors", weights);
        let (part, own) = codec;
        if let Some(tensors) = own {
            write(at, part.weights(), tensors);
        }
        let task = if kind == "musicgen" {
            "text-to-music"
        } else {
            "text-to-speech"
        };
        let text = format!(
            "task = \"{task}\"\nname = \"tiny-{kind}\"\nweights = \"model.safetensors\"\n[sampler]\n{sampler}"
        );
        let mut definition = Definition::parse("definition", &text).unwrap();
        let (config, vocabulary) = ("config.json".to_string(), "tokenizer.json".to_string());
        definition.sound_model = Some(match kind {
            "fish-speech" => SoundModelPart::FishSpeech {
                config,
                vocabulary: "tokenizer.tiktoken".into(),
            },
            "csm" => SoundModelPart::Csm { config, vocabulary },
            "dia" => SoundModelPart::Dia { config },
            _ => SoundModelPart::Musicgen { config, vocabulary },
        });
        definition.tokenizer = Some(part);
        std::fs::write(at.join("pipeline.toml"), definition.to_toml()).unwrap();
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn bytes(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path().join(file)).unwrap()
    }

    pub fn run(&self, verb: &str, arguments: &[&str]) -> Run {
        let all = [verb, "--pipeline", "pipeline.toml"];
        ravel(self.path(), &[&all[..], arguments].concat())
    }

    /// Replaces a part of the definition.
    pub fn edit(&self, from: &str, to: &str) {
        let path = self.path().join("pipeline.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in: {text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

/// All bytes, and a token of two.
pub fn ranks() -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: usize| char::from(letters[bits & 63]);
    let one = |byte: usize| format!("{}{}==", letter(byte >> 2), letter(byte << 4));
    let lines = (0..256).map(|byte| format!("{} {byte}\n", one(byte)));
    lines.chain(["dGg= 256\n".into()]).collect()
}

pub fn fish() -> Studio {
    let mut config = config("fish_dual_ar");
    let (tokens, codes) = (257 + 12 + 1024, 1024);
    for (key, value) in [
        ("vocab_size", json!(tokens)),
        ("codebook_size", json!(codes)),
        ("max_seq_len", json!(4096)),
    ] {
        config[key] = value;
    }
    let mut weights = published("fish_dual_ar", "");
    with_rows(&mut weights, "embeddings.weight", tokens);
    with_rows(&mut weights, "codebook_embeddings.weight", 4 * codes);
    with_rows(&mut weights, "fast_embeddings.weight", codes);
    with_rows(&mut weights, "fast_output.weight", codes);
    let text = self::config("fish_firefly").to_string();
    let codec = read_config::<firefly::Config>("firefly", &text).unwrap();
    let part = TokenizerPart::Firefly {
        weights: "firefly.safetensors".into(),
        config: codec.tokenizer().unwrap(),
    };
    let codec = (part, Some(published("fish_firefly", "")));
    let sampler =
        "temperature = 0.7\ntop-p-within = 0.7\nrepetition-penalty = 1.2\nrepetition-window = 16";
    let studio = Studio::new("fish-speech", &config, weights, codec, sampler);
    std::fs::write(studio.path().join("tokenizer.tiktoken"), ranks()).unwrap();
    studio
}

/// CSM as the hub has it: two files and an index, the codec in one of them.
pub fn csm() -> Studio {
    let mut config = config("csm");
    config["text_vocab_size"] = json!(80);
    config["max_position_embeddings"] = json!(400);
    let mut weights = published("csm", "");
    with_rows(&mut weights, "embed_text_tokens.weight", 80);
    let mut codec: mimi::Config = read_config("mimi", &self::config("mimi").to_string()).unwrap();
    codec.num_quantizers = 4;
    let part = TokenizerPart::Mimi {
        weights: "transformers.safetensors.index.json".into(),
        config: codec.tokenizer().unwrap(),
    };
    let mut sound = published("mimi", "codec_model.");
    let beyond = [
        "acoustic_residual_vector_quantizer.layers.3",
        "acoustic_residual_vector_quantizer.layers.4",
    ];
    sound.retain(|(name, _)| !beyond.iter().any(|beyond| name.contains(beyond)));
    let names = |tensors: &Tensors| {
        tensors
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    let (first, second) = (names(&weights), names(&sound));
    let sampler = "temperature = 0.9\ntop-k = 10";
    let studio = Studio::new("csm", &config, weights, (part, None), sampler);
    let shards = [
        "transformers-00001-of-00002.safetensors",
        "transformers-00002-of-00002.safetensors",
    ];
    std::fs::rename(
        studio.path().join("model.safetensors"),
        studio.path().join(shards[0]),
    )
    .unwrap();
    write(studio.path(), shards[1], sound);
    let first = first.into_iter().map(|name| (name, json!(shards[0])));
    let second = second.into_iter().map(|name| (name, json!(shards[1])));
    let map: serde_json::Map<String, Value> = first.chain(second).collect();
    let index = json!({"metadata": {}, "weight_map": map});
    let file = "transformers.safetensors.index.json";
    std::fs::write(studio.path().join(file), index.to_string()).unwrap();
    studio.edit(
        "weights = \"model.safetensors\"",
        &format!("weights = \"{file}\""),
    );
    let words = unigrams(&["<|begin_of_text|>", "<|end_of_text|>", "<unk>"]);
    std::fs::write(studio.path().join("tokenizer.json"), words).unwrap();
    studio
}

pub fn dia() -> Studio {
    let mut config = config("dia");
    config["encoder_config"]["vocab_size"] = json!(256);
    let mut weights = published("dia", "");
    with_rows(&mut weights, "model.encoder.embedding.weight", 256);
    let mut codec: dac::Config = read_config("dac", &self::config("dac").to_string()).unwrap();
    (codec.n_codebooks, codec.codebook_size) = (3, 32);
    let part = TokenizerPart::Dac {
        weights: "dac.safetensors".into(),
        config: codec.tokenizer().unwrap(),
    };
    let mut sound = published("dac", "");
    sound.retain(|(name, _)| !name.contains("quantizers.3."));
    for at in 0..3 {
        let name = format!("quantizer.quantizers.{at}.codebook.weight");
        with_rows(&mut sound, &name, 32);
    }
    let sampler = "temperature = 1.2\ntop-p = 0.95\nguidance = 3.0\nguidance-top-k = 20";
    Studio::new("dia", &config, weights, (part, Some(sound)), sampler)
}

/// MusicGen as the hub has it: text model, decoder and codec in one file.
pub fn musicgen(melody: bool) -> Studio {
    let mut decoder = config("musicgen_delay");
    let text = config("t5_encoder");
    let mut weights = published("musicgen_delay", "decoder.");
    weights.extend(published("t5_encoder", "text_encoder."));
    weights.push(("enc_to_dec_proj.weight".into(), random([32, 48], 1)));
    let bias = (0..32).map(|at| (at as f32).cos() * 0.1).collect();
    let bias = TensorData::new::<f32, _>(bias, [32]);
    weights.push(("enc_to_dec_proj.bias".into(), bias.clone()));
    let mut codec: encodec::Config =
        read_config("encodec", &config("encodec").to_string()).unwrap();
    codec.target_bandwidths = vec![1.2];
    let part = TokenizerPart::Encodec {
        weights: "model.safetensors".into(),
        config: codec.tokenizer().unwrap(),
    };
    let mut sound = published("encodec", "audio_encoder.");
    sound.retain(|(name, _)| !(4..8).any(|at| name.contains(&format!("quantizer.layers.{at}."))));
    weights.extend(sound);
    let mut whole = json!({"text_encoder": text, "model_type": "musicgen"});
    if melody {
        weights.retain(|(name, _)| !name.contains("encoder_attn"));
        weights.push(("audio_enc_to_dec_proj.weight".into(), random([32, 12], 2)));
        weights.push(("audio_enc_to_dec_proj.bias".into(), bias));
        decoder["model_type"] = json!("musicgen_melody_decoder");
        whole["num_chroma"] = json!(12);
        whole["chroma_length"] = json!(9);
    }
    whole["decoder"] = decoder;
    let sampler = "top-k = 20\nguidance = 2.0";
    let studio = Studio::new("musicgen", &whole, weights, (part, None), sampler);
    let words = unigrams(&["<pad>", "</s>", "<unk>"]);
    std::fs::write(studio.path().join("tokenizer.json"), words).unwrap();
    studio
}
