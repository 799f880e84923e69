//! Scenes to pixels: a background, then objects over it.

use image::{Rgba, RgbaImage, imageops};

use super::SIDE;
use super::scene::{Look, Object, Scene};
use super::sprites::Sprite;
use crate::random::Random;

/// A drawn shape.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A filled circle.
    Disc,
    /// A square.
    Square,
    /// A triangle that stands on its base.
    Triangle,
    /// A circle with a hole.
    Ring,
    /// A square on its corner.
    Diamond,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Disc,
        Self::Square,
        Self::Triangle,
        Self::Ring,
        Self::Diamond,
    ];

    /// As rows write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disc => "disc",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Ring => "ring",
            Self::Diamond => "diamond",
        }
    }

    /// Whether a point of the square from -1 to 1 is inside.
    fn covers(self, x: f64, y: f64) -> bool {
        let radius = (x * x + y * y).sqrt();
        match self {
            Self::Disc => radius <= 0.95,
            Self::Square => x.abs().max(y.abs()) <= 0.8,
            Self::Triangle => y <= 0.85 && x.abs() <= (y + 0.95) / 1.9,
            Self::Ring => (0.5..=0.95).contains(&radius),
            Self::Diamond => x.abs() + y.abs() <= 0.95,
        }
    }

    /// `size` pixels a side, edges smoothed by sixteen samples a pixel.
    fn draw(self, colour: [u8; 3], size: usize) -> RgbaImage {
        RgbaImage::from_fn(size as u32, size as u32, |x, y| {
            let place = |at: u32, sample: usize| {
                2.0 * (f64::from(at) + (sample as f64 + 0.5) / 4.0) / size as f64 - 1.0
            };
            let inside = (0..16)
                .filter(|sample| self.covers(place(x, sample % 4), place(y, sample / 4)))
                .count();
            Rgba([colour[0], colour[1], colour[2], (inside * 255 / 16) as u8])
        })
    }
}

#[derive(Debug, Clone, Copy)]
enum Pattern {
    Plain,
    Gradient,
    Checks(i64),
    Stripes(i64),
    Dots,
}

/// What is behind the objects: two colours in a pattern that goes on forever.
#[derive(Debug, Clone, Copy)]
pub struct Backdrop {
    pattern: Pattern,
    first: [f64; 3],
    second: [f64; 3],
}

impl Backdrop {
    /// A background; `textured` ones show that they move.
    pub fn draw(textured: bool, random: &mut Random) -> Self {
        let first = [0; 3].map(|_| random.between(20.0, 235.0));
        let spread = random.between(25.0, 60.0);
        let second = first.map(|value| {
            let step = if value > 128.0 { -spread } else { spread };
            value + step * random.between(0.6, 1.4)
        });
        let patterns: &[Pattern] = match textured {
            true => &[
                Pattern::Checks(8),
                Pattern::Checks(12),
                Pattern::Stripes(6),
                Pattern::Dots,
            ],
            false => &[
                Pattern::Plain,
                Pattern::Plain,
                Pattern::Gradient,
                Pattern::Checks(16),
                Pattern::Dots,
            ],
        };
        Self {
            pattern: random.one_of(patterns),
            first,
            second,
        }
    }

    /// A colour that differs from the background's.
    pub fn contrasting_colour(&self, random: &mut Random) -> [u8; 3] {
        loop {
            let colour = [0; 3].map(|_| random.between(0.0, 255.0));
            let apart: f64 = colour
                .iter()
                .zip(self.first)
                .map(|(a, b)| (a - b).abs())
                .sum();
            if apart > 200.0 {
                return colour.map(|value| value as u8);
            }
        }
    }

    fn at(&self, x: i64, y: i64) -> [f64; 3] {
        let share = match self.pattern {
            Pattern::Plain => 0.0,
            Pattern::Gradient => (y as f64 / SIDE as f64).clamp(0.0, 1.0),
            Pattern::Checks(side) => {
                ((x.div_euclid(side) + y.div_euclid(side)).rem_euclid(2)) as f64
            }
            Pattern::Stripes(side) => ((x + y).div_euclid(side).rem_euclid(2)) as f64,
            Pattern::Dots => {
                let (dx, dy) = (x.rem_euclid(10) - 5, y.rem_euclid(10) - 5);
                f64::from(u8::from(dx * dx + dy * dy <= 8))
            }
        };
        let mut colour = self.first;
        for (value, second) in colour.iter_mut().zip(self.second) {
            *value += (second - *value) * share;
        }
        colour
    }
}

impl Scene {
    /// RGB bytes of all frames.
    pub fn frames(&self, sprites: &[Sprite]) -> Vec<u8> {
        let looks: Vec<RgbaImage> = self
            .objects
            .iter()
            .map(|object| picture(object, sprites))
            .collect();
        let mut bytes = Vec::with_capacity(self.scroll.len() * 3 * SIDE * SIDE);
        for frame in 0..self.scroll.len() {
            let mut canvas = self.behind(frame);
            for (object, look) in self.objects.iter().zip(&looks) {
                lay(&mut canvas, object, look, frame);
            }
            bytes.extend(canvas.iter().flatten().map(|value| value.round() as u8));
        }
        bytes
    }

    fn behind(&self, frame: usize) -> Vec<[f64; 3]> {
        let (across, down) = self.scroll[frame];
        let (across, down) = (across.round() as i64, down.round() as i64);
        let side = SIDE as i64;
        (0..side * side)
            .map(|at| self.backdrop.at(at % side - across, at / side - down))
            .collect()
    }
}

fn picture(object: &Object, sprites: &[Sprite]) -> RgbaImage {
    match object.look {
        Look::Shape(shape, colour) => shape.draw(colour, object.size),
        Look::Sprite(at) => {
            let size = object.size as u32;
            imageops::resize(
                &sprites[at].picture,
                size,
                size,
                imageops::FilterType::Triangle,
            )
        }
    }
}

/// Lays an object over the canvas.
fn lay(canvas: &mut [[f64; 3]], object: &Object, look: &RgbaImage, frame: usize) {
    let place = object.track[frame];
    let half = object.size as f64 / 2.0;
    let (sin, cos) = place.angle.sin_cos();
    for (at, pixel) in canvas.iter_mut().enumerate() {
        let across = (at % SIDE) as f64 + 0.5 - place.x;
        let down = (at / SIDE) as f64 + 0.5 - place.y;
        let x = cos * across + sin * down + half - 0.5;
        let y = cos * down - sin * across + half - 0.5;
        let [red, green, blue, alpha] = sampled(look, x, y);
        for (value, over) in pixel.iter_mut().zip([red, green, blue]) {
            *value = *value * (1.0 - alpha) + over;
        }
    }
}

/// Colours times opacity, then opacity, between pixel centres; nothing outside.
fn sampled(look: &RgbaImage, x: f64, y: f64) -> [f64; 4] {
    let (left, top) = (x.floor(), y.floor());
    let mut sum = [0.0; 4];
    for (dx, dy) in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)] {
        let weight = (1.0 - (x - left - dx).abs()) * (1.0 - (y - top - dy).abs());
        let (column, row) = (left + dx, top + dy);
        let inside = |at: f64, end: u32| at >= 0.0 && at < f64::from(end);
        if weight <= 0.0 || !inside(column, look.width()) || !inside(row, look.height()) {
            continue;
        }
        let pixel = look.get_pixel(column as u32, row as u32).0.map(f64::from);
        let opacity = weight * pixel[3] / 255.0;
        for (sum, value) in sum.iter_mut().zip(&pixel[..3]) {
            *sum += opacity * value;
        }
        sum[3] += opacity;
    }
    sum
}
