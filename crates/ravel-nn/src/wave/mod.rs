//! Layers over time, for sound: convolutions and transposed convolutions with the padding rules of the published codecs, the
//! recurrence, activation and blocks that they are built with.
//!
//! Every layer without a norm over time also works in pieces: `start` gives a state and `step` takes what has arrived. All
//! pieces together give what `forward` gives for the whole; how much comes out of one `step` is up to the layer.
//! Shapes: `b` batch, `c` channels, `t` time.

mod conv;
mod conv_next;
mod lstm;
mod noise;
mod pad;
mod piece;
mod snake;
mod snake_net;
mod spectrum;
mod stream;
mod time_norm;
mod window;

pub use conv::{Fit, WaveConv, WaveConvConfig};
pub use conv_next::{ConvNext, ConvNextConfig, ConvNextState};
pub use lstm::{Lstm, LstmState};
pub use noise::{GivenNoise, NoiseSource, SeededNoise};
pub use pad::{PadKind, pad_time};
pub use piece::{Aligned, Piece, joined, len_of};
pub use snake::Snake;
pub use snake_net::{SnakeDecoder, SnakeEncoder, SnakeLayer, SnakeNetConfig, SnakeVariant};
pub use spectrum::{OverlayState, ShortTime, ShortTimeConfig};
pub use stream::WaveConvState;
pub use time_norm::TimeNorm;
pub use window::WindowAttention;
