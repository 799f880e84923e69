//! Weights from a formula.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use ravel_testkit::formula;

/// The module with every weight from a formula, whatever it began with.
pub fn filled<M: Module>(module: M) -> M {
    struct Fill(u32);
    impl ModuleMapper for Fill {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let scale = if D == 1 { 0.2 } else { 0.3 };
            param.map(|old| {
                let new = formula(old.dims(), self.0, scale, &old.device());
                new.set_require_grad(old.is_require_grad())
            })
        }
    }
    module.map(&mut Fill(100))
}
