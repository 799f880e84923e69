//! Grids of cells, and the memory that they take.

use super::buffer::Aligned;
use crate::pool::Pool;

/// Cells of one picture, channels last: `[height, width, channels]`.
#[derive(Debug, Clone, Default)]
pub struct Grid {
    cells: Aligned<f32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers of a cell.
    pub channels: usize,
}

impl Grid {
    /// A grid of zeros.
    pub fn zeros(height: usize, width: usize, channels: usize) -> Self {
        let cells = Aligned::zeros(height * width * channels);
        Self {
            cells,
            height,
            width,
            channels,
        }
    }

    /// The numbers, `[height, width, channels]`.
    pub fn cells(&self) -> &[f32] {
        &self.cells[..self.height * self.width * self.channels]
    }

    /// The numbers, to be changed.
    pub fn cells_mut(&mut self) -> &mut [f32] {
        &mut self.cells[..self.height * self.width * self.channels]
    }

    /// From channels first.
    ///
    /// # Shapes
    /// - `planes`: `[channels, height, width]`
    ///
    /// # Panics
    /// If there are not that many.
    pub fn read(planes: &[f32], height: usize, width: usize, channels: usize) -> Self {
        assert_eq!(planes.len(), channels * height * width, "planes");
        let mut grid = Self::zeros(height, width, channels);
        for (channel, plane) in planes.chunks_exact((height * width).max(1)).enumerate() {
            for (at, value) in plane.iter().enumerate() {
                grid.cells[at * channels + channel] = *value;
            }
        }
        grid
    }

    /// To channels first, `factor` squared channels of a cell side by side as `factor` by `factor` cells (Shi et al. 2016,
    /// equation 4, as PyTorch orders channels).
    ///
    /// # Shapes
    /// - `planes`: `[channels / factor², height * factor, width * factor]`
    ///
    /// # Panics
    /// If there are not that many.
    pub fn write(&self, pool: &Pool, factor: usize, planes: &mut [f32]) {
        self.rows().write(pool, factor, planes);
    }

    /// `factor` squared channels of a cell as `factor` by `factor` cells, as in [`Grid::write`].
    ///
    /// # Panics
    /// If the channels are no multiple of that.
    pub fn shuffled(&self, pool: &Pool, planes: &mut Planes, factor: usize) -> Self {
        let channels = self.channels / (factor * factor);
        assert_eq!(channels * factor * factor, self.channels, "channel axis");
        let mut out = planes.take(self.height * factor, self.width * factor, channels);
        let height = out.height;
        self.rows()
            .shuffle(pool, factor, &mut out.rows_mut(0..height));
        out
    }
}

/// Memory of grids that are no longer needed, for the next ones: the system gives fresh memory slowly.
#[derive(Debug, Default)]
pub struct Planes {
    spare: Vec<Aligned<f32>>,
}

impl Planes {
    /// A grid whose numbers are left open.
    pub fn take(&mut self, height: usize, width: usize, channels: usize) -> Grid {
        let len = height * width * channels;
        self.spare.sort_by_key(|cells| cells.len());
        let fit = self.spare.iter().position(|cells| cells.len() >= len);
        let cells = match fit {
            Some(at) => self.spare.remove(at),
            None => {
                // What is too small now stays so: grids grow on their way to the picture.
                self.spare.clear();
                Aligned::zeros(len)
            }
        };
        Grid {
            cells,
            height,
            width,
            channels,
        }
    }

    /// Takes a grid's memory back.
    pub fn give(&mut self, grid: Grid) {
        self.spare.push(grid.cells);
    }
}
