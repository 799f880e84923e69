//! Finite scalar quantization: each number of a latent is rounded to one of a few levels.
//!
//! Mentzer et al. 2023, section 3.1 and appendix A.1. Symbols: `levels` is L, `d` its length; a code vector has `d` numbers
//! between -1 and 1. There is no codebook to learn and none to collapse.
//! Shapes: `b` batch, `n` positions, `d` width.

use burn::tensor::{Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vector::{plain, straight_through};

/// How much wider than its outermost levels the bounded range is, so that those are reached.
const MARGIN: f32 = 1e-3;

/// Levels of each number, and how latents are bounded.
///
/// ```
/// use ravel_quant::{Bound, FiniteQuantizer};
///
/// let quantizer = FiniteQuantizer {
///     levels: vec![8, 5, 5, 5],
///     bound: Bound::Tanh,
/// };
/// assert_eq!(quantizer.codebook_size(), 1000);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FiniteQuantizer {
    /// Levels of each number, at least 2 each. The first one changes fastest with the id.
    pub levels: Vec<usize>,
    /// How latents are bounded.
    #[serde(default)]
    pub bound: Bound,
}

/// How latents are brought into the range of the levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// By `tanh`, around a level at 0. An even count of levels has one more below 0 than above.
    #[default]
    Tanh,
    /// By `tanh`, with levels that lie evenly from -1 to 1 (Parker et al. 2024, appendix E).
    SymmetricTanh,
    /// By clamping, with levels that lie evenly from -1 to 1: for residuals, which are small already.
    SymmetricClamp,
}

/// What quantizing without a codebook gives while training.
#[derive(Debug, Clone)]
pub struct Rounded {
    /// `[b, n]`.
    pub ids: Tensor<2, Int>,
    /// `[b, n, d]`: the code vectors, with the gradient passed straight through the rounding.
    pub vectors: Tensor<3>,
}

impl FiniteQuantizer {
    /// Ids: the product of the levels.
    ///
    /// # Panics
    /// If ids would not fit 31 bits.
    pub fn codebook_size(&self) -> usize {
        self.levels
            .iter()
            .try_fold(1_usize, |size, levels| size.checked_mul(*levels))
            .filter(|size| *size <= 1 << 31)
            .expect("levels axis: ids of these levels would not fit 31 bits")
    }

    /// The id at each position.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    /// - returns: `[b, n]`
    ///
    /// # Panics
    /// If `d` is not the count of levels.
    pub fn ids(&self, latents: Tensor<3>) -> Tensor<2, Int> {
        let steps = self.steps(plain(latents)).round();
        self.ids_of_steps(steps)
    }

    /// The code vectors of ids.
    ///
    /// # Shapes
    /// - `ids`: `[b, n]`
    /// - returns: `[b, n, d]`
    pub fn vectors(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let ids = ids.unsqueeze_dim::<3>(2);
        let mut below = 1;
        let steps = self.levels.iter().map(|&levels| {
            let step = ids
                .clone()
                .div_scalar(below as i64)
                .remainder_scalar(levels as i64);
            below *= levels;
            step.float()
        });
        self.vectors_of_steps(Tensor::cat(steps.collect(), 2))
    }

    /// Ids and straight-through vectors.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    pub fn quantize(&self, latents: Tensor<3>) -> Rounded {
        let steps = self.steps(latents);
        let rounded = plain(steps.clone()).round();
        let through = if steps.is_autodiff() {
            straight_through(steps, Tensor::from_inner(rounded.clone()))
        } else {
            rounded.clone()
        };
        Rounded {
            ids: self.ids_of_steps(rounded),
            vectors: self.vectors_of_steps(through),
        }
    }

    /// Where each number lies on its scale of levels, between 0 and the last level, before rounding.
    fn steps(&self, latents: Tensor<3>) -> Tensor<3> {
        let width = latents.dims()[2];
        assert_eq!(
            width,
            self.levels.len(),
            "width axis: latents do not fit the levels"
        );
        let bounded = match self.bound {
            Bound::Tanh => return self.steps_around_zero(latents),
            Bound::SymmetricTanh => latents.tanh(),
            Bound::SymmetricClamp => latents.clamp(-1.0, 1.0),
        };
        let last = self.per_level(|levels| levels - 1.0, &bounded);
        (bounded + 1.0) * last * 0.5
    }

    /// Latents in the range of the levels of [`Bound::Tanh`], one step apart and 0 at the middle level, before rounding: what
    /// Fish-Speech's residual quantizer starts from.
    ///
    /// # Shapes
    /// - `latents`: `[b, n, d]`
    /// - returns: like `latents`
    pub fn bounded(&self, latents: Tensor<3>) -> Tensor<3> {
        let half = |levels: f32| (levels - 1.0) * (1.0 + MARGIN) / 2.0;
        let offset = |levels: f32| if levels % 2.0 == 0.0 { 0.5 } else { 0.0 };
        let shift = self.per_level(|levels| (offset(levels) / half(levels)).atanh(), &latents);
        let reach = self.per_level(half, &latents);
        let offset = self.per_level(offset, &latents);
        (latents + shift).tanh() * reach - offset
    }

    fn steps_around_zero(&self, latents: Tensor<3>) -> Tensor<3> {
        let middle = self.per_level(|levels| (levels / 2.0).floor(), &latents);
        self.bounded(latents) + middle
    }

    fn vectors_of_steps(&self, steps: Tensor<3>) -> Tensor<3> {
        // The middle level is 0 and the outermost one at -1, so both are the same number of steps.
        let half = |levels: f32| match self.bound {
            Bound::Tanh => (levels / 2.0).floor(),
            Bound::SymmetricTanh | Bound::SymmetricClamp => (levels - 1.0) / 2.0,
        };
        let half = self.per_level(half, &steps);
        (steps - half.clone()) / half
    }

    fn ids_of_steps(&self, steps: Tensor<3>) -> Tensor<2, Int> {
        assert!(
            self.codebook_size() > 1,
            "levels axis: there is only one id"
        );
        let steps = steps.int();
        let mut below = 1;
        let mut ids: Option<Tensor<3, Int>> = None;
        for (at, &levels) in self.levels.iter().enumerate() {
            let step = steps.clone().narrow(2, at, 1).clamp(0, levels as i64 - 1);
            let share = step.mul_scalar(below as i64);
            ids = Some(match ids {
                None => share,
                Some(sum) => sum + share,
            });
            below *= levels;
        }
        ids.expect("there are two ids at least").squeeze_dim(2)
    }

    /// `[1, 1, d]`: a number for each count of levels.
    pub(crate) fn per_level(&self, number: impl Fn(f32) -> f32, like: &Tensor<3>) -> Tensor<3> {
        let numbers: Vec<f32> = self
            .levels
            .iter()
            .map(|&levels| number(levels as f32))
            .collect();
        Tensor::from_data(
            TensorData::new(numbers, [1, 1, self.levels.len()]),
            &like.device(),
        )
    }
}
