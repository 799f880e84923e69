//! `cargo xtask golden PATH…`: the cases below some paths, tensor by tensor.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command of its own.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ravel_golden::{Outcome, Row, Verdict, run_all};
use serde_json::json;

/// Run case folders of published reference code and compare every tensor.
///
/// Exit code 1 if any falls short, 2 if a folder or a name cannot be used.
#[derive(Parser)]
#[command(name = "cargo xtask golden", version)]
struct Arguments {
    /// Case folders, or folders with case folders below them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only cases of this family.
    #[arg(long)]
    family: Option<String>,
    /// Print a JSON object per case.
    #[arg(long)]
    json: bool,
    /// Print one Markdown table: of each case the tensor that comes nearest to its bound.
    #[arg(long, conflicts_with = "json")]
    table: bool,
    /// Print cases that pass in one line each.
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Panics are part of the report.
    std::panic::set_hook(Box::new(|_| ()));
    if arguments.table {
        say(
            "| case | family | comparisons | ids that differ | nearest to its bound | error | bound |",
        );
        say("|---|---|---|---|---|---|---|");
    }
    let mut tell = |outcome: &Outcome| match (arguments.json, arguments.table) {
        (true, _) => say(&json!(outcome).to_string()),
        (_, true) => say(&table_row(outcome)),
        _ => show(outcome, arguments.quiet),
    };
    match run_all(&arguments.paths, arguments.family.as_deref(), &mut tell) {
        Ok(outcomes) => {
            if !arguments.json {
                let passed = outcomes.iter().filter(|outcome| outcome.passed()).count();
                say(&format!("{passed} of {} cases pass", outcomes.len()));
            }
            ExitCode::from(code(&outcomes))
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// A disagreement counts more than a folder that cannot be used.
fn code(outcomes: &[Outcome]) -> u8 {
    let short = |outcome: &&Outcome| !outcome.passed();
    match outcomes
        .iter()
        .filter(short)
        .any(|outcome| !outcome.unusable)
    {
        true => 1,
        false if outcomes.iter().any(|outcome| outcome.unusable) => 2,
        false => 0,
    }
}

fn show(outcome: &Outcome, quiet: bool) {
    let compared = |row: &&Row| row.verdict != Verdict::Input;
    let all = outcome.rows.iter().filter(compared).count();
    let passed = |row: &&Row| row.verdict == Verdict::Pass;
    let passed = outcome.rows.iter().filter(passed).count();
    let word = if outcome.passed() { "pass" } else { "FAIL" };
    let name = outcome.case.file_name().unwrap_or(outcome.case.as_os_str());
    say(&format!(
        "{word}  {}  {passed} of {all} comparisons",
        name.to_string_lossy()
    ));
    if let Some(error) = &outcome.error {
        say(&format!("      {error}"));
    }
    if !(quiet && outcome.passed()) {
        outcome.rows.iter().for_each(show_row);
    }
}

/// A case as a row of a table.
fn table_row(outcome: &Outcome) -> String {
    let name = outcome.case.file_name().unwrap_or(outcome.case.as_os_str());
    let compared = outcome
        .rows
        .iter()
        .filter(|row| row.verdict != Verdict::Input);
    let (ids, reals): (Vec<&Row>, Vec<&Row>) = compared.partition(|row| row.bound == 0.0);
    let differ = ids.iter().fold(0.0, |sum, row| sum + row.error);
    let near = |row: &&&Row| row.error / row.bound;
    let nearest = reals.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
    let nearest = match (&outcome.error, nearest) {
        (Some(error), _) => format!("{error} | |"),
        (None, Some(row)) => format!("`{}` | {:.1e} | {:.1e}", row.tensor, row.error, row.bound),
        (None, None) => " | |".into(),
    };
    format!(
        "| {} | {} | {} | {differ} of {} | {nearest} |",
        name.to_string_lossy(),
        outcome.family,
        ids.len() + reals.len(),
        ids.len()
    )
}

fn show_row(row: &Row) {
    let Row {
        tensor,
        note,
        error,
        bound,
        verdict,
    } = row;
    let (word, numbers) = match verdict {
        Verdict::Input => ("    ", "input".into()),
        verdict => {
            let word = if *verdict == Verdict::Pass {
                "pass"
            } else {
                "FAIL"
            };
            let numbers = match (bound, error) {
                (_, error) if error.is_infinite() => "not comparable".into(),
                (0.0, error) => format!("{error} differ"),
                (bound, error) => format!("{error:9.2e} of {bound:8.2e}"),
            };
            (word, numbers)
        }
    };
    say(format!("      {word}  {tensor:28} {numbers:22} {note}").trim_end());
}

/// A closed pipe is no reason to panic.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
