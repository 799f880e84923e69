//! Vector quantization in a narrow projection of the latents: the nearest row is looked for there at unit length, and the row as it
//! is goes back through a projection.
//!
//! Yu et al. 2022 (ViT-VQGAN), section 3.2; DAC (Kumar et al. 2023, section 3.2) and SNAC quantize so.
//! Shapes: `b` batch, `n` positions, `d` width of the latents, `c` width of a row.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};

use crate::vector::{VectorConfig, VectorQuantizer};

/// What fixes a quantizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactorizedConfig {
    /// Width of the latents.
    pub width: usize,
    /// Ids.
    pub codebook_size: usize,
    /// Numbers in one row.
    pub code_width: usize,
}

impl FactorizedConfig {
    /// A fresh quantizer.
    pub fn init(&self, device: &Device) -> FactorizedQuantizer {
        let codebook = VectorConfig {
            codebook_size: self.codebook_size,
            width: self.code_width,
            l2_normalize: true,
        };
        FactorizedQuantizer {
            project_in: LinearConfig::new(self.width, self.code_width).init(device),
            search: codebook.init(device),
            project_out: LinearConfig::new(self.code_width, self.width).init(device),
        }
    }
}

/// A codebook between two projections.
#[derive(Module, Debug)]
pub struct FactorizedQuantizer {
    /// `[d, c]`.
    pub project_in: Linear,
    /// The rows.
    pub search: VectorQuantizer,
    /// `[c, d]`.
    pub project_out: Linear,
}

impl FactorizedQuantizer {
    /// Latents as narrow as a row.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    /// - returns: `[b, n, c]`
    pub fn projected(&self, latents: Tensor<3>) -> Tensor<3> {
        self.project_in.forward(latents)
    }

    /// The id at each position.
    ///
    /// # Shapes
    /// - `projected`: `[b, n, c]`
    /// - returns: `[b, n]`
    pub fn ids(&self, projected: Tensor<3>) -> Tensor<2, Int> {
        self.search.ids(projected)
    }

    /// What ids stand for.
    ///
    /// # Shapes
    /// - `ids`: `[b, n]`
    /// - returns: `[b, n, d]`
    pub fn vectors(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, len] = ids.dims();
        let rows = self.search.codebook.val();
        let [_, width] = rows.dims();
        let found = rows
            .select(0, ids.reshape([batch * len]))
            .reshape([batch, len, width]);
        self.project_out.forward(found)
    }
}
