//! One position after another, with takes that are given up: what went wrong is taken back and chosen anew.

use ravel_core::{Codes, Error, Generator, Layout, Result, Sampler, Start, Unit};

/// What follows a chosen position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The one after it.
    On,
    /// All but the first so many positions are taken back, and the next take goes on from there. A given beginning stays.
    Back(usize),
    /// Nothing more.
    Stop,
}

/// Makes the sampler of each take, counted from zero.
pub type Samplers<'a> = dyn FnMut(u64) -> Box<dyn Sampler> + 'a;

/// Hears of every chosen position, with all codes so far.
pub type WatchTakes<'a> = dyn FnMut(&Unit, &Codes) -> Next + 'a;

/// The plain loop over single positions, except that `watch` may take positions back. A given beginning is read in one step.
///
/// # Errors
/// [`Error::Codes`] if the beginning is longer than `want`, [`Error::Config`] for heads whose units are more than a position; what
/// the head or a sampler reports.
pub fn in_takes(
    generator: &Generator<'_>,
    start: Start,
    want: &Layout,
    samplers: &mut Samplers<'_>,
    watch: &mut WatchTakes<'_>,
) -> Result<Codes> {
    let Generator {
        backbone,
        head,
        pyramid,
    } = *generator;
    let Start { condition, prompt } = start;
    let units = head.units(want);
    let given = prompt.filled();
    check(&units, given, want)?;
    let mut codes = Codes {
        layout: want.clone(),
        ..prompt
    };
    let prefill = head.prefill(&condition);
    let before = prefill.as_ref().map_or(0, |step| step.embedded.dims()[1]);
    let mut state = backbone.start(codes.batch(), before + want.len());
    if let Some(prefill) = prefill {
        backbone.step(prefill, &condition, &mut state);
    }
    let mut take = 0;
    let mut sampler = samplers(take);
    sampler.given(&codes);
    while let Some(unit) = units.get(codes.filled()) {
        // What the state has not seen yet goes together with what predicts the next position.
        let step = Unit {
            index: unit.index,
            span: state.len - before..unit.span.end,
        };
        let input = head.embed(&codes, &step, &condition, pyramid);
        let hidden = backbone.step(input, &condition, &mut state);
        let last = hidden.dims()[1] - 1;
        codes.extend(head.choose(hidden.narrow(1, last, 1), unit, &mut *sampler)?);
        match watch(unit, &codes) {
            Next::On => {}
            Next::Stop => break,
            Next::Back(len) => {
                codes.truncate(len.max(given));
                state.truncate(before + codes.filled());
                take += 1;
                sampler = samplers(take);
                sampler.given(&codes);
            }
        }
    }
    Ok(codes)
}

fn check(units: &[Unit], given: usize, want: &Layout) -> Result<()> {
    if let Some(unit) = units.iter().find(|unit| unit.len() != 1) {
        return Err(Error::Config {
            field: "head".into(),
            found: format!("units of {} positions", unit.len()),
            expected: "one position after another".into(),
        });
    }
    match given > want.len() {
        true => Err(Error::Codes {
            found: format!("{given} given positions"),
            expected: format!("a beginning of {}", want.describe()),
        }),
        false => Ok(()),
    }
}
