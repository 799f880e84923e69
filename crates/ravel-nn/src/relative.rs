//! Learned attention scores by distance: each head has a number for each bucket of distances, near ones alone, far ones together.
//!
//! Raffel et al. 2020 (T5), section 2.1. Symbols: `n` queries, `m` keys, `h` heads.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How distances fall into buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RelativeConfig {
    /// Buckets in all.
    pub buckets: usize,
    /// From this distance on all fall into the last bucket.
    pub farthest: usize,
    /// Whether later positions have buckets of their own, half of all: for encoders.
    pub both_ways: bool,
}

impl RelativeConfig {
    /// The bucket of a key that stands `distance` positions after its query.
    ///
    /// The logarithm is taken in 32 bits, as in the reference, so that edges fall where it has them.
    pub fn bucket(&self, distance: i64) -> usize {
        let (first, buckets) = match self.both_ways {
            true => (
                usize::from(distance > 0) * (self.buckets / 2),
                self.buckets / 2,
            ),
            false => (0, self.buckets),
        };
        let far = match self.both_ways {
            true => distance.unsigned_abs(),
            false => distance.min(0).unsigned_abs(),
        } as usize;
        let exact = buckets / 2;
        if far < exact {
            return first + far;
        }
        let whole = (self.farthest as f64 / exact as f64).ln() as f32;
        let share = (far as f32 / exact as f32).ln() / whole;
        let bucket = exact + (share * (buckets - exact) as f32) as usize;
        first + bucket.min(buckets - 1)
    }

    /// What is added to the scores.
    ///
    /// # Shapes
    /// - `table`: `[buckets, h]`
    /// - returns: `[1, h, n, m]`
    pub fn bias(&self, table: Tensor<2>, queries: Range<usize>, keys: Range<usize>) -> Tensor<4> {
        let (n, m) = (queries.len(), keys.len());
        let [_, heads] = table.dims();
        let ids: Vec<i32> = queries
            .flat_map(|query| keys.clone().map(move |key| key as i64 - query as i64))
            .map(|distance| self.bucket(distance) as i32)
            .collect();
        let ids: Tensor<1, Int> =
            Tensor::from_data(TensorData::new::<i32, _>(ids, [n * m]), &table.device());
        table
            .select(0, ids)
            .reshape([1, n, m, heads])
            .permute([0, 3, 1, 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravel_testkit::{device, values};

    #[test]
    fn near_distances_stand_alone_and_far_ones_together() {
        let encoder = RelativeConfig {
            buckets: 32,
            farthest: 128,
            both_ways: true,
        };
        let buckets = [0, -1, -7, 1, 7].map(|distance| encoder.bucket(distance));
        assert_eq!(buckets, [0, 1, 7, 17, 23]);
        // ln(8 / 8) and ln(16 / 8) of ln(16) in eight parts.
        let buckets = [-8, -16, -127, -5000, 5000].map(|distance| encoder.bucket(distance));
        assert_eq!(buckets, [8, 10, 15, 15, 31]);
        let decoder = RelativeConfig {
            both_ways: false,
            ..encoder
        };
        let buckets = [3, 0, -15, -16, -128].map(|distance| decoder.bucket(distance));
        assert_eq!(buckets, [0, 0, 15, 16, 31]);
    }

    #[test]
    fn a_bias_stands_where_its_distance_is() {
        let config = RelativeConfig {
            buckets: 8,
            farthest: 16,
            both_ways: true,
        };
        let table = Tensor::<1>::from_floats([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], &device());
        let bias = config.bias(table.unsqueeze_dim(1), 1..3, 0..3);
        assert_eq!(bias.dims(), [1, 1, 2, 3]);
        assert_eq!(values(&bias), [1.0, 0.0, 5.0, 2.0, 1.0, 0.0]);
    }
}
