//! Finds cases and runs them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{Case, CaseReport, FAMILIES, Family, GoldenError, Row, Verdict, family_of};

/// Folders below a path that are looked into.
const DEEPEST: usize = 4;

/// What running one case gave.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// The case's folder.
    pub case: PathBuf,
    /// Its family.
    pub family: String,
    /// Its tensors.
    pub rows: Vec<Row>,
    /// What ended it early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the folder itself is to blame for that.
    #[serde(skip)]
    pub unusable: bool,
}

impl Outcome {
    /// Whether every tensor is as the reference has it.
    pub fn passed(&self) -> bool {
        self.error.is_none() && self.rows.iter().all(|row| row.verdict != Verdict::Fail)
    }
}

/// Runs every case at or below the paths, those of one family if it is named. `tell` hears of each as it ends.
///
/// # Errors
/// [`GoldenError::Input`] if a path holds no case, or the family is unknown.
pub fn run_all(
    paths: &[PathBuf],
    only: Option<&str>,
    tell: &mut dyn FnMut(&Outcome),
) -> Result<Vec<Outcome>, GoldenError> {
    if let Some(name) = only
        && !FAMILIES.iter().any(|family| family.name == name)
    {
        let known: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        let known = known.join(", ");
        return Err(GoldenError::Input(format!(
            "no family `{name}`; known are {known}"
        )));
    }
    let mut outcomes = Vec::new();
    for folder in cases_below(paths)? {
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        let family = family_of(&name.to_string_lossy());
        if only.is_some_and(|only| family.is_none_or(|family| family.name != only)) {
            continue;
        }
        let outcome = run_case(&folder, family);
        tell(&outcome);
        outcomes.push(outcome);
    }
    match outcomes.is_empty() {
        true => Err(GoldenError::Input("no case to run".into())),
        false => Ok(outcomes),
    }
}

fn run_case(folder: &Path, family: Option<&Family>) -> Outcome {
    let mut outcome = Outcome {
        case: folder.into(),
        family: family.map_or("unknown", |family| family.name).into(),
        rows: Vec::new(),
        error: None,
        unusable: false,
    };
    let result = family
        .ok_or_else(|| GoldenError::Input("no family of this name is known".into()))
        .and_then(|family| {
            let case = Case::open(folder)?;
            compared(&case, family).map(|(rows, error)| {
                outcome.rows = rows;
                outcome.error = error;
            })
        });
    if let Err(error) = result {
        outcome.unusable = matches!(error, GoldenError::Input(_));
        outcome.error = Some(error.to_string());
    }
    outcome
}

/// The rows, and what ended the comparison if it did not come to its end.
fn compared(case: &Case, family: &Family) -> Result<(Vec<Row>, Option<String>), GoldenError> {
    let mut report = CaseReport::new(case);
    // A shape that our own code takes for its own bug must not keep the other cases from being run.
    let ended = catch_unwind(AssertUnwindSafe(|| (family.run)(case, &mut report)));
    let error = match ended {
        Ok(Ok(())) => None,
        Ok(Err(error @ GoldenError::Input(_))) => return Err(error),
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(format!("panicked: {}", words_of(&*panic))),
    };
    Ok((report.finish(), error))
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
        .unwrap_or_else(|| "without a message".into())
}

/// Case folders at or below the paths, sorted.
fn cases_below(paths: &[PathBuf]) -> Result<Vec<PathBuf>, GoldenError> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        // A path such as `.` has no name of its own to take the family from.
        let whole = path
            .canonicalize()
            .map_err(|error| GoldenError::Input(format!("{}: {error}", path.display())))?;
        look_into(&whole, DEEPEST, &mut found)?;
        if found.len() == before {
            return Err(GoldenError::Input(format!(
                "{}: no case folder there: one holds README.md and io.safetensors or cases.json",
                path.display()
            )));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn look_into(folder: &Path, deeper: usize, found: &mut Vec<PathBuf>) -> Result<(), GoldenError> {
    if Case::is_at(folder) {
        found.push(folder.into());
        return Ok(());
    }
    if deeper == 0 || !folder.is_dir() {
        return Ok(());
    }
    let failed = |error| GoldenError::Input(format!("{}: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            look_into(&path, deeper - 1, found)?;
        }
    }
    Ok(())
}
