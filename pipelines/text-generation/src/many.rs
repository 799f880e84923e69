//! Several texts side by side: one pass over the weights serves all that are under way.

use std::cell::RefCell;
use std::ops::ControlFlow;

use ravel_core::{Codes, Generator, Sampler, Start, Unit};
use ravel_decode::SideBySide;
use ravel_decode::method::{Effort, Heard, Lane};
use ravel_decode::sampler::Recorded;

use crate::{Error, Finish, Output, Request, TextGeneration, Writer, condition};

/// Texts in the order of their requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Texts {
    /// One for each request.
    pub outputs: Vec<Output>,
    /// What was computed for all of them; nothing is told of methods that have a text to themselves.
    pub effort: Effort,
}

/// Hears pieces of one text.
type Hear<'a> = Box<dyn FnMut(&str) -> ControlFlow<()> + 'a>;

impl TextGeneration {
    /// Makes a text for each request, `at_once` side by side at most: each the same as [`TextGeneration::run`] makes by itself. A text that
    /// ends makes room for the next one. Prompts are read together, and what several begin with once. `watch` is handed the number of a
    /// text and a piece of it, and may stop the run; texts that were not begun by then are empty.
    ///
    /// # Errors
    /// [`Error`] before anything is made if a request cannot be used; later what the parts report.
    pub fn run_all(
        &self,
        requests: &[Request],
        at_once: usize,
        watch: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Texts, Error> {
        let prompts = requests.iter().map(|request| self.prompt_ids(request));
        let prompts: Vec<Vec<u32>> = prompts.collect::<Result<_, _>>()?;
        if !requests.iter().all(|request| self.is_side_by_side(request)) {
            return self.one_by_one(requests, watch);
        }
        let mut samplers: Vec<Recorded> = requests
            .iter()
            .zip(&prompts)
            .map(|(request, prompt)| {
                let layout = self.layout(request, prompt);
                self.sampler(request, prompt, &layout)
            })
            .collect();
        let watch = RefCell::new(watch);
        let hear = |row: usize| {
            let watch = &watch;
            Box::new(move |piece: &str| (watch.borrow_mut())(row, piece)) as Hear<'_>
        };
        let mut hears: Vec<Hear<'_>> = (0..requests.len()).map(hear).collect();
        let writers = requests.iter().zip(&mut hears);
        let writers = writers.map(|(request, hear)| Writer::new(self, request, &mut **hear));
        let mut writers: Vec<Writer<'_>> = writers.collect();
        let lanes = requests.iter().zip(&prompts).zip(&mut samplers);
        let lanes = lanes.map(|((request, prompt), sampler)| self.lane(request, prompt, sampler));
        let lanes = lanes.collect();
        let generator = Generator {
            backbone: &self.parts.backbone,
            head: &self.parts.head,
            pyramid: None,
        };
        let mut heard = |lane: usize, _: &Unit, codes: &Codes| {
            let writer = &mut writers[lane];
            match writer.take_new(codes) {
                ControlFlow::Continue(()) => Heard::On,
                ControlFlow::Break(()) if writer.finish == Some(Finish::Interrupted) => Heard::Stop,
                ControlFlow::Break(()) => Heard::Done,
            }
        };
        let (_, effort) = self
            .side_by_side(at_once)
            .run(&generator, lanes, &mut heard)?;
        let stopped = writers
            .iter()
            .any(|writer| writer.finish == Some(Finish::Interrupted));
        let made = writers
            .into_iter()
            .zip(requests)
            .zip(prompts.iter().zip(&samplers));
        let outputs = made.map(|((mut writer, request), (prompt, sampler))| {
            if stopped && writer.finish.is_none() {
                writer.finish = Some(Finish::Interrupted);
            }
            let (text, ids, finish) = writer.finish()?;
            Ok(Output {
                text,
                ids,
                tokens: request.logprobs.map(|_| self.tokens(sampler)).transpose()?,
                prompt_tokens: prompt.len(),
                finish,
                drafts: None,
            })
        });
        Ok(Texts {
            outputs: outputs.collect::<Result<_, Error>>()?,
            effort,
        })
    }

    /// Checks a request before anything is computed.
    ///
    /// # Errors
    /// [`Error`] if it cannot be used.
    pub fn check(&self, request: &Request) -> Result<(), Error> {
        self.prompt_ids(request).map(|_| ())
    }

    /// Whether a text can be made beside others.
    pub(crate) fn is_side_by_side(&self, request: &Request) -> bool {
        self.draft.is_none() && request.decoding.is_one_by_one()
    }

    fn one_by_one(
        &self,
        requests: &[Request],
        watch: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Texts, Error> {
        let made = requests.iter().enumerate();
        let made = made.map(|(row, request)| self.run(request, &mut |piece| watch(row, piece)));
        Ok(Texts {
            outputs: made.collect::<Result<_, _>>()?,
            effort: Effort::default(),
        })
    }

    fn lane<'a>(
        &self,
        request: &Request,
        prompt: &[u32],
        sampler: &'a mut dyn Sampler,
    ) -> Lane<'a> {
        let want = self.layout(request, prompt);
        Lane {
            start: Start {
                condition: condition(&self.parts, prompt),
                prompt: self.codes(&[], &want),
            },
            want,
            sampler,
            // The last id predicts the first new one.
            prefix: prompt[..prompt.len() - 1].to_vec(),
        }
    }

    fn side_by_side(&self, at_once: usize) -> SideBySide {
        let rotary = self.parts.backbone.config().rotary.as_ref();
        let whole = rotary.is_some_and(|rotary| rotary.depends_on_length());
        let own = SideBySide::default();
        SideBySide {
            lanes: at_once,
            cut: own.cut.filter(|_| !whole),
            ..own
        }
    }
}
