//! Linear layers: on the CPU by our kernels, with weights as they are or of a narrower type; elsewhere by burn, with weights as they are or in half, and by our
//! kernels with weights of eight or four bits.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{FloatDType, Int, Tensor, module};
use ravel_kernels::tensor::of_values;
use ravel_kernels::{Then, Weight, pool, tracked};

use crate::Activation;
use crate::kept::{Kept, kept};

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

#[cfg(test)]
mod tests {
    use burn::module::{Module, Reparameterizer};
    use ravel_kernels::WeightsType;

    use super::*;
    use crate::init;
    use crate::kept::{Narrow, Narrowable, Narrower, half, narrowed, streamed};
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
