//! Video files through FFmpeg's libraries, held against the `ffmpeg` and `ffprobe` programs.
#![cfg(feature = "video")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{difference, frame, frames, rate, read, refused, write};
use ravel_media::{ClipPlan, ClipReader, ClipTarget, ClipWriter, read_clip_text};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

/// Runs a program of FFmpeg in a folder.
#[track_caller]
fn program(name: &str, folder: &Path, arguments: &str) -> String {
    let output = Command::new(name)
        .args(["-v", "error"])
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{name} (Debian package ffmpeg) is needed: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn ffmpeg(folder: &Path, arguments: &str) {
    program("ffmpeg", folder, &format!("-nostdin -y {arguments}"));
}

fn probed(folder: &Path, name: &str, entries: &str) -> String {
    let arguments = format!(
        "-count_frames -select_streams v:0 -show_entries stream={entries} -of csv=p=0 {name}"
    );
    program("ffprobe", folder, &arguments).trim().to_string()
}

#[test]
fn what_is_written_is_what_ffprobe_and_we_read() {
    let folder = folder();
    let wanted = frames(64, 48, 20);
    for (name, codec) in [
        ("a.mp4", "h264"),
        ("a.mov", "h264"),
        ("a.mkv", "h264"),
        ("a.webm", "vp9"),
    ] {
        let path = folder.path().join(name);
        write(&path, &wanted, "12").unwrap();
        let entries = "codec_name,width,height,pix_fmt,color_range,color_space,color_transfer,color_primaries,r_frame_rate,nb_read_frames";
        let found = probed(folder.path(), name, entries);
        assert_eq!(
            found,
            format!("{codec},64,48,yuv420p,tv,bt709,bt709,bt709,12/1,20"),
            "{name}"
        );
        let (found, reader) = read(&path).unwrap();
        assert_eq!(found.len(), 20, "{name}");
        assert_eq!(reader.info().rate, Some(rate("12")), "{name}");
        assert_eq!(reader.notes(), Vec::<String>::new(), "{name}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(
                difference(found, wanted) < 4.0,
                "{name}: {}",
                difference(found, wanted)
            );
        }
        let text = read_clip_text(&path).unwrap().unwrap();
        assert_eq!(text, "{\"seed\":7,\"what\":\"é\"}", "{name}");
        let before = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        write(&path, &wanted, "12").unwrap();
        assert!(
            fs::read(&path).unwrap() == before,
            "{name}: the same bytes again"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[test]
fn an_mp4_of_the_ffmpeg_program_is_read_frame_by_frame() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=96x64:rate=25:duration=1 -pix_fmt yuv420p a.mp4",
    );
    ffmpeg(
        folder.path(),
        "-i a.mp4 -sws_flags bicubic+accurate_rnd+full_chroma_int -f rawvideo -pix_fmt rgb24 a.rgb",
    );
    let expected = fs::read(folder.path().join("a.rgb")).unwrap();
    let (found, reader) = read(&folder.path().join("a.mp4")).unwrap();
    let info = reader.info();
    assert_eq!(
        (info.width, info.height, info.rate),
        (96, 64, Some(rate("25")))
    );
    assert_eq!(found.len(), 25);
    for (found, expected) in found.iter().zip(expected.chunks(3 * 96 * 64)) {
        let mut wanted = found.clone();
        wanted.rgb = expected.to_vec();
        assert!(
            difference(found, &wanted) < 1.0,
            "{}",
            difference(found, &wanted)
        );
    }
}

#[test]
fn colours_follow_matrix_and_range() {
    let folder = folder();
    let plain = "-f lavfi -i color=c=0x3C9628:size=64x48:rate=10:duration=0.5 -c:v libx264 -crf 1 -pix_fmt yuv420p";
    for (name, matrix, range) in [
        ("a", "bt709", "tv"),
        ("b", "smpte170m", "tv"),
        ("c", "bt709", "pc"),
    ] {
        let convert = format!(
            "-vf scale=out_color_matrix={matrix}:out_range={range} -colorspace {matrix} -color_range {range}"
        );
        ffmpeg(folder.path(), &format!("{plain} {convert} {name}.mp4"));
        let (found, _) = read(&folder.path().join(format!("{name}.mp4"))).unwrap();
        let middle = &found[2].rgb[3 * (24 * 64 + 32)..][..3];
        for (found, wanted) in middle.iter().zip([0x3C, 0x96, 0x28u8]) {
            assert!(found.abs_diff(wanted) <= 3, "{matrix} {range}: {middle:?}");
        }
    }
}

#[test]
fn odd_sizes_are_read_as_they_are_and_written_with_the_edge_repeated() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc=size=37x21:rate=10:duration=0.5 -c:v ffv1 a.mkv",
    );
    let (found, _) = read(&folder.path().join("a.mkv")).unwrap();
    assert_eq!((found.len(), found[0].width, found[0].height), (5, 37, 21));
    let path = folder.path().join("b.mp4");
    let plan = ClipPlan {
        width: 37,
        height: 21,
        rate: rate("10"),
        frames: 5,
        text: String::new(),
    };
    let target = ClipTarget::of(&path, false).unwrap();
    let mut writer = ClipWriter::create(&target, &plan).unwrap();
    assert!(writer.notes()[0].contains("38 x 22"));
    found.iter().for_each(|frame| writer.push(frame).unwrap());
    writer.finish().unwrap();
    assert_eq!(
        probed(folder.path(), "b.mp4", "width,height,nb_read_frames"),
        "38,22,5"
    );
}

#[test]
fn pixels_that_are_no_squares_become_squares() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=36x48:rate=10:duration=0.3 -vf setsar=16/9 -pix_fmt yuv420p a.mp4",
    );
    let (found, reader) = read(&folder.path().join("a.mp4")).unwrap();
    assert_eq!((reader.info().width, reader.info().height), (64, 48));
    assert_eq!((found[0].width, found[0].height), (64, 48));
}

#[test]
fn turned_video_is_read_upright() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i color=c=white:size=64x32:rate=10:duration=0.3 -vf drawbox=x=0:y=0:w=16:h=16:c=red:t=fill -pix_fmt yuv420p a.mp4",
    );
    ffmpeg(
        folder.path(),
        "-i a.mp4 -c copy -metadata:s:v rotate=90 b.mp4",
    );
    // What the program itself shows, turned by its own rule.
    ffmpeg(folder.path(), "-i b.mp4 -frames:v 1 b.png");
    let (found, reader) = read(&folder.path().join("b.mp4")).unwrap();
    assert_eq!((reader.info().width, reader.info().height), (32, 64));
    let shown = ravel_media::read_image(&folder.path().join("b.png")).unwrap();
    assert_eq!((shown.width, shown.height), (32, 64));
    assert!(
        difference(&found[0], &shown) < 2.0,
        "{}",
        difference(&found[0], &shown)
    );
}

#[test]
fn a_variable_rate_becomes_steady_by_time_stamps_and_says_so() {
    let folder = folder();
    // Ten frames at 10 a second, of which three are gone.
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=10:duration=1 -vf select='not(between(n,3,5))' -fps_mode vfr -pix_fmt yuv420p a.mkv",
    );
    let path = folder.path().join("a.mkv");
    let mut reader = ClipReader::open(&path, Some(rate("10"))).unwrap();
    let found: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
    assert_eq!(found.len(), 10);
    assert_eq!(found[2], found[5], "the frame before the gap stays");
    assert_ne!(found[5], found[6]);
    assert!(
        reader.notes()[0].contains("3 frames repeated"),
        "{:?}",
        reader.notes()
    );
}

#[test]
fn sound_pictures_and_large_frames_are_refused() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i sine=duration=1 -c:a aac a.m4a");
    assert!(refused(&folder.path().join("a.m4a")).contains("sound only"));
    ffmpeg(
        folder.path(),
        "-f lavfi -i color=size=20000x8:rate=1:duration=1 -c:v png b.mov",
    );
    assert!(refused(&folder.path().join("b.mov")).contains("20000 x 8"));
    // The size of frames that a container promises is refused too, whatever is in them.
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=10:duration=1 -c:v mpeg4 c.mp4",
    );
    let path = folder.path().join("c.mp4");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|name| name == b"mp4v").unwrap() + 4 + 24;
    bytes[at..at + 4].copy_from_slice(&[0x4e, 0x20, 0x4e, 0x20]);
    fs::write(&path, bytes).unwrap();
    let _ = read(&path); // The codec's own header wins in some versions; either way it ends.
    for playlist in [
        "\u{feff}#EXTM3U\nfile:///etc/hostname\n",
        "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"></MPD>",
        "file 'a.mp4'\n",
    ] {
        let path = folder.path().join("d.mp4");
        fs::write(&path, playlist).unwrap();
        refused(&path);
    }
}

#[test]
fn corrupt_files_are_counted_never_believed() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=10:duration=2 -pix_fmt yuv420p -g 5 -movflags +faststart a.mp4",
    );
    let path = folder.path().join("a.mp4");
    let whole = fs::read(&path).unwrap();
    let data = whole.windows(4).position(|name| name == b"mdat").unwrap() + 4;
    // Nothing decodes: the file opens without an error, and holds no frame.
    let mut empty = whole.clone();
    empty[data..].fill(0x55);
    fs::write(&path, &empty).unwrap();
    assert!(refused(&path).contains("no frame"));
    // Cut in the middle: what is there is given, and what is missing told.
    fs::write(&path, &whole[..data + (whole.len() - data) / 2]).unwrap();
    let (found, reader) = read(&path).unwrap();
    assert!(!found.is_empty() && found.len() < 20, "{}", found.len());
    let notes = reader.notes().join("; ");
    assert!(notes.contains("promises 20 frames"), "{notes}");
    for length in [1, 8, 40, 200, data] {
        fs::write(&path, &whole[..length.min(whole.len())]).unwrap();
        refused(&path);
    }
    for at in (0..data).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        fs::write(&path, &bytes).unwrap();
        let _ = read(&path);
    }
}

#[test]
fn a_file_that_is_not_finished_leaves_nothing() {
    let folder = folder();
    let plan = ClipPlan {
        width: 64,
        height: 48,
        rate: rate("12"),
        frames: 20,
        text: String::new(),
    };
    let target = ClipTarget::of(&folder.path().join("a.mp4"), false).unwrap();
    let mut writer = ClipWriter::create(&target, &plan).unwrap();
    writer.push(&frame(64, 48, 0)).unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn long_video_is_read_with_one_frame_in_memory() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=640x480:rate=30:duration=20 -c:v mpeg4 a.mp4",
    );
    let before = peak_kib();
    let reader = ClipReader::open(&folder.path().join("a.mp4"), None).unwrap();
    let count = reader.map(Result::unwrap).count();
    assert_eq!(count, 600);
    // All frames together are 540 MiB.
    let grown = peak_kib() - before;
    assert!(grown < 100 << 10, "{grown} KiB");
}

/// The largest memory of this process so far.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}
