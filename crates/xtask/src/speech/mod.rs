//! The default speech data: sentences from templates and a word list, spoken by espeak-ng in several voices and by a crowd.

mod crowd;
mod render;
mod sentences;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::random::Random;
use crowd::Crowd;
use render::Manner;
use sentences::{Sentences, read_lines};

/// Speeds with their words a minute.
const SPEEDS: [(&str, u32); 3] = [("slow", 140), ("normal", 165), ("fast", 195)];

/// Flags of `cargo xtask data-speech`.
#[derive(clap::Args)]
pub struct Options {
    /// The folder that is written.
    #[arg(long, default_value = "data/speech")]
    out: PathBuf,
    /// The folder with the tracked lists `speech-*.txt`.
    #[arg(long, default_value = "assets/data")]
    lists: PathBuf,
    /// Training utterances of the named voices together.
    #[arg(long, default_value_t = 6000)]
    utterances: usize,
    /// Voices without a name beside them, of four training utterances each.
    #[arg(long, default_value_t = 1500)]
    crowd: usize,
    /// Processes at a time; as many as there are cores by default.
    #[arg(long)]
    jobs: Option<usize>,
}

/// Utterances of a voice of the crowd.
const EACH: usize = 4;
/// espeak-ng's middle pitch: a voice of the crowd has its own.
const MIDDLE: u32 = 50;

struct Voice {
    name: String,
    espeak: String,
    pitch: u32,
    kind: Kind,
}

/// What a voice is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To be learned by its name.
    Named,
    /// To be learned without a name: the voice of the crowd with this number.
    Crowd(usize),
    /// To measure with.
    HeldOut,
}

/// What is to be spoken.
struct Utterance<'a> {
    name: String,
    split: &'static str,
    text: String,
    voice: &'a Voice,
    speed: (&'static str, u32),
}

/// Speaks all sentences and writes the rows.
pub fn build(options: &Options) -> Result<()> {
    let list = |name: &str| options.lists.join(format!("speech-{name}.txt"));
    let held_out_words = read_lines(&list("held-out-words"))?;
    let held_out = read_lines(&list("held-out-sentences"))?;
    let words = read_lines(&list("words"))?;
    let sentences = Sentences::read(&list("templates"), words)?.without(&held_out_words, &held_out);
    let voices = read_voices(&list("voices"))?;
    let others: Vec<Voice> = (0..options.crowd).map(Voice::of_crowd).collect();
    let mut all = training(options.utterances, &sentences, &voices)?;
    all.extend(of_crowd(&others, &sentences)?);
    all.extend(held_out_ones(&held_out, &voices));
    for folder in ["train", "crowd", "held-out", "held-out-voice"] {
        let folder = options.out.join(folder);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let rows = spoken(&all, options)?;
    let seconds: f64 = rows.iter().map(|row| row.1).sum();
    let text: String = rows.into_iter().map(|row| row.0).collect();
    let path = options.out.join("speech.jsonl");
    ravel_files::write_whole(&path, text.as_bytes(), true)
        .with_context(|| path.display().to_string())?;
    println!(
        "{} utterances, {seconds:.0} s of sound, in {}",
        all.len(),
        options.out.display()
    );
    Ok(())
}

fn training<'a>(
    count: usize,
    sentences: &Sentences,
    voices: &'a [Voice],
) -> Result<Vec<Utterance<'a>>> {
    let voices: Vec<&Voice> = voices
        .iter()
        .filter(|voice| voice.kind == Kind::Named)
        .collect();
    (0..count)
        .map(|at| {
            let mut random = Random::named(&format!("train {at}"));
            let text = sentences.draw(at, &mut random)?;
            Ok(Utterance {
                name: format!("train/{at:05}"),
                split: "train",
                text,
                voice: voices[random.below(voices.len())],
                speed: SPEEDS[random.below(SPEEDS.len())],
            })
        })
        .collect()
}

/// A few sentences by each voice of the crowd.
fn of_crowd<'a>(crowd: &'a [Voice], sentences: &Sentences) -> Result<Vec<Utterance<'a>>> {
    let all = (0..crowd.len() * EACH).map(|at| {
        let mut random = Random::named(&format!("crowd utterance {at}"));
        let template = random.below(usize::MAX);
        Ok(Utterance {
            name: format!("crowd/{at:05}"),
            split: "train",
            text: sentences.draw(template, &mut random)?,
            voice: &crowd[at / EACH],
            speed: SPEEDS[random.below(SPEEDS.len())],
        })
    });
    all.collect()
}

/// Every held-out sentence by a known voice and by one of the held-out ones.
fn held_out_ones<'a>(sentences: &[String], voices: &'a [Voice]) -> Vec<Utterance<'a>> {
    let (new, known): (Vec<&Voice>, Vec<&Voice>) =
        voices.iter().partition(|voice| voice.kind == Kind::HeldOut);
    let mut all = Vec::new();
    for (split, voices) in [("held-out", known), ("held-out-voice", new)] {
        let spoken = sentences.iter().enumerate().map(|(at, text)| Utterance {
            name: format!("{split}/{at:05}"),
            split,
            text: text.clone(),
            voice: voices[at % voices.len()],
            speed: SPEEDS[1],
        });
        all.extend(spoken);
    }
    all
}

/// A row and the seconds of each utterance, in their order.
fn spoken(all: &[Utterance<'_>], options: &Options) -> Result<Vec<(String, f64)>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = options.jobs.unwrap_or(cores).clamp(1, 64);
    let next = AtomicUsize::new(0);
    let done: Vec<Vec<(usize, String, f64)>> = std::thread::scope(|scope| {
        let work = || -> Result<Vec<_>> {
            let scratch = tempfile::tempdir()?;
            let crowd = Crowd::new()?;
            let mut found = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(one) = all.get(at) else {
                    break;
                };
                let spoken = one.speak(scratch.path(), &crowd, &options.out);
                let (row, seconds) = spoken.with_context(|| one.name.clone())?;
                found.push((at, row, seconds));
            }
            Ok(found)
        };
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("no utterance panics"));
        joined.collect::<Result<_>>()
    })?;
    let mut rows: Vec<_> = done.into_iter().flatten().collect();
    rows.sort_by_key(|row| row.0);
    Ok(rows
        .into_iter()
        .map(|(_, row, seconds)| (row, seconds))
        .collect())
}

impl Utterance<'_> {
    fn speak(&self, scratch: &Path, crowd: &Crowd, out: &Path) -> Result<(String, f64)> {
        let data = match self.voice.kind {
            Kind::Crowd(number) => Some(crowd.with(number)?),
            _ => None,
        };
        let manner = Manner {
            data,
            voice: &self.voice.espeak,
            speed: self.speed.1,
            pitch: self.voice.pitch,
        };
        let (samples, phonemes) = render::utterance(&self.text, manner, scratch)?;
        let file = format!("{}.wav", self.name);
        let path = out.join(&file);
        fs::write(&path, render::wav(&samples)).with_context(|| path.display().to_string())?;
        let seconds = samples.len() as f64 / f64::from(render::RATE);
        let mut row = json!({
            "file": file,
            "text": self.text,
            "split": self.split,
            "voice": self.voice.name,
            "speed": self.speed.0,
            "words-per-minute": self.speed.1,
            "pitch": self.voice.pitch,
            "phonemes": phonemes,
            "seconds": (seconds * 1000.0).round() / 1000.0,
        });
        if data.is_some() {
            row["unnamed"] = json!(true);
        }
        Ok((format!("{row}\n"), seconds))
    }
}

impl Voice {
    /// A voice of the crowd.
    fn of_crowd(number: usize) -> Self {
        Self {
            name: format!("crowd-{number:04}"),
            espeak: Crowd::VOICE.into(),
            pitch: MIDDLE,
            kind: Kind::Crowd(number),
        }
    }
}

fn read_voices(path: &Path) -> Result<Vec<Voice>> {
    let shown = path.display();
    let voices: Vec<Voice> = read_lines(path)?
        .iter()
        .map(|line| {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let (name, espeak, pitch, kind) = match parts[..] {
                [name, espeak, pitch] => (name, espeak, pitch, Kind::Named),
                [name, espeak, pitch, "held-out"] => (name, espeak, pitch, Kind::HeldOut),
                _ => bail!("{shown}: `{line}` is not `name voice pitch [held-out]`"),
            };
            Ok(Voice {
                name: name.into(),
                espeak: espeak.into(),
                pitch: pitch
                    .parse()
                    .with_context(|| format!("{shown}: `{line}`"))?,
                kind,
            })
        })
        .collect::<Result<_>>()?;
    let held_out = voices
        .iter()
        .filter(|voice| voice.kind == Kind::HeldOut)
        .count();
    ensure!(
        held_out > 0 && held_out < voices.len(),
        "{shown}: {held_out} of {} voices are held out; some, not all, are expected",
        voices.len()
    );
    Ok(voices)
}
