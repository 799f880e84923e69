//! What fixes the tokenizer.

use ravel_core::{CodeSpec, Error, Result, VideoSpec};
use ravel_nn::conv::AutoencoderConfig;
use ravel_quant::{Bound, FiniteQuantizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most ids that a codebook may have.
const MOST_IDS: usize = 1 << 20;
/// The greatest `sharpness`: scores times this stay numbers.
const SHARPEST: f64 = 1000.0;

/// Sizes of all parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CausalVideoConfig {
    /// Height and width of the frames in pixels.
    pub size: usize,
    /// How the first frame is coded.
    pub first: FirstConfig,
    /// How later groups are coded.
    pub later: ChangeConfig,
}

/// The first frame: a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FirstConfig {
    /// Encoder and decoder.
    pub autoencoder: AutoencoderConfig,
    /// Levels of each number of a code vector, 2 at least.
    pub levels: Vec<usize>,
}

/// Later groups: what changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChangeConfig {
    /// Frames of a group.
    #[serde(default = "one")]
    pub group: usize,
    /// The farthest that anything is followed, in pixels and in each direction, within a group.
    pub reach: usize,
    /// Pixels a side that the first step folds into channels; codes stand twice as far apart.
    pub patch: usize,
    /// Whether a later frame is the one before with its pixels moved as the codes say, and nothing else: no network decides where a pixel
    /// comes from, or paints. What moves stays as sharp as it was, however long a clip goes on. Groups are of one frame then, numbers of
    /// a code beyond the first two stay at their middle, and there are no widths, blocks and sharpness. With `layers`, whole things are
    /// moved in place of cells, and what comes out from behind them is filled in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub moves_only: bool,
    /// Channels of the finer grid.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub width: usize,
    /// Channels of the grid of codes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deep_width: usize,
    /// Residual blocks on the finer grid, in the encoder and in the decoder each.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub blocks: usize,
    /// Residual blocks on the grid of codes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deep_blocks: usize,
    /// Levels of each number of a code vector, 2 at least.
    pub levels: Vec<usize>,
    /// How decidedly each pixel comes from one place, rather than from a weighted mean of all: the factor of the scores. The greater it
    /// is, the less is blurred by being moved, time and again.
    #[serde(default = "unsharpened", skip_serializing_if = "is_unsharpened")]
    pub sharpness: f64,
    /// Whether what the code of a cell moves also enters the cells around it whose own codes bring nothing there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub carries: bool,
    /// Whether frames that go on from given ones are first taken apart into a background and the things before it, which then move as wholes
    /// as most of their cells say, however long a clip goes on. Where there is no telling them apart, and where only codes are given, each
    /// cell moves by itself. Only where pixels are only moved.
    #[serde(default, skip_serializing_if = "is_false")]
    pub layers: bool,
    /// Whether the edges of the frame are walls: whatever codes say, no thing goes beyond them (what turns counts as a disc of as many
    /// pixels). For a world in which nothing ever leaves the frame; a thing that left wholly could not be called back, since no cell shows it then.
    /// Only with layers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub walls: bool,
}

fn is_false(set: &bool) -> bool {
    !set
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn unsharpened() -> f64 {
    1.0
}

fn is_unsharpened(sharpness: &f64) -> bool {
    *sharpness == 1.0
}

fn one() -> usize {
    1
}

impl FirstConfig {
    /// Rounds latents.
    pub fn quantizer(&self) -> FiniteQuantizer {
        quantizer(&self.levels)
    }
}

impl ChangeConfig {
    /// Rounds latents.
    pub fn quantizer(&self) -> FiniteQuantizer {
        quantizer(&self.levels)
    }

    /// Pixels a side that one code stands for.
    pub fn stride(&self) -> usize {
        2 * self.patch
    }

    /// Displacements in one direction.
    pub fn steps(&self) -> usize {
        2 * self.reach + 1
    }

    /// Checks the sizes of the networks, or that there are none.
    fn check_networks(&self) -> Result<()> {
        let sizes = [
            ("later.width", self.width),
            ("later.deep-width", self.deep_width),
        ];
        let blocks = [
            ("later.blocks", self.blocks),
            ("later.deep-blocks", self.deep_blocks),
        ];
        if !self.moves_only {
            let most = 1 << 14;
            let bad = sizes.iter().find(|(_, size)| !(1..=most).contains(size));
            return match bad {
                Some((field, found)) => wrong(field, found.to_string(), &format!("1 to {most}")),
                None => Ok(()),
            };
        }
        if self.group != 1 {
            let expected = "1 where codes only move pixels";
            return wrong("later.group", self.group.to_string(), expected);
        }
        if self.sharpness != unsharpened() {
            let expected = "none where codes only move pixels, which is as sharp as can be";
            return wrong("later.sharpness", self.sharpness.to_string(), expected);
        }
        match sizes.iter().chain(&blocks).find(|(_, size)| *size > 0) {
            Some((field, found)) => {
                let expected = "none where codes only move pixels";
                wrong(field, found.to_string(), expected)
            }
            None => Ok(()),
        }
    }
}

fn quantizer(levels: &[usize]) -> FiniteQuantizer {
    FiniteQuantizer {
        levels: levels.to_vec(),
        bound: Bound::Tanh,
    }
}

impl CausalVideoConfig {
    /// Checks that a tokenizer can be built.
    ///
    /// # Errors
    /// [`Error::Config`] names the field that it cannot be built from.
    pub fn validate(&self) -> Result<()> {
        self.first.autoencoder.validate(self.size)?;
        check_levels("first.levels", &self.first.levels)?;
        let later = &self.later;
        check_levels("later.levels", &later.levels)?;
        for (field, found, most) in [
            ("later.group", later.group, 64),
            ("later.reach", later.reach, 32),
            ("later.patch", later.patch, 64),
        ] {
            if !(1..=most).contains(&found) {
                return wrong(field, found.to_string(), &format!("1 to {most}"));
            }
        }
        later.check_networks()?;
        let stride = self.first.autoencoder.stride();
        if later.stride() != stride {
            let expected =
                format!("{stride} / 2, since a code of the first frame is {stride} pixels");
            return wrong("later.patch", later.patch.to_string(), &expected);
        }
        if !(later.sharpness > 0.0 && later.sharpness <= SHARPEST) {
            let found = later.sharpness.to_string();
            let expected = format!("a positive number, {SHARPEST} at most");
            return wrong("later.sharpness", found, &expected);
        }
        if later.layers && !later.moves_only {
            let expected = "moves-only = true beside it";
            return wrong("later.layers", "true".into(), expected);
        }
        if later.walls && !later.layers {
            let expected = "layers = true beside it";
            return wrong("later.walls", "true".into(), expected);
        }
        if later.carries && later.reach > later.stride() {
            let expected = format!(
                "{} at most where cells carry what is in them, a cell's side",
                later.stride()
            );
            return wrong("later.reach", later.reach.to_string(), &expected);
        }
        if later.levels.len() < 2 {
            let found = format!("{:?}", later.levels);
            return wrong(
                "later.levels",
                found,
                "two at least: how far down and right",
            );
        }
        if later.reach >= self.size {
            return wrong("later.reach", later.reach.to_string(), "less than size");
        }
        Ok(())
    }

    /// What the codes look like.
    pub fn spec(&self) -> VideoSpec {
        let side = self.size / self.later.stride();
        let first = self.first.quantizer().codebook_size();
        let later = self.later.quantizer().codebook_size();
        let digits: usize = self.later.levels.iter().sum();
        VideoSpec {
            codes: CodeSpec {
                codebook_size: first.max(later),
                code_width: self.later.levels.len(),
                depth: 1,
            },
            first_codebook_size: first,
            later_codebook_size: later,
            later_levels: self.later.levels.clone(),
            signal_size: (self.size, self.size),
            grid: (side, side),
            group: self.later.group,
            feature_width: 3 * self.later.stride().pow(2) + digits,
        }
    }
}

fn check_levels(field: &str, levels: &[usize]) -> Result<()> {
    let size = levels
        .iter()
        .try_fold(1_usize, |size, &level| size.checked_mul(level));
    let fits = size.is_some_and(|size| size <= MOST_IDS);
    if levels.is_empty() || levels.iter().any(|&level| level < 2) || !fits {
        let expected = format!("numbers of at least 2 with a product of at most {MOST_IDS}");
        return wrong(field, format!("{levels:?}"), &expected);
    }
    Ok(())
}

fn wrong(field: &str, found: String, expected: &str) -> Result<()> {
    Err(Error::Config {
        field: field.into(),
        found,
        expected: expected.into(),
    })
}
