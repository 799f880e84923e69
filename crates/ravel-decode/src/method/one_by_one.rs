//! One unit after another: the plain autoregressive loop.

use std::ops::ControlFlow;

use ravel_core::{Codes, Decoding, Error, Generator, Layout, Result, Sampler, Start, Unit, Watch};

/// The plain loop: embed what is known, step the backbone, let the head choose, append.
///
/// A prompt of whole units is fed through the state unit by unit and not chosen again, so that continuing
/// the beginning of a run gives the rest of that run. `watch` hears of chosen units only.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneByOne;

impl Decoding for OneByOne {
    /// # Errors
    /// [`Error::Codes`] if the prompt ends within a unit or is longer than `want`; what the head or the
    /// sampler reports.
    fn decode(
        &self,
        generator: &Generator<'_>,
        start: Start,
        want: &Layout,
        sampler: &mut dyn Sampler,
        watch: &mut Watch<'_>,
    ) -> Result<Codes> {
        let Generator {
            backbone,
            head,
            pyramid,
        } = *generator;
        let Start { condition, prompt } = start;
        let units = head.units(want);
        check_whole(&prompt, &units, want)?;
        sampler.given(&prompt);

        let mut codes = Codes {
            layout: want.clone(),
            ..prompt.clone()
        };
        codes.truncate(0);
        let prefill = head.prefill(&condition);
        let before = prefill.as_ref().map_or(0, |step| step.embedded.dims()[1]);
        let mut state = backbone.start(prompt.batch(), before + want.len());
        if let Some(prefill) = prefill {
            backbone.step(prefill, &condition, &mut state);
        }
        for unit in &units {
            let input = head.embed(&codes, unit, &condition, pyramid);
            let hidden = backbone.step(input, &condition, &mut state);
            if unit.span.end <= prompt.filled() {
                codes.extend(prompt.of_unit(unit));
                continue;
            }
            codes.extend(head.choose(hidden, unit, sampler)?);
            if let ControlFlow::Break(()) = watch(unit, &codes) {
                break;
            }
        }
        Ok(codes)
    }
}

fn check_whole(prompt: &Codes, units: &[Unit], want: &Layout) -> Result<()> {
    let given = prompt.filled();
    if given == 0 || units.iter().any(|unit| unit.span.end == given) {
        return Ok(());
    }
    Err(Error::Codes {
        found: format!("{given} given positions"),
        expected: format!("a beginning of whole units of {}", want.describe()),
    })
}
