//! The shared transformer, its configuration and its state.
