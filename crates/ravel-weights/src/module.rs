//! Between a module's parameters and named tensors.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::header::{SPELLED_OUT, one_line};
use crate::stored::Stored;
use crate::view::View;
use crate::{Checkpoint, WeightsError};

/// All real parameters of a module by path (`decoder.blocks.0.conv.weight`), as f32.
pub fn tensors_of<M: Module>(module: &M) -> Vec<(String, TensorData)> {
    let mut collect = Collect::default();
    module.visit(&mut collect);
    collect.tensors
}

/// Reads or draws all parameters that were not used yet, in the module's order.
pub fn draw<M: Module>(module: &M) {
    module.visit(&mut Draw);
}

struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let _ = param.val();
    }
}

/// Numbers in all real parameters of a module, counted on shapes: nothing is drawn.
pub fn parameters<M: Module>(module: &M) -> usize {
    let mut count = Count(0);
    module.visit(&mut count);
    count.0
}

struct Count(usize);

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 += param.lazy_shape().num_elements();
    }
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
/// Parameters keep their device, identity and whether they take gradients. All numbers are checked here, but those of a parameter that
/// nothing has used yet stay in the file, of the type that they have there, until it is used: then they are widened to f32 and the
/// file's pages given back. So a file must stay as it is while the module lives; replacing it by renaming is fine.
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
        missing: Vec::new(),
        used: BTreeSet::new(),
        finite: HashMap::new(),
        broken: None,
    };
    let module = module.map(&mut lay);
    lay.finish_report(prefix);
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

/// What a file holds beside the parts of a model that [`load`] reads one by one.
///
/// # Errors
/// [`WeightsError::Mismatch`] names all tensors under none of the `prefixes`.
pub fn check_parts(checkpoint: &Checkpoint, prefixes: &[&str]) -> Result<(), WeightsError> {
    let part = |name: &str| name.split('.').next().unwrap_or_default().to_string();
    let foreign = checkpoint
        .names()
        .filter(|name| !prefixes.contains(&part(name).as_str()));
    let report = Report {
        unused: foreign
            .map(|name| shown(&checkpoint.views[name].published, name))
            .collect(),
        ..Report::default()
    };
    match report.line() {
        None => Ok(()),
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
    /// Parameters of ours that the file does not have.
    missing: Vec<String>,
    used: BTreeSet<String>,
    /// Whether all numbers of a stored tensor are finite, by where it lies: joined weights are cut into several parameters.
    finite: HashMap<[usize; 3], bool>,
    broken: Option<WeightsError>,
}

/// The numbers of a parameter.
enum Found {
    /// Made already.
    Now(TensorData),
    /// Checked, and made from the file when the parameter is used.
    Later(Arc<View>),
}

impl Lay<'_> {
    /// What the file has and the module does not, and what a key table missed, in published names.
    fn finish_report(&mut self, prefix: &str) {
        let under = |name: &&str| {
            prefix.is_empty()
                || name
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        let views = &self.checkpoint.views;
        let unused = self
            .checkpoint
            .names()
            .filter(under)
            .filter(|name| !self.used.contains(*name));
        let mut unused: Vec<String> = unused
            .map(|name| shown(&views[name].published, name))
            .collect();
        if let Some(naming) = &self.checkpoint.naming {
            unused.extend(
                naming
                    .unmatched
                    .iter()
                    .map(|name| format!("`{}`", one_line(name))),
            );
            let absent = naming
                .absent(prefix, &self.missing)
                .map(|name| format!("`{name}`"));
            self.report.missing.extend(absent);
        }
        self.report.unused = unused;
    }

    /// The parameter's numbers, or a line in the report.
    fn find<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) -> Option<Found> {
        let needed: [usize; D] = std::array::from_fn(|axis| param.lazy_shape()[axis]);
        let checkpoint = self.checkpoint;
        let Some(view) = checkpoint.views.get(name) else {
            let naming = self.checkpoint.naming.as_ref();
            let published = naming.and_then(|naming| naming.published(name));
            let line = shown(published.as_deref().unwrap_or(name), name);
            self.report.missing.push(line);
            self.missing.push(name.into());
            return None;
        };
        self.used.insert(name.to_string());
        if view.shape != needed {
            let (published, found) = (
                shown(&view.published, name),
                one_line(&format!("{:?}", view.shape)),
            );
            let line = format!("{published} is {found}, the definition needs {needed:?}");
            self.report.misshapen.push(line);
            return None;
        }
        // What is in use already is replaced at once, and so is what a trainer moves.
        let later = !param.is_initialized() && !param.lazy_device().is_autodiff();
        if later && self.is_finite_in_file(view) {
            return Some(Found::Later(view.clone()));
        }
        match self.finite_numbers(name, view) {
            Ok(data) => Some(Found::Now(data)),
            Err(error) => {
                self.broken.get_or_insert(error);
                None
            }
        }
    }

    /// Whether a tensor's numbers only have to be moved, and all of them are finite.
    fn is_finite_in_file(&mut self, view: &View) -> bool {
        let Some(stored) = view.moved() else {
            return false;
        };
        let mut is_finite = |stored: &Stored| {
            let known = self.finite.entry(stored.place());
            *known.or_insert_with(|| stored.is_finite())
        };
        stored.into_iter().all(&mut is_finite)
    }

    fn finite_numbers(&self, name: &str, view: &View) -> Result<TensorData, WeightsError> {
        let data = self.checkpoint.real(name)?;
        let values = data.as_slice::<f32>().unwrap_or_default();
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(data),
            false => Err(WeightsError::NotFinite {
                path: self.checkpoint.path().into(),
                tensor: view.published.clone(),
            }),
        }
    }
}

/// A tensor by the file's name, with ours if that is another.
fn shown(published: &str, ours: &str) -> String {
    let ours = one_line(ours);
    match published == ours {
        true => format!("`{ours}`"),
        false => format!("`{published}` (here `{ours}`)"),
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
        let name = self.path.join(".");
        // The old numbers are never drawn: a large module would take twice its room and minutes.
        match self.find(&name, &param) {
            None => param,
            Some(Found::Now(data)) => {
                let (new, id) = (on(data, &param.lazy_device()), param.id);
                param.transform_for_load(new, id)
            }
            Some(Found::Later(view)) => read_when_used(param, view),
        }
    }
}

fn on<const D: usize>(data: TensorData, device: &Device) -> Tensor<D> {
    match device.is_autodiff() {
        true => Tensor::from_inner(Tensor::from_data(data, &device.clone().inner())),
        false => Tensor::from_data(data, device),
    }
}

/// A parameter like the one given whose numbers are read when it is first used.
fn read_when_used<const D: usize>(param: Param<Tensor<D>>, view: Arc<View>) -> Param<Tensor<D>> {
    let (id, device, shape) = (param.id, param.lazy_device(), param.lazy_shape());
    let trained = is_trained(param, &device);
    let read = move |device: &Device, takes_gradients: bool| {
        let values = view.read::<f32>().expect("a type that was checked");
        let data = TensorData::new::<f32, _>(values, view.shape.clone());
        let new = on(data, device);
        if takes_gradients {
            new.require_grad()
        } else {
            new
        }
    };
    Param::uninitialized(id, read, device, trained, shape)
}

/// Whether a parameter is one that training moves, on a device without gradients. Burn tells only of a parameter that has numbers, so
/// one number is put into a copy that is prepared for training.
fn is_trained<const D: usize>(param: Param<Tensor<D>>, device: &Device) -> bool {
    let id = param.id;
    let stand_in = param.transform_for_load(Tensor::zeros([1; D], device), id);
    stand_in.train().val().is_require_grad()
}
