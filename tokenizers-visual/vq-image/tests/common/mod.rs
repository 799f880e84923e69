//! Weights from a formula or from a reference's file, for the tests of both image tokenizers.

#![allow(dead_code)] // Each test program uses its part.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};
use ravel_testkit::{Golden, noise, values};

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

/// Where a weight lies in a reference's file: under a name, perhaps as one of equal parts of the first axis.
pub struct Place {
    /// The reference's name.
    pub name: String,
    /// `(which, of how many)`.
    pub part: (usize, usize),
}

/// The module with weights from a golden file, and the tensors of the file that no weight asked for.
///
/// A square convolution that has no place changes nothing: each channel to itself.
pub fn published<M: Module>(
    module: M,
    file: &Golden,
    place: impl Fn(&str) -> Option<Place>,
) -> (M, Vec<String>) {
    let mut used = BTreeSet::new();
    let module = set_all(module, |path, shape| {
        let Some(Place {
            name,
            part: (which, parts),
        }) = place(path)
        else {
            return identity(shape);
        };
        let mut expected = file.shape(&name).to_vec();
        expected[0] /= parts;
        assert_eq!(shape, expected, "{path} is `{name}` of the reference");
        let numbers = file.numbers(&name);
        let length = numbers.len() / parts;
        used.insert(name);
        numbers[which * length..][..length]
            .iter()
            .map(|&number| number as f32)
            .collect()
    });
    let unused = file.names().filter(|name| !used.contains(*name));
    (module, unused.map(String::from).collect())
}

fn identity(shape: &[usize]) -> Vec<f32> {
    let mut numbers = vec![0.0; shape.iter().product()];
    if let &[to, from, height, width] = shape {
        let middle = (height / 2) * width + width / 2;
        for channel in 0..to {
            numbers[(channel * from + channel) * height * width + middle] = 1.0;
        }
    }
    numbers
}

/// The last word of a parameter's path as PyTorch has it.
pub fn torch_name(path: &str) -> String {
    path.replace(".gamma", ".weight").replace(".beta", ".bias")
}

/// How much farther the second nearest row is than the nearest, by squared distance, for each latent.
pub fn margins(latents: Tensor<2>, rows: &Tensor<2>) -> Vec<f32> {
    let width = rows.dims()[1];
    let (latents, rows) = (values(&latents), values(rows));
    let nearest_two = |latent: &[f32]| {
        rows.chunks(width)
            .fold((f32::MAX, f32::MAX), |(first, second), row| {
                let distance: f32 = latent.iter().zip(row).map(|(z, e)| (z - e).powi(2)).sum();
                (first.min(distance), second.min(distance.max(first)))
            })
    };
    latents
        .chunks(width)
        .map(nearest_two)
        .map(|(first, second)| second - first)
        .collect()
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
