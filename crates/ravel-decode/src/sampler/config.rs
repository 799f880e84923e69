//! Sampling settings as a definition or the command line gives them.

use ravel_core::{Error, Result, Sampler, Seed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Choice, Coupled, Marked};
use super::delayed_end::{DelayedEnd, Ending};
use super::filter::{
    EndIfLargest, Filter, MinP, RecentPenalty, RepetitionPenalty, Temperature, TopK, TopP,
    TopPWithin, Typical,
};
use super::guided::{Guidance, Guided};
use crate::watermark::{Marking, WatermarkConfig};

/// The smallest temperature and probability mass that are taken.
const LEAST: f64 = 0.001;

/// What is kept of the scores, and how the choice falls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SamplerConfig {
    /// Divides the scores, 0.001 or more; zero always takes the largest.
    pub temperature: f64,
    /// Keeps this many of the largest scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Keeps the most probable ids up to this mass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Keeps ids at least this share as probable as the most probable one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Keeps the ids of nearly expected surprise up to this mass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical: Option<f64>,
    /// Makes ids that occurred less likely; above 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// How many of the latest ids that penalty looks at, id 0 among them until there are as many (Fish-Speech); all if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_window: Option<usize>,
    /// Keeps the most probable ids that together stay within this mass, before the temperature (Fish-Speech); zero keeps one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p_within: Option<f64>,
    /// Lets all codes of a unit share one random number, so that what is alike is chosen alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coupled: Option<Coupled>,
    /// Strength of classifier-free guidance; zero switches it off.
    pub guidance: Guidance,
    /// With guidance, chooses by the conditioned scores alone among so many ids whose guided scores are largest (Dia).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_top_k: Option<usize>,
    /// Leaves a watermark that changes no probability and that who has its key can find.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<WatermarkConfig>,
    /// How several codebooks end, where they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            typical: None,
            repetition_penalty: None,
            repetition_window: None,
            top_p_within: None,
            coupled: None,
            guidance: Guidance::default(),
            guidance_top_k: None,
            watermark: None,
            ending: None,
        }
    }
}

impl SamplerConfig {
    /// Checks that a sampler can be built.
    ///
    /// # Errors
    /// [`Error::Config`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<()> {
        if self.temperature != 0.0 && !(LEAST..=100.0).contains(&self.temperature) {
            return Err(Error::Config {
                field: "temperature".into(),
                found: self.temperature.to_string(),
                expected: format!("0, or {LEAST} to 100"),
            });
        }
        check("top-k", self.top_k.map(|k| k as f64), 1.0..=1e9)?;
        check("top-p", self.top_p, LEAST..=1.0)?;
        check("min-p", self.min_p, 0.0..=1.0)?;
        check("typical", self.typical, LEAST..=1.0)?;
        check("repetition-penalty", self.repetition_penalty, 0.01..=100.0)?;
        let window = self.repetition_window.map(|window| window as f64);
        check("repetition-window", window, 1.0..=1e9)?;
        check("top-p-within", self.top_p_within, 0.0..=1.0)?;
        if let Some(coupled) = self.coupled {
            check("coupled.groups", Some(coupled.groups as f64), 1.0..=1e9)?;
            if self.watermark.is_some() {
                return Err(Error::Config {
                    field: "coupled".into(),
                    found: "a watermark beside it".into(),
                    expected: "one of the two: a watermark needs numbers of its own".into(),
                });
            }
        }
        let top_k = self.guidance_top_k.map(|k| k as f64);
        check("guidance-top-k", top_k, 1.0..=1e9)?;
        let rows = self.watermark.map(|watermark| watermark.rows as f64);
        check("watermark.rows", rows, 1.0..=65_536.0)?;
        let (from, to) = (self.guidance.at(0, 2), self.guidance.at(1, 2));
        check("guidance", Some(from), -100.0..=100.0)?;
        check("guidance", Some(to), -100.0..=100.0)
    }

    /// Whether the sampler takes twice the rows.
    pub fn is_guided(&self) -> bool {
        !self.guidance.is_off()
    }

    /// The sampler for some rows of a request.
    ///
    /// `rows` are the rows' numbers in the request: a row's ids follow from the seed and its number, whatever else is in
    /// the batch. `units` is the number of units of a whole generation.
    pub fn build(&self, seed: Seed, rows: &[u64], units: usize) -> Box<dyn Sampler> {
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        match (self.repetition_penalty, self.repetition_window) {
            (Some(penalty), Some(window)) => {
                filters.push(Box::new(RecentPenalty { penalty, window }));
            }
            (Some(penalty), None) => filters.push(Box::new(RepetitionPenalty(penalty))),
            (None, _) => {}
        }
        // Of the rest only `typical` may remove the largest score.
        let choice = if self.temperature == 0.0 {
            Choice::Greedy
        } else {
            self.push_cuts(&mut filters);
            let seeds = rows.iter().map(|&row| seed.indexed(row));
            match (self.watermark, self.coupled) {
                (Some(watermark), _) => {
                    let begin = seeds.map(|seed| seed.number());
                    Choice::Marked(Marked(Marking::new(watermark, begin)))
                }
                (None, Some(coupled)) => Choice::Coupled(coupled, seeds.collect()),
                (None, None) => Choice::Draw(seeds.collect()),
            }
        };
        if let Some(mass) = self.typical {
            filters.push(Box::new(Typical(mass)));
        }
        let chain = Chain::new(filters, choice);
        match &self.ending {
            Some(ending) => self.guided(DelayedEnd::new(ending.clone(), chain), units),
            None => self.guided(chain, units),
        }
    }

    fn guided(&self, inner: impl Sampler + 'static, units: usize) -> Box<dyn Sampler> {
        if !self.is_guided() {
            return Box::new(inner);
        }
        Box::new(Guided {
            guidance: self.guidance,
            top_k: self.guidance_top_k,
            units,
            inner,
        })
    }

    fn push_cuts(&self, filters: &mut Vec<Box<dyn Filter>>) {
        if let Some(mass) = self.top_p_within {
            filters.push(Box::new(TopPWithin(mass)));
        }
        if let Some(ending) = &self.ending {
            let end = ending.end as u32;
            filters.push(Box::new(EndIfLargest { end }));
        }
        if self.temperature != 1.0 {
            filters.push(Box::new(Temperature(self.temperature)));
        }
        if let Some(k) = self.top_k {
            filters.push(Box::new(TopK { k }));
        }
        if let Some(p) = self.top_p {
            filters.push(Box::new(TopP { p, keep: 1 }));
        }
        if let Some(p) = self.min_p {
            filters.push(Box::new(MinP(p)));
        }
    }
}

/// Refuses a number that is there and outside its range.
pub(crate) fn check(
    field: &str,
    found: Option<f64>,
    expected: std::ops::RangeInclusive<f64>,
) -> Result<()> {
    match found {
        Some(found) if !expected.contains(&found) => Err(Error::Config {
            field: field.into(),
            found: found.to_string(),
            expected: format!("{} to {}", expected.start(), expected.end()),
        }),
        _ => Ok(()),
    }
}
