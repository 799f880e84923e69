//! Mimi's codebooks: a semantic group and an acoustic one, both for the same latents; what they stand for is added.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use ravel_nn::init;
use ravel_quant::{ResidualQuantizer, VectorQuantizer};

use super::MimiConfig;

/// Least usage that a row's sum is divided by.
const LEAST_USAGE: f64 = 1e-5;

/// The codebooks as they are published.
#[derive(Module, Debug)]
pub struct MimiQuantizer {
    /// The first ones.
    pub semantic: ProjectedResidual,
    /// The others, if there are any.
    pub acoustic: Option<ProjectedResidual>,
}

/// Residual codebooks between two projections.
#[derive(Module, Debug)]
pub struct ProjectedResidual {
    /// To a row's width, where it is another.
    pub project_in: Option<Linear>,
    /// From coarse to fine.
    pub codebooks: Vec<UsageCodebook>,
    /// Back to the latents' width.
    pub project_out: Option<Linear>,
}

/// A codebook as its training kept it: sums of latents, and how many went into each.
#[derive(Module, Debug)]
pub struct UsageCodebook {
    /// `[codebook_size, code_width]`.
    pub sums: Param<Tensor<2>>,
    /// `[codebook_size]`.
    pub usage: Param<Tensor<1>>,
}

impl MimiQuantizer {
    pub(super) fn new(config: &MimiConfig, device: &Device) -> Self {
        let width = config.seanet.width;
        let projected = config.code_width != width;
        let linear = |from, to| {
            let linear = LinearConfig::new(from, to).with_bias(false);
            projected.then(|| linear.init(device))
        };
        let group = |depth: usize| ProjectedResidual {
            project_in: linear(width, config.code_width),
            codebooks: (0..depth)
                .map(|_| UsageCodebook {
                    sums: init::normal([config.codebook_size, config.code_width], 1.0, device),
                    usage: init::ones([config.codebook_size], device),
                })
                .collect(),
            project_out: linear(config.code_width, width),
        };
        let acoustic = config.depth - config.semantic_depth;
        Self {
            semantic: group(config.semantic_depth),
            acoustic: (acoustic > 0).then(|| group(acoustic)),
        }
    }

    /// The codebooks with each row's mean worked out.
    pub(super) fn split(&self) -> Split {
        Split {
            semantic: self.semantic.group(),
            acoustic: self.acoustic.as_ref().map(ProjectedResidual::group),
        }
    }
}

impl ProjectedResidual {
    fn group(&self) -> Group {
        let codebook = |book: &UsageCodebook| {
            let [size, _] = book.sums.dims();
            let usage = book.usage.val().clamp_min(LEAST_USAGE);
            let rows = book.sums.val() / usage.reshape([size, 1]);
            VectorQuantizer {
                codebook: Param::from_tensor(rows).set_require_grad(false),
                l2_normalize: false,
            }
        };
        Group {
            project_in: self.project_in.clone(),
            residual: ResidualQuantizer {
                codebooks: self.codebooks.iter().map(codebook).collect(),
            },
            project_out: self.project_out.clone(),
        }
    }
}

/// Both groups, ready to search.
#[derive(Debug)]
pub(super) struct Split {
    semantic: Group,
    acoustic: Option<Group>,
}

#[derive(Debug)]
struct Group {
    project_in: Option<Linear>,
    residual: ResidualQuantizer,
    project_out: Option<Linear>,
}

impl Split {
    /// Ids `[b, depth, n]` of latents `[b, n, width]`.
    pub(super) fn ids(&self, latents: Tensor<3>, depth: usize) -> Tensor<3, Int> {
        let semantic = self.semantic.residual.codebooks.len();
        assert!(
            depth >= semantic,
            "depth axis: depth {depth} of {semantic} semantic codebooks"
        );
        let first = self.semantic.ids(latents.clone(), semantic);
        match (&self.acoustic, depth - semantic) {
            (_, 0) => first,
            (Some(acoustic), rest) => Tensor::cat(vec![first, acoustic.ids(latents, rest)], 1),
            (None, rest) => panic!("depth axis: {rest} codebooks more than there are"),
        }
    }

    /// What ids `[b, depth, n]` stand for, `[b, n, width]`. With fewer rows than semantic codebooks it is a coarser sum.
    pub(super) fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        let depth = ids.dims()[1];
        let semantic = depth.min(self.semantic.residual.codebooks.len());
        let first = self.semantic.vectors(ids.clone().narrow(1, 0, semantic));
        match (&self.acoustic, depth - semantic) {
            (_, 0) => first,
            (Some(acoustic), rest) => first + acoustic.vectors(ids.narrow(1, semantic, rest)),
            (None, rest) => panic!("depth axis: {rest} codebooks more than there are"),
        }
    }

    /// Where the codebooks are.
    pub(super) fn device(&self) -> Device {
        self.semantic.residual.codebooks[0].codebook.val().device()
    }
}

impl Group {
    fn ids(&self, latents: Tensor<3>, depth: usize) -> Tensor<3, Int> {
        let latents = match &self.project_in {
            Some(linear) => linear.forward(latents),
            None => latents,
        };
        self.residual.quantize(latents, depth).ids
    }

    fn vectors(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        let sum = self.residual.vectors(ids);
        match &self.project_out {
            Some(linear) => linear.forward(sum),
            None => sum,
        }
    }
}
