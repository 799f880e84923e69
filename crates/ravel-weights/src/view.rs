//! A tensor made from stored ones by moving numbers about: what a key table asks for, done when the tensor is read.

use std::sync::Arc;

use ravel_kernels::pool::{self, Parts};
use safetensors::Dtype;

use crate::quantized::Blocks;
use crate::stored::{Number, Stored, advance};

/// A tensor, its name in the file, and how to make it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) shape: Vec<usize>,
    /// What the file calls it; of joined tensors all names.
    pub(crate) published: String,
    node: Node,
}

#[derive(Debug, Clone)]
enum Node {
    Stored(Stored),
    Joined(usize, Vec<Arc<View>>),
    Part(usize, usize, Arc<View>),
    Permuted(Vec<usize>, Arc<View>),
    Reshaped(Arc<View>),
    Plus(f64, Arc<View>),
    Times(f64, Arc<View>),
    Repeated(usize, usize, Arc<View>),
    Reversed(usize, Arc<View>),
    Normed(Arc<View>, Arc<View>),
    Blocks(Blocks),
}

impl View {
    pub(crate) fn stored(published: &str, stored: Stored) -> Self {
        Self {
            shape: stored.shape.clone(),
            published: published.into(),
            node: Node::Stored(stored),
        }
    }

    /// The same numbers under another name in messages.
    pub(crate) fn named(self, published: &str) -> Self {
        Self {
            published: published.into(),
            ..self
        }
    }

    fn from(of: &Arc<View>, shape: Vec<usize>, node: Node) -> Arc<View> {
        Arc::new(Self {
            shape,
            published: of.published.clone(),
            node,
        })
    }

    /// The element type in the file, of the first tensor if there are several.
    pub(crate) fn dtype(&self) -> Dtype {
        match &self.node {
            Node::Stored(stored) => stored.dtype,
            Node::Joined(_, parts) => parts[0].dtype(),
            Node::Part(_, _, of)
            | Node::Permuted(_, of)
            | Node::Reshaped(of)
            | Node::Plus(_, of)
            | Node::Times(_, of)
            | Node::Repeated(_, _, of)
            | Node::Reversed(_, of) => of.dtype(),
            Node::Normed(_, direction) => direction.dtype(),
            Node::Blocks(blocks) => blocks.scales.dtype,
        }
    }

    /// Tensors one behind the other along an axis.
    pub(crate) fn joined(axis: usize, parts: Vec<Arc<View>>) -> Result<Arc<View>, String> {
        let first = &parts[0];
        let mut shape = first.shape.clone();
        let side = *shape.get(axis).ok_or_else(|| no_axis(axis, first))?;
        let mut total = side;
        for part in &parts[1..] {
            let alike = |(at, pair): (usize, (&usize, &usize))| at == axis || pair.0 == pair.1;
            let fits = part.shape.len() == shape.len()
                && part.shape.iter().zip(&shape).enumerate().all(alike);
            if !fits {
                return Err(format!(
                    "`{}` is {:?} and `{}` {:?}, which cannot be joined along axis {axis}",
                    first.published, first.shape, part.published, part.shape
                ));
            }
            total = total
                .checked_add(part.shape[axis])
                .ok_or("a joined tensor is too large")?;
        }
        shape[axis] = total;
        checked_count(&shape)?;
        let names: Vec<&str> = parts.iter().map(|part| part.published.as_str()).collect();
        let published = names.join("` + `");
        Ok(Arc::new(Self {
            shape,
            published,
            node: Node::Joined(axis, parts),
        }))
    }

    /// `len` places along an axis, from `start`.
    pub(crate) fn part(of: &Arc<View>, axis: usize, start: usize, len: usize) -> Arc<View> {
        let mut shape = of.shape.clone();
        shape[axis] = len;
        Self::from(of, shape, Node::Part(axis, start, of.clone()))
    }

    /// Axes in another order.
    pub(crate) fn permuted(of: &Arc<View>, order: Vec<usize>) -> Result<Arc<View>, String> {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..of.shape.len()) {
            return Err(format!(
                "`{}` is {:?}, which has no order of axes {order:?}",
                of.published, of.shape
            ));
        }
        let shape = order.iter().map(|&axis| of.shape[axis]).collect();
        Ok(Self::from(of, shape, Node::Permuted(order, of.clone())))
    }

    /// The same numbers with other sides.
    pub(crate) fn reshaped(of: &Arc<View>, shape: Vec<usize>) -> Result<Arc<View>, String> {
        if checked_count(&shape)? != of.count() {
            return Err(format!(
                "`{}` is {:?}, which cannot become {shape:?}",
                of.published, of.shape
            ));
        }
        Ok(Self::from(of, shape, Node::Reshaped(of.clone())))
    }

    /// A number added everywhere.
    pub(crate) fn plus(of: &Arc<View>, number: f64) -> Arc<View> {
        Self::from(of, of.shape.clone(), Node::Plus(number, of.clone()))
    }

    /// A number multiplied with everywhere.
    pub(crate) fn times(of: &Arc<View>, number: f64) -> Arc<View> {
        Self::from(of, of.shape.clone(), Node::Times(number, of.clone()))
    }

    /// The whole tensor several times along an axis.
    pub(crate) fn repeated(of: &Arc<View>, axis: usize, times: usize) -> Result<Arc<View>, String> {
        let mut shape = of.shape.clone();
        let side = shape.get_mut(axis).ok_or_else(|| no_axis(axis, of))?;
        *side = side
            .checked_mul(times)
            .ok_or("a repeated tensor is too large")?;
        checked_count(&shape)?;
        Ok(Self::from(
            of,
            shape,
            Node::Repeated(axis, times, of.clone()),
        ))
    }

    /// The last first along an axis.
    pub(crate) fn reversed(of: &Arc<View>, axis: usize) -> Result<Arc<View>, String> {
        of.shape.get(axis).ok_or_else(|| no_axis(axis, of))?;
        Ok(Self::from(
            of,
            of.shape.clone(),
            Node::Reversed(axis, of.clone()),
        ))
    }

    /// Weight norm: `length · direction / |direction|`, the norm over every axis on which `length` has one place only.
    ///
    /// Salimans and Kingma 2016, equation 2; PyTorch stores `length` as `weight_g` and `direction` as `weight_v`.
    pub(crate) fn normed(length: Arc<View>, direction: Arc<View>) -> Result<Arc<View>, String> {
        let same_rank = length.shape.len() == direction.shape.len();
        let fits = |(&of, &whole): (&usize, &usize)| of == 1 || of == whole;
        if !(length.count() == 1
            || same_rank && length.shape.iter().zip(&direction.shape).all(fits))
        {
            return Err(format!(
                "`{}` is {:?}, which cannot be the lengths of `{}`, {:?}",
                length.published, length.shape, direction.published, direction.shape
            ));
        }
        Ok(Self::from(
            &direction.clone(),
            direction.shape.clone(),
            Node::Normed(length, direction),
        ))
    }

    /// A matrix of levels and scales.
    pub(crate) fn blocks(
        published: &str,
        shape: Vec<usize>,
        blocks: Blocks,
    ) -> Result<Self, String> {
        checked_count(&shape)?;
        Ok(Self {
            shape,
            published: published.into(),
            node: Node::Blocks(blocks),
        })
    }

    /// The tensor as it lies in the file, if it is one.
    pub(crate) fn as_stored(&self) -> Option<&Stored> {
        match &self.node {
            Node::Stored(stored) => Some(stored),
            _ => None,
        }
    }

    /// Elements.
    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The stored tensors whose numbers this one takes as they are, or that tell whether its own are finite; none if it computes any
    /// other.
    pub(crate) fn moved(&self) -> Option<Vec<&Stored>> {
        match &self.node {
            Node::Stored(stored) => Some(vec![stored]),
            // Levels are whole numbers: what is not finite is a scale.
            Node::Blocks(blocks) => Some(vec![&blocks.scales]),
            Node::Joined(_, parts) => {
                let all: Option<Vec<_>> = parts.iter().map(|part| part.moved()).collect();
                Some(all?.concat())
            }
            Node::Part(_, _, of)
            | Node::Permuted(_, of)
            | Node::Reshaped(of)
            | Node::Repeated(_, _, of)
            | Node::Reversed(_, of) => of.moved(),
            Node::Plus(..) | Node::Times(..) | Node::Normed(..) => None,
        }
    }

    /// The numbers, row-major.
    ///
    /// # Errors
    /// The element type that is not of the asked kind.
    pub(crate) fn read<T: Number>(&self) -> Result<Vec<T>, Dtype> {
        match &self.node {
            Node::Stored(stored) => stored.read(),
            Node::Blocks(blocks) => {
                let values = blocks.read(&self.shape)?;
                values.into_iter().map(T::from_real).collect()
            }
            Node::Joined(axis, parts) => {
                let parts = parts.iter().map(|part| part.read());
                Ok(joined(
                    sides(&self.shape, *axis).0,
                    parts.collect::<Result<_, _>>()?,
                ))
            }
            Node::Part(axis, start, of) => {
                let (outer, side, inner) = sides(&of.shape, *axis);
                let values: Vec<T> = of.read()?;
                let len = self.shape[*axis] * inner;
                let rows = values.chunks_exact((side * inner).max(1)).take(outer);
                let mut part = Vec::with_capacity(outer * len);
                rows.for_each(|row| part.extend_from_slice(&row[start * inner..][..len]));
                Ok(part)
            }
            Node::Permuted(order, of) if order[..] == [1, 0] => of.read_turned(),
            Node::Permuted(order, of) => Ok(permute(&of.read()?, &of.shape, order)),
            Node::Reshaped(of) => of.read(),
            Node::Plus(number, of) => each(of.read()?, |value: T| value.plus(*number)),
            Node::Times(number, of) => each(of.read()?, |value: T| value.times(*number)),
            Node::Repeated(axis, times, of) => {
                let (_, side, inner) = sides(&of.shape, *axis);
                let values: Vec<T> = of.read()?;
                let rows = values.chunks_exact((side * inner).max(1));
                Ok(rows.flat_map(|row| row.repeat(*times)).collect())
            }
            Node::Reversed(axis, of) => {
                let (_, side, inner) = sides(&of.shape, *axis);
                let values: Vec<T> = of.read()?;
                let rows = values.chunks_exact((side * inner).max(1));
                let turned = rows.flat_map(|row| row.chunks_exact(inner.max(1)).rev().flatten());
                Ok(turned.copied().collect())
            }
            Node::Normed(length, direction) => {
                let values = norm(
                    &length.read()?,
                    &length.shape,
                    direction.read()?,
                    &direction.shape,
                );
                values.into_iter().map(T::from_real).collect()
            }
        }
    }

    /// A matrix with its axes exchanged.
    fn read_turned<T: Number>(&self) -> Result<Vec<T>, Dtype> {
        match &self.node {
            Node::Stored(stored) if stored.is_in_one_piece() => stored.read_turned(),
            // Of a joined one each part, so that the whole is not read and turned besides.
            Node::Joined(0, parts) => {
                let parts = parts.iter().map(|part| part.read_turned());
                Ok(joined(self.shape[1], parts.collect::<Result<_, _>>()?))
            }
            _ => Ok(permute(&self.read()?, &self.shape, &[1, 0])),
        }
    }
}

/// So many rows of all parts, side by side.
fn joined<T: Number>(rows: usize, parts: Vec<Vec<T>>) -> Vec<T> {
    let width: usize = parts.iter().map(|values| values.len() / rows.max(1)).sum();
    let mut joined = vec![T::default(); rows * width];
    let room = Parts::new(&mut joined);
    pool::global().run_ranges(rows, ROWS, &|some| {
        // SAFETY: each piece has rows of its own.
        let to = unsafe { room.part(some.start * width..some.end * width) };
        for (row, mut to) in some.zip(to.chunks_exact_mut(width.max(1))) {
            for values in &parts {
                let len = values.len() / rows;
                let (own, rest) = to.split_at_mut(len);
                own.copy_from_slice(&values[row * len..][..len]);
                to = rest;
            }
        }
    });
    joined
}

/// Rows that a thread joins at a time.
const ROWS: usize = 64;

/// The number of elements of a shape, if memory could hold them at all.
pub(crate) fn checked_count(shape: &[usize]) -> Result<usize, String> {
    let count = shape
        .iter()
        .try_fold(1usize, |count, &side| count.checked_mul(side));
    count
        .filter(|&count| count <= isize::MAX as usize / 8)
        .ok_or_else(|| format!("a shape of {shape:?} is beyond any memory"))
}

fn no_axis(axis: usize, of: &View) -> String {
    format!(
        "`{}` is {:?} and has no axis {axis}",
        of.published, of.shape
    )
}

/// Places before, along and behind an axis.
fn sides(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (
        shape[..axis].iter().product(),
        shape[axis],
        shape[axis + 1..].iter().product(),
    )
}

fn each<T>(values: Vec<T>, change: impl Fn(T) -> T) -> Result<Vec<T>, Dtype> {
    Ok(values.into_iter().map(change).collect())
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len())
        .map(|axis| shape[axis + 1..].iter().product())
        .collect()
}

fn permute<T: Copy>(values: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let old = strides(shape);
    let Some((&last, outer)) = order.split_last() else {
        return values.to_vec();
    };
    let steps: Vec<usize> = outer.iter().map(|&axis| old[axis]).collect();
    let sides: Vec<usize> = outer.iter().map(|&axis| shape[axis]).collect();
    let mut place = vec![0; sides.len()];
    let mut moved = Vec::with_capacity(values.len());
    while moved.len() < values.len() {
        let from: usize = place.iter().zip(&steps).map(|(p, step)| p * step).sum();
        moved.extend((0..shape[last]).map(|at| values[from + at * old[last]]));
        advance(&mut place, &sides);
    }
    moved
}

fn norm(
    lengths: &[f32],
    length_shape: &[usize],
    mut direction: Vec<f32>,
    shape: &[usize],
) -> Vec<f32> {
    let steps: Vec<usize> = match lengths.len() {
        1 => vec![0; shape.len()],
        _ => {
            let steps = strides(length_shape);
            let kept = |(step, &side): (usize, &usize)| if side == 1 { 0 } else { step };
            steps.into_iter().zip(length_shape).map(kept).collect()
        }
    };
    let mut place = vec![0; shape.len()];
    let groups: Vec<usize> = (0..direction.len())
        .map(|_| {
            let group = place.iter().zip(&steps).map(|(p, step)| p * step).sum();
            advance(&mut place, shape);
            group
        })
        .collect();
    let mut squares = vec![0f64; lengths.len()];
    for (&group, &value) in groups.iter().zip(&direction) {
        squares[group] += f64::from(value) * f64::from(value);
    }
    for (&group, value) in groups.iter().zip(&mut direction) {
        *value = (f64::from(*value) * f64::from(lengths[group]) / squares[group].sqrt()) as f32;
    }
    direction
}
