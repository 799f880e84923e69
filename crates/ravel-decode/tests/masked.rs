//! What holds for filling in whatever the model.

use std::cell::RefCell;
use std::ops::ControlFlow;

use burn::tensor::Tensor;
use ravel_core::{Filling, Masked, Noise, Place, Result, Seed};
use ravel_decode::{MaskedFilling, SeededNoise, random_orders};
use ravel_testkit::{device, values};

/// Writes each position's number, and notes what it was asked.
struct Counting {
    positions: usize,
    batch: usize,
    asked: RefCell<Vec<(usize, usize, f64)>>,
}

impl Masked for Counting {
    fn positions(&self) -> usize {
        self.positions
    }

    fn empty(&self) -> Tensor<3> {
        Tensor::zeros([self.batch, self.positions, 1], &device())
    }

    fn fill(&self, filling: Filling<'_>, _noise: &mut dyn Noise) -> Result<Tensor<3>> {
        let asked = (
            filling.known[0].len(),
            filling.chosen[0].len(),
            filling.guidance,
        );
        self.asked.borrow_mut().push(asked);
        let latents = values(&filling.latents);
        for (row, known) in filling.known.iter().enumerate() {
            for position in 0..self.positions {
                let expected = if known.contains(&position) {
                    1.0 + position as f32
                } else {
                    0.0
                };
                assert_eq!(latents[row * self.positions + position], expected);
            }
        }
        let numbers: Vec<f32> = filling
            .chosen
            .iter()
            .flatten()
            .map(|at| 1.0 + *at as f32)
            .collect();
        let count = filling.chosen[0].len();
        Ok(Tensor::<1>::from_floats(numbers.as_slice(), &device()).reshape([self.batch, count, 1]))
    }
}

fn run(
    filling: &MaskedFilling,
    positions: usize,
    stop: usize,
) -> (Vec<f32>, Vec<(usize, usize, f64)>) {
    let model = Counting {
        positions,
        batch: 2,
        asked: RefCell::new(Vec::new()),
    };
    let orders = random_orders(&Seed::new(4), 2, positions);
    let watch = &mut |round: usize, _: &Tensor<3>| match round + 1 == stop {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let mut noise = SeededNoise(Seed::new(1));
    let latents = filling.fill(&model, &orders, &mut noise, watch).unwrap();
    (values(&latents), model.asked.into_inner())
}

#[test]
fn every_position_is_filled_once_more_of_them_in_later_rounds() {
    for (rounds, positions) in [(1, 5), (4, 16), (5, 64), (9, 4)] {
        let filling = MaskedFilling {
            rounds,
            ..MaskedFilling::default()
        };
        let (latents, asked) = run(&filling, positions, 0);
        let all: Vec<f32> = (1..=positions).map(|at| at as f32).collect();
        assert_eq!(latents, [all.clone(), all].concat());
        let known: Vec<usize> = asked.iter().map(|(known, ..)| *known).collect();
        let sums = asked.iter().scan(0, |sum, (_, chosen, _)| {
            Some(std::mem::replace(sum, *sum + chosen))
        });
        assert_eq!(known, sums.collect::<Vec<_>>());
        if positions >= 16 {
            assert!(
                asked.is_sorted_by_key(|(_, chosen, _)| *chosen),
                "{asked:?}"
            );
        }
    }
}

#[test]
fn guidance_grows_with_what_will_be_known_or_stays() {
    let filling = |ramp| MaskedFilling {
        rounds: 4,
        guidance: 2.0,
        ramp,
        ..MaskedFilling::default()
    };
    let (_, asked) = run(&filling(true), 16, 0);
    let found: Vec<f64> = asked.iter().map(|(.., guidance)| *guidance).collect();
    // 14, 11, 6 and, at least, 1 of 16 stay masked.
    assert_eq!(found, [0.25, 0.625, 1.25, 1.875]);
    let (_, asked) = run(&filling(false), 16, 0);
    assert!(asked.iter().all(|(.., guidance)| *guidance == 2.0));
}

#[test]
fn a_watcher_stops_after_its_round() {
    let filling = MaskedFilling {
        rounds: 4,
        ..MaskedFilling::default()
    };
    let (latents, asked) = run(&filling, 16, 2);
    assert_eq!(asked.len(), 2);
    assert_eq!(
        latents[..16].iter().filter(|latent| **latent > 0.0).count(),
        5
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let model = Counting {
        positions: 3,
        batch: 1,
        asked: RefCell::new(Vec::new()),
    };
    let check = |filling: MaskedFilling, order: Vec<usize>, expected: &str| {
        let watch = &mut |_: usize, _: &Tensor<3>| ControlFlow::Continue(());
        let mut noise = SeededNoise(Seed::new(1));
        let error = filling.fill(&model, &[order], &mut noise, watch);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    let with = |change: fn(&mut MaskedFilling)| {
        let mut filling = MaskedFilling::default();
        change(&mut filling);
        filling
    };
    check(with(|f| f.rounds = 0), vec![0, 1, 2], "rounds is 0");
    check(with(|f| f.guidance = -1.0), vec![0, 1, 2], "guidance is -1");
    check(
        with(|f| f.temperature = f64::NAN),
        vec![0, 1, 2],
        "temperature is NaN",
    );
    for order in [vec![0, 1], vec![0, 1, 1], vec![1, 2, 3]] {
        check(with(|_| ()), order, "orders is row 0");
    }
}

#[test]
fn noise_depends_on_its_place_and_is_normal() {
    let mut noise = SeededNoise(Seed::new(9));
    let place = |row, position| Place { row, position };
    let both = noise.draw(&[place(0, 3), place(1, 3)], 2, 4);
    assert_eq!(both[4..], noise.draw(&[place(1, 3)], 2, 4));
    assert_ne!(both[..4], both[4..]);
    assert_ne!(both[..4], noise.draw(&[place(0, 3)], 3, 4)[..]);
    let many = noise.draw(&[place(5, 5)], 0, 20_000);
    let mean = many.iter().sum::<f32>() / 20_000.0;
    let square = many.iter().map(|x| x * x).sum::<f32>() / 20_000.0;
    assert!(
        mean.abs() < 0.03 && (square - 1.0).abs() < 0.05,
        "{mean} {square}"
    );
    assert!(many.iter().all(|number| number.is_finite()));
}

#[test]
fn orders_are_orders_and_differ_between_rows_not_batches() {
    let orders = random_orders(&Seed::new(2), 3, 20);
    for order in &orders {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }
    assert_ne!(orders[0], orders[1]);
    assert_eq!(orders[..2], random_orders(&Seed::new(2), 2, 20)[..]);
}
