//! Flags of `ravel bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{DecodeOptions, DeviceOptions, WeightsOptions};

/// Numbers from 1 to a greatest one.
fn up_to(most: u64) -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..=most)
}

#[derive(Subcommand)]
pub enum BenchCommand {
    /// A whole picture: the class's first unit, all others, and from codes to pixels.
    #[command(after_help = "Examples:
  ravel bench image --preset llamagen-b
  ravel bench image --preset var-d16 --weights-type q8 --json")]
    Image(BenchImageOptions),
    /// A position of a sequence, or a scale of a picture: how long it takes, and how near that is to what the machine can do.
    #[command(after_help = "Examples:
  ravel bench decode --preset llama-111m --weights-type q8
  ravel bench decode --preset llamagen-b --batch 2 --at 128 --tokens 64
  ravel bench decode --preset var-d16 --json")]
    Decode(BenchDecodeOptions),
    /// A prompt, read in one pass.
    #[command(after_help = "Examples:
  ravel bench prefill --preset llama-111m --positions 512
  ravel bench prefill --preset llama-111m --weights-type q8 --batch 4 --json
  ravel bench prefill --preset llama-111m --lengths 16,200,40,90,500,64")]
    Prefill(BenchPrefillOptions),
    /// From codes to pixels: the decoder of a tokenizer, again and again.
    #[command(after_help = "Examples:
  ravel bench tokenizer --preset llamagen-vq16
  ravel bench tokenizer --preset var-vqvae --type bf16 --rounds 9
  ravel bench tokenizer --preset llamagen-vq16 --size 1024 --decode-memory 256 --rounds 1")]
    Tokenizer(BenchTokenizerOptions),
    /// A text, spoken as long as its symbols allow: until the first sound, and the whole.
    #[command(after_help = "Examples:
  ravel bench speech --preset speak
  ravel bench speech --preset speak --text \"Good morning.\" --threads 1 --json")]
    Speech(BenchSpeechOptions),
    /// A step of training: of a recipe on its own data, or of a language model of some sizes on ids drawn at random.
    #[command(after_help = "Examples:
  ravel bench train --preset llama-10m --batch 8 --context 256
  make data && ravel bench train assets/recipes/emoji-ar-tokenizer.toml --steps 3 --json")]
    Train(BenchTrainOptions),
}

/// What all measurements take.
#[derive(Args)]
pub struct BenchOptions {
    /// The source of all randomness, weights included.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads to compute on; all cores without it.
    #[arg(long, value_name = "N", value_parser = up_to(1024))]
    pub threads: Option<usize>,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceOptions,
}

#[derive(Args)]
pub struct BenchImageOptions {
    /// Whose sizes.
    #[arg(long, value_enum)]
    pub preset: Preset,
    #[command(flatten)]
    pub bench: BenchOptions,
    #[command(flatten)]
    pub weights: WeightsOptions,
}

#[derive(Args)]
pub struct BenchDecodeOptions {
    /// Whose sizes.
    #[arg(long, value_enum)]
    pub preset: DecodePreset,
    /// Positions that are counted, in each of four rounds; 64 without it. A picture made by scales has its own.
    #[arg(long, value_name = "N", value_parser = up_to(4096))]
    pub tokens: Option<usize>,
    /// Positions in front of the first one that is counted; none without it.
    #[arg(long, value_name = "N")]
    pub at: Option<usize>,
    /// Rows that are continued together.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = up_to(1024))]
    pub batch: usize,
    #[command(flatten)]
    pub bench: BenchOptions,
    #[command(flatten)]
    pub weights: WeightsOptions,
}

#[derive(Args)]
pub struct BenchPrefillOptions {
    /// Whose sizes.
    #[arg(long, value_enum)]
    pub preset: SequencePreset,
    /// Positions of the prompt.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = up_to(4096))]
    pub positions: usize,
    /// Prompts that are read together.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = up_to(1024))]
    pub batch: usize,
    /// Prompts of these lengths instead, read in three ways in turn: together without being filled up, filled up to the longest, one after
    /// the other.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = up_to(4096), conflicts_with_all = ["positions", "batch"])]
    pub lengths: Vec<usize>,
    /// With --lengths: this way alone, so that the peak of memory is its own.
    #[arg(long, value_enum, requires = "lengths")]
    pub way: Option<Way>,
    /// Passes that are counted, after a first one.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = up_to(10_000))]
    pub rounds: usize,
    #[command(flatten)]
    pub bench: BenchOptions,
    #[command(flatten)]
    pub weights: WeightsOptions,
}

#[derive(Args)]
pub struct BenchTokenizerOptions {
    /// Whose sizes.
    #[arg(long, value_enum)]
    pub preset: TokenizerPreset,
    /// What products are computed in.
    #[arg(long = "type", value_enum, default_value = "f32")]
    pub kind: DecodeKind,
    /// Pixels a side, a multiple of 16; the preset's own without it.
    #[arg(long, value_name = "PIXELS", value_parser = up_to(16_384))]
    pub size: Option<usize>,
    #[command(flatten)]
    pub decode: DecodeOptions,
    /// Pictures that are timed after a first one.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = up_to(10_000))]
    pub rounds: usize,
    #[command(flatten)]
    pub bench: BenchOptions,
}

#[derive(Args)]
pub struct BenchSpeechOptions {
    /// Whose sizes.
    #[arg(long, value_enum)]
    pub preset: SpeechPreset,
    /// What is said.
    #[arg(
        long,
        default_value = "Good morning! The leaves of Japan are clean.",
        value_name = "TEXT"
    )]
    pub text: String,
    /// Times that are counted, after a first one.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = up_to(10_000))]
    pub rounds: usize,
    #[command(flatten)]
    pub bench: BenchOptions,
    #[command(flatten)]
    pub weights: WeightsOptions,
}

/// How prompts of different lengths are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Together, none filled up.
    Packed,
    /// Together, filled up to the longest.
    Padded,
    /// One after the other.
    Alone,
}

#[derive(Args)]
pub struct BenchTrainOptions {
    /// The recipe; its data must be there.
    #[arg(required_unless_present = "preset", conflicts_with_all = ["preset", "context"])]
    pub recipe: Option<PathBuf>,
    /// Whose sizes, from random weights.
    #[arg(long, value_enum)]
    pub preset: Option<TrainPreset>,
    /// Rows of a step; the recipe's, or 8.
    #[arg(long, value_name = "N", value_parser = up_to(65_536))]
    pub batch: Option<usize>,
    /// Positions of a row.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = up_to(4096))]
    pub context: usize,
    /// Steps that are counted, after a first one.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = up_to(10_000))]
    pub steps: usize,
    #[command(flatten)]
    pub bench: BenchOptions,
}

/// Sizes to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// LlamaGen-B: 256x256 in 256 codes, scale 4.
    LlamagenB,
    /// VAR-d16: 256x256 in ten scales, 680 codes.
    VarD16,
    /// Toy sizes, to try it out.
    Tiny,
}

/// Sizes to measure decoding at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DecodePreset {
    /// LlamaGen-B's transformer: 12 layers of 768, 16,384 codes, rotary positions on two axes.
    LlamagenB,
    /// LLaMA at 111 million parameters: 12 layers of 768, 16,384 ids.
    #[value(name = "llama-111m")]
    Llama111m,
    /// VAR-d16's transformer: 16 layers of 1024, ten scales of a picture.
    VarD16,
    /// Toy sizes, to try it out.
    Tiny,
}

impl DecodePreset {
    /// The sequence model of this name; none for pictures that are made by scales.
    pub fn sequence(self) -> Option<SequencePreset> {
        match self {
            Self::LlamagenB => Some(SequencePreset::LlamagenB),
            Self::Llama111m => Some(SequencePreset::Llama111m),
            Self::Tiny => Some(SequencePreset::Tiny),
            Self::VarD16 => None,
        }
    }
}

/// Sizes of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SequencePreset {
    /// LlamaGen-B's transformer: 12 layers of 768, 16,384 codes, rotary positions on two axes.
    LlamagenB,
    /// LLaMA at 111 million parameters: 12 layers of 768, 16,384 ids.
    #[value(name = "llama-111m")]
    Llama111m,
    /// Toy sizes, to try it out.
    Tiny,
}

/// Sizes of language models to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrainPreset {
    /// LLaMA at 111 million parameters: 12 layers of 768, 16,384 ids.
    #[value(name = "llama-111m")]
    Llama111m,
    /// LLaMA at 10 million parameters: 6 layers of 320, 4,096 ids.
    #[value(name = "llama-10m")]
    Llama10m,
    /// Toy sizes, to try it out.
    Tiny,
}

/// Tokenizers to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenizerPreset {
    /// LlamaGen's tokenizer with 16 pixels a side to a code, 256x256.
    LlamagenVq16,
    /// VAR's tokenizer, 256x256.
    VarVqvae,
    /// Toy sizes, to try it out.
    Tiny,
}

/// Voices to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpeechPreset {
    /// The voice inside the program: 5 layers of 256, 25 frames of 4 codes a second.
    Speak,
    /// Toy sizes, to try it out.
    Tiny,
}

/// What a decoder's products are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DecodeKind {
    /// 32 bits.
    F32,
    /// 16 bits with the range of 32, where the processor multiplies them faster; sums are of 32 bits.
    Bf16,
}

/// A value's name on the command line.
pub fn name_of(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value().expect("no value is hidden");
    value.get_name().to_string()
}
