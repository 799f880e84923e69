//! The kernels: a product with blocks, and blocks as numbers.
//!
//! A cube has [`COLUMNS`] columns and [`UNITS`] units for each. A unit reads four words of levels at a time, which are one block of four bits or half a
//! block of eight, multiplies them with a tile of rows, and adds up what it has; then the units of a column add up theirs in a fixed order. So a
//! number hangs neither on the other rows nor on the device's plane size.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::blocks::BLOCK;

/// Units that share a column.
const UNITS: u32 = 32;

/// Columns of a cube.
const COLUMNS: u32 = 4;

/// Rows that are multiplied with a word of levels while it is there.
const TILE: usize = 8;

/// Words that are read at once.
const VECTOR: usize = 4;

/// Cubes along the first axis, of which no device has a limit below this.
const CUBES: u32 = 1 << 15;

/// The number of a level of a word, by its place in it.
#[cube]
fn number(word: u32, #[comptime] place: u32, #[comptime] bits: u32) -> f32 {
    let mask = comptime!((1u32 << bits) - 1);
    let zero = comptime!((1u32 << (bits - 1)) as f32);
    let shift = comptime!(place * bits);
    f32::cast_from((word >> shift) & mask) - zero
}

/// A scale, bfloat16, of the word that holds it and its neighbour.
#[cube]
fn scale(word: u32, block: u32) -> f32 {
    let bits = if block % 2 == 0 {
        word << 16
    } else {
        word & 0xffff_0000
    };
    f32::reinterpret(bits)
}

#[cube(launch)]
fn product_kernel<N: Size>(
    x: &Tensor<Vector<f32, N>>,
    levels: &Tensor<Vector<u32, N>>,
    scales: &Tensor<u32>,
    out: &mut Tensor<f32>,
    rows: u32,
    columns: u32,
    vectors: u32,
    scale_words: u32,
    #[comptime] bits: u32,
    #[comptime] tile: usize,
) {
    let per_word = comptime!(32 / bits);
    let vectors_per_block = comptime!(bits / 4);
    // Vectors of `x` that a vector of levels is multiplied with.
    let x_vectors = comptime!(per_word as usize);
    let unit = UNIT_POS_X;
    let column = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * COLUMNS + UNIT_POS_Y;
    let first_row = CUBE_POS_Z * (tile as u32);

    let mut sums = Array::<f32>::new(tile);
    #[unroll]
    for row in 0..tile {
        sums[row] = 0.0f32;
    }
    if column < columns {
        let mut vector = unit;
        while vector < vectors {
            let block = vector / vectors_per_block;
            let words = levels[(column * vectors + vector) as usize];
            let by = scale(scales[(column * scale_words + block / 2) as usize], block);
            #[unroll]
            for row in 0..tile {
                // Rows behind the last are the last again; what comes of them is not written.
                let mut from = first_row + row as u32;
                if from >= rows {
                    from = rows - 1;
                }
                let start = ((from * vectors + vector) * per_word) as usize;
                let mut sum = 0.0f32;
                #[unroll]
                for at in 0..x_vectors {
                    let xs = x[start + at];
                    #[unroll]
                    for place in 0..4usize {
                        let level = comptime!((4 * at + place) as u32);
                        let word = words.extract(comptime!((level / per_word) as usize));
                        sum += xs.extract(place) * number(word, comptime!(level % per_word), bits);
                    }
                }
                sums[row] += sum * by;
            }
            vector += UNITS;
        }
    }

    let mut shared = Shared::<[f32]>::new_slice(comptime!(tile * (UNITS * COLUMNS) as usize));
    let place = (UNIT_POS_Y * UNITS + unit) as usize;
    let all = comptime!((UNITS * COLUMNS) as usize);
    #[unroll]
    for row in 0..tile {
        shared[row * all + place] = sums[row];
    }
    sync_cube();
    #[unroll]
    for step in 0..comptime!(UNITS.ilog2()) {
        let half = comptime!(UNITS >> (step + 1));
        if unit < half {
            #[unroll]
            for row in 0..tile {
                let other = shared[row * all + place + comptime!(half as usize)];
                shared[row * all + place] += other;
            }
        }
        sync_cube();
    }
    if unit == 0 && column < columns {
        #[unroll]
        for row in 0..tile {
            let to = first_row + row as u32;
            if to < rows {
                out[(to * columns + column) as usize] = shared[row * all + place];
            }
        }
    }
}

#[cube(launch)]
fn numbers_kernel<N: Size>(
    levels: &Tensor<Vector<u32, N>>,
    scales: &Tensor<u32>,
    out: &mut Tensor<Vector<f32, N>>,
    all: u32,
    vectors: u32,
    scale_words: u32,
    #[comptime] bits: u32,
) {
    let per_word = comptime!(32 / bits);
    let vectors_per_block = comptime!(bits / 4);
    let at = ABSOLUTE_POS as u32;
    if at >= all {
        terminate!();
    }
    let column = at / vectors;
    let block = at % vectors / vectors_per_block;
    let words = levels[at as usize];
    let by = scale(scales[(column * scale_words + block / 2) as usize], block);
    #[unroll]
    for to in 0..comptime!(per_word as usize) {
        let mut numbers = Vector::<f32, N>::empty();
        #[unroll]
        for place in 0..4usize {
            let level = comptime!((4 * to + place) as u32);
            let word = words.extract(comptime!((level / per_word) as usize));
            numbers.insert(place, number(word, comptime!(level % per_word), bits) * by);
        }
        out[(at * per_word) as usize + to] = numbers;
    }
}

/// The words and scales of all columns, as kernels read them, and how many vectors of levels and words of scales a column has.
struct Columns {
    levels: CubeTensor,
    scales: CubeTensor,
    count: usize,
    vectors: usize,
    scale_words: usize,
}

impl Columns {
    fn new(levels: CubeTensor, scales: CubeTensor) -> Self {
        let (levels, scales) = (into_contiguous(levels), into_contiguous(scales));
        let [count, words] = levels.meta.shape().dims::<2>();
        let [_, scale_words] = scales.meta.shape().dims::<2>();
        Self {
            levels,
            scales,
            count,
            vectors: words / VECTOR,
            scale_words,
        }
    }
}

/// `x` times the weights: `[rows, n]`.
pub(super) fn product(
    x: CubeTensor,
    levels: CubeTensor,
    scales: CubeTensor,
    bits: usize,
) -> CubeTensor {
    assert_eq!(x.dtype, DType::F32, "numbers beside blocks are f32");
    let x = into_contiguous(x);
    let columns = Columns::new(levels, scales);
    let [rows, k] = x.meta.shape().dims::<2>();
    assert!(
        k.is_multiple_of(BLOCK),
        "width axis: {k} are no whole blocks"
    );
    let (client, device) = (x.client.clone(), x.device.clone());
    let shape = [rows, columns.count].into();
    let out = empty_device_contiguous_dtype(client.clone(), device, shape, DType::F32);
    let tile = rows.next_power_of_two().min(TILE);
    let cubes = (columns.count as u32).div_ceil(COLUMNS);
    let wide = cubes.min(CUBES);
    let count = CubeCount::Static(wide, cubes.div_ceil(wide), rows.div_ceil(tile) as u32);
    product_kernel::launch(
        &client,
        count,
        CubeDim::new_2d(UNITS, COLUMNS),
        VECTOR,
        x.into_tensor_arg(),
        columns.levels.into_tensor_arg(),
        columns.scales.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        rows as u32,
        columns.count as u32,
        columns.vectors as u32,
        columns.scale_words as u32,
        bits as u32,
        tile,
    );
    out
}

/// The numbers of all columns: `[n, k]`.
pub(super) fn numbers(levels: CubeTensor, scales: CubeTensor, bits: usize) -> CubeTensor {
    let columns = Columns::new(levels, scales);
    let (client, device) = (columns.levels.client.clone(), columns.levels.device.clone());
    let all = columns.count * columns.vectors;
    let k = columns.vectors * VECTOR * 32 / bits;
    let shape = [columns.count, k].into();
    let out = empty_device_contiguous_dtype(client.clone(), device, shape, DType::F32);
    let units = UNITS * COLUMNS;
    let cubes = (all as u32).div_ceil(units);
    let wide = cubes.min(CUBES);
    numbers_kernel::launch(
        &client,
        CubeCount::Static(wide, cubes.div_ceil(wide), 1),
        CubeDim::new_1d(units),
        VECTOR,
        columns.levels.into_tensor_arg(),
        columns.scales.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        all as u32,
        columns.vectors as u32,
        columns.scale_words as u32,
        bits as u32,
    );
    out
}
