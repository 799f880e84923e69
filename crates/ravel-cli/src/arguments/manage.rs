//! Flags of the commands that look into what is there: tokenizers, definitions, checkpoints, speed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DeviceOptions, PipelineOptions, WeightsOptions};

#[derive(Subcommand)]
pub enum TokenizerCommand {
    /// The codes of a picture, a sound or a clip, as JSON.
    Encode {
        /// PNG, JPEG, WebP or GIF, fitted to the tokenizer's size on white; for a codec sound, brought to its rate and channels; for a
        /// tokenizer of clips a folder of frames, GIF, APNG, WebP or a video file, brought to a size that its cells fill.
        #[arg(value_name = "PICTURE|SOUND|CLIP")]
        input: PathBuf,
        /// Where to write; standard output without it.
        #[arg(short, long, value_name = "FILE|-")]
        output: Option<PathBuf>,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
        /// Sound: work in pieces of so many seconds, as it would arrive; the codes are the same.
        #[arg(long, value_name = "SECONDS")]
        pieces: Option<f64>,
        #[command(flatten)]
        pipeline: PipelineOptions,
    },
    /// The picture, the sound or the clip of codes that `encode` wrote.
    Decode {
        /// The codes.
        codes: PathBuf,
        /// The PNG, WAV or clip to write, or `-`.
        #[arg(short, long, value_name = "FILE|-")]
        output: PathBuf,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
        /// Sound: work in pieces of so many seconds, as codes would arrive.
        #[arg(long, value_name = "SECONDS")]
        pieces: Option<f64>,
        #[command(flatten)]
        pipeline: PipelineOptions,
    },
    /// Sizes of a tokenizer, and how its codebook is used on some pictures.
    Inspect {
        /// Captioned pictures (JSON lines), for the codebook's use.
        #[arg(long, value_name = "ROWS")]
        data: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        pipeline: PipelineOptions,
    },
    /// What is lost on the way to codes and back.
    Eval {
        /// Captioned pictures (JSON lines); for a codec files of sound and folders of them; for a tokenizer of clips clips.
        #[arg(long, value_name = "ROWS|SOUND|CLIP|FOLDER", num_args = 1..)]
        data: Vec<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        pipeline: PipelineOptions,
    },
}

impl TokenizerCommand {
    /// Which tokenizer, and where it runs.
    pub fn pipeline(&self) -> &PipelineOptions {
        match self {
            Self::Encode { pipeline, .. }
            | Self::Decode { pipeline, .. }
            | Self::Inspect { pipeline, .. }
            | Self::Eval { pipeline, .. } => pipeline,
        }
    }

    /// Seconds of a piece of sound, if it comes in pieces.
    pub fn pieces(&self) -> Option<f64> {
        match self {
            Self::Encode { pieces, .. } | Self::Decode { pieces, .. } => *pieces,
            _ => None,
        }
    }
}

#[derive(Subcommand)]
pub enum PipelinesCommand {
    /// The pipelines in this program.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// A definition as it is.
    Show {
        /// A name or a file.
        pipeline: String,
    },
    /// Whether a definition and its files can be used.
    Check {
        /// A name or a file.
        pipeline: String,
        #[command(flatten)]
        device: DeviceOptions,
    },
    /// The classes that a model of classes knows: number, WordNet id and names.
    Classes {
        /// A name or a file.
        pipeline: String,
    },
    /// The JSON schema of definitions.
    Schema,
}

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// The models that are known by name, and whatever else is in the cache.
    List {
        /// Only those that are in the cache.
        #[arg(long)]
        cached: bool,
        /// Print JSON, an object per model.
        #[arg(long)]
        json: bool,
    },
    /// What a model needs, its licence, and what of it is in the cache.
    Show {
        /// A name, or `owner/repository`.
        #[arg(value_name = "NAME|REPOSITORY")]
        model: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch models into the cache that other tools of the hub use too.
    #[command(after_help = "Examples:
  ravel models pull var-d16
  ravel models pull openai-community/gpt2:model.safetensors

HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN mean what they mean to the hub.")]
    Pull {
        /// Names, `owner/repository`, or `owner/repository[@revision][:file]`.
        #[arg(value_name = "NAME|REPOSITORY", required = true)]
        models: Vec<String>,
        /// Use the cache only.
        #[arg(long)]
        offline: bool,
        /// Print a JSON object per file.
        #[arg(long)]
        json: bool,
        /// Print nothing but errors.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Compare files in the cache with their sums; all of them if none is named.
    Verify {
        /// Names or `owner/repository`.
        #[arg(value_name = "NAME|REPOSITORY")]
        models: Vec<String>,
        /// Print a JSON object per file.
        #[arg(long)]
        json: bool,
    },
    /// Remove models from the cache: the files that a name needs, a repository, or one file.
    Rm {
        /// Names, `owner/repository` or `owner/repository:file`.
        #[arg(value_name = "NAME|REPOSITORY", required = true)]
        models: Vec<String>,
        /// Print a JSON object per removal.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub enum BenchCommand {
    /// A whole picture: the class's first unit, all others, and from codes to pixels.
    Image(BenchImageOptions),
    /// A position of a sequence: how long it takes, and how near that is to what the machine can do.
    Decode(BenchDecodeOptions),
    /// From codes to pixels: the decoder of a tokenizer, again and again.
    Tokenizer(BenchTokenizerOptions),
}

#[derive(Args)]
pub struct BenchTokenizerOptions {
    /// Whose sizes.
    #[arg(long, value_enum)]
    pub preset: TokenizerPreset,
    /// What products are computed in.
    #[arg(long = "type", value_enum, default_value = "f32")]
    pub kind: DecodeKind,
    /// Pictures that are timed after a first one.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub rounds: usize,
    /// The source of all randomness, weights included.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads to compute on; all cores without it.
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub threads: Option<usize>,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceOptions,
}

/// Tokenizers to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenizerPreset {
    /// LlamaGen's tokenizer with 16 pixels a side to a code, 256x256.
    LlamagenVq16,
    /// VAR's tokenizer, 256x256.
    VarVqvae,
    /// Toy sizes, to try it out.
    Tiny,
}

/// What a decoder's products are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DecodeKind {
    /// 32 bits.
    F32,
    /// 16 bits with the range of 32, where the processor multiplies them faster; sums are of 32 bits.
    Bf16,
}

#[derive(Args)]
pub struct BenchImageOptions {
    /// Whose sizes.
    #[arg(long, value_enum)]
    pub preset: Preset,
    /// The source of all randomness, weights included.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads to compute on; all cores without it.
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub threads: Option<usize>,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceOptions,
    #[command(flatten)]
    pub weights: WeightsOptions,
}

#[derive(Args)]
pub struct BenchDecodeOptions {
    /// Whose sizes.
    #[arg(long, value_enum)]
    pub preset: DecodePreset,
    /// Positions that are counted, in each of four rounds.
    #[arg(long, default_value_t = 64, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    pub tokens: usize,
    /// Positions in front of the first one that is counted.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub at: usize,
    /// Rows that are continued together.
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub batch: usize,
    /// The source of all randomness, weights included.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads to compute on; all cores without it.
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub threads: Option<usize>,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceOptions,
    #[command(flatten)]
    pub weights: WeightsOptions,
}

/// Sizes to measure a sequence at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DecodePreset {
    /// LlamaGen-B's transformer: 12 layers of 768, 16,384 codes, rotary positions on two axes.
    LlamagenB,
    /// LLaMA at 111 million parameters: 12 layers of 768, 16,384 ids.
    #[value(name = "llama-111m")]
    Llama111m,
    /// Toy sizes, to try it out.
    Tiny,
}

impl DecodePreset {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::LlamagenB => "llamagen-b",
            Self::Llama111m => "llama-111m",
            Self::Tiny => "tiny",
        }
    }
}

#[derive(Args)]
pub struct QuantizeOptions {
    /// The checkpoint: safetensors, the index of several, or a file of `torch.save`.
    pub input: PathBuf,
    /// The safetensors file to write.
    pub output: PathBuf,
    /// What weights become.
    #[arg(long = "type", value_enum)]
    pub to: NarrowType,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A type for weights in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NarrowType {
    /// Half precision: all tensors of two axes or more.
    F16,
    /// bfloat16: all tensors of two axes or more.
    Bf16,
    /// Eight bits and a scale per 32: the weights of linear layers.
    Q8,
    /// Four bits and a scale per 32: the weights of linear layers.
    Q4,
}

/// Sizes to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// LlamaGen-B: 256x256 in 256 codes, scale 4.
    LlamagenB,
    /// VAR-d16: 256x256 in ten scales, 680 codes.
    VarD16,
    /// Toy sizes, to try it out.
    Tiny,
}
