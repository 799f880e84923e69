//! Checkpoints in and out: safetensors, one report of missing, unused and misshapen tensors, atomic writes.
