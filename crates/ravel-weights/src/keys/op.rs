//! What a rule does to a tensor on its way.

use std::sync::Arc;

use super::pattern::{Captures, Sum, Variables};
use crate::view::View;

/// One step, as its rule writes it.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// `transpose`: the last two axes change places. PyTorch's linear weights are `[out, in]`, burn's `[in, out]`.
    Transpose,
    /// `permute:2,0,1`
    Permute(Vec<usize>),
    /// `squeeze:1`: an axis of one place goes.
    Squeeze(usize),
    /// `unsqueeze:0`: an axis of one place comes.
    Unsqueeze(usize),
    /// `reshape:heads,2*half,-1`: other sides; `-1` takes what is left.
    Reshape(Vec<Option<Sum>>),
    /// `add:1`
    Add(f64),
    /// `multiply:0.5`
    Multiply(f64),
    /// `repeat:0,4`: the whole tensor so many times along an axis.
    Repeat(usize, Sum),
    /// `reverse:1`: the last first along an axis.
    Reverse(usize),
}

impl Op {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let known = "transpose, permute:A,B,…, squeeze:AXIS, unsqueeze:AXIS, reshape:A,B,…, add:X, multiply:X, repeat:AXIS,N, reverse:AXIS";
        let wrong = || format!("`{text}` is no step; there are {known}");
        let (name, given) = text.split_once(':').unwrap_or((text, ""));
        let axis = || given.parse().map_err(|_| wrong());
        let number = || match given.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(wrong()),
        };
        let sum = |text: &str| Sum::parse(text.trim()).ok_or_else(wrong);
        Ok(match name {
            "transpose" if given.is_empty() => Self::Transpose,
            "permute" => {
                let axes = given.split(',').map(|axis| axis.trim().parse());
                Self::Permute(axes.collect::<Result<_, _>>().map_err(|_| wrong())?)
            }
            "squeeze" => Self::Squeeze(axis()?),
            "unsqueeze" => Self::Unsqueeze(axis()?),
            "reshape" => {
                let side = |text: &str| match text.trim() {
                    "-1" => Ok(None),
                    text => sum(text).map(Some),
                };
                Self::Reshape(given.split(',').map(side).collect::<Result<_, _>>()?)
            }
            "add" => Self::Add(number()?),
            "multiply" => Self::Multiply(number()?),
            "repeat" => {
                let (axis, times) = given.split_once(',').ok_or_else(wrong)?;
                Self::Repeat(axis.trim().parse().map_err(|_| wrong())?, sum(times)?)
            }
            "reverse" => Self::Reverse(axis()?),
            _ => return Err(wrong()),
        })
    }

    /// Variables that the step needs.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self {
            Self::Reshape(sides) => sides.iter().flatten().flat_map(Sum::names).collect(),
            Self::Repeat(_, times) => times.names().collect(),
            _ => Vec::new(),
        }
    }

    /// The tensor after the step; its numbers move only when it is read.
    pub(crate) fn apply(&self, of: &Arc<View>, variables: &Variables) -> Result<Arc<View>, String> {
        let rank = of.shape.len();
        let lacks = |axis: &usize| {
            format!(
                "`{}` is {:?}, which does not fit at axis {axis}",
                of.published, of.shape
            )
        };
        match self {
            Self::Transpose => {
                let mut order: Vec<usize> = (0..rank).collect();
                match rank {
                    0 | 1 => {
                        return Err(format!(
                            "`{}` is {:?} and has no two axes",
                            of.published, of.shape
                        ));
                    }
                    _ => order.swap(rank - 2, rank - 1),
                }
                View::permuted(of, order)
            }
            Self::Permute(order) => View::permuted(of, order.clone()),
            Self::Squeeze(axis) => {
                let mut shape = of.shape.clone();
                match shape.get(*axis) {
                    Some(1) => shape.remove(*axis),
                    _ => return Err(lacks(axis)),
                };
                View::reshaped(of, shape)
            }
            Self::Unsqueeze(axis) => {
                let mut shape = of.shape.clone();
                match *axis <= rank {
                    true => shape.insert(*axis, 1),
                    false => return Err(lacks(axis)),
                }
                View::reshaped(of, shape)
            }
            Self::Reshape(sides) => reshape(of, sides, variables),
            Self::Add(number) => Ok(View::plus(of, *number)),
            Self::Multiply(number) => Ok(View::times(of, *number)),
            Self::Repeat(axis, times) => {
                View::repeated(of, *axis, times.value(&Captures::new(), variables)?)
            }
            Self::Reverse(axis) => View::reversed(of, *axis),
        }
    }
}

fn reshape(
    of: &Arc<View>,
    sides: &[Option<Sum>],
    variables: &Variables,
) -> Result<Arc<View>, String> {
    let known = |side: &Option<Sum>| match side {
        Some(sum) => sum.value(&Captures::new(), variables),
        None => Ok(1),
    };
    let mut shape: Vec<usize> = sides.iter().map(known).collect::<Result<_, _>>()?;
    let product = shape
        .iter()
        .try_fold(1usize, |product, &side| product.checked_mul(side));
    if let (Some(open), Some(product @ 1..)) = (sides.iter().position(Option::is_none), product) {
        shape[open] = of.count() / product;
    }
    View::reshaped(of, shape)
}
