//! Which of a decoder's layers hold a picture's grids whole, and which work on strips of them.

use super::{Layers, Step};

/// Bytes that a decoder's layers hold at once where nothing else is said: 2 GiB, enough for the largest pictures of published models
/// (Infinity's, 1024×1024) to be decoded whole.
pub const HELD: usize = 2 << 30;

/// Rows of a strip for each thread, two bands of a convolution.
const EACH: usize = 16;
/// The least rows of a strip.
const LEAST: usize = 8;

/// Height, width and channels of a grid.
pub(super) type Size = [usize; 3];

/// How the layers go about a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Whether each of the first layers holds no more than what comes in and what goes out, if it has a choice. The other layers, behind
    /// them, work on strips.
    pub sparing: Vec<bool>,
    /// Rows of strips, counted at the finest grid.
    pub rows: usize,
    /// Of what the last layer makes.
    pub out: Size,
}

impl Layers {
    /// How to keep within so many bytes beside the picture: layers are whole as long as they fit, and those behind the last attention
    /// between all cells need not be. `from` is the size of the latents.
    pub(super) fn plan(&self, from: Size, bytes: usize, threads: usize) -> Plan {
        let most = bytes / size_of::<f32>();
        let attention = |step: &Step| matches!(step, Step::Attention(_));
        let first = self
            .steps
            .iter()
            .rposition(attention)
            .map_or(0, |at| at + 1);
        let (mut size, mut sparing, mut strips) = (from, Vec::new(), Vec::new());
        for (at, step) in self.steps.iter().enumerate() {
            if at >= first && step.held(size, true) > most {
                break;
            }
            sparing.push(step.held(size, false) > most);
            if sparing[at] {
                strips.push((&self.steps[at..=at], size, step.held(size, true)));
            }
            size = step.out(size);
        }
        let in_strips = &self.steps[sparing.len()..];
        strips.push((in_strips, size, numbers(size)));
        let out = in_strips.iter().fold(size, |size, step| step.out(size));
        let fits = |rows: usize| {
            strips.iter().all(|(steps, from, whole)| {
                let room = (most / 4).min(most.saturating_sub(*whole));
                held_in_strips(steps, *from, rows) <= room
            })
        };
        let rows = (0..)
            .map(|halved| (EACH * threads) >> halved)
            .find(|rows| *rows <= LEAST || fits(*rows));
        Plan {
            sparing,
            rows: rows
                .expect("a number that is halved becomes small")
                .max(LEAST),
            out,
        }
    }
}

/// Numbers that layers hold whose strips have so many rows at the finest grid.
pub(super) fn held_in_strips(steps: &[Step], from: Size, rows: usize) -> usize {
    let finest = steps.iter().fold(from, |size, step| step.out(size))[0];
    let mut size = from;
    let each = steps.iter().enumerate().map(|(at, step)| {
        size = step.out(size);
        let [height, width, channels] = size;
        // What is asked for at a time, in whole bands; a band that a convolution sees into, and what it sees above.
        let asked = (rows * height).div_ceil(finest.max(1));
        let seen = asked.next_multiple_of(LEAST) + LEAST + 2;
        let out = match steps.get(at + 1) {
            // Two convolutions see into bands of what comes into a block.
            Some(Step::Residual(_)) => seen + LEAST,
            _ => seen,
        };
        (out.min(height) * channels + seen.min(height) * step.inner()) * width
    });
    each.sum()
}

fn numbers(size: Size) -> usize {
    size.iter().product()
}

impl Step {
    /// The size of what it makes of a grid.
    pub(super) fn out(&self, [height, width, channels]: Size) -> Size {
        match self {
            Self::Conv(conv) | Self::Bent(_, _, conv) => [height, width, conv.channels()],
            Self::Residual(residual) => [height, width, residual.convs[1].channels()],
            Self::Attention(_) => [height, width, channels],
            Self::Double(conv) => [2 * height, 2 * width, conv.channels()],
            Self::Shuffle => [2 * height, 2 * width, channels / 4],
        }
    }

    /// Channels between the convolutions of a residual block.
    pub(super) fn inner(&self) -> usize {
        match self {
            Self::Residual(residual) => residual.convs[0].channels(),
            _ => 0,
        }
    }

    /// Numbers of whole grids that it holds at once, what comes in among them.
    pub(super) fn held(&self, from: Size, sparing: bool) -> usize {
        let [height, width, _] = from;
        match self {
            Self::Residual(residual) => {
                let inner = if sparing { 0 } else { self.inner() };
                let shortcut = residual.shortcut.as_ref();
                let out = shortcut.map_or(0, |conv| conv.channels());
                numbers(from) + height * width * (inner + out)
            }
            _ => numbers(from) + numbers(self.out(from)),
        }
    }
}
