//! The run's log: one JSON object per line, and a plot of the losses as SVG.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plotters::prelude::*;
use serde_json::{Value, json};

use crate::TrainError;

/// Appends to `log.jsonl`.
pub(crate) struct Log {
    path: PathBuf,
    lines: Vec<String>,
}

impl Log {
    /// Opens the log; lines at or after `step` are dropped, since they are about to be written again.
    pub(crate) fn open(path: PathBuf, step: usize) -> Self {
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = before
            .lines()
            .filter(|line| step_of(line).is_some_and(|at| at < step))
            .map(String::from)
            .collect();
        Self { path, lines }
    }

    pub(crate) fn add(&mut self, step: usize, kind: &str, values: &BTreeMap<String, f64>) {
        let mut row = json!({ "step": step, "kind": kind });
        for (name, value) in values {
            row[name] = json!(value);
        }
        self.lines.push(row.to_string());
    }

    /// Writes the log and the plot beside it.
    pub(crate) fn flush(&self) -> Result<(), TrainError> {
        let text = self
            .lines
            .iter()
            .fold(String::new(), |text, line| text + line + "\n");
        ravel_weights::atomic_write(&self.path, text.as_bytes())?;
        let plot = self.path.with_file_name("loss.svg");
        ravel_weights::atomic_write(&plot, loss_plot(&text).as_bytes())?;
        Ok(())
    }
}

fn step_of(line: &str) -> Option<usize> {
    let row: Value = serde_json::from_str(line).ok()?;
    row["step"].as_u64().map(|step| step as usize)
}

/// An SVG of every `loss…` value of a log against the step, on a logarithmic axis.
///
/// # Panics
/// Never on text that is not a log: lines that are no JSON objects are passed over.
pub fn loss_plot(log: &str) -> String {
    let mut curves: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in log.lines() {
        let Ok(Value::Object(row)) = serde_json::from_str(line) else {
            continue;
        };
        let Some(step) = row.get("step").and_then(Value::as_f64) else {
            continue;
        };
        let kind = row.get("kind").and_then(Value::as_str).unwrap_or("train");
        for (name, value) in &row {
            if let Some(value) = value.as_f64()
                && name.contains("loss")
                && value > 0.0
            {
                curves
                    .entry(format!("{kind} {name}"))
                    .or_default()
                    .push((step, value));
            }
        }
    }
    draw(&curves).unwrap_or_default()
}

fn draw(curves: &BTreeMap<String, Vec<(f64, f64)>>) -> Option<String> {
    let points = || curves.values().flatten();
    let last = points().map(|point| point.0).fold(1.0, f64::max);
    let low = points().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = points()
        .map(|point| point.1)
        .fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() {
        return None;
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 500)).into_drawing_area();
        area.fill(&WHITE).ok()?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .set_label_area_size(LabelAreaPosition::Left, 60)
            .set_label_area_size(LabelAreaPosition::Bottom, 36)
            .build_cartesian_2d(0.0..last, (low * 0.95..high * 1.05).log_scale())
            .ok()?;
        chart
            .configure_mesh()
            .x_desc("step")
            .y_desc("loss")
            .draw()
            .ok()?;
        for (at, (name, curve)) in curves.iter().enumerate() {
            let color = Palette99::pick(at).to_rgba();
            chart
                .draw_series(LineSeries::new(curve.iter().copied(), color))
                .ok()?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        }
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .draw()
            .ok()?;
        area.present().ok()?;
    }
    Some(svg)
}

/// The path of the log in a run folder.
pub(crate) fn log_path(folder: &Path) -> PathBuf {
    folder.join("log.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plot_shows_each_loss_as_a_curve() {
        let log = "{\"step\":0,\"kind\":\"train\",\"loss\":2.0}\nnot json\n{\"step\":9,\"kind\":\"train\",\"loss\":1.0}\n";
        let svg = loss_plot(log);
        assert!(
            svg.contains("<polyline") && svg.contains("train loss"),
            "{svg}"
        );
        assert_eq!(loss_plot(""), "");
    }
}
