//! Voices without a name: espeak-ng's American voice with throats, pitches and breath drawn at random, of which nobody is told who
//! speaks. A speech model learns from them to follow a voice that it is shown.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::random::Random;

/// What espeak-ng needs of its data to speak English, beside the voices.
const NEEDED: [&str; 7] = [
    "en_dict",
    "intonations",
    "lang",
    "phondata",
    "phondata-manifest",
    "phonindex",
    "phontab",
];

const DATA: &str = "espeak-ng-data";
/// Where it looks for variants of a voice.
const VARIANTS: &str = "voices/!v";

/// Lowest pitches in Hz that are drawn, evenly on a logarithmic scale.
const PITCHES: [f64; 2] = [62.0, 185.0];

/// espeak-ng's data with a voice of the crowd beside it, in a folder that is gone when this is dropped. It holds one voice at a time:
/// espeak-ng lists 350 at most.
pub struct Crowd {
    folder: tempfile::TempDir,
}

impl Crowd {
    /// A copy of espeak-ng's data without its voices.
    pub fn new() -> Result<Self> {
        let own = installed()?;
        let folder = tempfile::tempdir()?;
        let data = folder.path().join(DATA);
        for name in NEEDED {
            copied(&own.join(name), &data.join(name))
                .with_context(|| own.join(name).display().to_string())?;
        }
        fs::create_dir_all(data.join(VARIANTS))?;
        Ok(Self { folder })
    }

    /// The folder for espeak-ng's `--path`, in which [`Crowd::VOICE`] is now the voice with this number.
    pub fn with(&self, number: usize) -> Result<&Path> {
        let path = self.folder.path().join(DATA).join(VARIANTS).join("crowd");
        fs::write(&path, variant(number)).with_context(|| path.display().to_string())?;
        Ok(self.folder.path())
    }

    /// espeak-ng's name of the voice.
    pub const VOICE: &'static str = "en-us+crowd";
}

/// Where espeak-ng keeps its data, as it says itself.
fn installed() -> Result<PathBuf> {
    let output = Command::new("espeak-ng")
        .arg("--version")
        .output()
        .context("espeak-ng (Debian package espeak-ng)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let path = said.split_once("Data at:").map(|(_, path)| path.trim());
    let path = PathBuf::from(path.unwrap_or_default());
    ensure!(
        path.join("phontab").is_file(),
        "espeak-ng does not say where its data is: {}",
        said.trim()
    );
    Ok(path)
}

/// A file, or a folder with all that is in it.
fn copied(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::copy(from, to)?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copied(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// A voice as espeak-ng's variant files write it: formants in percent of the American voice's frequency, height and width.
fn variant(number: usize) -> String {
    let mut random = Random::named(&format!("crowd {number}"));
    let place = random.share();
    let low = PITCHES[0] * (PITCHES[1] / PITCHES[0]).powf(place);
    let high = low * random.between(1.25, 1.75);
    let mut text = String::from("language variant\nname crowd\ngender male\n");
    let mut line = |words: std::fmt::Arguments<'_>| {
        text.write_fmt(words).expect("a string takes all");
        text.push('\n');
    };
    line(format_args!("pitch {low:.0} {high:.0}"));
    line(format_args!("flutter {}", random.below(9)));
    line(format_args!("roughness {}", random.below(5)));
    line(format_args!("voicing {:.0}", random.between(70.0, 150.0)));
    let strength = random.between(70.0, 150.0);
    line(format_args!("consonants {strength:.0} {strength:.0}"));
    // High voices mostly come from short throats.
    let size = 0.9 + 0.22 * place + random.between(-0.08, 0.12);
    let (height, width) = (random.between(75.0, 110.0), random.between(90.0, 150.0));
    for formant in 0..9 {
        let frequency = 100.0 * size * random.between(0.94, 1.07);
        let height = height * random.between(0.88, 1.12);
        let width = width * random.between(0.9, 1.1);
        line(format_args!(
            "formant {formant} {frequency:.0} {height:.0} {width:.0}"
        ));
    }
    if random.share() < 0.4 {
        let breath = random.between(1.0, 6.5);
        line(format_args!(
            "breath 0 {breath:.0} {breath:.0} {breath:.0} {breath:.0} {breath:.0} {breath:.0} {breath:.0}"
        ));
    }
    if random.share() < 0.4 {
        let (delay, loudness) = (random.between(110.0, 150.0), random.between(5.0, 15.0));
        line(format_args!("echo {delay:.0} {loudness:.0}"));
    }
    if random.share() < 0.5 {
        let [a, b, c] = [[90.0, 220.0], [50.0, 170.0], [40.0, 140.0]]
            .map(|[from, to]| random.between(from, to));
        line(format_args!("tone 600 {a:.0} 1200 {b:.0} 2000 {c:.0}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voices_differ_and_are_the_same_every_time() {
        let all: Vec<String> = (0..50).map(variant).collect();
        assert_eq!(variant(7), all[7]);
        let pitches: Vec<f64> = all
            .iter()
            .map(|text| {
                let line = text.lines().find(|line| line.starts_with("pitch "));
                let low = line.unwrap().split(' ').nth(1).unwrap();
                low.parse().unwrap()
            })
            .collect();
        assert!(pitches.iter().all(|hz| (62.0..=185.0).contains(hz)));
        let low = pitches.iter().filter(|&&hz| hz < 90.0).count();
        let high = pitches.iter().filter(|&&hz| hz > 130.0).count();
        assert!(low > 5 && high > 5, "{pitches:?}");
        assert!(all.iter().all(|text| text.matches("formant").count() == 9));
    }
}
