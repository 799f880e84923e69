//! What a pass through an image tokenizer gives its trainer.

use burn::tensor::{Int, Tensor};

/// A picture there and back, with all that the losses and the codebook's moving means need.
#[derive(Debug)]
pub struct TrainingOutput {
    /// The reconstruction, not clamped, `[b, 3, height, width]`.
    pub pixels: Tensor<4>,
    /// Pulls latents to their code vectors, `[1]`; absent while the quantizer is off.
    pub commitment: Option<Tensor<1>>,
    /// Pulls a pyramid's canvas to the latents, `[1]`; only with learned φ.
    pub canvas_loss: Option<Tensor<1>>,
    /// Latents that were looked up, `[n, d]`, with their ids, `[n]`, outside the graph.
    pub groups: Vec<(Tensor<2>, Tensor<1, Int>)>,
    /// The latents while the quantizer is off, `[b, d, h, w]`.
    pub latents: Option<Tensor<4>>,
}

impl TrainingOutput {
    /// A pass without quantizer.
    pub fn plain(pixels: Tensor<4>, latents: Tensor<4>) -> Self {
        Self {
            pixels,
            commitment: None,
            canvas_loss: None,
            groups: Vec::new(),
            latents: Some(latents),
        }
    }
}
