//! Layers used twice or more: norms, rotary positions, feed-forward, attention, modulation and
//! convolution blocks. They know no model, no file and no device but that of their inputs.

pub mod conv;
