//! A few seconds of a voice as one vector, which stands where the voice's name would.
//!
//! The speaker embedding of Jia et al. 2018 (section 2.1), read from codes and learned together with what speaks with it: every frame
//! by itself becomes features of its codes, the features are averaged over time, so that what is said and how long it takes
//! counts little, and the average is projected.
//!
//! Shapes: `b` batch, `n` frames.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Int, Tensor, module::embedding};
use ravel_core::Result;
use ravel_nn::{Norm, NormConfig, NormKind, init};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::positive;

/// Added to the norm's mean square.
const EPS: f64 = 1e-6;

/// What fixes the reading of a voice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ReferenceConfig {
    /// Width of a code's embedding.
    pub code_width: usize,
    /// Features of a frame.
    pub width: usize,
}

impl Default for ReferenceConfig {
    fn default() -> Self {
        Self {
            code_width: 96,
            width: 256,
        }
    }
}

impl ReferenceConfig {
    /// Checks that the encoder can be built.
    ///
    /// # Errors
    /// [`ravel_core::Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        positive("reference.code-width", self.code_width)?;
        positive("reference.width", self.width)
    }

    /// A fresh encoder of frames of `depth` codes below `codebook_size`, for a backbone of `d_model`.
    ///
    /// # Panics
    /// If [`ReferenceConfig::validate`] would report an error.
    pub fn init(
        &self,
        depth: usize,
        codebook_size: usize,
        d_model: usize,
        device: &Device,
    ) -> ReferenceEncoder {
        self.validate().expect("a configuration that was checked");
        let std = |width: usize| (width as f64).powf(-0.5);
        let norm = NormConfig {
            kind: NormKind::Rms,
            eps: EPS,
        };
        ReferenceEncoder {
            codebook: init::normal([depth * codebook_size, self.code_width], 0.5, device),
            frame: init::linear(
                self.code_width,
                self.width,
                true,
                std(self.code_width),
                device,
            ),
            norm: norm.init(self.width, device),
            out: init::linear(self.width, d_model, false, init::STD, device),
            codebook_size,
        }
    }
}

/// Codes of a recording to what they say of its voice.
#[derive(Module, Debug)]
pub struct ReferenceEncoder {
    /// `[depth codebook_size, code_width]`, codebook after codebook.
    pub codebook: Param<Tensor<2>>,
    /// To the features of a frame.
    pub frame: Linear,
    /// Over their average.
    pub norm: Norm,
    /// `[width, d_model]`.
    pub out: Linear,
    codebook_size: usize,
}

impl ReferenceEncoder {
    /// One vector for each recording.
    ///
    /// # Shapes
    /// - `codes`: `[b, depth, n]`
    /// - `known`: `[b, n]`, one where a frame belongs to the recording, zero where it fills up a shorter one
    /// - returns: `[b, d_model]`, zero for a recording without a frame
    pub fn forward(&self, codes: Tensor<3, Int>, known: Tensor<2>) -> Tensor<2> {
        let [_, depth, _] = codes.dims();
        let of_book = |at: usize| {
            let ids = codes.clone().narrow(1, at, 1).squeeze_dim::<2>(1);
            let offset = (at * self.codebook_size) as i64;
            embedding(self.codebook.val(), ids + offset)
        };
        let summed = (0..depth)
            .map(of_book)
            .reduce(|sum, book| sum + book)
            .expect("at least one codebook");
        let features = gelu(self.frame.forward(summed));
        let count = known.clone().sum_dim(1);
        let sum = (features * known.unsqueeze_dim(2)).sum_dim(1);
        let mean = sum.squeeze_dim::<2>(1) / count.clone().clamp_min(1.0);
        self.out.forward(self.norm.forward(mean)) * count.clamp_max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use ravel_testkit::{assert_close, device, formula_ids};

    #[test]
    fn what_fills_up_and_the_order_of_frames_do_not_count() {
        let device = device();
        let encoder = ReferenceConfig {
            code_width: 6,
            width: 10,
        }
        .init(2, 9, 5, &device);
        let codes = formula_ids([1, 2, 7], 3, 9, &device);
        let known = |row: [f32; 7]| {
            Tensor::<2>::from_data(TensorData::new::<f32, _>(row.to_vec(), [1, 7]), &device)
        };
        let part = codes.clone().narrow(2, 0, 4);
        let whole = encoder.forward(part.clone(), Tensor::ones([1, 4], &device));
        assert!(whole.clone().abs().sum().into_scalar::<f32>() > 1e-3);
        let filled = encoder.forward(codes.clone(), known([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]));
        assert_close("filled up", &filled, &whole, 1e-5);
        let other = encoder.forward(part.flip([2]), Tensor::ones([1, 4], &device));
        assert_close("backwards", &other, &whole, 1e-5);
        let none = encoder.forward(codes, known([0.0; 7]));
        assert_eq!(none.abs().sum().into_scalar::<f32>(), 0.0);
    }
}
