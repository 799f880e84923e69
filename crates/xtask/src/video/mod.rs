//! The default video data: short clips of moving emoji and shapes, with where everything is, after a real codec.
//!
//! Every scene is simulated and drawn here, then encoded and decoded by the `ffmpeg` program (H.264, 4:2:0, several qualities), so
//! that what a model sees has real codec noise. A clip is kept as one PNG: its frames from top to bottom.

mod codec;
mod render;
mod scene;
mod sprites;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use image::RgbImage;
use rayon::prelude::*;
use serde_json::json;

use crate::random::Random;
use codec::Quality;
use scene::{Kind, Motion, Scene};
use sprites::Sprite;

/// Height and width of a frame.
pub const SIDE: usize = 64;
/// Frames of a second, for players: the motion is told in pixels per frame.
const FRAMES_PER_SECOND: usize = 12;
/// Clips that share one run of the codec.
const CHUNK: usize = 60;

/// Flags of `cargo xtask data-video`.
#[derive(clap::Args)]
pub struct Options {
    /// Noto Color Emoji with bitmaps (Debian package fonts-noto-color-emoji).
    #[arg(
        long,
        default_value = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
    )]
    font: PathBuf,
    /// Unicode's list of emoji (Debian package unicode-data).
    #[arg(long, default_value = "/usr/share/unicode/emoji/emoji-test.txt")]
    emoji_test: PathBuf,
    /// The folder that is written.
    #[arg(long, default_value = "data/video")]
    out: PathBuf,
    /// The tracked list of emoji that only held-out clips show.
    #[arg(long, default_value = "assets/data/video-held-out-sprites.txt")]
    held_out_sprites: PathBuf,
    /// The tracked list of speeds, in pixels per frame, that only held-out clips have.
    #[arg(long, default_value = "assets/data/video-held-out-speeds.txt")]
    held_out_speeds: PathBuf,
    /// Training clips.
    #[arg(long, default_value_t = 12_000)]
    clips: usize,
    /// Held-out clips.
    #[arg(long, default_value_t = 120)]
    held_out_clips: usize,
    /// Frames of a training clip; held-out ones have twice as many.
    #[arg(long, default_value_t = 20)]
    frames: usize,
}

/// Draws all clips and writes the rows.
pub fn build(options: &Options) -> Result<()> {
    let held_out = read_list(&options.held_out_sprites)?;
    let held_out_speeds = read_speeds(&options.held_out_speeds)?;
    let all = sprites::read(&options.font, &options.emoji_test)?;
    let (kept, seen): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|sprite| held_out.contains(&sprite.name));
    if kept.len() != held_out.len() {
        bail!(
            "{}: {} of its {} names are in the font",
            options.held_out_sprites.display(),
            kept.len(),
            held_out.len()
        );
    }
    let speeds = scene::speeds();
    let (new, known): (Vec<f64>, Vec<f64>) = speeds
        .into_iter()
        .partition(|speed| held_out_speeds.contains(&format!("{speed:.1}")));
    let mut rows = String::new();
    let train = Split {
        name: "train",
        sprites: &seen,
        speeds: &known,
        clips: options.clips,
        frames: options.frames,
        keep_video: false,
    };
    let test = Split {
        name: "held-out",
        sprites: &kept,
        speeds: &new,
        clips: options.held_out_clips,
        frames: 2 * options.frames,
        keep_video: true,
    };
    for split in [&train, &test] {
        split.write(&options.out, &mut rows)?;
    }
    let path = options.out.join("clips.jsonl");
    ravel_files::write_whole(&path, rows.as_bytes(), true)
        .with_context(|| path.display().to_string())?;
    println!(
        "{} clips of {} frames and {} held-out ones of {} in {}",
        train.clips,
        train.frames,
        test.clips,
        test.frames,
        options.out.display()
    );
    Ok(())
}

/// Clips of one split.
struct Split<'a> {
    name: &'static str,
    sprites: &'a [Sprite],
    speeds: &'a [f64],
    clips: usize,
    frames: usize,
    keep_video: bool,
}

impl Split<'_> {
    /// Writes all clips, on all threads, and adds their rows in order.
    fn write(&self, out: &Path, rows: &mut String) -> Result<()> {
        let folder = out.join(self.name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let chunks: Vec<usize> = (0..self.clips).step_by(CHUNK).collect();
        let written: Result<Vec<String>> = chunks
            .into_par_iter()
            .map(|first| self.chunk(out, first))
            .collect();
        rows.extend(written?);
        Ok(())
    }

    /// Writes the clips from `first` on that share a run of the codec; their rows.
    fn chunk(&self, out: &Path, first: usize) -> Result<String> {
        let clips = first..(first + CHUNK).min(self.clips);
        let scenes: Vec<Scene> = clips.map(|clip| self.scene(clip)).collect();
        let quality = Quality::of(first / CHUNK);
        let frames: Vec<u8> = scenes
            .iter()
            .flat_map(|scene| scene.frames(self.sprites))
            .collect();
        let seen = codec::round_trip(&frames, self.frames, quality)?;
        let clip_bytes = self.frames * 3 * SIDE * SIDE;
        let mut rows = String::new();
        for (at, scene) in scenes.iter().enumerate() {
            let name = format!("{}/{:04}", self.name, first + at);
            let bytes = &seen[at * clip_bytes..(at + 1) * clip_bytes];
            let path = out.join(format!("{name}.png"));
            strip(bytes, self.frames)
                .save(&path)
                .with_context(|| path.display().to_string())?;
            if self.keep_video {
                let drawn = &frames[at * clip_bytes..(at + 1) * clip_bytes];
                codec::write_video(&out.join(format!("{name}.mp4")), drawn, quality)?;
            }
            rows.push_str(&self.row(&name, scene, quality));
        }
        Ok(rows)
    }

    fn scene(&self, clip: usize) -> Scene {
        let random = Random::named(&format!("{} {clip}", self.name));
        let kind = Kind::ALL[clip % Kind::ALL.len()];
        let motion = Motion {
            frames: self.frames,
            speeds: self.speeds,
            sprites: self.sprites.len(),
        };
        Scene::new(kind, &motion, random)
    }

    /// How things move, then what: `fall: otter, disc`.
    fn caption(&self, scene: &Scene) -> String {
        let names: Vec<String> = scene
            .objects
            .iter()
            .map(|object| object.look.name(self.sprites))
            .collect();
        format!("{}: {}", scene.kind.name(), names.join(", "))
    }

    fn row(&self, name: &str, scene: &Scene, quality: Quality) -> String {
        let objects: Vec<_> = scene
            .objects
            .iter()
            .map(|object| {
                json!({
                    "what": object.look.name(self.sprites),
                    "size": object.size,
                    "x": object.track.iter().map(|place| place.x).collect::<Vec<_>>(),
                    "y": object.track.iter().map(|place| place.y).collect::<Vec<_>>(),
                })
            })
            .collect();
        let row = json!({
            "file": format!("{name}.png"),
            "frames": self.frames,
            "frames-per-second": FRAMES_PER_SECOND,
            "split": self.name,
            "kind": scene.kind.name(),
            "caption": self.caption(scene),
            "speed": scene.speed,
            "quality": quality.name(),
            "objects": objects,
        });
        format!("{row}\n")
    }
}

/// Frames from top to bottom in one picture.
fn strip(bytes: &[u8], frames: usize) -> RgbImage {
    RgbImage::from_raw(SIDE as u32, (frames * SIDE) as u32, bytes.to_vec())
        .expect("a clip has three bytes for each pixel of each frame")
}

fn read_list(path: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    Ok(lines.map(String::from).collect())
}

fn read_speeds(path: &Path) -> Result<BTreeSet<String>> {
    let known: BTreeSet<String> = scene::speeds()
        .iter()
        .map(|speed| format!("{speed:.1}"))
        .collect();
    let listed = read_list(path)?;
    if listed.is_empty() || !listed.is_subset(&known) || listed == known {
        bail!(
            "{}: lists {listed:?}; some, not all, of {known:?} are expected",
            path.display()
        );
    }
    Ok(listed)
}
