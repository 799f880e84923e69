//! Pixels on the host.

use std::collections::VecDeque;

/// Row and column; may lie outside.
pub type Place = (i32, i32);

/// A frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Raster {
    pub height: i32,
    pub width: i32,
    pixels: Vec<[f32; 3]>,
}

impl Raster {
    pub fn new(height: i32, width: i32) -> Self {
        Self {
            height,
            width,
            pixels: vec![[0.0; 3]; (height * width) as usize],
        }
    }

    /// From all red, then all green, then all blue.
    ///
    /// # Panics
    /// If there are not three values for each pixel.
    pub fn from_planes(values: &[f32], height: usize, width: usize) -> Self {
        let size = height * width;
        assert_eq!(values.len(), 3 * size, "values axis: three planes");
        let pixel = |at: usize| [0, 1, 2].map(|channel| values[channel * size + at]);
        Self {
            height: height as i32,
            width: width as i32,
            pixels: (0..size).map(pixel).collect(),
        }
    }

    /// All red, then all green, then all blue.
    pub fn planes(&self) -> impl Iterator<Item = f32> + '_ {
        (0..3).flat_map(|channel| self.pixels.iter().map(move |pixel| pixel[channel]))
    }

    pub fn at(&self, (row, column): Place) -> [f32; 3] {
        self.pixels[(row * self.width + column) as usize]
    }

    pub fn get(&self, place: Place) -> Option<[f32; 3]> {
        self.holds(place).then(|| self.at(place))
    }

    pub fn set(&mut self, (row, column): Place, colour: [f32; 3]) {
        self.pixels[(row * self.width + column) as usize] = colour;
    }

    pub fn holds(&self, (row, column): Place) -> bool {
        (0..self.height).contains(&row) && (0..self.width).contains(&column)
    }

    /// Row by row.
    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let width = self.width;
        (0..self.height).flat_map(move |row| (0..width).map(move |column| (row, column)))
    }

    /// As frames are compared: luma, and half of the chroma smoothed over three by three pixels, which codecs keep at half the resolution (as
    /// [`crate::motion::as_coded`] has it).
    pub fn coded(&self) -> Self {
        let tones = self.pixels.iter().map(|&[red, green, blue]| {
            let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
            [luma, 0.564 * (blue - luma), 0.713 * (red - luma)]
        });
        let tones: Vec<[f32; 3]> = tones.collect();
        let mut coded = self.clone();
        for (row, column) in self.places() {
            let near = around((row, column), 1).filter(|&at| self.holds(at));
            let mut sum = [0.0; 3];
            let mut count = 0.0;
            for (row, column) in near {
                count += 1.0;
                for (sum, value) in sum
                    .iter_mut()
                    .zip(tones[(row * self.width + column) as usize])
                {
                    *sum += value;
                }
            }
            let [luma, ..] = tones[(row * self.width + column) as usize];
            let chroma = |at: usize| 1.5 * sum[at] / count;
            coded.set((row, column), [3.0 * luma, chroma(1), chroma(2)]);
        }
        coded
    }
}

/// The square around a place, so many pixels in each direction.
pub fn around((row, column): Place, by: i32) -> impl Iterator<Item = Place> {
    (row - by..=row + by)
        .flat_map(move |row| (column - by..=column + by).map(move |column| (row, column)))
}

/// Mean absolute difference of two colours.
pub fn apart(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / 3.0
}

/// Some places of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    height: i32,
    width: i32,
    pub on: Vec<bool>,
}

impl Mask {
    pub fn new(height: i32, width: i32, is_on: impl FnMut(Place) -> bool) -> Self {
        let places = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
        Self {
            height,
            width,
            on: places.map(is_on).collect(),
        }
    }

    /// These places of a frame.
    pub fn of(frame: &Raster, places: &[Place]) -> Self {
        let mut mask = Self::new(frame.height, frame.width, |_| false);
        for (row, column) in places {
            mask.on[(row * frame.width + column) as usize] = true;
        }
        mask
    }

    /// Outside nothing is.
    pub fn at(&self, (row, column): Place) -> bool {
        (0..self.height).contains(&row)
            && (0..self.width).contains(&column)
            && self.on[(row * self.width + column) as usize]
    }

    pub fn count(&self) -> usize {
        self.on.iter().filter(|on| **on).count()
    }

    /// Of the whole frame.
    pub fn share(&self) -> f32 {
        self.count() as f32 / self.on.len() as f32
    }

    pub fn places(&self) -> Vec<Place> {
        let at = |at: usize| (at as i32 / self.width, at as i32 % self.width);
        let on = self.on.iter().enumerate().filter(|(_, on)| **on);
        on.map(|(index, _)| at(index)).collect()
    }

    /// With all that is so many pixels away at most, in each direction.
    pub fn grown(&self, by: i32) -> Self {
        Self::new(self.height, self.width, |place| {
            around(place, by).any(|near| self.at(near))
        })
    }

    /// The parts that touch in no place, not across a corner either, in the order of their first places.
    pub fn parts(&self) -> Vec<Vec<Place>> {
        let mut left = self.clone();
        let mut parts = Vec::new();
        for start in self.places() {
            if !left.at(start) {
                continue;
            }
            let mut part = Vec::new();
            let mut waiting = VecDeque::from([start]);
            left.clear(start);
            while let Some((row, column)) = waiting.pop_front() {
                part.push((row, column));
                for near in around((row, column), 1) {
                    if left.at(near) {
                        left.clear(near);
                        waiting.push_back(near);
                    }
                }
            }
            parts.push(part);
        }
        parts
    }

    pub fn clear(&mut self, (row, column): Place) {
        self.on[(row * self.width + column) as usize] = false;
    }
}
