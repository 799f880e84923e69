//! Filters of scores against the `transformers` library's own. A case has no `config.json`: the settings of each filter stand in the
//! README's table.

use burn::tensor::{Int, Tensor};
use ravel_core::{Layout, Sampler, Unit};
use ravel_decode::Guidance;
use ravel_decode::sampler::*;

use crate::{Case, CaseReport, GoldenError};

type Filters = Vec<Box<dyn Filter>>;

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if a setting cannot be read from the table.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["scores", "input_ids", "u", "gumbel_u", "cfg_logits"]);
    let singles = case.names().into_iter().filter(|name| {
        name.starts_with("out_") && !["out_chain", "out_chain_probs", "out_cfg3"].contains(name)
    });
    for name in singles {
        let filter = filter(case, name, case.meaning(name)?)?;
        compare(case, report, name, &[filter])?;
    }
    let chain: Result<Filters, _> = case
        .meaning("out_chain")?
        .split("->")
        .map(|part| filter(case, "out_chain", part.trim()))
        .collect();
    compare(case, report, "out_chain", &chain?)?;
    draws(case, report)?;
    guidance(case, report)
}

/// The filter that the table's words stand for.
fn filter(case: &Case, name: &str, words: &str) -> Result<Box<dyn Filter>, GoldenError> {
    let numbers = numbers_of(words);
    let unclear = || case.input(format!("`{name}`: no filter is known for `{words}`"));
    let first = *numbers.first().ok_or_else(unclear)?;
    let second = numbers.get(1).copied();
    let kind = words.split([' ', ',']).next().unwrap_or_default();
    Ok(match kind {
        "temperature" => Box::new(Temperature(first)),
        "top_k" => Box::new(TopK {
            k: first.max(second.unwrap_or(1.0)) as usize,
        }),
        "top_p" => Box::new(TopP {
            p: first,
            keep: second.unwrap_or(1.0) as usize,
        }),
        "min_p" => Box::new(MinP(first)),
        "typical" => Box::new(Typical(first)),
        "epsilon" => Box::new(EpsilonCutoff(first)),
        "eta" => Box::new(EtaCutoff(first)),
        "repetition" | "repetition_penalty" => Box::new(RepetitionPenalty(first)),
        "no_repeat_ngram_size" => Box::new(NoRepeat {
            run: first as usize,
        }),
        "min_length" => Box::new(MinLength {
            length: first as usize,
            end: second.ok_or_else(unclear)? as u32,
        }),
        "bad" => Box::new(SequenceBias(bad_words(words))),
        "bias" => Box::new(SequenceBias(biases(words))),
        _ => return Err(unclear()),
    })
}

fn compare(
    case: &Case,
    report: &mut CaseReport<'_>,
    name: &str,
    filters: &[Box<dyn Filter>],
) -> Result<(), GoldenError> {
    let scores = rows(case, "scores")?;
    let histories = rows(case, "input_ids")?;
    let expected = rows(case, name)?;
    let mut found = Vec::new();
    for ((scores, history), expected) in scores.into_iter().zip(histories).zip(expected) {
        let history: Vec<u32> = history.into_iter().map(|id| id as u32).collect();
        let mut row = scores.clone();
        for filter in filters {
            filter.apply(&mut row, &history);
        }
        found.extend(as_the_reference_cuts_ties(row, &scores, &expected));
    }
    report.numbers(name, &found)
}

/// Of ids with exactly equal scores the reference's sort may keep any: the same number of them is the same answer.
fn as_the_reference_cuts_ties(mut row: Vec<f32>, scores: &[f32], expected: &[f32]) -> Vec<f32> {
    for id in 0..row.len() {
        let same_end = |a: f32, b: f32| (a == f32::NEG_INFINITY) == (b == f32::NEG_INFINITY);
        if same_end(row[id], expected[id]) {
            continue;
        }
        let other = (id + 1..row.len()).find(|&other| {
            scores[other] == scores[id]
                && !same_end(row[other], expected[other])
                && same_end(row[other], expected[id])
        });
        if let Some(other) = other {
            row.swap(id, other);
        }
    }
    row
}

fn draws(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    // From the reference's own filtered scores, so that ties cut otherwise do not matter.
    let scores = rows(case, "out_chain")?;
    let shares: Vec<f32> = scores
        .iter()
        .flat_map(|row| probabilities(row))
        .map(|share| share as f32)
        .collect();
    report.numbers("out_chain_probs", &shares)?;
    let uniforms = case.numbers("u")?;
    let noise = case.numbers("gumbel_u")?;
    let width = scores.first().map_or(1, Vec::len);
    let inverse = scores.iter().zip(uniforms);
    let inverse = inverse.map(|(row, &uniform)| inverse_cdf_choice(row, uniform));
    report.ids("inverse_cdf_choice", ids(case, inverse.collect()))?;
    let gumbel = scores.iter().zip(noise.chunks(width));
    let gumbel = gumbel.map(|(row, noise)| gumbel_choice(row, noise));
    report.ids("gumbel_choice", ids(case, gumbel.collect()))
}

/// The reference's scale is one more than ours.
fn guidance(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    let words = case.meaning("out_cfg3")?;
    let scale = numbers_of(words).first().copied();
    let scale = scale.ok_or_else(|| case.input(format!("`out_cfg3`: no scale in `{words}`")))?;
    let mut guided = Guided {
        top_k: None,
        guidance: Guidance::Constant(scale - 1.0),
        units: 1,
        inner: Recorder(None),
    };
    let unit = Layout::Sequence { len: 1 }.tokens().remove(0);
    let logits: Tensor<2> = case.real("cfg_logits")?;
    guided.pick(logits.unsqueeze_dim(1), &unit)?;
    let seen = guided.inner.0.expect("guidance asks the sampler within");
    report.real("out_cfg3", seen.squeeze_dim::<2>(1))
}

/// Keeps what it is shown.
struct Recorder(Option<Tensor<3>>);

impl Sampler for Recorder {
    fn pick(&mut self, logits: Tensor<3>, _unit: &Unit) -> ravel_core::Result<Tensor<2, Int>> {
        let [batch, len, _] = logits.dims();
        let ids = Tensor::zeros([batch, len], &logits.device());
        self.0 = Some(logits);
        Ok(ids)
    }
}

fn rows(case: &Case, name: &str) -> Result<Vec<Vec<f32>>, GoldenError> {
    let width = *case.shape(name)?.last().unwrap_or(&1);
    let rows = case.numbers(name)?.chunks(width.max(1));
    Ok(rows
        .map(|row| row.iter().map(|&number| number as f32).collect())
        .collect())
}

fn ids(case: &Case, ids: Vec<u32>) -> Tensor<1, Int> {
    let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
    Tensor::from_data(&ids[..], &case.device())
}

/// All numbers in some words.
fn numbers_of(words: &str) -> Vec<f64> {
    words
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || "+-._".contains(letter)))
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// `bad words [[5],[35,9]]`
fn bad_words(words: &str) -> Vec<(Vec<u32>, f32)> {
    let lists = words.split('[').filter(|list| list.contains(']'));
    lists
        .map(|list| (ids_of(list), f32::NEG_INFINITY))
        .collect()
}

/// `bias -3 on (4), +5 on (13,6)`
fn biases(words: &str) -> Vec<(Vec<u32>, f32)> {
    let parts = words.split(')').filter_map(|part| part.split_once('('));
    parts
        .filter_map(|(bias, list)| Some((ids_of(list), *numbers_of(bias).first()? as f32)))
        .collect()
}

fn ids_of(list: &str) -> Vec<u32> {
    numbers_of(list).into_iter().map(|id| id as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_words() {
        assert_eq!(numbers_of("top_p 0.27, min_tokens_to_keep 3"), [0.27, 3.0]);
        assert_eq!(
            numbers_of("ClassifierFreeGuidanceLogitsProcessor(3)"),
            [3.0]
        );
        assert_eq!(
            biases("bias -3 on (4), +5 on (13,6)"),
            [(vec![4], -3.0), (vec![13, 6], 5.0)]
        );
        let out = f32::NEG_INFINITY;
        assert_eq!(
            bad_words("bad words [[5],[35,9]]"),
            [(vec![5], out), (vec![35, 9], out)]
        );
    }
}
