//! Flags of the commands that make something: pictures, text, clips, speech.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use ravel_decode::method::AHEAD;
use ravel_media::FrameRate;

use super::{DecodeOptions, DeviceOptions, PipelineOptions, SamplerOptions, WeightsOptions};

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
    pub weights: WeightsOptions,
    #[command(flatten)]
    pub sampler: SamplerOptions,
    #[command(flatten)]
    pub decode: DecodeOptions,
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

#[derive(Args)]
pub struct TextOptions {
    /// How the text begins, or with --chat what is asked; `-` reads standard input.
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
    /// The beginning from a file (UTF-8); a line break at its end is left off.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// One prompt per line, or JSON lines with `prompt` and perhaps `seed`: all of them side by side, a JSON object for each in their order.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "file"])]
    pub prompts: Option<PathBuf>,
    /// With --prompts: texts under way at the same time at most.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "prompts", conflicts_with_all = ["prompt", "file"], value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub batch: usize,
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
    #[command(flatten)]
    pub weights: WeightsOptions,
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
    #[command(flatten)]
    pub weights: WeightsOptions,
}

#[derive(Args)]
pub struct SpeakOptions {
    /// What is said, or `-` for standard input.
    pub text: Option<String>,
    /// A file with the text, or `-` for standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with = "text")]
    pub text_file: Option<PathBuf>,
    /// Where to write: a WAV, FLAC, MP3 or Opus file by its ending, or `-` for WAV on standard output.
    #[arg(short, long, value_name = "FILE|-")]
    pub output: Option<PathBuf>,
    /// A pipeline's name (`ravel pipelines list`) or its definition file.
    #[arg(long, default_value = crate::pipelines::SPEECH, value_name = "NAME|FILE")]
    pub pipeline: String,
    #[command(flatten)]
    pub device: DeviceOptions,
    #[command(flatten)]
    pub weights: WeightsOptions,
    /// Who speaks, by name; the model's first voice without it.
    #[arg(long, value_name = "NAME")]
    pub voice: Option<String>,
    /// Speak in the voice of this recording (WAV; FLAC, MP3 or Opus in builds with the feature `video`): a few seconds of a person who
    /// agreed to it.
    #[arg(long, value_name = "SOUND", conflicts_with = "voice")]
    pub clone: Option<PathBuf>,
    /// The words that are said in it; only models that do not read a voice by itself need them.
    #[arg(long, value_name = "TEXT", requires = "clone")]
    pub clone_text: Option<String>,
    /// How fast, by name: `slow`, `normal` or `fast` with the built-in model.
    #[arg(long, value_name = "NAME")]
    pub speed: Option<String>,
    /// Seconds at most, with published models.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub seconds: Option<f64>,
    /// The source of all randomness.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Strength of guidance by the words, with models that were trained for it (Dia); 0 switches it off.
    #[arg(long, allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// Divides the scores; zero always takes the largest.
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Keep this many of the largest scores.
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Keep the most probable codes up to this mass.
    #[arg(long, allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// With `-o -`: write sound as it is made, frame by frame. The header then leaves the length open. It changes nothing for a file,
    /// which always grows as the sound is made and takes its place when it is whole.
    #[arg(long)]
    pub stream: bool,
    /// Leave out some of what keeps utterances from going wrong, to measure what it brings.
    #[arg(long, value_name = "CHECK", value_enum, value_delimiter = ',')]
    pub without: Vec<Check>,
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
pub struct MusicOptions {
    /// What it sounds like, or `-` for standard input.
    pub text: Option<String>,
    /// A file with the description, or `-` for standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with = "text")]
    pub text_file: Option<PathBuf>,
    /// Where to write: a WAV, FLAC, MP3 or Opus file by its ending, or `-` for WAV on standard output.
    #[arg(short, long, value_name = "FILE|-")]
    pub output: Option<PathBuf>,
    /// A pipeline's name (`ravel pipelines list`) or its definition file.
    #[arg(long, default_value = "musicgen-small", value_name = "NAME|FILE")]
    pub pipeline: String,
    #[command(flatten)]
    pub device: DeviceOptions,
    /// How long it is in seconds; as long as the model goes (30 seconds) without it.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub seconds: Option<f64>,
    /// The source of all randomness.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Strength of guidance by the words; 0 switches it off.
    #[arg(long, allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// Divides the scores; zero always takes the largest.
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Keep this many of the largest scores.
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Keep the most probable codes up to this mass.
    #[arg(long, allow_negative_numbers = true)]
    pub top_p: Option<f64>,
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

impl From<MusicOptions> for SpeakOptions {
    fn from(music: MusicOptions) -> Self {
        Self {
            text: music.text,
            text_file: music.text_file,
            output: music.output,
            pipeline: music.pipeline,
            device: music.device,
            weights: WeightsOptions { weights_type: None },
            voice: None,
            clone: None,
            clone_text: None,
            speed: None,
            seconds: music.seconds,
            seed: music.seed,
            guidance: music.guidance,
            temperature: music.temperature,
            top_k: music.top_k,
            top_p: music.top_p,
            stream: false,
            without: Vec::new(),
            force: music.force,
            json: music.json,
            quiet: music.quiet,
        }
    }
}

/// What keeps utterances from going wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Check {
    /// The model ends an utterance; without it, each goes on up to the greatest length.
    End,
    /// No end before the words can have been said.
    Shortest,
    /// A greatest length by the number of phonemes.
    Longest,
    /// Loops are taken back and said anew.
    Loops,
}
