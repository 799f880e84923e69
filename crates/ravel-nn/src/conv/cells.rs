//! Attention between the cells of a grid, or between the frames of a clip cell by cell.

use burn::tensor::Tensor;
use ravel_core::Attend;

use crate::{Attention, AttentionConfig, QueryKeyNorm, Sight};

/// Attention whose widths are all `width`, with biases, as grids of latents have it.
///
/// # Panics
/// If `n_heads` does not divide `width`.
pub fn cell_attention(width: usize, n_heads: usize) -> AttentionConfig {
    assert!(
        width.is_multiple_of(n_heads),
        "width axis: {n_heads} heads do not divide {width}"
    );
    AttentionConfig {
        d_model: width,
        n_heads,
        n_kv_heads: n_heads,
        head_width: width / n_heads,
        qk_norm: QueryKeyNorm::None,
        norm_eps: 0.0,
        qkv_bias: true,
        out_bias: true,
        scale: None,
        out_std: crate::init::STD,
    }
}

/// Every cell of a grid sees every cell.
///
/// # Shapes
/// - `grid`: `[b, c, h, w]`
/// - returns: like `grid`
pub fn among_cells(attention: &Attention, grid: Tensor<4>) -> Tensor<4> {
    let [batch, width, rows, columns] = grid.dims();
    let n = rows * columns;
    let sight = Sight::beside(n, None, grid.dtype(), &grid.device());
    let cells = grid.reshape([batch, width, n]).swap_dims(1, 2);
    let (mixed, _) = attention.forward(cells, None, &sight, None);
    mixed.swap_dims(1, 2).reshape([batch, width, rows, columns])
}

/// Every cell sees itself in this frame and in earlier ones.
///
/// # Shapes
/// - `clip`: `[b, c, t, h, w]`
/// - returns: like `clip`
pub fn among_frames(attention: &Attention, clip: Tensor<5>) -> Tensor<5> {
    let [batch, width, time, rows, columns] = clip.dims();
    let (dtype, device) = (clip.dtype(), clip.device());
    let sequences = clip
        .permute([0, 3, 4, 2, 1])
        .reshape([batch * rows * columns, time, width]);
    let sight = Sight::new(&Attend::Causal, time, 0, None, None, dtype, &device);
    let (mixed, _) = attention.forward(sequences, None, &sight, None);
    mixed
        .reshape([batch, rows, columns, time, width])
        .permute([0, 4, 3, 1, 2])
}

#[cfg(test)]
mod tests {
    use ravel_testkit::{assert_close, device, formula};

    use super::*;

    #[test]
    fn frames_see_back_and_cells_see_their_own_frame() {
        let attention = cell_attention(8, 2).init(&device());
        let clip: Tensor<5> = formula([2, 8, 4, 2, 3], 1, 1.0, &device());
        let all = among_frames(&attention, clip.clone());
        let part = among_frames(&attention, clip.clone().narrow(2, 0, 2));
        assert_close("start", &part, &all.narrow(2, 0, 2), 1e-6);
        let frame = |index| clip.clone().narrow(2, index, 1).squeeze_dim::<4>(2);
        let both = Tensor::cat(vec![frame(0), frame(1)], 0);
        let both = among_cells(&attention, both);
        let alone = among_cells(&attention, frame(1));
        assert_close("row", &both.narrow(0, 2, 2), &alone, 1e-6);
    }
}
