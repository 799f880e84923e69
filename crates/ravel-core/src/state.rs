//! What a backbone remembers between steps.

use std::ops::Range;

use burn::tensor::{Bool, Tensor};

use crate::generate::select_rows;

/// What one layer remembers of earlier positions.
#[derive(Debug, Clone)]
pub struct LayerState {
    /// Rotated keys, `[batch, n_kv_heads, capacity, head_width]`.
    pub keys: Tensor<4>,
    /// Values, same shape.
    pub values: Tensor<4>,
}

/// What a backbone remembers between steps: keys and values per layer, in room reserved up front.
///
/// `layers` is empty until the first step fills it in.
#[derive(Debug, Clone)]
pub struct State {
    /// One entry per layer.
    pub layers: Vec<LayerState>,
    /// Keys and values of each layer's cross-attention, projected once: `[batch, heads, m, head_width]`.
    pub cross: Vec<LayerState>,
    /// Positions in use, the same in every layer.
    pub len: usize,
    /// Positions reserved.
    pub capacity: usize,
    /// Rows.
    pub batch: usize,
    /// Only the latest `window` positions are kept in sight, if set.
    pub window: Option<usize>,
    /// Positions that no query may see (padding of a prompt), `[batch, len]`, if any were ever hidden.
    pub hidden: Option<Tensor<2, Bool>>,
}

impl State {
    /// An empty state with room for `capacity` positions in each of `batch` rows.
    pub fn new(batch: usize, capacity: usize) -> Self {
        Self {
            layers: Vec::new(),
            cross: Vec::new(),
            len: 0,
            capacity,
            batch,
            window: None,
            hidden: None,
        }
    }

    /// Forgets all but the first `len` positions. The room stays reserved; what follows overwrites it.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// A state with room for `capacity` positions that remembers the first `len` ones of this one.
    ///
    /// # Panics
    /// If fewer are in use, or there is no room for them.
    pub fn beginning(&self, len: usize, capacity: usize) -> Self {
        assert!(
            len <= self.len && len <= capacity,
            "position axis: {len} of {} positions into room for {capacity}",
            self.len
        );
        let copied = |all: &Tensor<4>| {
            let [batch, heads, _, width] = all.dims();
            let shape = [batch, heads, capacity, width];
            let room = Tensor::zeros(shape, (&all.device(), all.dtype()));
            room.slice_assign([0..batch, 0..heads, 0..len, 0..width], between(all, 0..len))
        };
        let layers = self.layers.iter().filter(|_| len > 0);
        Self {
            layers: layers
                .map(|layer| LayerState {
                    keys: copied(&layer.keys),
                    values: copied(&layer.values),
                })
                .collect(),
            cross: self.cross.clone(),
            len,
            capacity,
            batch: self.batch,
            window: self.window,
            hidden: self.hidden.clone(),
        }
    }

    /// Keeps some rows, in any order and as often as they are named: how beams are reordered and a row becomes several.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&mut self, rows: &[usize]) {
        if rows.len() == self.batch && rows.iter().enumerate().all(|(at, row)| at == *row) {
            return;
        }
        for layer in self.layers.iter_mut().chain(&mut self.cross) {
            layer.keys = select_rows(layer.keys.clone(), rows);
            layer.values = select_rows(layer.values.clone(), rows);
        }
        self.hidden = self
            .hidden
            .take()
            .map(|hidden| select_rows(hidden.float(), rows).greater_elem(0.5));
        self.batch = rows.len();
    }

    /// Forgets the positions of a range; later ones move up. The room stays reserved.
    ///
    /// # Panics
    /// If the range is not in use, or positions were hidden.
    pub fn remove(&mut self, range: Range<usize>) {
        let rest = self.split_off(range.start);
        let count = range.len();
        self.append(&rest.part(count));
    }

    /// Takes the positions from `at` on out of the state.
    ///
    /// # Panics
    /// As [`State::remove`].
    pub fn split_off(&mut self, at: usize) -> Tail {
        assert!(at <= self.len, "position axis: {at} is beyond {}", self.len);
        assert!(
            self.hidden.is_none(),
            "positions of a padded prompt cannot be moved"
        );
        let layers = self.layers.iter().map(|layer| LayerState {
            keys: between(&layer.keys, at..self.len),
            values: between(&layer.values, at..self.len),
        });
        let tail = Tail {
            layers: layers.collect(),
            len: self.len - at,
        };
        self.len = at;
        tail
    }

    /// Puts positions behind those in use.
    ///
    /// # Panics
    /// If there is no room for them.
    pub fn append(&mut self, tail: &Tail) {
        assert!(
            tail.len <= self.room(),
            "position axis: {} positions, room for {}",
            tail.len,
            self.room()
        );
        if tail.len == 0 {
            return;
        }
        let start = self.len;
        let layers = std::mem::take(&mut self.layers);
        for (layer, tail) in layers.into_iter().zip(&tail.layers) {
            let [batch, heads, n, width] = tail.keys.dims();
            let place = [0..batch, 0..heads, start..start + n, 0..width];
            self.layers.push(LayerState {
                keys: layer.keys.slice_assign(place.clone(), tail.keys.clone()),
                values: layer.values.slice_assign(place, tail.values.clone()),
            });
        }
        self.len += tail.len;
    }

    /// Makes sure that `n` positions may be appended: forgets what lies outside the window by then, and reserves more room where
    /// that is not enough. So a state with a window serves an endless sequence.
    ///
    /// Positions that were forgotten are no longer counted in [`State::len`]: only rotary coordinates, which come with the input,
    /// still tell how far a sequence has come.
    pub fn make_room(&mut self, n: usize) {
        if self.room() >= n {
            return;
        }
        let keep = match self.window {
            Some(window) => self.len.min(window.saturating_sub(1)),
            None => self.len,
        };
        let grown = match self.window {
            Some(_) => self.capacity,
            None => 2 * self.capacity,
        };
        let (from, to) = (self.len - keep, self.len);
        self.capacity = grown.max(keep + n);
        let capacity = self.capacity;
        let moved = |all: &Tensor<4>| {
            let [batch, heads, _, width] = all.dims();
            let room = Tensor::zeros(
                [batch, heads, capacity, width],
                (&all.device(), all.dtype()),
            );
            let kept = all.clone().slice([0..batch, 0..heads, from..to, 0..width]);
            room.slice_assign([0..batch, 0..heads, 0..keep, 0..width], kept)
        };
        for layer in self.layers.iter_mut().filter(|_| keep > 0) {
            layer.keys = moved(&layer.keys);
            layer.values = moved(&layer.values);
        }
        if keep == 0 {
            self.layers.clear();
        }
        self.hidden = self.hidden.take().map(|hidden| {
            let [batch, known] = hidden.dims();
            hidden.slice([0..batch, from.min(known)..known])
        });
        self.len = keep;
    }

    /// Positions that may still be appended.
    pub fn room(&self) -> usize {
        self.capacity - self.len
    }
}

/// Positions that were taken out of a [`State`].
#[derive(Debug, Clone)]
pub struct Tail {
    layers: Vec<LayerState>,
    len: usize,
}

impl Tail {
    /// Without the first `count` positions.
    fn part(self, count: usize) -> Self {
        let len = self.len;
        let layers = self.layers.iter().map(|layer| LayerState {
            keys: between(&layer.keys, count..len),
            values: between(&layer.values, count..len),
        });
        Self {
            layers: layers.collect(),
            len: len - count,
        }
    }
}

/// Some positions of keys or values.
fn between(all: &Tensor<4>, positions: Range<usize>) -> Tensor<4> {
    let [batch, heads, _, width] = all.dims();
    all.clone().slice([0..batch, 0..heads, positions, 0..width])
}
