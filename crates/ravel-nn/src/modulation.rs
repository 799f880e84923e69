//! Adaptive norms: a vector per row sets the gain, bias and strength of every branch.
//!
//! Peebles and Xie 2023, section 3.2 ("adaLN"), with the chunk order of VAR (Tian et al. 2024).

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, activation};

use crate::{Norm, Project, init};

/// The curve that all modulations of a pass share: SiLU, computed once.
///
/// # Shapes
/// - `condition`: `[batch, d_modulation]`
/// - returns: like `condition`
pub fn activated(condition: Tensor<2>) -> Tensor<2> {
    activation::silu(condition)
}

/// Gain, bias and strength for the two branches of a layer.
///
/// The projection's columns are six chunks of `d_model`: strength of attention, strength of feed-forward,
/// gain of attention, gain of feed-forward, bias of attention, bias of feed-forward
/// (VAR's gamma1, gamma2, scale1, scale2, shift1, shift2).
#[derive(Module, Debug)]
pub struct Modulation {
    /// `[d_modulation, 6 d_model]`, where the layer has its own.
    pub linear: Option<Linear>,
    /// `[6, d_model]`, added to the projection that all layers share.
    pub offsets: Option<Param<Tensor<2>>>,
}

/// What a modulation says about one branch, each `[batch, 1, d_model]`.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Multiplies what the branch adds.
    pub strength: Tensor<3>,
    /// Multiplies the branch's normalised input, less one.
    pub gain: Tensor<3>,
    /// Added to the branch's normalised input.
    pub bias: Tensor<3>,
}

impl Modulation {
    /// A fresh projection.
    pub fn new(d_modulation: usize, d_model: usize, device: &Device) -> Self {
        Self {
            linear: Some(Self::projection(d_modulation, d_model, device)),
            offsets: None,
        }
    }

    /// A layer's fresh share in a projection that all layers have in common.
    pub fn new_shared(d_model: usize, device: &Device) -> Self {
        Self {
            linear: None,
            offsets: Some(init::normal([6, d_model], init::STD, device)),
        }
    }

    /// A fresh projection for all layers: `[d_modulation, 6 d_model]`.
    pub fn projection(d_modulation: usize, d_model: usize, device: &Device) -> Linear {
        init::linear(d_modulation, 6 * d_model, true, init::STD, device)
    }

    /// What the condition says about attention and about the feed-forward layer.
    ///
    /// # Shapes
    /// - `activated`: `[batch, d_modulation]`, through [`activated`]
    /// - `shared`: `[batch, 6 d_model]`, what the projection of all layers makes of it, where there is one
    ///
    /// # Panics
    /// If the layer has no projection and none is shared.
    pub fn forward(&self, activated: Tensor<2>, shared: Option<&Tensor<2>>) -> [Branch; 2] {
        let projected = match (&self.linear, shared) {
            (Some(linear), _) => linear.project(activated),
            (None, Some(shared)) => shared.clone(),
            (None, None) => panic!("a modulation without a projection of its own or of all layers"),
        };
        let projected = match &self.offsets {
            Some(offsets) => projected + offsets.val().flatten::<1>(0, 1).unsqueeze(),
            None => projected,
        };
        let chunks = chunks(projected, 6);
        [0, 1].map(|branch| Branch {
            strength: chunks[branch].clone(),
            gain: chunks[2 + branch].clone(),
            bias: chunks[4 + branch].clone(),
        })
    }
}

/// Gain and bias of the last norm: two chunks of `d_model`, gain then bias.
#[derive(Module, Debug)]
pub struct FinalModulation {
    /// `[d_modulation, 2 d_model]`.
    pub linear: Linear,
}

impl FinalModulation {
    /// A fresh projection.
    pub fn new(d_modulation: usize, d_model: usize, device: &Device) -> Self {
        Self {
            linear: init::linear(d_modulation, 2 * d_model, true, init::STD, device),
        }
    }

    /// `norm(x) * (1 + gain) + bias`.
    ///
    /// # Shapes
    /// - `x`: `[batch, n, d_model]`
    /// - `activated`: `[batch, d_modulation]`, through [`activated`]
    pub fn forward(&self, norm: &Norm, x: Tensor<3>, activated: Tensor<2>) -> Tensor<3> {
        let chunks = chunks(self.linear.project(activated), 2);
        norm.modulated(x, &chunks[0], &chunks[1])
    }
}

impl Branch {
    /// The branch's input: `norm(x) * (1 + gain) + bias`.
    ///
    /// # Shapes
    /// - `x`: `[batch, n, d_model]`
    pub fn enter(&self, norm: &Norm, x: Tensor<3>) -> Tensor<3> {
        norm.modulated(x, &self.gain, &self.bias)
    }

    /// What the branch adds: `x * strength`.
    ///
    /// # Shapes
    /// - `x`: `[batch, n, d_model]`
    pub fn leave(&self, x: Tensor<3>) -> Tensor<3> {
        x * self.strength.clone()
    }
}

fn chunks(x: Tensor<2>, count: usize) -> Vec<Tensor<3>> {
    let width = x.dims()[1] / count;
    (0..count)
        .map(|chunk| x.clone().narrow(1, chunk * width, width).unsqueeze_dim(1))
        .collect()
}
