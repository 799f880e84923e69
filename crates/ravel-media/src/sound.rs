//! Sound: samples by channel, other rates and channel counts.

use burn::tensor::{Device, Tensor, TensorData};
use ravel_core::Waveform;
use rubato::audioadapter_buffers::owned::InterleavedOwned;
use rubato::{Async, FixedAsync, Resampler, SincInterpolationParameters, WindowFunction};

/// Samples handed to the resampler at a time.
const CHUNK: usize = 1024;
/// Length of its filter.
const FILTER: usize = 256;

/// Places between two samples at which the filter is tabulated: results are late by one of them.
const FINENESS: usize = 1024;

/// Rates that are taken, in samples per second.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 1000..=768_000;

/// Sound in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples of each channel, in `-1..=1`; all channels are equally long.
    pub channels: Vec<Vec<f32>>,
    /// Samples of one channel in a second.
    pub sample_rate_hz: u32,
}

impl Sound {
    /// Samples of one channel.
    pub fn len(&self) -> usize {
        self.channels.first().map_or(0, Vec::len)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long it lasts.
    pub fn duration_secs(&self) -> f64 {
        self.len() as f64 / f64::from(self.sample_rate_hz)
    }

    /// With `count` channels: as it is if it has as many, otherwise the mean of its channels in each.
    ///
    /// # Panics
    /// If `count` is zero or the sound has no channel.
    pub fn with_channels(self, count: usize) -> Self {
        assert!(count > 0, "channel axis: a sound has one channel at least");
        if self.channels.len() == count {
            return self;
        }
        let share = 1.0 / self.channels.len() as f32;
        let mut mean = vec![0.0; self.len()];
        for channel in &self.channels {
            for (sum, sample) in mean.iter_mut().zip(channel) {
                *sum += share * sample;
            }
        }
        Self {
            channels: vec![mean; count],
            ..self
        }
    }

    /// At another rate, band-limited (a windowed sinc of 256 samples). The length is rounded up.
    ///
    /// # Panics
    /// If a rate is not one of [`SAMPLE_RATES`].
    pub fn resampled(self, sample_rate_hz: u32) -> Self {
        if self.sample_rate_hz == sample_rate_hz || self.is_empty() {
            return Self {
                sample_rate_hz,
                ..self
            };
        }
        for rate in [self.sample_rate_hz, sample_rate_hz] {
            assert!(
                SAMPLE_RATES.contains(&rate),
                "{rate} Hz cannot be resampled"
            );
        }
        let (count, frames) = (self.channels.len(), self.len());
        let Alignment { before, skip } = Alignment::new(self.sample_rate_hz, sample_rate_hz);
        let ratio = f64::from(sample_rate_hz) / f64::from(self.sample_rate_hz);
        let filter = SincInterpolationParameters {
            oversampling_factor: FINENESS,
            ..SincInterpolationParameters::new(FILTER, WindowFunction::BlackmanHarris2)
        };
        let mut resampler =
            Async::<f32>::new_sinc(ratio, 1.0, &filter, CHUNK, count, FixedAsync::Input)
                .expect("a ratio of two known rates");
        let mut samples = vec![0.0; before * count];
        samples.extend(interleaved(&self.channels));
        let input = InterleavedOwned::new_from(samples, count, before + frames)
            .expect("all channels are equally long");
        let output = resampler
            .process_all(&input, before + frames, None)
            .expect("buffers are as long as the resampler asks")
            .take_data();
        let wanted = (frames as u64 * u64::from(sample_rate_hz))
            .div_ceil(self.sample_rate_hz.into()) as usize;
        let kept = output.into_iter().skip(skip * count).take(wanted * count);
        Self {
            channels: by_channel(&kept.collect::<Vec<_>>(), count),
            sample_rate_hz,
        }
    }

    /// One row of a batch, `[1, channels, time]`.
    pub fn to_waveform(&self, device: &Device) -> Waveform {
        let shape = [1, self.channels.len(), self.len()];
        let data = TensorData::new::<f32, _>(self.channels.concat(), shape);
        Waveform {
            samples: Tensor::from_data(data, device),
            sample_rate_hz: self.sample_rate_hz,
        }
    }

    /// The rows of a batch, clamped to `-1..=1`.
    ///
    /// Waits for the device.
    pub fn of_waveform(waveform: &Waveform) -> Vec<Self> {
        let [_, channels, time] = waveform.samples.dims();
        let samples: Vec<f32> = waveform
            .samples
            .clone()
            .clamp(-1.0, 1.0)
            .to_data()
            .convert::<f32>()
            .try_into_vec()
            .expect("samples were converted to f32");
        let row = |row: &[f32]| Self {
            channels: row.chunks(time.max(1)).map(<[f32]>::to_vec).collect(),
            sample_rate_hz: waveform.sample_rate_hz,
        };
        samples.chunks((channels * time).max(1)).map(row).collect()
    }
}

/// What brings the resampler's first sample to the sound's own.
///
/// Its sample `k` stands for the time `(k + 1) / ratio - FILTER / 2` of the input, and it leaves out the first
/// `floor(ratio FILTER / 2)` samples. Both agree only where a whole number of samples passes on either side.
struct Alignment {
    /// Zeros before the sound.
    before: usize,
    /// Samples of the result that come from them.
    skip: usize,
}

impl Alignment {
    fn new(from: u32, to: u32) -> Self {
        let common = common_divisor(from, to);
        let (from, to) = ((from / common) as usize, (to / common) as usize);
        let half = FILTER / 2;
        let least = half + from.div_ceil(to);
        let reach = least.next_multiple_of(from);
        Self {
            before: reach - half,
            skip: reach / from * to - 1 - half * to / from,
        }
    }
}

fn common_divisor(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        b => common_divisor(b, a % b),
    }
}

/// The channels' samples in turn.
pub(crate) fn interleaved(channels: &[Vec<f32>]) -> Vec<f32> {
    let frames = channels.first().map_or(0, Vec::len);
    (0..frames)
        .flat_map(|at| channels.iter().map(move |channel| channel[at]))
        .collect()
}

/// The inverse of [`interleaved`].
pub(crate) fn by_channel(samples: &[f32], channels: usize) -> Vec<Vec<f32>> {
    (0..channels)
        .map(|channel| {
            samples
                .iter()
                .skip(channel)
                .step_by(channels)
                .copied()
                .collect()
        })
        .collect()
}
