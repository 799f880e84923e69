//! How alike two voices are, whatever they say.
//!
//! The protocol: mel-frequency cepstra (Davis and Mermelstein 1980; 40 bands, Hann windows of 25 ms or the next power of two, half a window
//! apart, coefficients 1 to 19, so that loudness does not count; mels are raised to 50 dB below the recording's loudest, so that its noise does
//! not count either) of every window within 30 dB of the loudest; a voice's *print* is the mean and the standard deviation of each. Every number of a print is brought to mean 0 and deviation 1 over the known recordings, and
//! two prints are compared by the cosine of their angle.

use crate::sound::{fourier::magnitudes, mel_bank};

const WINDOW_SECS: f64 = 0.025;
const BANDS: usize = 40;
const COEFFICIENTS: usize = 19;
/// Magnitude below which nothing is heard.
const LEAST: f64 = 1e-8;
/// Least mel whose logarithm is taken, as a share of the loudest: 50 dB.
const FLOOR: f64 = 0.003_16;
/// Share of the loudest window's magnitude that counts: 30 dB.
const HEARD: f64 = 0.0316;

/// What a voice sounds like: means, then deviations of its cepstra. None where nothing is heard.
pub fn voice_print(samples: &[f32], sample_rate_hz: u32) -> Option<Vec<f64>> {
    let points = ((f64::from(sample_rate_hz) * WINDOW_SECS) as usize)
        .max(32)
        .next_power_of_two();
    let rows = magnitudes(samples, points, points / 2);
    let loudness = |row: &Vec<f64>| row.iter().map(|m| m * m).sum::<f64>().sqrt();
    let loudest = rows.iter().map(loudness).fold(0.0, f64::max);
    if loudest <= LEAST {
        return None;
    }
    let bank = mel_bank(sample_rate_hz, points, BANDS);
    let heard = rows.iter().filter(|row| loudness(row) >= HEARD * loudest);
    let mels: Vec<Vec<f64>> = heard.map(|row| mels(row, &bank)).collect();
    let floor = FLOOR * mels.iter().flatten().copied().fold(LEAST, f64::max);
    let cepstra: Vec<Vec<f64>> = mels.iter().map(|row| cepstrum(row, floor)).collect();
    let moments: Vec<(f64, f64)> = (0..COEFFICIENTS)
        .map(|at| moments(cepstra.iter().map(|row| row[at])))
        .collect();
    let means = moments.iter().map(|(mean, _)| *mean);
    Some(
        means
            .chain(moments.iter().map(|(_, deviation)| *deviation))
            .collect(),
    )
}

fn mels(magnitudes: &[f64], bank: &[Vec<f64>]) -> Vec<f64> {
    let band = |weights: &Vec<f64>| magnitudes.iter().zip(weights).map(|(m, w)| m * w).sum();
    bank.iter().map(band).collect()
}

/// The cosine transform (kind II) of log-mels, without its first number.
fn cepstrum(mels: &[f64], floor: f64) -> Vec<f64> {
    let logs: Vec<f64> = mels.iter().map(|mel| mel.max(floor).ln()).collect();
    let step = std::f64::consts::PI / logs.len() as f64;
    (1..=COEFFICIENTS)
        .map(|k| {
            let terms = logs.iter().enumerate();
            terms
                .map(|(at, log)| log * (step * k as f64 * (at as f64 + 0.5)).cos())
                .sum()
        })
        .collect()
}

/// Mean and standard deviation.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// Prints of known recordings, voice by voice.
#[derive(Debug, Clone, Default)]
pub struct Voices {
    prints: Vec<(String, Vec<f64>)>,
    /// Mean and deviation of every number of a print.
    scale: Vec<(f64, f64)>,
}

impl Voices {
    /// Recordings with their voices' names.
    pub fn new(prints: Vec<(String, Vec<f64>)>) -> Self {
        let width = prints.first().map_or(0, |(_, print)| print.len());
        let scale = (0..width).map(|at| moments(prints.iter().map(|(_, print)| print[at])));
        Self {
            scale: scale.collect(),
            prints,
        }
    }

    /// The cosine of two prints' angle, in `-1..=1`.
    pub fn similarity(&self, one: &[f64], other: &[f64]) -> f64 {
        let scaled = |print: &[f64]| -> Vec<f64> {
            let numbers = print.iter().zip(&self.scale);
            numbers
                .map(|(value, (mean, deviation))| (value - mean) / deviation.max(1e-9))
                .collect()
        };
        let (one, other) = (scaled(one), scaled(other));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&one, &other) / (dot(&one, &one) * dot(&other, &other)).sqrt().max(1e-12)
    }

    /// Mean similarity of a print with each voice's recordings, the nearest voice first. A recording that equals the print is left out.
    pub fn nearest(&self, print: &[f64]) -> Vec<(&str, f64)> {
        let mut names: Vec<&str> = self.prints.iter().map(|(name, _)| &name[..]).collect();
        names.sort_unstable();
        names.dedup();
        let of = |name: &&str| {
            let others = self.prints.iter();
            let others = others.filter(|(voice, other)| voice == name && other != print);
            let all: Vec<f64> = others
                .map(|(_, other)| self.similarity(print, other))
                .collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        let mut found: Vec<(&str, f64)> = names
            .iter()
            .filter_map(|name| Some((*name, of(name)?)))
            .collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buzz of some pitch through a resonance.
    fn voice(pitch: f64, resonance: f64, loudness: f64) -> Vec<f32> {
        let tone = |time: f64, hz: f64| (std::f64::consts::TAU * hz * time).sin();
        (0..16_000)
            .map(|at| {
                let time = f64::from(at) / 16_000.0;
                let partials = (1..20).map(|k| {
                    let hz = pitch * f64::from(k);
                    tone(time, hz) / (1.0 + ((hz - resonance) / 200.0).powi(2))
                });
                (loudness * partials.sum::<f64>()) as f32
            })
            .collect()
    }

    #[test]
    fn a_voice_is_nearer_to_itself_than_to_others_however_loud() {
        let print = |pitch, resonance, loudness| {
            voice_print(&voice(pitch, resonance, loudness), 16_000).unwrap()
        };
        let known = [("low", 500.0), ("middle", 1200.0), ("high", 2500.0)];
        let prints = known.iter().flat_map(|&(name, hz)| {
            [100.0, 110.0, 125.0].map(|pitch| (name.to_string(), print(pitch, hz, 0.1)))
        });
        let voices = Voices::new(prints.collect());
        for (name, hz) in known {
            let nearest = voices.nearest(&print(117.0, hz, 0.02));
            assert_eq!(nearest[0].0, name, "{nearest:?}");
            assert!(nearest[0].1 > nearest[1].1 + 0.1, "{nearest:?}");
        }
        let one = print(100.0, 500.0, 0.1);
        assert!((voices.similarity(&one, &one) - 1.0).abs() < 1e-9);
        let louder = print(100.0, 500.0, 0.2);
        assert!(voices.similarity(&one, &louder) > 0.999);
    }

    #[test]
    fn silence_has_no_voice() {
        assert_eq!(voice_print(&[0.0; 8000], 16_000), None);
        assert_eq!(voice_print(&[], 16_000), None);
    }
}
