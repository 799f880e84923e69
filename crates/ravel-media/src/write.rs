//! Writing pictures: the same bytes for the same pixels, never over a file that is there.

use std::io::ErrorKind;
use std::path::Path;

use crate::{MediaError, Picture};

/// A PNG with text chunks (`iTXt`, so that any Unicode fits). The bytes follow from the arguments alone.
///
/// # Panics
/// If a keyword is not 1 to 79 Latin letters, or the picture has no pixels.
pub fn encode_png(picture: &Picture, text: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, value) in text {
        encoder
            .add_itxt_chunk(keyword.clone(), value.clone())
            .expect("keyword axis: our own keywords are short Latin words");
    }
    let mut writer = encoder.write_header().expect("a vector takes all bytes");
    writer
        .write_image_data(&picture.rgb)
        .expect("byte axis: three bytes a pixel");
    writer.finish().expect("a vector takes all bytes");
    bytes
}

/// Writes a new file, whole or not at all. A file that is there already is replaced only with `force`.
///
/// # Errors
/// [`MediaError::Exists`] or [`MediaError::File`]; nothing is changed then.
pub fn write_new(path: &Path, bytes: &[u8], force: bool) -> Result<(), MediaError> {
    ravel_files::write_whole(path, bytes, force).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => MediaError::Exists { path: path.into() },
        _ => MediaError::File {
            path: path.into(),
            source,
        },
    })
}
