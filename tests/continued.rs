//! `ravel video` from outside: clips that go on, made again, cut short.

use std::fs;
#[cfg(feature = "video")]
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ravel_media::{ClipReader, Picture, encode_png};

use crate::command::{check_refused, command, from, ravel};
use crate::training::good;
use crate::video::{clip, folder};

fn frames(path: &Path) -> Vec<Picture> {
    let reader = ClipReader::open(path, None).unwrap();
    reader.collect::<Result<_, _>>().unwrap()
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_thing_stays_whole_for_three_times_what_was_learned() {
    let folder = folder();
    let at = folder.path();
    fs::create_dir(at.join("given")).unwrap();
    for index in 0..6 {
        let mut picture = Picture::filled(64, 64, [60, 120, 200]);
        picture.paste(
            &Picture::filled(14, 14, [230, 40, 20]),
            6 + 3 * index,
            20 + index,
        );
        let png = encode_png(&picture, &[]);
        fs::write(at.join(format!("given/{index}.png")), png).unwrap();
    }
    good(ravel(
        at,
        &["video", "given", "-o", "new/", "--frames", "48"],
    ));
    let new = frames(&at.join("new"));
    assert_eq!(new.len(), 48);
    let red = |pixel: &&[u8]| pixel[0] > 180 && pixel[1] < 90;
    for (index, picture) in new.iter().enumerate() {
        let pixels = picture.rgb.chunks_exact(3).filter(red).count();
        assert_eq!(pixels, 14 * 14, "frame {}", index + 1);
    }
    // It does not lie still either.
    assert!(
        new.windows(2)
            .filter(|pair| pair[0].rgb != pair[1].rgb)
            .count()
            > 24
    );
}

#[test]
fn a_clip_goes_on_as_asked_and_is_made_again() {
    let folder = folder();
    let at = folder.path();
    clip(&at.join("a.gif"), 6);
    let arguments =
        "video a.gif -o b.gif --frames 3 --seed 5 --json --report=drift.jsonl --preview shown";
    let run = good(ravel(at, &arguments.split(' ').collect::<Vec<_>>()));
    let row: serde_json::Value = serde_json::from_slice(&run.out).unwrap();
    assert_eq!((&row["frames"], &row["file"]), (&3.into(), &"b.gif".into()));
    let notes = row["notes"].to_string();
    assert!(notes.contains("48 x 36 are resized to 64 x 64"), "{notes}");
    let made = frames(&at.join("b.gif"));
    assert_eq!(made.len(), 3);
    assert_eq!((made[0].width, made[0].height), (64, 64));
    assert_eq!(
        fs::read_to_string(at.join("drift.jsonl"))
            .unwrap()
            .lines()
            .count(),
        1 + 3
    );
    assert_eq!(count(&at.join("shown")), 3);
    let again = good(ravel(at, &["replay", "b.gif"]));
    assert!(
        again.text().contains("the same bytes again"),
        "{}",
        again.text()
    );
    good(ravel(
        at,
        &[
            "video",
            "a.gif",
            "-o",
            "c.gif",
            "--frames",
            "3",
            "--with-context",
            "--context",
            "4",
            "-q",
        ],
    ));
    assert_eq!(frames(&at.join("c.gif")).len(), 4 + 3);
    good(ravel(at, &["replay", "c.gif", "-o", "d.gif"]));
    assert!(fs::read(at.join("c.gif")).unwrap() == fs::read(at.join("d.gif")).unwrap());
    clip(&at.join("other.gif"), 7);
    check_refused(
        &ravel(at, &["replay", "b.gif", "--input", "other.gif"]),
        "is not the clip",
    );
}

#[test]
fn more_than_is_in_view_is_refused_or_taken_in_one_after_another() {
    let folder = folder();
    let at = folder.path();
    clip(&at.join("a.gif"), 24);
    let asked = [
        "video",
        "a.gif",
        "-o",
        "b.gif",
        "--frames",
        "2",
        "--context",
        "20",
        "-q",
    ];
    check_refused(&ravel(at, &asked), "the last 20 frames are to be used");
    assert!(!at.join("b.gif").exists());
    good(ravel(at, &[&asked[..], &["--extend-all"]].concat()));
    assert_eq!(frames(&at.join("b.gif")).len(), 2);
    let more = [
        "video",
        "a.gif",
        "-o",
        "c.gif",
        "--context",
        "30",
        "--extend-all",
    ];
    check_refused(&ravel(at, &more), "it has 25");
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = folder();
    let at = folder.path();
    clip(&at.join("a.gif"), 6);
    check_refused(
        &ravel(at, &["video", "a.gif", "-o", "a.gif/b.gif"]),
        "a.gif/b.gif",
    );
    check_refused(
        &ravel(at, &["video", "a.gif", "-o", "nowhere/b.gif"]),
        "nowhere",
    );
    assert_eq!(count(at), 1);
}

/// A disk that is full, played by a limit on the size of files.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing() {
    let folder = folder();
    let at = folder.path();
    clip(&at.join("a.gif"), 6);
    let shell = "trap '' XFSZ; ulimit -f 4; exec \"$0\" video a.gif -o b.gif --frames 12 -q";
    let output = Command::new("bash")
        .args(["-c", shell, env!("CARGO_BIN_EXE_ravel")])
        .current_dir(at)
        .output()
        .unwrap();
    let run = from(output);
    check_refused(&run, "b.gif");
    assert_eq!(count(at), 1, "the input alone is there");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_with_130_and_leaves_nothing() {
    let folder = folder();
    let at = folder.path();
    clip(&at.join("a.gif"), 6);
    let arguments = [
        "video",
        "a.gif",
        "-o",
        "b.gif",
        "--frames",
        "100000",
        "--preview",
        "shown",
    ];
    let child = command(at, &arguments).spawn().unwrap();
    let started = Instant::now();
    while !at.join("shown/frame-00002.png").exists() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "no frame comes"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let signal = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(signal.unwrap().success());
    let run = from(child.wait_with_output().unwrap());
    assert_eq!(run.code, 130, "{}", run.err);
    assert!(!at.join("b.gif").exists());
    assert_eq!(count(at), 2, "the input and the previews");
}

#[cfg(feature = "video")]
#[test]
fn a_reader_that_goes_away_is_a_quiet_end() {
    let folder = folder();
    clip(&folder.path().join("a.gif"), 6);
    let arguments = ["video", "a.gif", "-o", "-", "--frames", "600"];
    let mut child = command(folder.path(), &arguments).spawn().unwrap();
    let mut first = [0; 64];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first[4..8], b"ftyp");
    let run = from(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{}", run.err);
}

/// Each frame is a fragment of its own, so that who reads need not wait for the next key frame.
#[cfg(feature = "video")]
#[test]
fn frames_leave_on_standard_output_one_by_one() {
    let folder = folder();
    clip(&folder.path().join("a.gif"), 6);
    let arguments = ["video", "a.gif", "-o", "-", "--frames", "9"];
    let run = good(ravel(folder.path(), &arguments));
    let fragments = run.out.windows(4).filter(|four| four == b"moof").count();
    assert!(fragments >= 9, "{fragments} fragments");
}

/// Encoders that read what nobody has written give other bytes when memory holds something else.
#[cfg(feature = "video")]
#[test]
fn a_video_file_is_the_same_whatever_was_in_memory_before() {
    let folder = folder();
    clip(&folder.path().join("a.gif"), 6);
    let made = |name: &str, filled: &str| {
        let arguments = ["video", "a.gif", "-o", name, "--frames", "40"];
        let mut run = command(folder.path(), &arguments);
        good(from(run.env("MALLOC_PERTURB_", filled).output().unwrap()));
        fs::read(folder.path().join(name)).unwrap()
    };
    let first = made("1.mp4", "1");
    assert!(first == made("2.mp4", "85"));
    assert!(first == made("3.mp4", "200"));
}

/// The whole way that a person goes: ffmpeg makes a clip, Ravel continues it, ffprobe reads what came out.
#[cfg(feature = "video")]
#[test]
fn a_clip_of_ffmpeg_goes_in_and_one_that_ffprobe_reads_comes_out() {
    let folder = folder();
    let make = "-v error -nostdin -f lavfi -i testsrc2=size=90x62:rate=10:duration=1 -pix_fmt yuv420p in.mp4";
    let made = Command::new("ffmpeg")
        .args(make.split(' '))
        .current_dir(folder.path())
        .status();
    assert!(
        made.expect("ffmpeg (Debian package ffmpeg) is needed")
            .success()
    );
    good(ravel(
        folder.path(),
        &["video", "in.mp4", "-o", "out.mp4", "--frames", "5"],
    ));
    let ask = "-v error -count_frames -show_entries stream=width,height,nb_read_frames,r_frame_rate -of csv=p=0 out.mp4";
    let told = Command::new("ffprobe")
        .args(ask.split(' '))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "64,64,10/1,5");
    good(ravel(folder.path(), &["replay", "out.mp4"]));
}
