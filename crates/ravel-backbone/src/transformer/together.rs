//! Steps of several generations in one pass over the weights.
//!
//! All products work position by position, so the positions of all generations stand one after the other, none filled up; attention
//! alone is each generation's own (Orca, Yu et al. 2022, section 3.2: selective batching). A prompt can so be read beside steps of
//! others, and prompts of different lengths together (prepacking, Zhao et al. 2024, without a mask).

use burn::tensor::Tensor;
use ravel_core::{LayerState, Step};
use ravel_nn::{Part, Project};

use super::{Block, Transformer, scaled};

impl Transformer {
    /// What each of the steps gives by itself.
    pub(super) fn together(&self, mut steps: Vec<Step<'_>>) -> Vec<Tensor<3>> {
        // What steers a generation reaches into its layers there, so they go one by one.
        let steered = self.config.modulation.is_some() || self.config.cross_attention.is_some();
        if steered || steps.len() < 2 {
            use ravel_core::Backbone;
            let each = steps.into_iter();
            return each
                .map(|step| self.step(step.input, step.condition, step.state))
                .collect();
        }
        let (mut passes, mut shapes, mut placed) = (Vec::new(), Vec::new(), Vec::new());
        let mut memories = Vec::new();
        for step in &mut steps {
            let [rows, n, width] = step.input.embedded.dims();
            self.make_layers(&step.input, step.state);
            passes.push(self.pass(&step.input, step.condition, Some(step.state)));
            shapes.push([rows, n]);
            let x = self.placed(step.input.embedded.clone(), step.state.len);
            placed.push(x.reshape([1, rows * n, width]));
            memories.push(std::mem::take(&mut step.state.layers).into_iter());
        }
        let mut x = Tensor::cat(placed, 1);
        for (layer, block) in self.blocks.iter().enumerate() {
            let parts = passes.iter().zip(&shapes).map(|(pass, shape)| Part {
                shape: *shape,
                rotation: pass.rotation.as_ref(),
                sight: self.sight(pass, layer),
            });
            let parts: Vec<Part<'_>> = parts.collect();
            let own = memories.iter_mut().map(|own| own.next());
            let own: Option<Vec<LayerState>> = own.collect();
            let own = own.expect("a memory for every layer");
            let (next, own) = block.forward_each(x, &parts, own);
            x = next;
            for (step, memory) in steps.iter_mut().zip(own) {
                step.state.layers.push(memory);
            }
        }
        let x = self.left(x, &passes[0]);
        apart(x, &mut steps, &shapes)
    }
}

/// Hidden states of each step; its state has grown.
fn apart(x: Tensor<3>, steps: &mut [Step<'_>], shapes: &[[usize; 2]]) -> Vec<Tensor<3>> {
    let width = x.dims()[2];
    let mut start = 0;
    let mut each = Vec::with_capacity(shapes.len());
    for (step, &[rows, n]) in steps.iter_mut().zip(shapes) {
        let own = x.clone().narrow(1, start, rows * n);
        each.push(own.reshape([rows, n, width]));
        step.state.len += n;
        start += rows * n;
    }
    each
}

impl Block {
    /// As [`Block::forward`] of blocks that no condition reaches into, of several sequences one after the other.
    fn forward_each(
        &self,
        x: Tensor<3>,
        parts: &[Part<'_>],
        memories: Vec<LayerState>,
    ) -> (Tensor<3>, Vec<LayerState>) {
        let inner = self.attention_norm.forward(x.clone());
        let (heads, memories) = self.attention.heads_of_each(inner, parts, memories);
        let out = &self.attention.out;
        let x = if self.adds_at_once(&x) && self.attention_strength.is_none() {
            out.project_onto(heads, x)
        } else {
            let inner = scaled(out.project(heads), &self.attention_strength);
            x + self.dropout.forward(inner)
        };
        (self.fed_forward(x), memories)
    }
}
