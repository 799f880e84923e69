//! A convolution in pieces: what has arrived but is still needed waits in a state.

use burn::module::Param;
use burn::tensor::Tensor;

use super::conv::{Fit, WaveConv};
use super::pad::{PadKind, pad_time};
use super::piece::{Piece, between, joined, len_of};

/// What a convolution remembers between pieces.
#[derive(Debug, Clone, Default)]
pub struct WaveConvState {
    /// Samples that frames to come need, padded on the left; of a transposed convolution, what it has written beyond its time.
    kept: Piece,
    /// Of `kept`, samples that no frame needs but that the right end may mirror.
    past: usize,
    /// Samples that have arrived.
    arrived: usize,
    /// Whether the left end has been dealt with.
    begun: bool,
    /// Samples that are still to be taken off the left.
    to_trim: usize,
}

impl WaveConv {
    /// The state before the first piece.
    ///
    /// # Panics
    /// If the layer has a norm: that needs the whole signal.
    pub fn start(&self) -> WaveConvState {
        assert!(
            self.norm.is_none(),
            "time axis: a layer with a norm over time needs the whole signal"
        );
        let to_trim = match self.fit {
            Fit::Transposed { left, .. } => left,
            _ => 0,
        };
        WaveConvState {
            to_trim,
            ..WaveConvState::default()
        }
    }

    /// The frames that this piece decides; with `last`, all that are left.
    ///
    /// # Shapes
    /// - `piece`: `[b, from, any]`
    /// - returns: `[b, to, any]`
    pub fn step(&self, piece: Piece, last: bool, state: &mut WaveConvState) -> Piece {
        match self.fit {
            Fit::Transposed { right, .. } => self.step_spread(piece, last, right, state),
            _ => self.step_gathered(piece, last, state),
        }
    }

    fn step_gathered(&self, piece: Piece, last: bool, state: &mut WaveConvState) -> Piece {
        state.arrived += len_of(&piece);
        state.kept = joined(state.kept.take(), piece);
        let (left, most_right, kind) = self.widest_ends();
        if !state.begun {
            let needed = match kind {
                PadKind::Zero | PadKind::Replicate => 1,
                PadKind::Reflect => left.max(most_right) + 1,
            };
            if last {
                // Too short to have begun: the rules for the whole signal say what becomes of it.
                let whole = state.kept.take()?;
                let (left, right, _) = self.ends(state.arrived);
                let fits = left + state.arrived + right >= self.reach();
                return fits.then(|| self.forward(whole));
            }
            if state.arrived < needed {
                return None;
            }
            state.begun = true;
            state.kept = state.kept.take().map(|kept| pad_time(kept, left, 0, kind));
        }
        if last {
            let (_, right, _) = self.ends(state.arrived);
            state.kept = state.kept.take().map(|kept| pad_time(kept, 0, right, kind));
        }
        self.frames(most_right, state)
    }

    /// All whole frames of what is kept.
    fn frames(&self, most_right: usize, state: &mut WaveConvState) -> Piece {
        let kept = state.kept.take()?;
        let len = kept.dims()[2];
        let frames = match (len - state.past).checked_sub(self.reach()) {
            Some(rest) => rest / self.stride + 1,
            None => {
                state.kept = Some(kept);
                return None;
            }
        };
        let end = state.past + (frames - 1) * self.stride + self.reach();
        let seen = between(&kept, state.past, end)?;
        let next = state.past + frames * self.stride;
        let from = next.min(len.saturating_sub(most_right + 1));
        state.past = next - from;
        state.kept = between(&kept, from, len);
        Some(self.gathered(seen))
    }

    /// Padding on the left, and the most that a signal of any length gets on the right.
    fn widest_ends(&self) -> (usize, usize, PadKind) {
        let (left, right, kind) = self.ends(self.stride);
        match self.fit {
            Fit::Even(_) => (left, right, kind),
            _ => (left, right + self.stride - 1, kind),
        }
    }

    fn step_spread(
        &self,
        piece: Piece,
        last: bool,
        right: usize,
        state: &mut WaveConvState,
    ) -> Piece {
        let surplus = self.kernel.saturating_sub(self.stride);
        let carried = state.kept.take();
        let ready = match piece {
            Some(piece) => {
                let time = piece.dims()[2] * self.stride;
                let spread = overlaid(self.spread(piece, None), carried);
                state.kept = between(&spread, time, time + surplus);
                between(&spread, 0, time)
            }
            None => {
                state.kept = carried;
                None
            }
        };
        let rest = match last {
            true => state
                .kept
                .take()
                .and_then(|kept| between(&kept, 0, surplus - right.min(surplus))),
            false => None,
        };
        let ready = joined(ready, rest)?;
        let len = ready.dims()[2];
        let trimmed = state.to_trim.min(len);
        state.to_trim -= trimmed;
        between(&ready, trimmed, len).map(|ready| self.biased(ready))
    }

    fn biased(&self, x: Tensor<3>) -> Tensor<3> {
        match self.bias.as_ref().map(Param::val) {
            Some(bias) => {
                let channels = bias.dims()[0];
                x + bias.reshape([1, channels, 1])
            }
            None => x,
        }
    }
}

/// `x` with what was written beyond the last piece added to its beginning.
fn overlaid(x: Tensor<3>, carried: Piece) -> Tensor<3> {
    let Some(carried) = carried else {
        return x;
    };
    let [batch, channels, len] = carried.dims();
    let place = [0..batch, 0..channels, 0..len];
    let sum = x.clone().slice(place.clone()) + carried;
    x.slice_assign(place, sum)
}
