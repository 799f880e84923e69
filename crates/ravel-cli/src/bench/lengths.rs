//! `ravel bench prefill --lengths`: prompts of different lengths, read together without being filled up, filled up to the longest, and
//! one after the other (prepacking, Zhao et al. 2024).

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::{
    Attend, Backbone, Codes, Condition, Generator, Layout, Sampler, Seed, Start, StepInput, Unit,
};
use ravel_decode::method::{Heard, Lane};
use ravel_decode::{SamplerConfig, SideBySide};
use ravel_kernels::isa::Isa;
use ravel_kernels::pool;
use ravel_pipeline::FreshLanguage;
use serde::Serialize;
use serde_json::json;

use super::limit::Times;
use super::sequence;
use crate::arguments::{BenchPrefillOptions, Way, name_of};
use crate::failure::Failure;
use crate::progress::say;
use crate::{interrupt, system};

/// One way of reading them.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Told {
    /// Positions that are computed.
    positions: usize,
    /// Seconds of all prompts, the middle one and the least.
    seconds: f64,
    least: f64,
}

/// Runs it.
pub fn run(options: &BenchPrefillOptions) -> Result<(), Failure> {
    let (bench, lengths) = (&options.bench, &options.lengths);
    let device = bench.device.device;
    let device = device.open_for(sequence::kept(options.weights))?;
    let preset = name_of(&options.preset);
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let model = sequence::open(&preset, options.weights, longest + 1, bench, &device)?;
    let ways = match options.way {
        Some(way) => vec![way],
        None => vec![Way::Packed, Way::Padded, Way::Alone],
    };
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..=options.rounds {
        for &way in &ways {
            let begin = Instant::now();
            read(way, &model, lengths, &device)?;
            if round > 0 {
                let seconds = begin.elapsed().as_secs_f64();
                times.entry(name(way)).or_default().push(seconds);
            }
            if interrupt::asked() {
                return Err(Failure::Interrupted);
            }
        }
    }
    let told = ways.iter().map(|&way| {
        let seconds = Times::new(times.remove(name(way)).unwrap_or_default());
        let told = Told {
            positions: match way {
                Way::Padded => lengths.len() * longest,
                _ => lengths.iter().sum(),
            },
            seconds: seconds.median(),
            least: seconds.at(0.0),
        };
        (name(way), told)
    });
    let told: Vec<(&str, Told)> = told.collect();
    report(options, &preset, &told);
    Ok(())
}

fn name(way: Way) -> &'static str {
    match way {
        Way::Packed => "packed",
        Way::Padded => "padded",
        Way::Alone => "alone",
    }
}

fn read(
    way: Way,
    model: &FreshLanguage,
    lengths: &[usize],
    device: &Device,
) -> Result<(), Failure> {
    match way {
        Way::Packed => {
            let how = SideBySide {
                lanes: lengths.len(),
                ..SideBySide::default()
            };
            side_by_side(how, model, lengths, device)
        }
        Way::Alone => {
            let how = SideBySide {
                lanes: 1,
                cut: None,
                ..SideBySide::default()
            };
            side_by_side(how, model, lengths, device)
        }
        Way::Padded => {
            padded(model, lengths, device);
            Ok(())
        }
    }
}

/// Ids that say nothing, as the model reads them, `[1, n, d_model]`.
fn embedded(model: &FreshLanguage, n: usize, device: &Device) -> Tensor<3> {
    let ids: Vec<i64> = (0..n).map(|at| (at % 97) as i64).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, n]), device);
    model.head.embedded(ids)
}

/// Every prompt with a state of its own, until its first id is chosen.
fn side_by_side(
    how: SideBySide,
    model: &FreshLanguage,
    lengths: &[usize],
    device: &Device,
) -> Result<(), Failure> {
    let want = Layout::Sequence { len: 1 };
    let likeliest = SamplerConfig {
        temperature: 0.0,
        ..SamplerConfig::default()
    };
    let samplers = lengths
        .iter()
        .map(|_| likeliest.build(Seed::new(0), &[0], 1));
    let mut samplers: Vec<Box<dyn Sampler>> = samplers.collect();
    let lanes = lengths.iter().zip(&mut samplers).map(|(&n, sampler)| Lane {
        start: Start {
            condition: Condition {
                prefix: Some(embedded(model, n, device)),
                ..Condition::default()
            },
            prompt: Codes {
                ids: Tensor::zeros([1, 1, 0], device),
                layout: want.clone(),
            },
        },
        want: want.clone(),
        sampler: &mut **sampler,
        // Nothing is known of them, so each is read.
        prefix: Vec::new(),
    });
    let generator = Generator {
        backbone: &model.backbone,
        head: &model.head,
        pyramid: None,
    };
    let mut on = |_: usize, _: &Unit, _: &Codes| Heard::On;
    how.run(&generator, lanes.collect(), &mut on)?;
    Ok(())
}

/// All prompts in one batch, shorter ones filled up on the left with positions that nothing sees.
fn padded(model: &FreshLanguage, lengths: &[usize], device: &Device) {
    let (rows, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(1));
    let hidden = lengths
        .iter()
        .flat_map(|n| (0..longest).map(move |at| at < longest - n));
    let hidden = TensorData::new(hidden.collect::<Vec<bool>>(), [rows, longest]);
    let condition = Condition {
        prefix_hidden: Some(Tensor::from_data(hidden, device)),
        ..Condition::default()
    };
    let row = embedded(model, longest, device);
    let axes = model.backbone.config().axes();
    let places = Tensor::<1, Int>::arange(0..longest as i64, device);
    let input = StepInput {
        embedded: Tensor::cat(vec![row; rows], 0),
        coords: places.unsqueeze_dim::<2>(1).repeat_dim(1, axes),
        attend: Attend::Causal,
    };
    let mut state = model.backbone.start(rows, longest);
    let hidden = model.backbone.step(input, &condition, &mut state);
    // Waits for the numbers.
    let _ = (model.head)
        .scores(hidden.narrow(1, longest - 1, 1))
        .into_data();
}

fn report(options: &BenchPrefillOptions, preset: &str, told: &[(&str, Told)]) {
    let (threads, kept) = (
        pool::global().threads(),
        sequence::kept(options.weights).name(),
    );
    let peak = system::peak_mib();
    if options.bench.json {
        let ways: BTreeMap<&str, &Told> = told.iter().map(|(name, told)| (*name, told)).collect();
        let row = json!({
            "preset": preset,
            "weights-type": kept,
            "lengths": options.lengths,
            "rounds": options.rounds,
            "threads": threads,
            "instructions": Isa::best().name(),
            "seed": options.bench.seed,
            "ways": ways,
            "peak-mib": peak,
        });
        return say(&row.to_string());
    }
    let count = options.lengths.len();
    say(&format!(
        "{preset}: weights {kept}, {count} prompts of {} positions together, random weights, {threads} threads, {}",
        options.lengths.iter().sum::<usize>(),
        Isa::best().name()
    ));
    for (name, told) in told {
        say(&format!(
            "{name:17} {:9.4} s (least {:.4}), {} positions computed",
            told.seconds, told.least, told.positions
        ));
    }
    if let Some(peak) = peak {
        say(&format!("{:17} {peak:9.0} MiB", "peak memory"));
    }
}
