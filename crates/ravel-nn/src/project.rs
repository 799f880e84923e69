//! Linear layers: on the CPU by our kernels, with weights as they are or of a narrower type; elsewhere by burn, with weights as they are or in half, and by our
//! kernels with weights of eight or four bits.

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param, ParamId, Reparameterization, Reparameterizer};
use burn::nn::Linear;
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData, module};
use ravel_kernels::gpu::Blocks;
use ravel_kernels::tensor::{is_cpu, of_values, on_cpu};
use ravel_kernels::{Packed, Then, Weight, WeightsType, pool, tracked};

use crate::Activation;

/// What a linear layer does beside burn's `forward`, which it replaces: one function, whatever the weight's type is.
pub trait Project {
    /// `x w + bias`.
    ///
    /// # Shapes
    /// - `x`: `[.., d_input]`
    /// - returns: `[.., d_output]`
    fn project<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>;

    /// `onto + x w + bias`.
    ///
    /// # Shapes
    /// - `onto`: `[.., d_output]`
    fn project_onto<const D: usize>(&self, x: Tensor<D>, onto: Tensor<D>) -> Tensor<D>;

    /// `activation(x w + bias)`.
    fn project_to<const D: usize>(&self, x: Tensor<D>, activation: Activation) -> Tensor<D>;

    /// `activation(x a + bias_a) * (x b + bias_b)`, where the weight holds the columns of `a` and then as many of `b`.
    ///
    /// # Shapes
    /// - returns: `[.., d_output / 2]`
    fn project_gated<const D: usize>(&self, x: Tensor<D>, activation: Activation) -> Tensor<D>;
}

impl Project for Linear {
    fn project<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        let then = Then {
            bias,
            ..Then::default()
        };
        match by_kernel(&x, &self.weight, &then) {
            Some(out) => out,
            None => plain(self, x),
        }
    }

    fn project_onto<const D: usize>(&self, x: Tensor<D>, onto: Tensor<D>) -> Tensor<D> {
        let then = Then {
            bias: self.bias.as_ref().map(Param::val),
            add: Some(&onto),
            ..Then::default()
        };
        match by_kernel(&x, &self.weight, &then) {
            Some(out) => out,
            None => onto + plain(self, x),
        }
    }

    fn project_to<const D: usize>(&self, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        let then = Then {
            bias: self.bias.as_ref().map(Param::val),
            curve: activation.curve(),
            ..Then::default()
        };
        match by_kernel(&x, &self.weight, &then) {
            Some(out) if then.curve.is_some() => out,
            Some(out) => activation.forward(out),
            None => activation.forward(plain(self, x)),
        }
    }

    fn project_gated<const D: usize>(&self, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        let fused = activation.curve().and_then(|curve| {
            let bias = self.bias.as_ref().map(Param::val);
            ravel_kernels::gated(&x, &weight(&self.weight)?, bias, curve)
        });
        fused.unwrap_or_else(|| {
            let both = self.project(x);
            let width = both.dims()[D - 1] / 2;
            let gate = both.clone().narrow(D - 1, 0, width);
            activation.forward(gate) * both.narrow(D - 1, width, width)
        })
    }
}

fn by_kernel<const D: usize>(
    x: &Tensor<D>,
    param: &Param<Tensor<2>>,
    then: &Then<'_, D>,
) -> Option<Tensor<D>> {
    ravel_kernels::linear(x, &weight(param)?, then)
}

/// `x w + bias` where no packed weight and no single step is in play: what trains, and other devices.
fn plain<const D: usize>(linear: &Linear, x: Tensor<D>) -> Tensor<D> {
    let bias = linear.bias.as_ref().map(Param::val);
    match kept(&linear.weight) {
        Some(Kept::Half(weight)) => return in_half(x, weight, bias),
        Some(Kept::Blocks(blocks)) => {
            let product = blocks.product(x);
            return match bias {
                Some(bias) => product + bias.unsqueeze(),
                None => product,
            };
        }
        Some(Kept::Packed(_) | Kept::Table(_)) | None => {}
    }
    match tracked::linear(&x, &linear.weight.val(), bias.as_ref()) {
        Some(out) => out,
        None => linear.forward(x),
    }
}

/// `x w + bias` with both factors in the weight's type. The product is of that type, too, so what it cannot hold becomes infinite; the rest is as
/// wide as `x`.
fn in_half<const D: usize>(x: Tensor<D>, weight: &Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let wide = FloatDType::from(x.dtype());
    let narrow = x.cast(FloatDType::from(weight.dtype()));
    let product = module::linear(narrow, weight.clone(), None).cast(wide);
    match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    }
}

/// Products with the transpose of a table, as where scores are taken with the table that embeds.
///
/// # Shapes
/// - `x`: `[.., width]`, `table`: `[rows, width]`
/// - returns: `[.., rows]`
pub fn project_by_table<const D: usize>(x: Tensor<D>, table: &Param<Tensor<2>>) -> Tensor<D> {
    let weight = match kept(table) {
        Some(Kept::Table(packed)) => Weight::Packed(packed),
        _ => Weight::Table(table.val()),
    };
    match ravel_kernels::linear(&x, &weight, &Then::default()) {
        Some(out) => out,
        None => {
            let weight = table.val().transpose();
            tracked::linear(&x, &weight, None).unwrap_or_else(|| module::linear(x, weight, None))
        }
    }
}

/// Rows of a table that [`project_by_table`] may read too: of the numbers that it multiplies by.
///
/// # Shapes
/// - `ids`: `[batch, n]`, in `0..rows`; `table`: `[rows, width]`
/// - returns: `[batch, n, width]`
///
/// # Panics
/// If there is no such row.
pub fn embed_by_table(ids: Tensor<2, Int>, table: &Param<Tensor<2>>) -> Tensor<3> {
    let Some(Kept::Table(packed)) = kept(table) else {
        return module::embedding(table.val(), ids);
    };
    let [batch, n] = ids.dims();
    let rows: Vec<usize> = (ids.into_data().iter::<i64>())
        .map(|id| usize::try_from(id).expect("row axis: an id below zero"))
        .collect();
    let values = packed.columns(pool::global(), &rows);
    of_values(values, [batch, n, packed.shape()[0]])
}

/// The weight as the CPU's kernels take it; none if it is on another device in fewer bits.
fn weight(param: &Param<Tensor<2>>) -> Option<Weight<'_>> {
    match kept(param) {
        Some(Kept::Packed(packed)) => Some(Weight::Packed(packed)),
        Some(Kept::Half(_) | Kept::Blocks(_) | Kept::Table(_)) => None,
        None => Some(Weight::Plain(param.val())),
    }
}

fn kept(param: &Param<Tensor<2>>) -> Option<&Kept> {
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

fn half(kind: WeightsType) -> Option<FloatDType> {
    match kind {
        WeightsType::F16 => Some(FloatDType::F16),
        WeightsType::Bf16 => Some(FloatDType::BF16),
        WeightsType::F32 | WeightsType::Q8 | WeightsType::Q4 => None,
    }
}

/// A module that [`narrowed`] takes.
pub trait Narrowable: Module {
    /// The table `[rows, width]` that both embeds ([`embed_by_table`]) and gives scores ([`project_by_table`]), if there is one. Nothing else may
    /// read it often.
    fn tied(&self) -> Option<&Param<Tensor<2>>> {
        None
    }
}

impl Narrowable for Linear {}

/// The module with the weights of its linear layers (matrices named `weight`) in another type, and on the CPU in the order in which `project`
/// reads them from then on. What reads such a parameter in another way still gets the numbers, widened anew each time. None changes that training
/// moves or whose device does not multiply by the type ([`multiplies`]); small ones stay as they are. On the CPU a matrix with a number beyond the
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
struct Narrow {
    #[module(skip)]
    kept: Kept,
}

#[derive(Debug, Clone)]
enum Kept {
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

struct Narrower {
    to: Option<WeightsType>,
    /// The one that gives scores.
    table: Option<ParamId>,
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

    fn elsewhere<const D: usize>(
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
                Some(Kept::Half(Box::new(value.cast(half(to)?))))
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
    let packed = Packed::new(pool::global(), &on_host(value)?, value.dims(), to);
    let blocks = Blocks::new(&packed, &value.device())?;
    Some(Kept::Blocks(Box::new(blocks)))
}

fn on_host(value: &Tensor<2>) -> Option<Vec<f32>> {
    value.clone().into_data().try_to_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init;
    use ravel_testkit::{assert_close, device, formula, values};

    fn layer(bias: bool) -> Linear {
        let device = device();
        let mut layer = init::linear(64, 96, bias, 0.02, &device);
        layer.weight = layer.weight.map(|_| formula([64, 96], 1, 0.1, &device));
        layer.bias = layer
            .bias
            .map(|bias| bias.map(|_| formula([96], 2, 1.0, &device)));
        layer
    }

    #[test]
    fn projections_are_burn_s() {
        let device = device();
        for (bias, n) in [(true, 1), (false, 3), (true, 40)] {
            let layer = layer(bias);
            let x = formula::<3>([2, n, 64], 3, 1.0, &device);
            let onto = formula::<3>([2, n, 96], 4, 1.0, &device);
            let plain = layer.forward(x.clone());
            assert_close("project", &layer.project(x.clone()), &plain, 1e-5);
            let sum = layer.project_onto(x.clone(), onto.clone());
            assert_close("onto", &sum, &(plain.clone() + onto), 1e-5);
            for activation in [
                Activation::Gelu,
                Activation::GeluTanh,
                Activation::Silu,
                Activation::Relu,
                Activation::ReluSquared,
            ] {
                let curved = layer.project_to(x.clone(), activation);
                assert_close("curve", &curved, &activation.forward(plain.clone()), 1e-5);
                let gated = layer.project_gated(x.clone(), activation);
                let gate = activation.forward(plain.clone().narrow(2, 0, 48));
                assert_close(
                    "gated",
                    &gated,
                    &(gate * plain.clone().narrow(2, 48, 48)),
                    1e-5,
                );
            }
            let table = Param::from_tensor(layer.weight.val().transpose());
            let by_table = project_by_table(x, &table);
            let bias = layer
                .bias
                .map_or_else(|| Tensor::zeros([96], &device), |bias| bias.val());
            assert_close("table", &(by_table + bias.unsqueeze()), &plain, 1e-5);
        }
    }

    #[test]
    fn narrow_weights_are_used_and_can_still_be_read() {
        let x = formula::<3>([1, 2, 64], 3, 1.0, &device());
        for to in [
            WeightsType::F16,
            WeightsType::Bf16,
            WeightsType::Q8,
            WeightsType::Q4,
        ] {
            let plain = layer(true);
            let narrow = narrowed(plain.clone(), Some(to));
            assert!(
                narrow.weight.reparameterization::<Narrow>().is_some(),
                "{to}"
            );
            let most = match to {
                WeightsType::F16 | WeightsType::Bf16 => 4e-4,
                WeightsType::Q8 => 1e-3,
                _ => 1.5e-2,
            };
            assert_close("weight", &narrow.weight.val(), &plain.weight.val(), most);
            // What the product sees beside the weights is rounded too, with eight and four bits.
            let found = narrow.project(x.clone());
            assert_close("product", &found, &narrow.forward(x.clone()), 3e-2);
        }
    }

    #[derive(Module, Debug)]
    struct Tied {
        table: Param<Tensor<2>>,
        other: Param<Tensor<2>>,
    }

    impl Narrowable for Tied {
        fn tied(&self) -> Option<&Param<Tensor<2>>> {
            Some(&self.table)
        }
    }

    const TABLE: [usize; 2] = [150, 72];

    fn tied() -> Tied {
        let table = || Param::from_tensor(formula(TABLE, 5, 0.1, &device()));
        Tied {
            table: table(),
            other: table(),
        }
    }

    #[test]
    fn a_tied_table_is_kept_once_for_scores_and_embedding() {
        let x = formula::<3>([2, 3, TABLE[1]], 3, 1.0, &device());
        let ids = Tensor::<2, Int>::from_ints([[149, 0, 7], [64, 64, 31]], &device());
        for to in WeightsType::ALL {
            let plain = tied();
            let narrow = narrowed(plain.clone(), Some(to));
            assert!(
                matches!(kept(&narrow.table), Some(Kept::Table(packed)) if packed.kind() == to)
            );
            assert!(kept(&narrow.other).is_none());
            let table = narrow.table.val();
            let most = match to {
                WeightsType::F32 => 0.0,
                WeightsType::F16 | WeightsType::Bf16 => 4e-4,
                WeightsType::Q8 => 1e-3,
                WeightsType::Q4 => 1.5e-2,
            };
            assert_close("table", &table, &plain.table.val(), most);
            let embedded = embed_by_table(ids.clone(), &narrow.table);
            assert_eq!(embedded.dims(), [2, 3, TABLE[1]]);
            let expected = module::embedding(table.clone(), ids.clone());
            assert_eq!(values(&embedded), values(&expected), "{to}");
            let scores = project_by_table(x.clone(), &narrow.table);
            let linear = module::linear(x.clone(), table.clone().transpose(), None);
            // What the product sees beside the weights is rounded too, with eight and four bits.
            let most = match to {
                WeightsType::Q8 | WeightsType::Q4 => 3e-2,
                _ => 1e-5,
            };
            assert_close("scores", &scores, &linear, most);
            // Each row alone has the same scores, to the bit.
            let row = project_by_table(x.clone().narrow(0, 1, 1).narrow(1, 2, 1), &narrow.table);
            let same = scores.clone().narrow(0, 1, 1).narrow(1, 2, 1);
            assert_eq!(values(&row), values(&same), "{to}");
            let mut exact = tied();
            exact.table = Param::from_tensor(table.clone());
            let found = narrowed(exact, None);
            assert!(matches!(kept(&found.table), Some(Kept::Table(packed)) if packed.kind() == to));
            assert_eq!(values(&found.table.val()), values(&table), "{to}");
            let again = project_by_table(x.clone(), &found.table);
            assert_eq!(values(&again), values(&scores), "{to}");
            let [rows, width] = TABLE;
            assert_eq!(streamed(&plain, to), [to.bytes(width, rows), rows * width]);
        }
    }

    #[test]
    fn a_table_that_trains_stays() {
        let mut plain = tied();
        plain.table = init::normal(TABLE, 0.1, &device().autodiff());
        let narrow = narrowed(plain, Some(WeightsType::Q8));
        assert!(kept(&narrow.table).is_none());
    }

    #[test]
    fn a_matrix_beyond_the_range_of_half_precision_stays_as_it_is() {
        let x = formula::<3>([1, 2, 64], 3, 1.0, &device());
        let mut plain = layer(true);
        for (most, kept_as) in [(6.5e4, WeightsType::F16), (7e4, WeightsType::F32)] {
            let weight = formula::<2>([64, 96], 1, 0.1, &device());
            let weight = weight.slice_fill([3..4, 5..6], -most);
            plain.weight = Param::from_tensor(weight.clone());
            let narrow = narrowed(plain.clone(), Some(WeightsType::F16));
            let kept = kept(&narrow.weight);
            assert!(matches!(kept, Some(Kept::Packed(packed)) if packed.kind() == kept_as));
            if kept_as == WeightsType::F32 {
                assert_eq!(values(&narrow.weight.val()), values(&weight));
                let found = values(&narrow.project(x.clone()));
                assert_eq!(found, values(&plain.project(x.clone())));
            }
        }
    }

    /// As a device without packed weights keeps them; the CPU computes in halves, too.
    struct Halver(WeightsType);

    impl Reparameterizer for Halver {
        type Reparam = Narrow;

        fn reparameterize<const D: usize>(
            &mut self,
            _path: &str,
            param: Param<Tensor<D>>,
        ) -> (Param<Tensor<D>>, Option<Narrow>) {
            let narrower = Narrower {
                to: Some(self.0),
                table: None,
            };
            let shape = param.lazy_shape();
            if D != 2 {
                return (param, None);
            }
            let kept = narrower.elsewhere(&param, [shape[0], shape[1]], &device());
            (param, kept.map(|kept| Narrow { kept }))
        }
    }

    #[test]
    fn weights_in_half_are_multiplied_in_half_and_can_still_be_read() {
        let x = formula::<3>([2, 3, 64], 3, 1.0, &device());
        let onto = formula::<3>([2, 3, 96], 4, 1.0, &device());
        for (to, most) in [(WeightsType::F16, 2e-3), (WeightsType::Bf16, 2e-2)] {
            for bias in [true, false] {
                let plain = layer(bias);
                let half = plain.clone().apply_reparameterization(Halver(to));
                let kept = kept(&half.weight).expect("a weight in half");
                assert!(matches!(kept, Kept::Half(weight) if weight.dtype() != x.dtype()));
                assert_close("weight", &half.weight.val(), &plain.weight.val(), 4e-4);
                let product = half.project(x.clone());
                assert_eq!(product.dtype(), x.dtype());
                assert_close("product", &product, &plain.project(x.clone()), most);
                let sum = half.project_onto(x.clone(), onto.clone());
                assert_close("onto", &sum, &(product.clone() + onto.clone()), 1e-6);
                let curved = half.project_to(x.clone(), Activation::Silu);
                let expected = Activation::Silu.forward(product.clone());
                assert_close("curve", &curved, &expected, 1e-6);
                let gated = half.project_gated(x.clone(), Activation::Silu);
                let gate = Activation::Silu.forward(product.clone().narrow(2, 0, 48));
                let expected = gate * product.narrow(2, 48, 48);
                assert_close("gated", &gated, &expected, 1e-6);
            }
        }
        assert!(half(WeightsType::Q8).is_none() && half(WeightsType::F32).is_none());
    }

    #[test]
    fn what_is_half_precision_already_becomes_it_without_a_change() {
        let x = formula::<3>([1, 2, 64], 3, 1.0, &device());
        let mut plain = layer(true);
        // No narrower type holds these: they are put in panels as they are.
        let panels = narrowed(plain.clone(), None);
        assert_eq!(values(&panels.weight.val()), values(&plain.weight.val()));
        assert_eq!(
            values(&panels.project(x.clone())),
            values(&plain.project(x.clone()))
        );
        let exact = narrowed(plain.clone(), Some(WeightsType::F16)).weight.val();
        plain.weight = Param::from_tensor(exact.clone());
        let narrow = narrowed(plain.clone(), None);
        assert!(narrow.weight.reparameterization::<Narrow>().is_some());
        assert_eq!(values(&narrow.weight.val()), values(&exact));
        assert_eq!(
            values(&narrow.project(x.clone())),
            values(&plain.project(x))
        );
    }
}
