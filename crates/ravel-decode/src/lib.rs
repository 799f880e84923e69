//! Decoding methods and samplers: the loop over units, filters of scores and guidance.
