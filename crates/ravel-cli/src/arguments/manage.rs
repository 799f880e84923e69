//! Flags of the commands that look into what is there: tokenizers, definitions, checkpoints.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DecodeOptions, DeviceOptions, PipelineOptions};

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
        decode: DecodeOptions,
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

    /// How pictures are decoded.
    pub fn decode(&self) -> DecodeOptions {
        match self {
            Self::Decode { decode, .. } => *decode,
            _ => DecodeOptions::default(),
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
