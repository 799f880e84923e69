//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::Device;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use ravel_decode::method::AHEAD;
use ravel_media::FrameRate;

use crate::failure::Failure;

const EXAMPLES: &str = "Examples:
  ravel image \"a red heart\" -o heart.png         a picture from words
  ravel text \"Once upon a time\"                 text that goes on
  ravel video bounce.gif -o next.gif              the frames that come next";

/// Multimodal autoregressive generation: pictures, clips and text as tokens, one shared transformer.
#[derive(Parser)]
#[command(name = "ravel", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make pictures from words.
    #[command(after_help = "Examples:
  ravel image \"a red heart\" -o heart.png
  ravel image \"smiling cat face\" -n 4 --grid --seed 7
  ravel image --prompts prompts.txt -o pictures/
  ravel image \"flag: Japan\" --pipeline emoji-var --preview scales/
  ravel models pull var-d16 && ravel image \"golden retriever\" --pipeline var-d16")]
    Image(ImageOptions),
    /// Continue a clip: frames in, the frames that come next out.
    #[command(after_help = "Examples:
  ravel video bounce.mp4 -o next.mp4 --frames 24
  ravel video frames/ -o next.gif --fps 12 --context 5
  ravel video bounce.gif -o out/ --with-context --report=drift.jsonl
  ravel video bounce.mp4 -o - | ffplay -")]
    Video(VideoOptions),
    /// Speak a text.
    #[command(after_help = "Examples:
  ravel speak \"Good morning.\" -o morning.wav
  ravel speak --text-file chapter.txt -o chapter.wav --voice bob --speed slow
  ravel speak \"Good morning.\" --stream -o - | aplay

The built-in voices are synthetic and belong to nobody.")]
    Speak(SpeakOptions),
    /// Make a picture, a clip or a recording again from what its file says.
    Replay(ReplayOptions),
    /// Continue a text, or answer what is asked.
    #[command(after_help = "Examples:
  ravel text \"Once upon a time\"
  ravel text --file chapter.txt --max-tokens 400 --seed 7
  ravel text \"Why is the sky blue?\" --chat --pipeline models/Qwen3-0.6B --stop \"Question:\"
  ravel text \"It is a truth\" --logprobs 5
  ravel text \"It is a truth\" --beams 4
  ravel text \"It is a truth\" --contrastive 5,0.6
  ravel text \"Hello\" --pipeline models/Qwen3-4B --draft models/Qwen3-0.6B")]
    Text(TextOptions),
    /// Look into a tokenizer: pictures or sound to codes and back.
    #[command(
        subcommand,
        after_help = "Examples:
  ravel tokenizer encode cat.png -o cat.json
  ravel models pull mimi && ravel tokenizer encode a.wav -o a.json --pipeline mimi
  ravel tokenizer decode a.json -o b.wav --pipeline mimi --pieces 0.5
  ravel tokenizer eval --data sounds/ --pipeline mimi"
    )]
    Tokenizer(TokenizerCommand),
    /// Train a tokenizer or a generator from a recipe.
    #[command(after_help = "Examples:
  make data && ravel train assets/recipes/emoji-ar-tokenizer.toml
  ravel train assets/recipes/emoji-ar.toml --resume")]
    Train(TrainOptions),
    /// Measure a pipeline: on captioned pictures, or how well it foretells a text.
    Eval(EvalOptions),
    /// List, show and check pipeline definitions.
    #[command(subcommand)]
    Pipelines(PipelinesCommand),
    /// Published checkpoints: list, pull, verify and remove them.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Measure how long a published model's sizes take on this machine, from random weights.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Say what this machine and this build can do.
    Doctor(DoctorOptions),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

/// Which pipeline, and where it runs.
#[derive(Args)]
pub struct PipelineOptions {
    /// A pipeline's name (`ravel pipelines list`) or its definition file.
    #[arg(long, default_value = "emoji-ar", value_name = "NAME|FILE")]
    pub pipeline: String,
    #[command(flatten)]
    pub device: DeviceOptions,
}

#[derive(Args)]
pub struct DeviceOptions {
    /// Where to compute: `cpu`, or `wgpu`, `wgpu:1`, … in builds with the feature `gpu`.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceName,
}

#[derive(Args)]
pub struct ImageOptions {
    /// What the pictures show, one picture each.
    #[arg(value_name = "PROMPT")]
    pub prompts: Vec<String>,
    /// Prompts from a file, one per line, or JSON lines with the key `prompt`.
    #[arg(long = "prompts", value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,
    /// Where to write: a PNG, a folder for several, or `-` for standard output.
    #[arg(short, long, value_name = "FILE|FOLDER|-")]
    pub output: Option<PathBuf>,
    /// Pictures per prompt.
    #[arg(short = 'n', long, default_value_t = 1)]
    pub number: usize,
    /// Put all pictures on one sheet.
    #[arg(long)]
    pub grid: bool,
    /// The source of all randomness.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub pipeline: PipelineOptions,
    #[command(flatten)]
    pub sampler: SamplerOptions,
    /// Write how the picture grows into this folder: tokens, or scales.
    #[arg(long, value_name = "FOLDER")]
    pub preview: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    pub force: bool,
    /// Print a JSON object per picture.
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Sampling settings; the pipeline's own where none is given.
#[derive(Args)]
pub struct SamplerOptions {
    /// Strength of guidance by the words; 0 switches it off.
    #[arg(long, allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// Below 1 plays safe, above 1 is bold; 0 takes the most likely always.
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Keep this many of the most likely codes.
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Keep the most likely codes up to this probability.
    #[arg(long, allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Keep codes at least this share as likely as the most likely one.
    #[arg(long, allow_negative_numbers = true)]
    pub min_p: Option<f64>,
}

#[derive(Args)]
pub struct TextOptions {
    /// How the text begins, or with --chat what is asked; `-` reads standard input.
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
    /// The beginning from a file (UTF-8); a line break at its end is left off.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// Ask rather than continue, through the model's chat template.
    #[arg(long)]
    pub chat: bool,
    /// What the model is told to be.
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub system: Option<String>,
    /// Which chat template, where the model has several.
    #[arg(long, value_name = "NAME", requires = "chat")]
    pub template: Option<String>,
    /// Tokens that are made at most.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub max_tokens: usize,
    /// End before this text; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Print a JSON object with each token's log-probability and those of the N most likely ones.
    #[arg(long, value_name = "N")]
    pub logprobs: Option<usize>,
    /// Print a JSON object at the end rather than text as it comes.
    #[arg(long)]
    pub json: bool,
    /// The source of all randomness.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// A pipeline's name (`ravel pipelines list`), its definition file, or a folder with a published model's files.
    #[arg(long, default_value = "novels", value_name = "NAME|FILE|FOLDER")]
    pub pipeline: String,
    #[command(flatten)]
    pub device: DeviceOptions,
    /// Below 1 plays safe, above 1 is bold; 0 takes the most likely always.
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Keep this many of the most likely tokens.
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Keep the most likely tokens up to this probability.
    #[arg(long, allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Keep tokens at least this share as likely as the most likely one.
    #[arg(long, allow_negative_numbers = true)]
    pub min_p: Option<f64>,
    /// Keep tokens of nearly expected surprise up to this probability.
    #[arg(long, allow_negative_numbers = true)]
    pub typical: Option<f64>,
    /// Above 1 makes tokens that occurred less likely.
    #[arg(long, allow_negative_numbers = true)]
    pub repetition_penalty: Option<f64>,
    #[command(flatten)]
    pub method: MethodOptions,
}

/// How tokens follow one another; the pipeline's own method where none is named.
#[derive(Args)]
pub struct MethodOptions {
    /// Follow the N likeliest texts at once and keep the best: nothing is drawn.
    #[arg(long, value_name = "N", conflicts_with_all = DRAWING)]
    pub beams: Option<usize>,
    /// With --beams: above 0 favours long texts, below 0 short ones.
    #[arg(
        long,
        value_name = "P",
        requires = "beams",
        allow_negative_numbers = true
    )]
    pub length_penalty: Option<f64>,
    /// Of the K likeliest tokens take one that is unlike what came before, ALPHA (0 to 1) of the weight on that: nothing is drawn.
    #[arg(long, value_name = "K,ALPHA", conflicts_with = "beams", conflicts_with_all = DRAWING)]
    pub contrastive: Option<Contrastive>,
    /// Let a smaller pipeline with the same vocabulary draft tokens, which this one judges: the same distribution, sooner.
    #[arg(long, value_name = "NAME|FILE|FOLDER", conflicts_with_all = ["beams", "contrastive"])]
    pub draft: Option<String>,
    /// With --draft: tokens that are drafted at a time.
    #[arg(long, value_name = "N", requires = "draft", default_value_t = AHEAD)]
    pub draft_tokens: usize,
}

/// Settings that only matter where tokens are drawn.
const DRAWING: [&str; 5] = ["temperature", "top_k", "top_p", "min_p", "typical"];

/// `K,ALPHA`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrastive {
    /// Tokens that are compared.
    pub candidates: usize,
    /// Weight of unlikeness.
    pub alpha: f64,
}

impl FromStr for Contrastive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(',');
        let parts =
            parts.and_then(|(k, alpha)| Some((k.trim().parse().ok()?, alpha.trim().parse().ok()?)));
        let (candidates, alpha) = parts.ok_or("two numbers are expected, for example 5,0.6")?;
        Ok(Self { candidates, alpha })
    }
}

#[derive(Args)]
pub struct VideoOptions {
    /// A folder of frames, an animated GIF, APNG or WebP, or (feature `video`) mp4, mov, mkv, webm, avi.
    pub input: PathBuf,
    /// Where to write: .mp4, .mov, .mkv, .webm, .gif, .png, .webp, a folder, or `-` for mp4 on standard output.
    #[arg(short, long, value_name = "FILE|FOLDER|-")]
    pub output: Option<PathBuf>,
    /// New frames.
    #[arg(long, default_value_t = 12, value_name = "N")]
    pub frames: usize,
    /// Use the last K given frames; without it all that are in view.
    #[arg(long, value_name = "K")]
    pub context: Option<usize>,
    /// Frames a second, to which the input is resampled by its time stamps; the input's own rate without it.
    #[arg(long, value_name = "F")]
    pub fps: Option<FrameRate>,
    /// The source of all randomness.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// A pipeline's name (`ravel pipelines list`) or its definition file.
    #[arg(long, default_value = "sprites", value_name = "NAME|FILE")]
    pub pipeline: String,
    /// What the clip is about, for pipelines that listen to words.
    #[arg(long)]
    pub prompt: Option<String>,
    /// Take in all given frames one after another, not only the last that are in view.
    #[arg(long)]
    pub extend_all: bool,
    /// Put the given frames that were used before the new ones.
    #[arg(long)]
    pub with_context: bool,
    /// Write every new frame into this folder as it comes.
    #[arg(long, value_name = "FOLDER")]
    pub preview: Option<PathBuf>,
    /// Report how far each new frame is from the given ones, as JSON lines; `--report=FILE` into a file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub sampler: SamplerOptions,
    /// Replace files that are there.
    #[arg(long)]
    pub force: bool,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub device: DeviceOptions,
}

#[derive(Args)]
pub struct ReplayOptions {
    /// What `ravel image` or `ravel video` made.
    pub file: PathBuf,
    /// The clip that a video continues, where it is no more under the name that the file remembers.
    #[arg(long, value_name = "CLIP")]
    pub input: Option<PathBuf>,
    /// Where to write; without it, what is made is compared with the file.
    #[arg(short, long, value_name = "FILE|-")]
    pub output: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub device: DeviceOptions,
}

#[derive(Subcommand)]
pub enum TokenizerCommand {
    /// The codes of a picture or a sound, as JSON.
    Encode {
        /// PNG, JPEG, WebP or GIF, fitted to the tokenizer's size on white; for a codec WAV, brought to its rate and channels.
        #[arg(value_name = "PICTURE|WAV")]
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
    /// The picture or the sound of codes that `encode` wrote.
    Decode {
        /// The codes.
        codes: PathBuf,
        /// The PNG or WAV to write, or `-`.
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
        /// Captioned pictures (JSON lines); for a codec WAV files and folders of them.
        #[arg(long, value_name = "ROWS|WAV|FOLDER", num_args = 1..)]
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

#[derive(Args)]
pub struct SpeakOptions {
    /// What is said, or `-` for standard input.
    pub text: Option<String>,
    /// A file with the text, or `-` for standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with = "text")]
    pub text_file: Option<PathBuf>,
    /// Where to write: a WAV file, or `-` for standard output.
    #[arg(short, long, value_name = "FILE|-")]
    pub output: Option<PathBuf>,
    /// A pipeline's name (`ravel pipelines list`) or its definition file.
    #[arg(long, default_value = crate::pipelines::SPEECH, value_name = "NAME|FILE")]
    pub pipeline: String,
    #[command(flatten)]
    pub device: DeviceOptions,
    /// Who speaks, by name; the model's first voice without it.
    #[arg(long, value_name = "NAME")]
    pub voice: Option<String>,
    /// How fast, by name: `slow`, `normal` or `fast` with the built-in model.
    #[arg(long, value_name = "NAME")]
    pub speed: Option<String>,
    /// The source of all randomness.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Divides the scores; zero always takes the largest.
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Keep this many of the largest scores.
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Keep the most probable codes up to this mass.
    #[arg(long, allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// With `-o -`: write sound as it is made. The header then leaves the length open.
    #[arg(long)]
    pub stream: bool,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
    /// Print JSON: what was made, how long it is and what it took.
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Args)]
pub struct TrainOptions {
    /// The recipe.
    pub recipe: PathBuf,
    /// The run's folder; `runs/NAME` without it.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Continue from the latest checkpoint.
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub device: DeviceOptions,
    /// Print a JSON object per event.
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Args)]
pub struct EvalOptions {
    #[command(flatten)]
    pub pipeline: PipelineOptions,
    /// Captioned pictures (JSON lines), or a text; the default data of the pipeline without it.
    #[arg(long, value_name = "ROWS")]
    pub data: Option<PathBuf>,
    /// Video: held-out clips that go on; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub clips: usize,
    /// Video: frames that are given.
    #[arg(long, default_value_t = 4, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub given: usize,
    /// Video: new frames; those beyond the clip's end are measured without true ones.
    #[arg(long, default_value_t = 12, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub frames: usize,
    /// Video: compute all that is in view again for every frame, to compare the time.
    #[arg(long)]
    pub no_cache: bool,
    /// Training captions that are generated, spread evenly; 0 for all.
    #[arg(long, default_value_t = 200)]
    pub captions: usize,
    /// The source of all randomness.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub sampler: SamplerOptions,
    /// Write a contact sheet: training captions, then held-out ones as its last quarter.
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
    /// Pictures on the contact sheet.
    #[arg(long, default_value_t = 64)]
    pub sheet_pictures: usize,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Print no progress.
    #[arg(short, long)]
    pub quiet: bool,
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

#[derive(Args)]
pub struct DoctorOptions {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A device as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// Pure Rust on the CPU.
    Cpu,
    /// A GPU, the best one unless a number is given.
    Gpu(Option<usize>),
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "`cpu`, `wgpu` or `wgpu:NUMBER` is expected".to_string();
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "wgpu" => Ok(Self::Gpu(None)),
            Some(("wgpu", number)) => match number.parse() {
                Ok(number) => Ok(Self::Gpu(Some(number))),
                Err(_) => Err(expected()),
            },
            _ => Err(expected()),
        }
    }
}

impl DeviceName {
    /// The device.
    pub fn open(self) -> Result<Device, Failure> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "gpu")]
            Self::Gpu(number) => {
                use burn::tensor::DeviceKind;
                let kind = number.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu);
                Ok(Device::wgpu(kind))
            }
            #[cfg(not(feature = "gpu"))]
            Self::Gpu(_) => Err(Failure::input_with(
                "this program was built without GPU support",
                "build it with `cargo build --release --features gpu`, or use `--device cpu`",
            )),
        }
    }
}
