//! `ravel bench prefill`: how long a prompt takes to be read in one pass.

use std::time::Instant;

use ravel_kernels::isa::Isa;
use ravel_kernels::pool;
use ravel_pipeline::Span;
use serde_json::json;

use super::limit::{Machine, Times};
use super::sequence::{self, Sequence};
use super::{lengths, use_threads};
use crate::arguments::{BenchPrefillOptions, name_of};
use crate::failure::Failure;
use crate::progress::say;
use crate::{interrupt, system};

/// Runs it.
pub fn run(options: &BenchPrefillOptions) -> Result<(), Failure> {
    let BenchPrefillOptions {
        positions,
        batch,
        bench,
        weights,
        ..
    } = options;
    use_threads(bench.threads)?;
    if !options.lengths.is_empty() {
        return lengths::run(options);
    }
    let device = bench.device.device;
    let device = device.open_for(sequence::kept(options.weights))?;
    let preset = name_of(&options.preset);
    let model = sequence::open(&preset, *weights, *positions, bench, &device)?;
    let mut machine = Machine::new(Some(model.costs.weight_bytes));
    let mut times = Vec::new();
    for _ in 0..=options.rounds {
        machine.measure();
        let mut rows = Sequence::new(&model, [*batch, *positions], &device);
        let ids = rows.any_ids(*positions);
        let begin = Instant::now();
        rows.append(ids);
        times.push(begin.elapsed().as_secs_f64());
        if interrupt::asked() {
            return Err(Failure::Interrupted);
        }
    }
    let first = times.remove(0);
    let times = Times::new(times);
    let work = model.costs.step(Span {
        rows: *batch,
        new: *positions,
        past: 0,
        scored: 1,
        causal: true,
    });
    let kept = sequence::kept(*weights);
    let median = times.median();
    let limit = machine.limit(work, machine.least(work, kept), median);
    let tokens_per_second = (batch * positions) as f64 / median;
    let threads = pool::global().threads();
    let peak = system::peak_mib();
    if bench.json {
        let row = json!({
            "preset": preset,
            "weights-type": kept.name(),
            "positions": positions,
            "batch": batch,
            "rounds": options.rounds,
            "threads": threads,
            "instructions": Isa::best().name(),
            "seed": bench.seed,
            "seconds": { "first": first, "median": median, "least": times.at(0.0) },
            "tokens-per-second": tokens_per_second,
            "limit": limit,
            "peak-mib": peak,
        });
        say(&row.to_string());
        return Ok(());
    }
    say(&format!(
        "{preset}: weights {}, {batch} prompts of {positions} positions, random weights, {threads} threads, {}",
        kept.name(),
        Isa::best().name()
    ));
    for (part, seconds) in [
        ("first pass", first),
        ("pass, median", median),
        ("pass, least", times.at(0.0)),
    ] {
        say(&format!("{part:17} {seconds:9.4} s"));
    }
    say(&format!(
        "tokens            {tokens_per_second:9.1} a second"
    ));
    limit.print("a pass");
    if let Some(peak) = peak {
        say(&format!("{:17} {peak:9.0} MiB", "peak memory"));
    }
    Ok(())
}
