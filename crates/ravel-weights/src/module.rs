//! Between a module's parameters and named tensors.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use crate::header::one_line;
use crate::{Checkpoint, WeightsError};

/// Names that one report spells out per kind; the rest are counted.
const SPELLED_OUT: usize = 5;

/// All real parameters of a module by path (`decoder.blocks.0.conv.weight`), as f32.
pub fn tensors_of<M: Module>(module: &M) -> Vec<(String, TensorData)> {
    let mut collect = Collect::default();
    module.visit(&mut collect);
    collect.tensors
}

#[derive(Default)]
struct Collect {
    path: Vec<String>,
    tensors: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().to_data().convert::<f32>();
        self.tensors.push((self.path.join("."), data));
    }
}

/// The module with every real parameter taken from the file, by path under `prefix` (empty for none).
///
/// Parameters keep their device, identity and whether they take gradients.
///
/// # Errors
/// [`WeightsError::Mismatch`] reports all missing, unused and misshapen tensors together;
/// [`WeightsError::NotFinite`] names the first weight that is not a number.
pub fn load<M: Module>(
    module: M,
    checkpoint: &Checkpoint,
    prefix: &str,
) -> Result<M, WeightsError> {
    let mut lay = Lay {
        checkpoint,
        path: prefix
            .split('.')
            .filter(|part| !part.is_empty())
            .map(String::from)
            .collect(),
        report: Report::default(),
        used: BTreeSet::new(),
        broken: None,
    };
    let module = module.map(&mut lay);
    let under = |name: &&str| {
        prefix.is_empty()
            || name
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with('.'))
    };
    lay.report.unused = checkpoint
        .names()
        .filter(under)
        .filter(|name| !lay.used.contains(*name))
        .map(|name| format!("`{}`", one_line(name)))
        .collect();
    if let Some(error) = lay.broken {
        return Err(error);
    }
    match lay.report.line() {
        None => Ok(module),
        Some(report) => Err(WeightsError::Mismatch {
            path: checkpoint.path().into(),
            report,
        }),
    }
}

#[derive(Default)]
struct Report {
    missing: Vec<String>,
    unused: Vec<String>,
    misshapen: Vec<String>,
}

impl Report {
    fn line(&self) -> Option<String> {
        let parts = [
            ("missing", &self.missing),
            ("unused", &self.unused),
            ("misshapen", &self.misshapen),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(kind, names)| {
                let more = names.len().saturating_sub(SPELLED_OUT);
                let shown = names[..names.len() - more].join(", ");
                let more = match more {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{} {kind}: {shown}{more}", names.len())
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

struct Lay<'a> {
    checkpoint: &'a Checkpoint,
    path: Vec<String>,
    report: Report,
    used: BTreeSet<String>,
    broken: Option<WeightsError>,
}

impl Lay<'_> {
    fn find<const D: usize>(&mut self, name: &str, needed: [usize; D]) -> Option<TensorData> {
        let Some(found) = self.checkpoint.shape(name) else {
            self.report.missing.push(format!("`{name}`"));
            return None;
        };
        self.used.insert(name.to_string());
        if found != needed {
            let found = one_line(&format!("{found:?}"));
            let line = format!("`{name}` is {found}, the definition needs {needed:?}");
            self.report.misshapen.push(line);
            return None;
        }
        let data = match self.checkpoint.real(name) {
            Ok(data) => data,
            Err(error) => {
                self.broken.get_or_insert(error);
                return None;
            }
        };
        let values = data.as_slice::<f32>().unwrap_or_default();
        if values.iter().any(|value| !value.is_finite()) {
            self.broken.get_or_insert(WeightsError::NotFinite {
                path: self.checkpoint.path().into(),
                tensor: name.into(),
            });
            return None;
        }
        Some(data)
    }
}

impl ModuleMapper for Lay<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let needed: [usize; D] = std::array::from_fn(|axis| param.lazy_shape()[axis]);
        let name = self.path.join(".");
        let Some(data) = self.find(&name, needed) else {
            return param;
        };
        let device = param.lazy_device();
        param.map(|old| {
            let plain = if device.is_autodiff() {
                device.clone().inner()
            } else {
                device.clone()
            };
            let new = Tensor::from_data(data, &plain);
            if old.is_autodiff() {
                Tensor::from_inner(new).set_require_grad(old.is_require_grad())
            } else {
                new
            }
        })
    }
}
