//! How far a continuation drifts from what was given: frame by frame against the statistics of the given frames.

use ravel_media::Picture;
use serde_json::json;

/// Mean and deviation of each colour, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Colours {
    mean: [f64; 3],
    deviation: [f64; 3],
}

impl Colours {
    fn of(picture: &Picture) -> Self {
        let pixels = (picture.width * picture.height) as f64;
        let mut colours = Self::default();
        for channel in 0..3 {
            let values = || {
                picture.rgb[channel..]
                    .iter()
                    .step_by(3)
                    .map(|&byte| f64::from(byte))
            };
            let mean = values().sum::<f64>() / pixels;
            let squares = values().map(|value| (value - mean).powi(2)).sum::<f64>();
            colours.mean[channel] = mean;
            colours.deviation[channel] = (squares / pixels).sqrt();
        }
        colours
    }

    /// The Fréchet distance of two normal distributions of independent colours.
    fn distance(&self, other: &Self) -> f64 {
        let squares = |a: &[f64; 3], b: &[f64; 3]| -> f64 {
            a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
        };
        (squares(&self.mean, &other.mean) + squares(&self.deviation, &other.deviation)).sqrt()
    }
}

/// Mean absolute change between two frames, in bytes.
fn motion(before: &Picture, after: &Picture) -> f64 {
    let steps = before.rgb.iter().zip(&after.rgb);
    steps.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / before.rgb.len() as f64
}

/// A report under way.
pub struct Drift {
    context: Colours,
    context_motion: f64,
    last: Option<Picture>,
    rows: Vec<[f64; 2]>,
}

impl Drift {
    /// A report against the given frames.
    pub fn new<'a>(given: impl Iterator<Item = &'a Picture>) -> Self {
        let mut context = Colours::default();
        let (mut count, mut moved) = (0.0, 0.0);
        let mut last: Option<&Picture> = None;
        for picture in given {
            let colours = Colours::of(picture);
            for channel in 0..3 {
                context.mean[channel] += colours.mean[channel];
                context.deviation[channel] += colours.deviation[channel];
            }
            moved += last.map_or(0.0, |last| motion(last, picture));
            last = Some(picture);
            count += 1.0;
        }
        for channel in 0..3 {
            context.mean[channel] /= f64::max(count, 1.0);
            context.deviation[channel] /= f64::max(count, 1.0);
        }
        Self {
            context,
            context_motion: moved / f64::max(count - 1.0, 1.0),
            last: last.cloned(),
            rows: Vec::new(),
        }
    }

    /// One more new frame.
    pub fn add(&mut self, picture: &Picture) {
        let distance = self.context.distance(&Colours::of(picture));
        let moved = self.last.as_ref().map_or(0.0, |last| motion(last, picture));
        self.last = Some(picture.clone());
        self.rows.push([distance, moved]);
    }

    /// JSON lines: the given frames' statistics, then a row for each new frame with its distance from them.
    pub fn report(&self) -> String {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        let mut text = json!({
            "given": {
                "mean": self.context.mean.map(round),
                "deviation": self.context.deviation.map(round),
                "motion": round(self.context_motion),
            },
        })
        .to_string();
        for (at, [distance, moved]) in self.rows.iter().enumerate() {
            let row = json!({
                "frame": at + 1,
                "distance": round(*distance),
                "motion": round(*moved),
            });
            text.push('\n');
            text.push_str(&row.to_string());
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_of_colours_and_motion_of_places() {
        let grey = Picture::filled(4, 4, [100; 3]);
        let mut drift = Drift::new([grey.clone(), grey.clone()].iter());
        drift.add(&grey);
        drift.add(&Picture::filled(4, 4, [103, 104, 100]));
        let mut moved = grey.clone();
        moved.rgb[0] = 148;
        drift.add(&moved);
        assert_eq!(drift.rows[0], [0.0, 0.0]);
        assert_eq!(drift.rows[1][0], 5.0);
        assert!((drift.rows[1][1] - 7.0 / 3.0).abs() < 1e-9);
        assert!(drift.rows[2][0] > 3.0);
        assert_eq!(drift.report().lines().count(), 4);
    }
}
