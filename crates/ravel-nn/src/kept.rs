//! Weights as products read them: in panels, in half precision or in blocks, beside parameters that keep their paths.

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param, ParamId, Reparameterization, Reparameterizer};
use burn::nn::Linear;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use ravel_kernels::gpu::Blocks;
use ravel_kernels::tensor::{is_cpu, on_cpu};
use ravel_kernels::{Packed, WeightsType, pool};

/// What products read in place of a parameter, if it was narrowed.
pub(crate) fn kept(param: &Param<Tensor<2>>) -> Option<&Kept> {
    let narrow = param.reparameterization::<Narrow>()?;
    Some(&narrow.kept)
}

/// Whether linear layers on a device multiply by weights of a type: all types on the CPU; elsewhere f32, the halves that the device computes in, and
/// eight and four bits on what runs CubeCL.
pub fn multiplies(device: &Device, kind: WeightsType) -> bool {
    match kind {
        _ if is_cpu(device) => true,
        WeightsType::F32 => true,
        WeightsType::F16 | WeightsType::Bf16 => {
            half(kind).is_some_and(|half| device.supports_dtype(half))
        }
        WeightsType::Q8 | WeightsType::Q4 => Blocks::serves(device),
    }
}

pub(crate) fn half(kind: WeightsType) -> Option<FloatDType> {
    match kind {
        WeightsType::F16 => Some(FloatDType::F16),
        WeightsType::Bf16 => Some(FloatDType::BF16),
        WeightsType::F32 | WeightsType::Q8 | WeightsType::Q4 => None,
    }
}

/// A module that [`narrowed`] takes.
pub trait Narrowable: Module {
    /// The table `[rows, width]` that both embeds ([`crate::embed_by_table`]) and gives scores ([`crate::project_by_table`]), if there is one. Nothing else may
    /// read it often.
    fn tied(&self) -> Option<&Param<Tensor<2>>> {
        None
    }
}

impl Narrowable for Linear {}

/// The module with the weights of its linear layers (matrices named `weight`) in another type, and on the CPU in the order in which `project`
/// reads them from then on. What reads such a parameter in another way still gets the numbers, widened anew each time. None changes that training
/// moves or whose device does not multiply by the type ([`multiplies`]); small ones stay as they are. A matrix with a number beyond the
/// type's range (65,504 for half precision) stays f32.
///
/// On the CPU a table that gives scores ([`Narrowable::tied`]) is kept so, too, once for both uses: what it embeds is rounded as well.
///
/// Without a type, each matrix becomes as narrow as it can without any weight changing: on the CPU half precision or bfloat16, where that is what a file
/// held, on any device that multiplies by them eight or four bits, from a file of those.
pub fn narrowed<M: Narrowable>(module: M, to: Option<WeightsType>) -> M {
    let table = module.tied().map(|table| table.id);
    module.apply_reparameterization(Narrower { to, table })
}

/// Bytes of weights that a product with each linear layer and with a table that gives scores reads, and their number, where all of them are of one
/// type; such a table is, on the CPU alone.
pub fn streamed<M: Narrowable>(module: &M, kind: WeightsType) -> [usize; 2] {
    let mut count = Streamed {
        kind,
        table: module.tied().map(|table| table.id),
        path: Vec::new(),
        told: [0; 2],
    };
    module.visit(&mut count);
    count.told
}

struct Streamed {
    kind: WeightsType,
    table: Option<ParamId>,
    path: Vec<String>,
    told: [usize; 2],
}

impl ModuleVisitor for Streamed {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D != 2 {
            return;
        }
        let shape = param.lazy_shape();
        let bytes = if self.table == Some(param.id) {
            let kind = match is_cpu(&param.lazy_device()) {
                true => self.kind,
                false => WeightsType::F32,
            };
            kind.bytes(shape[1], shape[0])
        } else if self.path.last().is_some_and(|name| name == "weight") {
            self.kind.bytes(shape[0], shape[1])
        } else {
            return;
        };
        self.told[0] += bytes;
        self.told[1] += shape.num_elements();
    }
}

/// Weights smaller than this many numbers are not worth it.
const SMALL: usize = 1 << 12;

/// A weight as products read it.
#[derive(Module, Debug)]
pub(crate) struct Narrow {
    #[module(skip)]
    pub(crate) kept: Kept,
}

/// In which form.
#[derive(Debug, Clone)]
pub(crate) enum Kept {
    /// In panels, most often of a narrower type, on the CPU.
    Packed(Arc<Packed>),
    /// The transpose of a table, so that its scores are a product like any other.
    Table(Arc<Packed>),
    /// In half precision or bfloat16, on another device.
    Half(Box<Tensor<2>>),
    /// In eight or four bits, on another device.
    Blocks(Box<Blocks>),
}

impl Reparameterization for Narrow {
    const NAME: &'static str = "narrow";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        match &self.kept {
            Kept::Packed(packed) => {
                let values = packed.unpacked(pool::global());
                let data = TensorData::new::<f32, _>(values, packed.shape());
                Tensor::from_data(data, &base.device())
            }
            Kept::Table(packed) => {
                let [width, rows] = packed.shape();
                let all: Vec<_> = (0..rows).collect();
                let values = packed.columns(pool::global(), &all);
                let data = TensorData::new::<f32, _>(values, [rows, width]);
                Tensor::from_data(data, &base.device())
            }
            Kept::Half(weight) => {
                let wide = weight.as_ref().clone().cast(FloatDType::F32);
                wide.reshape(base.dims())
            }
            Kept::Blocks(blocks) => blocks.unpacked().reshape(base.dims()),
        }
    }
}

/// Narrows the weights of a module.
pub(crate) struct Narrower {
    /// To this type, or to what changes none.
    pub(crate) to: Option<WeightsType>,
    /// The one that gives scores.
    pub(crate) table: Option<ParamId>,
}

impl Reparameterizer for Narrower {
    type Reparam = Narrow;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Narrow>) {
        let shape = param.lazy_shape();
        let device = param.lazy_device();
        let is_table = self.table == Some(param.id);
        let is_weight = path == "weight" || path.ends_with(".weight");
        if D != 2
            || !(is_weight || is_table)
            || shape.num_elements() < SMALL
            || device.is_autodiff()
        {
            return (param, None);
        }
        let kept = match (is_cpu(&device), is_table) {
            (true, _) => self.packed(&param.val(), [shape[0], shape[1]], is_table),
            (false, false) => self.elsewhere(&param, [shape[0], shape[1]], &device),
            (false, true) => None,
        };
        let Some(kept) = kept else {
            return (param, None);
        };
        // The numbers are in one place only: what stays behind is one zero, seen from everywhere.
        let dims: [usize; D] = std::array::from_fn(|axis| shape[axis]);
        let empty = move |device: &Device, _: bool| Tensor::<D>::zeros([1; D], device).expand(dims);
        let base = Param::uninitialized(param.id, empty, device, false, shape);
        (base, Some(Narrow { kept }))
    }
}

impl Narrower {
    fn packed<const D: usize>(
        &self,
        value: &Tensor<D>,
        shape: [usize; 2],
        is_table: bool,
    ) -> Option<Kept> {
        let handle = on_cpu(value)?;
        let (pool, values) = (pool::global(), handle.as_slice::<f32>()?);
        let found = || match is_table {
            true => Packed::lossless_table(pool, values, shape),
            false => Packed::lossless(pool, values, shape),
        };
        let to = match self.to {
            Some(to) => Some(to).filter(|&to| Packed::holds(pool, values, to)),
            None => found(),
        };
        let to = to.unwrap_or(WeightsType::F32);
        Some(match is_table {
            true => Kept::Table(Arc::new(Packed::of_table(pool, values, shape, to))),
            false => Kept::Packed(Arc::new(Packed::new(pool, values, shape, to))),
        })
    }

    /// On another device than the CPU.
    pub(crate) fn elsewhere<const D: usize>(
        &self,
        param: &Param<Tensor<D>>,
        shape: [usize; 2],
        device: &Device,
    ) -> Option<Kept> {
        match self.to {
            Some(WeightsType::F32) => None,
            Some(to) if !multiplies(device, to) => None,
            Some(to @ (WeightsType::F16 | WeightsType::Bf16)) => {
                let value = param.val().reshape(shape);
                let largest = value.clone().abs().max().into_data();
                let fits = |x: f32| Packed::holds(pool::global(), &[x], to);
                let all_fit = largest.iter::<f32>().all(fits);
                all_fit.then_some(Kept::Half(Box::new(value.cast(half(to)?))))
            }
            Some(to) => in_blocks(&param.val().reshape(shape), to),
            None if Blocks::serves(device) => {
                let value = param.val().reshape(shape);
                // A few rows tell at once what is no such file.
                let few = value.clone().narrow(0, 0, shape[0].min(ROWS));
                lossless(&few)?;
                in_blocks(&value, lossless(&value)?)
            }
            None => None,
        }
    }
}

/// Rows of a matrix that are looked at first.
const ROWS: usize = 32;

/// Eight or four bits, if a matrix on another device than the CPU holds no more.
fn lossless(value: &Tensor<2>) -> Option<WeightsType> {
    let kind = Packed::lossless(pool::global(), &on_host(value)?, value.dims())?;
    matches!(kind, WeightsType::Q8 | WeightsType::Q4).then_some(kind)
}

fn in_blocks(value: &Tensor<2>, to: WeightsType) -> Option<Kept> {
    let (pool, values) = (pool::global(), on_host(value)?);
    if !Packed::holds(pool, &values, to) {
        return None;
    }
    let packed = Packed::new(pool, &values, value.dims(), to);
    let blocks = Blocks::new(&packed, &value.device())?;
    Some(Kept::Blocks(Box::new(blocks)))
}

fn on_host(value: &Tensor<2>) -> Option<Vec<f32>> {
    value.clone().into_data().try_to_vec().ok()
}
