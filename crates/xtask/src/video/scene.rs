//! What happens in a clip: where each object is in each frame, simulated in pixels and frames.

use super::SIDE;
use super::render::{Backdrop, Shape};
use super::sprites::Sprite;
use crate::random::Random;

/// The fastest that anything moves, in pixels per frame and axis.
const FASTEST: f64 = 4.0;
/// How far a camera goes from its place, in pixels.
const PAN: f64 = 11.0;

/// What a clip shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Objects fly straight and bounce off the walls.
    Bounce,
    /// Objects fall, and bounce off floor and walls.
    Fall,
    /// As `Bounce`, turning around themselves.
    Spin,
    /// Several objects that pass in front of one another.
    Cross,
    /// The background scrolls behind a bouncing object.
    Scroll,
    /// The camera moves, so that all moves together.
    Pan,
}

impl Kind {
    /// All kinds; clip `n` of a split has kind `n` modulo their number.
    pub const ALL: [Self; 6] = [
        Self::Bounce,
        Self::Fall,
        Self::Spin,
        Self::Cross,
        Self::Scroll,
        Self::Pan,
    ];

    /// As rows write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Fall => "fall",
            Self::Spin => "spin",
            Self::Cross => "cross",
            Self::Scroll => "scroll",
            Self::Pan => "pan",
        }
    }

    fn objects(self, random: &mut Random) -> usize {
        match self {
            Self::Bounce | Self::Fall | Self::Pan => 1 + random.below(2),
            Self::Spin | Self::Scroll => 1,
            Self::Cross => 2 + random.below(2),
        }
    }
}

/// Speeds that occur, pixels per frame.
pub fn speeds() -> Vec<f64> {
    (3..=17).map(|fifth| f64::from(fifth) / 5.0).collect()
}

/// What scenes are drawn from.
pub struct Motion<'a> {
    /// Frames of a clip.
    pub frames: usize,
    /// Speeds to choose from.
    pub speeds: &'a [f64],
    /// Sprites to choose from.
    pub sprites: usize,
}

/// Where the middle of an object is drawn, and how it is turned.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Pixels from the left edge.
    pub x: f64,
    /// Pixels from the upper edge.
    pub y: f64,
    /// Clockwise, in radians.
    pub angle: f64,
}

/// What an object looks like.
#[derive(Debug, Clone, Copy)]
pub enum Look {
    /// A sprite by its number.
    Sprite(usize),
    /// A shape of one colour.
    Shape(Shape, [u8; 3]),
}

impl Look {
    /// What a row says.
    pub fn name(self, sprites: &[Sprite]) -> String {
        match self {
            Self::Sprite(at) => sprites[at].name.clone(),
            Self::Shape(shape, _) => shape.name().into(),
        }
    }
}

/// Something that moves.
pub struct Object {
    /// Its look.
    pub look: Look,
    /// Height and width in pixels.
    pub size: usize,
    /// Where it is in each frame.
    pub track: Vec<Place>,
}

/// One clip.
pub struct Scene {
    /// What it shows.
    pub kind: Kind,
    /// Speed of its objects at the start, pixels per frame.
    pub speed: f64,
    /// Later ones are drawn over earlier ones.
    pub objects: Vec<Object>,
    /// What is behind.
    pub backdrop: Backdrop,
    /// Where the background is in each frame, pixels.
    pub scroll: Vec<(f64, f64)>,
}

impl Scene {
    /// A scene of its kind.
    pub fn new(kind: Kind, motion: &Motion<'_>, mut random: Random) -> Self {
        let random = &mut random;
        let speed = random.one_of(motion.speeds);
        let textured = matches!(kind, Kind::Scroll | Kind::Pan);
        let backdrop = Backdrop::draw(textured, random);
        let scroll = match kind {
            Kind::Pan => camera(motion.frames, speed, random),
            Kind::Scroll => steady(motion.frames, random),
            _ => vec![(0.0, 0.0); motion.frames],
        };
        let count = kind.objects(random);
        let objects = (0..count)
            .map(|_| object(kind, speed, motion, &scroll, &backdrop, random))
            .collect();
        Self {
            kind,
            speed,
            objects,
            backdrop,
            scroll,
        }
    }
}

fn object(
    kind: Kind,
    speed: f64,
    motion: &Motion<'_>,
    scroll: &[(f64, f64)],
    backdrop: &Backdrop,
    random: &mut Random,
) -> Object {
    let size = match kind {
        Kind::Cross => 14 + 2 * random.below(4),
        _ => 16 + 2 * random.below(5),
    };
    let look = match random.below(4) {
        0 => Look::Shape(
            random.one_of(&Shape::ALL),
            backdrop.contrasting_colour(random),
        ),
        _ => Look::Sprite(random.below(motion.sprites)),
    };
    let track = match kind {
        Kind::Pan => carried(size, scroll, random),
        _ => flight(kind, size, speed, motion.frames, random),
    };
    Object { look, size, track }
}

/// One coordinate of a thing between two walls.
struct Axis {
    at: f64,
    velocity: f64,
    low: f64,
    high: f64,
    /// Share of the speed that a bounce leaves.
    bounce: f64,
}

impl Axis {
    /// One frame on.
    fn step(&mut self, pull: f64) {
        self.velocity = (self.velocity + pull).clamp(-FASTEST, FASTEST);
        self.at += self.velocity;
        if self.at < self.low {
            self.at = 2.0 * self.low - self.at;
            self.velocity *= -self.bounce;
        } else if self.at > self.high {
            self.at = 2.0 * self.high - self.at;
            self.velocity *= -self.bounce;
        }
        self.at = self.at.clamp(self.low, self.high);
    }
}

/// A straight or falling flight between the walls.
fn flight(kind: Kind, size: usize, speed: f64, frames: usize, random: &mut Random) -> Vec<Place> {
    let half = size as f64 / 2.0;
    let (low, high) = (half, SIDE as f64 - half);
    let heading = random.between(0.0, std::f64::consts::TAU);
    let falls = kind == Kind::Fall;
    let pull = if falls {
        random.between(0.1, 0.25)
    } else {
        0.0
    };
    let axis = |velocity: f64, random: &mut Random| Axis {
        at: random.between(low, high),
        velocity,
        low,
        high,
        bounce: if falls { 0.9 } else { 1.0 },
    };
    let mut across = axis(speed * heading.cos(), random);
    let mut down = axis(speed * heading.sin(), random);
    let turn = match kind {
        Kind::Spin => random.between(0.06, 0.2) * random.one_of(&[-1.0, 1.0]),
        _ => 0.0,
    };
    let mut angle = 0.0;
    (0..frames)
        .map(|_| {
            let place = drawn(across.at, down.at, size, angle);
            across.step(0.0);
            down.step(pull);
            angle += turn;
            place
        })
        .collect()
}

/// An object that stands in the world while the camera moves.
fn carried(size: usize, scroll: &[(f64, f64)], random: &mut Random) -> Vec<Place> {
    let half = size as f64 / 2.0;
    let (low, high) = (half + PAN, SIDE as f64 - half - PAN);
    let (x, y) = (random.between(low, high), random.between(low, high));
    scroll
        .iter()
        .map(|(across, down)| drawn(x + across.round(), y + down.round(), size, 0.0))
        .collect()
}

/// Objects are drawn at whole pixels, as in the games that sprites come from.
fn drawn(x: f64, y: f64, size: usize, angle: f64) -> Place {
    let half = size as f64 / 2.0;
    Place {
        x: (x - half).round() + half,
        y: (y - half).round() + half,
        angle,
    }
}

/// A camera that flies straight and turns back at its bounds: where the world is.
fn camera(frames: usize, speed: f64, random: &mut Random) -> Vec<(f64, f64)> {
    let heading = random.between(0.0, std::f64::consts::TAU);
    let mut axes = [heading.cos(), heading.sin()].map(|share| Axis {
        at: random.between(-PAN, PAN),
        velocity: share * speed,
        low: -PAN,
        high: PAN,
        bounce: 1.0,
    });
    (0..frames)
        .map(|_| {
            let place = (axes[0].at, axes[1].at);
            axes.iter_mut().for_each(|axis| axis.step(0.0));
            place
        })
        .collect()
}

/// A background that moves on and on.
fn steady(frames: usize, random: &mut Random) -> Vec<(f64, f64)> {
    let across = random.between(-2.5, 2.5);
    let down = random.one_of(&[0.0, 0.0, across * 0.5]);
    (0..frames)
        .map(|frame| (across * frame as f64, down * frame as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_stay_inside_and_keep_below_the_fastest() {
        let speeds = speeds();
        let motion = Motion {
            frames: 60,
            speeds: &speeds,
            sprites: 5,
        };
        for clip in 0..60 {
            let kind = Kind::ALL[clip % Kind::ALL.len()];
            let scene = Scene::new(kind, &motion, Random::named(&clip.to_string()));
            for object in &scene.objects {
                let half = object.size as f64 / 2.0;
                let inside = half - 0.5..=SIDE as f64 - half + 0.5;
                for pair in object.track.windows(2) {
                    assert!(inside.contains(&pair[0].x) && inside.contains(&pair[0].y));
                    assert!((pair[1].x - pair[0].x).abs() <= FASTEST);
                    assert!((pair[1].y - pair[0].y).abs() <= FASTEST);
                }
            }
        }
    }

    #[test]
    fn a_wall_turns_a_flight_back() {
        let mut axis = Axis {
            at: 9.0,
            velocity: 2.0,
            low: 0.0,
            high: 10.0,
            bounce: 1.0,
        };
        axis.step(0.0);
        assert_eq!((axis.at, axis.velocity), (9.0, -2.0));
    }
}
