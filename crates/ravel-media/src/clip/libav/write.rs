//! Frames into a video file, as they come.

use std::io::{Error as IoError, Result as IoResult, Seek, SeekFrom, Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ffmpeg_next::codec::Flags as CodecFlags;
use ffmpeg_next::color::{Primaries, Range, Space, TransferCharacteristic};
use ffmpeg_next::format::Flags as FormatFlags;
use ffmpeg_next::format::context::{Output, StreamIo};
use ffmpeg_next::format::{self, Pixel};
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Codec, Dictionary, Error, Packet, Rational, codec, encoder};
use ravel_files::WholeFile;

use crate::clip::write::{ClipFormat, ClipPlan, FrameSink, about};
use crate::{MediaError, Picture};

/// Encoders for mp4, mov and mkv, the best first, with their settings.
const H264_FIRST: &[(&str, &[(&str, &str)])] = &[
    (
        "libx264",
        &[("crf", "18"), ("preset", "medium"), X264_REPEATS],
    ),
    OPEN_H264,
    MPEG4,
    ("libvpx-vp9", VP9),
];
/// The same where nobody is to wait for a frame: none looks ahead.
const H264_AT_ONCE: &[(&str, &[(&str, &str)])] = &[
    (
        "libx264",
        &[
            ("crf", "18"),
            ("preset", "medium"),
            ("tune", "zerolatency"),
            X264_REPEATS,
        ],
    ),
    OPEN_H264,
    MPEG4,
];
/// Without it x264's AVX-512 code reads memory that nobody has written, and the same frames give other bytes.
const X264_REPEATS: (&str, &str) = ("x264-params", "cpu-independent=1");
const OPEN_H264: (&str, &[(&str, &str)]) = ("libopenh264", &[("b", "4M")]);
const MPEG4: (&str, &[(&str, &str)]) = ("mpeg4", &[("qmin", "2"), ("qmax", "4"), ("b", "8M")]);
/// Encoders for webm.
const WEBM: &[(&str, &[(&str, &str)])] = &[
    ("libvpx-vp9", VP9),
    ("libvpx", &[("crf", "10"), ("b", "4M")]),
];
const VP9: &[(&str, &str)] = &[("crf", "24"), ("b", "0"), ("cpu-used", "4")];

/// A video file that is being written.
pub struct VideoWriter {
    path: PathBuf,
    /// None for standard output.
    whole: Option<WholeFile>,
    fault: Fault,
    output: Output,
    encoder: encoder::Video,
    frame_base: Rational,
    stream_base: Rational,
    size: (usize, usize),
    frames: i64,
    notes: Vec<String>,
}

/// The first error of the system while writing, which the libraries only pass on as a number.
pub(super) type Fault = Arc<Mutex<Option<IoError>>>;

/// A writer that keeps its first error.
pub(super) struct Kept<W> {
    pub inner: W,
    pub fault: Fault,
}

impl<W> Kept<W> {
    fn keep<T>(&self, result: IoResult<T>) -> IoResult<T> {
        result.map_err(|error| {
            let kind = error.kind();
            let mut fault = self.fault.lock().expect("no holder panics");
            fault.get_or_insert(error);
            kind.into()
        })
    }
}

impl<W: Write> Write for Kept<W> {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        let written = self.inner.write(bytes);
        self.keep(written)
    }

    fn flush(&mut self) -> IoResult<()> {
        let flushed = self.inner.flush();
        self.keep(flushed)
    }
}

impl<W: Seek> Seek for Kept<W> {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        let sought = self.inner.seek(to);
        self.keep(sought)
    }
}

/// Standard output, every packet at once on its way.
struct Through(Stdout);

impl Write for Through {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        let written = self.0.write(bytes)?;
        self.0.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> IoResult<()> {
        self.0.flush()
    }
}

impl VideoWriter {
    /// A file beside its place.
    pub fn create(
        path: &Path,
        format: ClipFormat,
        force: bool,
        plan: &ClipPlan,
    ) -> Result<Self, MediaError> {
        let (name, encoders, header): (_, _, &[_]) = match format {
            ClipFormat::WebM => ("webm", WEBM, &[]),
            ClipFormat::Mkv => ("matroska", H264_FIRST, &[]),
            ClipFormat::Mov => ("mov", H264_FIRST, &[("movflags", "+write_colr")]),
            _ => ("mp4", H264_FIRST, &[("movflags", "+write_colr")]),
        };
        let mut whole = WholeFile::create(path, force).map_err(about(path))?;
        let inner = whole.file().try_clone().map_err(about(path))?;
        let fault = Fault::default();
        let io = StreamIo::from_write_seek(Kept {
            inner,
            fault: fault.clone(),
        });
        Self::begin(path, Some(whole), io, fault, name, encoders, header, plan)
    }

    /// Fragments of mp4 on standard output, one for every frame, as it comes.
    pub fn to_standard_output(plan: &ClipPlan) -> Result<Self, MediaError> {
        let fault = Fault::default();
        let io = StreamIo::from_write(Kept {
            inner: Through(std::io::stdout()),
            fault: fault.clone(),
        });
        let flags = "+frag_every_frame+empty_moov+default_base_moof+write_colr";
        let header = &[("movflags", flags), ("flush_packets", "1")];
        Self::begin(
            Path::new("-"),
            None,
            io,
            fault,
            "mp4",
            H264_AT_ONCE,
            header,
            plan,
        )
    }

    fn begin(
        path: &Path,
        whole: Option<WholeFile>,
        io: Result<StreamIo, Error>,
        fault: Fault,
        name: &str,
        encoders: &[(&str, &[(&str, &str)])],
        header: &[(&str, &str)],
        plan: &ClipPlan,
    ) -> Result<Self, MediaError> {
        super::initialize();
        let wrong = |error: Error| failed(path, &fault, error);
        let mut output = io
            .and_then(|io| format::output_to_stream(io, None, Some(name)))
            .map_err(wrong)?;
        let global = output.format().flags().contains(FormatFlags::GLOBAL_HEADER);
        let (codec, encoder) =
            opened(encoders, plan, global).ok_or_else(|| MediaError::Encode {
                path: path.into(),
                reason: format!(
                    "no encoder of {} takes {} x {} pixels",
                    names(encoders),
                    plan.width,
                    plan.height
                ),
            })?;
        let frame_base = base(plan);
        let mut stream = output.add_stream(codec).map_err(wrong)?;
        stream.set_parameters(&encoder);
        stream.set_time_base(frame_base);
        stream.set_avg_frame_rate(frame_base.invert());
        stream.set_rate(frame_base.invert());
        let mut said = Dictionary::new();
        said.set("comment", &plan.text);
        said.set("title", "generated by ravel");
        output.set_metadata(said);
        let mut options: Dictionary<'_> = header.iter().copied().collect();
        options.set("fflags", "+bitexact"); // No random numbers, no dates: the same bytes again.
        output.write_header_with(options).map_err(wrong)?;
        let (width, height) = even(plan);
        let mut notes = vec![];
        if (width as usize, height as usize) != (plan.width, plan.height) {
            notes.push(format!(
                "video has even sides: the edge is repeated to {width} x {height}"
            ));
        }
        if codec.name() != encoders[0].0 {
            notes.push(format!(
                "encoded by {}, {} is not there",
                codec.name(),
                encoders[0].0
            ));
        }
        Ok(Self {
            stream_base: output.stream(0).expect("it was added above").time_base(),
            path: path.into(),
            whole,
            fault,
            output,
            encoder,
            frame_base,
            size: (width as usize, height as usize),
            frames: 0,
            notes,
        })
    }

    fn drain(&mut self) -> Result<(), Error> {
        let bases = (self.frame_base, self.stream_base);
        drain(&mut self.encoder, &mut self.output, bases, Some(1))
    }

    fn encode(&mut self, picture: &Picture) -> Result<(), Error> {
        let mut frame = Video::new(Pixel::YUV420P, self.size.0 as u32, self.size.1 as u32);
        fill(&mut frame, picture);
        frame.set_pts(Some(self.frames));
        frame.set_color_space(Space::BT709);
        frame.set_color_range(Range::MPEG);
        frame.set_color_primaries(Primaries::BT709);
        frame.set_color_transfer_characteristic(TransferCharacteristic::BT709);
        self.frames += 1;
        self.encoder.send_frame(&frame)?;
        self.drain()
    }

    fn checked(&self, result: Result<(), Error>) -> Result<(), MediaError> {
        checked(&self.path, &self.fault, result)
    }
}

/// Writes the packets that an encoder has, from its time base to the stream's; `duration` in its own where packets do not know theirs.
pub(super) fn drain(
    encoder: &mut encoder::Encoder,
    output: &mut Output,
    (from, to): (Rational, Rational),
    duration: Option<i64>,
) -> Result<(), Error> {
    loop {
        let mut packet = Packet::empty();
        match encoder.receive_packet(&mut packet) {
            Ok(()) => {}
            Err(Error::Eof) => return Ok(()),
            Err(Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => return Ok(()),
            Err(error) => return Err(error),
        }
        packet.set_stream(0);
        if let Some(duration) = duration {
            packet.set_duration(duration);
        }
        packet.rescale_ts(from, to);
        packet.write_interleaved(output)?;
    }
}

/// The system's own error before what the libraries make of it.
pub(super) fn checked(
    path: &Path,
    fault: &Fault,
    result: Result<(), Error>,
) -> Result<(), MediaError> {
    let first = fault.lock().expect("no holder panics").take();
    match first {
        Some(first) => Err(about(path)(first)),
        None => result.map_err(|error| failed(path, fault, error)),
    }
}

impl FrameSink for VideoWriter {
    fn push(&mut self, picture: &Picture) -> Result<(), MediaError> {
        let encoded = self.encode(picture);
        self.checked(encoded)
    }

    fn finish(self: Box<Self>) -> Result<(), MediaError> {
        let mut this = *self;
        let ended = this
            .encoder
            .send_eof()
            .and_then(|()| this.drain())
            .and_then(|()| this.output.write_trailer());
        this.checked(ended)?;
        let Self {
            path,
            whole,
            fault,
            output,
            encoder,
            ..
        } = this;
        drop((encoder, output)); // The last buffered bytes leave here.
        if let Some(fault) = fault.lock().expect("no holder panics").take() {
            return Err(about(&path)(fault));
        }
        whole.map_or(Ok(()), |whole| whole.commit().map_err(about(&path)))
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// The first encoder of a list that is there and opens.
fn opened(
    encoders: &[(&str, &[(&str, &str)])],
    plan: &ClipPlan,
    global_header: bool,
) -> Option<(Codec, encoder::Video)> {
    encoders.iter().find_map(|(name, settings)| {
        let found = encoder::find_by_name(name)?;
        let mut video = codec::Context::new_with_codec(found)
            .encoder()
            .video()
            .ok()?;
        let (width, height) = even(plan);
        video.set_width(width);
        video.set_height(height);
        video.set_format(Pixel::YUV420P);
        video.set_time_base(base(plan));
        video.set_frame_rate(Some(base(plan).invert()));
        video.set_aspect_ratio((1, 1));
        video.set_colorspace(Space::BT709);
        video.set_color_range(Range::MPEG);
        video.set_color_primaries(Primaries::BT709);
        video.set_color_transfer_characteristic(TransferCharacteristic::BT709);
        let mut flags = CodecFlags::CLOSED_GOP;
        flags.set(CodecFlags::GLOBAL_HEADER, global_header);
        video.set_flags(flags);
        let mut options: Dictionary<'_> = settings.iter().copied().collect();
        options.set("threads", "1"); // The same bytes on every machine.
        let encoder = video.open_with(options).ok()?;
        Some((found, encoder))
    })
}

fn names(encoders: &[(&str, &[(&str, &str)])]) -> String {
    let names: Vec<&str> = encoders.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Seconds of a frame.
fn base(plan: &ClipPlan) -> Rational {
    let (numerator, denominator) = plan.rate.fraction();
    Rational::new(denominator as i32, numerator as i32)
}

/// Sides that 4:2:0 can halve.
fn even(plan: &ClipPlan) -> (u32, u32) {
    let side = |length: usize| length.next_multiple_of(2) as u32;
    (side(plan.width), side(plan.height))
}

/// BT.709 of limited range at half the resolution of colour, the last column and row repeated to the frame's even size. Our own
/// sums, since the libraries' converter leaves the last bit of the first frame to chance.
fn fill(frame: &mut Video, picture: &Picture) {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let colour = |column: usize, row: usize| -> [f32; 3] {
        let (column, row) = (column.min(picture.width - 1), row.min(picture.height - 1));
        let at = 3 * (row * picture.width + column);
        [0, 1, 2].map(|channel| f32::from(picture.rgb[at + channel]))
    };
    let luma = |[red, green, blue]: [f32; 3]| 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    let stride = frame.stride(0);
    let plane = frame.data_mut(0);
    for at in 0..width * height {
        let (column, row) = (at % width, at / width);
        let value = 16.0 + luma(colour(column, row)) * 219.0 / 255.0;
        plane[row * stride + column] = value.round() as u8;
    }
    for (number, channel, range) in [(1, 2, 1.8556), (2, 0, 1.5748)] {
        let stride = frame.stride(number);
        let plane = frame.data_mut(number);
        for at in 0..width / 2 * (height / 2) {
            let (column, row) = (at % (width / 2), at / (width / 2));
            let four = [(0, 0), (1, 0), (0, 1), (1, 1)]
                .map(|(right, down)| colour(2 * column + right, 2 * row + down));
            let apart: f32 = four.iter().map(|&rgb| rgb[channel] - luma(rgb)).sum();
            let value = 128.0 + apart / 4.0 / range * 224.0 / 255.0;
            plane[row * stride + column] = value.round().clamp(16.0, 240.0) as u8;
        }
    }
}

pub(super) fn failed(path: &Path, fault: &Fault, error: Error) -> MediaError {
    match fault.lock().expect("no holder panics").take() {
        Some(fault) => about(path)(fault),
        None => MediaError::Encode {
            path: path.into(),
            reason: error.to_string(),
        },
    }
}
