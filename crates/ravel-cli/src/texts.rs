//! `ravel text --prompts`: many texts side by side.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};
use text_generation::Request;

use crate::arguments::TextOptions;
use crate::failure::Failure;
use crate::{interrupt, progress, text};

/// Most prompts of one run.
const MOST: usize = 100_000;

/// A line of the file.
struct Line {
    number: usize,
    prompt: String,
    seed: Option<u64>,
}

/// Makes a text for every line.
pub fn run(options: &TextOptions, path: &Path) -> Result<(), Failure> {
    if options.max_tokens == 0 {
        return Err(text_generation::Error::Nothing.into());
    }
    let lines = lines(path)?;
    let pipeline = text::asked(options)?;
    let shown = path.display();
    let requests = lines.iter().map(|line| {
        let seed = line.seed.unwrap_or(options.seed);
        text::request(options, &pipeline, line.prompt.clone(), seed)
    });
    let requests: Vec<Request> = requests.collect::<Result<_, _>>()?;
    for (line, request) in lines.iter().zip(&requests) {
        pipeline
            .check(request)
            .map_err(|error| Failure::input(format!("{shown}:{}: {error}", line.number)))?;
    }
    let bar = progress::bar(requests.len() * options.max_tokens, options.json);
    let texts = pipeline.run_all(&requests, options.batch, &mut |_, _| {
        bar.inc(1);
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    bar.finish_and_clear();
    for ((line, request), output) in lines.iter().zip(&requests).zip(&texts.outputs) {
        let mut row = text::object(output, request, &pipeline.parts().name);
        row["prompt"] = json!(line.prompt);
        progress::say(&row.to_string());
    }
    match interrupt::asked() {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}

fn lines(path: &Path) -> Result<Vec<Line>, Failure> {
    let shown = path.display().to_string();
    let file =
        std::fs::File::open(path).map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    let text = text::read(file, &shown)?;
    // Some editors open a file with a mark of its encoding.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let filled = text.lines().enumerate();
    let filled = filled.filter(|(_, line)| !line.trim().is_empty());
    let lines = filled.map(|(at, line)| {
        let read = of_line(line, at + 1);
        read.map_err(|reason| Failure::input(format!("{shown}:{}: {reason}", at + 1)))
    });
    let lines: Vec<Line> = lines.collect::<Result<_, _>>()?;
    match lines.len() {
        0 => Err(Failure::input_with(
            format!("{shown}: there is no prompt in it"),
            "write one on each line",
        )),
        found if found > MOST => Err(Failure::input(format!(
            "{shown}: {found} prompts, {MOST} at most are made in a run"
        ))),
        _ => Ok(lines),
    }
}

fn of_line(line: &str, number: usize) -> Result<Line, String> {
    if line.contains('\0') {
        return Err("holds zero bytes, so it is no text".into());
    }
    if !line.trim_start().starts_with('{') {
        return Ok(Line {
            number,
            prompt: line.into(),
            seed: None,
        });
    }
    let row: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let keys = row.as_object().into_iter().flat_map(|row| row.keys());
    let known = ["prompt", "seed"];
    if let Some(key) = keys.map(String::as_str).find(|key| !known.contains(key)) {
        return Err(format!(
            "the key `{}` is not read; a line has `prompt` and perhaps `seed`, settings are flags",
            key.escape_debug()
        ));
    }
    let seed = match &row["seed"] {
        Value::Null => None,
        seed => Some(seed.as_u64().ok_or("`seed` is no whole number from 0 on")?),
    };
    match row["prompt"].as_str() {
        Some(prompt) => Ok(Line {
            number,
            prompt: prompt.into(),
            seed,
        }),
        None => Err("a JSON line needs the key `prompt`, a text".into()),
    }
}
