//! Some rows of a grid: what a convolution needs where a grid is never there as a whole.

use std::ops::Range;

use super::Grid;
use super::buffer::Aligned;
use crate::pool::{Parts, Pool};

/// Neighbouring rows of a grid, to be read.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub(super) cells: &'a [f32],
    pub(super) first: usize,
    /// Rows of the whole grid.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers of a cell.
    pub channels: usize,
}

impl<'a> Rows<'a> {
    /// Which rows of the grid they are.
    pub fn range(&self) -> Range<usize> {
        let row = (self.width * self.channels).max(1);
        self.first..self.first + self.cells.len() / row
    }

    /// The numbers of some rows, counted in the grid: `[rows, width, channels]`.
    ///
    /// # Panics
    /// If one of them is not there.
    pub fn cells(&self, rows: Range<usize>) -> &'a [f32] {
        let row = self.width * self.channels;
        &self.cells[(rows.start - self.first) * row..(rows.end - self.first) * row]
    }

    /// Those before row `end`, counted in the grid.
    ///
    /// # Panics
    /// If one of them is not there.
    pub fn until(self, end: usize) -> Self {
        let cells = self.cells(self.first..end);
        Self { cells, ..self }
    }

    /// As [`Grid::write`], these rows alone, to the planes of the whole grid.
    ///
    /// # Shapes
    /// - `planes`: `[channels / factor², height * factor, width * factor]`
    ///
    /// # Panics
    /// If there are not that many.
    pub fn write(&self, pool: &Pool, factor: usize, planes: &mut [f32]) {
        let len = self.height * self.width * self.channels;
        assert_eq!(planes.len(), len, "planes");
        let (rows, columns) = (self.height * factor, self.width * factor);
        let (first, own) = (self.first * factor, self.range().len() * factor);
        let parts = Parts::new(planes);
        pool.run(own, &|at| {
            let y = first + at;
            let from = &self.cells[at / factor * self.width * self.channels..];
            for plane in 0..self.channels / (factor * factor) {
                let start = (plane * rows + y) * columns;
                // SAFETY: a row of a plane belongs to one piece.
                let row = unsafe { parts.part(start..start + columns) };
                let first = (plane * factor + y % factor) * factor;
                for (x, value) in row.iter_mut().enumerate() {
                    *value = from[x / factor * self.channels + first + x % factor];
                }
            }
        });
    }
}

impl Rows<'_> {
    /// `factor` squared channels of a cell as `factor` by `factor` cells, as in [`Grid::write`], to the rows that `out` is.
    ///
    /// # Panics
    /// If the channels are no multiple of that, or rows are not there that `out` is made of.
    pub fn shuffle(&self, pool: &Pool, factor: usize, out: &mut RowsMut) {
        let channels = out.channels;
        assert_eq!(channels * factor * factor, self.channels, "channel axis");
        let (own, row) = (out.range(), out.width * channels);
        let parts = Parts::new(out.cells_mut());
        pool.run(own.len(), &|at| {
            let y = own.start + at;
            // SAFETY: a row belongs to one piece.
            let out = unsafe { parts.part(at * row..(at + 1) * row) };
            let from = self.cells(y / factor..y / factor + 1);
            for (x, cell) in out.chunks_exact_mut(channels).enumerate() {
                let from = &from[x / factor * self.channels..][..self.channels];
                let place = y % factor * factor + x % factor;
                for (channel, value) in cell.iter_mut().enumerate() {
                    *value = from[channel * factor * factor + place];
                }
            }
        });
    }
}

/// Neighbouring rows of a grid, to be written.
#[derive(Debug)]
pub struct RowsMut<'a> {
    pub(super) cells: &'a mut [f32],
    pub(super) first: usize,
    /// Rows of the whole grid.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers of a cell.
    pub channels: usize,
}

impl RowsMut<'_> {
    /// Which rows of the grid they are.
    pub fn range(&self) -> Range<usize> {
        let row = (self.width * self.channels).max(1);
        self.first..self.first + self.cells.len() / row
    }

    /// The numbers, `[rows, width, channels]`.
    pub fn cells_mut(&mut self) -> &mut [f32] {
        self.cells
    }
}

impl Grid {
    /// All rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows {
            cells: self.cells(),
            first: 0,
            height: self.height,
            width: self.width,
            channels: self.channels,
        }
    }

    /// Some rows, to be written.
    ///
    /// # Panics
    /// If one of them is not there.
    pub fn rows_mut(&mut self, rows: Range<usize>) -> RowsMut<'_> {
        let (height, width, channels) = (self.height, self.width, self.channels);
        let row = width * channels;
        RowsMut {
            cells: &mut self.cells_mut()[rows.start * row..rows.end * row],
            first: rows.start,
            height,
            width,
            channels,
        }
    }
}

/// Rows of a grid that came and are still needed: they come from above to below, and the topmost are let go of first.
#[derive(Debug)]
pub struct Strip {
    cells: Aligned<f32>,
    rows: Range<usize>,
    /// Rows of the whole grid.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers of a cell.
    pub channels: usize,
}

impl Strip {
    /// No row of a grid of this size yet.
    pub fn new(height: usize, width: usize, channels: usize) -> Self {
        Self {
            cells: Aligned::default(),
            rows: 0..0,
            height,
            width,
            channels,
        }
    }

    /// Back to no row; the memory is kept for those that come.
    pub fn clear(&mut self) {
        self.rows = 0..0;
    }

    /// Which rows of the grid are there.
    pub fn range(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Numbers that there is room for.
    pub fn room(&self) -> usize {
        self.cells.len()
    }

    /// The rows that are there.
    pub fn rows(&self) -> Rows<'_> {
        Rows {
            cells: &self.cells[..self.rows.len() * self.width * self.channels],
            first: self.rows.start,
            height: self.height,
            width: self.width,
            channels: self.channels,
        }
    }

    /// Makes room for the next rows, up to row `end` of the grid; what their numbers are is left open.
    pub fn extend(&mut self, end: usize) -> RowsMut<'_> {
        let row = self.width * self.channels;
        let old = self.rows.len() * row;
        let len = (end - self.rows.start) * row;
        if self.cells.len() < len {
            let mut more = Aligned::zeros(len);
            more[..old].copy_from_slice(&self.cells[..old]);
            self.cells = more;
        }
        let first = std::mem::replace(&mut self.rows.end, end);
        RowsMut {
            cells: &mut self.cells[old..len],
            first,
            height: self.height,
            width: self.width,
            channels: self.channels,
        }
    }

    /// Lets go of the rows before row `start` of the grid.
    pub fn forget(&mut self, start: usize) {
        let row = self.width * self.channels;
        let start = start.clamp(self.rows.start, self.rows.end);
        let gone = (start - self.rows.start) * row;
        self.cells.copy_within(gone..self.rows.len() * row, 0);
        self.rows.start = start;
    }
}
