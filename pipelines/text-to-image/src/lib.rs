//! Text to image: request, steps and output.
