//! Decoders of pictures laid out for the CPU's kernels.
//!
//! A decoder's weights do not change once it is part of a tokenizer. So they are laid out for the products when the first picture is
//! decoded, and pictures then go through all layers channels last, one at a time: memory does not grow with the batch, and a
//! picture's numbers do not depend on what is beside it. Nor does it grow with the picture beyond a limit: the fine layers then
//! work on strips.

mod plan;
mod strips;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use burn::nn;
use burn::nn::conv::Conv2d;
use burn::tensor::{DType, Tensor};
use ravel_core::DecodeType;
use ravel_kernels::Curve;
use ravel_kernels::conv::{CellAttention, Conv, Grid, Planes, Precision};
use ravel_kernels::norm::{Entry, GroupNorm, Sums};
use ravel_kernels::pool::{self, Pool};
use ravel_kernels::tensor;

use super::Decoder;
pub use plan::HELD;
use plan::Plan;
use strips::Strips;

/// A decoder's layers for the kernels, made when they are first needed.
///
/// It belongs to one decoder whose weights stay as they are: a model that learns decodes by [`Decoder::forward`].
#[derive(Debug)]
pub struct ReadyDecoder {
    layers: OnceLock<Layers>,
    kind: DecodeType,
    held: usize,
}

impl Default for ReadyDecoder {
    fn default() -> Self {
        Self {
            layers: OnceLock::new(),
            kind: DecodeType::default(),
            held: HELD,
        }
    }
}

impl ReadyDecoder {
    /// What its products are to be computed in from now on.
    pub fn decode_in(&mut self, kind: DecodeType) {
        if kind != self.kind {
            *self = Self {
                layers: OnceLock::new(),
                kind,
                held: self.held,
            };
        }
    }

    /// How many bytes the layers may hold at once beside the latents, the weights and the picture, [`HELD`] at first. Where a picture
    /// needs more, residual blocks hold one grid in place of two (some layers are computed twice), or the fine layers work on
    /// strips (they are computed once for every norm behind them). It changes no bit of a picture. What stands in front of the
    /// last attention is always held, and a few rows of what stands behind it.
    pub fn decode_within(&mut self, bytes: usize) {
        self.held = bytes;
    }

    /// Products of numbers that `decoder` takes by its formula for a grid of `[rows, columns]` latents.
    pub fn products(&self, decoder: &Decoder, [rows, columns]: [usize; 2]) -> u64 {
        let layers = self
            .layers
            .get_or_init(|| Layers::of(decoder, self.kind, pool::global()));
        let mut cells = rows * columns;
        let each = layers.steps.iter().map(|step| match step {
            Step::Conv(conv) | Step::Bent(_, _, conv) => conv.products(cells),
            Step::Attention(attention) => attention.products(cells),
            Step::Residual(residual) => {
                let all = residual.convs.iter().chain(&residual.shortcut);
                all.map(|conv| conv.products(cells)).sum()
            }
            Step::Double(conv) => {
                cells *= 4;
                conv.products(cells)
            }
            Step::Shuffle => {
                cells *= 4;
                0
            }
        });
        each.sum()
    }

    /// What `decoder` makes of latents: by the kernels where they are `f32` on the CPU and no gradient flows, otherwise by
    /// [`Decoder::forward`]. The two differ by rounding; the error stays below 1e-5 of the largest number in `f32`.
    ///
    /// # Shapes
    /// - `latents`: `[b, code_width, h, w]`
    /// - returns: `[b, 3, h * stride, w * stride]`, not clamped
    pub fn forward(&self, decoder: &Decoder, latents: Tensor<4>) -> Tensor<4> {
        let [batch, width, rows, columns] = latents.dims();
        let served = latents.dtype() == DType::F32 && batch * width * rows * columns > 0;
        let Some(handle) = tensor::on_cpu(&latents).filter(|_| served) else {
            return decoder.forward(latents);
        };
        let pool = pool::global();
        let layers = self
            .layers
            .get_or_init(|| Layers::of(decoder, self.kind, pool));
        let handle = handle.to_contiguous();
        let Some(numbers) = handle.as_slice::<f32>() else {
            return decoder.forward(latents);
        };
        let plan = layers.plan([rows, columns, width], self.held, pool.threads());
        let ([height, width_out, channels], side) = (plan.out, layers.patch);
        let picture = height * width_out * channels;
        let mut pixels = vec![0.0; batch * picture];
        let mut planes = Planes::default();
        for (latents, pixels) in numbers
            .chunks_exact(width * rows * columns)
            .zip(pixels.chunks_exact_mut(picture))
        {
            let grid = Grid::read(latents, rows, columns, width);
            layers.run(pool, &mut planes, &plan, grid, pixels);
        }
        let channels = channels / (side * side);
        tensor::of_values(pixels, [batch, channels, height * side, width_out * side])
    }
}

/// A decoder's layers in order.
#[derive(Debug)]
pub(super) struct Layers {
    steps: Vec<Step>,
    /// Cells a side that the last step's channels are.
    patch: usize,
}

/// What happens to a grid.
#[derive(Debug)]
pub(super) enum Step {
    /// A convolution.
    Conv(Conv),
    /// A norm or none, a curve, a convolution.
    Bent(Option<GroupNorm>, Curve, Conv),
    /// A norm or none, a curve and a convolution, twice, added to what came in or to a convolution of it.
    Residual(Residual),
    /// Attention between cells.
    Attention(CellAttention),
    /// Each cell twice in both directions, then a convolution.
    Double(Conv),
    /// Four channels of a cell as four cells.
    Shuffle,
}

/// A norm or none, a curve and a convolution, twice, added to what came in or to a convolution of it.
#[derive(Debug)]
pub(super) struct Residual {
    pub norms: [Option<GroupNorm>; 2],
    pub curve: Curve,
    pub convs: [Conv; 2],
    pub shortcut: Option<Conv>,
}

impl Layers {
    fn of(decoder: &Decoder, kind: DecodeType, pool: &Pool) -> Self {
        let precision = match kind {
            DecodeType::F32 => Precision::F32,
            DecodeType::Bf16 => Precision::Bf16,
        };
        let mut maker = Maker {
            steps: Vec::new(),
            pool,
            precision,
        };
        let patch = match decoder {
            Decoder::Compact(decoder) => decoder.lay_out(&mut maker),
            Decoder::VqGan(decoder) => decoder.lay_out(&mut maker),
        };
        Self {
            steps: maker.steps,
            patch,
        }
    }

    /// Writes the picture of a grid of latents to `pixels`.
    fn run(
        &self,
        pool: &Pool,
        planes: &mut Planes,
        plan: &Plan,
        mut grid: Grid,
        pixels: &mut [f32],
    ) {
        // What comes in is no sum of a layer; no norm stands before the first convolution.
        let mut sums = Sums::none(grid.channels);
        let (whole, in_strips) = self.steps.split_at(plan.sparing.len());
        for (step, sparing) in whole.iter().zip(&plan.sparing) {
            (grid, sums) = match step {
                Step::Residual(residual) if *sparing => {
                    *planes = Planes::default();
                    residual.run_sparing(pool, planes, grid, &sums, plan.rows)
                }
                _ => step.run(pool, planes, grid, sums),
            };
        }
        if in_strips.is_empty() {
            grid.write(pool, self.patch, pixels);
        } else {
            *planes = Planes::default();
            Strips::new(in_strips, &grid, plan.rows).run(pool, &sums, self.patch, pixels);
        }
        planes.give(grid);
    }
}

impl Step {
    /// Whether its first or second convolution stands behind a norm.
    fn has_norm(&self, at: usize) -> bool {
        match self {
            Self::Bent(norm, _, _) => at == 0 && norm.is_some(),
            Self::Residual(residual) => residual.norms[at].is_some(),
            _ => false,
        }
    }

    /// What happens to numbers with these sums on their way into its first or second convolution.
    fn entry(&self, at: usize, sums: &Sums) -> Entry {
        match self {
            Self::Bent(norm, curve, _) if at == 0 => entry(norm.as_ref(), *curve, sums),
            Self::Residual(residual) => residual.entry(at, sums),
            _ => Entry::default(),
        }
    }

    fn run(&self, pool: &Pool, planes: &mut Planes, mut grid: Grid, sums: Sums) -> (Grid, Sums) {
        match self {
            Self::Conv(conv) => through(pool, planes, grid, &Entry::default(), 1, conv),
            Self::Bent(_, _, conv) => through(pool, planes, grid, &self.entry(0, &sums), 1, conv),
            Self::Double(conv) => through(pool, planes, grid, &Entry::default(), 2, conv),
            Self::Attention(attention) => {
                let sums = attention.run(pool, planes, &mut grid, &sums);
                (grid, sums)
            }
            Self::Shuffle => {
                let out = grid.shuffled(pool, planes, 2);
                planes.give(grid);
                let none = Sums::none(out.channels);
                (out, none)
            }
            Self::Residual(residual) => residual.run(pool, planes, grid, &sums),
        }
    }
}

impl Residual {
    /// What happens to numbers with these sums on their way into the first or second convolution.
    fn entry(&self, at: usize, sums: &Sums) -> Entry {
        entry(self.norms[at].as_ref(), self.curve, sums)
    }

    fn run(&self, pool: &Pool, planes: &mut Planes, mut grid: Grid, sums: &Sums) -> (Grid, Sums) {
        let [first, second] = &self.convs;
        let mut inner = planes.take(grid.height, grid.width, first.channels());
        let sums = first.run(pool, &grid, &self.entry(0, sums), 1, &mut inner, false);
        if let Some(shortcut) = &self.shortcut {
            (grid, _) = through(pool, planes, grid, &Entry::default(), 1, shortcut);
        }
        let sums = second.run(pool, &inner, &self.entry(1, &sums), 1, &mut grid, true);
        planes.give(inner);
        (grid, sums)
    }
}

fn entry(norm: Option<&GroupNorm>, curve: Curve, sums: &Sums) -> Entry {
    match norm {
        Some(norm) => norm.entry(sums, Some(curve)),
        None => Entry::curve(Some(curve)),
    }
}

fn through(
    pool: &Pool,
    planes: &mut Planes,
    grid: Grid,
    entry: &Entry,
    repeat: usize,
    conv: &Conv,
) -> (Grid, Sums) {
    let mut out = planes.take(grid.height * repeat, grid.width * repeat, conv.channels());
    let sums = conv.run(pool, &grid, entry, repeat, &mut out, false);
    planes.give(grid);
    (out, sums)
}

/// Takes a decoder's layers in order.
pub(super) struct Maker<'a> {
    steps: Vec<Step>,
    pool: &'a Pool,
    precision: Precision,
}

impl Maker<'_> {
    pub(super) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    pub(super) fn conv(&self, conv: &Conv2d) -> Conv {
        let [to, from, kernel, _] = conv.weight.dims();
        let bias = conv.bias.as_ref().map(|bias| numbers(bias.val()));
        let weight = numbers(conv.weight.val());
        let shape = [to, from, kernel];
        Conv::new(
            self.pool,
            &weight,
            &bias.unwrap_or_default(),
            shape,
            self.precision,
        )
    }

    pub(super) fn norm(&self, norm: &nn::GroupNorm) -> GroupNorm {
        let of = |weight: &Option<burn::module::Param<Tensor<1>>>, none: f32| match weight {
            Some(weight) => numbers(weight.val()),
            None => vec![none; norm.num_channels],
        };
        GroupNorm {
            groups: norm.num_groups,
            gamma: of(&norm.gamma, 1.0),
            beta: of(&norm.beta, 0.0),
            epsilon: norm.epsilon,
        }
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    let numbers = data.try_into_vec::<f32>();
    numbers.expect("numbers were converted to f32")
}
