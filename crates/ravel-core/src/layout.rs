//! How code positions are arranged, and the units in which they are predicted.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How positions are arranged. The flat order is fixed per kind (row-major within a grid, coarse scales
/// first, early frames first), so a span of positions is enough to name a unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Layout {
    /// `len` positions in a row: text, or audio frames.
    Sequence {
        /// Number of positions.
        len: usize,
    },
    /// One grid, row-major: an image of codes.
    Grid {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// Grids from coarse to fine, each row-major.
    Scales {
        /// `(height, width)` of each scale, coarsest first.
        sides: Vec<(usize, usize)>,
    },
    /// Equal grids in time, earliest first.
    Frames {
        /// Number of frames.
        frames: usize,
        /// Rows of a frame.
        height: usize,
        /// Columns of a frame.
        width: usize,
    },
}

/// What one step fills in: a token, a scale, or a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Which unit, from zero.
    pub index: usize,
    /// The flat positions that it covers.
    pub span: Range<usize>,
}

impl Unit {
    /// Number of positions in the unit.
    pub fn len(&self) -> usize {
        self.span.len()
    }

    /// Whether the unit covers no position.
    pub fn is_empty(&self) -> bool {
        self.span.is_empty()
    }
}

impl Layout {
    /// Square scales with the given sides, coarsest first.
    pub fn square_scales(sides: &[usize]) -> Self {
        Self::Scales {
            sides: sides.iter().map(|&side| (side, side)).collect(),
        }
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        match self {
            Self::Sequence { len } => *len,
            Self::Grid { height, width } => height * width,
            Self::Scales { sides } => sides.iter().map(|(height, width)| height * width).sum(),
            Self::Frames {
                frames,
                height,
                width,
            } => frames * height * width,
        }
    }

    /// Whether there is no position at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One unit per position: the order of next-token prediction.
    pub fn tokens(&self) -> Vec<Unit> {
        units_of(std::iter::repeat_n(1, self.len()))
    }

    /// One unit per scale or frame, or the whole layout where it has neither: the order of next-scale
    /// and next-frame prediction.
    pub fn blocks(&self) -> Vec<Unit> {
        match self {
            Self::Sequence { .. } | Self::Grid { .. } => units_of([self.len()]),
            Self::Scales { sides } => units_of(sides.iter().map(|(height, width)| height * width)),
            Self::Frames {
                frames,
                height,
                width,
            } => units_of(std::iter::repeat_n(height * width, *frames)),
        }
    }

    /// Coordinates of each position: `[index]` for a sequence, `[row, column]` for a grid,
    /// `[scale, row, column]` or `[frame, row, column]` otherwise.
    pub fn coords(&self) -> Vec<Vec<usize>> {
        let grid = |lead: Option<usize>, height: usize, width: usize| {
            (0..height * width).map(move |at| {
                let place = [at / width, at % width];
                lead.into_iter().chain(place).collect::<Vec<_>>()
            })
        };
        match self {
            Self::Sequence { len } => (0..*len).map(|index| vec![index]).collect(),
            Self::Grid { height, width } => grid(None, *height, *width).collect(),
            Self::Scales { sides } => sides
                .iter()
                .enumerate()
                .flat_map(|(scale, &(height, width))| grid(Some(scale), height, width))
                .collect(),
            Self::Frames {
                frames,
                height,
                width,
            } => (0..*frames)
                .flat_map(|frame| grid(Some(frame), *height, *width))
                .collect(),
        }
    }

    /// The layout in a few words, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Sequence { len } => format!("a sequence of {len}"),
            Self::Grid { height, width } => format!("a grid of {height} x {width}"),
            Self::Scales { sides } => {
                let sides: Vec<_> = sides.iter().map(|(h, w)| format!("{h}x{w}")).collect();
                format!("scales {}", sides.join(" "))
            }
            Self::Frames {
                frames,
                height,
                width,
            } => format!("{frames} frames of {height} x {width}"),
        }
    }
}

fn units_of(lengths: impl IntoIterator<Item = usize>) -> Vec<Unit> {
    let mut start = 0;
    lengths
        .into_iter()
        .enumerate()
        .map(|(index, len)| {
            let span = start..start + len;
            start = span.end;
            Unit { index, span }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_tiles(layout: Layout) {
        for units in [layout.tokens(), layout.blocks()] {
            let covered: Vec<usize> = units.iter().flat_map(|unit| unit.span.clone()).collect();
            assert_eq!(covered, (0..layout.len()).collect::<Vec<_>>(), "{layout:?}");
        }
        assert_eq!(layout.coords().len(), layout.len());
    }

    #[test]
    fn units_tile_every_layout_once() {
        check_tiles(Layout::Sequence { len: 7 });
        check_tiles(Layout::Grid {
            height: 3,
            width: 5,
        });
        check_tiles(Layout::square_scales(&[1, 2, 3, 4]));
        check_tiles(Layout::Frames {
            frames: 3,
            height: 2,
            width: 4,
        });
        check_tiles(Layout::Sequence { len: 0 });
    }

    #[test]
    fn coordinates_count_rows_then_columns() {
        let coords = Layout::square_scales(&[1, 2]).coords();
        assert_eq!(coords[0], [0, 0, 0]);
        assert_eq!(coords[2], [1, 0, 1]);
        assert_eq!(coords[3], [1, 1, 0]);
    }
}
