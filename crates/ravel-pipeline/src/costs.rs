//! What a pass of a sequence model reads and multiplies at the least: the idealised cost that a measured one is held against.
//!
//! Counted are the products with weights and those of attention; what is left out (norms, curves, tables) takes next to nothing of
//! either. Narayanan et al. 2023 (idealised runtime) for the idea; the count of products as in Kaplan et al. 2020, table 1.

use std::ops::AddAssign;

use ravel_backbone::Transformer;
use ravel_nn::{Narrowable, WeightsType, streamed};

/// What a sequence model without cross-attention and its head cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs {
    /// Numbers in the sequence model's weights that each position is multiplied with.
    pub weights: usize,
    /// Numbers in the head's weights, with which positions are multiplied whose scores are taken.
    pub head_weights: usize,
    /// Numbers in weights that each row is multiplied with once a step: those of modulation.
    pub row_weights: usize,
    /// Bytes of all of these.
    pub weight_bytes: usize,
    /// Bytes of keys and values that a position leaves behind in all layers.
    pub remembered_bytes: usize,
    /// Numbers of a position's queries in all layers.
    pub queries: usize,
}

/// New positions of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Rows that are computed together.
    pub rows: usize,
    /// New positions of each.
    pub new: usize,
    /// Positions in front of them.
    pub past: usize,
    /// Positions whose scores are taken.
    pub scored: usize,
    /// Whether a new position sees only itself and earlier ones, rather than all new ones.
    pub causal: bool,
}

/// What is done.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Bytes that are read.
    pub bytes: f64,
    /// Products and sums of two numbers.
    pub flops: f64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.flops += other.flops;
    }
}

impl Costs {
    /// Of a model whose weights are of one type; a table that also gives the scores counts as the head's weight.
    pub fn of<H: Narrowable>(backbone: &Transformer, head: &H, kind: WeightsType) -> Self {
        let config = backbone.config();
        let [bytes, weights] = streamed(backbone, kind);
        let [head_bytes, head_weights] = streamed(head, kind);
        let row_weights = config.modulation.map_or(0, |width| {
            let projections = if config.shared_modulation {
                1
            } else {
                config.layers
            };
            width * config.d_model * (6 * projections + 2 * usize::from(config.final_norm))
        });
        let heads = config.n_kv_heads() * config.head_width();
        Self {
            weights: weights - row_weights,
            head_weights,
            row_weights,
            weight_bytes: bytes + head_bytes,
            remembered_bytes: 2 * config.layers * heads * size_of::<f32>(),
            queries: config.layers * config.n_heads * config.head_width(),
        }
    }

    /// What a step of new positions does.
    pub fn step(&self, span: Span) -> Work {
        let Span {
            rows, new, past, ..
        } = span;
        let seen = match span.causal {
            true => new * past + new * (new + 1) / 2,
            false => new * (past + new),
        };
        let products = self.weights * rows * new
            + self.head_weights * rows * span.scored
            + self.row_weights * rows
            + 2 * self.queries * rows * seen;
        Work {
            bytes: (self.weight_bytes + rows * (past + new) * self.remembered_bytes) as f64,
            flops: 2.0 * products as f64,
        }
    }

    /// What a step of training on whole causal sequences does: forward once, backward twice as much.
    pub fn training_step(&self, rows: usize, positions: usize, scored: usize) -> Work {
        let forward = self.step(Span {
            rows,
            new: positions,
            past: 0,
            scored,
            causal: true,
        });
        Work {
            bytes: 3.0 * forward.bytes,
            flops: 3.0 * forward.flops,
        }
    }
}

#[cfg(test)]
mod tests {
    use ravel_backbone::TransformerConfig;
    use ravel_core::Layout;
    use ravel_heads::NextTokenConfig;
    use ravel_testkit::device;

    use super::*;

    fn costs(config: &TransformerConfig, tie: bool, kind: WeightsType) -> Costs {
        let layout = Layout::Sequence { len: 8 };
        let head = NextTokenConfig {
            codebook_size: 40,
            tie,
            ..NextTokenConfig::default()
        };
        let device = device();
        let head = head.init(config.d_model, config.axes(), &layout, &device);
        Costs::of(&config.init(&device), &head, kind)
    }

    #[test]
    fn weights_are_counted_once_for_what_reads_them() {
        let config = TransformerConfig {
            layers: 3,
            d_model: 32,
            n_heads: 4,
            n_kv_heads: Some(2),
            d_ff: Some(64),
            gated: true,
            ..TransformerConfig::default()
        };
        let layer = 32 * (32 + 2 * 16) + 32 * 32 + 3 * 32 * 64;
        let plain = costs(&config, false, WeightsType::F32);
        let expected = Costs {
            weights: 3 * layer,
            head_weights: 32 * 40,
            row_weights: 0,
            weight_bytes: 4 * (3 * layer + 32 * 40),
            remembered_bytes: 4 * 3 * 2 * 16,
            queries: 3 * 32,
        };
        assert_eq!(plain, expected);
        assert_eq!(costs(&config, true, WeightsType::F32), expected);
        for kind in WeightsType::ALL {
            let [table, out] = [true, false].map(|tie| costs(&config, tie, kind));
            assert_eq!(table, out);
            assert!(kind == WeightsType::F32 || table.weight_bytes < plain.weight_bytes);
        }
        let modulated = TransformerConfig {
            modulation: Some(10),
            ..config
        };
        let rows = 10 * 32 * (3 * 6 + 2);
        let modulated = costs(&modulated, false, WeightsType::F32);
        assert_eq!(
            (modulated.weights, modulated.row_weights),
            (3 * layer, rows)
        );
        assert_eq!(modulated.weight_bytes, expected.weight_bytes + 4 * rows);
    }

    #[test]
    fn a_pass_multiplies_as_much_as_its_steps() {
        let costs = costs(&TransformerConfig::default(), false, WeightsType::F32);
        let span = |new, past| Span {
            rows: 2,
            new,
            past,
            scored: new,
            causal: true,
        };
        let whole = costs.step(span(7, 3));
        let mut steps = Work::default();
        for past in 3..10 {
            steps += costs.step(span(1, past));
        }
        assert_eq!(whole.flops, steps.flops);
        // Weights are read once instead of seven times.
        assert!(7.0 * whole.bytes > steps.bytes && whole.bytes < steps.bytes);
        let block = costs.step(Span {
            causal: false,
            ..span(7, 3)
        });
        assert_eq!(
            block.flops - whole.flops,
            (4 * 2 * 21 * costs.queries) as f64
        );
        let trained = costs.training_step(2, 7, 7);
        assert_eq!(trained.flops, 3.0 * costs.step(span(7, 0)).flops);
    }
}
