//! Masked prediction of latents: one transformer reads the positions that are known, another the whole row with marks where nothing is
//! known, and a diffusion head says what stands there.
//!
//! Li et al. 2024 (MAR), sections 3.4 and 4.2; after He et al. 2021 (MAE). Symbols: `b` rows, `L` positions, `B` buffer positions (copies
//! of the class vector in front), `d` a latent's width, `e` and `f` the two transformers' widths.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::{
    Attend, Backbone, Condition, Error, Filling, Masked, Noise, Place, Result, StepInput,
};
use ravel_nn::conv::{pixel_shuffle, pixel_unshuffle};
use ravel_nn::{Norm, NormConfig, NormKind, Project, init};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DiffusionHead, DiffusionHeadConfig};

const EPSILON: f64 = 1e-6;

/// What fixes the parts beside the two transformers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MaskedLatentConfig {
    /// Latents of a row.
    pub positions: usize,
    /// Copies of the class vector in front of them.
    pub buffer: usize,
    /// Classes.
    pub classes: usize,
    /// Width of the transformer that reads what is known.
    pub encoder_width: usize,
    /// The diffusion head; its condition is as wide as the other transformer.
    pub diffusion: DiffusionHeadConfig,
}

impl MaskedLatentConfig {
    /// # Errors
    /// [`Error::Config`] names the field that cannot be built.
    pub fn validate(&self) -> Result<()> {
        for (field, found) in [
            ("positions", self.positions),
            ("buffer", self.buffer),
            ("classes", self.classes),
            ("encoder-width", self.encoder_width),
        ] {
            if found == 0 || found > 1 << 20 {
                return Err(Error::Config {
                    field: field.into(),
                    found: found.to_string(),
                    expected: "a number of 1 to 1048576".into(),
                });
            }
        }
        self.diffusion.validate()
    }

    /// Fresh parts.
    ///
    /// # Panics
    /// If [`MaskedLatentConfig::validate`] would report an error.
    pub fn init(&self, device: &Device) -> MaskedLatent {
        let (e, d) = (self.encoder_width, self.diffusion.denoiser.target_width);
        let f = self.diffusion.denoiser.condition_width;
        let table = |rows, width| init::normal([rows, width], init::STD, device);
        let linear = |from, to| init::linear(from, to, true, init::STD, device);
        let norm = NormConfig {
            kind: NormKind::Layer,
            eps: EPSILON,
        };
        let all = self.buffer + self.positions;
        MaskedLatent {
            classes: table(self.classes, e),
            no_class: table(1, e),
            latent_in: linear(d, e),
            latent_norm: norm.init(e, device),
            encoder_positions: table(all, e),
            decoder_in: linear(e, f),
            mark: table(1, f),
            decoder_positions: table(all, f),
            output_positions: table(self.positions, f),
            diffusion: self.diffusion.init(device),
            config: self.clone(),
        }
    }
}

/// The parts.
#[derive(Module, Debug)]
pub struct MaskedLatent {
    /// `[classes, e]`.
    pub classes: Param<Tensor<2>>,
    /// `[1, e]`: stands for no class.
    pub no_class: Param<Tensor<2>>,
    /// `[d, e]`.
    pub latent_in: Linear,
    /// Before the first transformer.
    pub latent_norm: Norm,
    /// `[B + L, e]`.
    pub encoder_positions: Param<Tensor<2>>,
    /// `[e, f]`.
    pub decoder_in: Linear,
    /// `[1, f]`: stands where nothing is known.
    pub mark: Param<Tensor<2>>,
    /// `[B + L, f]`.
    pub decoder_positions: Param<Tensor<2>>,
    /// `[L, f]`: added to what leaves the second transformer.
    pub output_positions: Param<Tensor<2>>,
    /// Hidden states to latents.
    pub diffusion: DiffusionHead,
    #[module(skip)]
    config: MaskedLatentConfig,
}

impl MaskedLatent {
    /// What it was built from.
    pub fn config(&self) -> &MaskedLatentConfig {
        &self.config
    }

    /// Class vectors.
    ///
    /// # Shapes
    /// - `labels`: `[b]`
    /// - returns: `[b, e]`
    pub fn class_vectors(&self, labels: Tensor<1, Int>) -> Tensor<2> {
        self.classes.val().select(0, labels)
    }

    /// What the first transformer reads: the buffer, then what is known, in the order of positions.
    ///
    /// # Shapes
    /// - `latents`: `[b, L, d]`
    /// - `known`: positions of each row, ascending, as many (`k`) in each
    /// - `classes`: `[b, e]`
    /// - returns: `[b, B + k, e]`
    pub fn encoder_input(
        &self,
        latents: Tensor<3>,
        known: &[Vec<usize>],
        classes: Tensor<2>,
    ) -> Tensor<3> {
        let [batch, _, _] = latents.dims();
        let (buffer, e) = (self.config.buffer, self.config.encoder_width);
        let front = classes.unsqueeze_dim::<3>(1).expand([batch, buffer, e]);
        let all = Tensor::cat(vec![front, self.latent_in.project(latents)], 1);
        let all = all + self.encoder_positions.val().unsqueeze();
        let shown = known.iter().map(|row| {
            let row = row.iter().map(|position| buffer + position);
            (0..buffer).chain(row).collect()
        });
        picked(self.latent_norm.forward(all), &shown.collect::<Vec<_>>())
    }

    /// What the second transformer reads: the first one's hidden states at their positions, marks elsewhere.
    ///
    /// # Shapes
    /// - `hidden`: `[b, B + k, e]`
    /// - returns: `[b, B + L, f]`
    pub fn decoder_input(&self, hidden: Tensor<3>, known: &[Vec<usize>]) -> Tensor<3> {
        let (buffer, positions) = (self.config.buffer, self.config.positions);
        let hidden = self.decoder_in.project(hidden);
        let [batch, shown, width] = hidden.dims();
        // Row 0 is the mark, hidden states follow.
        let rows = Tensor::cat(
            vec![self.mark.val(), hidden.reshape([batch * shown, width])],
            0,
        );
        let mut places = vec![0; batch * (buffer + positions)];
        for (row, known) in known.iter().enumerate() {
            let (from, to) = (1 + row * shown, row * (buffer + positions));
            let known = known.iter().map(|position| buffer + position);
            for (at, place) in (0..buffer).chain(known).enumerate() {
                places[to + place] = from + at;
            }
        }
        let filled = rows.select(0, indices(places, &self.mark.val().device()));
        filled.reshape([batch, buffer + positions, width])
            + self.decoder_positions.val().unsqueeze()
    }

    /// The diffusion head's conditions from what left the second transformer.
    ///
    /// # Shapes
    /// - `hidden`: `[b, B + L, f]`
    /// - returns: `[b, L, f]`
    pub fn conditions(&self, hidden: Tensor<3>) -> Tensor<3> {
        hidden.narrow(1, self.config.buffer, self.config.positions)
            + self.output_positions.val().unsqueeze()
    }
}

/// The parts with their transformers and the classes of a batch: what a decoding method fills in with.
pub struct MaskedGenerator<'a> {
    /// Reads what is known.
    pub encoder: &'a dyn Backbone,
    /// Reads the whole row.
    pub decoder: &'a dyn Backbone,
    /// The rest.
    pub head: &'a MaskedLatent,
    /// `[b, e]`.
    pub classes: Tensor<2>,
}

impl MaskedGenerator<'_> {
    /// A condition for every position.
    ///
    /// # Shapes
    /// - `latents`: `[b, L, d]`
    /// - `classes`: `[b, e]`
    /// - returns: `[b, L, f]`
    pub fn conditions(
        &self,
        latents: Tensor<3>,
        known: &[Vec<usize>],
        classes: Tensor<2>,
    ) -> Tensor<3> {
        let hidden = self.encoded(latents, known, classes);
        let input = self.head.decoder_input(hidden, known);
        self.head.conditions(whole(self.decoder, input))
    }

    /// What leaves the first transformer.
    ///
    /// # Shapes
    /// - returns: `[b, B + k, e]`
    pub fn encoded(
        &self,
        latents: Tensor<3>,
        known: &[Vec<usize>],
        classes: Tensor<2>,
    ) -> Tensor<3> {
        whole(
            self.encoder,
            self.head.encoder_input(latents, known, classes),
        )
    }
}

impl Masked for MaskedGenerator<'_> {
    fn positions(&self) -> usize {
        self.head.config.positions
    }

    fn empty(&self) -> Tensor<3> {
        let d = self.head.config.diffusion.denoiser.target_width;
        let batch = self.classes.dims()[0];
        Tensor::zeros([batch, self.positions(), d], &self.classes.device())
    }

    fn fill(&self, filling: Filling<'_>, noise: &mut dyn Noise) -> Result<Tensor<3>> {
        let Filling {
            latents,
            known,
            chosen,
            guidance,
            temperature,
        } = filling;
        let batch = latents.dims()[0];
        let twice = |rows: &[Vec<usize>]| [rows, rows].concat();
        let (latents, known, classes, asked) = match guidance != 0.0 {
            false => (
                latents,
                known.to_vec(),
                self.classes.clone(),
                chosen.to_vec(),
            ),
            true => {
                let nobody = self.head.no_class.val().repeat_dim(0, batch);
                let classes = Tensor::cat(vec![self.classes.clone(), nobody], 0);
                let latents = Tensor::cat(vec![latents.clone(), latents], 0);
                (latents, twice(known), classes, twice(chosen))
            }
        };
        let conditions = picked(self.conditions(latents, &known, classes), &asked);
        let [rows, count, width] = conditions.dims();
        let places = chosen.iter().enumerate();
        let places = places.flat_map(|(row, positions)| {
            positions
                .iter()
                .map(move |&position| Place { row, position })
        });
        let places: Vec<Place> = places.collect();
        let conditions = conditions.reshape([rows * count, width]);
        let diffusion = &self.head.diffusion;
        let found = diffusion.sample(conditions, &places, guidance, temperature, noise)?;
        let d = found.dims()[1];
        Ok(found.reshape([batch, count, d]))
    }
}

/// All positions see all positions.
fn whole(backbone: &dyn Backbone, embedded: Tensor<3>) -> Tensor<3> {
    let [batch, n, _] = embedded.dims();
    let mut state = backbone.start(batch, n);
    let input = StepInput {
        coords: Tensor::zeros([n, 1], &embedded.device()),
        embedded,
        attend: Attend::Unit,
    };
    backbone.step(input, &Condition::default(), &mut state)
}

/// Positions of each row, `[b, n, w]` to `[b, k, w]`.
fn picked(x: Tensor<3>, positions: &[Vec<usize>]) -> Tensor<3> {
    let [batch, n, width] = x.dims();
    let count = positions.first().map_or(0, Vec::len);
    assert!(
        positions.len() == batch && positions.iter().all(|row| row.len() == count),
        "position axis: not as many positions in each row"
    );
    let flat = positions.iter().enumerate();
    let flat = flat.flat_map(|(row, positions)| positions.iter().map(move |at| row * n + at));
    let places = indices(flat.collect(), &x.device());
    x.reshape([batch * n, width])
        .select(0, places)
        .reshape([batch, count, width])
}

fn indices(places: Vec<usize>, device: &Device) -> Tensor<1, Int> {
    let places: Vec<i64> = places.into_iter().map(|place| place as i64).collect();
    let count = places.len();
    Tensor::from_data(TensorData::new(places, [count]), device)
}

/// Latents in a row of patches of `patch` cells a side, row by row.
///
/// # Shapes
/// - `grid`: `[b, c, h, w]`
/// - returns: `[b, (h / patch) (w / patch), c patch²]`
pub fn patches_from_grid(grid: Tensor<4>, patch: usize) -> Tensor<3> {
    let cells = pixel_unshuffle(grid, patch);
    let [batch, width, rows, columns] = cells.dims();
    cells
        .reshape([batch, width, rows * columns])
        .swap_dims(1, 2)
}

/// The inverse of [`patches_from_grid`] for `rows` rows of patches.
///
/// # Shapes
/// - `patches`: `[b, n, c patch²]`
/// - returns: `[b, c, rows patch, (n / rows) patch]`
pub fn grid_from_patches(patches: Tensor<3>, patch: usize, rows: usize) -> Tensor<4> {
    let [batch, n, width] = patches.dims();
    let cells = patches
        .swap_dims(1, 2)
        .reshape([batch, width, rows, n / rows]);
    pixel_shuffle(cells, patch)
}
