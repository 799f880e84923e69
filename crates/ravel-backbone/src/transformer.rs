//! A pre-norm transformer whose variants are configuration.
//!
//! Vaswani et al. 2017 with the norm in front (Radford et al. 2019): each block adds attention, then
//! cross-attention where there is any, then a feed-forward layer. `step` and `forward` run the same code,
//! with and without memory, so that what is trained is what generates.

mod together;

use std::ops::Range;

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use ravel_core::{Backbone, Condition, LayerState, State, Step, StepInput};
use ravel_nn::{
    Attention, CrossAttention, FeedForward, FinalModulation, Modulation, Narrowable, Norm, Padding,
    Project, Rotary, Rotation, Sight, activated, init,
};

use crate::TransformerConfig;

impl TransformerConfig {
    /// A fresh transformer: weights from N(0, 0.02²), less in front of the sums.
    ///
    /// # Panics
    /// If [`TransformerConfig::validate`] would report an error.
    pub fn init(&self, device: &Device) -> Transformer {
        self.validate().expect("a configuration that was checked");
        let table = |rows| init::normal([rows, self.d_model], init::STD, device);
        let modulated = |width| FinalModulation::new(width, self.d_model, device);
        let final_norm = self.final_norm;
        Transformer {
            positions: self.learned_positions.map(table),
            relative: self
                .relative
                .map(|r| init::normal([r.buckets, self.n_heads], init::STD, device)),
            shared_modulation: self
                .modulation
                .filter(|_| self.shared_modulation)
                .map(|width| Modulation::projection(width, self.d_model, device)),
            blocks: (0..self.layers)
                .map(|layer| self.block(layer, device))
                .collect(),
            final_norm: final_norm.then(|| self.norm_config().init(self.d_model, device)),
            final_modulation: self.modulation.filter(|_| final_norm).map(modulated),
            rotary: self.rotary.as_ref().map(|r| r.init(self.head_width())),
            config: self.clone(),
        }
    }

    fn block(&self, layer: usize, device: &Device) -> Block {
        let norm = || self.norm_config().init(self.d_model, device);
        let beside = self.cross_attention_config();
        let scale = || self.layer_scale.then(|| init::ones([self.d_model], device));
        Block {
            attention_norm: norm(),
            attention: self.attention_config(layer).init(device),
            cross_norm: self
                .cross_attention
                .map(|_| self.cross_norm_config().init(self.d_model, device)),
            cross: self
                .cross_attention
                .map(|width| beside.init_cross(width, device)),
            feed_forward_norm: norm(),
            feed_forward: self.feed_forward_config().init(device),
            attention_strength: scale(),
            feed_forward_strength: scale(),
            modulation: self.modulation.map(|width| match self.shared_modulation {
                true => Modulation::new_shared(self.d_model, device),
                false => Modulation::new(width, self.d_model, device),
            }),
            dropout: DropoutConfig::new(self.dropout).init(),
        }
    }
}

/// The shared sequence model.
#[derive(Module, Debug)]
pub struct Transformer {
    /// Learned running positions, `[learned_positions, d_model]`.
    pub positions: Option<Param<Tensor<2>>>,
    /// Scores by distance, `[buckets, n_heads]`.
    pub relative: Option<Param<Tensor<2>>>,
    /// `[d_modulation, 6 d_model]`, where all blocks share it.
    pub shared_modulation: Option<Linear>,
    /// Blocks, first to last.
    pub blocks: Vec<Block>,
    /// Norm of the hidden states that leave.
    pub final_norm: Option<Norm>,
    /// Gain and bias of that norm, where the condition sets them.
    pub final_modulation: Option<FinalModulation>,
    #[module(skip)]
    rotary: Option<Rotary>,
    #[module(skip)]
    config: TransformerConfig,
}

/// Attention, cross-attention where there is any, feed-forward; each normed first and added after.
#[derive(Module, Debug)]
pub struct Block {
    /// In front of attention.
    pub attention_norm: Norm,
    /// Among the positions.
    pub attention: Attention,
    /// In front of cross-attention.
    pub cross_norm: Option<Norm>,
    /// To what lies beside the sequence.
    pub cross: Option<CrossAttention>,
    /// In front of the feed-forward layer.
    pub feed_forward_norm: Norm,
    /// Position by position.
    pub feed_forward: FeedForward,
    /// What attention is multiplied by, `[d_model]`.
    pub attention_strength: Option<Param<Tensor<1>>>,
    /// What feed-forward is multiplied by, `[d_model]`.
    pub feed_forward_strength: Option<Param<Tensor<1>>>,
    /// Gains, biases and strengths from the condition.
    pub modulation: Option<Modulation>,
    dropout: Dropout,
}

/// What all blocks of a pass share.
struct Pass {
    rotation: Option<Rotation>,
    sight: Sight,
    /// Of what lies beside the sequence; unused without cross-attention.
    beside: Sight,
    /// Of the layers that have no window although others do.
    full_sight: Option<Sight>,
    modulation: Option<Tensor<2>>,
    shared_modulation: Option<Tensor<2>>,
}

impl Transformer {
    /// What it was built from.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Hidden states of whole sequences, without memory: the pass that trains.
    ///
    /// # Shapes
    /// - `input.embedded`: `[batch, n, d_model]`
    /// - returns: `[batch, n, d_model]`
    ///
    /// # Panics
    /// If the condition lacks what the configuration reads, or a width differs.
    pub fn forward(&self, input: StepInput, condition: &Condition) -> Tensor<3> {
        self.forward_watched(input, condition, &mut |_| ())
    }

    /// What enters the first block and what leaves each block, then what leaves the final norm.
    ///
    /// # Shapes
    /// - returns: `layers + 2` times `[batch, n, d_model]`
    ///
    /// # Panics
    /// As [`Transformer::forward`].
    pub fn hidden_states(&self, input: StepInput, condition: &Condition) -> Vec<Tensor<3>> {
        let mut states = Vec::with_capacity(self.blocks.len() + 2);
        let last = self.forward_watched(input, condition, &mut |x| states.push(x.clone()));
        states.push(last);
        states
    }

    fn forward_watched(
        &self,
        input: StepInput,
        condition: &Condition,
        watch: &mut dyn FnMut(&Tensor<3>),
    ) -> Tensor<3> {
        let pass = self.pass(&input, condition, None);
        let cross = self.cross_memory(condition);
        let mut x = self.placed(input.embedded, 0);
        watch(&x);
        for (index, block) in self.blocks.iter().enumerate() {
            (x, _) = block.forward(x, &pass, self.sight(&pass, index), cross.get(index), None);
            watch(&x);
        }
        self.left(x, &pass)
    }

    /// What the positions of a step see in one layer.
    fn sight<'a>(&self, pass: &'a Pass, layer: usize) -> &'a Sight {
        match &pass.full_sight {
            Some(full) if self.config.full_layers.contains(&layer) => full,
            _ => &pass.sight,
        }
    }

    fn pass(&self, input: &StepInput, condition: &Condition, state: Option<&State>) -> Pass {
        let [_, n, width] = input.embedded.dims();
        assert_eq!(width, self.config.d_model, "width axis: not d_model");
        let dtype = input.embedded.dtype();
        let device = input.embedded.device();
        let m = condition.cross.as_ref().map_or(0, |cross| cross.dims()[1]);
        assert_eq!(
            condition.modulation.is_some(),
            self.config.modulation.is_some(),
            "the condition's modulation and the configuration's do not agree"
        );
        let hidden = condition.prefix_hidden.as_ref();
        let hidden = hidden.or_else(|| state.and_then(|state| state.hidden.as_ref()));
        let past = state.map_or(0, |state| state.len);
        let modulation = condition.modulation.clone().map(activated);
        let window = state.map_or(self.config.window, |state| state.window);
        let sight = |window| {
            let padding = hidden.map(|hidden| Padding {
                hidden,
                sees_itself: self.config.padding_sees_itself,
            });
            let sight = Sight::new(&input.attend, n, past, window, padding, dtype, &device);
            self.with_relative(past, n, sight)
        };
        let mixed = window.is_some() && !self.config.full_layers.is_empty();
        Pass {
            rotation: self
                .rotary
                .as_ref()
                .map(|rotary| rotary.rotation(&input.coords, float_dtype(dtype))),
            shared_modulation: self
                .shared_modulation
                .as_ref()
                .zip(modulation.clone())
                .map(|(shared, activated)| shared.project(activated)),
            sight: sight(window),
            full_sight: mixed.then(|| sight(None)),
            beside: Sight::beside(m, condition.cross_hidden.as_ref(), dtype, &device),
            modulation,
        }
    }

    /// Reserves a state's room where that was not done yet.
    fn make_layers(&self, input: &StepInput, state: &mut State) {
        let [batch, ..] = input.embedded.dims();
        assert_eq!(batch, state.batch, "batch axis: the state has other rows");
        if state.layers.is_empty() {
            let room = |block: &Block| block.attention.memory(batch, state.capacity);
            state.layers = self.blocks.iter().map(room).collect();
        }
    }

    /// With the scores by distance, where there are any.
    fn with_relative(&self, past: usize, n: usize, sight: Sight) -> Sight {
        match (&self.config.relative, &self.relative) {
            (Some(config), Some(table)) => {
                let bias = config.bias(table.val(), past..past + n, sight.seen());
                sight.with_bias(bias)
            }
            _ => sight,
        }
    }

    /// With the embeddings of positions `past..`, where there are any.
    fn placed(&self, x: Tensor<3>, past: usize) -> Tensor<3> {
        if self.config.sinusoidal_positions {
            let [_, n, width] = x.dims();
            let dtype = x.dtype();
            let waves = sinusoids(past..past + n, width, &x.device()).cast(dtype);
            return x + waves.unsqueeze();
        }
        let Some(positions) = &self.positions else {
            return x;
        };
        let n = x.dims()[1];
        let known = positions.val();
        let [rows, _] = known.dims();
        assert!(
            past + n <= rows,
            "position axis: {n} positions after {past} go beyond the {rows} learned ones"
        );
        x + known.narrow(0, past, n).unsqueeze()
    }

    fn cross_memory(&self, condition: &Condition) -> Vec<LayerState> {
        let layers = self.blocks.iter().filter_map(|block| block.cross.as_ref());
        layers
            .map(|cross| {
                let context = condition.cross.clone();
                cross.memory(context.expect("a condition with positions to cross-attend to"))
            })
            .collect()
    }

    fn left(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        let Some(norm) = &self.final_norm else {
            return x;
        };
        match (&self.final_modulation, &pass.modulation) {
            (Some(modulation), Some(condition)) => modulation.forward(norm, x, condition.clone()),
            _ => norm.forward(x),
        }
    }
}

impl Narrowable for Transformer {}

impl Backbone for Transformer {
    fn width(&self) -> usize {
        self.config.d_model
    }

    fn start(&self, batch: usize, capacity: usize) -> State {
        let mut state = State::new(batch, capacity);
        state.window = self.config.window;
        state
    }

    fn step(&self, input: StepInput, condition: &Condition, state: &mut State) -> Tensor<3> {
        let [_, n, _] = input.embedded.dims();
        self.make_layers(&input, state);
        if state.cross.is_empty() {
            state.cross = self.cross_memory(condition);
        }
        let pass = self.pass(&input, condition, Some(state));
        let mut x = self.placed(input.embedded, state.len);
        // The memory leaves the state while a block writes to it: only what nobody else holds is
        // written in place.
        let memories = std::mem::take(&mut state.layers).into_iter();
        for (index, (block, memory)) in self.blocks.iter().zip(memories).enumerate() {
            let sight = self.sight(&pass, index);
            let cross = state.cross.get(index);
            let (next, memory) = block.forward(x, &pass, sight, cross, Some(memory));
            x = next;
            state.layers.extend(memory);
        }
        state.len += n;
        self.left(x, &pass)
    }

    fn step_each(&self, steps: Vec<Step<'_>>) -> Vec<Tensor<3>> {
        self.together(steps)
    }

    fn shift(&self, state: &mut State, positions: Range<usize>, by: &[i32]) {
        let Some(rotary) = self.rotary.as_ref().filter(|_| !positions.is_empty()) else {
            return;
        };
        let layers = std::mem::take(&mut state.layers);
        for layer in layers {
            let [batch, heads, _, width] = layer.keys.dims();
            let place = [0..batch, 0..heads, positions.clone(), 0..width];
            let keys = layer.keys.clone().slice(place.clone());
            let coords = TensorData::new(by.repeat(positions.len()), [positions.len(), by.len()]);
            let coords = Tensor::from_data(coords, &keys.device());
            // Rotations about the same axes add up.
            let turn = rotary.rotation(&coords, float_dtype(keys.dtype()));
            let keys = turn.apply(keys.swap_dims(1, 2)).swap_dims(1, 2);
            state.layers.push(LayerState {
                keys: layer.keys.slice_assign(place, keys),
                values: layer.values,
            });
        }
    }
}

impl Block {
    fn forward(
        &self,
        x: Tensor<3>,
        pass: &Pass,
        sight: &Sight,
        cross_memory: Option<&LayerState>,
        memory: Option<LayerState>,
    ) -> (Tensor<3>, Option<LayerState>) {
        let [to_attention, to_feed_forward] = match (&self.modulation, &pass.modulation) {
            (Some(modulation), Some(condition)) => modulation
                .forward(condition.clone(), pass.shared_modulation.as_ref())
                .map(Some),
            _ => [None, None],
        };
        let enter = |norm: &Norm, x: Tensor<3>, branch: &Option<ravel_nn::Branch>| match branch {
            Some(branch) => branch.enter(norm, x),
            None => norm.forward(x),
        };
        let leave = |x: Tensor<3>, branch: &Option<ravel_nn::Branch>| match branch {
            Some(branch) => branch.leave(x),
            None => x,
        };

        let inner = enter(&self.attention_norm, x.clone(), &to_attention);
        let rotation = pass.rotation.as_ref();
        // Where nothing comes between a branch and its sum, the last product of the branch adds.
        let plain = self.adds_at_once(&x);
        let (mut x, memory) =
            if plain && to_attention.is_none() && self.attention_strength.is_none() {
                self.attention
                    .forward_onto(inner, x, rotation, sight, memory)
            } else {
                let (inner, memory) = self.attention.forward(inner, rotation, sight, memory);
                let inner = scaled(inner, &self.attention_strength);
                (
                    x + self.dropout.forward(leave(inner, &to_attention)),
                    memory,
                )
            };

        if let (Some(norm), Some(cross), Some(beside)) =
            (&self.cross_norm, &self.cross, cross_memory)
        {
            let inner = cross.forward(norm.forward(x.clone()), beside, &pass.beside);
            x = x + self.dropout.forward(inner);
        }

        if to_feed_forward.is_none() {
            return (self.fed_forward(x), memory);
        }
        let inner = enter(&self.feed_forward_norm, x.clone(), &to_feed_forward);
        let inner = scaled(
            self.feed_forward.forward(inner),
            &self.feed_forward_strength,
        );
        let inner = leave(inner, &to_feed_forward);
        (x + self.dropout.forward(inner), memory)
    }

    /// With what feed-forward adds, where no condition reaches in.
    fn fed_forward(&self, x: Tensor<3>) -> Tensor<3> {
        let inner = self.feed_forward_norm.forward(x.clone());
        if self.adds_at_once(&x) && self.feed_forward_strength.is_none() {
            return self.feed_forward.forward_onto(inner, x);
        }
        let inner = scaled(
            self.feed_forward.forward(inner),
            &self.feed_forward_strength,
        );
        x + self.dropout.forward(inner)
    }

    /// Whether nothing is dropped: only training drops.
    fn adds_at_once(&self, x: &Tensor<3>) -> bool {
        self.dropout.prob == 0.0 || !x.device().is_autodiff()
    }
}

fn scaled(x: Tensor<3>, strength: &Option<Param<Tensor<1>>>) -> Tensor<3> {
    match strength {
        Some(strength) => x * strength.val().unsqueeze(),
        None => x,
    }
}

/// Waves that mark positions, `[positions, width]`: cosines, then sines; an odd width ends with zeros.
///
/// Every step is rounded to 32 bits, as in the reference.
fn sinusoids(positions: Range<usize>, width: usize, device: &Device) -> Tensor<2> {
    let half = width / 2;
    let slower = 10_000f64.ln() / half.saturating_sub(1).max(1) as f64;
    let frequencies: Vec<f32> = (0..half)
        .map(|at| (at as f32 * -slower as f32).exp())
        .collect();
    let mut waves = Vec::with_capacity(positions.len() * width);
    for position in positions.clone() {
        let angles = || frequencies.iter().map(|by| position as f32 * by);
        waves.extend(angles().map(f32::cos));
        waves.extend(angles().map(f32::sin));
        waves.extend(std::iter::repeat_n(0.0, width - 2 * half));
    }
    let data = TensorData::new::<f32, _>(waves, [positions.len(), width]);
    Tensor::from_data(data, device)
}

fn float_dtype(dtype: DType) -> FloatDType {
    match dtype {
        DType::F16 => FloatDType::F16,
        DType::BF16 => FloatDType::BF16,
        DType::F64 => FloatDType::F64,
        _ => FloatDType::F32,
    }
}
