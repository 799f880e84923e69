//! Vector quantization: each latent becomes the id of its nearest codebook row.
//!
//! van den Oord et al. 2017, section 3. Symbols: `latents` is z, `vectors` is e. With `l2-normalize`, both are brought to
//! unit length first (ViT-VQGAN, Yu et al. 2022), so that the nearest row is the one of greatest cosine.
//! Shapes: `b` batch, `n` positions, `d` width.

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Int, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scores that are held at a time while searching.
const SEARCH_CHUNK: usize = 1 << 24;

/// What fixes a codebook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VectorConfig {
    /// Ids.
    pub codebook_size: usize,
    /// Numbers in one code vector.
    pub width: usize,
    /// Whether latents and codebook rows are compared and returned at unit length.
    #[serde(default)]
    pub l2_normalize: bool,
}

impl VectorConfig {
    /// A codebook of small random rows.
    pub fn init(&self, device: &Device) -> VectorQuantizer {
        let bound = 1.0 / self.codebook_size as f64;
        let rows = Tensor::random(
            [self.codebook_size, self.width],
            Distribution::Uniform(-bound, bound),
            device,
        );
        VectorQuantizer {
            codebook: Param::from_tensor(rows).set_require_grad(false),
            l2_normalize: self.l2_normalize,
        }
    }
}

/// A codebook and the search in it.
#[derive(Module, Debug)]
pub struct VectorQuantizer {
    /// `[codebook_size, d]`.
    pub codebook: Param<Tensor<2>>,
    /// Whether rows are compared and returned at unit length.
    pub l2_normalize: bool,
}

/// What quantizing gives while training.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// `[b, n]`.
    pub ids: Tensor<2, Int>,
    /// `[b, n, d]`: the code vectors, with the gradient passed straight through to the latents.
    pub vectors: Tensor<3>,
    /// How far latents are from their code vectors: mean squared, gradient to the latents only. `[1]`.
    pub commitment: Tensor<1>,
}

/// `vectors` forward, `latents` backward (the straight-through estimator).
pub fn straight_through<const D: usize>(latents: Tensor<D>, vectors: Tensor<D>) -> Tensor<D> {
    latents.clone() + (vectors - latents).detach()
}

impl VectorQuantizer {
    /// The rows as they are looked up, `[codebook_size, d]`.
    pub fn rows(&self) -> Tensor<2> {
        let rows = self.codebook.val();
        if self.l2_normalize { unit(rows) } else { rows }
    }

    /// The id of the nearest row at each position.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    /// - returns: `[b, n]`
    ///
    /// # Panics
    /// If `d` is not the codebook's width.
    pub fn ids(&self, latents: Tensor<3>) -> Tensor<2, Int> {
        nearest(latents, self.codebook.val(), self.l2_normalize)
    }

    /// The id of the row of greatest cosine at each position, whether or not rows are returned at unit length.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    /// - returns: `[b, n]`
    ///
    /// # Panics
    /// If `d` is not the codebook's width.
    pub fn ids_by_cosine(&self, latents: Tensor<3>) -> Tensor<2, Int> {
        nearest(latents, self.codebook.val(), true)
    }

    /// The code vectors of ids.
    ///
    /// # Shapes
    /// - `ids`: `[b, n]`
    /// - returns: `[b, n, d]`
    pub fn vectors(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, len] = ids.dims();
        let rows = self.rows();
        let [_, width] = rows.dims();
        rows.select(0, ids.reshape([batch * len]))
            .reshape([batch, len, width])
    }

    /// Ids, straight-through vectors and the commitment loss.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    pub fn quantize(&self, latents: Tensor<3>) -> Quantized {
        let ids = self.ids(latents.clone());
        let latents = if self.l2_normalize {
            unit(latents)
        } else {
            latents
        };
        let vectors = self.vectors(on_device_of(ids.clone(), &latents)).detach();
        Quantized {
            ids,
            commitment: (latents.clone() - vectors.clone()).square().mean(),
            vectors: straight_through(latents, vectors),
        }
    }
}

/// The id of the nearest row at each position, of all at unit length where asked.
fn nearest(latents: Tensor<3>, codebook: Tensor<2>, unit_length: bool) -> Tensor<2, Int> {
    let [batch, len, width] = latents.dims();
    let rows = plain(codebook);
    let rows = if unit_length { unit(rows) } else { rows };
    let [size, row_width] = rows.dims();
    assert_eq!(
        width, row_width,
        "width axis: latents do not fit the codebook"
    );
    let flat = plain(latents).reshape([batch * len, width]);
    let flat = if unit_length { unit(flat) } else { flat };
    // The nearest row by |z - e|² = |z|² - 2 z·e + |e|²: the first term is the same for all rows.
    let half_squares = rows.clone().square().sum_dim(1).transpose() * 0.5;
    let across = rows.transpose();
    let at_once = (SEARCH_CHUNK / size).max(1);
    let found = (0..batch * len).step_by(at_once).map(|start| {
        let part = flat
            .clone()
            .narrow(0, start, at_once.min(batch * len - start));
        let scores = part.matmul(across.clone()) - half_squares.clone();
        scores.argmax(1)
    });
    Tensor::cat(found.collect(), 0).reshape([batch, len])
}

/// Rows at unit length.
pub(crate) fn unit<const D: usize>(rows: Tensor<D>) -> Tensor<D> {
    let length = rows.clone().square().sum_dim(D - 1).sqrt().clamp_min(1e-12);
    rows / length
}

/// The tensor outside any autodiff graph: searches need no gradient.
pub(crate) fn plain<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.is_autodiff() {
        tensor.inner()
    } else {
        tensor
    }
}

/// Ids brought to where `like` lives (autodiff or not).
pub(crate) fn on_device_of<const D: usize, const E: usize>(
    ids: Tensor<D, Int>,
    like: &Tensor<E>,
) -> Tensor<D, Int> {
    if like.is_autodiff() && !ids.is_autodiff() {
        Tensor::from_inner(ids)
    } else {
        ids
    }
}
