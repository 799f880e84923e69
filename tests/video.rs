//! `ravel video` from outside: what it refuses, with one clear line and nothing written.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use ravel_media::{ClipPlan, ClipTarget, ClipWriter, Picture, encode_png};

use crate::command::{Run, check_refused, command, from, ravel};

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

/// A small clip in any format that this build writes.
pub fn clip(path: &Path, frames: usize) {
    let plan = ClipPlan {
        width: 48,
        height: 36,
        rate: "12".parse().unwrap(),
        frames,
        text: "{}".into(),
    };
    let target = ClipTarget::of(path, false).unwrap();
    let mut writer = ClipWriter::create(&target, &plan).unwrap();
    for index in 0..frames {
        let mut picture = Picture::filled(48, 36, [60, 120, 200]);
        picture.paste(&Picture::filled(9, 9, [230, 40, 20]), 2 * index % 40, 12);
        writer.push(&picture).unwrap();
    }
    writer.finish().unwrap();
}

/// Asserts that a clip is refused with `expected`, and that nothing but what was there is there.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], expected: &str) {
    let before = fs::read_dir(folder).unwrap().count();
    let run = ravel(folder, &[&["video"], arguments].concat());
    check_refused(&run, expected);
    assert!(run.out.is_empty());
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        before,
        "nothing was written"
    );
}

#[test]
fn what_is_no_clip_is_refused() {
    let folder = folder();
    let at = folder.path();
    let go = |arguments: &[&str], expected: &str| refused(at, arguments, expected);
    fs::create_dir(at.join("none")).unwrap();
    go(&["none"], "no frame");
    fs::create_dir(at.join("one")).unwrap();
    fs::write(
        at.join("one/1.png"),
        encode_png(&Picture::filled(8, 8, [1; 3]), &[]),
    )
    .unwrap();
    go(&["one"], "one frame");
    go(&["one/1.png"], "one frame");
    go(&["https://example.org/clip.mp4"], "address");
    go(&["missing.gif"], "missing.gif");
    fs::write(at.join("list.m3u8"), "#EXTM3U\nhttp://127.0.0.1:9/a.ts\n").unwrap();
    go(&["list.m3u8"], "playlist");
    fs::write(
        at.join("list.mp4"),
        "ffconcat version 1.0\nfile '/etc/hostname'\n",
    )
    .unwrap();
    go(&["list.mp4"], "playlist");
    fs::write(at.join("sound.wav"), b"RIFF\x24\0\0\0WAVEfmt ").unwrap();
    go(&["sound.wav"], "sound");
    fs::write(at.join("empty.mp4"), b"").unwrap();
    go(&["empty.mp4"], "empty");
    fs::write(at.join("text.mp4"), b"no video").unwrap();
    go(&["text.mp4"], "text.mp4");
    go(&["/dev/zero"], "neither a file nor a folder");
}

#[test]
fn large_frames_and_bombs_are_refused() {
    let folder = folder();
    let bomb = |side: u16, count: usize| {
        let mut bytes = b"GIF89a".to_vec();
        bytes.extend([side.to_le_bytes(), side.to_le_bytes()].concat());
        bytes.extend([0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
        for _ in 0..count {
            bytes.extend([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 0x01, 0]);
        }
        bytes.push(0x3b);
        bytes
    };
    fs::write(folder.path().join("huge.gif"), bomb(20_000, 3)).unwrap();
    refused(folder.path(), &["huge.gif"], "20000 x 20000");
    fs::write(folder.path().join("many.gif"), bomb(8000, 5000)).unwrap();
    refused(folder.path(), &["many.gif"], "million pixels");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let folder = folder();
    clip(&folder.path().join("a.gif"), 6);
    let go = |arguments: &[&str], expected: &str| {
        refused(folder.path(), &[&["a.gif"], arguments].concat(), expected);
    };
    go(&["--frames", "0"], "0 new frames");
    go(&["--frames", "1000000000"], "1000000000 new frames");
    go(&["--context", "0"], "at least two");
    go(&["-o", "a.gif"], "exists already");
    go(&["-o", "a.gif", "--force"], "the clip that goes on");
    go(&["-o", "a.txt"], ".mp4");
    go(&["-o", "b.gif", "--report=b.gif"], "a clip's place");
    go(
        &["-o", "b.gif", "--report=./a.gif", "--force"],
        "a clip's place",
    );
    go(
        &["-o", "b.gif", "--report=nowhere/b.jsonl"],
        "no folder nowhere",
    );
    fs::create_dir(folder.path().join("seen")).unwrap();
    fs::write(folder.path().join("seen/frame-00003.png"), "there").unwrap();
    go(&["-o", "b.gif", "--preview", "seen"], "frame-00003.png");
    assert_eq!(fs::read_dir(folder.path().join("seen")).unwrap().count(), 1);
    go(&["-o", "b.gif", "--pipeline", "emoji-ar"], "text-to-image");
    go(&["-o", "b.gif", "--pipeline", "nothing"], "no pipeline");
    let run = ravel(folder.path(), &["video", "a.gif", "--fps", "0"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("30000/1001"), "{}", run.err);
    let run = ravel(folder.path(), &["replay", "a.gif"]);
    assert_eq!(run.code, 2, "{}", run.err);
}

/// Rows of clips that contradict themselves, each named by its line.
#[test]
fn rows_that_make_no_sense_are_refused_before_a_picture_is_read() {
    let folder = folder();
    let go = |row: &str, expected: &str| {
        fs::write(folder.path().join("rows.jsonl"), row).unwrap();
        let run = ravel(
            folder.path(),
            &["eval", "--pipeline", "sprites", "--data", "rows.jsonl"],
        );
        check_refused(&run, expected);
        assert!(run.err.contains("line 1"), "{}", run.err);
    };
    let object = |size: &str, x: &str| {
        format!(
            r#"{{"file":"a.png","frames":2,"objects":[{{"what":"ball","size":{size},"x":{x},"y":[1,2]}}]}}"#
        )
    };
    go(&object("8", "[1]"), "ball has 1 places x");
    go(&object("1000000000", "[1,2]"), "1000000000 pixels large");
    go(&object("8", "[1,1e300]"), "far outside");
    let still = r#"{"file":"a.png","frames":2,"frames-per-second":0}"#;
    go(still, "frames per second");
    go(&object("8", "[1,2]"), "a.png");
}

#[cfg(not(feature = "video"))]
#[test]
fn video_files_are_refused_by_name_in_a_build_without_them() {
    let folder = folder();
    clip(&folder.path().join("a.gif"), 6);
    refused(
        folder.path(),
        &["a.gif", "-o", "b.mp4"],
        "without video files",
    );
    refused(folder.path(), &["a.gif", "-o", "-"], "without video files");
}

#[cfg(feature = "video")]
#[test]
fn corrupt_video_and_sound_are_refused() {
    let folder = folder();
    let path = folder.path().join("a.mp4");
    clip(&path, 12);
    let mut bytes = fs::read(&path).unwrap();
    let data = bytes.windows(4).position(|name| name == b"mdat").unwrap() + 4;
    let index = bytes.windows(4).position(|name| name == b"moov").unwrap() - 4;
    let (start, end) = if data < index {
        (data, index)
    } else {
        (data, bytes.len())
    };
    bytes[start..end].fill(0x55);
    fs::write(&path, bytes).unwrap();
    refused(folder.path(), &["a.mp4", "-o", "b.mp4"], "no frame");
    let sound = std::process::Command::new("ffmpeg")
        .args("-v error -nostdin -f lavfi -i sine=duration=1 -c:a aac s.m4a".split(' '))
        .current_dir(folder.path())
        .status()
        .expect("ffmpeg (Debian package ffmpeg) is needed");
    assert!(sound.success());
    refused(folder.path(), &["s.m4a", "-o", "b.mp4"], "sound only");
}

/// Standard output that takes nothing is told, unlike one that nobody reads any more.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_no_quiet_end() {
    let folder = folder();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let child = command(folder.path(), &["pipelines", "schema"])
        .stdout(Stdio::from(full))
        .spawn()
        .unwrap();
    let run: Run = from(child.wait_with_output().unwrap());
    check_refused(&run, "standard output");
}
