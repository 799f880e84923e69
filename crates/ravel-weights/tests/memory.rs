//! What loading takes: the weights as they are computed with (f32) and little more, whichever type the file has them in. The only test of
//! its program, since it measures the whole process.
//!
//! `RAVEL_MEMORY_MB=2048 cargo test --release -p ravel-weights --test memory -- --nocapture` measures at that size.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout)] // The measured figure is what the run is for.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use ravel_testkit::device;
use ravel_weights::{Checkpoint, load};

const SIDE: usize = 1024;
/// Numbers of one layer, 4 MiB of f32.
const LAYER: usize = SIDE * SIDE;

#[derive(Module, Debug)]
struct Layers {
    layers: Vec<Linear>,
}

/// A type's name in files, its bytes and how a number is written.
type Written = (&'static str, usize, fn(f32) -> Vec<u8>);

const TYPES: [Written; 2] = [
    ("F32", 4, |number| number.to_le_bytes().to_vec()),
    ("BF16", 2, |number| number.to_le_bytes()[2..].to_vec()),
];

fn write(path: &Path, layers: usize, (dtype, bytes, number): Written) {
    let tensor = |at: usize| {
        let (start, end) = (at * bytes * LAYER, (at + 1) * bytes * LAYER);
        format!(
            r#""layers.{at}.weight":{{"dtype":"{dtype}","shape":[{SIDE},{SIDE}],"data_offsets":[{start},{end}]}}"#
        )
    };
    let header = format!(
        "{{{}}}",
        (0..layers).map(tensor).collect::<Vec<_>>().join(",")
    );
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for at in 0..layers {
        file.write_all(&number((at % 100) as f32).repeat(LAYER))
            .unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
}

/// Largest resident size of this process since the mark was last reset, in bytes: mapped pages count.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

/// What was loaded, bytes that it took at the peak, and seconds.
fn measured(path: &Path, layers: usize) -> (Layers, usize, f64) {
    let layer = || {
        LinearConfig::new(SIDE, SIDE)
            .with_bias(false)
            .init(&device())
    };
    let empty = Layers {
        layers: (0..layers).map(|_| layer()).collect(),
    };
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let started = std::time::Instant::now();
    let loaded = load(empty, &Checkpoint::open(path).unwrap(), "").unwrap();
    let (seconds, taken) = (started.elapsed().as_secs_f64(), peak() - before);
    let last = loaded.layers[layers - 1].weight.val().slice([0..1, 0..1]);
    assert_eq!(last.into_scalar::<f32>(), ((layers - 1) % 100) as f32);
    (loaded, taken, seconds)
}

#[test]
fn loading_takes_at_most_a_fifth_more_than_the_weights() {
    let megabytes = std::env::var("RAVEL_MEMORY_MB").map_or(128, |size| size.parse().unwrap());
    let layers = (megabytes << 20) / (4 * LAYER);
    // Held, so that the second does not settle in what the first gave back.
    let mut held = Vec::new();
    for written in TYPES {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("large.safetensors");
        write(&path, layers, written);
        let (loaded, taken, seconds) = measured(&path, layers);
        held.push(loaded);
        let ratio = taken as f64 / (4 * layers * LAYER) as f64;
        let (dtype, bytes, _) = written;
        println!(
            "{} MiB of {dtype}, {megabytes} MiB as f32: {ratio:.3} times that at the peak, {seconds:.1} s",
            megabytes * bytes / 4
        );
        assert!(ratio <= 1.2, "{dtype}: {ratio:.3} times the weights");
    }
}
