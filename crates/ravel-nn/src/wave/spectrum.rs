//! Short-time spectra and back, as products with fixed tables, so that gradients pass through both.
//!
//! A signal is cut into frames of `window` samples every `hop` samples, each under a Hann window (Griffin and Lim 1984, section
//! II). Spectra hold all real parts, then all imaginary parts.

use burn::tensor::{Device, Tensor, TensorData};
use ravel_core::{Error, Result};

use super::pad::{PadKind, pad_time};
use super::piece::{Piece, between, joined};

/// Sizes of a short-time transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortTimeConfig {
    /// Samples of a frame.
    pub window: usize,
    /// Samples from one frame to the next.
    pub hop: usize,
}

impl ShortTimeConfig {
    /// # Errors
    /// [`Error::Config`] unless the window is even and two to 64 times the hop.
    pub fn validate(&self, field: &str) -> Result<()> {
        let Self { window, hop } = *self;
        let whole = hop > 0 && window.is_multiple_of(hop) && window.is_multiple_of(2);
        if whole && (2..=64).contains(&(window / hop)) && window <= 1 << 14 {
            return Ok(());
        }
        Err(Error::Config {
            field: field.into(),
            found: format!("a window of {window} samples every {hop}"),
            expected: "an even window of 16384 at most, 2 to 64 times as long as the hop".into(),
        })
    }

    /// Frequencies of a spectrum.
    pub fn bins(&self) -> usize {
        self.window / 2 + 1
    }

    /// The tables.
    ///
    /// # Panics
    /// If [`ShortTimeConfig::validate`] would report an error.
    pub fn init(&self, device: &Device) -> ShortTime {
        self.validate("window")
            .expect("a transform that was checked");
        ShortTime {
            config: *self,
            forward: self.forward_table(device),
            back: self.back_table(device),
        }
    }

    fn hann(&self, at: usize) -> f64 {
        let angle = std::f64::consts::TAU * at as f64 / self.window as f64;
        0.5 - 0.5 * angle.cos()
    }

    /// Cosine and negative sine of a sample and a bin.
    fn wave(&self, at: usize, bin: usize) -> (f64, f64) {
        let turn = (at * bin % self.window) as f64 / self.window as f64;
        let angle = std::f64::consts::TAU * turn;
        (angle.cos(), -angle.sin())
    }

    /// `[window, 2 bins]`.
    fn forward_table(&self, device: &Device) -> Tensor<2> {
        let (window, bins) = (self.window, self.bins());
        let mut values = vec![0f32; window * 2 * bins];
        for at in 0..window {
            for bin in 0..bins {
                let (real, imaginary) = self.wave(at, bin);
                let row = &mut values[at * 2 * bins..(at + 1) * 2 * bins];
                row[bin] = (self.hann(at) * real) as f32;
                row[bins + bin] = (self.hann(at) * imaginary) as f32;
            }
        }
        Tensor::from_data(TensorData::new(values, [window, 2 * bins]), device)
    }

    /// `[2 bins, window]`: the inverse transform under the same window, divided by what windows of all frames add up to.
    fn back_table(&self, device: &Device) -> Tensor<2> {
        let (window, bins) = (self.window, self.bins());
        let squares: f64 = (0..window).map(|at| self.hann(at).powi(2)).sum();
        let scale = self.hop as f64 / squares / window as f64;
        let mut values = vec![0f32; window * 2 * bins];
        for bin in 0..bins {
            let twice = if bin == 0 || bin == bins - 1 {
                1.0
            } else {
                2.0
            };
            for at in 0..window {
                let (real, imaginary) = self.wave(at, bin);
                let weight = twice * scale * self.hann(at);
                values[bin * window + at] = (weight * real) as f32;
                values[(bins + bin) * window + at] = (weight * imaginary) as f32;
            }
        }
        Tensor::from_data(TensorData::new(values, [2 * bins, window]), device)
    }
}

/// A short-time transform and its inverse.
#[derive(Debug, Clone)]
pub struct ShortTime {
    config: ShortTimeConfig,
    forward: Tensor<2>,
    back: Tensor<2>,
}

/// What the inverse transform remembers between pieces: what it has written beyond its time.
#[derive(Debug, Clone, Default)]
pub struct OverlayState {
    carried: Piece,
    trimmed: usize,
}

impl ShortTime {
    /// Its sizes.
    pub fn config(&self) -> &ShortTimeConfig {
        &self.config
    }

    /// On the autodiff device, or off it.
    pub fn on(&self, device: &Device) -> Self {
        self.config.init(device)
    }

    /// Spectra of all whole frames.
    ///
    /// # Shapes
    /// - `samples`: `[b, 1, t]`
    /// - returns: `[b, n, 2 bins]`, `n = (t - window) / hop + 1`
    ///
    /// # Panics
    /// If there is no whole frame.
    pub fn spectra(&self, samples: Tensor<3>) -> Tensor<3> {
        self.frames(samples)
            .matmul(self.forward.clone().unsqueeze())
    }

    /// Size of every frequency, `[b, n, bins]` of [`ShortTime::spectra`]'s `[b, n, 2 bins]`; `least` is added to its square.
    pub fn magnitudes(&self, samples: Tensor<3>, least: f64) -> Tensor<3> {
        let spectra = self.spectra(samples);
        let bins = self.config.bins();
        let power =
            spectra.clone().narrow(2, 0, bins).square() + spectra.narrow(2, bins, bins).square();
        (power + least).sqrt()
    }

    fn frames(&self, samples: Tensor<3>) -> Tensor<3> {
        let ShortTimeConfig { window, hop } = self.config;
        let [batch, _, time] = samples.dims();
        assert!(
            time >= window,
            "time axis: {time} samples are no frame of {window}"
        );
        let parts = window / hop;
        let blocks = time / hop;
        let n = blocks + 1 - parts;
        let blocked = samples
            .slice([0..batch, 0..1, 0..blocks * hop])
            .reshape([batch, blocks, hop]);
        let shifted = (0..parts).map(|part| blocked.clone().narrow(1, part, n));
        Tensor::cat(shifted.collect(), 2)
    }

    /// Signals whose frames have these spectra, overlaid. The first and last `window - hop` samples lack the frames around them.
    ///
    /// # Shapes
    /// - `spectra`: `[b, n, 2 bins]`
    /// - returns: `[b, 1, (n - 1) hop + window]`
    pub fn overlaid(&self, spectra: Tensor<3>) -> Tensor<3> {
        let ShortTimeConfig { window, hop } = self.config;
        let frames = spectra.matmul(self.back.clone().unsqueeze());
        let [batch, n, _] = frames.dims();
        let parts = window / hop;
        let sum = (0..parts)
            .map(|part| {
                let block = frames.clone().narrow(2, part * hop, hop).swap_dims(1, 2);
                pad_time(block, part, parts - 1 - part, PadKind::Zero)
            })
            .reduce(|sum, block| sum + block)
            .expect("a window has two parts at least");
        sum.swap_dims(1, 2)
            .reshape([batch, 1, (n + parts - 1) * hop])
    }

    /// As [`ShortTime::overlaid`] without the first `window - hop` samples: `n hop` in all.
    pub fn whole(&self, spectra: Tensor<3>) -> Tensor<3> {
        let overlaid = self.overlaid(spectra);
        let [batch, _, time] = overlaid.dims();
        let ShortTimeConfig { window, hop } = self.config;
        overlaid.slice([0..batch, 0..1, window - hop..time])
    }

    /// [`ShortTime::whole`] in pieces: the samples that these frames decide; with `last`, all that are left.
    ///
    /// # Shapes
    /// - `spectra`: `[b, n, 2 bins]`
    /// - returns: `[b, 1, any]`
    pub fn step(&self, spectra: Piece, last: bool, state: &mut OverlayState) -> Piece {
        let ShortTimeConfig { window, hop } = self.config;
        let surplus = window - hop;
        let ready = spectra.and_then(|spectra| {
            let time = spectra.dims()[1] * hop;
            let mut spread = self.overlaid(spectra);
            if let Some(carried) = state.carried.take() {
                let missing = time;
                spread = spread + pad_time(carried, 0, missing, PadKind::Zero);
            }
            state.carried = between(&spread, time, time + surplus);
            between(&spread, 0, time)
        });
        let rest = last.then(|| state.carried.take()).flatten();
        let ready = joined(ready, rest)?;
        let len = ready.dims()[2];
        let trimmed = (surplus - state.trimmed).min(len);
        state.trimmed += trimmed;
        between(&ready, trimmed, len)
    }
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{assert_close, device, formula};

    use super::*;

    const CONFIG: ShortTimeConfig = ShortTimeConfig { window: 32, hop: 8 };

    #[test]
    fn spectra_give_their_signal_back() {
        let transform = CONFIG.init(&device());
        let samples: Tensor<3> = formula([2, 1, 160], 3, 1.0, &device());
        let back = transform.overlaid(transform.spectra(samples.clone()));
        let inner = |x: Tensor<3>| x.narrow(2, 24, 112);
        assert_close("signal", &inner(back), &inner(samples), 1e-5);
    }

    #[test]
    fn pieces_are_the_whole() {
        let transform = CONFIG.init(&device());
        let spectra: Tensor<3> = formula([1, 9, 34], 4, 1.0, &device());
        let whole = transform.whole(spectra.clone());
        assert_eq!(whole.dims(), [1, 1, 72]);
        for cuts in [vec![9], vec![1; 9], vec![2, 5, 2], vec![1, 8]] {
            let mut state = OverlayState::default();
            let mut at = 0;
            let mut found = None;
            for len in cuts {
                let piece = Some(spectra.clone().narrow(1, at, len));
                at += len;
                found = joined(found, transform.step(piece, false, &mut state));
            }
            found = joined(found, transform.step(None, true, &mut state));
            assert_close("signal", &found.expect("samples"), &whole, 1e-6);
        }
    }

    #[test]
    fn gradients_pass_through_there_and_back() {
        let device = device().autodiff();
        let transform = CONFIG.init(&device);
        let samples: Tensor<3> = formula([1, 1, 96], 5, 1.0, &device);
        let samples = samples.require_grad();
        let back = transform.overlaid(transform.spectra(samples.clone()));
        // In the middle the signal comes back as it was, so the gradient of its sum is one.
        let gradients = back.narrow(2, 32, 32).sum().backward();
        let gradient = samples
            .grad(&gradients)
            .expect("a gradient")
            .narrow(2, 32, 32);
        let inside = gradient.clone() - 1.0;
        let worst = inside.abs().max().into_scalar::<f32>();
        assert!(worst < 1e-4, "{worst}");
    }
}
