//! Laws of the layers over time: pieces give what the whole gives, rows do not see each other, and the padding rules.

use burn::tensor::Tensor;
use ravel_nn::wave::*;
use ravel_testkit::{assert_close, device, formula, values};

/// Rounding of sums in another order.
const BOUND: f32 = 2e-6;

/// `x` in pieces of these lengths, over and over, through `step`; the last piece is told so, or nothing follows it.
fn in_pieces(
    x: &Tensor<3>,
    lengths: &[usize],
    announced: bool,
    mut step: impl FnMut(Piece, bool) -> Piece,
) -> Piece {
    let [batch, channels, time] = x.dims();
    let (mut at, mut whole) = (0, None);
    for &length in lengths.iter().cycle() {
        let end = (at + length).min(time);
        let piece = (end > at).then(|| x.clone().slice([0..batch, 0..channels, at..end]));
        at = end;
        let last = announced && at == time;
        whole = joined(whole, step(piece, last));
        if last {
            return whole;
        }
        if at == time {
            return joined(whole, step(None, true));
        }
    }
    unreachable!("lengths are given")
}

fn check_conv(config: &WaveConvConfig) {
    let conv = config.init(&device());
    for time in [1, 2, 3, 5, 8, 13, 31] {
        let x = formula([2, config.channels[0], time], 3, 1.0, &device());
        if let Fit::Even(zeros) = config.fit
            && time + 2 * zeros < (config.kernel - 1) * config.dilation + 1
        {
            continue;
        }
        let whole = conv.forward(x.clone());
        for lengths in [&[1][..], &[2, 0, 3], &[7], &[40]] {
            for announced in [true, false] {
                let mut state = conv.start();
                let found = in_pieces(&x, lengths, announced, |piece, last| {
                    conv.step(piece, last, &mut state)
                });
                let name = format!("{config:?}, {time} samples in {lengths:?}");
                let found = found.unwrap_or_else(|| panic!("{name}: nothing came out"));
                assert_close(&name, &found, &whole, BOUND);
            }
        }
        let row = conv.forward(x.clone().narrow(0, 1, 1));
        assert_close("row", &row, &whole.narrow(0, 1, 1), BOUND);
    }
}

#[test]
fn a_convolution_in_pieces_is_the_convolution() {
    for kind in [PadKind::Zero, PadKind::Reflect, PadKind::Replicate] {
        for fit in [Fit::Causal(kind), Fit::Centered(kind)] {
            for (kernel, stride, dilation) in [
                (1, 1, 1),
                (7, 1, 1),
                (3, 1, 4),
                (4, 2, 1),
                (10, 5, 1),
                (3, 3, 1),
                (5, 3, 1),
            ] {
                check_conv(&WaveConvConfig {
                    stride,
                    dilation,
                    ..WaveConvConfig::new(2, 4, kernel, fit)
                });
            }
        }
    }
    for (kernel, stride, dilation, zeros) in [(7, 1, 3, 9), (10, 5, 1, 3), (6, 3, 1, 2)] {
        check_conv(&WaveConvConfig {
            stride,
            dilation,
            groups: 2,
            ..WaveConvConfig::new(2, 4, kernel, Fit::Even(zeros))
        });
    }
}

#[test]
fn a_transposed_convolution_in_pieces_is_the_transposed_convolution() {
    for (kernel, stride) in [(4, 2), (10, 5), (3, 3), (7, 3)] {
        for fit in [
            Fit::causal_transposed(kernel, stride, 1.0),
            Fit::causal_transposed(kernel, stride, 0.3),
            Fit::centered_transposed(kernel, stride),
        ] {
            for (groups, bias) in [(1, true), (2, false)] {
                check_conv(&WaveConvConfig {
                    stride,
                    groups,
                    bias,
                    ..WaveConvConfig::new(2, 4, kernel, fit)
                });
            }
        }
    }
    for output_padding in [0, 1] {
        let fit = Fit::padded_transposed(2, output_padding);
        check_conv(&WaveConvConfig {
            stride: 3,
            ..WaveConvConfig::new(2, 4, 6, fit)
        });
    }
}

#[test]
fn a_causal_convolution_gives_a_frame_for_every_stride_begun() {
    let conv = WaveConvConfig {
        stride: 4,
        ..WaveConvConfig::new(1, 1, 8, Fit::Causal(PadKind::Zero))
    }
    .init(&device());
    for (time, frames) in [(1, 1), (4, 1), (5, 2), (12, 3), (13, 4)] {
        let x = formula([1, 1, time], 1, 1.0, &device());
        assert_eq!(conv.forward(x).dims(), [1, 1, frames]);
    }
}

#[test]
fn an_odd_stride_loses_a_sample_where_none_is_added_back() {
    let len = |output_padding| {
        let fit = Fit::padded_transposed(3, output_padding);
        let conv = WaveConvConfig {
            stride: 5,
            ..WaveConvConfig::new(1, 1, 10, fit)
        };
        let x = formula([1, 1, 7], 1, 1.0, &device());
        conv.init(&device()).forward(x).dims()[2]
    };
    assert_eq!((len(0), len(1)), (34, 35));
}

#[test]
fn memory_in_pieces_is_the_memory_and_gates_lie_in_order() {
    let lstm = Lstm::new(3, 2, &device());
    let x = formula([2, 3, 9], 5, 1.0, &device());
    let whole = lstm.forward(x.clone());
    for lengths in [&[1][..], &[4, 0]] {
        let mut state = LstmState::default();
        let found = in_pieces(&x, lengths, false, |piece, _| lstm.step(piece, &mut state));
        assert_close("memory", &found.unwrap(), &whole, BOUND);
    }
    // One number, one frame: c = sigmoid(i) tanh(g), h = sigmoid(o) tanh(c), and the input is added.
    let one = Lstm::new(1, 1, &device());
    let layer = &one.layers[0];
    let number = |linear: &burn::nn::Linear| {
        let weight = values(&linear.weight.val());
        let bias = values(&linear.bias.as_ref().unwrap().val());
        (weight, bias)
    };
    let ((weight, bias), (_, hidden_bias)) = (number(&layer.input), number(&layer.hidden));
    let gate = |at: usize| 0.7 * weight[at] + bias[at] + hidden_bias[at];
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let cell = sigmoid(gate(0)) * gate(2).tanh();
    let expected = sigmoid(gate(3)) * cell.tanh() + 0.7;
    let found = values(&one.forward(Tensor::from_floats([[[0.7]]], &device())));
    assert!((found[0] - expected).abs() < 1e-6, "{found:?} {expected}");
}

#[test]
fn a_block_in_pieces_is_the_block() {
    for kind in [PadKind::Zero, PadKind::Reflect] {
        let block = ConvNextConfig {
            channels: 4,
            kernel: 7,
            fit: Fit::Causal(kind),
        }
        .init(&device());
        let x = formula([2, 4, 20], 7, 1.0, &device());
        let whole = block.forward(x.clone());
        for lengths in [&[1][..], &[5, 2]] {
            let mut state = block.start();
            let found = in_pieces(&x, lengths, true, |piece, last| {
                block.step(piece, last, &mut state)
            });
            assert_close("block", &found.unwrap(), &whole, BOUND);
        }
    }
}

#[test]
fn the_snake_is_a_line_with_a_ripple() {
    let snake = Snake::new(1, &device());
    let found = values(&snake.forward(Tensor::from_floats([[[0.0, 1.0, -2.0]]], &device())));
    let expected = |x: f32| x + x.sin() * x.sin();
    for (found, x) in found.iter().zip([0.0, 1.0, -2.0]) {
        assert!((found - expected(x)).abs() < 1e-6);
    }
}

#[test]
fn windows_do_not_see_each_other() {
    let attention = WindowAttention::new(64, 4, &device());
    let x = formula([1, 64, 8], 9, 1.0, &device());
    let whole = attention.forward(x.clone());
    let second = attention.forward(x.narrow(2, 4, 4));
    assert_close("window", &second, &whole.narrow(2, 4, 4), BOUND);
}
