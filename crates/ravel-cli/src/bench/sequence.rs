//! Sequence models of presets, with random weights.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ravel_core::{Attend, Backbone, Condition, Seed, State, StepInput};
use ravel_pipeline::{Definition, FreshLanguage, KeptAs, build_random_language};
use text_generation::SHAPES;

use crate::arguments::{BenchOptions, WeightsOptions};
use crate::failure::Failure;
use crate::pipelines;

/// Random weights are not of a narrower type by chance: f32 where nothing is asked for.
pub fn kept(weights: WeightsOptions) -> KeptAs {
    match weights.weights_type {
        None | Some(KeptAs::Auto) => KeptAs::F32,
        Some(kept) => kept,
    }
}

/// The definition of a sequence model to measure.
pub fn definition(preset: &str) -> Result<Definition, Failure> {
    let found = SHAPES.iter().find(|(name, _)| *name == preset);
    let (_, files) = found.expect("a preset for every name");
    Ok(pipelines::of_files(preset, files)?.0)
}

/// A preset's model, with room for so many positions.
pub fn open(
    preset: &str,
    weights: WeightsOptions,
    positions: usize,
    bench: &BenchOptions,
    device: &Device,
) -> Result<FreshLanguage, Failure> {
    let mut definition = definition(preset)?;
    definition.weights_type = kept(weights);
    device.seed(Seed::new(bench.seed).named("random weights").number());
    let model = build_random_language(&definition, device)?;
    match positions > model.context {
        true => Err(Failure::input_with(
            format!(
                "{positions} positions are asked for, the model has {}",
                model.context
            ),
            "ask for fewer",
        )),
        false => Ok(model),
    }
}

/// Rows that grow.
pub struct Sequence<'a> {
    model: &'a FreshLanguage,
    state: State,
    at: usize,
    device: &'a Device,
}

impl<'a> Sequence<'a> {
    /// Empty rows with room.
    pub fn new(model: &'a FreshLanguage, [rows, capacity]: [usize; 2], device: &'a Device) -> Self {
        Self {
            model,
            state: model.backbone.start(rows, capacity),
            at: 0,
            device,
        }
    }

    /// Ids that say nothing, `positions` for each row.
    pub fn any_ids(&self, positions: usize) -> Vec<i64> {
        (0..self.state.batch * positions)
            .map(|at| (at % 97) as i64)
            .collect()
    }

    /// Forgets all but the first `positions` of each row.
    pub fn rewind(&mut self, positions: usize) {
        self.state.truncate(positions);
        self.at = positions;
    }

    /// Appends `ids`, row after row; the most likely next id of each row.
    pub fn append(&mut self, ids: Vec<i64>) -> Vec<i64> {
        let rows = self.state.batch;
        let n = ids.len() / rows;
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, n]), self.device);
        let axes = self.model.backbone.config().axes();
        // A picture's rows and columns are as good as any: what a step costs does not depend on them.
        let coords: Vec<i64> = (self.at..self.at + n)
            .flat_map(|at| {
                (0..axes).map(move |axis| if axis + 1 == axes { at } else { at / 16 } as i64)
            })
            .collect();
        let coords = Tensor::from_data(TensorData::new(coords, [n, axes]), self.device);
        let input = StepInput {
            embedded: self.model.head.embedded(ids),
            coords,
            attend: Attend::Causal,
        };
        self.at += n;
        let condition = Condition::default();
        let hidden = (self.model.backbone).step(input, &condition, &mut self.state);
        let scores = self.model.head.scores(hidden.narrow(1, n - 1, 1));
        let width = scores.dims()[2];
        let scores = scores.into_data();
        let scores = scores.try_into_vec::<f32>().expect("scores of f32");
        scores
            .chunks_exact(width)
            .map(|row| greatest(row) as i64)
            .collect()
    }
}

fn greatest(scores: &[f32]) -> usize {
    let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter().position(|&score| score == best).unwrap_or(0)
}
