//! A picture as bytes, and its way to and from tensors.

use burn::tensor::{Device, Tensor, TensorData};
use image::{RgbImage, imageops};
use ravel_core::Images;

/// RGB bytes, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, rgb: [u8; 3]) -> Self {
        Self {
            width,
            height,
            rgb: rgb.repeat(width * height),
        }
    }

    /// The picture fitted into `width` by `height` with its proportions kept, on white.
    pub fn resized(&self, width: usize, height: usize) -> Self {
        if (self.width, self.height) == (width, height) {
            return self.clone();
        }
        let scale = (width as f64 / self.width as f64).min(height as f64 / self.height as f64);
        let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
        let (inner_width, inner_height) =
            (side(self.width).min(width), side(self.height).min(height));
        let small = imageops::resize(
            &self.buffer(),
            inner_width as u32,
            inner_height as u32,
            imageops::FilterType::CatmullRom,
        );
        let mut out = Self::filled(width, height, [255; 3]);
        let small = Self {
            width: inner_width,
            height: inner_height,
            rgb: small.into_raw(),
        };
        out.paste(
            &small,
            (width - inner_width) / 2,
            (height - inner_height) / 2,
        );
        out
    }

    /// Each pixel as a square of `times` by `times`.
    pub fn repeated(&self, times: usize) -> Self {
        let mut out = Self::filled(self.width * times, self.height * times, [0; 3]);
        for row in 0..out.height {
            for column in 0..out.width {
                let from = 3 * ((row / times) * self.width + column / times);
                let to = 3 * (row * out.width + column);
                out.rgb[to..to + 3].copy_from_slice(&self.rgb[from..from + 3]);
            }
        }
        out
    }

    /// Copies `other` into this picture, its left upper corner at column `left` and row `top`; what lies outside is cut.
    pub fn paste(&mut self, other: &Self, left: usize, top: usize) {
        let columns = other.width.min(self.width.saturating_sub(left));
        for row in 0..other.height.min(self.height.saturating_sub(top)) {
            let from = 3 * row * other.width;
            let to = 3 * ((top + row) * self.width + left);
            self.rgb[to..to + 3 * columns].copy_from_slice(&other.rgb[from..from + 3 * columns]);
        }
    }

    fn buffer(&self) -> RgbImage {
        RgbImage::from_raw(self.width as u32, self.height as u32, self.rgb.clone())
            .expect("byte axis: three bytes a pixel")
    }
}

/// A batch from pictures of one size.
///
/// # Shapes
/// - returns: `[pictures, 3, height, width]` in `-1..=1`
///
/// # Panics
/// If there is no picture or their sizes differ.
pub fn images_from_pictures(pictures: &[Picture], device: &Device) -> Images {
    let (width, height) = (pictures[0].width, pictures[0].height);
    let plane = width * height;
    let mut values = Vec::with_capacity(pictures.len() * 3 * plane);
    for picture in pictures {
        assert_eq!(
            (picture.width, picture.height),
            (width, height),
            "height and width axes: all pictures of a batch have one size"
        );
        for channel in 0..3 {
            let bytes = picture.rgb[channel..].iter().step_by(3);
            values.extend(bytes.map(|&byte| f32::from(byte) / 127.5 - 1.0));
        }
    }
    let shape = [pictures.len(), 3, height, width];
    Images {
        pixels: Tensor::from_data(TensorData::new::<f32, _>(values, shape), device),
    }
}

/// Pictures of a batch: clamped to `-1..=1` and rounded to the nearest byte. Waits for the device.
pub fn pictures_from_images(images: &Images) -> Vec<Picture> {
    let [_, _, height, width] = images.pixels.dims();
    let values: Vec<f32> = images
        .pixels
        .to_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("numbers were converted to f32");
    let plane = width * height;
    values
        .chunks_exact(3 * plane)
        .map(|picture| {
            let byte = |at: usize| ((picture[at].clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8;
            let rgb = (0..plane)
                .flat_map(|at| [byte(at), byte(plane + at), byte(2 * plane + at)])
                .collect();
            Picture { width, height, rgb }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_to_tensors_and_back() {
        let rgb: Vec<u8> = (0..=255).chain(0..=127).collect();
        let picture = Picture {
            width: 16,
            height: 8,
            rgb,
        };
        let images = images_from_pictures(
            &[picture.clone(), picture.clone()],
            &ravel_testkit::device(),
        );
        assert_eq!(pictures_from_images(&images), [picture.clone(), picture]);
    }

    #[test]
    fn a_wide_picture_is_letterboxed_on_white() {
        let wide = Picture::filled(8, 4, [10, 20, 30]);
        let fitted = wide.resized(4, 4);
        assert_eq!(fitted.rgb[..3], [255; 3]);
        assert_eq!(fitted.rgb[3 * 4..3 * 4 + 3], [10, 20, 30]);
    }
}
