//! Broken and hostile picture files, and outputs that must not be touched.

use std::path::Path;

use ravel_media::{Picture, decode_image, encode_png, read_image, read_png_text, write_new};

fn check_refused(bytes: &[u8], expected: &str) {
    let line = decode_image(bytes, Path::new("in.png"))
        .expect_err("a broken picture was accepted")
        .to_string();
    assert!(line.contains(expected), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn broken_pictures_are_refused_in_one_line() {
    let whole = encode_png(&Picture::filled(9, 7, [1, 2, 3]), &[]);
    check_refused(b"", "empty");
    check_refused(b"just text", "not a picture");
    check_refused(&whole[..30], "not a picture");
    check_refused(&whole[..whole.len() - 20], "not a picture");
}

#[test]
fn huge_pictures_are_refused_before_they_are_decoded() {
    // The header of a 20,000 pixel PNG in front of the pixels of a small one.
    let mut bytes = encode_png(&Picture::filled(9, 7, [1, 2, 3]), &[]);
    bytes[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&20_000u32.to_be_bytes());
    let sum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    check_refused(&bytes, "20000 x 20000");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[test]
fn text_chunks_come_back_and_bytes_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.png");
    let picture = Picture::filled(3, 3, [9, 8, 7]);
    let text = [("prompt".to_string(), "ein rotes Herz ❤".to_string())];
    let bytes = encode_png(&picture, &text);
    assert_eq!(bytes, encode_png(&picture, &text));
    write_new(&path, &bytes, false).unwrap();
    assert_eq!(read_png_text(&path).unwrap(), text);
    assert_eq!(read_image(&path).unwrap(), picture);
}

#[test]
fn a_file_that_is_there_is_kept_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.png");
    write_new(&path, b"first", false).unwrap();
    let line = write_new(&path, b"second", false).unwrap_err().to_string();
    assert!(line.contains("--force"), "{line}");
    assert_eq!(std::fs::read(&path).unwrap(), b"first");
    write_new(&path, b"third", true).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"third");
    assert!(write_new(&folder.path().join("no/such/out.png"), b"x", false).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
