//! Log-mel spectrograms as Fish-Speech computes them: magnitudes of a short-time Fourier transform, Slaney's mel bands, natural
//! logarithm.
//!
//! The transform is a product with sines and cosines: the frames of a whole sound are one matrix.

use burn::tensor::{Device, Tensor, TensorData};
use ravel_core::Result;
use ravel_nn::wave::{PadKind, pad_time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{counts, wrong};

/// Added to squared magnitudes.
const LEAST_POWER: f64 = 1e-6;
/// Least number whose logarithm is taken.
const LEAST_MEL: f64 = 1e-5;

/// What fixes the spectrogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LogMelConfig {
    /// Samples in a second.
    pub sample_rate_hz: u32,
    /// Points of the Fourier transform.
    pub points: usize,
    /// Samples of a frame, at most as many as points.
    pub window: usize,
    /// Samples from one frame to the next.
    pub hop: usize,
    /// Mel bands.
    pub mels: usize,
    /// Lowest frequency.
    pub lowest_hz: f64,
    /// Highest frequency; half the sample rate, rounded down, if unset.
    pub highest_hz: Option<f64>,
}

impl Default for LogMelConfig {
    fn default() -> Self {
        Self {
            sample_rate_hz: 44_100,
            points: 2048,
            window: 2048,
            hop: 512,
            mels: 160,
            lowest_hz: 0.0,
            highest_hz: None,
        }
    }
}

impl LogMelConfig {
    pub(super) fn validate(&self) -> Result<()> {
        counts(&[
            ("mel.sample-rate-hz", self.sample_rate_hz as usize),
            ("mel.points", self.points),
            ("mel.window", self.window),
            ("mel.hop", self.hop),
            ("mel.mels", self.mels),
        ])?;
        if self.points > 1 << 14 {
            return wrong("mel.points", self.points, "16384 at most");
        }
        if self.window > self.points {
            return wrong("mel.window", self.window, "no more than `mel.points`");
        }
        if self.hop > self.window {
            return wrong("mel.hop", self.hop, "no more than `mel.window`");
        }
        let highest = self.highest_hz();
        if !(self.lowest_hz >= 0.0 && self.lowest_hz < highest) {
            let expected = format!("a frequency below {highest}");
            return wrong("mel.lowest-hz", self.lowest_hz, &expected);
        }
        Ok(())
    }

    fn highest_hz(&self) -> f64 {
        let half = f64::from(self.sample_rate_hz / 2);
        self.highest_hz.unwrap_or(half)
    }

    fn bins(&self) -> usize {
        self.points / 2 + 1
    }

    /// The tables that the spectrogram is computed with.
    pub fn init(&self, device: &Device) -> LogMel {
        LogMel {
            window: self.window_table(device),
            basis: self.fourier_basis(device),
            bank: self.mel_bank(device),
            config: self.clone(),
        }
    }

    /// A periodic Hann window, rounded operation by operation as PyTorch computes it: the logarithms of quiet bands show the difference.
    fn window_table(&self, device: &Device) -> Tensor<1> {
        let step = (std::f64::consts::TAU / self.window as f64) as f32;
        let values: Vec<f32> = (0..self.window)
            .map(|at| {
                let cosine = f64::from(at as f32 * step).cos() as f32;
                cosine * -0.5 + 0.5
            })
            .collect();
        Tensor::from_data(TensorData::new(values, [self.window]), device)
    }

    /// `[points, 2 bins]`: all cosines, then all sines.
    fn fourier_basis(&self, device: &Device) -> Tensor<2> {
        let (points, bins) = (self.points, self.bins());
        let step = std::f64::consts::TAU / points as f64;
        let mut values = Vec::with_capacity(2 * points * bins);
        for at in 0..points {
            let angles = (0..bins).map(move |bin| (at * bin % points) as f64 * step);
            values.extend(angles.clone().map(|angle| angle.cos() as f32));
            values.extend(angles.map(|angle| angle.sin() as f32));
        }
        Tensor::from_data(TensorData::new(values, [points, 2 * bins]), device)
    }

    /// `[bins, mels]`: triangles of equal area between neighbours on Slaney's scale.
    fn mel_bank(&self, device: &Device) -> Tensor<2> {
        let (bins, mels) = (self.bins(), self.mels);
        let nyquist = f64::from(self.sample_rate_hz / 2);
        let (low, high) = (mel_of_hz(self.lowest_hz), mel_of_hz(self.highest_hz()));
        let corner = |at: usize| hz_of_mel(low + (high - low) * at as f64 / (mels + 1) as f64);
        let corners: Vec<f64> = (0..mels + 2).map(corner).collect();
        let mut values = Vec::with_capacity(bins * mels);
        for bin in 0..bins {
            let hz = nyquist * bin as f64 / (bins - 1).max(1) as f64;
            values.extend(corners.windows(3).map(|corner| {
                let up = (hz - corner[0]) / (corner[1] - corner[0]);
                let down = (corner[2] - hz) / (corner[2] - corner[1]);
                let area = 2.0 / (corner[2] - corner[0]);
                (up.min(down).max(0.0) * area) as f32
            }));
        }
        Tensor::from_data(TensorData::new(values, [bins, mels]), device)
    }
}

/// Hertz in a mel below the scale's break.
const HZ_PER_MEL: f64 = 200.0 / 3.0;
/// Where Slaney's scale turns logarithmic.
const BREAK_HZ: f64 = 1000.0;

/// Factor of one mel above the break.
fn log_step() -> f64 {
    6.4f64.ln() / 27.0
}

fn mel_of_hz(hz: f64) -> f64 {
    match hz < BREAK_HZ {
        true => hz / HZ_PER_MEL,
        false => BREAK_HZ / HZ_PER_MEL + (hz / BREAK_HZ).ln() / log_step(),
    }
}

fn hz_of_mel(mel: f64) -> f64 {
    let turn = BREAK_HZ / HZ_PER_MEL;
    match mel < turn {
        true => mel * HZ_PER_MEL,
        false => BREAK_HZ * ((mel - turn) * log_step()).exp(),
    }
}

/// The spectrogram.
#[derive(Debug, Clone)]
pub struct LogMel {
    /// A periodic Hann window, `[window]`.
    pub window: Tensor<1>,
    /// Mel bands over the bins of the transform, `[points / 2 + 1, mels]`.
    pub bank: Tensor<2>,
    basis: Tensor<2>,
    config: LogMelConfig,
}

impl LogMel {
    /// # Shapes
    /// - `samples`: `[b, 1, t]`
    /// - returns: `[b, mels, t / hop]`
    pub fn forward(&self, samples: Tensor<3>) -> Tensor<3> {
        let LogMelConfig { window, hop, .. } = self.config;
        let around = window - hop;
        let padded = pad_time(samples, around / 2, around.div_ceil(2), PadKind::Reflect);
        let spectrum = self.frames(padded).matmul(self.basis.clone().unsqueeze());
        let bins = self.config.bins();
        let power =
            spectrum.clone().narrow(2, 0, bins).square() + spectrum.narrow(2, bins, bins).square();
        let magnitude = (power + LEAST_POWER).sqrt();
        let mels = magnitude.matmul(self.bank.clone().unsqueeze());
        mels.clamp_min(LEAST_MEL).log().swap_dims(1, 2)
    }

    /// Windowed frames, `[b, frames, points]`; a window shorter than the points stands in their middle.
    fn frames(&self, padded: Tensor<3>) -> Tensor<3> {
        let LogMelConfig {
            points,
            window,
            hop,
            ..
        } = self.config;
        let [batch, _, time] = padded.dims();
        let count = time.checked_sub(points).map_or(0, |rest| rest / hop + 1);
        let frames = (0..count).map(|at| padded.clone().narrow(2, at * hop, points));
        let frames = Tensor::cat(frames.collect(), 1).reshape([batch, count, points]);
        let before = (points - window) / 2;
        let shape = self.window.clone().reshape([1, 1, window]);
        frames * pad_time(shape, before, points - window - before, PadKind::Zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{device, values};

    #[test]
    fn slaneys_scale_is_linear_below_its_break_and_inverts() {
        assert!((mel_of_hz(500.0) - 7.5).abs() < 1e-12);
        assert!((mel_of_hz(6400.0) - 42.0).abs() < 1e-9);
        for hz in [0.0, 999.0, 1000.0, 4321.0] {
            assert!((hz_of_mel(mel_of_hz(hz)) - hz).abs() < 1e-9);
        }
    }

    #[test]
    fn a_tone_lights_up_its_band() {
        let config = LogMelConfig {
            sample_rate_hz: 8000,
            points: 256,
            window: 256,
            hop: 64,
            mels: 20,
            ..LogMelConfig::default()
        };
        let tone: Vec<f32> = (0..1024)
            .map(|at| (at as f32 / 8.0 * std::f32::consts::TAU).sin())
            .collect();
        let samples = Tensor::<1>::from_floats(&tone[..], &device()).reshape([1, 1, 1024]);
        let mels = config.init(&device()).forward(samples);
        assert_eq!(mels.dims(), [1, 20, 16]);
        let middle = values(&mels.narrow(2, 8, 1));
        let loudest = (0..20).max_by(|&a, &b| middle[a].total_cmp(&middle[b]));
        // 1000 Hz is mel 15 of 35.2; bands are centred at multiples of 35.2 / 21.
        assert_eq!(loudest, Some(8));
    }
}
