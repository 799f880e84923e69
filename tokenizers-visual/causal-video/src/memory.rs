//! What a canvas remembers where clips are taken apart into layers.

use std::any::Any;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ravel_core::Canvas;

use crate::change::only_moved;
use crate::scene::{Cells, Given, Raster, Scene, found};
use crate::{ChangeConfig, grid_from_sequence};

/// Most given frames by which they are taken apart.
const FRAMES: usize = 4;

/// Row by row of a batch.
pub struct Memory {
    rows: Vec<Row>,
}

enum Row {
    /// The last frames that were given.
    Given(Vec<Given>),
    /// They have been taken apart.
    Apart(Scene),
    /// There is no telling what is a thing.
    Whole,
}

impl Memory {
    /// Of a canvas.
    pub fn of(canvas: &Canvas) -> Option<&Self> {
        canvas.memory.as_ref()?.downcast_ref()
    }

    /// After one more given frame, which `now` shows; none without layers. What went on in between is forgotten.
    pub fn following(
        config: &ChangeConfig,
        before: &Canvas,
        now: &Canvas,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        if !config.layers {
            return None;
        }
        let columns = now.latest().dims()[3] / config.stride();
        let remembered = Self::of(before);
        let first = rasters(before.latest());
        let frames = rasters(now.latest());
        let steps = steps_of(config, now.vectors.clone());
        let rows = first.into_iter().zip(frames).zip(steps).enumerate();
        let rows = rows.map(|(at, ((first, frame), steps))| {
            let mut all = match remembered.map(|memory| &memory.rows[at]) {
                Some(Row::Given(earlier)) => earlier.clone(),
                _ => vec![Given::first(first, columns)],
            };
            let before = all.last().expect("a frame at least");
            all.push(Given::after(before, frame, steps));
            let over = all.len().saturating_sub(FRAMES);
            Row::Given(all.split_off(over))
        });
        Some(Arc::new(Self {
            rows: rows.collect(),
        }))
    }

    /// The frames after the codes of one more, `[b, 1, 3, h, w]`, and what to remember then.
    ///
    /// # Shapes
    /// - `vectors`: `[b, positions, levels]`
    pub fn moved(
        &self,
        config: &ChangeConfig,
        vectors: &Tensor<3>,
        canvas: &Canvas,
    ) -> (Tensor<5>, Self) {
        let steps = steps_of(config, vectors.clone());
        let rows: Vec<Row> = self
            .rows
            .iter()
            .zip(steps)
            .map(|(row, steps)| row.moved(config, steps, canvas))
            .collect();
        let latest = canvas.latest();
        let whole = rows.iter().any(|row| matches!(row, Row::Whole)).then(|| {
            let [_, _, height, width] = latest.dims();
            let (rows, columns) = (height / config.stride(), width / config.stride());
            let grid = grid_from_sequence(vectors.clone(), rows, columns);
            only_moved(config, latest.clone(), grid).frames
        });
        let frames = rows
            .iter()
            .enumerate()
            .map(|(at, row)| match (row, &whole) {
                (Row::Apart(scene), _) => tensor_of(&scene.shown(), &latest.device()),
                (_, Some(whole)) => whole.clone().narrow(0, at, 1),
                _ => unreachable!("a row that is not apart is whole"),
            });
        let frames = Tensor::cat(frames.collect(), 0);
        (frames, Self { rows })
    }

    /// The code vectors that say what a canvas with this memory shows: those that led to it where each cell moved by itself, and `shown` where
    /// frames were taken apart.
    ///
    /// # Shapes
    /// - `led`, `shown`, returns: `[b, positions, levels]`
    pub fn vectors(&self, led: Tensor<3>, shown: impl FnOnce() -> Tensor<3>) -> Tensor<3> {
        let apart = |row: &Row| matches!(row, Row::Apart(_));
        if !self.rows.iter().any(apart) {
            return led;
        }
        let shown = shown();
        let rows = self
            .rows
            .iter()
            .enumerate()
            .map(|(at, row)| match apart(row) {
                true => shown.clone().narrow(0, at, 1),
                false => led.clone().narrow(0, at, 1),
            });
        Tensor::cat(rows.collect(), 0)
    }
}

impl Row {
    /// After the codes of one more frame: apart or whole.
    fn moved(&self, config: &ChangeConfig, steps: Vec<(i32, i32)>, canvas: &Canvas) -> Self {
        let reach = config.reach as i32;
        let cells = Cells {
            steps,
            columns: canvas.latest().dims()[3] / config.stride(),
            side: config.stride() as i32,
            reach,
            walls: config.walls,
        };
        let scene = match self {
            Self::Given(given) => found(given, reach).map(|scene| scene.moved(&cells)),
            Self::Apart(scene) => Some(scene.moved(&cells)),
            Self::Whole => None,
        };
        scene.map_or(Self::Whole, Self::Apart)
    }
}

/// `[1, 1, 3, h, w]`.
fn tensor_of(frame: &Raster, device: &Device) -> Tensor<5> {
    let shape = [1, 1, 3, frame.height as usize, frame.width as usize];
    let values: Vec<f32> = frame.planes().collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// How far each cell moved down and to the right, row by row of a batch.
fn steps_of(config: &ChangeConfig, vectors: Tensor<3>) -> Vec<Vec<(i32, i32)>> {
    let [_, positions, levels] = vectors.dims();
    let values = host(vectors.into_data());
    let step = |share: f32| -(share * config.reach as f32).round() as i32;
    values
        .chunks_exact(positions * levels)
        .map(|row| {
            let codes = row.chunks_exact(levels);
            codes.map(|code| (step(code[0]), step(code[1]))).collect()
        })
        .collect()
}

/// `[b, 3, h, w]`, row by row of the batch.
fn rasters(frames: Tensor<4>) -> Vec<Raster> {
    let [_, channels, height, width] = frames.dims();
    let values = host(frames.into_data());
    values
        .chunks_exact(channels * height * width)
        .map(|row| Raster::from_planes(row, height, width))
        .collect()
}

fn host(data: TensorData) -> Vec<f32> {
    let data = data.convert::<f32>();
    data.try_into_vec().expect("values were converted to f32")
}
