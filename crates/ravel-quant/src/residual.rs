//! Residual quantization: each quantizer codes what those before it left over.
//!
//! Zeghidour et al. 2021 (SoundStream), algorithm 1. Symbols: `depth` is N_q, the quantizers one after another.
//! Shapes: `b` batch, `n` positions, `d` width.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finite::{Bound, FiniteQuantizer};
use crate::vector::{VectorConfig, VectorQuantizer, on_device_of, straight_through};

/// What fixes a stack of codebooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ResidualConfig {
    /// Codebooks.
    pub depth: usize,
    /// Each of them.
    pub codebook: VectorConfig,
}

impl ResidualConfig {
    /// Codebooks of small random rows.
    ///
    /// # Panics
    /// If there is no codebook.
    pub fn init(&self, device: &Device) -> ResidualQuantizer {
        assert!(self.depth > 0, "depth axis: there is no codebook");
        ResidualQuantizer {
            codebooks: (0..self.depth)
                .map(|_| self.codebook.init(device))
                .collect(),
        }
    }
}

/// Learned codebooks, each for what the ones before it left over.
#[derive(Module, Debug)]
pub struct ResidualQuantizer {
    /// From coarse to fine.
    pub codebooks: Vec<VectorQuantizer>,
}

/// What residual quantizing gives while training.
#[derive(Debug, Clone)]
pub struct ResidualQuantized {
    /// `[b, depth, n]`, as `Codes` holds them.
    pub ids: Tensor<3, Int>,
    /// `[b, n, d]`: the sum of the code vectors, with the gradient passed straight through to the latents.
    pub vectors: Tensor<3>,
    /// What each quantizer saw, `[b, n, d]`: the latents for its moving means.
    pub residuals: Vec<Tensor<3>>,
    /// Mean over the quantizers of how far each residual is from its code vector. `[1]`.
    pub commitment: Tensor<1>,
}

impl ResidualQuantizer {
    /// The ids of all quantizers.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    /// - returns: `[b, depth, n]`
    pub fn ids(&self, latents: Tensor<3>) -> Tensor<3, Int> {
        self.quantize(latents, self.codebooks.len()).ids
    }

    /// The sum of the code vectors of the ids. Fewer rows of ids than codebooks give a coarser sum.
    ///
    /// # Shapes
    /// - `ids`: `[b, depth, n]`
    /// - returns: `[b, n, d]`
    ///
    /// # Panics
    /// If there are no ids, or more rows of them than codebooks.
    pub fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        let depth = ids.dims()[1];
        assert!(
            (1..=self.codebooks.len()).contains(&depth),
            "depth axis: {depth} rows of ids for {} codebooks",
            self.codebooks.len()
        );
        self.codebooks
            .iter()
            .take(depth)
            .enumerate()
            .map(|(at, codebook)| codebook.vectors(row(&ids, at)))
            .reduce(|sum, vectors| sum + vectors)
            .expect("there is one row of ids at least")
    }

    /// Ids, straight-through vectors and the commitment loss, by the first `depth` codebooks only.
    ///
    /// Training with a depth drawn anew for each step is quantizer dropout (SoundStream, section III-C): one model for
    /// all bit rates.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    ///
    /// # Panics
    /// If `depth` is zero or above the count of codebooks.
    pub fn quantize(&self, latents: Tensor<3>, depth: usize) -> ResidualQuantized {
        assert!(
            (1..=self.codebooks.len()).contains(&depth),
            "depth axis: depth {depth} of {} codebooks",
            self.codebooks.len()
        );
        let mut residual = latents.clone();
        let mut found = Vec::with_capacity(depth);
        let mut residuals = Vec::with_capacity(depth);
        let mut commitment: Option<Tensor<1>> = None;
        let mut sum: Option<Tensor<3>> = None;
        for codebook in &self.codebooks[..depth] {
            let ids = codebook.ids(residual.clone());
            let vectors = codebook
                .vectors(on_device_of(ids.clone(), &residual))
                .detach();
            let far = (residual.clone() - vectors.clone()).square().mean();
            residuals.push(residual.clone());
            residual = residual - vectors.clone();
            commitment = Some(commitment.map_or(far.clone(), |so_far| so_far + far));
            sum = Some(sum.map_or(vectors.clone(), |so_far| so_far + vectors));
            found.push(ids.unsqueeze_dim::<3>(1));
        }
        let vectors = sum.expect("depth is one at least");
        ResidualQuantized {
            ids: Tensor::cat(found, 1),
            vectors: straight_through(latents, vectors),
            residuals,
            commitment: commitment.expect("depth is one at least") / depth as f64,
        }
    }
}

/// Finite scalar quantizers, each on a finer scale than the one before.
///
/// With [`Bound::SymmetricClamp`] latents are first bounded softly to `1 + 1 / (levels - 1)`, all that the sum can reach,
/// and quantizer `i` works on the scale `levels^-i`, so that every sum has one sequence of ids. With the `tanh` bounds the
/// scale is `(levels - 1)^-i` and latents are taken as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ResidualFiniteQuantizer {
    /// Quantizers.
    pub depth: usize,
    /// Each of them.
    pub quantizer: FiniteQuantizer,
}

impl ResidualFiniteQuantizer {
    /// The ids of all quantizers.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    /// - returns: `[b, depth, n]`
    pub fn ids(&self, latents: Tensor<3>) -> Tensor<3, Int> {
        self.quantize(latents).0
    }

    /// The sum of the code vectors of the ids. Fewer rows of ids than quantizers give a coarser sum.
    ///
    /// # Shapes
    /// - `ids`: `[b, depth, n]`
    /// - returns: `[b, n, d]`
    ///
    /// # Panics
    /// If there are no ids, or more rows of them than quantizers.
    pub fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        let depth = ids.dims()[1];
        assert!(
            (1..=self.depth).contains(&depth),
            "depth axis: {depth} rows of ids for {} quantizers",
            self.depth
        );
        (0..depth)
            .map(|at| {
                let vectors = self.quantizer.vectors(row(&ids, at));
                let scale = self.scale(at, &vectors);
                vectors * scale
            })
            .reduce(|sum, vectors| sum + vectors)
            .expect("there is one row of ids at least")
    }

    /// Ids `[b, depth, n]` and straight-through vectors `[b, n, d]`.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    ///
    /// # Panics
    /// If there is no quantizer or `d` is not the count of levels.
    pub fn quantize(&self, latents: Tensor<3>) -> (Tensor<3, Int>, Tensor<3>) {
        let mut residual = self.softly_bounded(latents);
        let mut found = Vec::with_capacity(self.depth);
        let mut sum: Option<Tensor<3>> = None;
        for at in 0..self.depth {
            let scale = self.scale(at, &residual);
            let rounded = self.quantizer.quantize(residual.clone() / scale.clone());
            let vectors = rounded.vectors * scale;
            residual = residual - vectors.clone().detach();
            sum = Some(sum.map_or(vectors.clone(), |so_far| so_far + vectors));
            found.push(rounded.ids.unsqueeze_dim::<3>(1));
        }
        let vectors = sum.expect("depth axis: there is no quantizer");
        (Tensor::cat(found, 1), vectors)
    }

    fn softly_bounded(&self, latents: Tensor<3>) -> Tensor<3> {
        if self.quantizer.bound != Bound::SymmetricClamp {
            return latents;
        }
        let reach = self
            .quantizer
            .per_level(|levels| 1.0 + 1.0 / (levels - 1.0), &latents);
        (latents / reach.clone()).tanh() * reach
    }

    /// `[1, 1, d]`: what quantizer `at` multiplies its code vectors by.
    fn scale(&self, at: usize, like: &Tensor<3>) -> Tensor<3> {
        let finer = |levels: f32| match self.quantizer.bound {
            Bound::SymmetricClamp => levels,
            Bound::Tanh | Bound::SymmetricTanh => levels - 1.0,
        };
        self.quantizer
            .per_level(|levels| finer(levels).powi(-(at as i32)), like)
    }
}

/// `[b, n]`: one quantizer's ids.
fn row(ids: &Tensor<3, Int>, at: usize) -> Tensor<2, Int> {
    ids.clone().narrow(1, at, 1).squeeze_dim(1)
}
