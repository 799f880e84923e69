//! Beam search of the `transformers` library on a small language model. What each pair of tensors was made with stands in the README's
//! table, as the call's named arguments.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use ravel_core::{Codes, Generator, Layout, Start};
use ravel_decode::method::{BeamConfig, BeamSearch, Hypothesis, Patience};
use ravel_decode::sampler::{Chain, Choice, Filter, MinLength, NoRepeat, RepetitionPenalty};
use ravel_families::language::{self, LanguageModel};
use serde::Deserialize;
use serde_json::Value;

use super::words::number_after;
use super::words::prompted;
use crate::{Case, CaseReport, GoldenError};

/// What a case adds to the model's configuration.
#[derive(Deserialize)]
struct Ends {
    eos_used: Option<Value>,
}

/// One call of the reference's `generate`.
struct Call {
    search: BeamSearch,
    returned: usize,
    repetition_penalty: Option<f64>,
    no_repeat: Option<usize>,
    /// New ids before one may end a sequence.
    least: usize,
    /// New ids at most.
    most: usize,
}

/// Runs a case.
///
/// # Errors
/// What the reader of the configuration or the weights reports; [`GoldenError::Input`] if a setting or a tensor is absent.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    report.inputs(["ids"]);
    let config = language::read(&case.config()?)?;
    let model = config.build(case.weights("model.safetensors")?, &case.device())?;
    let names = case.names().into_iter();
    let suffixes: Vec<&str> = names.filter_map(|name| name.strip_prefix("seq_")).collect();
    if suffixes.is_empty() {
        return Err(case.input("no tensor is called `seq_…`"));
    }
    for suffix in suffixes {
        compare(case, report, &model, suffix)?;
    }
    Ok(())
}

fn compare(
    case: &Case,
    report: &mut CaseReport<'_>,
    model: &LanguageModel,
    suffix: &str,
) -> Result<(), GoldenError> {
    let name = format!("seq_{suffix}");
    let call = Call::read(case, &name)?;
    let ids: Tensor<2, Int> = case.ids("ids")?;
    let found = call.run(model, ids.clone())?;
    // The reference fills up with the id that pads, and takes the end for it where that is 0 (its `or` holds 0 for nothing).
    let pad = number_after(&case.text("README.md")?, "pad token").filter(|pad| *pad > 0.0);
    let end = call.search.ends.first().map_or(0, |end| i64::from(*end));
    let pad = pad.map_or(end, |pad| pad as i64);
    let width = case.shape(&name)?[1];
    let prompts: Vec<i64> = ids.to_data().iter::<i64>().collect();
    let given = ids.dims()[1];
    let (mut sequences, mut scores) = (Vec::new(), Vec::new());
    for (row, found) in found.iter().enumerate() {
        for one in found.iter().take(call.returned) {
            let prompt = prompts[row * given..][..given].iter().copied();
            let all = prompt.chain(one.ids.iter().map(|&id| i64::from(id)));
            let before = sequences.len();
            sequences.extend(all);
            // What is too long stays so, and its shape tells.
            let length = (sequences.len() - before).max(width);
            sequences.resize(before + length, pad);
            scores.push(one.score as f32);
        }
    }
    let rows = scores.len().max(1);
    let columns = sequences.len() / rows;
    sequences.truncate(rows * columns);
    let sequences = TensorData::new::<i64, _>(sequences, [rows, columns]);
    report.ids(
        &name,
        Tensor::<2, Int>::from_data(sequences, &case.device()),
    )?;
    report.numbers(&format!("scores_{suffix}"), &scores)
}

impl Call {
    fn read(case: &Case, tensor: &str) -> Result<Self, GoldenError> {
        let words = case.meaning(tensor)?;
        let unclear = || case.input(format!("`{tensor}`: no call is named in `{words}`"));
        let (from, to) = words.find('{').zip(words.find('}')).ok_or_else(unclear)?;
        let said = Said::parse(&words[from..=to]).ok_or_else(unclear)?;
        let readme = case.text("README.md")?;
        let most = said.number("max_new_tokens");
        let most = most.or_else(|| number_after(&readme, "max_new_tokens"));
        let given = case.shape("ids")?[1];
        let width = case.shape(tensor)?[1];
        let beams = said.number("num_beams").unwrap_or(1.0) as usize;
        Ok(Self {
            search: BeamSearch {
                config: BeamConfig {
                    beams,
                    length_penalty: said.number("length_penalty").unwrap_or(1.0),
                    patience: match said.0.get("early_stopping").map(String::as_str) {
                        Some("True") => Patience::None,
                        Some("never") => Patience::GreatestLength,
                        _ => Patience::PresentLength,
                    },
                },
                ends: ends(case, &readme)?,
            },
            returned: said.number("num_return_sequences").unwrap_or(1.0) as usize,
            repetition_penalty: said.number("repetition_penalty"),
            no_repeat: said.number("no_repeat_ngram_size").map(|run| run as usize),
            least: said.number("min_new_tokens").unwrap_or(0.0) as usize,
            most: most.map_or(width - given, |most| most as usize),
        })
    }

    fn run(
        &self,
        model: &LanguageModel,
        ids: Tensor<2, Int>,
    ) -> Result<Vec<Vec<Hypothesis>>, GoldenError> {
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        if let Some(penalty) = self.repetition_penalty.filter(|penalty| *penalty != 1.0) {
            filters.push(Box::new(RepetitionPenalty(penalty)));
        }
        if let Some(run) = self.no_repeat.filter(|run| *run > 0) {
            filters.push(Box::new(NoRepeat { run }));
        }
        for &end in self.search.ends.iter().filter(|_| self.least > 0) {
            let length = ids.dims()[1] + self.least;
            filters.push(Box::new(MinLength { length, end }));
        }
        let layout = Layout::Sequence { len: self.most };
        let (start, given): (Start, Codes) = prompted(model, ids, &layout);
        let mut sampler = Chain::new(filters, Choice::Greedy);
        ravel_core::Sampler::given(&mut sampler, &given);
        let generator = Generator {
            backbone: &model.backbone,
            head: &model.head,
            pyramid: None,
        };
        let go_on = &mut |_: &[u32]| ControlFlow::Continue(());
        let found = self
            .search
            .search(&generator, start, &layout, &sampler, go_on)?;
        Ok(found)
    }
}

/// The ids that end a sequence: the configuration's `eos_used`, or what the README says.
fn ends(case: &Case, readme: &str) -> Result<Vec<u32>, GoldenError> {
    let id = |value: &Value| value.as_u64().map(|id| id as u32);
    let said = number_after(readme, "eos token").map(|id| id as u32);
    Ok(match case.json::<Ends>("config.json")?.eos_used {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(one) => id(&one).into_iter().collect(),
        None => said.into_iter().collect(),
    })
}

/// A Python dictionary of names with plain values.
struct Said(std::collections::BTreeMap<String, String>);

impl Said {
    fn parse(words: &str) -> Option<Self> {
        let inside = words.strip_prefix('{')?.strip_suffix('}')?;
        let bare = |text: &str| text.trim().trim_matches(['\'', '"']).to_string();
        let parts = inside.split(',').filter(|part| !part.trim().is_empty());
        let pairs = parts.map(|part| {
            part.split_once(':')
                .map(|(key, value)| (bare(key), bare(value)))
        });
        Some(Self(pairs.collect::<Option<_>>()?))
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn dictionaries_are_read() {
        let said = Said::parse("{'num_beams': 3, 'early_stopping': 'never', 'p': -0.5}").unwrap();
        assert_eq!(said.number("num_beams"), Some(3.0));
        assert_eq!(said.number("p"), Some(-0.5));
        assert_eq!(said.0["early_stopping"], "never");
        assert!(Said::parse("{'num_beams'}").is_none());
        assert!(Said::parse("num_beams: 3").is_none());
    }
}
