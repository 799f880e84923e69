//! Reading pictures from files that may be broken or hostile.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageError, ImageReader, Limits};

use crate::{MediaError, Picture};

/// Most pixels a side that are taken.
pub const MAX_SIDE: u32 = 16_384;
/// Most bytes that a decoder may take.
const MAX_ALLOCATION: u64 = 1 << 28;
/// Largest file that is read, in MiB.
const MAX_FILE_MIB: u64 = 256;
/// Most bytes that the compressed text of one PNG may swell to.
const MAX_TEXT: usize = 16 << 20;

/// Reads a PNG, JPEG, WebP or GIF (its first frame); the kind is found by content. Alpha is laid on white.
///
/// # Errors
/// [`MediaError`], also for sizes beyond [`MAX_SIDE`], which are refused before any pixel is decoded.
pub fn read_image(path: &Path) -> Result<Picture, MediaError> {
    decode_image(&read_file(path)?, path)
}

/// All bytes of a file, unless there is no end to them.
fn read_file(path: &Path) -> Result<Vec<u8>, MediaError> {
    let failed = |source| MediaError::File {
        path: path.into(),
        source,
    };
    let limit = MAX_FILE_MIB << 20;
    let file = File::open(path).map_err(failed)?;
    let mut size = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if size <= limit {
        // A device says 0 and goes on for ever.
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        size = read.map_err(failed)? as u64;
    }
    if size > limit {
        return Err(MediaError::Format {
            path: path.into(),
            reason: format!("it is larger than {MAX_FILE_MIB} MiB"),
        });
    }
    Ok(bytes)
}

/// As [`read_image`], from bytes; `path` stands for them in messages.
///
/// # Errors
/// As [`read_image`].
pub fn decode_image(bytes: &[u8], path: &Path) -> Result<Picture, MediaError> {
    let wrong = |error: ImageError| MediaError::Format {
        path: path.into(),
        reason: error.to_string().replace('\n', " "),
    };
    let open = || {
        ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .expect("bytes in memory can be read")
    };
    if bytes.is_empty() {
        return Err(MediaError::Format {
            path: path.into(),
            reason: "it is empty".into(),
        });
    }
    let (width, height) = open().into_dimensions().map_err(wrong)?;
    let sides = 1..=MAX_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) {
        return Err(MediaError::Size {
            path: path.into(),
            width,
            height,
        });
    }
    let mut reader = open();
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits);
    Ok(on_white(&reader.decode().map_err(wrong)?))
}

pub(crate) fn on_white(image: &DynamicImage) -> Picture {
    let image = image.to_rgba8();
    let rgb = image
        .pixels()
        .flat_map(|pixel| {
            let [red, green, blue, alpha] = pixel.0.map(u32::from);
            let over = |value: u32| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
            [over(red), over(green), over(blue)]
        })
        .collect();
    Picture {
        width: image.width() as usize,
        height: image.height() as usize,
        rgb,
    }
}

/// The text chunks of a PNG, as `(keyword, text)`.
///
/// # Errors
/// [`MediaError`] if the file is no PNG, or its text swells beyond all measure.
pub fn read_png_text(path: &Path) -> Result<Vec<(String, String)>, MediaError> {
    let bytes = read_file(path)?;
    let wrong = |reason: String| MediaError::Format {
        path: path.into(),
        reason,
    };
    let limits = png::Limits {
        bytes: MAX_ALLOCATION as usize,
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(false);
    let mut reader = decoder
        .read_info()
        .map_err(|error| wrong(error.to_string()))?;
    reader.finish().map_err(|error| wrong(error.to_string()))?;
    let info = reader.info();
    let plain = info
        .uncompressed_latin1_text
        .iter()
        .map(|chunk| Ok((chunk.keyword.clone(), chunk.text.clone())));
    let mut room = MAX_TEXT;
    let unicode = info.utf8_text.iter().map(|chunk| {
        let mut chunk = chunk.clone();
        let text = chunk
            .decompress_text_with_limit(room)
            .and_then(|()| chunk.get_text())
            .map_err(|error| wrong(error.to_string()))?;
        if chunk.compressed {
            room = room.saturating_sub(text.len());
        }
        Ok((chunk.keyword, text))
    });
    plain.chain(unicode).collect()
}
