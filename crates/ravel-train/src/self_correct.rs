//! Teacher forcing over a pyramid in which mistakes are mended by later scales.
//!
//! Han et al. 2024 (Infinity), section 3.3, with whole codes in the place of bits: a wrong code goes on the canvas, and what
//! follows is coded again from what that canvas left of the latents.

use burn::tensor::{Int, Tensor};
use ravel_core::Pyramid;

/// What a head is shown before it answers.
pub enum Shown {
    /// `[batch, positions]`: the codes themselves.
    Codes(Tensor<2, Int>),
    /// `[batch, positions after the first scale, code_width]`: the canvas before each scale.
    Canvas(Tensor<3>),
}

/// What a head is shown, and what it should answer.
pub struct Lesson {
    /// The question.
    pub shown: Shown,
    /// The answer, `[batch, positions]`.
    pub targets: Tensor<2, Int>,
}

impl Lesson {
    /// The same as constants of a graph.
    pub fn for_training(self) -> Self {
        Self {
            shown: match self.shown {
                Shown::Codes(codes) => Shown::Codes(Tensor::from_inner(codes)),
                Shown::Canvas(features) => Shown::Canvas(Tensor::from_inner(features)),
            },
            targets: Tensor::from_inner(self.targets),
        }
    }
}

/// Codes `latents` scale by scale, with `mistakes` in the place of the codes found wherever they are not negative.
///
/// # Shapes
/// - `latents`: `[batch, code_width, height, width]`
/// - `mistakes`: `[batch, positions]`
pub fn self_corrected(
    pyramid: &dyn Pyramid,
    latents: &Tensor<4>,
    mistakes: &Tensor<2, Int>,
) -> Lesson {
    let batch = latents.dims()[0];
    let mut start = 0;
    let mut canvas: Option<Tensor<4>> = None;
    let mut features = Vec::new();
    let mut targets = Vec::new();
    for (scale, (height, width)) in pyramid.sides().iter().enumerate() {
        if let Some(canvas) = &canvas {
            features.push(pyramid.features_for(canvas, scale));
        }
        let right = pyramid.ids_for(latents.clone(), canvas.as_ref(), scale);
        let right: Tensor<2, Int> = right.squeeze_dim(1);
        let end = start + height * width;
        let wrong = mistakes.clone().slice([0..batch, start..end]);
        let kept = wrong.clone().lower_elem(0);
        let shown = wrong.mask_where(kept, right.clone());
        canvas = Some(pyramid.add_scale(canvas, scale, shown.unsqueeze_dim(1)));
        targets.push(right);
        start = end;
    }
    Lesson {
        shown: Shown::Canvas(Tensor::cat(features, 1)),
        targets: Tensor::cat(targets, 1),
    }
}

#[cfg(test)]
mod tests {
    use ravel_quant::{MultiscaleConfig, MultiscaleQuantizer, VectorConfig};
    use ravel_testkit::{device, formula, ids, values};

    use super::*;

    fn quantizer() -> MultiscaleQuantizer {
        device().seed(1);
        let config = MultiscaleConfig {
            codebook: VectorConfig {
                codebook_size: 64,
                width: 4,
                l2_normalize: false,
            },
            sides: vec![1, 2, 4],
            phi: 0,
            phi_share: 0.5,
            cosine: false,
            residual: true,
        };
        config.init(&device())
    }

    fn features(lesson: Lesson) -> Tensor<3> {
        match lesson.shown {
            Shown::Canvas(features) => features,
            Shown::Codes(_) => panic!("a pyramid shows a canvas"),
        }
    }

    fn distance(
        quantizer: &MultiscaleQuantizer,
        codes: Tensor<2, Int>,
        latents: &Tensor<4>,
    ) -> f32 {
        let canvas = quantizer.canvases(codes).pop().expect("three scales");
        values(&(canvas - latents.clone()).square().mean())[0]
    }

    #[test]
    fn without_mistakes_the_codes_are_the_picture_s() {
        let quantizer = quantizer();
        let latents = formula([2, 4, 4, 4], 3, 0.02, &device());
        let none = Tensor::<2, Int>::zeros([2, 21], &device()) - 1;
        let lesson = self_corrected(&quantizer, &latents, &none);
        assert_eq!(ids(&lesson.targets), ids(&quantizer.ids(latents)));
        assert_eq!(features(lesson).dims(), [2, 20, 4]);
    }

    #[test]
    fn later_scales_mend_a_wrong_first_one() {
        let quantizer = quantizer();
        let latents = formula([1, 4, 4, 4], 3, 0.02, &device());
        let clean = quantizer.ids(latents.clone());
        let rest = Tensor::<2, Int>::zeros([1, 20], &device()) - 1;
        let right = ids(&clean)[0];
        let mut mended = 0.0;
        let mut left = 0.0;
        for wrong in (0..64).filter(|&id| id != right) {
            let first = Tensor::<2, Int>::full([1, 1], wrong as i32, &device());
            let mistakes = Tensor::cat(vec![first.clone(), rest.clone()], 1);
            let lesson = self_corrected(&quantizer, &latents, &mistakes);
            assert_eq!(
                ids(&lesson.targets)[0],
                right,
                "the mistake is shown, not asked for"
            );
            let after = |codes: &Tensor<2, Int>| {
                Tensor::cat(vec![first.clone(), codes.clone().narrow(1, 1, 20)], 1)
            };
            mended += distance(&quantizer, after(&lesson.targets), &latents);
            left += distance(&quantizer, after(&clean), &latents);
        }
        assert!(mended < 0.7 * left, "mended {mended}, left {left}");
    }
}
