//! Lookup-free quantization: each number of a latent becomes its sign.
//!
//! Yu et al. 2023 (MAGVIT-v2), section 3.1: LFQ. Zhao et al. 2024, section 3: BSQ, where latents and code vectors lie on the
//! unit sphere. Symbols: `d` bits, the first one the most significant of the id.
//! Shapes: `b` batch, `n` positions, `d` width.

use burn::tensor::activation::{log_sigmoid, sigmoid};
use burn::tensor::{Int, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finite::Rounded;
use crate::vector::{plain, straight_through, unit};

/// The most bits that one id holds. Wider codes are handled as bits, as Infinity (Han et al. 2024) does.
const MAX_ID_BITS: usize = 31;

/// How many bits, and whether they lie on the unit sphere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BinaryQuantizer {
    /// Bits of a code, one for each number of a latent.
    pub bits: usize,
    /// BSQ: latents are brought to unit length, and a code vector's numbers are ±1/√d rather than ±1.
    #[serde(default)]
    pub spherical: bool,
}

/// The two parts of the entropy loss, in nats.
#[derive(Debug, Clone)]
pub struct Entropy {
    /// How undecided positions are, mean over positions: to be lowered. `[1]`.
    pub of_positions: Tensor<1>,
    /// How evenly bits are used over all positions: to be raised. `[1]`.
    pub of_codebook: Tensor<1>,
}

impl Entropy {
    /// `of_positions - gamma * of_codebook`, to be added to the loss. `[1]`.
    pub fn loss(&self, gamma: f64) -> Tensor<1> {
        self.of_positions.clone() - self.of_codebook.clone() * gamma
    }
}

impl BinaryQuantizer {
    /// Ids: two to the power of the bits.
    ///
    /// # Panics
    /// If there are more than 31 bits.
    pub fn codebook_size(&self) -> usize {
        assert!(
            self.bits <= MAX_ID_BITS,
            "width axis: codes of {} bits have no ids, use the bits themselves",
            self.bits
        );
        1 << self.bits
    }

    /// Each number's bit: 1 where it is above zero.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    /// - returns: `[b, n, d]`
    ///
    /// # Panics
    /// If `d` is not the count of bits.
    pub fn bits(&self, latents: Tensor<3>) -> Tensor<3, Int> {
        assert_eq!(
            latents.dims()[2],
            self.bits,
            "width axis: latents do not fit the bits"
        );
        plain(latents).greater_elem(0.0).int()
    }

    /// The code vectors of bits.
    ///
    /// # Shapes
    /// - `bits`: `[b, n, d]`, each 0 or 1
    /// - returns: `[b, n, d]`
    pub fn vectors_of_bits(&self, bits: Tensor<3, Int>) -> Tensor<3> {
        (bits.float() * 2.0 - 1.0) * self.reach()
    }

    /// The id at each position.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    /// - returns: `[b, n]`
    ///
    /// # Panics
    /// If `d` is not the count of bits, or ids do not hold so many.
    pub fn ids(&self, latents: Tensor<3>) -> Tensor<2, Int> {
        assert!(
            self.codebook_size() > 1,
            "width axis: a code has one bit at least"
        );
        let bits = self.bits(latents);
        let mut ids = bits.clone().narrow(2, 0, 1);
        for at in 1..self.bits {
            ids = ids.mul_scalar(2) + bits.clone().narrow(2, at, 1);
        }
        ids.squeeze_dim(2)
    }

    /// The code vectors of ids.
    ///
    /// # Shapes
    /// - `ids`: `[b, n]`
    /// - returns: `[b, n, d]`
    pub fn vectors(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let ids = ids.unsqueeze_dim::<3>(2);
        let bits = (0..self.bits)
            .rev()
            .map(|place| ids.clone().div_scalar(1_i64 << place).remainder_scalar(2));
        self.vectors_of_bits(Tensor::cat(bits.collect(), 2))
    }

    /// Ids and straight-through vectors.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    pub fn quantize(&self, latents: Tensor<3>) -> Rounded {
        let ids = self.ids(latents.clone());
        let latents = self.on_sphere(latents);
        let vectors = self.vectors_of_bits(self.bits(latents.clone()));
        let vectors = if latents.is_autodiff() {
            straight_through(latents, Tensor::from_inner(vectors))
        } else {
            vectors
        };
        Rounded { ids, vectors }
    }

    /// The entropy of the soft assignment of latents to code vectors, at softmax temperature `temperature`.
    ///
    /// Bits are independent given a latent, so a position's entropy is exactly the sum over its bits. The codebook's is
    /// the sum over bits of the mean assignment, as BSQ takes it (section 3, equation 8): no sum over 2^d codes.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    pub fn entropy(&self, latents: Tensor<3>, temperature: f64) -> Entropy {
        let [batch, len, width] = latents.dims();
        // |z - c|² differs by 4 z·reach between a bit's two values; the softmax over the two is a sigmoid.
        let scores = self.on_sphere(latents) * (4.0 * self.reach() / temperature);
        let scores = scores.reshape([batch * len, width]);
        let certain = |scores: Tensor<2>| sigmoid(scores.clone()) * log_sigmoid(scores);
        let of_positions = -(certain(scores.clone()) + certain(-scores.clone()));
        let share = sigmoid(scores).mean_dim(0);
        let plogp = |share: Tensor<2>| share.clone() * share.clamp_min(1e-9).log();
        let of_codebook = -(plogp(share.clone()) + plogp(-share + 1.0));
        Entropy {
            of_positions: of_positions.sum_dim(1).mean(),
            of_codebook: of_codebook.sum(),
        }
    }

    fn on_sphere(&self, latents: Tensor<3>) -> Tensor<3> {
        if self.spherical {
            unit(latents)
        } else {
            latents
        }
    }

    /// What a set bit stands for in a code vector.
    fn reach(&self) -> f64 {
        if self.spherical {
            1.0 / (self.bits as f64).sqrt()
        } else {
            1.0
        }
    }
}
