//! Quantizers against `vector-quantize-pytorch`. One folder holds many: a tensor's name begins with its quantizer's, and the README's
//! table says how that was made, in the reference's words (`FSQ(levels=[8, 5, 5], dim=10)`).

use burn::module::Param;
use burn::tensor::{Int, Tensor};
use ravel_quant::{
    BinaryQuantizer, Bound, FiniteQuantizer, ResidualFiniteQuantizer, ResidualQuantizer,
    VectorConfig, VectorQuantizer,
};
use ravel_weights::Checkpoint;

use crate::settings::Settings;
use crate::{Case, CaseReport, GoldenError};

/// Runs a case.
///
/// # Errors
/// [`GoldenError::Input`] if a quantizer's settings cannot be read.
pub fn run(case: &Case, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
    let weights = case.weights("model.safetensors")?;
    let names = case.names().into_iter().map(String::from);
    let inputs = names.filter(|name| name.ends_with(".x"));
    for input in inputs.collect::<Vec<_>>() {
        let name = input.trim_end_matches(".x");
        let settings = Settings::of(case, &input)?;
        report.inputs([input.as_str()]);
        Single {
            case,
            weights: &weights,
            name,
        }
        .compare(&settings, report)?;
    }
    Ok(())
}

/// One quantizer of the case.
struct Single<'a> {
    case: &'a Case,
    weights: &'a Checkpoint,
    name: &'a str,
}

impl Single<'_> {
    fn compare(&self, settings: &Settings, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
        let latents = self.projected("project_in", self.latents()?)?;
        match settings.name.as_str() {
            "FSQ" => self.finite(settings, latents, report),
            "LFQ" => self.binary(settings, latents, report),
            "VectorQuantize" => self.vector(settings, latents, report),
            "ResidualVQ" => self.residual(settings, latents, report),
            "ResidualFSQ" => self.residual_finite(settings, latents, report),
            other => Err(self.case.input(format!("no quantizer `{other}` is known"))),
        }
    }

    fn finite(
        &self,
        settings: &Settings,
        latents: Tensor<3>,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let quantizer = FiniteQuantizer {
            levels: settings.list("levels"),
            bound: match settings.is_on("preserve_symmetry") {
                true => Bound::SymmetricTanh,
                false => Bound::Tanh,
            },
        };
        let found = quantizer.quantize(latents);
        self.quantized(found.vectors, report)?;
        self.quantized(quantizer.vectors(found.ids.clone()), report)?;
        self.indices(found.ids.unsqueeze_dim(1), report)?;
        let begins = format!("{}.codes_of_", self.name);
        for name in self.case.names() {
            if name.starts_with(&begins) {
                let count = self.case.shape(name)?.first().copied().unwrap_or_default();
                let all = Tensor::arange(0..count as i64, &self.case.device());
                let codes = quantizer.vectors(all.unsqueeze_dim(0));
                report.real(name, codes.squeeze_dim::<2>(0))?;
            }
        }
        Ok(())
    }

    fn binary(
        &self,
        settings: &Settings,
        latents: Tensor<3>,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let quantizer = BinaryQuantizer {
            bits: latents.dims()[2],
            spherical: settings.is_on("spherical"),
        };
        let found = quantizer.quantize(latents);
        self.quantized(found.vectors, report)?;
        self.quantized(quantizer.vectors(found.ids.clone()), report)?;
        self.indices(found.ids.unsqueeze_dim(1), report)
    }

    fn vector(
        &self,
        settings: &Settings,
        latents: Tensor<3>,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let quantizer = self.codebook("_codebook", settings)?;
        let found = quantizer.quantize(latents);
        self.quantized(found.vectors, report)?;
        self.indices(found.ids.unsqueeze_dim(1), report)
    }

    fn residual(
        &self,
        settings: &Settings,
        latents: Tensor<3>,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let depth = settings.number("num_quantizers").unwrap_or(1.0) as usize;
        let codebooks = (0..depth)
            .map(|at| self.codebook(&format!("layers.{at}._codebook"), settings))
            .collect::<Result<_, _>>()?;
        let quantizer = ResidualQuantizer { codebooks };
        let found = quantizer.quantize(latents, depth);
        self.quantized(found.vectors, report)?;
        self.looked_up_again(quantizer.vectors(found.ids.clone()), report)?;
        self.indices(found.ids, report)
    }

    fn residual_finite(
        &self,
        settings: &Settings,
        latents: Tensor<3>,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let quantizer = ResidualFiniteQuantizer {
            depth: settings.number("num_quantizers").unwrap_or(1.0) as usize,
            quantizer: FiniteQuantizer {
                levels: settings.list("levels"),
                bound: Bound::SymmetricClamp,
            },
        };
        let (ids, vectors) = quantizer.quantize(latents);
        self.quantized(vectors, report)?;
        self.looked_up_again(quantizer.vectors(ids.clone()), report)?;
        self.indices(ids, report)
    }

    /// `[b, n, d]` from a sequence, or from a grid with its channels second.
    fn latents(&self) -> Result<Tensor<3>, GoldenError> {
        let name = self.tensor("x");
        if self.case.shape(&name)?.len() == 3 {
            return self.case.real(&name);
        }
        let grid: Tensor<4> = self.case.real(&name)?;
        let [batch, width, rows, columns] = grid.dims();
        Ok(grid.reshape([batch, width, rows * columns]).swap_dims(1, 2))
    }

    fn quantized(
        &self,
        vectors: Tensor<3>,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let name = self.tensor("quantized");
        let out = self.projected("project_out", vectors)?;
        match self.case.shape(&name)? {
            &[batch, width, rows, columns] => {
                let grid = out.swap_dims(1, 2).reshape([batch, width, rows, columns]);
                report.real(&name, grid)
            }
            _ => report.real(&name, out),
        }
    }

    fn looked_up_again(
        &self,
        vectors: Tensor<3>,
        report: &mut CaseReport<'_>,
    ) -> Result<(), GoldenError> {
        let name = self.tensor("from_indices");
        report.real(&name, self.projected("project_out", vectors)?)
    }

    /// `ids`: `[b, depth, n]`; the reference has the depth last, or leaves it out, and keeps a grid's rows.
    fn indices(&self, ids: Tensor<3, Int>, report: &mut CaseReport<'_>) -> Result<(), GoldenError> {
        let name = self.tensor("indices");
        let shape = self.case.shape(&name)?.to_vec();
        match shape[..] {
            [_, _] => report.ids(&name, ids.squeeze_dim::<2>(1)),
            [batch, rows, columns] if ids.dims()[1] == 1 => {
                report.ids(&name, ids.reshape([batch, rows, columns]))
            }
            _ => report.ids(&name, ids.swap_dims(1, 2)),
        }
    }

    /// Through a linear layer, where the quantizer has one of this name.
    fn projected(&self, layer: &str, x: Tensor<3>) -> Result<Tensor<3>, GoldenError> {
        let weight = self.tensor(&format!("{layer}.weight"));
        if self.weights.shape(&weight).is_none() {
            return Ok(x);
        }
        let device = self.case.device();
        let weight = Tensor::<2>::from_data(self.weights.real(&weight)?, &device);
        let bias = self.weights.real(&self.tensor(&format!("{layer}.bias")))?;
        let bias = Tensor::<1>::from_data(bias, &device);
        Ok(x.matmul(weight.transpose().unsqueeze()) + bias.unsqueeze())
    }

    fn codebook(&self, part: &str, settings: &Settings) -> Result<VectorQuantizer, GoldenError> {
        let rows = self.weights.real(&self.tensor(&format!("{part}.embed")))?;
        let rows = Tensor::<3>::from_data(rows, &self.case.device()).squeeze_dim::<2>(0);
        let [codebook_size, width] = rows.dims();
        let config = VectorConfig {
            codebook_size,
            width,
            l2_normalize: settings.is_on("use_cosine_sim"),
        };
        let mut quantizer = config.init(&self.case.device());
        quantizer.codebook = Param::from_tensor(rows);
        Ok(quantizer)
    }

    fn tensor(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }
}
