//! Text generation: a prompt or a conversation becomes text, piece by piece.
//!
//! The prompt's ids stand in front of the codes as a prefix, so that all of them are read at once; what is chosen streams out as
//! whole characters, and never past a stop string. A text follows from its request alone.

mod chat;
mod date;
mod draft;
mod many;
mod measure;
mod published;
mod python;
mod stop;

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::{Codes, Condition, Decoding, Generator, Layout, Sampler, Seed, Start};
use ravel_decode::method::Tally;
use ravel_decode::sampler::Recorded;
use ravel_decode::{DecodingConfig, SamplerConfig};
use ravel_pipeline::LanguageParts;
use ravel_text::TextError;

pub use chat::{ChatError, ChatTemplates, Message, Role};
pub use date::Date;
use draft::Draft;
pub use many::Texts;
pub use measure::{Measure, MeasureError};
pub use published::{PUBLISHED, SHAPES};
pub use stop::StopScan;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is to go on.
    pub prompt: Prompt,
    /// Ids that are made at most; the model's context may end a text earlier.
    pub max_tokens: usize,
    /// Texts before which the text ends. They may lie across ids.
    pub stop: Vec<String>,
    /// With each id, so many of the most likely ones and their log-probabilities, if asked for.
    pub logprobs: Option<usize>,
    /// The source of all randomness.
    pub seed: u64,
    /// How ids are drawn. Methods that choose by themselves take the penalties alone.
    pub sampler: SamplerConfig,
    /// How ids follow one another.
    pub decoding: DecodingConfig,
}

/// What is to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A beginning.
    Text(String),
    /// A conversation that a chat template wrote out, special tokens included.
    Chat(String),
}

/// Why a text ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    End,
    /// A stop string came.
    Stop(String),
    /// All ids that were asked for, or that fit, are made.
    Length,
    /// Whoever watched stopped it.
    Interrupted,
}

impl Finish {
    /// The reason in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Stop(_) => "stop",
            Self::Length => "length",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One id with the model's own log-probabilities (natural, before temperature and filters).
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// The id.
    pub id: u32,
    /// Its text on its own.
    pub text: String,
    /// Its log-probability.
    pub logprob: f32,
    /// The most likely ids with theirs, most likely first.
    pub top: Vec<(u32, String, f32)>,
}

/// A text.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// What was made, without the prompt.
    pub text: String,
    /// Its ids, the one that ended it included.
    pub ids: Vec<u32>,
    /// Ids with their log-probabilities, where they were asked for.
    pub tokens: Option<Vec<Token>>,
    /// Ids of the prompt.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub finish: Finish,
    /// What became of drafted ids, where a second model drafts.
    pub drafts: Option<Tally>,
}

/// What is wrong with a request, or what the parts report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A prompt without ids.
    #[error("the prompt is empty; give the text a beginning")]
    Empty,
    /// No id is asked for.
    #[error("0 tokens are asked for, 1 at least is expected")]
    Nothing,
    /// A prompt that fills the model's context.
    #[error(
        "the prompt has {found} tokens, this model sees {context} at once and needs one for what it makes; shorten it"
    )]
    TooLong {
        /// Ids of the prompt.
        found: usize,
        /// Positions of the model.
        context: usize,
    },
    /// Log-probabilities of ids that are not picked one by one.
    #[error("log-probabilities are noted only where ids are chosen one by one")]
    LogProbs,
    /// A model that drafts beside a method that draws nothing.
    #[error(
        "a draft goes with ids that are drawn one by one, not with beams or contrastive search"
    )]
    DraftMethod,
    /// A model that drafts and reads other ids.
    #[error("{draft} cannot draft for {model}: {reason}")]
    Draft {
        /// The pipeline that drafts.
        draft: String,
        /// The pipeline that judges.
        model: String,
        /// How their vocabularies differ.
        reason: String,
    },
    /// A stop string without letters.
    #[error("a stop string is empty")]
    EmptyStop,
    /// An id that the model has no row for.
    #[error(
        "the prompt's token {id} is beyond the model's {rows} ids: the vocabulary belongs to another model"
    )]
    Id {
        /// The id.
        id: u32,
        /// Rows of the model's table.
        rows: usize,
    },
    /// The vocabulary's rules cannot be applied.
    #[error(transparent)]
    Text(#[from] TextError),
    /// What the parts report.
    #[error(transparent)]
    Part(#[from] ravel_core::Error),
}

/// A text-generation pipeline.
pub struct TextGeneration {
    parts: LanguageParts,
    draft: Option<Draft>,
}

impl TextGeneration {
    /// A pipeline of built parts.
    pub fn new(parts: LanguageParts) -> Self {
        Self { parts, draft: None }
    }

    /// The parts.
    pub fn parts(&self) -> &LanguageParts {
        &self.parts
    }

    /// Makes a text. `watch` is handed each piece as soon as it is certain (an empty one while a method has settled nothing) and may
    /// stop the run.
    ///
    /// # Errors
    /// [`Error`] before anything is made if the request cannot be used; later what the parts report.
    pub fn run(
        &self,
        request: &Request,
        watch: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Output, Error> {
        if self.is_side_by_side(request) {
            let watch = &mut |_: usize, piece: &str| watch(piece);
            let texts = self.run_all(std::slice::from_ref(request), 1, watch)?;
            return Ok(texts.outputs.into_iter().next().expect("one text"));
        }
        self.run_by_method(request, watch)
    }

    /// Makes a text by a method that has it to itself.
    fn run_by_method(
        &self,
        request: &Request,
        watch: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Output, Error> {
        let prompt = self.prompt_ids(request)?;
        let layout = self.layout(request, &prompt);
        let seed = Seed::new(request.seed).named("text-generation");
        let mut sampler = self.sampler(request, &prompt, &layout);
        let mut writer = Writer::new(self, request, watch);
        let generator = Generator {
            backbone: &self.parts.backbone,
            head: &self.parts.head,
            pyramid: None,
        };
        let start = Start {
            condition: condition(&self.parts, &prompt),
            prompt: self.codes(&[], &layout),
        };
        let speculative = self.draft.as_ref();
        let speculative = speculative.map(|draft| draft.method(&prompt, seed));
        let built;
        let method: &dyn Decoding = match &speculative {
            Some(method) => method,
            None => {
                built = request.decoding.build(&self.parts.ends);
                &*built
            }
        };
        method.decode(&generator, start, &layout, &mut sampler, &mut |_, codes| {
            writer.take_new(codes)
        })?;
        let (text, ids, finish) = writer.finish()?;
        let tokens = request.logprobs.map(|_| self.tokens(&sampler));
        Ok(Output {
            text,
            ids,
            tokens: tokens.transpose()?,
            prompt_tokens: prompt.len(),
            finish,
            drafts: speculative.map(|method| method.tally.get()),
        })
    }

    /// Ids of the prompt, after every check that needs no model.
    fn prompt_ids(&self, request: &Request) -> Result<Vec<u32>, Error> {
        request.sampler.validate()?;
        if request.sampler.is_guided() {
            return Err(Error::Part(ravel_core::Error::Config {
                field: "sampler.guidance".into(),
                found: "not zero".into(),
                expected: "0, since text is not conditioned".into(),
            }));
        }
        request.decoding.validate()?;
        if request.max_tokens == 0 {
            return Err(Error::Nothing);
        }
        self.check_method(request)?;
        if request.stop.iter().any(String::is_empty) {
            return Err(Error::EmptyStop);
        }
        let vocabulary = &self.parts.vocabulary;
        let ids = match &request.prompt {
            Prompt::Text(text) if text.is_empty() => return Err(Error::Empty),
            Prompt::Text(text) => vocabulary.encode(text, true)?.ids,
            Prompt::Chat(text) => vocabulary.encode(text, false)?.ids,
        };
        let (found, context) = (ids.len(), self.context());
        if found == 0 {
            return Err(Error::Empty);
        }
        if found >= context {
            return Err(Error::TooLong { found, context });
        }
        let rows = self.parts.head.config().codebook_size;
        match ids.iter().find(|id| **id as usize >= rows) {
            Some(&id) => Err(Error::Id { id, rows }),
            None => Ok(ids),
        }
    }

    fn check_method(&self, request: &Request) -> Result<(), Error> {
        let one_by_one = request.decoding.is_one_by_one();
        if self.draft.is_some() && !one_by_one {
            return Err(Error::DraftMethod);
        }
        match request.logprobs.is_some() && (self.draft.is_some() || !one_by_one) {
            true => Err(Error::LogProbs),
            false => Ok(()),
        }
    }

    /// The places of what is made after a prompt.
    fn layout(&self, request: &Request, prompt: &[u32]) -> Layout {
        let room = self.context() - prompt.len();
        Layout::Sequence {
            len: request.max_tokens.min(room),
        }
    }

    /// What picks a request's ids, after its prompt: penalties also see what was given.
    fn sampler(&self, request: &Request, prompt: &[u32], layout: &Layout) -> Recorded {
        let seed = Seed::new(request.seed).named("text-generation");
        let mut sampler = Recorded {
            inner: sampler_for(request).build(seed, &[0], layout.len()),
            top: request.logprobs,
            picks: Vec::new(),
        };
        sampler.given(&self.codes(prompt, layout));
        sampler
    }

    fn codes(&self, ids: &[u32], layout: &Layout) -> Codes {
        let values = ids.iter().map(|&id| id as i32).collect();
        let data = TensorData::new::<i32, _>(values, [1, 1, ids.len()]);
        Codes {
            ids: Tensor::from_data(data, &self.parts.device),
            layout: layout.clone(),
        }
    }

    fn tokens(&self, sampler: &Recorded) -> Result<Vec<Token>, Error> {
        let text = |id: u32| self.parts.vocabulary.decode(&[id], false);
        let tokens = sampler.picks.iter().map(|pick| {
            let top = pick
                .top
                .iter()
                .map(|&(id, logprob)| Ok((id, text(id)?, logprob)));
            Ok(Token {
                id: pick.id,
                text: text(pick.id)?,
                logprob: pick.logprob,
                top: top.collect::<Result<_, TextError>>()?,
            })
        });
        tokens.collect()
    }
}

/// A prompt as a model reads it.
fn condition(parts: &LanguageParts, ids: &[u32]) -> Condition {
    let values = ids.iter().map(|&id| id as i32).collect();
    let data = TensorData::new::<i32, _>(values, [1, ids.len()]);
    let ids: Tensor<2, Int> = Tensor::from_data(data, &parts.device);
    Condition {
        prefix: Some(parts.head.embedded(ids)),
        ..Condition::default()
    }
}

/// The request's settings; where nothing is drawn, its penalties alone.
fn sampler_for(request: &Request) -> SamplerConfig {
    match request.decoding.is_one_by_one() {
        true => request.sampler.clone(),
        false => SamplerConfig {
            temperature: 0.0,
            typical: None,
            ..request.sampler.clone()
        },
    }
}

/// The ids from `known` on. Waits for the device.
fn ids_after(codes: &Codes, known: usize) -> Vec<u32> {
    let new = codes.filled() - known;
    if new == 0 {
        return Vec::new();
    }
    let data = codes.ids.clone().narrow(2, known, new);
    let data = data.into_data().convert::<u32>();
    data.try_into_vec().expect("ids were converted to u32")
}

/// Turns ids into pieces of text for whoever watches, and notes why the text ends.
struct Writer<'a> {
    ends: &'a [u32],
    stream: ravel_text::TextStream<'a>,
    stop: StopScan,
    watch: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    text: String,
    ids: Vec<u32>,
    finish: Option<Finish>,
    failed: Option<TextError>,
}

impl<'a> Writer<'a> {
    fn new(
        pipeline: &'a TextGeneration,
        request: &Request,
        watch: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Self {
        Self {
            ends: &pipeline.parts.ends,
            stream: pipeline.parts.vocabulary.stream(true),
            stop: StopScan::new(request.stop.clone()),
            watch,
            text: String::new(),
            ids: Vec::new(),
            finish: None,
            failed: None,
        }
    }

    /// Takes the ids that are new; where there are none yet, whoever watches may still stop the run.
    fn take_new(&mut self, codes: &Codes) -> ControlFlow<()> {
        let new = ids_after(codes, self.ids.len());
        if new.is_empty() {
            return self.tell("");
        }
        new.into_iter().try_for_each(|id| self.take(id))
    }

    fn take(&mut self, id: u32) -> ControlFlow<()> {
        self.ids.push(id);
        if self.ends.contains(&id) {
            self.finish = Some(Finish::End);
            return ControlFlow::Break(());
        }
        match self.stream.push(id) {
            Ok(piece) => self.show(&piece),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// What is certain of the text after one more piece.
    fn show(&mut self, piece: &str) -> ControlFlow<()> {
        let (certain, stopped) = self.stop.push(piece);
        self.emit(&certain)?;
        match stopped {
            Some(stop) => {
                self.finish = Some(Finish::Stop(stop));
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    }

    fn emit(&mut self, piece: &str) -> ControlFlow<()> {
        if piece.is_empty() {
            return ControlFlow::Continue(());
        }
        self.text.push_str(piece);
        self.tell(piece)
    }

    fn tell(&mut self, piece: &str) -> ControlFlow<()> {
        let flow = (self.watch)(piece);
        if flow.is_break() {
            self.finish = Some(Finish::Interrupted);
        }
        flow
    }

    /// Hands out what was held back, unless the text was stopped.
    fn finish(mut self) -> Result<(String, Vec<u32>, Finish), Error> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        if !matches!(self.finish, Some(Finish::Stop(_) | Finish::Interrupted)) {
            let rest = self.stream.finish()?;
            let flow = self.show(&rest);
            if flow.is_continue() {
                let held = self.stop.finish();
                let _ = self.emit(&held);
            }
        }
        Ok((self.text, self.ids, self.finish.unwrap_or(Finish::Length)))
    }
}
