//! Image tokenizer with one grid of codes: convolutional encoder and decoder around a vector quantizer.
