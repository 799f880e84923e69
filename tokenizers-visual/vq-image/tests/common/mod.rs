//! Weights from a formula, for the tests of both image tokenizers.

#![allow(dead_code)] // Each test program uses its part.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};
use ravel_testkit::{noise, values};

/// The module with every weight set to `source(path, shape)`.
fn set_all<M: Module>(module: M, source: impl FnMut(&str, &[usize]) -> Vec<f32>) -> M {
    module.map(&mut SetAll {
        path: Vec::new(),
        source,
    })
}

struct SetAll<F> {
    path: Vec<String>,
    source: F,
}

impl<F: FnMut(&str, &[usize]) -> Vec<f32>> ModuleMapper for SetAll<F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let shape = param.val().dims();
        let numbers = (self.source)(&path, &shape);
        param.map(|old| {
            let new = Tensor::from_data(TensorData::new::<f32, _>(numbers, shape), &old.device());
            new.set_require_grad(old.is_require_grad())
        })
    }
}

/// Paths of all weights.
pub fn names<M: Module>(module: &M) -> Vec<String> {
    let mut names = Vec::new();
    set_all(module.clone(), |path, shape| {
        names.push(path.to_string());
        vec![0.0; shape.iter().product()]
    });
    names
}

/// The module with weights from a formula: scaled by fan-in, norm scales near one.
pub fn filled<M: Module>(module: M) -> M {
    let mut salt = 0;
    set_all(module, |path, shape| {
        salt += 1;
        let count = shape.iter().product::<usize>();
        let (middle, scale) = match shape {
            [_] if path.ends_with("gamma") => (1.0, 0.2),
            [_] => (0.0, 0.2),
            [_, _] => (0.0, 1.0),
            [_, rest @ ..] => (0.0, 1.5 / (rest.iter().product::<usize>() as f32).sqrt()),
            [] => (0.0, 1.0),
        };
        (0..count as u32)
            .map(|at| middle + scale * noise(at, salt))
            .collect()
    })
}

/// Paths of the weights that a loss does not move, or moves by what is no number.
pub fn idle<M: Module>(module: &M, gradients: &Gradients) -> Vec<String> {
    let mut idle = Idle {
        gradients,
        path: Vec::new(),
        found: Vec::new(),
    };
    module.visit(&mut idle);
    idle.found
}

struct Idle<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Idle<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let moves = param.val().grad(self.gradients).is_some_and(|gradient| {
            let gradient = values(&gradient);
            gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0)
        });
        if !moves {
            self.found.push(self.path.join("."));
        }
    }
}
