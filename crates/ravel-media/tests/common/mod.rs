//! Clips that tests draw.

use std::path::Path;

use ravel_media::{ClipPlan, ClipReader, ClipTarget, ClipWriter, FrameRate, MediaError, Picture};

/// A coloured square that moves to the right over a still background.
pub fn frame(width: usize, height: usize, index: usize) -> Picture {
    let mut picture = Picture::filled(width, height, [40, 90, 160]);
    let side = height / 3;
    picture.paste(
        &Picture::filled(side, side, [220, 60, 30]),
        2 * index % width,
        height / 3,
    );
    picture
}

pub fn frames(width: usize, height: usize, count: usize) -> Vec<Picture> {
    (0..count)
        .map(|index| frame(width, height, index))
        .collect()
}

pub fn rate(text: &str) -> FrameRate {
    text.parse().unwrap()
}

/// Writes a clip.
pub fn write(path: &Path, frames: &[Picture], per_second: &str) -> Result<(), MediaError> {
    let plan = ClipPlan {
        width: frames[0].width,
        height: frames[0].height,
        rate: rate(per_second),
        frames: frames.len(),
        text: "{\"seed\":7,\"what\":\"é\"}".into(),
    };
    let mut writer = ClipWriter::create(&ClipTarget::of(path, false)?, &plan)?;
    for frame in frames {
        writer.push(frame)?;
    }
    writer.finish()
}

/// All frames of a clip, with what was told.
pub fn read(path: &Path) -> Result<(Vec<Picture>, ClipReader), MediaError> {
    let mut reader = ClipReader::open(path, None)?;
    let frames = reader.by_ref().collect::<Result<_, _>>()?;
    Ok((frames, reader))
}

/// Mean absolute difference of two pictures, in steps of a byte.
pub fn difference(one: &Picture, other: &Picture) -> f64 {
    assert_eq!((one.width, one.height), (other.width, other.height));
    let steps = one.rgb.iter().zip(&other.rgb);
    let sum: f64 = steps.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    sum / one.rgb.len() as f64
}

/// The one line with which a clip is refused.
#[track_caller]
pub fn refused(path: &Path) -> String {
    let line = match read(path) {
        Ok(_) => panic!("{} is taken", path.display()),
        Err(error) => error.to_string(),
    };
    assert!(!line.contains('\n'), "{line}");
    line
}
