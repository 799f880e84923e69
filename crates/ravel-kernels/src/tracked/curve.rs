//! The curves of feed-forward layers.

use burn::tensor::Tensor;

use super::{Rule, made, norm::runs, operation, tracked, unit};
use crate::conv::work::{Work, on};
use crate::curve::Curve;
use crate::isa::{Isa, Lanes};
use crate::linear::slice;
use crate::pool::Parts;

/// Numbers of a row of work.
const WIDTH: usize = 256;

/// The numbers on a curve.
pub fn curve<const D: usize>(x: &Tensor<D>, curve: Curve) -> Option<Tensor<D>> {
    unit()?;
    let shape = x.dims();
    let (x, flows) = tracked(x)?;
    if !flows {
        return None;
    }
    Some(operation([x], |[x]| {
        let mut out = slice(&x).to_vec();
        let parts = Parts::new(&mut out);
        runs(slice(&x).len(), WIDTH, &|range| {
            // SAFETY: runs do not overlap; the work has no pointers.
            unsafe { on(Isa::best(), Forward(curve, parts.part(range))) };
        });
        let rule = Rule::new(move |grad, _| {
            let mut out = slice(&x).to_vec();
            let parts = Parts::new(&mut out);
            runs(grad.len(), WIDTH, &|range| {
                // SAFETY: as above.
                unsafe {
                    let out = parts.part(range.clone());
                    on(Isa::best(), Back(curve, &grad[range], out));
                };
            });
            [Some(made(out, shape))]
        });
        (made(out, shape), rule)
    }))
}

struct Forward<'a>(Curve, &'a mut [f32]);

impl Work for Forward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        self.0.apply(self.1);
    }
}

struct Back<'a>(Curve, &'a [f32], &'a mut [f32]);

impl Work for Back<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        self.0.slope(self.2);
        self.2
            .iter_mut()
            .zip(self.1)
            .for_each(|(to, grad)| *to *= grad);
    }
}
