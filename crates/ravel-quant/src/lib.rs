//! Quantizers: vector, residual, finite scalar, lookup-free and multi-scale.
