//! What comparing gave: per tensor the largest error, the bound, and whether it holds.

use std::collections::BTreeSet;

use burn::tensor::{Int, Tensor};
use ravel_testkit::{ids, values};
use serde::Serialize;

use crate::{Case, GoldenError};

/// Bounds are this many times what the reference itself moves by rounding, as the cases' READMEs suggest.
const TIMES_SENSITIVITY: f64 = 20.0;
/// No bound is below this.
const LEAST_BOUND: f64 = 1e-6;
/// Share of the largest value that bounds a tensor whose sensitivity was not measured, or measured as zero because nothing
/// that leads to it was varied.
const UNMEASURED_SHARE: f64 = 1e-5;

/// Whether a tensor is as the reference has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Within the bound.
    Pass,
    /// Beyond the bound, of another shape, or never compared.
    Fail,
    /// Handed to the model: nothing to compare.
    Input,
}

/// One line of a report.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// The tensor.
    pub tensor: String,
    /// How it was reached, where in several ways, or why it was not compared.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The largest absolute difference; for ids how many differ.
    pub error: f64,
    /// What the error may be; zero for ids.
    pub bound: f64,
    /// Whether it holds.
    pub verdict: Verdict,
}

/// The comparisons of one case.
pub struct CaseReport<'a> {
    case: &'a Case,
    rows: Vec<Row>,
}

impl<'a> CaseReport<'a> {
    /// A report without rows.
    pub fn new(case: &'a Case) -> Self {
        Self {
            case,
            rows: Vec::new(),
        }
    }

    /// Tensors that are only handed to the model.
    pub fn inputs<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        for name in names {
            self.push(name, "", 0.0, 0.0, Verdict::Input);
        }
    }

    /// Compares real numbers within the tensor's bound.
    ///
    /// # Errors
    /// [`GoldenError::Input`] if the case has no tensor of this name.
    pub fn real<const D: usize>(
        &mut self,
        name: &str,
        found: Tensor<D>,
    ) -> Result<(), GoldenError> {
        self.real_also(name, "", found)
    }

    /// As [`CaseReport::real`] for a tensor that is reached in several ways; `note` says which.
    ///
    /// # Errors
    /// As [`CaseReport::real`].
    pub fn real_also<const D: usize>(
        &mut self,
        name: &str,
        note: &str,
        found: Tensor<D>,
    ) -> Result<(), GoldenError> {
        match self.case.shape(name)? == found.dims() {
            true => self.numbers_also(name, note, &values(&found)),
            false => self.misshapen(name, note, &found.dims()),
        }
    }

    /// Compares numbers on the host, in row-major order.
    ///
    /// # Errors
    /// As [`CaseReport::real`].
    pub fn numbers(&mut self, name: &str, found: &[f32]) -> Result<(), GoldenError> {
        self.numbers_also(name, "", found)
    }

    /// As [`CaseReport::numbers`] for numbers of 64 bits.
    ///
    /// # Errors
    /// As [`CaseReport::real`].
    pub fn wide_numbers(&mut self, name: &str, found: &[f64]) -> Result<(), GoldenError> {
        let expected = self.case.numbers(name)?;
        if expected.len() != found.len() {
            return self.misshapen(name, "", &[found.len()]);
        }
        let pairs = found.iter().zip(expected);
        let error = pairs.map(|(&found, &expected)| difference(found, expected));
        let error = error.fold(0.0, f64::max);
        self.judge(name, "", error, self.bound(name)?);
        Ok(())
    }

    /// Compares ids; all must be equal.
    ///
    /// # Errors
    /// As [`CaseReport::real`].
    pub fn ids<const D: usize>(
        &mut self,
        name: &str,
        found: Tensor<D, Int>,
    ) -> Result<(), GoldenError> {
        self.ids_also(name, "", found)
    }

    /// As [`CaseReport::ids`] for ids that are reached in several ways; `note` says which.
    ///
    /// # Errors
    /// As [`CaseReport::real`].
    pub fn ids_also<const D: usize>(
        &mut self,
        name: &str,
        note: &str,
        found: Tensor<D, Int>,
    ) -> Result<(), GoldenError> {
        self.ids_unless(name, note, found, |_| false)
    }

    /// Compares ids that the reference chose among nearly equal ones: where `tied(at)` holds for the flat place `at` (the
    /// case's margin there is below what rounding moves), another id is no failure.
    ///
    /// # Errors
    /// As [`CaseReport::real`].
    pub fn ids_unless<const D: usize>(
        &mut self,
        name: &str,
        note: &str,
        found: Tensor<D, Int>,
        tied: impl Fn(usize) -> bool,
    ) -> Result<(), GoldenError> {
        if self.case.shape(name)? != found.dims() {
            return self.misshapen(name, note, &found.dims());
        }
        let expected = self.case.numbers(name)?;
        let pairs = ids(&found).into_iter().zip(expected).enumerate();
        let different = pairs
            .filter(|(at, (found, expected))| *found as f64 != **expected && !tied(*at))
            .count();
        self.count(name, note, different);
        Ok(())
    }

    /// Notes how many things differ where none may, for what is not a tensor of the case (texts, a second file of weights).
    pub fn count(&mut self, name: &str, note: &str, different: usize) {
        self.judge(name, note, different as f64, 0.0);
    }

    /// Says why a tensor of the case cannot be compared: it falls short.
    pub fn unable(&mut self, name: &str, why: &str) {
        self.push(name, why, f64::INFINITY, 0.0, Verdict::Fail);
    }

    /// What the error of a tensor may be.
    ///
    /// # Errors
    /// As [`CaseReport::real`].
    pub fn bound(&self, name: &str) -> Result<f64, GoldenError> {
        let measured = self.case.readme.sensitivity.get(name).copied();
        let bound = match measured.filter(|measured| *measured > 0.0) {
            Some(measured) => TIMES_SENSITIVITY * measured,
            None => {
                let numbers = self.case.numbers(name)?.iter();
                let finite = numbers.filter(|number| number.is_finite());
                UNMEASURED_SHARE * finite.fold(0.0, |most: f64, number| most.max(number.abs()))
            }
        };
        Ok(bound.max(LEAST_BOUND))
    }

    /// All rows; a tensor of the README's table or of the file that no row names falls short.
    pub fn finish(mut self) -> Vec<Row> {
        let known = self.case.readme.tensors.iter();
        let known = known.map(|(name, _)| name.as_str());
        let all: BTreeSet<&str> = known.chain(self.case.names()).collect();
        for name in all {
            if !self.rows.iter().any(|row| row.tensor == name) {
                self.unable(name, "never compared");
            }
        }
        self.rows
    }

    fn numbers_also(&mut self, name: &str, note: &str, found: &[f32]) -> Result<(), GoldenError> {
        let expected = self.case.numbers(name)?;
        if expected.len() != found.len() {
            return self.misshapen(name, note, &[found.len()]);
        }
        let pairs = found.iter().zip(expected);
        let error = pairs.map(|(&found, &expected)| difference(found.into(), expected));
        let error = error.fold(0.0, f64::max);
        let bound = self.bound(name)?;
        self.judge(name, note, error, bound);
        Ok(())
    }

    fn misshapen(&mut self, name: &str, note: &str, found: &[usize]) -> Result<(), GoldenError> {
        let expected = self.case.shape(name)?;
        let note = format!("{note} {found:?}, not {expected:?}");
        self.unable(name, note.trim());
        Ok(())
    }

    fn judge(&mut self, name: &str, note: &str, error: f64, bound: f64) {
        let verdict = match error <= bound {
            true => Verdict::Pass,
            false => Verdict::Fail,
        };
        self.push(name, note, error, bound, verdict);
    }

    fn push(&mut self, name: &str, note: &str, error: f64, bound: f64, verdict: Verdict) {
        self.rows.push(Row {
            tensor: name.into(),
            note: note.into(),
            error,
            bound,
            verdict,
        });
    }
}

/// The absolute difference; equal infinities do not differ, and what is no number differs infinitely.
fn difference(found: f64, expected: f64) -> f64 {
    match (found - expected).abs() {
        _ if found == expected => 0.0,
        difference if difference.is_nan() => f64::INFINITY,
        difference => difference,
    }
}
