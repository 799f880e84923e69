//! Sound in overlapping chunks (Défossez et al. 2022, section 3.1): each is coded by itself, and decoded chunks fade into each
//! other.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EncodecTokenizer;
use crate::check::wrong;

/// Keeps silence from being divided by zero.
const LEAST_GAIN: f64 = 1e-8;

/// How sound is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Chunks {
    /// Samples of a chunk.
    pub length: usize,
    /// Samples from one chunk's beginning to the next.
    pub stride: usize,
}

impl Chunks {
    pub(super) fn validate(self) -> Result<()> {
        const LONGEST: usize = 1 << 26;
        if !(1..=LONGEST).contains(&self.length) {
            return wrong("chunks.length", self.length, &format!("1 to {LONGEST}"));
        }
        if !(1..=self.length).contains(&self.stride) {
            let expected = format!("1 to {}, a chunk's length", self.length);
            return wrong("chunks.stride", self.stride, &expected);
        }
        Ok(())
    }
}

/// One chunk.
#[derive(Debug, Clone)]
pub struct EncodecChunk {
    /// `[b, depth, frames]`.
    pub ids: Tensor<3, Int>,
    /// What it was divided by, `[b, 1]`, where the codec normalises.
    pub gain: Option<Tensor<2>>,
}

impl EncodecTokenizer {
    /// The chunks of a sound; the last one may be shorter.
    ///
    /// # Shapes
    /// - `samples`: `[b, channels, t]`
    pub fn encode_chunks(&self, samples: Tensor<3>) -> Vec<EncodecChunk> {
        let [batch, channels, time] = samples.dims();
        self.places(time)
            .into_iter()
            .map(|(from, to)| {
                let chunk = samples.clone().slice([0..batch, 0..channels, from..to]);
                self.encode_chunk(chunk)
            })
            .collect()
    }

    fn encode_chunk(&self, samples: Tensor<3>) -> EncodecChunk {
        let (samples, gain) = match self.config.normalize {
            true => {
                let gain = loudness(samples.clone());
                (samples / gain.clone(), Some(gain.squeeze_dim(2)))
            }
            false => (samples, None),
        };
        let latents = self.module.encoder.forward(samples);
        EncodecChunk {
            ids: self.module.ids(latents, self.encode_depth),
            gain,
        }
    }

    /// The sound of chunks, faded into each other where they overlap.
    ///
    /// # Shapes
    /// - returns: `[b, channels, t]`
    pub fn decode_chunks(&self, chunks: &[EncodecChunk]) -> Tensor<3> {
        let decoded = chunks.iter().map(|chunk| {
            let samples = self
                .module
                .decoder
                .forward(self.module.vectors(chunk.ids.clone()));
            match &chunk.gain {
                Some(gain) => samples * gain.clone().unsqueeze_dim::<3>(2),
                None => samples,
            }
        });
        let mut decoded: Vec<_> = decoded.collect();
        match self.config.chunks {
            None => decoded.pop().expect("sound has one chunk at least"),
            Some(chunks) => overlap_added(decoded, chunks.stride),
        }
    }

    /// Takes off the last chunk's codes what a sound of so many samples does not need.
    pub(super) fn cut_last(&self, chunks: &mut [EncodecChunk], samples: usize) {
        let (Some(cut), Some(last)) = (self.config.chunks, chunks.len().checked_sub(1)) else {
            return;
        };
        let left = samples.saturating_sub(last * cut.stride);
        let [_, _, frames] = chunks[last].ids.dims();
        let needed = left.div_ceil(self.spec.hop).clamp(1, frames);
        let ids = chunks[last].ids.clone();
        chunks[last].ids = ids.narrow(2, 0, needed);
    }

    /// Where chunks begin and end. What the last overlap alone would hold is in the chunk before.
    fn places(&self, time: usize) -> Vec<(usize, usize)> {
        let Some(Chunks { length, stride }) = self.config.chunks else {
            return vec![(0, time)];
        };
        let overlap = length - stride;
        let starts = (0..time.saturating_sub(overlap).max(1)).step_by(stride);
        starts
            .map(|from| (from, (from + length).min(time)))
            .collect()
    }
}

/// The root mean square of the channels' mean, `[b, 1, 1]`.
fn loudness(samples: Tensor<3>) -> Tensor<3> {
    let mono = samples.mean_dim(1);
    mono.square().mean_dim(2).sqrt() + LEAST_GAIN
}

/// Chunks weighted by triangles and added up, over the sum of the weights.
fn overlap_added(chunks: Vec<Tensor<3>>, stride: usize) -> Tensor<3> {
    let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.dims()[2]).collect();
    let triangle = triangle(lengths.first().copied().unwrap_or(0));
    let ends = lengths
        .iter()
        .enumerate()
        .map(|(at, len)| at * stride + len);
    let total = ends.max().unwrap_or(0);
    let mut weights = vec![0f32; total];
    let mut sum: Option<Tensor<3>> = None;
    for (at, chunk) in chunks.into_iter().enumerate() {
        let [batch, channels, len] = chunk.dims();
        let device = chunk.device();
        // A chunk is never longer than the first one.
        let weight = &triangle[..len];
        let place = at * stride..at * stride + len;
        for (total, weight) in weights[place.clone()].iter_mut().zip(weight) {
            *total += weight;
        }
        let so_far = sum.unwrap_or_else(|| Tensor::zeros([batch, channels, total], &device));
        let place = [0..batch, 0..channels, place];
        let weighted = so_far.clone().slice(place.clone()) + chunk * row(weight, &device);
        sum = Some(so_far.slice_assign(place, weighted));
    }
    let sum = sum.expect("sound has one chunk at least");
    let weights = row(&weights, &sum.device());
    sum / weights
}

/// A ramp up and down that is nowhere zero.
fn triangle(len: usize) -> Vec<f32> {
    let step = 1.0 / (len as f64 + 1.0);
    (1..=len)
        .map(|at| (0.5 - (at as f64 * step - 0.5).abs()) as f32)
        .collect()
}

fn row(values: &[f32], device: &Device) -> Tensor<3> {
    let data = TensorData::new(values.to_vec(), [1, 1, values.len()]);
    Tensor::from_data(data, device)
}
