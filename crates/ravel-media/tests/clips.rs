//! Clips without FFmpeg: folders, GIF, APNG, WebP; what they keep, and what they are refused for.

mod common;

use std::fs;
use std::path::Path;

use common::{difference, frame, frames, rate, read, refused, write};
use ravel_media::{ClipReader, ClipTarget, MediaError, encode_png, read_clip_text};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn pictures_keep_every_pixel_the_rate_and_what_they_say() {
    let folder = folder();
    let wanted = frames(13, 9, 5);
    for (name, per_second) in [
        ("a.png", "12"),
        ("b.webp", "25"),
        ("c", "24"),
        ("d.png", "29.97"),
    ] {
        let path = folder.path().join(name);
        write(&path, &wanted, per_second).unwrap();
        let (found, reader) = read(&path).unwrap();
        assert_eq!(found, wanted, "{name}");
        let expected = (name != "c").then(|| rate(per_second));
        assert_eq!(reader.info().rate, expected, "{name}");
        assert_eq!(reader.notes(), Vec::<String>::new(), "{name}");
        let text = read_clip_text(&path).unwrap().unwrap();
        assert!(
            text.contains("\"seed\":7") && text.contains('é'),
            "{name}: {text}"
        );
    }
    assert_eq!(files(folder.path()), 4, "nothing else is left");
}

#[test]
fn a_gif_keeps_few_colours_exactly_and_its_rate_in_the_long_run() {
    let folder = folder();
    let path = folder.path().join("a.gif");
    let wanted = frames(32, 24, 25);
    write(&path, &wanted, "12").unwrap();
    let mut reader = ClipReader::open(&path, Some(rate("12"))).unwrap();
    let found: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
    assert_eq!(found.len(), 25);
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!(difference(found, wanted) < 1.0);
    }
    assert_eq!(reader.notes(), Vec::<String>::new());
    assert!(
        read_clip_text(&path)
            .unwrap()
            .unwrap()
            .contains("\"seed\":7")
    );
}

#[test]
fn a_clip_of_uneven_delays_becomes_steady_and_says_so() {
    let folder = folder();
    let path = folder.path().join("a.gif");
    let file = fs::File::create(&path).unwrap();
    let mut encoder = image::codecs::gif::GifEncoder::new(file);
    for (index, delay) in [(0, 100), (1, 100), (2, 300), (3, 100), (4, 2000)] {
        let picture = frame(16, 12, index);
        let rgba =
            image::DynamicImage::from(image::RgbImage::from_raw(16, 12, picture.rgb).unwrap());
        let delay = image::Delay::from_numer_denom_ms(delay, 1);
        let frame = image::Frame::from_parts(rgba.to_rgba8(), 0, 0, delay);
        encoder.encode_frame(frame).unwrap();
    }
    drop(encoder);
    let (found, reader) = read(&path).unwrap();
    assert_eq!(reader.info().rate, Some(rate("10")));
    assert_eq!(found.len(), 7, "0, 1, 2, 2, 2, 3, 4");
    assert_eq!(found[2], found[4]);
    assert_ne!(found[4], found[5]);
    assert!(
        reader.notes()[0].contains("2 frames repeated"),
        "{:?}",
        reader.notes()
    );
}

#[test]
fn a_folder_is_read_in_the_order_of_its_numbers() {
    let folder = folder();
    for index in [2, 10, 1] {
        let png = encode_png(&frame(16, 12, index), &[]);
        fs::write(folder.path().join(format!("shot-{index}.png")), png).unwrap();
    }
    fs::write(folder.path().join("notes.txt"), "no frame").unwrap();
    fs::write(folder.path().join(".hidden.png"), "no frame").unwrap();
    let (found, _) = read(folder.path()).unwrap();
    assert_eq!(found, [1, 2, 10].map(|index| frame(16, 12, index)));
    // Whatever rate is asked for, each stands once.
    let reader = ClipReader::open(folder.path(), Some(rate("24"))).unwrap();
    assert_eq!(reader.info().rate, Some(rate("24")));
    assert_eq!(reader.count(), 3);
    let odd = encode_png(&frame(18, 12, 0), &[]);
    fs::write(folder.path().join("shot-3.png"), odd).unwrap();
    assert!(refused(folder.path()).contains("18 x 12"));
}

#[test]
fn what_is_no_clip_is_refused_in_one_line() {
    let folder = folder();
    let path = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(refused(&empty).contains("no frame"));
    assert!(refused(Path::new("https://example.org/a.mp4")).contains("address"));
    assert!(refused(Path::new("rtsp://example.org/a")).contains("address"));
    assert!(refused(&folder.path().join("missing.mp4")).contains("missing.mp4"));
    assert!(refused(Path::new("/dev/zero")).contains("neither a file"));
    assert!(refused(&path("a.mp4", b"")).contains("empty"));
    let playlist = b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n";
    assert!(refused(&path("b.mp4", playlist)).contains("playlist"));
    assert!(refused(&path("c.mp4", b"ffconcat version 1.0\nfile a.mp4\n")).contains("playlist"));
    assert!(refused(&path("d.mp4", b"RIFF\x24\0\0\0WAVEfmt ")).contains("sound"));
    refused(&path("e.gif", b"GIF89a"));
    refused(&path("f.png", b"\x89PNG\r\n\x1a\n"));
    refused(&path("g.webp", b"RIFF\x04\0\0\0WEBP"));
    refused(&path("h.mp4", b"no video at all"));
}

/// A GIF of many frames of one pixel on a large canvas.
fn bomb(side: u16, count: usize) -> Vec<u8> {
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend(side.to_le_bytes());
    bytes.extend(side.to_le_bytes());
    bytes.extend([0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
    for _ in 0..count {
        bytes.extend([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0]);
        bytes.extend([2, 2, 0x44, 0x01, 0]);
    }
    bytes.push(0x3b);
    bytes
}

#[test]
fn large_frames_are_refused_before_a_pixel_is_decoded_and_bombs_on_the_way() {
    let folder = folder();
    let small = folder.path().join("small.gif");
    fs::write(&small, bomb(16, 40)).unwrap();
    assert_eq!(
        read(&small).unwrap().0.len(),
        40,
        "the bomb itself is well formed"
    );
    let huge = folder.path().join("huge.gif");
    fs::write(&huge, bomb(20_000, 3)).unwrap();
    assert!(refused(&huge).contains("20000 x 20000"));
    let many = folder.path().join("many.gif");
    fs::write(&many, bomb(8000, 5000)).unwrap();
    assert!(refused(&many).contains("million pixels"));
    // The same promise in the other formats, on small files.
    let png = folder.path().join("a.png");
    let mut bytes = encode_png(&frame(16, 16, 0), &[]);
    bytes[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    fs::write(&png, with_png_sum(bytes)).unwrap();
    assert!(refused(&png).contains("20000"));
    let webp = folder.path().join("a.webp");
    write(&webp, &frames(16, 16, 3), "12").unwrap();
    let mut bytes = fs::read(&webp).unwrap();
    bytes[24..26].copy_from_slice(&19_999u16.to_le_bytes());
    fs::write(&webp, bytes).unwrap();
    refused(&webp);
}

/// The checksum of the header made right again.
fn with_png_sum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = bytes[12..29].iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    });
    bytes[29..33].copy_from_slice(&(!sum).to_be_bytes());
    bytes
}

#[test]
fn damaged_animations_end_early_or_are_refused_but_never_panic() {
    let folder = folder();
    for name in ["a.gif", "a.png", "a.webp"] {
        let path = folder.path().join(name);
        write(&path, &frames(12, 9, 4), "12").unwrap();
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(3) {
            fs::write(&path, &whole[..length]).unwrap();
            if let Ok((found, _)) = read(&path) {
                assert!(found.len() <= 4, "{name} cut to {length}");
            }
            let _ = read_clip_text(&path);
        }
        for at in (0..whole.len()).step_by(5) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            fs::write(&path, &bytes).unwrap();
            let _ = read(&path);
            let _ = read_clip_text(&path);
        }
        fs::write(&path, &whole[..whole.len() * 3 / 4]).unwrap();
        if let Ok((found, reader)) = read(&path) {
            assert!(
                found.len() < 4 && reader.notes()[0].contains("ends early"),
                "{name}"
            );
        }
    }
}

#[test]
fn an_unfinished_clip_leaves_nothing_and_nothing_is_replaced_unasked() {
    let folder = folder();
    let plan = ravel_media::ClipPlan {
        width: 8,
        height: 8,
        rate: rate("12"),
        frames: 2,
        text: String::new(),
    };
    for name in ["a.gif", "a.png", "a.webp", "a"] {
        let path = folder.path().join(name);
        let target = ClipTarget::of(&path, false).unwrap();
        let mut writer = ravel_media::ClipWriter::create(&target, &plan).unwrap();
        writer.push(&frame(8, 8, 0)).unwrap();
        drop(writer);
        assert_eq!(files(folder.path()), 0, "{name}");
    }
    let path = folder.path().join("a.gif");
    fs::write(&path, "mine").unwrap();
    let error = ClipTarget::of(&path, false).unwrap_err();
    assert!(matches!(error, MediaError::Exists { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    let error = ClipTarget::of(&folder.path().join("a.txt"), false).unwrap_err();
    assert!(error.to_string().contains(".mp4"), "{error}");
}

#[cfg(not(feature = "video"))]
#[test]
fn video_files_are_refused_by_name_in_a_build_without_them() {
    let folder = folder();
    let path = folder.path().join("a.mp4");
    let error = ClipTarget::of(&path, false).unwrap_err();
    assert!(matches!(error, MediaError::NeedsVideo { .. }), "{error}");
    fs::write(&path, b"\0\0\0\x18ftypisom").unwrap();
    assert!(refused(&path).contains("without video files"));
}
