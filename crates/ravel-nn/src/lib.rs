//! Layers used twice or more: norms, rotary positions, attention with growing state, gated feed-forward, convolution blocks.
