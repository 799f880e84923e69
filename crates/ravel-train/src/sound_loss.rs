//! How far one sound is from another, in spectra.
//!
//! Spectral convergence and log-magnitudes at several resolutions (Yamamoto et al. 2020, Parallel WaveGAN, section 2.3), and log-mels.

use burn::tensor::{Device, Tensor};
use ravel_nn::wave::{ShortTime, ShortTimeConfig};
use rvq_codec::LogMelConfig;
use serde::{Deserialize, Serialize};

/// Added to squared magnitudes: what is quieter is silence.
const LEAST_POWER: f64 = 1e-4;
/// Transform behind the mels, and their number.
const MEL: ShortTimeConfig = ShortTimeConfig {
    window: 1024,
    hop: 256,
};
const MELS: usize = 80;
/// The smallest mel.
const LEAST_MEL: f64 = 1e-4;

/// Weights and resolutions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SoundLossConfig {
    /// Samples of a frame at each resolution; frames follow each other every quarter of it.
    pub windows: Vec<usize>,
    /// Weight of the mean absolute difference of log-magnitudes.
    pub magnitude: f64,
    /// Weight of spectral convergence.
    pub convergence: f64,
    /// Weight of the mean absolute difference of log-mels.
    pub mel: f64,
}

impl Default for SoundLossConfig {
    fn default() -> Self {
        Self {
            windows: vec![128, 256, 512, 1024],
            magnitude: 1.0,
            convergence: 1.0,
            mel: 2.0,
        }
    }
}

/// The tables of the loss.
pub struct SoundLoss {
    config: SoundLossConfig,
    transforms: Vec<ShortTime>,
    mel: MelDistance,
}

impl SoundLoss {
    /// # Errors
    /// [`ravel_core::Error::Config`] if a window is no multiple of 4.
    pub fn new(
        config: &SoundLossConfig,
        sample_rate_hz: u32,
        device: &Device,
    ) -> ravel_core::Result<Self> {
        let transforms = config.windows.iter().map(|&window| {
            let transform = ShortTimeConfig {
                window,
                hop: window / 4,
            };
            transform.validate("windows")?;
            Ok(transform.init(device))
        });
        Ok(Self {
            config: config.clone(),
            transforms: transforms.collect::<ravel_core::Result<_>>()?,
            mel: MelDistance::new(sample_rate_hz, device),
        })
    }

    /// Samples that a sound must have.
    pub fn least_samples(&self) -> usize {
        let windows = self.config.windows.iter().copied();
        windows.chain([MEL.window]).max().unwrap_or(0)
    }

    /// The weighted loss and its part in mels, unweighted.
    ///
    /// # Shapes
    /// - `found`, `wanted`: `[b, 1, t]`, `t` at least [`SoundLoss::least_samples`]
    /// - returns: `[1]` each
    pub fn forward(&self, found: Tensor<3>, wanted: Tensor<3>) -> (Tensor<1>, Tensor<1>) {
        let mel = self.mel.forward(found.clone(), wanted.clone());
        let mut loss = mel.clone() * self.config.mel;
        let share = 1.0 / self.transforms.len().max(1) as f64;
        for transform in &self.transforms {
            let magnitudes = |sound: &Tensor<3>| transform.magnitudes(sound.clone(), LEAST_POWER);
            let (found, wanted) = (magnitudes(&found), magnitudes(&wanted));
            let logs = (found.clone().log() - wanted.clone().log()).abs().mean();
            let far = (found - wanted.clone()).square().sum().sqrt();
            let convergence = far / wanted.square().sum().sqrt();
            loss = loss
                + logs * (self.config.magnitude * share)
                + convergence * (self.config.convergence * share);
        }
        (loss, mel)
    }
}

/// The mean absolute difference of log-mels, in nats.
pub struct MelDistance {
    transform: ShortTime,
    bank: Tensor<2>,
}

impl MelDistance {
    /// 80 bands of windows of 1,024 samples every 256.
    pub fn new(sample_rate_hz: u32, device: &Device) -> Self {
        let mel = LogMelConfig {
            sample_rate_hz,
            points: MEL.window,
            window: MEL.window,
            hop: MEL.hop,
            mels: MELS,
            ..LogMelConfig::default()
        };
        Self {
            transform: MEL.init(device),
            bank: mel.init(device).bank,
        }
    }

    /// # Shapes
    /// - `found`, `wanted`: `[b, 1, t]`, `t` 1,024 at least
    /// - returns: `[1]`
    pub fn forward(&self, found: Tensor<3>, wanted: Tensor<3>) -> Tensor<1> {
        let mels = |sound: Tensor<3>| {
            let magnitudes = self.transform.magnitudes(sound, LEAST_POWER);
            let mels = magnitudes.matmul(self.bank.clone().unsqueeze());
            mels.clamp_min(LEAST_MEL).log()
        };
        (mels(found) - mels(wanted)).abs().mean()
    }
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{device, formula};

    use super::*;
    use crate::host;

    fn loss(found: &Tensor<3>, wanted: &Tensor<3>, device: &Device) -> f32 {
        let config = SoundLossConfig::default();
        let loss = SoundLoss::new(&config, 16_000, device).unwrap();
        host(loss.forward(found.clone(), wanted.clone()).0)[0]
    }

    #[test]
    fn the_same_sound_costs_nothing_and_a_quieter_one_its_logarithm() {
        let device = device();
        let sound: Tensor<3> = formula([2, 1, 4000], 1, 0.5, &device);
        assert_eq!(loss(&sound, &sound, &device), 0.0);
        let half = sound.clone() * 0.5;
        let found = loss(&half, &sound, &device);
        // One log 2 of magnitudes, two of mels, and half of the convergence.
        let expected = 3.0 * 2f32.ln() + 0.5;
        assert!((found - expected).abs() < 0.02, "{found}, not {expected}");
    }

    #[test]
    fn a_window_that_has_no_quarter_is_named() {
        let config = SoundLossConfig {
            windows: vec![128, 30],
            ..SoundLossConfig::default()
        };
        let error = SoundLoss::new(&config, 16_000, &device()).err().unwrap();
        assert!(error.to_string().starts_with("windows"), "{error}");
    }
}
