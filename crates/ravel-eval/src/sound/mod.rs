//! How near decoded sound is to what was encoded.
//!
//! The protocol: all measures are means over channels, at the codec's own rate.
//! - SI-SDR (Le Roux et al. 2019): means are removed, the reference is scaled to the best fit; decibels.
//! - STFT distance (Yamamoto et al. 2020): spectral convergence plus the mean difference of natural log magnitudes, at windows of 512,
//!   1024 and 2048 samples (a quarter apart), averaged.
//! - Mel distance: the mean difference of natural logarithms of 80 mel bands (O'Shaughnessy's scale, triangles, 2048 points, 512 apart).

pub(crate) mod fourier;
mod quality;

use serde::Serialize;

use fourier::magnitudes;
pub use quality::{PESQ_RATE_HZ, pesq};

/// Windows of the STFT distance.
const WINDOWS: [usize; 3] = [512, 1024, 2048];
/// Least magnitude whose logarithm is taken.
const LEAST: f64 = 1e-5;
const MEL_POINTS: usize = 2048;
const MEL_HOP: usize = 512;
const MEL_BANDS: usize = 80;

/// What was measured on one sound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SoundDistance {
    /// Decibels; none for silence, which nothing can be compared to by scale.
    pub si_sdr: Option<f64>,
    /// Zero for equal sounds; none for silence, of whose power the difference would be a share.
    pub stft: Option<f64>,
    /// Zero for equal sounds.
    pub mel: f64,
}

/// Compares decoded sound with the original, channel by channel.
///
/// # Panics
/// If the channels or their lengths differ, or there are none.
pub fn sound_distance(
    found: &[Vec<f32>],
    original: &[Vec<f32>],
    sample_rate_hz: u32,
) -> SoundDistance {
    assert_eq!(found.len(), original.len(), "channel axis: not as many");
    let bank = mel_bank(sample_rate_hz, MEL_POINTS, MEL_BANDS);
    let pairs = || found.iter().zip(original);
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let ratios: Option<Vec<f64>> = pairs().map(|(a, b)| si_sdr(a, b)).collect();
    let spectral: Option<Vec<f64>> = pairs().map(|(a, b)| stft_distance(a, b)).collect();
    SoundDistance {
        si_sdr: ratios.map(mean),
        stft: spectral.map(mean),
        mel: mean(pairs().map(|(a, b)| mel_distance(a, b, &bank)).collect()),
    }
}

/// Scale-invariant signal-to-distortion ratio in decibels; none where the original is silent.
///
/// # Panics
/// If the lengths differ.
pub fn si_sdr(found: &[f32], original: &[f32]) -> Option<f64> {
    assert_eq!(found.len(), original.len(), "time axis: not as long");
    let centred = |samples: &[f32]| {
        let mean = samples.iter().map(|s| f64::from(*s)).sum::<f64>() / samples.len().max(1) as f64;
        samples
            .iter()
            .map(|s| f64::from(*s) - mean)
            .collect::<Vec<f64>>()
    };
    let (found, original) = (centred(found), centred(original));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let power = dot(&original, &original);
    if power == 0.0 {
        return None;
    }
    let scale = dot(&found, &original) / power;
    let rest = found
        .iter()
        .zip(&original)
        .map(|(f, o)| (f - scale * o).powi(2));
    Some(10.0 * (scale * scale * power / rest.sum::<f64>()).log10())
}

/// None where the original is silent.
fn stft_distance(found: &[f32], original: &[f32]) -> Option<f64> {
    let mut sum = 0.0;
    for points in WINDOWS {
        let found = magnitudes(found, points, points / 4).concat();
        let original = magnitudes(original, points, points / 4).concat();
        let difference = found.iter().zip(&original).map(|(f, o)| (f - o).powi(2));
        let power: f64 = original.iter().map(|o| o * o).sum();
        if power == 0.0 {
            return None;
        }
        let convergence = difference.sum::<f64>().sqrt() / power.sqrt();
        sum += convergence + log_difference(&found, &original);
    }
    Some(sum / WINDOWS.len() as f64)
}

fn mel_distance(found: &[f32], original: &[f32], bank: &[Vec<f64>]) -> f64 {
    let bands = |samples: &[f32]| {
        let rows = magnitudes(samples, MEL_POINTS, MEL_HOP);
        let band = |row: &Vec<f64>, weights: &Vec<f64>| -> f64 {
            row.iter().zip(weights).map(|(m, w)| m * w).sum()
        };
        let all = rows
            .iter()
            .flat_map(|row| bank.iter().map(|weights| band(row, weights)));
        all.collect::<Vec<f64>>()
    };
    log_difference(&bands(found), &bands(original))
}

/// The mean difference of natural logarithms.
fn log_difference(found: &[f64], original: &[f64]) -> f64 {
    let log = |value: &f64| value.max(LEAST).ln();
    let all = found
        .iter()
        .zip(original)
        .map(|(f, o)| (log(f) - log(o)).abs());
    all.sum::<f64>() / found.len().max(1) as f64
}

/// Weights of each mel band over the bins of the transform, up to half the rate.
pub(crate) fn mel_bank(sample_rate_hz: u32, points: usize, bands: usize) -> Vec<Vec<f64>> {
    let nyquist = f64::from(sample_rate_hz) / 2.0;
    let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
    let hz = |mel: f64| 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
    let corner = |at: usize| hz(mel(nyquist) * at as f64 / (bands + 1) as f64);
    let bins = points / 2;
    let band = |at: usize| {
        let (low, middle, high) = (corner(at), corner(at + 1), corner(at + 2));
        let weight = |bin: usize| {
            let hz = nyquist * bin as f64 / bins as f64;
            let (up, down) = ((hz - low) / (middle - low), (high - hz) / (high - middle));
            up.min(down).max(0.0)
        };
        (0..=bins).map(weight).collect()
    };
    (0..bands).map(band).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, loudness: f64) -> Vec<f32> {
        (0..8000)
            .map(|at| {
                (loudness * (std::f64::consts::TAU * hz * f64::from(at) / 16_000.0).sin()) as f32
            })
            .collect()
    }

    #[test]
    fn equal_sounds_have_no_distance() {
        let sound = [tone(440.0, 0.5)];
        let SoundDistance { si_sdr, stft, mel } = sound_distance(&sound, &sound, 16_000);
        assert!(si_sdr.unwrap() > 100.0);
        assert_eq!((stft, mel), (Some(0.0), 0.0));
        let silence = sound_distance(&sound, &[vec![0.0; 8000]], 16_000);
        assert_eq!((silence.si_sdr, silence.stft), (None, None));
        assert!(silence.mel.is_finite());
    }

    #[test]
    fn loudness_is_no_distortion_but_a_distance() {
        let quiet = sound_distance(&[tone(440.0, 0.25)], &[tone(440.0, 0.5)], 16_000);
        assert!(quiet.si_sdr.unwrap() > 100.0 && quiet.mel > 0.1 && quiet.stft.unwrap() > 0.1);
    }

    /// Noise of a tenth of the power is ten decibels.
    #[test]
    fn the_ratio_is_that_of_the_powers() {
        let original = tone(440.0, 0.5);
        let other = tone(1000.0, 0.5 / 10f64.sqrt());
        let found: Vec<f32> = original.iter().zip(&other).map(|(a, b)| a + b).collect();
        let ratio = si_sdr(&found, &original).unwrap();
        assert!((ratio - 10.0).abs() < 0.01, "{ratio}");
        assert_eq!(si_sdr(&found, &vec![0.0; 8000]), None);
    }

    #[test]
    fn other_tones_are_farther_than_near_ones() {
        let original = [tone(440.0, 0.5)];
        let near = sound_distance(&[tone(450.0, 0.5)], &original, 16_000);
        let far = sound_distance(&[tone(3000.0, 0.5)], &original, 16_000);
        assert!(near.mel < far.mel && near.stft < far.stft);
    }
}
