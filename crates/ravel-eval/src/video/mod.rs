//! Measures of continued video, against true frames and against two baselines.
//!
//! Positions are measured by matching: an object's square in the last given frame, two pixels wider on each side than the object, is
//! looked for at every whole-pixel place of a new frame; the least mean absolute difference is where the object is. Where objects turn
//! around themselves the disc in the square is looked for at 24 angles. The same is done for every method, so that the measure's own
//! mistakes are everybody's.

mod baseline;
mod frechet;
mod report;
mod track;

use ravel_core::Clip;

use crate::host;

pub use baseline::{copy_last, extrapolated_blocks, extrapolated_places};
pub use frechet::{FeatureStatistics, frechet_distance};
pub use report::{
    Compared, ContinuationMeasure, ContinuationReport, Continued, FrameRow, KindRow, KnownObject,
};
pub use track::{Sighting, Template};

/// One frame as numbers, channel first.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `3 * height * width` values in `-1..=1`.
    pub values: Vec<f32>,
}

impl Frame {
    /// Red, green and blue at a place; the border goes on outside.
    pub fn at(&self, row: isize, column: isize) -> [f32; 3] {
        let row = row.clamp(0, self.height as isize - 1) as usize;
        let column = column.clamp(0, self.width as isize - 1) as usize;
        let place = row * self.width + column;
        let plane = self.height * self.width;
        [0, 1, 2].map(|channel| self.values[channel * plane + place])
    }

    fn set(&mut self, row: usize, column: usize, rgb: [f32; 3]) {
        let plane = self.height * self.width;
        for (channel, value) in rgb.into_iter().enumerate() {
            self.values[channel * plane + row * self.width + column] = value;
        }
    }
}

/// The frames of each row of a clip. Waits for the device.
pub fn frames_of(clip: &Clip) -> Vec<Vec<Frame>> {
    let [_, time, channels, height, width] = clip.frames.dims();
    let values = host(clip.frames.clone());
    let frame = channels * height * width;
    let frames = values.chunks_exact(frame).map(|values| Frame {
        height,
        width,
        values: values.to_vec(),
    });
    let frames: Vec<Frame> = frames.collect();
    frames.chunks(time).map(<[Frame]>::to_vec).collect()
}

/// Mean and standard deviation of each channel over all pixels of some frames.
fn statistics(frames: &[Frame]) -> [f64; 6] {
    let mut out = [0.0; 6];
    for channel in 0..3 {
        let values = || {
            frames.iter().flat_map(move |frame| {
                let plane = frame.height * frame.width;
                frame.values[channel * plane..(channel + 1) * plane].iter()
            })
        };
        let count = values().count().max(1) as f64;
        let mean = values().map(|&v| f64::from(v)).sum::<f64>() / count;
        let square = values()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / count;
        out[channel] = mean;
        out[3 + channel] = square.sqrt();
    }
    out
}

/// How far each new frame is from the given ones: the root mean square difference of the means and standard deviations of the three
/// channels, in steps of a byte (0 to 255).
pub fn drift(given: &[Frame], new: &[Frame]) -> Vec<f64> {
    let reference = statistics(given);
    new.iter()
        .map(|frame| {
            let found = statistics(std::slice::from_ref(frame));
            let squares = found.iter().zip(reference).map(|(a, b)| (a - b).powi(2));
            127.5 * (squares.sum::<f64>() / 6.0).sqrt()
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A grey frame with a bright square whose upper left corner is at a place.
    pub fn square(row: usize, column: usize) -> Frame {
        let mut frame = Frame {
            height: 32,
            width: 32,
            values: vec![0.0; 3 * 32 * 32],
        };
        for dy in 0..6 {
            for dx in 0..6 {
                frame.set(
                    row + dy,
                    column + dx,
                    [0.9, 0.5, (dy * 6 + dx) as f32 / 36.0],
                );
            }
        }
        frame
    }

    #[test]
    fn a_frame_like_the_given_ones_has_not_drifted() {
        let given = [square(3, 4), square(5, 6)];
        let found = drift(
            &given,
            &[square(9, 9), {
                let mut pale = square(9, 9);
                pale.values.iter_mut().for_each(|value| *value += 0.5);
                pale
            }],
        );
        assert!(found[0] < 1e-3, "{found:?}");
        // Only the three means differ, by a quarter of the range: 63.75 steps over the root of two.
        assert!((found[1] - 63.75 / 2f64.sqrt()).abs() < 1e-2, "{found:?}");
    }
}
