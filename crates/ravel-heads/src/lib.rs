//! Heads: next token and next scale.
