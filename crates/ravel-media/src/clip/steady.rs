//! From frames with time stamps to a constant rate.

use super::{FrameRate, Frames, MAX_FRAMES, TimedFrame};
use crate::{MediaError, Picture};

/// Frames at a constant rate: each stands on the nearest tick and stays until the next one; of two on one tick the later wins.
/// The last frame stands once, since what is known of its length is often the pause before a loop.
pub struct Steady {
    source: Box<dyn Frames>,
    rate: Option<FrameRate>,
    /// Time stamp of the first frame.
    beginning: Option<f64>,
    /// The latest frame and its tick.
    held: Option<(u64, Picture)>,
    /// A frame that is due so many times.
    due: Option<(u64, Picture)>,
    given: u64,
    repeated: u64,
    left_out: u64,
}

impl Steady {
    /// With no `rate` each frame stands once.
    pub fn new(source: Box<dyn Frames>, rate: Option<FrameRate>) -> Self {
        Self {
            source,
            rate,
            beginning: None,
            held: None,
            due: None,
            given: 0,
            repeated: 0,
            left_out: 0,
        }
    }

    /// The next frame; none at the end.
    pub fn next(&mut self) -> Result<Option<Picture>, MediaError> {
        loop {
            if let Some((times, picture)) = self.due.take() {
                self.count()?;
                if times > 1 {
                    self.due = Some((times - 1, picture.clone()));
                }
                return Ok(Some(picture));
            }
            match self.source.next()? {
                Some(frame) => self.take(frame),
                None => match self.held.take() {
                    Some((_, picture)) => self.due = Some((1, picture)),
                    None => return Ok(None),
                },
            }
        }
    }

    fn count(&mut self) -> Result<(), MediaError> {
        self.given += 1;
        match self.given > MAX_FRAMES {
            true => Err(MediaError::Clip {
                path: self.source.path().into(),
                reason: format!("it has more than {MAX_FRAMES} frames"),
            }),
            false => Ok(()),
        }
    }

    fn take(&mut self, frame: TimedFrame) {
        let before = self.held.as_ref().map(|(tick, _)| *tick);
        let beginning = *self.beginning.get_or_insert(frame.start_secs);
        let tick = match (self.rate, before) {
            (_, None) => 0,
            (None, Some(before)) => before + 1,
            (Some(rate), Some(before)) => {
                let tick = ((frame.start_secs - beginning) * rate.per_second()).round();
                // Time that runs backwards is a damaged stamp; the frame itself still comes next. (NaN becomes 0 here.)
                match tick as u64 {
                    tick if tick < before => before + 1,
                    tick => tick,
                }
            }
        };
        if let Some((before, picture)) = self.held.replace((tick, frame.picture)) {
            match tick - before {
                0 => self.left_out += 1,
                gap => {
                    self.repeated += gap - 1;
                    self.due = Some((gap, picture));
                }
            }
        }
    }

    /// What was done to the frames so far, and what the source has to say.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.source.notes();
        if let (Some(rate), true) = (self.rate, self.repeated + self.left_out > 0) {
            notes.push(format!(
                "resampled by time stamps to a steady {rate} frames a second: {} frames repeated, {} left out",
                self.repeated, self.left_out
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    struct Given(std::vec::IntoIter<f64>, u8);

    impl Frames for Given {
        fn path(&self) -> &Path {
            Path::new("given")
        }

        fn next(&mut self) -> Result<Option<TimedFrame>, MediaError> {
            self.1 += 1;
            Ok(self.0.next().map(|start_secs| TimedFrame {
                picture: Picture::filled(1, 1, [self.1; 3]),
                start_secs,
            }))
        }

        fn notes(&self) -> Vec<String> {
            Vec::new()
        }
    }

    /// Numbers of the source's frames as they come out, and whether something was told.
    fn steady(starts: &[f64], rate: Option<u32>) -> (Vec<u8>, bool) {
        let starts: Vec<f64> = starts.to_vec();
        let source = Box::new(Given(starts.into_iter(), 0));
        let rate = rate.map(|rate| FrameRate::new(rate, 1).unwrap());
        let mut steady = Steady::new(source, rate);
        let frames = std::iter::from_fn(|| steady.next().unwrap());
        let numbers: Vec<u8> = frames.map(|picture| picture.rgb[0]).collect();
        (numbers, !steady.notes().is_empty())
    }

    #[test]
    fn steady_frames_stay_as_they_are_whatever_the_jitter() {
        let jitter = [5.0, 5.101, 5.199, 5.302, 5.4];
        assert_eq!(steady(&jitter, Some(10)), (vec![1, 2, 3, 4, 5], false));
    }

    #[test]
    fn a_frame_stays_until_the_next_one_and_the_later_of_two_wins() {
        let starts = [0.0, 0.1, 0.4, 0.42, 0.5];
        assert_eq!(steady(&starts, Some(10)), (vec![1, 2, 2, 2, 4, 5], true));
    }

    #[test]
    fn time_that_runs_backwards_loses_no_frame() {
        assert_eq!(steady(&[0.0, 0.1, 0.0, f64::NAN], Some(10)).0, [1, 2, 3, 4]);
        assert_eq!(steady(&[0.0, 0.0, 0.0], None).0, [1, 2, 3]);
    }

    #[test]
    fn a_gap_of_years_is_no_endless_clip() {
        let source = Box::new(Given(vec![0.0, 1e18].into_iter(), 0));
        let mut steady = Steady::new(source, FrameRate::new(10, 1));
        let refused = std::iter::from_fn(|| steady.next().transpose()).find_map(Result::err);
        assert!(refused.unwrap().to_string().contains("frames"));
    }
}
