//! `cargo xtask instructions`: instructions that each kernel takes, counted by callgrind, beside those of the last time.
//!
//! A count does not depend on what else the machine does, so it shows a slower kernel where times would not. Valgrind knows no AVX-512:
//! what is counted is the kernels' AVX2 form.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Counts that are the bounds, by kernel.
const COUNTS: &str = "crates/ravel-kernels/instructions.json";

/// What is counted, and whether it is kept.
#[derive(Args)]
pub struct Options {
    /// Keep the counts as the new bounds.
    #[arg(long)]
    accept: bool,
    /// A count may be above its bound by this share. Another processor may take other ways through the C library.
    #[arg(long, default_value_t = 0.02)]
    spare: f64,
    /// The built example, where it is not to be built here.
    #[arg(long, value_name = "FILE")]
    example: Option<PathBuf>,
}

/// Counts all kernels and compares.
pub fn run(options: &Options) -> Result<()> {
    let text = std::fs::read_to_string(COUNTS).context(COUNTS)?;
    let bounds: BTreeMap<String, u64> = serde_json::from_str(&text).context(COUNTS)?;
    let example = match &options.example {
        Some(example) => example.clone(),
        None => built()?,
    };
    let mut counts = BTreeMap::new();
    let mut above = Vec::new();
    println!(
        "{:12} {:>12} {:>12} {:>8}",
        "kernel", "instructions", "bound", "change"
    );
    for (kernel, bound) in bounds {
        let found = count(&example, &kernel)?;
        let change = found as f64 / bound as f64 - 1.0;
        println!(
            "{kernel:12} {found:>12} {bound:>12} {:>+7.1}%",
            100.0 * change
        );
        if change > options.spare {
            above.push(kernel.clone());
        }
        counts.insert(kernel, found);
    }
    if options.accept {
        let text = serde_json::to_string_pretty(&counts)? + "\n";
        ravel_files::write_whole(Path::new(COUNTS), text.as_bytes(), true).context(COUNTS)?;
        return Ok(());
    }
    match above.is_empty() {
        true => Ok(()),
        false => bail!(
            "{} take more instructions than before by over {:.0} %; `--accept` keeps the new counts",
            above.join(", "),
            100.0 * options.spare
        ),
    }
}

fn built() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["rustc", "--quiet", "--release"])
        .args(["--package", "ravel-kernels", "--example", "instructions"])
        // Callgrind finds what is counted by its name, of which the profile leaves none.
        .args(["--", "-C", "strip=none"])
        .status()
        .context("cargo cannot be run")?;
    if !status.success() {
        bail!("the example does not build");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(Path::new(&target).join("release/examples/instructions"))
}

fn count(example: &Path, kernel: &str) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*measured*"])
        .arg("--callgrind-out-file=/dev/null")
        .arg(example)
        .arg(kernel)
        .output()
        .context("valgrind cannot be run (`apt-get install valgrind`)")?;
    let told = String::from_utf8_lossy(&output.stderr);
    let count = told
        .lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match count {
        Some(count) if output.status.success() && count > 0 => Ok(count),
        _ => bail!("{kernel}: nothing was counted: {told}"),
    }
}
