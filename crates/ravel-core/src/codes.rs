//! Codes: the discrete form of a signal, and the only memory of what was chosen.

use std::ops::RangeInclusive;

use burn::tensor::{Int, Tensor};

use crate::{Error, Layout, Result, Unit};

/// Ids into codebooks, with the layout of their positions.
///
/// While a generation is under way the tensor holds a prefix of the layout: `filled() <= layout.len()`.
#[derive(Debug, Clone)]
pub struct Codes {
    /// `[batch, depth, position]`, each id in `0..codebook_size` of its depth.
    pub ids: Tensor<3, Int>,
    /// How the positions are arranged once all are filled.
    pub layout: Layout,
}

impl Codes {
    /// Codes of one codebook per position.
    ///
    /// # Shapes
    /// - `ids`: `[batch, position]`
    pub fn flat(ids: Tensor<2, Int>, layout: Layout) -> Self {
        Self {
            ids: ids.unsqueeze_dim(1),
            layout,
        }
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.ids.dims()[0]
    }

    /// Codebooks per position.
    pub fn depth(&self) -> usize {
        self.ids.dims()[1]
    }

    /// Positions that hold an id.
    pub fn filled(&self) -> usize {
        self.ids.dims()[2]
    }

    /// Ids of one codebook.
    ///
    /// # Shapes
    /// - returns: `[batch, position]`
    pub fn at_depth(&self, depth: usize) -> Tensor<2, Int> {
        self.ids.clone().narrow(1, depth, 1).squeeze_dim(1)
    }

    /// The ids of one unit.
    ///
    /// # Shapes
    /// - returns: `[batch, depth, unit.len()]`
    ///
    /// # Panics
    /// If the unit is not filled.
    pub fn of_unit(&self, unit: &Unit) -> Tensor<3, Int> {
        assert!(
            unit.span.end <= self.filled(),
            "position axis: unit {} ends at {}, only {} are filled",
            unit.index,
            unit.span.end,
            self.filled()
        );
        let [batch, depth, _] = self.ids.dims();
        self.ids
            .clone()
            .slice([0..batch, 0..depth, unit.span.clone()])
    }

    /// Appends the ids of the next unit.
    ///
    /// # Shapes
    /// - `ids`: `[batch, depth, n]`
    pub fn extend(&mut self, ids: Tensor<3, Int>) {
        self.ids = if self.filled() == 0 {
            ids
        } else {
            Tensor::cat(vec![self.ids.clone(), ids], 2)
        };
    }

    /// Keeps the first `len` positions: how a rejected draft is taken back.
    pub fn truncate(&mut self, len: usize) {
        let [batch, depth, filled] = self.ids.dims();
        self.ids = self
            .ids
            .clone()
            .slice([0..batch, 0..depth, 0..len.min(filled)]);
    }

    /// Rows `start..start + rows`.
    pub fn rows(&self, start: usize, rows: usize) -> Self {
        Self {
            ids: self.ids.clone().narrow(0, start, rows),
            layout: self.layout.clone(),
        }
    }

    /// The ids on the host, row by row, `depth * position` each.
    ///
    /// Waits for the device.
    pub fn to_host(&self) -> Vec<Vec<u32>> {
        let [batch, depth, filled] = self.ids.dims();
        let flat: Vec<u32> = self
            .ids
            .to_data()
            .convert::<u32>()
            .try_into_vec()
            .expect("ids were converted to u32");
        match depth * filled {
            0 => vec![Vec::new(); batch],
            row => flat.chunks(row).map(<[u32]>::to_vec).collect(),
        }
    }

    /// Checks that the layout is `layout`, that it is full and that every id is below `codebook_size`.
    ///
    /// # Errors
    /// [`Error::Codes`] names the first thing that differs.
    pub fn check(&self, layout: &Layout, depth: usize, codebook_size: usize) -> Result<()> {
        let wrong = |found: String, expected: String| Err(Error::Codes { found, expected });
        if self.layout != *layout {
            return wrong(self.layout.describe(), layout.describe());
        }
        if self.filled() != layout.len() {
            return wrong(
                format!("{} filled positions", self.filled()),
                format!("{}", layout.len()),
            );
        }
        self.check_ids(depth..=depth, codebook_size)
    }

    /// Checks the depth, and that every id is below `codebook_size`.
    ///
    /// # Errors
    /// [`Error::Codes`] names the first thing that differs.
    pub fn check_ids(&self, depth: RangeInclusive<usize>, codebook_size: usize) -> Result<()> {
        let wrong = |found: String, expected: String| Err(Error::Codes { found, expected });
        if !depth.contains(&self.depth()) {
            let expected = match depth.start() == depth.end() {
                true => format!("depth {}", depth.end()),
                false => format!("depth {} to {}", depth.start(), depth.end()),
            };
            return wrong(format!("depth {}", self.depth()), expected);
        }
        let largest = self.to_host().into_iter().flatten().max().unwrap_or(0);
        if largest as usize >= codebook_size {
            return wrong(
                format!("id {largest}"),
                format!("an id below {codebook_size}"),
            );
        }
        Ok(())
    }
}
