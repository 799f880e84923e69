//! Colours of video: which matrix and range turn a frame into RGB.

use ffmpeg_next::color::{Range, Space};
use ffmpeg_next::ffi;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context, Flags};

/// Rows from which on untagged video is taken for BT.709; below it is BT.601, as players do.
const HIGH_DEFINITION: u32 = 720;

/// How the numbers of a frame are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The number by which the scaler knows the matrix.
    matrix: i32,
    /// Whether luma goes from 0 to 255, not from 16 to 235.
    full: bool,
}

impl Meaning {
    /// What a frame's tags say; what is customary where they say nothing.
    pub fn of(frame: &Video) -> Self {
        let matrix = match frame.color_space() {
            Space::BT709 => ffi::SWS_CS_ITU709,
            Space::FCC => ffi::SWS_CS_FCC,
            Space::BT470BG | Space::SMPTE170M => ffi::SWS_CS_ITU601,
            Space::SMPTE240M => ffi::SWS_CS_SMPTE240M,
            Space::BT2020NCL | Space::BT2020CL => ffi::SWS_CS_BT2020,
            _ if frame.height() >= HIGH_DEFINITION => ffi::SWS_CS_ITU709,
            _ => ffi::SWS_CS_ITU601,
        };
        let by_format = matches!(
            frame.format(),
            Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P | Pixel::YUVJ440P | Pixel::YUVJ411P
        );
        Self {
            matrix,
            full: by_format || frame.color_range() == Range::JPEG,
        }
    }

    /// RGB bytes.
    fn rgb() -> Self {
        Self {
            matrix: ffi::SWS_CS_ITU709,
            full: true,
        }
    }
}

/// Whether a format has transparency.
pub fn is_transparent(format: Pixel) -> bool {
    format.descriptor().is_some_and(|descriptor| {
        // SAFETY: a descriptor points into a static table.
        let flags = unsafe { (*descriptor.as_ptr()).flags };
        flags & (ffi::AV_PIX_FMT_FLAG_ALPHA as u64) != 0
    })
}

/// A format and a size.
pub type Shape = (Pixel, u32, u32);

/// A converter that reads numbers of one meaning as RGB.
pub fn to_rgb(from: Shape, meaning: Meaning, to: Shape) -> Result<Context, ffmpeg_next::Error> {
    converter(from, meaning, to, Meaning::rgb())
}

fn converter(
    from: Shape,
    meant: Meaning,
    to: Shape,
    means: Meaning,
) -> Result<Context, ffmpeg_next::Error> {
    let exact = Flags::BICUBIC
        | Flags::ACCURATE_RND
        | Flags::FULL_CHR_H_INT
        | Flags::FULL_CHR_H_INP
        | Flags::BITEXACT;
    let mut context = Context::get(from.0, from.1, from.2, to.0, to.1, to.2, exact)?;
    // SAFETY: the context lives, the tables are static; formats that have no matrix are left as they are (-1).
    unsafe {
        ffi::sws_setColorspaceDetails(
            context.as_mut_ptr(),
            ffi::sws_getCoefficients(meant.matrix),
            i32::from(meant.full),
            ffi::sws_getCoefficients(means.matrix),
            i32::from(means.full),
            0,
            1 << 16,
            1 << 16,
        );
    }
    Ok(context)
}
