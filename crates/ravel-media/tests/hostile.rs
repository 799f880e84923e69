//! Broken and hostile picture files, and outputs that must not be touched.

use std::io::Cursor;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ravel_core::Images;
use ravel_media::{
    Picture, contact_sheet, decode_image, encode_png, pictures_from_images, read_image,
    read_png_text, write_new,
};

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

const FORMATS: [ImageFormat; 4] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Gif,
];

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn ramp() -> DynamicImage {
    let colour = |x: u32, y: u32| Rgb([(x * 9) as u8, (y * 13) as u8, (x * y) as u8]);
    RgbImage::from_fn(19, 17, colour).into()
}

/// Decodes to a picture that is whole, or to an error of one line; anything else fails the test.
fn check_survives(bytes: &[u8]) {
    match decode_image(bytes, Path::new("in.png")) {
        Ok(picture) => assert_eq!(picture.rgb.len(), 3 * picture.width * picture.height),
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    let length = (data.len() as u32).to_be_bytes();
    [&length[..], &body, &crc32(&body).to_be_bytes()].concat()
}

/// A PNG that ends behind its header: RGB, 8 bits.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let data = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, 2, 0, 0, 0],
    ]
    .concat();
    let end = [png_chunk(b"IDAT", &[]), png_chunk(b"IEND", &[])].concat();
    [b"\x89PNG\r\n\x1a\n", &png_chunk(b"IHDR", &data)[..], &end].concat()
}

#[test]
fn cut_and_flipped_files_never_panic() {
    for format in FORMATS {
        let whole = encoded(&ramp(), format);
        check_survives(&whole);
        for end in 0..whole.len() {
            check_survives(&whole[..end]);
        }
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            check_survives(&bytes);
        }
    }
}

#[test]
fn sides_that_are_zero_or_too_long_are_refused_in_every_format() {
    for (width, height) in [
        (0, 5),
        (5, 0),
        (0, 0),
        (16_385, 1),
        (1, 20_000),
        (u32::MAX, u32::MAX),
    ] {
        check_refused(&png_header(width, height), "in.png: ");
    }
    check_refused(&png_header(16_385, 1), "16385 x 1 pixels");
    let mut gif = encoded(&ramp(), ImageFormat::Gif);
    gif[6..10].copy_from_slice(&[0x20, 0x4E, 0x20, 0x4E]);
    check_refused(&gif, "20000 x 20000 pixels");
    gif[6..10].fill(0);
    check_refused(&gif, "0 x 0 pixels");
    let mut jpeg = encoded(&ramp(), ImageFormat::Jpeg);
    let frame = jpeg
        .windows(2)
        .position(|mark| mark == [0xFF, 0xC0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x4E, 0x20, 0x4E, 0x20]);
    check_refused(&jpeg, "in.png: ");
    jpeg[frame + 5..frame + 9].fill(0);
    check_refused(&jpeg, "in.png: ");
    let canvas = [0, 0, 0, 0, 0x1F, 0x4E, 0, 0x1F, 0x4E, 0];
    let webp = [b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0", &canvas[..]].concat();
    check_refused(&webp, "in.png: ");
}

#[test]
fn every_kind_of_pixel_becomes_rgb() {
    let check = |image: DynamicImage, format, expected: [u8; 3]| {
        // The name says PNG whatever is inside: the content decides.
        let picture = decode_image(&encoded(&image, format), Path::new("in.png")).unwrap();
        assert_eq!(picture, Picture::filled(3, 2, expected), "{format:?}");
    };
    let rgba = |pixel| image::RgbaImage::from_pixel(3, 2, image::Rgba(pixel));
    check(
        rgba([200, 100, 0, 255]).into(),
        ImageFormat::Png,
        [200, 100, 0],
    );
    check(rgba([200, 100, 0, 0]).into(), ImageFormat::Png, [255; 3]);
    check(
        rgba([200, 100, 0, 51]).into(),
        ImageFormat::WebP,
        [244, 224, 204],
    );
    check(rgba([0, 0, 0, 0]).into(), ImageFormat::Gif, [255; 3]);
    let gray = DynamicImage::ImageRgb8(RgbImage::from_pixel(3, 2, Rgb([77; 3])));
    check(gray.to_luma8().into(), ImageFormat::Png, [77; 3]);
    check(gray.to_luma_alpha8().into(), ImageFormat::Png, [77; 3]);
    check(gray.to_rgb16().into(), ImageFormat::Png, [77; 3]);
    check(gray.to_luma16().into(), ImageFormat::Png, [77; 3]);
    check(gray.to_rgba16().into(), ImageFormat::Png, [77; 3]);
    check(gray.to_luma8().into(), ImageFormat::Jpeg, [77; 3]);
}

/// Eight by eight pixels in four inks, each at half: one Huffman code and one quantization step of 1.
fn cmyk_jpeg() -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
    bytes.extend([1; 64]);
    bytes.extend([0xFF, 0xC0, 0, 20, 8, 0, 8, 0, 8, 4]);
    (1..=4).for_each(|ink| bytes.extend([ink, 0x11, 0]));
    for table in [0x00, 0x10] {
        bytes.extend([0xFF, 0xC4, 0, 20, table, 1]);
        bytes.extend([0; 16]); // No longer codes; the one value is 0: no difference, end of block.
    }
    bytes.extend([0xFF, 0xDA, 0, 14, 4]);
    (1..=4).for_each(|ink| bytes.extend([ink, 0]));
    bytes.extend([0, 63, 0, 0x00, 0xFF, 0xD9]);
    bytes
}

#[test]
fn a_jpeg_in_four_inks_is_read() {
    let picture = decode_image(&cmyk_jpeg(), Path::new("in.jpg")).unwrap();
    assert_eq!((picture.width, picture.height), (8, 8));
    let gray = picture.rgb[0];
    assert!(
        picture.rgb.iter().all(|&byte| byte == gray),
        "{:?}",
        &picture.rgb[..6]
    );
    assert!(
        (40..=90).contains(&gray),
        "half of the light, then half again: {gray}"
    );
}

#[test]
fn any_prompt_survives_in_the_text_of_a_png() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.png");
    let prompts = [
        "",
        "\0",
        "a\nb\r\n",
        "\u{202e}\u{feff}שלום",
        "👩🏿‍🚒",
        &"long é ".repeat(15_000),
    ];
    let text: Vec<_> = prompts
        .iter()
        .map(|prompt| ("prompt".into(), prompt.to_string()))
        .collect();
    write_new(
        &path,
        &encode_png(&Picture::filled(1, 1, [0; 3]), &text),
        false,
    )
    .unwrap();
    assert_eq!(read_png_text(&path).unwrap(), text);
}

#[test]
fn text_is_read_from_honest_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.png");
    let check = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let line = read_png_text(&path).expect_err("accepted").to_string();
        assert!(line.starts_with(&path.display().to_string()), "{line}");
        assert!(!line.contains(char::is_control), "{line:?}");
    };
    let whole = encode_png(
        &Picture::filled(2, 2, [0; 3]),
        &[("prompt".into(), "heart".into())],
    );
    check(b"");
    check(b"just text");
    check(&encoded(&ramp(), ImageFormat::Jpeg));
    check(&whole[..45]);
    check(&png_header(0, 1));
    check(&png_header(0x7FFF_FFFF, 0x7FFF_FFFF));
    assert!(read_png_text(folder.path()).is_err());
    // Files below a mebibyte that swell to 64 MiB of text, in one piece or in many.
    check(&png_of_swelling_text(1, 64));
    check(&png_of_swelling_text(64, 1));
    // Compressed text of a fair size is fine.
    std::fs::write(&path, png_of_swelling_text(2, 1)).unwrap();
    let sizes = read_png_text(&path)
        .unwrap()
        .into_iter()
        .map(|(_, text)| text.len());
    assert_eq!(sizes.collect::<Vec<_>>(), [1 << 20; 2]);
}

fn png_of_swelling_text(chunks: usize, mebibytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = png::Encoder::new(&mut bytes, 1, 1).write_header().unwrap();
    let mut text = png::text_metadata::ITXtChunk::new("prompt", "a".repeat(mebibytes << 20));
    text.compressed = true;
    text.compress_text().unwrap();
    (0..chunks).for_each(|_| writer.write_text_chunk(&text).unwrap());
    writer.write_image_data(&[0]).unwrap();
    writer.finish().unwrap();
    assert!(bytes.len() < 1 << 20);
    bytes
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_goes_on_and_on_is_refused_by_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.png");
    // A terabyte of zeros that takes no room on the disk.
    std::fs::File::create(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let errors = [
        read_image(&path).unwrap_err(),
        read_png_text(&path).unwrap_err(),
        read_image(Path::new("/dev/zero")).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("larger than 256 MiB"), "{error}");
    }
}

#[test]
fn outputs_that_cannot_be_written_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"kept").unwrap();
    let long = folder.path().join("x".repeat(300));
    let paths = [
        folder.path().into(),
        file.join("out.png"),
        folder.path().join("no/out.png"),
        long,
    ];
    for path in &paths {
        for force in [false, true] {
            let line = write_new(path, b"new", force).unwrap_err().to_string();
            assert!(line.contains(&path.display().to_string()), "{line}");
            assert!(
                !line.contains(".ravel-"),
                "our own temporary file is nobody's matter: {line}"
            );
            assert_eq!(line.lines().count(), 1);
        }
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
#[cfg(unix)]
fn a_link_at_the_output_is_never_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (link, target) = (
        folder.path().join("out.png"),
        folder.path().join("elsewhere"),
    );
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(write_new(&link, b"new", false).is_err());
    assert!(!target.exists());
    write_new(&link, b"new", true).unwrap();
    assert!(!target.exists());
    assert_eq!(std::fs::read(&link).unwrap(), b"new");
}

#[test]
fn of_many_writers_one_wins_and_its_file_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.png");
    let winners = std::thread::scope(|scope| {
        let write = |at: u8| write_new(&path, &[at; 100_000], false).map(|()| at).ok();
        let threads: Vec<_> = (0..8).map(|at| scope.spawn(move || write(at))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(winners.len(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), [winners[0]; 100_000]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn captions_and_shapes_of_any_kind_make_a_sheet() {
    let captions = [
        "",
        "\0\u{1b}[2J\n\u{7f}",
        "👩🏿‍🚒 é",
        &"w".repeat(100_000),
        &"a b ".repeat(25_000),
    ];
    let captions: Vec<String> = captions.iter().map(|caption| caption.to_string()).collect();
    for side in [1, 8, 64] {
        let pictures = vec![Picture::filled(side, side, [0; 3]); captions.len()];
        for columns in [1, 3, 1000] {
            let sheet = contact_sheet(&pictures, &captions, columns, 2);
            assert_eq!(sheet.rgb.len(), 3 * sheet.width * sheet.height);
        }
    }
    assert_eq!(
        Picture::filled(16_384, 1, [0; 3]).resized(8, 8).rgb.len(),
        3 * 64
    );
    assert_eq!(
        Picture::filled(1, 16_384, [0; 3]).resized(8, 8).rgb.len(),
        3 * 64
    );
}

#[test]
fn pixels_that_are_no_numbers_become_bytes_all_the_same() {
    let wild = vec![
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e30,
        -1e30,
        -0.0,
    ];
    let data = TensorData::new::<f32, _>(wild, [1, 3, 1, 2]);
    let images = Images {
        pixels: Tensor::from_data(data, &ravel_testkit::device()),
    };
    // Channel first: red is NaN and +inf, green -inf and 1e30, blue -1e30 and 0.
    assert_eq!(
        pictures_from_images(&images)[0].rgb,
        [0, 0, 0, 255, 255, 128]
    );
}
