//! Through the real codec: the `ffmpeg` program encodes and decodes H.264.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{FRAMES_PER_SECOND, SIDE};

/// How much the codec may lose: x264's constant rate factor.
#[derive(Debug, Clone, Copy)]
pub struct Quality(u32);

impl Quality {
    /// The quality of a chunk of clips; they take turns.
    pub fn of(chunk: usize) -> Self {
        Self([16, 20, 24, 28][chunk % 4])
    }

    /// As rows write it.
    pub fn name(self) -> String {
        format!("h264 crf {}", self.0)
    }
}

/// Clips of `frames` frames each, encoded and decoded; every clip begins with a key frame.
pub fn round_trip(rgb: &[u8], frames: usize, quality: Quality) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("clips.mp4");
    encode(&path, rgb, frames, quality)?;
    let output = ffmpeg()
        .args(["-v", "error", "-i"])
        .arg(&path)
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .context("ffmpeg cannot be run")?;
    let seen = output.stdout;
    if !output.status.success() || seen.len() != rgb.len() {
        bail!(
            "ffmpeg gave {} bytes for {}: {}",
            seen.len(),
            rgb.len(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(seen)
}

/// Writes one clip as a video file.
pub fn write_video(path: &Path, rgb: &[u8], quality: Quality) -> Result<()> {
    encode(path, rgb, rgb.len() / (3 * SIDE * SIDE), quality)
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-threads", "1"]);
    command
}

fn encode(path: &Path, rgb: &[u8], frames_of_clip: usize, quality: Quality) -> Result<()> {
    let key = frames_of_clip.to_string();
    let mut command = Command::new("ffmpeg");
    let mut child = command
        .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"])
        .args(["-s", &format!("{SIDE}x{SIDE}")])
        .args(["-r", &FRAMES_PER_SECOND.to_string(), "-i", "-"])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-threads", "1"])
        .args(["-crf", &quality.0.to_string(), "-pix_fmt", "yuv420p"])
        .args(["-g", &key, "-keyint_min", &key, "-sc_threshold", "0"])
        .arg("-y")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("ffmpeg cannot be run (Debian package ffmpeg)")?;
    let mut pipe = child.stdin.take().expect("the pipe was asked for");
    let written = pipe.write_all(rgb);
    drop(pipe);
    let status = child.wait()?;
    if !status.success() {
        bail!("ffmpeg could not encode {}: {status}", path.display());
    }
    written.context("ffmpeg stopped reading")
}
