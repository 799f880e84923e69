//! Several generations side by side: the weights are read once for all that are under way, each ends when it ends, and the next one that
//! waits takes its place (Orca, Yu et al. 2022, section 3.1: scheduling step by step).
//!
//! Every generation has a state of its own, so none is filled up to the length of another. Prompts that wait are read together in
//! bins ([`packed`]), cut at fixed places. What a prompt begins with is read once where another one begins so too; since the cuts are the
//! same for all, what is remembered is the same numbers whoever read it, and a generation is the same alone and among others wherever
//! the backbone's steps are.

use std::collections::VecDeque;

use ravel_core::{
    Attend, Codes, Error, Generator, Layout, Result, Sampler, Start, State, Step, StepInput, Unit,
};

use super::packing::packed;

/// One generation among others.
pub struct Lane<'a> {
    /// Where it begins.
    pub start: Start,
    /// What is wanted.
    pub want: Layout,
    /// What picks its ids.
    pub sampler: &'a mut dyn Sampler,
    /// What the positions of its prefix stand for, if prefixes that begin with the same ids are the same there.
    pub prefix: Vec<u32>,
}

/// What becomes of a generation after a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It goes on.
    On,
    /// It is done; the others go on.
    Done,
    /// Nothing goes on.
    Stop,
}

/// What was computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effort {
    /// Positions of prompts that were read.
    pub read: usize,
    /// Positions of prompts that were remembered from another one.
    pub remembered: usize,
    /// Passes in which prompts were read.
    pub passes: usize,
    /// Steps of all generations under way.
    pub steps: usize,
    /// Units of single generations in these steps.
    pub units: usize,
}

/// How many at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideBySide {
    /// Generations that are under way at most; at least 1.
    pub lanes: usize,
    /// Positions of prompts in a pass at most.
    pub room: usize,
    /// Positions after which every prompt is cut, if its positions see only earlier ones; no prompt is cut, and none remembered, if
    /// unset.
    pub cut: Option<usize>,
    /// Beginnings of prompts that are remembered at most.
    pub beginnings: usize,
}

impl Default for SideBySide {
    fn default() -> Self {
        Self {
            lanes: 8,
            room: 512,
            cut: Some(64),
            beginnings: 4,
        }
    }
}

/// Hears of every chosen unit: which generation, the unit, its codes so far.
pub type WatchLanes<'a> = dyn FnMut(usize, &Unit, &Codes) -> Heard + 'a;

/// A generation under way.
struct Under {
    lane: usize,
    state: State,
    codes: Codes,
    units: Vec<Unit>,
    next: usize,
}

/// A prompt that is being read.
struct Prompt {
    lane: usize,
    input: Option<StepInput>,
    /// Positions of the whole.
    len: usize,
    cut: Option<usize>,
    state: State,
    /// Positions that were there when its reading began.
    known: usize,
}

/// A beginning that was read.
struct Beginning {
    ids: Vec<u32>,
    state: State,
}

impl SideBySide {
    /// Codes of every lane; fewer than wanted where `watch` ended it, none where everything was stopped before it began.
    ///
    /// # Errors
    /// [`Error::Codes`] if a given beginning ends within a unit or is longer than wanted; what the head or a sampler reports.
    pub fn run(
        &self,
        generator: &Generator<'_>,
        mut lanes: Vec<Lane<'_>>,
        watch: &mut WatchLanes<'_>,
    ) -> Result<(Vec<Codes>, Effort)> {
        for lane in &mut lanes {
            check(generator, lane)?;
            lane.sampler.given(&lane.start.prompt);
        }
        let mut all: Vec<Codes> = lanes
            .iter()
            .map(|lane| empty(&lane.start.prompt, lane))
            .collect();
        let mut effort = Effort::default();
        let mut beginnings = Vec::new();
        let mut waiting: VecDeque<usize> = (0..lanes.len()).collect();
        let mut under: Vec<Under> = Vec::new();
        loop {
            let free = self.lanes.max(1) - under.len();
            let new: Vec<usize> = waiting.drain(..free.min(waiting.len())).collect();
            under.extend(self.begun(
                generator,
                &lanes,
                new,
                &waiting,
                &mut beginnings,
                &mut effort,
            ));
            if under.is_empty() {
                return Ok((all, effort));
            }
            let stopped = step(generator, &mut lanes, &mut under, watch, &mut effort)?;
            under.retain(|one| {
                let done = stopped || one.next == one.units.len();
                if done {
                    all[one.lane] = one.codes.clone();
                }
                !done
            });
            if stopped {
                return Ok((all, effort));
            }
        }
    }

    /// Generations whose prompts are read.
    fn begun(
        &self,
        generator: &Generator<'_>,
        lanes: &[Lane<'_>],
        mut new: Vec<usize>,
        waiting: &VecDeque<usize>,
        beginnings: &mut Vec<Beginning>,
        effort: &mut Effort,
    ) -> Vec<Under> {
        let mut under = Vec::new();
        while !new.is_empty() {
            // Who begins like another one of these waits until that is read.
            let (later, now): (Vec<usize>, Vec<usize>) = new.iter().partition(|&&lane| {
                let known = self.known(&lanes[lane].prefix, beginnings).0;
                let before = new.iter().take_while(|&&other| other != lane);
                let mut before = before.map(|&other| &lanes[other].prefix);
                before.any(|other| self.shared(&lanes[lane].prefix, other) > known)
            });
            let prompts = now.iter().map(|&lane| {
                let prompt = self.prompt(generator, &lanes[lane], lane, beginnings);
                effort.remembered += prompt.known;
                effort.read += prompt.len - prompt.known;
                prompt
            });
            let mut prompts: Vec<Prompt> = prompts.collect();
            self.read(generator, lanes, &mut prompts, effort);
            for prompt in prompts {
                let others = later.iter().chain(waiting);
                let others = others.map(|&lane| &lanes[lane].prefix);
                self.remember(&prompt, &lanes[prompt.lane].prefix, others, beginnings);
                under.push(start(generator, &lanes[prompt.lane], prompt));
            }
            new = later;
        }
        // Samplers are asked in the order of the lanes.
        under.sort_by_key(|one: &Under| one.lane);
        under
    }

    /// Positions at which both begin alike, up to a cut.
    fn shared(&self, a: &[u32], b: &[u32]) -> usize {
        let Some(cut) = self.cut else {
            return 0;
        };
        let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        same / cut * cut
    }

    /// How much of a prefix is remembered, and where.
    fn known(&self, prefix: &[u32], beginnings: &[Beginning]) -> (usize, Option<usize>) {
        let each = beginnings.iter().enumerate();
        let each = each.map(|(at, one)| (self.shared(prefix, &one.ids), Some(at)));
        each.filter(|(len, _)| *len > 0)
            .max_by_key(|(len, _)| *len)
            .unwrap_or((0, None))
    }

    /// A prompt before it is read, with what is remembered of it.
    fn prompt(
        &self,
        generator: &Generator<'_>,
        lane: &Lane<'_>,
        number: usize,
        beginnings: &[Beginning],
    ) -> Prompt {
        let input = generator.head.prefill(&lane.start.condition);
        let len = input.as_ref().map_or(0, |input| input.embedded.dims()[1]);
        let causal = input.as_ref().is_some_and(|input| match &input.attend {
            Attend::Causal => true,
            Attend::Blocks(runs) => runs.iter().all(|&run| run == 1),
            _ => len == 1,
        });
        let cut = self.cut.filter(|_| causal);
        let capacity = len + lane.want.len();
        // The last position of a prefix may belong to the first unit, not to what is read here.
        let prefix = &lane.prefix[..len.min(lane.prefix.len())];
        let known = cut.map(|_| self.known(prefix, beginnings));
        let (known, state) = match known {
            Some((known, Some(at))) => (known, beginnings[at].state.beginning(known, capacity)),
            _ => {
                let rows = lane.start.prompt.batch();
                (0, generator.backbone.start(rows, capacity))
            }
        };
        Prompt {
            lane: number,
            input,
            len,
            cut,
            state,
            known,
        }
    }

    /// Reads prompts piece by piece, pieces of several in one pass.
    fn read(
        &self,
        generator: &Generator<'_>,
        lanes: &[Lane<'_>],
        prompts: &mut [Prompt],
        effort: &mut Effort,
    ) {
        loop {
            let mut left: Vec<Option<&mut Prompt>> = prompts
                .iter_mut()
                .filter(|prompt| prompt.state.len < prompt.len)
                .map(Some)
                .collect();
            if left.is_empty() {
                return;
            }
            let lengths = left.iter().flatten().map(|prompt| {
                let rows = prompt.state.batch;
                rows * prompt.piece()
            });
            let lengths: Vec<usize> = lengths.collect();
            for bin in packed(&lengths, self.room) {
                let steps = bin.into_iter().map(|at| {
                    let prompt = left[at].take().expect("a piece is in one bin");
                    let condition = &lanes[prompt.lane].start.condition;
                    prompt.step(condition)
                });
                let steps: Vec<Step<'_>> = steps.collect();
                generator.backbone.step_each(steps);
                effort.passes += 1;
            }
        }
    }

    /// Keeps the beginning of a prompt that was read, if another one that waits begins so too and nothing longer is kept.
    fn remember<'a>(
        &self,
        prompt: &Prompt,
        prefix: &[u32],
        mut others: impl Iterator<Item = &'a Vec<u32>>,
        beginnings: &mut Vec<Beginning>,
    ) {
        let Some(cut) = prompt.cut else {
            return;
        };
        let read = &prefix[..prompt.len.min(prefix.len())];
        let len = read.len() / cut * cut;
        let known = self.known(read, beginnings).0;
        if len <= known || !others.any(|other| self.shared(other, &read[..len]) > known) {
            return;
        }
        if beginnings.len() >= self.beginnings.max(1) {
            beginnings.remove(0);
        }
        beginnings.push(Beginning {
            ids: read[..len].to_vec(),
            state: prompt.state.beginning(len, len),
        });
    }
}

impl Prompt {
    /// Positions of its next piece.
    fn piece(&self) -> usize {
        let left = self.len - self.state.len;
        self.cut.map_or(left, |cut| left.min(cut))
    }

    fn step<'a>(&'a mut self, condition: &'a ravel_core::Condition) -> Step<'a> {
        let (at, n) = (self.state.len, self.piece());
        let whole = self.input.as_ref().expect("there is something to read");
        let input = match n == self.len {
            true => whole.clone(),
            false => StepInput {
                embedded: whole.embedded.clone().narrow(1, at, n),
                coords: whole.coords.clone().narrow(0, at, n),
                attend: Attend::Causal,
            },
        };
        Step {
            input,
            condition,
            state: &mut self.state,
        }
    }
}

fn empty(prompt: &Codes, lane: &Lane<'_>) -> Codes {
    let mut codes = Codes {
        layout: lane.want.clone(),
        ..prompt.clone()
    };
    codes.truncate(0);
    codes
}

fn start(generator: &Generator<'_>, lane: &Lane<'_>, prompt: Prompt) -> Under {
    Under {
        lane: prompt.lane,
        state: prompt.state,
        codes: empty(&lane.start.prompt, lane),
        units: generator.head.units(&lane.want),
        next: 0,
    }
}

/// One unit of every generation under way; whether everything is to stop.
fn step(
    generator: &Generator<'_>,
    lanes: &mut [Lane<'_>],
    under: &mut [Under],
    watch: &mut WatchLanes<'_>,
    effort: &mut Effort,
) -> Result<bool> {
    let Generator {
        backbone,
        head,
        pyramid,
    } = *generator;
    let units: Vec<Unit> = under
        .iter()
        .map(|one| one.units[one.next].clone())
        .collect();
    let steps = under.iter_mut().zip(&units).map(|(one, unit)| {
        let condition = &lanes[one.lane].start.condition;
        Step {
            input: head.embed(&one.codes, unit, condition, pyramid),
            condition,
            state: &mut one.state,
        }
    });
    let hidden = backbone.step_each(steps.collect());
    effort.steps += 1;
    effort.units += under.len();
    let given = |lane: &Lane<'_>, unit: &Unit| unit.span.end <= lane.start.prompt.filled();
    // What is given is not chosen again.
    let chosen: Vec<bool> = under
        .iter()
        .zip(&units)
        .map(|(one, unit)| !given(&lanes[one.lane], unit))
        .collect();
    let asked: Vec<usize> = (0..under.len()).filter(|&at| chosen[at]).collect();
    let of = |at: &usize| under[*at].lane;
    let wanted: Vec<usize> = asked.iter().map(of).collect();
    let samplers = lanes.iter_mut().enumerate();
    let samplers = samplers.filter(|(lane, _)| wanted.contains(lane));
    let samplers: Vec<&mut dyn Sampler> =
        samplers.map(|(_, lane)| &mut *lane.sampler as _).collect();
    let asked_units: Vec<&Unit> = asked.iter().map(|&at| &units[at]).collect();
    let mut hidden: Vec<_> = hidden.into_iter().map(Some).collect();
    let asked_hidden = asked.iter().filter_map(|&at| hidden[at].take()).collect();
    let mut ids = head
        .choose_each(asked_hidden, &asked_units, samplers)?
        .into_iter();
    let mut stopped = false;
    for ((one, unit), chosen) in under.iter_mut().zip(&units).zip(chosen) {
        one.next += 1;
        if !chosen {
            let prompt = &lanes[one.lane].start.prompt;
            one.codes.extend(prompt.of_unit(unit));
            continue;
        }
        one.codes
            .extend(ids.next().expect("ids of every chosen unit"));
        match watch(one.lane, unit, &one.codes) {
            Heard::On => {}
            Heard::Done => one.next = one.units.len(),
            Heard::Stop => stopped = true,
        }
    }
    Ok(stopped)
}

/// Whether a given beginning is whole units of what is wanted.
fn check(generator: &Generator<'_>, lane: &Lane<'_>) -> Result<()> {
    let given = lane.start.prompt.filled();
    let units = generator.head.units(&lane.want);
    if given == 0 || units.iter().any(|unit| unit.span.end == given) {
        return Ok(());
    }
    Err(Error::Codes {
        found: format!("{given} given positions"),
        expected: format!("a beginning of whole units of {}", lane.want.describe()),
    })
}
