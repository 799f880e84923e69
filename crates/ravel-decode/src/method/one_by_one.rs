//! One unit after another: the plain autoregressive loop.

use std::ops::ControlFlow;

use ravel_core::{Codes, Decoding, Generator, Layout, Result, Sampler, Start, Watch};

/// The plain loop: embed what is known, step the backbone, let the head choose, append.
///
/// A prompt of whole units is fed through the state unit by unit and not chosen again.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneByOne;

impl Decoding for OneByOne {
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
        let given = prompt.filled();
        let mut codes = Codes {
            layout: want.clone(),
            ..prompt.clone()
        };
        codes.truncate(0);
        let mut state = backbone.start(prompt.batch(), condition.prefix_len() + want.len() + 1);
        if let Some(prefill) = head.prefill(&condition) {
            backbone.step(prefill, &condition, &mut state);
        }
        for unit in head.units(want) {
            let input = head.embed(&codes, &unit, &condition, pyramid);
            let hidden = backbone.step(input, &condition, &mut state);
            if unit.span.end <= given {
                codes.extend(prompt.of_unit(&unit));
                continue;
            }
            codes.extend(head.choose(hidden, &unit, sampler)?);
            if let ControlFlow::Break(()) = watch(&unit, &codes) {
                break;
            }
        }
        Ok(codes)
    }
}
