//! `ravel train`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indicatif::ProgressBar;
use ravel_train::{Event, Outcome, Products, Recipe, Watch, train};
use serde_json::json;

use crate::arguments::{DeviceName, TrainOptions};
use crate::failure::Failure;
use crate::{interrupt, progress};

/// Steps between lines where there is no terminal.
const LINE_STEPS: usize = 50;

/// Runs a recipe.
pub fn run(options: &TrainOptions) -> Result<(), Failure> {
    ravel_kernels::machine::keep_memory();
    let recipe = Recipe::open(&options.recipe)?;
    let folder = options
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    let device = options.device.device.open()?;
    if recipe.products == Products::Bf16 && !options.quiet && !options.json {
        let here = options.device.device == DeviceName::Cpu && ravel_kernels::tracked::has_halves();
        if !here {
            progress::say("products in bf16 are not to be had here: they are computed in f32");
        }
    }
    let mut teller = Teller {
        bar: progress::bar(recipe.steps, options.quiet || options.json),
        json: options.json,
        quiet: options.quiet,
    };
    let outcome = train(&recipe, &folder, options.resume, &device, &mut teller)?;
    teller.bar.finish_and_clear();
    match outcome {
        Outcome::Interrupted => Err(Failure::Interrupted),
        Outcome::Finished => {
            if !options.quiet && !options.json {
                progress::say(&format!("trained into {}", folder.display()));
            }
            Ok(())
        }
    }
}

struct Teller {
    bar: ProgressBar,
    json: bool,
    quiet: bool,
}

impl Teller {
    fn line(&self, text: String) {
        if self.quiet {
            return;
        }
        if self.bar.is_hidden() {
            progress::say(&text);
        } else {
            self.bar.println(text);
        }
    }

    fn values(values: &BTreeMap<String, f64>) -> String {
        let parts: Vec<String> = values
            .iter()
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        parts.join("  ")
    }
}

impl Watch for Teller {
    fn event(&mut self, event: Event) {
        if self.json {
            let row = match &event {
                Event::Started {
                    step,
                    steps,
                    parameters,
                } => {
                    json!({ "event": "started", "step": step, "steps": steps, "parameters": parameters })
                }
                Event::Step { done, values } => {
                    json!({ "event": "step", "done": done, "values": values })
                }
                Event::Validated { done, values } => {
                    json!({ "event": "validated", "done": done, "values": values })
                }
                Event::Wrote(path) => json!({ "event": "wrote", "path": path }),
            };
            return progress::say(&row.to_string());
        }
        match event {
            Event::Started {
                step,
                steps,
                parameters,
            } => {
                self.bar.set_position(step as u64);
                self.bar.reset_eta();
                let millions = parameters as f64 / 1e6;
                self.line(format!(
                    "{millions:.2} M parameters, steps {step} to {steps}"
                ));
            }
            Event::Step { done, values } => {
                self.bar.set_position(done as u64);
                let loss = values.get("loss").copied().unwrap_or_default();
                self.bar.set_message(format!("loss {loss:.4}"));
                if self.bar.is_hidden() && done % LINE_STEPS == 0 {
                    self.line(format!("step {done}  {}", Self::values(&values)));
                }
            }
            Event::Validated { values, .. } if values.is_empty() => {}
            Event::Validated { done, values } => {
                self.line(format!("held out at {done}  {}", Self::values(&values)));
            }
            Event::Wrote(path) => self.line(format!("wrote {}", path.display())),
        }
    }

    fn stop(&mut self) -> bool {
        interrupt::asked()
    }
}
