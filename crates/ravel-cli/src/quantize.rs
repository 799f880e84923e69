//! `ravel quantize`: a checkpoint with its weights in fewer bits.

use std::path::Path;

use ravel_kernels::WeightsType;
use ravel_weights::{Checkpoint, quantize};
use serde_json::json;

use crate::arguments::{NarrowType, QuantizeOptions};
use crate::failure::Failure;
use crate::progress::say;

/// Runs `ravel quantize`.
pub fn run(options: &QuantizeOptions) -> Result<(), Failure> {
    let output = &options.output;
    if output == Path::new("-") {
        return Err(Failure::input_with(
            "a checkpoint is not written to standard output",
            "name a file",
        ));
    }
    if output.exists() && !options.force {
        return Err(Failure::input_with(
            format!("{} is there already", output.display()),
            "`--force` replaces it",
        ));
    }
    let folder = output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Failure::input_with(
            format!("there is no folder {}", folder.display()),
            "make it first, or name another",
        ));
    }
    let to = match options.to {
        NarrowType::F16 => WeightsType::F16,
        NarrowType::Bf16 => WeightsType::Bf16,
        NarrowType::Q8 => WeightsType::Q8,
        NarrowType::Q4 => WeightsType::Q4,
    };
    let checkpoint = Checkpoint::open(&options.input).map_err(Failure::input)?;
    let told = quantize(&checkpoint, output, to).map_err(Failure::input)?;
    let bytes = std::fs::metadata(output).map_err(Failure::runtime)?.len();
    say(&match options.json {
        true => json!({
            "output": output,
            "type": to.name(),
            "changed": told.changed,
            "kept": told.kept,
            "bytes": bytes,
        })
        .to_string(),
        false => format!(
            "{}: {} matrices as {to}, {} tensors as they were, {:.1} MB",
            output.display(),
            told.changed,
            told.kept,
            bytes as f64 / 1e6
        ),
    });
    Ok(())
}
