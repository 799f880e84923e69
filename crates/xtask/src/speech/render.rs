//! One utterance by espeak-ng: its sound at 16 kHz without silence around it, and its phonemes.

use std::f64::consts::PI;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Samples in a second of what is written.
pub const RATE: u32 = 16_000;
/// Zero crossings of the resampling filter on each side.
const CROSSINGS: f64 = 16.0;
/// What is louder than this belongs to the utterance.
const LOUD: f32 = 0.004;
/// Silence that is kept around it, in samples at [`RATE`].
const KEPT: [usize; 2] = [640, 1280];

/// How an utterance is spoken.
#[derive(Clone, Copy)]
pub struct Manner<'a> {
    /// Folder of espeak-ng's data, if it is not its own.
    pub data: Option<&'a Path>,
    /// espeak-ng's voice.
    pub voice: &'a str,
    /// Words a minute.
    pub speed: u32,
    /// 0 to 99.
    pub pitch: u32,
}

/// Samples at [`RATE`] and phonemes (IPA).
pub fn utterance(text: &str, manner: Manner<'_>, scratch: &Path) -> Result<(Vec<f32>, String)> {
    let (wav, phonemes) = (scratch.join("u.wav"), scratch.join("u.txt"));
    let mut command = Command::new("espeak-ng");
    if let Some(data) = manner.data {
        let mut path = std::ffi::OsString::from("--path=");
        path.push(data);
        command.arg(path);
    }
    let output = command
        .args(["--ipa", "-v", manner.voice])
        .args(["-s", &manner.speed.to_string()])
        .args(["-p", &manner.pitch.to_string()])
        .arg(format!("--phonout={}", phonemes.display()))
        .arg("-w")
        .arg(&wav)
        .arg(text)
        .output()
        .context("espeak-ng (Debian package espeak-ng)")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("espeak-ng: {}", said.trim());
    }
    let (samples, rate) = read_wav(&fs::read(&wav)?).context("what espeak-ng wrote")?;
    let sound = trimmed(resampled(&samples, rate));
    ensure!(!sound.is_empty(), "`{text}` gives silence");
    let spoken = fs::read_to_string(&phonemes)?;
    Ok((
        sound,
        spoken.split_whitespace().collect::<Vec<_>>().join(" "),
    ))
}

/// A WAV file of 16 bits and one channel.
pub fn wav(samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = samples
        .iter()
        .flat_map(|sample| {
            let scaled = (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16;
            scaled.to_le_bytes()
        })
        .collect();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(RATE.to_le_bytes());
    bytes.extend((2 * RATE).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// Samples and rate of a file of 16 bits and one channel with a header of 44 bytes.
fn read_wav(bytes: &[u8]) -> Result<(Vec<f32>, u32)> {
    ensure!(
        bytes.len() > 44 && &bytes[36..40] == b"data" && bytes[22..24] == [1, 0],
        "not a plain WAV file"
    );
    let rate = u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes"));
    let samples = bytes[44..]
        .chunks_exact(2)
        .map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0);
    Ok((samples.collect(), rate))
}

/// At [`RATE`], through a sinc under a Hann window that keeps what both rates can hold.
fn resampled(samples: &[f32], rate: u32) -> Vec<f32> {
    let ratio = f64::from(RATE) / f64::from(rate);
    let cut = ratio.min(1.0);
    let reach = CROSSINGS / cut;
    let count = (samples.len() as f64 * ratio) as usize;
    // Places repeat, as seen from the samples, after so many.
    let common = common_divisor(RATE, rate);
    let (phases, step) = ((RATE / common) as usize, (rate / common) as usize);
    let around = reach.floor() as isize;
    let filters: Vec<Vec<f32>> = (0..phases)
        .map(|phase| {
            let place = (phase * step % phases) as f64 / phases as f64;
            let weight = |tap: isize| {
                let away = place - tap as f64;
                if away.abs() > reach {
                    return 0.0;
                }
                let window = 0.5 + 0.5 * (PI * away / reach).cos();
                (cut * sinc(cut * away) * window) as f32
            };
            (-around..=around + 1).map(weight).collect()
        })
        .collect();
    (0..count)
        .map(|at| {
            let first = (at * step / phases) as isize - around;
            let taps = filters[at % phases].iter().enumerate();
            taps.filter_map(|(tap, weight)| {
                let from = usize::try_from(first + tap as isize).ok()?;
                Some(samples.get(from)? * weight)
            })
            .sum()
        })
        .collect()
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

fn sinc(x: f64) -> f64 {
    match x.abs() < 1e-9 {
        true => 1.0,
        false => (PI * x).sin() / (PI * x),
    }
}

/// Without most of the silence at both ends.
fn trimmed(samples: Vec<f32>) -> Vec<f32> {
    let loud = |sample: &f32| sample.abs() > LOUD;
    let Some(first) = samples.iter().position(loud) else {
        return Vec::new();
    };
    let last = samples.iter().rposition(loud).expect("one is loud");
    let end = (last + 1 + KEPT[1]).min(samples.len());
    samples[first.saturating_sub(KEPT[0])..end].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_keeps_its_pitch_and_loudness_at_another_rate() {
        let tone = |rate: f64, count: usize| -> Vec<f32> {
            let wave = |at: usize| (at as f64 * 440.0 * 2.0 * PI / rate).sin() as f32;
            (0..count).map(wave).collect()
        };
        let found = resampled(&tone(22_050.0, 22_050), 22_050);
        let expected = tone(16_000.0, 16_000);
        assert_eq!(found.len(), expected.len());
        for at in 100..15_900 {
            assert!((found[at] - expected[at]).abs() < 2e-3, "sample {at}");
        }
    }

    #[test]
    fn silence_is_cut_and_files_are_read_back() {
        let mut samples = vec![0.0; 5000];
        samples.extend([0.5, -0.5]);
        samples.extend(vec![0.0; 5000]);
        let cut = trimmed(samples);
        assert_eq!(cut.len(), KEPT[0] + 2 + KEPT[1]);
        let (back, rate) = read_wav(&wav(&cut)).unwrap();
        assert_eq!((back.len(), rate), (cut.len(), RATE));
        assert!((back[KEPT[0]] - 0.5).abs() < 1e-3);
        assert!(trimmed(vec![0.0; 9]).is_empty());
    }
}
