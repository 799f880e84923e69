//! The emoji that move: the font's bitmaps with their transparency, cut to what is drawn.

use std::path::Path;

use anyhow::Result;
use image::{RgbaImage, imageops};

use crate::emoji;

/// A named bitmap, square.
pub struct Sprite {
    /// The emoji's Unicode name.
    pub name: String,
    /// With transparency.
    pub picture: RgbaImage,
}

/// All emoji with a name of its own kind: no skin tones, flags or hair styles, which differ little at this size.
pub fn read(font: &Path, list: &Path) -> Result<Vec<Sprite>> {
    let bitmaps = emoji::bitmaps(font, list, |name| {
        !name.contains(':') && !name.contains("flag")
    })?;
    Ok(bitmaps
        .into_iter()
        .map(|(name, picture)| Sprite {
            name,
            picture: cut(&picture),
        })
        .collect())
}

/// The smallest square around all that is not clear.
fn cut(picture: &RgbaImage) -> RgbaImage {
    let solid = |x: &u32, y: &u32| picture.get_pixel(*x, *y).0[3] > 16;
    let columns: Vec<u32> = (0..picture.width())
        .filter(|x| (0..picture.height()).any(|y| solid(x, &y)))
        .collect();
    let rows: Vec<u32> = (0..picture.height())
        .filter(|y| (0..picture.width()).any(|x| solid(&x, y)))
        .collect();
    let (Some(left), Some(right)) = (columns.first(), columns.last()) else {
        return picture.clone();
    };
    let (top, bottom) = (rows[0], rows[rows.len() - 1]);
    let (width, height) = (right - left + 1, bottom - top + 1);
    let side = width.max(height);
    let mut square = RgbaImage::new(side, side);
    let part = imageops::crop_imm(picture, *left, top, width, height).to_image();
    imageops::overlay(
        &mut square,
        &part,
        i64::from((side - width) / 2),
        i64::from((side - height) / 2),
    );
    square
}
