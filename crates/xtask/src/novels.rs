//! Text to learn from: Jane Austen's six novels, as Debian's `r-cran-janeaustenr` packages them.
//!
//! R keeps a package's data as one file of parts (`Rdata.rdb`): each a big-endian length, then a zlib stream of a vector
//! of strings in R's serialization (format `X`, version 3, big-endian). A part here is a novel, a string one of its lines.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::bufread::ZlibDecoder;

/// Bytes of running text in a block; blocks end with a paragraph.
const BLOCK: usize = 4096;
/// One block in this many is held out.
const HELD_OUT_ONE_IN: usize = 20;
/// Larger parts than this are not read.
const LARGEST: u64 = 1 << 26;
/// R's tag of a vector of strings, and that of one string.
const STRINGS: u8 = 16;
const STRING: u8 = 9;

/// Flags of `cargo xtask data-text`.
#[derive(clap::Args)]
pub struct Options {
    /// The novels: `Rdata.rdb` of the Debian package r-cran-janeaustenr; where it is installed, or where `make data-text`
    /// unpacked it, without this.
    #[arg(long)]
    novels: Option<PathBuf>,
    /// The folder that is written: `train.txt` and `held-out.txt`.
    #[arg(long, default_value = "data/novels")]
    out: PathBuf,
}

/// Writes the two files.
pub fn build(options: &Options) -> Result<()> {
    let path = options.novels.clone().unwrap_or_else(found);
    let shown = path.display();
    let bytes =
        fs::read(&path).with_context(|| format!("{shown} (Debian package r-cran-janeaustenr)"))?;
    let (mut train, mut held_out) = (String::new(), String::new());
    let mut blocks = 0;
    for novel in novels(&bytes).with_context(|| shown.to_string())? {
        for block in blocks_of(&paragraphs(&novel)) {
            let split = match blocks % HELD_OUT_ONE_IN == HELD_OUT_ONE_IN / 2 {
                true => &mut held_out,
                false => &mut train,
            };
            split.push_str(&block);
            blocks += 1;
        }
    }
    fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    for (name, text) in [("train.txt", &train), ("held-out.txt", &held_out)] {
        let path = options.out.join(name);
        ravel_files::write_whole(&path, text.as_bytes(), true)
            .with_context(|| path.display().to_string())?;
    }
    println!(
        "{} bytes of text to learn from and {} held out, in {}",
        train.len(),
        held_out.len(),
        options.out.display()
    );
    Ok(())
}

/// The package's data, unpacked by `make data-text` or installed.
fn found() -> PathBuf {
    const INSIDE: &str = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb";
    let unpacked = Path::new("target/r-cran-janeaustenr").join(INSIDE);
    match unpacked.is_file() {
        true => unpacked,
        false => Path::new("/").join(INSIDE),
    }
}

/// The lines of every novel.
fn novels(mut bytes: &[u8]) -> Result<Vec<Vec<String>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from(number(&mut bytes)?);
        ensure!(length <= LARGEST, "a part of {length} bytes is too large");
        let mut part = Vec::new();
        let mut stream = ZlibDecoder::new(bytes);
        stream.by_ref().take(length + 1).read_to_end(&mut part)?;
        ensure!(
            part.len() as u64 == length,
            "a part of another length than it says"
        );
        bytes = stream.into_inner();
        all.push(strings(&part)?);
    }
    ensure!(!all.is_empty(), "no novel in it");
    Ok(all)
}

/// A serialized vector of strings.
fn strings(mut part: &[u8]) -> Result<Vec<String>> {
    ensure!(take(&mut part, 2)? == b"X\n", "not R's serialization");
    let version = number(&mut part)?;
    number(&mut part)?;
    number(&mut part)?;
    if version == 3 {
        let encoding = number(&mut part)? as usize;
        take(&mut part, encoding)?;
    }
    ensure!(
        number(&mut part)? as u8 == STRINGS,
        "not a vector of strings"
    );
    let count = number(&mut part)?;
    (0..count)
        .map(|_| {
            ensure!(number(&mut part)? as u8 == STRING, "not a string");
            let length = number(&mut part)? as usize;
            let bytes = take(&mut part, length)?;
            Ok(String::from_utf8(bytes.to_vec())?)
        })
        .collect()
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let Some((taken, rest)) = bytes.split_at_checked(count) else {
        bail!("it is cut off");
    };
    *bytes = rest;
    Ok(taken)
}

fn number(bytes: &mut &[u8]) -> Result<u32> {
    let taken = take(bytes, 4)?;
    Ok(u32::from_be_bytes(taken.try_into().expect("four bytes")))
}

/// Paragraphs on a line each: the printed page's line breaks are no part of the text, nor are underscores for italics.
fn paragraphs(lines: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for run in lines.split(|line| line.trim().is_empty()) {
        let text = run.join(" ").replace('_', "");
        let words: Vec<&str> = text.split_whitespace().collect();
        if !words.is_empty() {
            all.push(words.join(" "));
        }
    }
    all
}

fn blocks_of(paragraphs: &[String]) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for paragraph in paragraphs {
        let last = blocks.last_mut().expect("there is a block");
        last.push_str(paragraph);
        last.push_str("\n\n");
        if last.len() >= BLOCK {
            blocks.push(String::new());
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn package(lines: &[&str]) -> Vec<u8> {
        let mut part = b"X\n\0\0\0\x03\0\x04\x02\x01\0\x03\x05\0\0\0\0\x05UTF-8\0\0\0\x10".to_vec();
        part.extend((lines.len() as u32).to_be_bytes());
        for line in lines {
            part.extend([0, 4, 0, 9]);
            part.extend((line.len() as u32).to_be_bytes());
            part.extend(line.as_bytes());
        }
        let mut all = (part.len() as u32).to_be_bytes().to_vec();
        let mut zlib = flate2::write::ZlibEncoder::new(&mut all, Default::default());
        zlib.write_all(&part).unwrap();
        zlib.finish().unwrap();
        all
    }

    #[test]
    fn novels_are_read_and_their_lines_joined() {
        let mut bytes = package(&["EMMA", "", "A line", "  and _its_ rest."]);
        bytes.extend(package(&["x"]));
        let found = novels(&bytes).unwrap();
        assert_eq!(paragraphs(&found[0]), ["EMMA", "A line and its rest."]);
        assert_eq!(found[1], ["x"]);
    }

    #[test]
    fn a_damaged_package_is_refused() {
        let whole = package(&["a", "b"]);
        for bytes in [&whole[..3], &whole[..whole.len() - 6], b"\xff\xff\xff\xffx"] {
            assert!(novels(bytes).is_err());
        }
        assert!(novels(&[]).is_err());
    }
}
