//! Image tokenizer with a coarse-to-fine pyramid of codes.
