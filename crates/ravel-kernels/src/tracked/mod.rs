//! What training spends its time on, with gradients: products in `bf16` with sums in `f32`, attention whose scores never leave
//! the cache, norms and curves in one pass.
//!
//! Mixed precision (Micikevicius et al. 2018) with bfloat16, which needs no scaling of the loss: weights, sums, norms and the softmax stay in
//! `f32`, only what is multiplied is rounded. It is used inside [`in_halves`] alone, on the CPU, where the processor has such products; everywhere else
//! these functions answer `None`, and their caller goes burn's way.
//!
//! Every sum has an order that neither threads nor the rest of a batch change, so a training run repeats bit by bit.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, BackendTensor, DispatchAutodiffContext, DispatchTensor,
    DispatchTensorKind, Flex, GradientCheckpointingStrategy,
};
use burn::tensor::{DType, Tensor, TensorData};

use crate::linear::slice;
use crate::tiles::Unit;

mod attention;
mod curve;
mod linear;
mod norm;

pub use attention::{Heads, attention};
pub use curve::curve;
pub use linear::linear;
pub use norm::rms_norm;

thread_local! {
    static HALVES: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with the products of this module in use on this thread. What they leave for the gradients remembers it.
pub fn in_halves<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            HALVES.set(self.0);
        }
    }
    let _before = Before(HALVES.replace(true));
    work()
}

/// Whether this processor has products in `bf16`.
pub fn has_halves() -> bool {
    Unit::best().is_some()
}

/// The unit to multiply with, inside [`in_halves`].
fn unit() -> Option<Unit> {
    Unit::best().filter(|_| HALVES.get())
}

type Tracked = <Autodiff<Flex> as burn::backend::BackendTypes>::FloatTensorPrimitive;

/// A tensor on the CPU through which gradients may flow; one through which none do counts as a constant.
fn tracked<const D: usize>(tensor: &Tensor<D>) -> Option<(Tracked, bool)> {
    if tensor.dtype() != DType::F32 || tensor.dims().contains(&0) {
        return None;
    }
    let dispatched = tensor.clone().into_dispatch();
    match (dispatched.kind, dispatched.autodiff) {
        (
            DispatchTensorKind::Autodiff(kind),
            DispatchAutodiffContext::Enabled(GradientCheckpointingStrategy::Disabled),
        ) => match *kind {
            DispatchTensorKind::Flex(BackendTensor::Autodiff(tensor)) => Some((tensor, true)),
            #[allow(unreachable_patterns)] // With other backends compiled in there are.
            _ => None,
        },
        (
            DispatchTensorKind::Flex(BackendTensor::Float(tensor)),
            DispatchAutodiffContext::Disabled,
        ) => Some((<Autodiff<Flex>>::from_inner(tensor), false)),
        _ => None,
    }
}

/// The tensor of such a handle.
fn tensor_of<const D: usize>(tensor: Tracked) -> Tensor<D> {
    Tensor::from_dispatch(DispatchTensor {
        kind: DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Flex(
            BackendTensor::Autodiff(tensor),
        ))),
        autodiff: DispatchAutodiffContext::Enabled(GradientCheckpointingStrategy::Disabled),
    })
}

/// From the gradient of a result to those of the inputs that are asked for.
#[derive(Clone)]
struct Rule<const N: usize>(Arc<Way<N>>);

type Way<const N: usize> = dyn Fn(&[f32], [bool; N]) -> [Option<FlexTensor>; N] + Send + Sync;

impl<const N: usize> Rule<N> {
    fn new(
        way: impl Fn(&[f32], [bool; N]) -> [Option<FlexTensor>; N] + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(way))
    }
}

impl<const N: usize> fmt::Debug for Rule<N> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "the gradients of {N} inputs")
    }
}

#[derive(Debug)]
struct Step;

impl<const N: usize> Backward<Flex, N> for Step {
    type State = Rule<N>;

    fn backward(
        self,
        ops: Ops<Rule<N>, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = (ops.state.0)(slice(&grad), wanted);
        for (parent, grad) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}

/// A result with the rule of its gradients. `run` gets the numbers of the inputs, one after the other.
fn operation<const N: usize, const D: usize>(
    inputs: [Tracked; N],
    run: impl FnOnce([FlexTensor; N]) -> (FlexTensor, Rule<N>),
) -> Tensor<D> {
    let parts = inputs.map(|input| input.into_parts());
    let mut values = Vec::with_capacity(N);
    let mut nodes = Vec::with_capacity(N);
    for (value, node) in parts {
        values.push(contiguous(value));
        nodes.push(node);
    }
    let values: [FlexTensor; N] = values.try_into().expect("as many as inputs");
    let Ok(nodes) = <[_; N]>::try_from(nodes) else {
        unreachable!("as many as inputs")
    };
    let (out, rule) = run(values);
    let prepared = Backward::<Flex, N>::prepare::<
        burn::backend::autodiff::checkpoint::strategy::NoCheckpointing,
    >(Step, nodes);
    tensor_of(match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(rule, out),
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    })
}

fn contiguous(tensor: FlexTensor) -> FlexTensor {
    match tensor.as_slice::<f32>().is_some() {
        true => tensor,
        false => tensor.to_contiguous(),
    }
}

fn made(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

#[cfg(test)]
mod tests;
