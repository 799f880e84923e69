//! Long short-term memory over time (Hochreiter and Schmidhuber 1997), several layers, added to its input.
//!
//! Gates lie in PyTorch's order: input, forget, cell, output. The input's share of all gates is one product for the whole
//! piece; only the memory's share is worked out frame by frame.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use super::piece::Piece;

/// Layers of memory as wide as their input.
#[derive(Module, Debug)]
pub struct Lstm {
    /// First to last.
    pub layers: Vec<LstmLayer>,
}

/// One layer.
#[derive(Module, Debug)]
pub struct LstmLayer {
    /// `[width, 4 width]`: the input's share of the gates.
    pub input: Linear,
    /// `[width, 4 width]`: the memory's share.
    pub hidden: Linear,
}

/// What each layer remembers: its output and its cell, `[b, width]`. Empty before the first piece.
#[derive(Debug, Clone, Default)]
pub struct LstmState {
    layers: Vec<(Tensor<2>, Tensor<2>)>,
}

impl Lstm {
    /// Fresh layers.
    pub fn new(width: usize, layers: usize, device: &Device) -> Self {
        let linear = || LinearConfig::new(width, 4 * width).init(device);
        Self {
            layers: (0..layers)
                .map(|_| LstmLayer {
                    input: linear(),
                    hidden: linear(),
                })
                .collect(),
        }
    }

    /// # Shapes
    /// - `x`: `[b, width, t]`
    /// - returns: like `x`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.step(Some(x), &mut LstmState::default())
            .expect("a piece gives a piece")
    }

    /// The next piece.
    ///
    /// # Shapes
    /// - `piece`: `[b, width, any]`
    /// - returns: like `piece`
    pub fn step(&self, piece: Piece, state: &mut LstmState) -> Piece {
        let piece = piece?;
        let [batch, width, _] = piece.dims();
        if state.layers.is_empty() {
            let none = || Tensor::zeros([batch, width], (&piece.device(), piece.dtype()));
            state.layers = self.layers.iter().map(|_| (none(), none())).collect();
        }
        let mut x = piece.clone().swap_dims(1, 2);
        for (layer, memory) in self.layers.iter().zip(&mut state.layers) {
            x = layer.forward(x, memory);
        }
        Some(x.swap_dims(1, 2) + piece)
    }
}

impl LstmLayer {
    fn forward(&self, x: Tensor<3>, memory: &mut (Tensor<2>, Tensor<2>)) -> Tensor<3> {
        let [_, time, width] = x.dims();
        let from_input = self.input.forward(x);
        let (mut output, mut cell) = memory.clone();
        let mut outputs = Vec::with_capacity(time);
        for at in 0..time {
            let gates = from_input.clone().narrow(1, at, 1).squeeze_dim::<2>(1)
                + self.hidden.forward(output);
            let gate = |index: usize| gates.clone().narrow(1, index * width, width);
            cell = sigmoid(gate(1)) * cell + sigmoid(gate(0)) * gate(2).tanh();
            output = sigmoid(gate(3)) * cell.clone().tanh();
            outputs.push(output.clone());
        }
        *memory = (output, cell);
        Tensor::stack(outputs, 1)
    }
}
