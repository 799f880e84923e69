//! The default data: every emoji of a bitmap font, drawn on white, with its Unicode name as caption.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use image::{RgbImage, RgbaImage, imageops};
use rustybuzz::{Face, UnicodeBuffer};
use serde_json::json;

/// Height of the font's bitmaps, to which their width is cut, and the side of the large pictures.
const LARGE: u32 = 128;
/// Side of the small pictures, made from the large ones.
const SMALL: u32 = 64;
/// One in this many compositions with a skin tone is held out.
const HELD_OUT_ONE_IN: u64 = 17;

/// Flags of `cargo xtask data`.
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
    #[arg(long, default_value = "data/emoji")]
    out: PathBuf,
    /// The tracked list of held-out captions.
    #[arg(long, default_value = "assets/data/emoji-held-out.txt")]
    held_out: PathBuf,
    /// Choose the held-out captions anew and write the list.
    #[arg(long)]
    refresh_split: bool,
}

struct Emoji {
    text: String,
    name: String,
}

/// Draws all emoji and writes the rows.
pub fn build(options: &Options) -> Result<()> {
    let list = read(&options.emoji_test, "unicode-data")?;
    let font = read(&options.font, "fonts-noto-color-emoji")?;
    let face = Face::from_slice(&font, 0).context("the font cannot be parsed")?;
    let emoji = parse(&String::from_utf8(list).context("the emoji list is not UTF-8")?);
    let held_out = held_out(options, &emoji)?;
    for folder in ["images-128", "images-64"] {
        let folder = options.out.join(folder);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let mut rows = BTreeMap::from([(LARGE, String::new()), (SMALL, String::new())]);
    let (mut drawn, mut skipped) = (0, 0);
    for item in &emoji {
        let Some(large) = draw(&face, &item.text)? else {
            skipped += 1;
            continue;
        };
        let small = imageops::resize(&large, SMALL, SMALL, imageops::FilterType::Triangle);
        for (side, picture) in [(LARGE, &large), (SMALL, &small)] {
            let file = format!("images-{side}/{drawn:04}.png");
            let path = options.out.join(&file);
            picture
                .save(&path)
                .with_context(|| path.display().to_string())?;
            let split = if held_out.contains(&item.name) {
                "held-out"
            } else {
                "train"
            };
            let row = json!({
                "file": file,
                "caption": item.name,
                "split": split,
                "alternates": alternates(&item.name),
                "emoji": item.text,
            });
            let text = rows.get_mut(&side).expect("both sides have rows");
            text.push_str(&format!("{row}\n"));
        }
        drawn += 1;
    }
    for (side, text) in &rows {
        write_whole(&options.out.join(format!("captions-{side}.jsonl")), text)?;
    }
    println!(
        "{drawn} emoji drawn into {}, {skipped} not in the font, {} held out",
        options.out.display(),
        held_out.len()
    );
    Ok(())
}

fn read(path: &Path, package: &str) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| {
        format!(
            "{}: cannot be read; `apt-get install {package}`",
            path.display()
        )
    })
}

/// Fully qualified emoji of Unicode's list with their names in lower case, each name once.
fn parse(list: &str) -> Vec<Emoji> {
    let mut seen = BTreeSet::new();
    list.lines()
        .filter_map(|line| {
            let (codes, rest) = line.split_once(';')?;
            let (status, comment) = rest.split_once('#')?;
            if status.trim() != "fully-qualified" {
                return None;
            }
            let text = codes
                .split_whitespace()
                .map(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?))
                .collect::<Option<String>>()?;
            // After the emoji itself comes its version, `E13.0`, then the name.
            let name = comment.trim().splitn(3, ' ').nth(2)?.to_lowercase();
            seen.insert(name.clone()).then_some(Emoji { text, name })
        })
        .collect()
}

/// The font's bitmap of a sequence on white, or nothing if the font has no single glyph for it.
fn draw(face: &Face<'_>, text: &str) -> Result<Option<RgbImage>> {
    Ok(bitmap(face, text)?.map(|picture| square_on_white(&picture)))
}

/// The font's bitmaps of all emoji whose names are wanted, with their names.
pub fn bitmaps(
    font: &Path,
    list: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, RgbaImage)>> {
    let list = read(list, "unicode-data")?;
    let font = read(font, "fonts-noto-color-emoji")?;
    let face = Face::from_slice(&font, 0).context("the font cannot be parsed")?;
    let emoji = parse(&String::from_utf8(list).context("the emoji list is not UTF-8")?);
    let mut found = Vec::new();
    for item in emoji.into_iter().filter(|item| wanted(&item.name)) {
        if let Some(picture) = bitmap(&face, &item.text)? {
            found.push((item.name, picture));
        }
    }
    Ok(found)
}

/// The font's bitmap of a sequence, or nothing if the font has no single glyph for it.
fn bitmap(face: &Face<'_>, text: &str) -> Result<Option<RgbaImage>> {
    let mut buffer = UnicodeBuffer::new();
    buffer.push_str(text);
    let shaped = rustybuzz::shape(face, &[], buffer);
    let glyphs: Vec<u32> = shaped
        .glyph_infos()
        .iter()
        .zip(shaped.glyph_positions())
        .filter(|(info, position)| info.glyph_id != 0 && position.x_advance != 0)
        .map(|(info, _)| info.glyph_id)
        .collect();
    let [glyph] = glyphs[..] else {
        return Ok(None);
    };
    let glyph = rustybuzz::ttf_parser::GlyphId(glyph as u16);
    let Some(bitmap) = face.glyph_raster_image(glyph, u16::MAX) else {
        return Ok(None);
    };
    let picture = image::load_from_memory(bitmap.data).context("a bitmap of the font")?;
    Ok(Some(picture.to_rgba8()))
}

/// The middle square, transparency laid on white in sRGB values.
fn square_on_white(picture: &RgbaImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (left, top) = (
        width.saturating_sub(LARGE) / 2,
        height.saturating_sub(LARGE) / 2,
    );
    RgbImage::from_fn(LARGE, LARGE, |x, y| {
        let Some(pixel) = picture.get_pixel_checked(x + left, y + top) else {
            return image::Rgb([255; 3]);
        };
        let [red, green, blue, alpha] = pixel.0.map(u32::from);
        let over = |value: u32| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        image::Rgb([over(red), over(green), over(blue)])
    })
}

/// Other ways in which people ask for the same picture.
fn alternates(name: &str) -> Vec<String> {
    let plain = name.replace([':', ',', '“', '”'], " ");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = vec![plain];
    if let Some(rest) = name.strip_prefix("flag: ") {
        found.push(format!("flag of {rest}"));
        found.push(format!("{rest} flag"));
    }
    if let Some(start) = name.strip_suffix(" face") {
        found.push(start.to_string());
    }
    if let Some((what, tone)) = name.split_once(": ")
        && tone.ends_with("skin tone")
    {
        found.push(format!("{what} with {tone}"));
        found.push(format!("{what} {}", tone.replace(" skin tone", " skin")));
    }
    if let Some(animal) = [
        "cat", "dog", "monkey", "bear", "fox", "lion", "tiger", "horse", "cow", "pig",
    ]
    .into_iter()
    .find(|animal| name.starts_with(&format!("{animal} ")))
        && name.ends_with("face")
    {
        found.push(format!("face of a {animal}"));
    }
    if let Some(kind) = name.strip_suffix(" cat") {
        found.push(format!("{kind} cat face"));
        if kind.contains("grinning") {
            found.push(format!("{} cat face", kind.replace("grinning", "smiling")));
            found.push(format!("{} cat", kind.replace("grinning", "smiling")));
        }
    }
    let mut seen = BTreeSet::from([name.to_string()]);
    found.retain(|caption| seen.insert(caption.clone()));
    found
}

/// The captions that training never sees: from the tracked list, or chosen anew.
fn held_out(options: &Options, emoji: &[Emoji]) -> Result<BTreeSet<String>> {
    if !options.refresh_split {
        let text = fs::read_to_string(&options.held_out).with_context(|| {
            format!(
                "{} (choose anew with --refresh-split)",
                options.held_out.display()
            )
        })?;
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        return Ok(lines.map(String::from).collect());
    }
    let chosen = choose(emoji);
    if chosen.is_empty() {
        bail!("no emoji of the list has a skin tone");
    }
    let lines = chosen
        .iter()
        .fold(String::new(), |text, name| text + name + "\n");
    let header =
        "# Captions that training never sees: compositions whose every word it does see.\n";
    if let Some(folder) = options.held_out.parent() {
        fs::create_dir_all(folder)?;
    }
    write_whole(&options.held_out, &format!("{header}{lines}"))?;
    Ok(chosen)
}

/// One in [`HELD_OUT_ONE_IN`] of the captions with a skin tone, by a hash of the caption, as long as every word and
/// both the subject and the tones stay in some caption that training sees.
fn choose(emoji: &[Emoji]) -> BTreeSet<String> {
    let subject = |name: &str| name.split(':').next().unwrap_or(name).to_string();
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    for item in emoji {
        *left.entry(subject(&item.name)).or_default() += 1;
    }
    let mut chosen = BTreeSet::new();
    for item in emoji.iter().filter(|item| item.name.contains("skin tone")) {
        let remaining = left.get_mut(&subject(&item.name)).expect("counted above");
        if hash(&item.name).is_multiple_of(HELD_OUT_ONE_IN) && *remaining > 3 {
            *remaining -= 1;
            chosen.insert(item.name.clone());
        }
    }
    chosen
}

/// FNV-1a, 64 bits: the same on every machine.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn write_whole(path: &Path, text: &str) -> Result<()> {
    ravel_files::write_whole(path, text.as_bytes(), true)
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_gives_each_qualified_name_once() {
        let list = "# comment\n1F600 ; fully-qualified # 😀 E1.0 grinning face\n263A ; unqualified # ☺ E0.6 smiling face\n";
        let emoji = parse(list);
        assert_eq!(emoji.len(), 1);
        assert_eq!(
            (&emoji[0].text[..], &emoji[0].name[..]),
            ("😀", "grinning face")
        );
    }

    #[test]
    fn alternates_differ_from_the_name() {
        assert!(alternates("flag: japan").contains(&"flag of japan".to_string()));
        assert!(alternates("grinning cat").contains(&"smiling cat face".to_string()));
        assert!(!alternates("red heart").contains(&"red heart".to_string()));
    }
}
