//! What loading takes: numbers stay in the file, of the type that they have there, until they are used; then they are f32. The only test
//! of its program, since it measures the whole process.
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

const TYPES: [Written; 3] = [
    ("F32", 4, |number| number.to_le_bytes().to_vec()),
    ("F16", 2, |number| {
        half::f16::from_f32(number).to_le_bytes().to_vec()
    }),
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

/// What something made, the bytes that it took at the peak beyond what was there before, and seconds.
fn measured<T>(make: impl FnOnce() -> T) -> (T, usize, f64) {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let started = std::time::Instant::now();
    let made = make();
    (made, peak() - before, started.elapsed().as_secs_f64())
}

fn empty(layers: usize) -> Layers {
    let layer = || {
        LinearConfig::new(SIDE, SIDE)
            .with_bias(false)
            .init(&device())
    };
    Layers {
        layers: (0..layers).map(|_| layer()).collect(),
    }
}

#[test]
fn loading_takes_at_most_a_fifth_more_than_the_file() {
    let megabytes = std::env::var("RAVEL_MEMORY_MB").map_or(128, |size| size.parse().unwrap());
    // Held, so that the next does not settle in what the one before gave back.
    let mut held = Vec::new();
    for written in TYPES {
        let (dtype, bytes, _) = written;
        let layers = (megabytes << 20) / (bytes * LAYER);
        let size = (layers * bytes * LAYER) as f64;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("large.safetensors");
        write(&path, layers, written);
        let fresh = empty(layers);
        let (loaded, taken, seconds) =
            measured(|| load(fresh, &Checkpoint::open(&path).unwrap(), "").unwrap());
        let loading = taken as f64 / size;
        // A pass through all layers uses every number.
        let (last, taken, using) = measured(|| {
            let rows = loaded.layers.iter().map(|layer| {
                let weight = layer.weight.val();
                weight.slice([0..1, 0..1]).into_scalar::<f32>()
            });
            rows.fold(f32::NAN, |_, number| number)
        });
        assert_eq!(last, ((layers - 1) % 100) as f32);
        let used = taken as f64 / size;
        println!(
            "{megabytes} MiB of {dtype}: loading takes {loading:.3} times the file at the peak ({seconds:.1} s), using all of it \
             {used:.3} times ({using:.1} s)"
        );
        held.push(loaded);
        assert!(loading <= 1.2, "{dtype}: {loading:.3} times the file");
        let widened = 4.0 / bytes as f64;
        assert!(used <= 1.2 * widened, "{dtype}: {used:.3} times the file");
    }
}
