//! The command line: the commands, and the flags that several of them share.

mod bench;
mod generate;
mod manage;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::Device;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use ravel_core::ImageTokenizer;
use ravel_pipeline::KeptAs;

use crate::failure::Failure;

pub use bench::{
    BenchCommand, BenchDecodeOptions, BenchImageOptions, BenchOptions, BenchPrefillOptions,
    BenchSpeechOptions, BenchTokenizerOptions, BenchTrainOptions, DecodeKind, Preset,
    TokenizerPreset, Way, name_of,
};
pub use generate::{
    Check, Contrastive, ImageOptions, MethodOptions, MusicOptions, SpeakOptions, TextOptions,
    VideoOptions,
};
pub use manage::{ModelsCommand, NarrowType, PipelinesCommand, QuantizeOptions, TokenizerCommand};

const EXAMPLES: &str = "Examples:
  ravel image \"a red heart\" -o heart.png         a picture from words
  ravel text \"Once upon a time\"                 text that goes on
  ravel video bounce.gif -o next.gif              the frames that come next";

/// Multimodal autoregressive generation: pictures, speech, clips and text as tokens, one shared transformer.
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
  ravel speak \"Good morning.\" --clone me.wav
  ravel models pull csm-1b && ravel speak \"Good morning.\" --pipeline csm-1b --voice 1
  ravel speak \"[S1] Tea? [S2] (laughs) Yes!\" --pipeline dia-1.6b --seconds 10

The built-in voices are synthetic and belong to nobody. Clone a voice only if the person whose it is agreed to that, and
tell those who hear it that it is generated, as every file does that is written here.")]
    Speak(SpeakOptions),
    /// Make music from a description.
    #[command(after_help = "Examples:
  ravel models pull musicgen-small && ravel music \"a calm piano, rain\" --seconds 8 -o rain.wav
  ravel music \"80s synth pop\" --pipeline musicgen-medium --seed 3 --guidance 2.5")]
    Music(MusicOptions),
    /// Make a picture, a clip or a recording again from what its file says.
    Replay(ReplayOptions),
    /// Continue a text, or answer what is asked.
    #[command(after_help = "Examples:
  ravel text \"Once upon a time\"
  ravel text --file chapter.txt --max-tokens 400 --seed 7
  ravel text \"Why is the sky blue?\" --chat --pipeline models/Qwen3-0.6B --stop \"Question:\"
  ravel text --prompts prompts.txt --max-tokens 60 > texts.jsonl
  ravel text \"It is a truth\" --logprobs 5
  ravel text \"It is a truth\" --beams 4
  ravel text \"It is a truth\" --contrastive 5,0.6
  ravel text \"Hello\" --pipeline models/Qwen3-4B --draft models/Qwen3-0.6B")]
    Text(TextOptions),
    /// Look into a tokenizer: pictures, sound or clips to codes and back.
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
    /// Measure a pipeline: on captioned pictures, held-out clips or recordings, or how well it foretells a text.
    Eval(EvalOptions),
    /// List, show and check pipeline definitions.
    #[command(subcommand)]
    Pipelines(PipelinesCommand),
    /// Published checkpoints: list, pull, verify and remove them.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Write a checkpoint with its weights in fewer bits.
    #[command(after_help = "Examples:
  ravel quantize model.safetensors model-q8.safetensors --type q8
  ravel text \"It is a truth\" --weights-type q8")]
    Quantize(QuantizeOptions),
    /// Measure how long a published model's sizes take on this machine, from random weights, beside the least that it could take.
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

/// Of what type weights are kept.
#[derive(Args, Clone, Copy)]
pub struct WeightsOptions {
    /// Keep the generator's weights as `f32`, `f16`, `bf16`, `q8` or `q4`; `auto` takes the narrowest type that changes no
    /// weight. A GPU knows f16 and bf16 only where it computes in them. The pipeline's own without it.
    #[arg(long, value_name = "TYPE")]
    pub weights_type: Option<KeptAs>,
}

/// How a tokenizer's decoder makes pictures.
#[derive(Args, Clone, Copy, Default)]
pub struct DecodeOptions {
    /// Memory that the layers of a picture's decoder may hold on the CPU beside weights and picture, in MiB; 2048 without it. Where a
    /// picture needs more they work on strips of it: later, and the same picture bit by bit.
    #[arg(long, value_name = "MIB", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 20))]
    pub decode_memory: Option<usize>,
}

impl DecodeOptions {
    /// Tells a tokenizer that runs on a device.
    pub fn tell(
        self,
        tokenizer: &mut dyn ImageTokenizer,
        device: DeviceName,
    ) -> Result<(), Failure> {
        let Some(mib) = self.decode_memory else {
            return Ok(());
        };
        if device != DeviceName::Cpu {
            return Err(Failure::input_with(
                format!("--decode-memory is for the CPU, --device {device} decodes whole pictures"),
                "leave one of the two out",
            ));
        }
        match tokenizer.decode_within(mib << 20) {
            true => Ok(()),
            false => Err(Self::refusal("this tokenizer")),
        }
    }

    /// What is said where there is no such decoder.
    pub fn refusal(what: &str) -> Failure {
        Failure::input_with(
            format!("{what} has no decoder that works on strips of pictures"),
            "leave --decode-memory out; LlamaGen, VAR, Janus, Infinity and pictures' tokenizers trained here know it",
        )
    }
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
pub struct ReplayOptions {
    /// What `ravel image`, `ravel video` or `ravel speak` made.
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
    #[command(flatten)]
    pub weights: WeightsOptions,
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
    #[command(flatten)]
    pub weights: WeightsOptions,
    /// Captioned pictures or recordings (JSON lines), or a text; the default data of the pipeline without it.
    #[arg(long, value_name = "ROWS")]
    pub data: Option<PathBuf>,
    /// Video: held-out clips that go on; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub clips: usize,
    /// Video: frames that are given.
    #[arg(long, default_value_t = 4, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub given: usize,
    /// Video: new frames; those beyond the clip's end are measured without true ones.
    #[arg(long, default_value_t = 12, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub frames: usize,
    /// Video: compute all that is in view again for every frame, to compare the time. New frames are then seen without the codes that they were
    /// made of, so they come out a little different.
    #[arg(long)]
    pub no_cache: bool,
    /// Speech: held-out recordings that are said again, and as many of the held-out voice that are compared; 0 for all.
    #[arg(long, default_value_t = 40)]
    pub utterances: usize,
    /// Speech: recordings of the held-out voice that are cloned.
    #[arg(long, default_value_t = 12)]
    pub clones: usize,
    /// Speech: a Python with pocketsphinx, which counts word errors; python3 if it has it.
    #[arg(long, value_name = "PYTHON")]
    pub recogniser: Option<PathBuf>,
    /// Speech: leave out some of what keeps utterances from going wrong.
    #[arg(long, value_name = "CHECK", value_enum, value_delimiter = ',')]
    pub without: Vec<Check>,
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

impl fmt::Display for DeviceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Gpu(None) => formatter.write_str("wgpu"),
            Self::Gpu(Some(number)) => write!(formatter, "wgpu:{number}"),
        }
    }
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

/// So many tasks go into one command buffer of a GPU at the most. cubecl waits for the buffers before once it has handed in as many, and seeks a free
/// place among all that are queued.
#[cfg(feature = "gpu")]
const TASKS: usize = 512;

impl DeviceName {
    /// The device.
    pub fn open(self) -> Result<Device, Failure> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "gpu")]
            Self::Gpu(number) => {
                // A kernel that does not compile panics at the first use of the device.
                let opened = crate::system::quietly(|| {
                    let device = gpu(number)?;
                    let _ = burn::tensor::Tensor::<1>::ones([1], &device).into_data();
                    Some(device)
                });
                opened.flatten().ok_or_else(|| {
                    Failure::input_with(
                        format!("--device {self}: no such GPU answers"),
                        "install its Vulkan, Metal or DX12 driver (`ravel doctor` looks again), or use `--device cpu`",
                    )
                })
            }
            #[cfg(not(feature = "gpu"))]
            Self::Gpu(_) => Err(Failure::input_with(
                "this program was built without GPU support",
                "build it with `cargo build --release --features gpu`, or use `--device cpu`",
            )),
        }
    }

    /// As [`Self::open`], for weights of a type, which not every device multiplies by.
    pub fn open_for(self, kept: KeptAs) -> Result<Device, Failure> {
        let device = self.open()?;
        if kept.runs_on(&device) {
            return Ok(device);
        }
        #[cfg(feature = "gpu")]
        let part = device.identity().map(|identity| identity.name);
        #[cfg(not(feature = "gpu"))]
        let part = None::<String>;
        let part = part.map_or(String::new(), |name| format!(" ({name})"));
        Err(Failure::input_with(
            format!(
                "--device {self}{part} does not multiply by weights of type {}",
                kept.name()
            ),
            "use `--weights-type f32`, or `--device cpu`, which knows all types",
        ))
    }
}

/// A GPU, or nothing where there is no adapter. What is open already is given again.
#[cfg(feature = "gpu")]
fn gpu(number: Option<usize>) -> Option<Device> {
    use burn::tensor::DeviceKind;
    use burn::tensor::wgpu::WgpuInitError;
    let kind = number.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu);
    let options = Device::wgpu_options().device_kind(kind.clone());
    let options = match std::env::var_os("CUBECL_WGPU_MAX_TASKS") {
        Some(_) => options,
        None => options.tasks_max(TASKS),
    };
    match options.init() {
        Ok(device) => Some(device),
        Err(WgpuInitError::Registration { .. }) => Some(Device::wgpu(kind)),
        Err(_) => None,
    }
}
