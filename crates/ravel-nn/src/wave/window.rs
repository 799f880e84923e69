//! Attention within windows of equal length: every position sees the whole of its window and nothing else.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ravel_core::Attend;

use crate::{
    Attention, AttentionConfig, Norm, NormConfig, NormKind, QueryKeyNorm, Rotary, RotaryConfig,
    Sight,
};

/// Width of a head.
const HEAD_WIDTH: usize = 64;
/// ε of the norm.
const EPSILON: f64 = 1e-5;

/// A norm and attention in windows, added to the input. Rotary positions count from the window's beginning.
#[derive(Module, Debug)]
pub struct WindowAttention {
    /// In front.
    pub norm: Norm,
    /// Heads of 64 numbers.
    pub attention: Attention,
    #[module(skip)]
    rotary: Rotary,
    window: usize,
}

impl WindowAttention {
    /// Attention over `width` channels in windows of `window` frames.
    ///
    /// # Panics
    /// If heads of 64 numbers do not fill the width.
    pub fn new(width: usize, window: usize, device: &Device) -> Self {
        assert!(
            width > 0 && width.is_multiple_of(HEAD_WIDTH),
            "channel axis: heads of {HEAD_WIDTH} do not fill {width} channels"
        );
        let heads = width / HEAD_WIDTH;
        let attention = AttentionConfig {
            d_model: width,
            n_heads: heads,
            n_kv_heads: heads,
            head_width: HEAD_WIDTH,
            qk_norm: QueryKeyNorm::None,
            norm_eps: EPSILON,
            qkv_bias: false,
            out_bias: false,
            scale: None,
            out_std: crate::init::STD,
        };
        let norm = NormConfig {
            kind: NormKind::Layer,
            eps: EPSILON,
        };
        Self {
            norm: norm.init(width, device),
            attention: attention.init(device),
            rotary: RotaryConfig::default().init(HEAD_WIDTH),
            window,
        }
    }

    /// # Shapes
    /// - `x`: `[b, c, t]`
    /// - returns: like `x`
    ///
    /// # Panics
    /// If the windows do not fill the time.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, width, time] = x.dims();
        let window = self.window;
        assert!(
            time.is_multiple_of(window),
            "time axis: windows of {window} do not fill {time} frames"
        );
        let windows = self.norm.forward(x.clone().swap_dims(1, 2)).reshape([
            batch * (time / window),
            window,
            width,
        ]);
        let coords = Tensor::<1, Int>::arange(0..window as i64, &x.device()).unsqueeze_dim(1);
        let rotation = self.rotary.rotation(&coords, burn::tensor::FloatDType::F32);
        let sight = Sight::new(&Attend::Unit, window, 0, None, None, x.dtype(), &x.device());
        let (mixed, _) = self
            .attention
            .forward(windows, Some(&rotation), &sight, None);
        mixed.reshape([batch, time, width]).swap_dims(1, 2) + x
    }
}
