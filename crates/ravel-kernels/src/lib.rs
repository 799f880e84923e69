//! The few operations that burn lacks or runs slowly on the CPU.
//!
//! Everything here is an ordinary function on tensors that says whether it can serve: a tensor on another device, of
//! another type, or one that gradients flow through gets nothing back, and its caller goes burn's way. Inside are plain functions
//! over slices ([`pool`] shares them out to threads), so that they can be tested without a tensor.
//!
//! A result depends neither on the number of threads nor on what else is in the batch: every output number is one sum in a fixed
//! order, computed by one thread.

pub mod pool;
pub mod tensor;
