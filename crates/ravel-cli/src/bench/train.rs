//! `ravel bench train`: how long a step of training takes.

use std::time::Instant;

use ravel_kernels::pool;
use ravel_pipeline::KeptAs;
use ravel_train::{Recipe, Steps};
use serde_json::json;

use super::limit::{Limit, Machine, Times};
use super::{sequence, use_threads};
use crate::arguments::{BenchTrainOptions, name_of};
use crate::failure::Failure;
use crate::progress::say;
use crate::{interrupt, system};

/// Rows of a step where none are asked for.
const ROWS: usize = 8;

/// What a measurement says.
struct Measured {
    name: String,
    rows: usize,
    parameters: usize,
    first: f64,
    times: Times,
    loss: Option<f64>,
    /// Predicted codes of a step.
    tokens: Option<usize>,
    limit: Option<Limit>,
}

/// Runs it.
pub fn run(options: &BenchTrainOptions) -> Result<(), Failure> {
    use_threads(options.bench.threads)?;
    ravel_kernels::machine::keep_memory();
    let (name, mut steps) = open(options)?;
    let mut machine = Machine::new(None);
    let (mut times, mut loss) = (Vec::new(), None);
    for step in 0..=options.steps {
        machine.measure();
        let begin = Instant::now();
        let values = steps.step(step)?;
        times.push(begin.elapsed().as_secs_f64());
        loss = values.get("loss").copied();
        if interrupt::asked() {
            return Err(Failure::Interrupted);
        }
    }
    let first = times.remove(0);
    let times = Times::new(times);
    let limit = steps.work.map(|step| {
        let idealised = machine.least(step.work, KeptAs::F32);
        machine.limit(step.work, idealised, times.median())
    });
    let measured = Measured {
        name,
        rows: steps.rows,
        parameters: steps.parameters,
        first,
        times,
        loss,
        tokens: steps.work.map(|step| step.tokens),
        limit,
    };
    match options.bench.json {
        true => tell(options, &measured),
        false => print(&measured),
    }
    Ok(())
}

fn open(options: &BenchTrainOptions) -> Result<(String, Steps), Failure> {
    let device = options.bench.device.device.open()?;
    if let Some(path) = &options.recipe {
        let mut recipe = Recipe::open(path)?;
        if let Some(rows) = options.batch {
            recipe.batch = rows;
        }
        return Ok((recipe.name.clone(), Steps::of_recipe(&recipe, &device)?));
    }
    let preset = options.preset.expect("a recipe or a preset");
    let name = name_of(&preset);
    let definition = sequence::definition(&name)?;
    let size = [options.batch.unwrap_or(ROWS), options.context];
    let steps = Steps::of_language(&definition, size, options.bench.seed, &device)?;
    Ok((name, steps))
}

fn tell(options: &BenchTrainOptions, measured: &Measured) {
    let median = measured.times.median();
    let row = json!({
        "name": measured.name,
        "parameters": measured.parameters,
        "rows": measured.rows,
        "steps": options.steps,
        "threads": pool::global().threads(),
        "seed": options.bench.seed,
        "seconds": {
            "first": measured.first,
            "median": median,
            "least": measured.times.at(0.0),
        },
        "tokens": measured.tokens,
        "tokens-per-second": measured.tokens.map(|tokens| tokens as f64 / median),
        "loss": measured.loss,
        "limit": measured.limit,
        "peak-mib": system::peak_mib(),
    });
    say(&row.to_string());
}

fn print(measured: &Measured) {
    say(&format!(
        "{}: {:.2} M parameters, {} rows a step, {} threads",
        measured.name,
        measured.parameters as f64 / 1e6,
        measured.rows,
        pool::global().threads()
    ));
    let median = measured.times.median();
    for (part, seconds) in [
        ("first step", measured.first),
        ("step, median", median),
        ("step, least", measured.times.at(0.0)),
    ] {
        say(&format!("{part:17} {seconds:9.4} s"));
    }
    if let Some(tokens) = measured.tokens {
        let rate = tokens as f64 / median;
        say(&format!("tokens            {rate:9.1} a second"));
    }
    match &measured.limit {
        Some(limit) => limit.print("a step"),
        None => say("idealised         unknown for this kind of recipe"),
    }
    if let Some(peak) = system::peak_mib() {
        say(&format!("{:17} {peak:9.0} MiB", "peak memory"));
    }
}
