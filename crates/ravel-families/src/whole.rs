//! A generator's parts under one checkpoint.

use burn::module::{Module, ModuleDisplay};
use ravel_backbone::Transformer;
use ravel_weights::{Checkpoint, WeightsError, load};

/// The parts as one module, so that one report names all that is missing, unused or misshapen.
#[derive(Module, Debug)]
pub(crate) struct Whole<P: Module, H: Module> {
    pub(crate) prefix: P,
    pub(crate) backbone: Transformer,
    pub(crate) head: H,
}

impl<P: Module + ModuleDisplay, H: Module + ModuleDisplay> Whole<P, H> {
    /// The parts with weights from `prefix.*`, `backbone.*` and `head.*`.
    pub(crate) fn load(
        prefix: P,
        backbone: Transformer,
        head: H,
        checkpoint: &Checkpoint,
    ) -> Result<Self, WeightsError> {
        let fresh = Self {
            prefix,
            backbone,
            head,
        };
        load(fresh, checkpoint, "")
    }
}
