//! Whether a generated picture is of what was asked for: which known picture is it nearest to?
//!
//! Protocol: pictures are compared by the tokenizer's latents before quantization, flattened, by Euclidean distance. A picture's
//! rank is the number of gallery pictures that are strictly nearer to it than the one whose caption was asked for. The gallery
//! holds training and held-out pictures alike.

use ravel_core::{ImageTokenizer, Images, Result};
use serde::Serialize;

use crate::host;

/// The features of each picture.
///
/// # Errors
/// What the tokenizer reports.
pub fn features(tokenizer: &dyn ImageTokenizer, images: Images) -> Result<Vec<Vec<f32>>> {
    let latents = tokenizer.latents(images)?;
    let [_, depth, height, width] = latents.dims();
    let row = depth * height * width;
    Ok(host(latents)
        .chunks_exact(row)
        .map(<[f32]>::to_vec)
        .collect())
}

/// Known pictures to compare with.
#[derive(Debug, Clone, Default)]
pub struct Gallery {
    captions: Vec<String>,
    features: Vec<Vec<f32>>,
}

/// How often the right picture is nearest.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RetrievalReport {
    /// Pictures asked for.
    pub pictures: usize,
    /// Share of rank 0.
    pub top_1: f64,
    /// Share of ranks below 5.
    pub top_5: f64,
    /// The share of rank 0 that guessing reaches.
    pub chance: f64,
    /// Mean number of gallery pictures that are nearer than the right one.
    pub mean_rank: f64,
}

impl Gallery {
    /// Adds a picture.
    pub fn push(&mut self, caption: String, features: Vec<f32>) {
        self.captions.push(caption);
        self.features.push(features);
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.captions.len()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.captions.is_empty()
    }

    /// Gallery pictures that are strictly nearer than the one of this caption, or `None` if no picture has it.
    pub fn rank(&self, caption: &str, found: &[f32]) -> Option<usize> {
        let distance = |features: &[f32]| -> f64 {
            let squares = features
                .iter()
                .zip(found)
                .map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum()
        };
        let right = self.captions.iter().zip(&self.features);
        let right = right
            .filter(|(known, _)| *known == caption)
            .map(|(_, features)| distance(features))
            .min_by(f64::total_cmp)?;
        let nearer = self
            .features
            .iter()
            .filter(|features| distance(features) < right);
        Some(nearer.count())
    }

    /// The caption of the nearest picture.
    pub fn nearest(&self, found: &[f32]) -> Option<&str> {
        let distance = |features: &[f32]| -> f64 {
            let squares = features
                .iter()
                .zip(found)
                .map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum()
        };
        let all = self.captions.iter().zip(&self.features);
        all.min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)))
            .map(|(caption, _)| caption.as_str())
    }

    /// The report over the ranks of some pictures.
    pub fn report(&self, ranks: &[usize]) -> RetrievalReport {
        let count = ranks.len().max(1) as f64;
        let share =
            |below: usize| ranks.iter().filter(|&&rank| rank < below).count() as f64 / count;
        RetrievalReport {
            pictures: ranks.len(),
            top_1: share(1),
            top_5: share(5),
            chance: 1.0 / self.len().max(1) as f64,
            mean_rank: ranks.iter().sum::<usize>() as f64 / count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_what_is_strictly_nearer() {
        let mut gallery = Gallery::default();
        gallery.push("a".into(), vec![0.0, 0.0]);
        gallery.push("twin of a".into(), vec![0.0, 0.0]);
        gallery.push("b".into(), vec![3.0, 0.0]);
        assert_eq!(gallery.rank("a", &[1.0, 0.0]), Some(0));
        assert_eq!(gallery.rank("twin of a", &[1.0, 0.0]), Some(0));
        assert_eq!(gallery.rank("b", &[1.0, 0.0]), Some(2));
        assert_eq!(gallery.rank("c", &[1.0, 0.0]), None);
        assert_eq!(gallery.nearest(&[2.9, 0.0]), Some("b"));
        let report = gallery.report(&[0, 0, 2, 7]);
        assert_eq!((report.top_1, report.top_5), (0.5, 0.75));
    }
}
