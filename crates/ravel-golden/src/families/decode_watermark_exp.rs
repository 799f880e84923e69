//! The watermark of exponential minimum sampling: the key's numbers, what is chosen with them, and how it is found again.

use burn::tensor::{Int, Tensor, TensorData};
use ravel_decode::mersenne::Mersenne;
use ravel_decode::watermark::{Watermark, WatermarkConfig, p_value};
use serde::Deserialize;

use crate::{Case, CaseReport, GoldenError};

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    key: u32,
    n: usize,
    vocab: usize,
    shift: usize,
    k: usize,
    /// The first and the last key of the null costs.
    null_keys: [u32; 2],
}

impl Config {
    fn watermark(&self, key: u32) -> Watermark {
        Watermark::new(WatermarkConfig { key, rows: self.n }, self.vocab)
    }
}

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if the case lacks a tensor or a setting.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["probs", "plain_tokens", "edited_tokens"]);
    let config: Config = case.json("config.json")?;
    numbers(case, report, &config)?;
    let watermark = config.watermark(config.key);
    let probabilities = case.numbers("probs")?.chunks_exact(config.vocab);
    let chosen = probabilities.enumerate();
    let chosen =
        chosen.map(|(at, probabilities)| watermark.choice(probabilities, config.shift + at) as i64);
    report.ids("watermarked_tokens", ids(case, chosen.collect()))?;
    for name in case.names() {
        if let Some(rest) = name.strip_prefix("stat_") {
            costs(case, report, &config, rest)?;
        }
    }
    Ok(())
}

/// What the generator gives.
fn numbers(case: &Case, report: &mut CaseReport<'_>, config: &Config) -> Result<(), GoldenError> {
    let mut generator = Mersenne::new(config.key);
    let count = case.shape("mt_ints")?[0];
    let bits = (0..count).map(|_| i64::from(generator.bits()));
    // As large as these ids may be, they are compared as what they are.
    let expected = case.numbers("mt_ints")?;
    let different = bits.zip(expected).filter(|(a, b)| *a as f64 != **b);
    report.count("mt_ints", "", different.count());
    for name in case.names() {
        let count = name.strip_prefix("randperm").and_then(|n| n.parse().ok());
        if let Some(count) = count {
            let order = Mersenne::new(config.key).cycle(count);
            let order = order.into_iter().map(|to| to as i64).collect();
            report.ids(name, ids(case, order))?;
        }
    }
    let watermark = config.watermark(config.key);
    let xi: Vec<f32> = (0..config.n)
        .flat_map(|row| watermark.row(row).to_vec())
        .collect();
    report.numbers("xi", &xi)
}

/// `watermarked_g4`: the cost of the watermarked tokens where passing over costs 0.4, that under other keys, and what follows.
fn costs(
    case: &Case,
    report: &mut CaseReport<'_>,
    config: &Config,
    rest: &str,
) -> Result<(), GoldenError> {
    let unclear = || case.input(format!("`stat_{rest}`: no cost is known by this name"));
    let (tokens, tenths) = rest.rsplit_once("_g").ok_or_else(unclear)?;
    let gamma = tenths.parse::<f32>().map_err(|_| unclear())? / 10.0;
    let tokens = case.numbers(&format!("{tokens}_tokens"))?;
    let tokens: Vec<u32> = tokens.iter().map(|&token| token as u32).collect();
    let cost = |key| config.watermark(key).cost(&tokens, config.k, gamma);
    let found = cost(config.key);
    let [first, last] = config.null_keys;
    let others: Vec<f32> = (first..=last).map(cost).collect();
    report.numbers(&format!("stat_{rest}"), &[found])?;
    report.numbers(&format!("null_{rest}"), &others)?;
    let value = p_value(found, &others) as f32;
    report.numbers(&format!("pvalue_{rest}"), &[value])
}

fn ids(case: &Case, values: Vec<i64>) -> Tensor<1, Int> {
    let len = values.len();
    let values = values.into_iter().map(|value| value as i32).collect();
    Tensor::from_data(TensorData::new::<i32, _>(values, [len]), &case.device())
}
