//! How a stored frame is to be seen: turned and mirrored by the display matrix.

use crate::Picture;

/// A turn by right angles, perhaps with a mirror: where a step to the right and a step down lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    right: (i64, i64),
    down: (i64, i64),
}

impl Turn {
    /// No turn.
    pub const NONE: Self = Self {
        right: (1, 0),
        down: (0, 1),
    };

    /// The turn of a display matrix: nine native 32-bit numbers, rows `a b u`, `c d v`, `x y w`, that send `(p, q)` to
    /// `(a p + c q + x, b p + d q + y)`. None for other angles.
    pub fn of_matrix(bytes: &[u8]) -> Option<Self> {
        let numbers: Vec<i32> = bytes
            .chunks_exact(4)
            .map(|number| i32::from_ne_bytes([number[0], number[1], number[2], number[3]]))
            .collect();
        let [a, b, _, c, d, ..] = numbers[..] else {
            return None;
        };
        let right = (i64::from(a.signum()), i64::from(b.signum()));
        let down = (i64::from(c.signum()), i64::from(d.signum()));
        let along = |step: (i64, i64)| step.0.abs() + step.1.abs() == 1;
        let across = right.0 * down.0 + right.1 * down.1 == 0;
        (along(right) && along(down) && across).then_some(Self { right, down })
    }

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        self.right.0 == 0
    }

    /// The frame as it is to be seen.
    pub fn apply(self, picture: Picture) -> Picture {
        if self == Self::NONE {
            return picture;
        }
        let (width, height) = match self.swaps_sides() {
            true => (picture.height, picture.width),
            false => (picture.width, picture.height),
        };
        // A step backwards begins at the far end.
        let start = |right: i64, down: i64, length: usize| match right + down < 0 {
            true => length as i64 - 1,
            false => 0,
        };
        let left = start(self.right.0, self.down.0, width);
        let top = start(self.right.1, self.down.1, height);
        let mut out = Picture::filled(width, height, [0; 3]);
        for (at, rgb) in picture.rgb.chunks_exact(3).enumerate() {
            let (column, row) = ((at % picture.width) as i64, (at / picture.width) as i64);
            let x = left + self.right.0 * column + self.down.0 * row;
            let y = top + self.right.1 * column + self.down.1 * row;
            let to = 3 * (y as usize * width + x as usize);
            out.rgb[to..to + 3].copy_from_slice(rgb);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 x 2 pixels, numbered row by row.
    fn numbered() -> Picture {
        Picture {
            width: 3,
            height: 2,
            rgb: (0..6).flat_map(|number| [number; 3]).collect(),
        }
    }

    fn turned(a: i32, b: i32, c: i32, d: i32) -> (usize, Vec<u8>) {
        let one = 1 << 16;
        let numbers = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30];
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_ne_bytes())
            .collect();
        let seen = Turn::of_matrix(&bytes).unwrap().apply(numbered());
        (seen.width, seen.rgb.iter().step_by(3).copied().collect())
    }

    #[test]
    fn frames_are_turned_and_mirrored() {
        assert_eq!(turned(1, 0, 0, 1), (3, vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(turned(-1, 0, 0, -1), (3, vec![5, 4, 3, 2, 1, 0]));
        // A quarter to the right: what was on the left is at the top, the last row first.
        assert_eq!(turned(0, 1, -1, 0), (2, vec![3, 0, 4, 1, 5, 2]));
        assert_eq!(turned(0, -1, 1, 0), (2, vec![2, 5, 1, 4, 0, 3]));
        assert_eq!(turned(-1, 0, 0, 1), (3, vec![2, 1, 0, 5, 4, 3]));
    }

    #[test]
    fn other_angles_are_no_turn() {
        let bytes = |numbers: [i32; 9]| {
            numbers
                .iter()
                .flat_map(|n| n.to_ne_bytes())
                .collect::<Vec<_>>()
        };
        assert_eq!(Turn::of_matrix(&bytes([1, 1, 0, -1, 1, 0, 0, 0, 1])), None);
        assert_eq!(Turn::of_matrix(&[]), None);
    }
}
