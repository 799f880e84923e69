//! Runs the built program.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a run of `ravel` gave.
pub struct Run {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Run {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Runs `ravel` in `folder`.
pub fn ravel(folder: &Path, arguments: &[&str]) -> Run {
    let output = command(folder, arguments)
        .output()
        .expect("the program runs");
    from(output)
}

/// A run that is not waited for.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ravel"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a finished run gave.
pub fn from(output: Output) -> Run {
    Run {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asserts that a run was refused as bad input: exit code 2, one `error:` line that holds `expected`, nothing else but hints.
#[track_caller]
pub fn check_refused(run: &Run, expected: &str) {
    assert_eq!(run.code, 2, "{}", run.err);
    let errors: Vec<&str> = run
        .err
        .lines()
        .filter(|line| !line.starts_with("hint:"))
        .collect();
    assert_eq!(errors.len(), 1, "one line is expected:\n{}", run.err);
    assert!(errors[0].starts_with("error: "), "{}", run.err);
    assert!(
        errors[0].contains(expected),
        "`{expected}` is not in: {}",
        run.err
    );
}
