//! Decoding at the sizes of `ravel bench decode --preset llama-111m` in candle, random weights; prints a line of JSON.
//!
//! `decode-candle f32|f16|q8|q4 TOKENS BATCH`; threads by `RAYON_NUM_THREADS`.

use std::time::Instant;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor, D};

const WIDTH: usize = 768;
const LAYERS: usize = 12;
const HEADS: usize = 12;
const INNER: usize = 2048;
const IDS: usize = 16384;
const WARM: usize = 4;

/// `[out, in]`, as candle keeps it.
fn linear(rows: usize, columns: usize, kind: &str) -> Result<QMatMul> {
    let weight = Tensor::randn(0f32, 0.02, (rows, columns), &Device::Cpu)?;
    Ok(match kind {
        "q8" => QMatMul::from_qtensor(QTensor::quantize(&weight, GgmlDType::Q8_0)?)?,
        "q4" => QMatMul::from_qtensor(QTensor::quantize(&weight, GgmlDType::Q4_0)?)?,
        "f16" => QMatMul::Tensor(weight.to_dtype(DType::F16)?),
        _ => QMatMul::Tensor(weight),
    })
}

struct Block {
    qkv: QMatMul,
    out: QMatMul,
    up: QMatMul,
    down: QMatMul,
    keys: Tensor,
    values: Tensor,
}

fn norm(x: &Tensor) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let mean = (wide.sqr()?.sum_keepdim(D::Minus1)? / WIDTH as f64)?;
    wide.broadcast_div(&(mean + 1e-5)?.sqrt()?)?.to_dtype(x.dtype())
}

fn turned(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = WIDTH / HEADS / 2;
    let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let a = (first.broadcast_mul(cos)? - second.broadcast_mul(sin)?)?;
    let b = (second.broadcast_mul(cos)? + first.broadcast_mul(sin)?)?;
    Tensor::cat(&[a, b], D::Minus1)
}

impl Block {
    fn forward(&self, x: &Tensor, at: usize, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let (batch, width) = (x.dim(0)?, WIDTH / HEADS);
        let qkv = self.qkv.forward(&norm(x)?)?.reshape((batch, 3, HEADS, 1, width))?;
        let part = |at: usize| qkv.narrow(1, at, 1)?.squeeze(1)?.contiguous();
        let (q, k) = (turned(&part(0)?, cos, sin)?, turned(&part(1)?, cos, sin)?);
        self.keys.slice_set(&k.contiguous()?, 2, at)?;
        self.values.slice_set(&part(2)?, 2, at)?;
        let keys = self.keys.narrow(2, 0, at + 1)?;
        let values = self.values.narrow(2, 0, at + 1)?;
        let scores = (q.contiguous()?.matmul(&keys.t()?)? * (width as f64).powf(-0.5))?;
        let most = scores.max_keepdim(D::Minus1)?;
        let weights = scores.broadcast_sub(&most)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        let seen = weights.matmul(&values)?.reshape((batch, 1, WIDTH))?;
        let x = (x + self.out.forward(&seen)?)?;
        let both = self.up.forward(&norm(&x)?)?;
        let gate = both.narrow(D::Minus1, 0, INNER)?.silu()?;
        let inner = (gate * both.narrow(D::Minus1, INNER, INNER)?)?;
        &x + self.down.forward(&inner)?
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "f32".into());
    let mut number = |other: usize| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(other);
    let (tokens, batch) = (number(64), number(1));
    let dtype = if kind == "f16" { DType::F16 } else { DType::F32 };
    let (length, width) = (WARM + tokens, WIDTH / HEADS);
    let table = Tensor::randn(0f32, 1.0, (IDS, WIDTH), &Device::Cpu)?.to_dtype(dtype)?;
    let room = || Tensor::zeros((batch, HEADS, length, width), dtype, &Device::Cpu);
    let blocks = (0..LAYERS)
        .map(|_| {
            Ok(Block {
                qkv: linear(3 * WIDTH, WIDTH, &kind)?,
                out: linear(WIDTH, WIDTH, &kind)?,
                up: linear(2 * INNER, WIDTH, &kind)?,
                down: linear(WIDTH, INNER, &kind)?,
                keys: room()?,
                values: room()?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let head = linear(IDS, WIDTH, &kind)?;
    let mut ids = Tensor::arange(0u32, batch as u32, &Device::Cpu)?;
    let mut seconds = Vec::new();
    for at in 0..length {
        let begin = Instant::now();
        let angles: Vec<f32> = (0..width / 2)
            .map(|pair| at as f32 * 1e4f32.powf(-(pair as f32) / (width / 2) as f32))
            .collect();
        let angles = Tensor::new(angles, &Device::Cpu)?;
        let (cos, sin) = (angles.cos()?.to_dtype(dtype)?, angles.sin()?.to_dtype(dtype)?);
        let mut x = table.index_select(&ids, 0)?.reshape((batch, 1, WIDTH))?;
        for block in &blocks {
            x = block.forward(&x, at, &cos, &sin)?;
        }
        ids = head.forward(&norm(&x)?)?.argmax(D::Minus1)?.flatten_all()?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let mut seconds = seconds.split_off(WARM);
    seconds.sort_by(f64::total_cmp);
    let median = 1e3 * seconds[seconds.len() / 2];
    println!("{{\"milliseconds\": {{\"median\": {median}}}}}");
    Ok(())
}
