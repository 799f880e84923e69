//! Decoders of pictures laid out for the CPU's kernels.
//!
//! A decoder's weights do not change once it is part of a tokenizer. So they are laid out for the products when the first picture is
//! decoded, and pictures then go through all layers channels last, one at a time: memory does not grow with the batch, and a
//! picture's numbers do not depend on what is beside it.

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

/// A decoder's layers for the kernels, made when they are first needed.
///
/// It belongs to one decoder whose weights stay as they are: a model that learns decodes by [`Decoder::forward`].
#[derive(Debug, Default)]
pub struct ReadyDecoder {
    layers: OnceLock<Layers>,
    kind: DecodeType,
}

impl ReadyDecoder {
    /// What its products are to be computed in from now on.
    pub fn decode_in(&mut self, kind: DecodeType) {
        if kind != self.kind {
            *self = Self {
                layers: OnceLock::new(),
                kind,
            };
        }
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
            Step::Residual {
                convs, shortcut, ..
            } => {
                let all = convs.iter().chain(shortcut);
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
        let mut pixels = Vec::new();
        let mut planes = Planes::default();
        let mut shape = [batch, 0, 0, 0];
        for picture in numbers.chunks_exact(width * rows * columns) {
            let grid = layers.run(pool, &mut planes, Grid::read(picture, rows, columns, width));
            let side = layers.patch;
            shape = [
                batch,
                grid.channels / (side * side),
                grid.height * side,
                grid.width * side,
            ];
            let start = pixels.len();
            pixels.resize(start + grid.cells().len(), 0.0);
            grid.write(pool, side, &mut pixels[start..]);
            planes.give(grid);
        }
        tensor::of_values(pixels, shape)
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
    Residual {
        norms: [Option<GroupNorm>; 2],
        curve: Curve,
        convs: [Conv; 2],
        shortcut: Option<Conv>,
    },
    /// Attention between cells.
    Attention(CellAttention),
    /// Each cell twice in both directions, then a convolution.
    Double(Conv),
    /// Four channels of a cell as four cells.
    Shuffle,
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

    fn run(&self, pool: &Pool, planes: &mut Planes, mut grid: Grid) -> Grid {
        // What comes in is no sum of a layer; no norm stands before the first convolution.
        let mut sums = Sums::none(grid.channels);
        for step in &self.steps {
            (grid, sums) = step.run(pool, planes, grid, sums);
        }
        grid
    }
}

impl Step {
    fn run(&self, pool: &Pool, planes: &mut Planes, mut grid: Grid, sums: Sums) -> (Grid, Sums) {
        let entry = |norm: &Option<GroupNorm>, sums: &Sums, curve| match norm {
            Some(norm) => norm.entry(sums, Some(curve)),
            None => Entry::curve(Some(curve)),
        };
        match self {
            Self::Conv(conv) => through(pool, planes, grid, &Entry::default(), 1, conv),
            Self::Bent(norm, curve, conv) => {
                through(pool, planes, grid, &entry(norm, &sums, *curve), 1, conv)
            }
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
            Self::Residual {
                norms,
                curve,
                convs,
                shortcut,
            } => {
                let mut inner = planes.take(grid.height, grid.width, convs[0].channels());
                let first = entry(&norms[0], &sums, *curve);
                let sums = convs[0].run(pool, &grid, &first, 1, &mut inner, false);
                if let Some(shortcut) = shortcut {
                    (grid, _) = through(pool, planes, grid, &Entry::default(), 1, shortcut);
                }
                let second = entry(&norms[1], &sums, *curve);
                let sums = convs[1].run(pool, &inner, &second, 1, &mut grid, true);
                planes.give(inner);
                (grid, sums)
            }
        }
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

#[cfg(test)]
mod tests {
    use ravel_testkit::{assert_close, device, formula, values};

    use super::*;
    use crate::conv::{AutoencoderConfig, CompactConfig, VqGanConfig};

    fn decoders() -> Vec<(usize, Decoder)> {
        let compact = |patch, decoder: [usize; 2]| {
            AutoencoderConfig::Compact(CompactConfig {
                patch,
                encoder: vec![8, 8],
                decoder: decoder.to_vec(),
                encoder_blocks: vec![0, 0],
                decoder_blocks: vec![1, 2],
            })
        };
        let vq_gan = |channels, multiples: &[usize], code_kernel, attention| {
            AutoencoderConfig::VqGan(VqGanConfig {
                channels,
                multiples: multiples.to_vec(),
                blocks: 1,
                z_channels: if code_kernel == 0 { 5 } else { 24 },
                code_kernel,
                attention,
                ..VqGanConfig::default()
            })
        };
        let configs = [
            compact(4, [12, 9]),
            compact(2, [96, 64]),
            vq_gan(32, &[1, 2], 1, None),
            vq_gan(32, &[2, 1, 1], 3, Some(vec![0, 2])),
            // Winograd's way begins at 64 channels.
            vq_gan(64, &[1, 1], 0, Some(vec![])),
        ];
        let built = configs.map(|config| {
            config.validate(16).unwrap();
            (5, config.init(5, &device()).1)
        });
        built.into()
    }

    #[test]
    fn the_kernels_make_what_the_layers_make() {
        for (width, decoder) in decoders() {
            for [rows, columns] in [[4, 4], [3, 5], [1, 9]] {
                let latents = formula([2, width, rows, columns], 3, 1.0, &device());
                let wanted = decoder.forward(latents.clone());
                let found = ReadyDecoder::default().forward(&decoder, latents);
                let most = values(&wanted)
                    .iter()
                    .fold(0.0f32, |most, x| most.max(x.abs()));
                assert_close("pixels", &found, &wanted, 1e-5 * most);
            }
        }
    }

    #[test]
    fn products_are_those_of_the_formula() {
        let config = VqGanConfig {
            channels: 32,
            multiples: vec![1, 1],
            blocks: 1,
            z_channels: 8,
            ..VqGanConfig::default()
        };
        let decoder = AutoencoderConfig::VqGan(config).init(5, &device()).1;
        let found = ReadyDecoder::default().products(&decoder, [2, 3]);
        let (square, wide) = (32 * 32, 9 * 32 * 32);
        // Two convolutions in; then residual blocks (two in the middle, two at the coarse grid), attention after each of the
        // coarse ones and between the middle ones.
        let coarse = 6 * (5 * 8 + 9 * 8 * 32 + 4 * 2 * wide + 3 * 4 * square) + 3 * 2 * 36 * 32;
        // At the fine grid: the convolution after the doubling, two blocks, the way out.
        let fine = 24 * (wide + 2 * 2 * wide + 9 * 32 * 3);
        assert_eq!(found, (coarse + fine) as u64);
    }

    #[test]
    fn a_batch_is_its_pictures() {
        for (width, decoder) in decoders() {
            let ready = ReadyDecoder::default();
            let latents: Tensor<4> = formula([3, width, 4, 3], 4, 1.0, &device());
            let all = values(&ready.forward(&decoder, latents.clone()));
            let each = (0..3).flat_map(|row| {
                values(&ready.forward(&decoder, latents.clone().narrow(0, row, 1)))
            });
            assert!(each.eq(all));
        }
    }

    #[test]
    fn narrow_products_stay_near() {
        for (width, decoder) in decoders() {
            let latents: Tensor<4> = formula([1, width, 4, 6], 5, 1.0, &device());
            let wanted = values(&decoder.forward(latents.clone()));
            let mut ready = ReadyDecoder::default();
            ready.decode_in(DecodeType::Bf16);
            let found = values(&ready.forward(&decoder, latents));
            let most = wanted.iter().fold(f32::MIN, |most, x| most.max(*x));
            let least = wanted.iter().fold(f32::MAX, |least, x| least.min(*x));
            let squares = wanted
                .iter()
                .zip(&found)
                .map(|(x, y)| f64::from(x - y).powi(2));
            let error = squares.sum::<f64>() / wanted.len() as f64;
            let decibels = 10.0 * (f64::from(most - least).powi(2) / error).log10();
            assert!(decibels > 40.0, "{decibels}");
        }
    }

    #[test]
    fn gradients_go_through_the_layers() {
        let (width, decoder) = decoders().remove(0);
        let device = device().autodiff();
        let decoder = burn::module::Module::to_device(decoder, &device);
        let latents = formula::<4>([1, width, 2, 2], 6, 1.0, &device).require_grad();
        let pixels = ReadyDecoder::default().forward(&decoder, latents.clone());
        let gradients = pixels.sum().backward();
        assert!(latents.grad(&gradients).is_some());
    }
}
