//! Convolution blocks that visual encoders and decoders share.
