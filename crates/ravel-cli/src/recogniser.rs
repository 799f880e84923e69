//! Word errors by a recogniser that Ravel has no part in: pocketsphinx, where a Python that has it is there.

use std::path::{Path, PathBuf};
use std::process::Command;

use ravel_media::{Sound, encode_wav};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::failure::Failure;
use crate::interrupt;

/// Recognises files and counts errors; `tests/word_error.py` is a tool by itself, too.
const SCRIPT: &str = include_str!("../../../tests/word_error.py");
/// The rate that the recogniser's model was made for.
const RATE_HZ: u32 = 16_000;

/// Counted over recordings.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WordErrors {
    /// Substitutions, deletions and insertions.
    pub errors: usize,
    /// Words that were to be said.
    pub words: usize,
    /// Recordings.
    pub recordings: usize,
}

impl WordErrors {
    /// Errors in a hundred words.
    pub fn percent(&self) -> f64 {
        100.0 * self.errors as f64 / self.words.max(1) as f64
    }
}

/// A Python with pocketsphinx.
pub struct Recogniser {
    python: PathBuf,
    /// JSON lines whose held-out texts make up the grammar: a word may follow another where it does so in one of them.
    vocabulary: PathBuf,
}

impl Recogniser {
    /// The one that is named, or that of the system if it has pocketsphinx.
    ///
    /// # Errors
    /// If the named one has none.
    pub fn find(named: Option<&Path>, vocabulary: &Path) -> Result<Option<Self>, Failure> {
        let python = named.unwrap_or(Path::new("python3")).to_path_buf();
        let tried = Command::new(&python)
            .args(["-c", "import pocketsphinx"])
            .output();
        let reason = match tried {
            Ok(output) if output.status.success() => {
                return Ok(Some(Self {
                    python,
                    vocabulary: vocabulary.to_path_buf(),
                }));
            }
            Ok(_) => "it has no pocketsphinx".to_string(),
            Err(error) => error.to_string(),
        };
        match named {
            None => Ok(None),
            Some(named) => Err(Failure::input_with(
                format!("{}: {reason}", named.display()),
                "name a Python that has it: pip install pocketsphinx",
            )),
        }
    }

    /// Word errors of recordings of one channel with what is said in them; `open` lets any English be heard, rather than the
    /// vocabulary's words alone.
    pub fn listen(&self, said: &[(Sound, String)], open: bool) -> Result<WordErrors, Failure> {
        let failed = |error: std::io::Error| Failure::runtime(format!("word errors: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        let mut rows = String::new();
        for (at, (sound, text)) in said.iter().enumerate() {
            let name = format!("{at:05}.wav");
            let wav = encode_wav(&sound.clone().resampled(RATE_HZ), &[]);
            std::fs::write(folder.path().join(&name), wav).map_err(failed)?;
            rows += &json!({ "file": name, "text": text, "split": "held-out" }).to_string();
            rows.push('\n');
        }
        let (script, list) = (
            folder.path().join("word_error.py"),
            folder.path().join("rows.jsonl"),
        );
        std::fs::write(&script, SCRIPT).map_err(failed)?;
        std::fs::write(&list, rows).map_err(failed)?;
        let mut command = Command::new(&self.python);
        command.arg(script).arg(list).arg("--json");
        command.arg("--vocabulary").arg(&self.vocabulary);
        if open {
            command.arg("--open");
        }
        let output = command.output().map_err(failed)?;
        if interrupt::asked() {
            return Err(Failure::Interrupted);
        }
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            let last = told.lines().last().unwrap_or("it failed").to_string();
            return Err(Failure::runtime(format!("pocketsphinx: {last}")));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure::runtime(format!("pocketsphinx: {error}")))
    }
}
