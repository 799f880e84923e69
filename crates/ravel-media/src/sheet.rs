//! Several pictures on one: grids, and contact sheets with a caption under each.

use font8x8::legacy::BASIC_LEGACY;

use crate::Picture;

/// Letters are drawn 8 pixels high, and every other column of the 8 is kept apart by the font itself.
const LETTER: usize = 8;

/// Pictures side by side, row after row, on white with `gap` pixels between them.
///
/// # Panics
/// If there is no picture, `columns` is zero or the sizes differ.
pub fn grid(pictures: &[Picture], columns: usize, gap: usize) -> Picture {
    let captions = vec![String::new(); pictures.len()];
    sheet(pictures, &captions, columns, gap, 0)
}

/// As [`grid`], with a caption under each picture in up to `lines` lines; letters beyond ASCII become `?`, but for ’.
///
/// # Panics
/// As [`grid`], or if there are more pictures than captions.
pub fn contact_sheet(
    pictures: &[Picture],
    captions: &[String],
    columns: usize,
    lines: usize,
) -> Picture {
    sheet(pictures, captions, columns, LETTER, lines)
}

fn sheet(
    pictures: &[Picture],
    captions: &[String],
    columns: usize,
    gap: usize,
    lines: usize,
) -> Picture {
    let columns = columns.min(pictures.len());
    let (width, height) = (pictures[0].width, pictures[0].height);
    let (cell_width, cell_height) = (width + gap, height + gap + lines * (LETTER + 1));
    let rows = pictures.len().div_ceil(columns);
    let mut out = Picture::filled(
        columns * cell_width + gap,
        rows * cell_height + gap,
        [255; 3],
    );
    for (at, picture) in pictures.iter().enumerate() {
        let left = gap + (at % columns) * cell_width;
        let top = gap + (at / columns) * cell_height;
        out.paste(picture, left, top);
        for (line, text) in wrapped(&captions[at], width / LETTER, lines)
            .iter()
            .enumerate()
        {
            write(&mut out, text, left, top + height + 2 + line * (LETTER + 1));
        }
    }
    out
}

/// Words in lines of at most `letters`; what does not fit into `lines` is cut.
fn wrapped(text: &str, letters: usize, lines: usize) -> Vec<String> {
    let mut out = vec![String::new()];
    for word in text.split_whitespace() {
        let line = out.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= letters {
            line.push(' ');
            line.push_str(word);
        } else {
            out.push(word.to_string());
        }
    }
    for line in &mut out {
        *line = line.chars().take(letters).collect();
    }
    out.truncate(lines);
    out
}

fn write(picture: &mut Picture, text: &str, left: usize, top: usize) {
    for (at, letter) in text.chars().enumerate() {
        let glyph = match letter {
            '’' => '\'',
            letter if letter.is_ascii() => letter,
            _ => '?',
        };
        for (row, bits) in BASIC_LEGACY[glyph as usize].iter().enumerate() {
            for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                let (x, y) = (left + at * LETTER + column, top + row);
                if x < picture.width && y < picture.height {
                    let start = 3 * (y * picture.width + x);
                    picture.rgb[start..start + 3].fill(40);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_keeps_each_picture_in_its_cell() {
        let red = Picture::filled(4, 4, [255, 0, 0]);
        let blue = Picture::filled(4, 4, [0, 0, 255]);
        let out = grid(&[red, blue], 2, 1);
        assert_eq!((out.width, out.height), (11, 6));
        let pixel = |x: usize, y: usize| &out.rgb[3 * (y * out.width + x)..][..3];
        assert_eq!(pixel(1, 1), [255, 0, 0]);
        assert_eq!(pixel(5, 1), [255, 255, 255]);
        assert_eq!(pixel(6, 1), [0, 0, 255]);
    }

    #[test]
    fn captions_are_drawn_and_wrapped() {
        assert_eq!(wrapped("one two three", 7, 3), ["one two", "three"]);
        let out = contact_sheet(&[Picture::filled(64, 8, [255; 3])], &["heart".into()], 1, 1);
        assert!(out.rgb.contains(&40));
    }
}
