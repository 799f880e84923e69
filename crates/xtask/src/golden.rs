//! `cargo xtask golden`: hands its arguments to `ravel-golden`, which is built on the way; so other chores need no tensors.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use clap::Args;

/// What is handed on.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// Case folders or folders above them, `--family NAME`, `--json`, `--quiet`; `--help` explains.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the cases; the exit code is theirs.
pub fn run(options: &Options) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "ravel-golden",
            "--",
        ])
        .args(&options.arguments)
        .status();
    match status {
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| code.try_into().ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            eprintln!("error: cargo cannot be run: {error}");
            ExitCode::from(2)
        }
    }
}
