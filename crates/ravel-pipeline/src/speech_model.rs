//! Everything of a speech pipeline that is learned, but for its sound tokenizer: what is trained is what speaks.
//!
//! Beside the text's embedding, the sequence model and the head there may be an encoder of voices that are shown, a small model that
//! foretells how long every symbol is said (RALL-E, Xin et al. 2024, section 3.2), and a depth transformer.
//!
//! Shapes: `b` rows, `n` positions or frames.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_backbone::{Transformer, TransformerConfig};
use ravel_core::{
    Attend, Codes, Condition, Decoding, Error, Generator, Head, Layout, Result, Seed, Start,
    StepInput,
};
use ravel_decode::{OneByOne, SamplerConfig};
use ravel_heads::{
    Arrangement, Deep, DepthConfig, DepthHead, DepthProjection, FirstCode, NextTokens,
    NextTokensConfig, Predicts, PrefixConfig, PrefixEmbedding, ReferenceConfig, ReferenceEncoder,
    Regulator, Timed,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SpeechText;

/// A score that no sampler picks.
const NEVER: f64 = -1e4;

/// What a speech model may have beside text, sequence model and head.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SpeechPart {
    /// Reads a voice from a recording, so that it can be followed without its words. Unset, a recording and its words stand in front.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceConfig>,
    /// Foretells how long every symbol is said before the first code is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durations: Option<DurationsConfig>,
    /// Chooses all codes of a frame but the first; the head then predicts `first`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<DepthPart>,
}

/// What fixes the model of durations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DurationsConfig {
    /// The longest duration, in frames.
    pub most: usize,
    /// Its sequence model.
    pub backbone: TransformerConfig,
}

impl Default for DurationsConfig {
    fn default() -> Self {
        Self {
            most: 15,
            backbone: TransformerConfig::default(),
        }
    }
}

/// What fixes the depth transformer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DepthPart {
    /// What it reads, and its scores.
    pub head: DepthConfig,
    /// The transformer itself.
    pub backbone: TransformerConfig,
}

impl SpeechPart {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that all parts can be built beside a sequence model and a head.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate_for(
        &self,
        backbone: &TransformerConfig,
        head: &NextTokensConfig,
    ) -> Result<()> {
        backbone.validate()?;
        head.validate_for(backbone.axes())?;
        if let Some(reference) = &self.reference {
            reference.validate()?;
        }
        if let Some(durations) = &self.durations {
            durations.validate()?;
        }
        match (&self.depth, head.predicts) {
            (None, Predicts::All) => Ok(()),
            (None, Predicts::First) => Err(wrong(
                "head.predicts",
                "first, without a depth transformer",
                "a table `speech.depth`, or \"all\"",
            )),
            (Some(_), Predicts::All) => Err(wrong(
                "head.predicts",
                "all, beside a depth transformer",
                "\"first\"",
            )),
            (Some(depth), Predicts::First) => depth.validate_for(backbone, head),
        }
    }
}

impl DurationsConfig {
    fn validate(&self) -> Result<()> {
        self.backbone.validate()?;
        if !(1..=255).contains(&self.most) {
            let found = self.most.to_string();
            return Err(wrong("durations.most", &found, "1 to 255 frames"));
        }
        self.head().validate_for(self.backbone.axes())
    }

    /// One symbol after the other, each beside its place in the text.
    fn head(&self) -> NextTokensConfig {
        NextTokensConfig {
            depth: 1,
            codebook_size: self.most + 1,
            causal_prefix: false,
            pace: Some(1),
            ..NextTokensConfig::default()
        }
    }
}

impl DepthPart {
    fn validate_for(&self, backbone: &TransformerConfig, head: &NextTokensConfig) -> Result<()> {
        let (config, width) = (&self.head, self.backbone.d_model);
        self.backbone.validate()?;
        config.validate()?;
        let agree = |field: &str, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(wrong(field, &found.to_string(), &expected.to_string())),
        };
        agree("depth.head.depth", config.depth, head.depth)?;
        let ids = head.end.unwrap_or(head.codebook_size);
        agree("depth.head.codebook-size", config.codebook_size, ids)?;
        if config.first != (FirstCode::Chosen {}) || head.tokens.is_some() {
            let found = "a row of tokens";
            return Err(wrong("depth.head.first", found, "\"chosen\""));
        }
        // What goes through the projection is as wide as the sequence model, all else as wide as the depth transformer.
        let (hidden, codes) = match config.projection {
            DepthProjection::None => (backbone.d_model, width),
            DepthProjection::Hidden => (width, width),
            DepthProjection::Both => (width, backbone.d_model),
        };
        agree("depth.backbone.d-model", width, hidden)?;
        agree(
            "depth.head.code-width",
            config.code_width.unwrap_or(width),
            codes,
        )
    }
}

fn wrong(field: &str, found: &str, expected: &str) -> Error {
    Error::Config {
        field: field.into(),
        found: found.into(),
        expected: expected.into(),
    }
}

/// Everything that a speech model is built from.
#[derive(Debug, Clone, Copy)]
pub struct SpeechShape<'a> {
    /// What stands in front.
    pub text: &'a SpeechText,
    /// The sequence model.
    pub backbone: &'a TransformerConfig,
    /// What is predicted.
    pub head: &'a NextTokensConfig,
    /// What there is beside.
    pub part: &'a SpeechPart,
}

impl SpeechShape<'_> {
    /// A fresh model.
    ///
    /// # Panics
    /// If [`SpeechPart::validate_for`] would report an error.
    pub fn init(&self, device: &Device) -> SpeechModel {
        let (width, axes) = (self.backbone.d_model, self.backbone.axes());
        let layout = Layout::Sequence { len: 1 };
        let prefix: PrefixConfig = self.text.prefix_config();
        let durations = |config: &DurationsConfig| {
            let own = config.backbone.d_model;
            DurationModel {
                prefix: prefix.init(own, device),
                backbone: config.backbone.init(device),
                head: config
                    .head()
                    .init(own, config.backbone.axes(), &layout, device),
                regulator: Regulator::init(prefix.vocabulary_size, width, device),
            }
        };
        let codes = self.head.end.unwrap_or(self.head.codebook_size);
        SpeechModel {
            prefix: prefix.init(width, device),
            backbone: self.backbone.init(device),
            head: self.head.init(width, axes, &layout, device),
            reference: self
                .part
                .reference
                .as_ref()
                .map(|config| config.init(self.head.depth, codes, width, device)),
            durations: self.part.durations.as_ref().map(durations),
            depth: self.part.depth.as_ref().map(|part| DepthModel {
                head: part.head.init(width, part.backbone.d_model, device),
                backbone: part.backbone.init(device),
            }),
        }
    }
}

/// All learned parts of a speech pipeline but its sound tokenizer.
#[derive(Module, Debug)]
pub struct SpeechModel {
    /// Embeds voice, speed and symbols.
    pub prefix: PrefixEmbedding,
    /// The sequence model.
    pub backbone: Transformer,
    /// Predicts codes.
    pub head: NextTokens,
    /// Reads a voice that is shown.
    pub reference: Option<ReferenceEncoder>,
    /// Foretells durations.
    pub durations: Option<DurationModel>,
    /// Chooses the later codes of a frame.
    pub depth: Option<DepthModel>,
}

/// How long symbols are said, one after the other.
#[derive(Module, Debug)]
pub struct DurationModel {
    /// Embeds voice, speed and symbols.
    pub prefix: PrefixEmbedding,
    /// The sequence model.
    pub backbone: Transformer,
    /// Predicts frames of a symbol.
    pub head: NextTokens,
    /// Tells the codes.
    pub regulator: Regulator,
}

/// The depth transformer with what it reads.
#[derive(Module, Debug)]
pub struct DepthModel {
    /// Embeddings and scores.
    pub head: DepthHead,
    /// The transformer.
    pub backbone: Transformer,
}

/// What stands in front of one row.
#[derive(Debug, Clone, Default)]
pub struct Prompt {
    /// Voice, speed and symbols ([`SpeechText::ids`]).
    pub ids: Vec<u32>,
    /// Codes of a recording in the voice, codebook by codebook; empty if none is shown.
    pub shown: Vec<Vec<u32>>,
}

impl SpeechModel {
    /// What stands in front of some rows, shorter ones filled up with positions that nothing sees: on the left, or at a pace, where
    /// the front of all rows stands at the same place, on the right. A voice that is shown is added to the first id.
    pub fn condition(&self, rows: &[Prompt], device: &Device) -> Condition {
        let ids: Vec<&[u32]> = rows.iter().map(|row| &row.ids[..]).collect();
        let on_right = self.head.config().pace.is_some();
        let mut condition = front(&self.prefix, &ids, on_right, device);
        let shown = rows.iter().any(|row| !row.shown.is_empty());
        if let (Some(encoder), Some(prefix), true) = (&self.reference, &condition.prefix, shown) {
            let [batch, len, width] = prefix.dims();
            let (codes, known) = shown_codes(rows, self.head.config().depth, device);
            let voices = encoder.forward(codes, known);
            let mut place = vec![0f32; batch * len];
            for (at, row) in rows.iter().enumerate() {
                let first = if on_right { 0 } else { len - row.ids.len() };
                place[at * len + first] = 1.0;
            }
            let place = Tensor::<3>::from_data(TensorData::new(place, [batch, len, 1]), device);
            let added = place * voices.reshape([batch, 1, width]);
            condition.prefix = Some(prefix.clone() + added);
        }
        condition
    }

    /// Tells `positions` positions of every row which symbols they belong to, where durations are foretold.
    pub fn timed(&self, condition: Condition, rows: &[Timed<'_>], positions: usize) -> Condition {
        let Some(model) = &self.durations else {
            return condition;
        };
        let config = self.head.config();
        let beside = model
            .regulator
            .beside(rows, &config.arrangement, config.depth, positions);
        Condition {
            beside: Some(beside),
            ..condition
        }
    }

    /// The head that chooses codes along a layout.
    pub fn choosing(&self, layout: &Layout) -> Box<dyn Head> {
        let frame = self.head.clone().with_layout(layout);
        match &self.depth {
            None => Box::new(frame),
            Some(model) => Box::new(Deep {
                frame,
                depth: model.head.clone(),
                transformer: model.backbone.clone(),
            }),
        }
    }

    /// Scores of all codes of whole utterances, teacher-forced, frame by frame in a flattened arrangement, position by position otherwise.
    ///
    /// # Shapes
    /// - `codes`: `[b, rows, positions]` as the arrangement lays them; of a flattened one, whole frames
    /// - returns: `[b, depth, n, ids]`
    pub fn scores(&self, codes: Tensor<3, Int>, condition: &Condition) -> Tensor<4> {
        let len = codes.dims()[2];
        let head = self.head.clone().with_layout(&Layout::Sequence { len });
        let input = head.inputs(codes.clone(), condition);
        let hidden = self.backbone.forward(input, condition);
        let scores = head.logits_of(hidden.clone());
        if let Some(model) = &self.depth {
            let total = hidden.dims()[1];
            let own = hidden.narrow(1, total - len, len);
            return with_rest(scores, model.scores(own, codes));
        }
        match self.head.config().arrangement {
            Arrangement::Flattened {} => of_own_codebook(scores),
            _ => scores,
        }
    }
}

impl DepthModel {
    /// Scores of all codebooks but the first.
    ///
    /// # Shapes
    /// - `hidden`: `[b, n, d_model]`
    /// - `codes`: `[b, depth, n]`
    /// - returns: `[b, depth - 1, n, codebook_size]`
    fn scores(&self, hidden: Tensor<3>, codes: Tensor<3, Int>) -> Tensor<4> {
        let [batch, n, width] = hidden.dims();
        let config = self.head.config();
        let rows = batch * n;
        let known = codes
            .swap_dims(1, 2)
            .reshape([rows, config.depth])
            .narrow(1, 0, config.depth - 1)
            .clamp(0, config.codebook_size as i64 - 1);
        let first = self.head.hidden(hidden.reshape([rows, 1, width]));
        let embedded = Tensor::cat(vec![first, self.head.embedded(known, 0)], 1);
        let places = Tensor::arange(0..config.depth as i64, &embedded.device());
        let input = StepInput {
            coords: places.unsqueeze_dim(1),
            embedded,
            attend: Attend::Causal,
        };
        let states = self.backbone.forward(input, &Condition::default());
        let each = (1..config.depth).map(|codebook| {
            let state = states.clone().narrow(1, codebook, 1);
            let scores = self.head.logits(state, codebook);
            scores.reshape([batch, n, config.codebook_size])
        });
        Tensor::stack(each.collect(), 1)
    }
}

/// The first codebook's scores and those of the others, which may have other ids.
fn with_rest(first: Tensor<4>, rest: Tensor<4>) -> Tensor<4> {
    let most = first.dims()[3].max(rest.dims()[3]);
    let filled = |scores: Tensor<4>| {
        let [batch, books, n, ids] = scores.dims();
        if ids == most {
            return scores;
        }
        let shape = [batch, books, n, most - ids];
        let never = Tensor::<4>::full(shape, NEVER, &scores.device());
        Tensor::cat(vec![scores.clone(), never.cast(scores.dtype())], 3)
    };
    Tensor::cat(vec![filled(first), filled(rest)], 1)
}

/// Of every codebook's scores at every flattened position those of the position's own codebook, frame by frame.
fn of_own_codebook(scores: Tensor<4>) -> Tensor<4> {
    let [batch, depth, len, ids] = scores.dims();
    let each = (0..depth).map(|codebook| {
        let all = scores.clone().narrow(1, codebook, 1);
        let frames = all.reshape([batch, len / depth, depth, ids]);
        frames.narrow(2, codebook, 1).squeeze_dim::<3>(2)
    });
    Tensor::stack(each.collect(), 1)
}

impl DurationModel {
    /// Scores of every symbol's duration, teacher-forced.
    ///
    /// # Shapes
    /// - `rows`: voice, speed and symbols of each row
    /// - `frames`: `[b, 1, n]`, durations of the symbols of each row, filled up behind
    /// - returns: `[b, 1, n, most + 1]`
    pub fn scores(&self, rows: &[&[u32]], frames: Tensor<3, Int>) -> Tensor<4> {
        let condition = front(&self.prefix, rows, true, &frames.device());
        let layout = Layout::Sequence {
            len: frames.dims()[2],
        };
        let head = self.head.clone().with_layout(&layout);
        let input = head.inputs(frames, &condition);
        head.logits_of(self.backbone.forward(input, &condition))
    }

    /// Longest duration.
    pub fn most(&self) -> usize {
        self.head.config().codebook_size - 1
    }

    /// Draws how long each of the last `symbols` ids is said, with a sampler's temperature and cuts. Waits for the device.
    ///
    /// # Errors
    /// What a sampler reports.
    pub fn draw(
        &self,
        ids: &[u32],
        symbols: usize,
        sampler: &SamplerConfig,
        seed: Seed,
        device: &Device,
    ) -> Result<Vec<u32>> {
        let layout = Layout::Sequence { len: symbols };
        let head = self.head.clone().with_layout(&layout);
        let generator = Generator {
            backbone: &self.backbone,
            head: &head,
            pyramid: None,
        };
        let prompt = Codes {
            ids: Tensor::zeros([1, 1, 0], device),
            layout: layout.clone(),
        };
        let start = Start {
            condition: front(&self.prefix, &[ids], true, device),
            prompt,
        };
        let plain = SamplerConfig {
            temperature: sampler.temperature,
            top_k: sampler.top_k,
            top_p: sampler.top_p,
            ..SamplerConfig::default()
        };
        let mut sampler = plain.build(seed, &[0], layout.len());
        let on = &mut |_: &_, _: &_| std::ops::ControlFlow::Continue(());
        let codes = OneByOne.decode(&generator, start, &layout, &mut *sampler, on)?;
        Ok(codes.ids.into_data().iter::<u32>().collect())
    }
}

/// Rows of ids in front, filled up on one side.
fn front(prefix: &PrefixEmbedding, rows: &[&[u32]], on_right: bool, device: &Device) -> Condition {
    let len = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let mut ids = Vec::with_capacity(rows.len() * len);
    let mut hidden = Vec::with_capacity(rows.len() * len);
    for row in rows {
        let missing = len - row.len();
        let (before, after) = if on_right { (0, missing) } else { (missing, 0) };
        ids.extend(std::iter::repeat_n(SpeechText::PADDING as i32, before));
        ids.extend(row.iter().map(|&id| id as i32));
        ids.extend(std::iter::repeat_n(SpeechText::PADDING as i32, after));
        hidden.extend(std::iter::repeat_n(true, before));
        hidden.extend(std::iter::repeat_n(false, row.len()));
        hidden.extend(std::iter::repeat_n(true, after));
    }
    let shape = [rows.len(), len];
    let ids = Tensor::from_data(TensorData::new::<i32, _>(ids, shape), device);
    let any = hidden.iter().any(|hidden| *hidden);
    Condition {
        prefix_hidden: any.then(|| Tensor::from_data(TensorData::new(hidden, shape), device)),
        ..prefix.condition(ids)
    }
}

/// Codes of the voices that are shown, `[b, depth, n]`, and which frames there are, `[b, n]`.
fn shown_codes(rows: &[Prompt], depth: usize, device: &Device) -> (Tensor<3, Int>, Tensor<2>) {
    let frames = |row: &Prompt| row.shown.first().map_or(0, Vec::len);
    let most = rows.iter().map(frames).max().unwrap_or(0);
    let mut codes = vec![0i32; rows.len() * depth * most];
    let mut known = vec![0f32; rows.len() * most];
    for (at, row) in rows.iter().enumerate() {
        for (book, ids) in row.shown.iter().enumerate() {
            let from = (at * depth + book) * most;
            for (place, &id) in codes[from..].iter_mut().zip(ids) {
                *place = id as i32;
            }
        }
        known[at * most..][..frames(row)].fill(1.0);
    }
    (
        Tensor::from_data(TensorData::new(codes, [rows.len(), depth, most]), device),
        Tensor::from_data(TensorData::new(known, [rows.len(), most]), device),
    )
}
