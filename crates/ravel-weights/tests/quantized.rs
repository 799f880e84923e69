//! Files of weights in fewer bits: what is written is what is read, and files that lie are refused.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use ravel_kernels::random::Random;
use ravel_kernels::{Packed, WeightsType, pool};
use ravel_weights::{Checkpoint, Dtype, Quantized, quantize, save};

fn write(path: &Path, names: [&str; 3], shape: [usize; 2]) -> Vec<f32> {
    let mut random = Random::new(11);
    let values = random.normals(shape[0] * shape[1]);
    let gain = random.normals(shape[1]);
    let tensors = [
        (names[0].to_string(), TensorData::new(values.clone(), shape)),
        (names[1].to_string(), TensorData::new(gain, [shape[1]])),
        (names[2].to_string(), TensorData::new(values.clone(), shape)),
    ];
    let metadata = BTreeMap::from([("made".to_string(), "here".to_string())]);
    save(path, tensors, &metadata, Dtype::Keep).unwrap();
    values
}

fn turned(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..rows * columns)
        .map(|at| values[at % rows * columns + at / rows])
        .collect()
}

fn check(names: [&str; 3], shape: [usize; 2], inputs_first: bool) {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from.safetensors");
    let values = write(&from, names, shape);
    let checkpoint = Checkpoint::open(&from).unwrap();
    let [rows, columns] = shape;
    for kind in [
        WeightsType::F16,
        WeightsType::Bf16,
        WeightsType::Q8,
        WeightsType::Q4,
    ] {
        let to = folder.path().join("to.safetensors");
        let told = quantize(&checkpoint, &to, kind).unwrap();
        let whole = matches!(kind, WeightsType::F16 | WeightsType::Bf16);
        let changed = if whole { 2 } else { 1 };
        assert_eq!(
            told,
            Quantized {
                changed,
                kept: 3 - changed
            },
            "{kind}"
        );
        let narrow = Checkpoint::open(&to).unwrap();
        assert!(narrow.names().eq(checkpoint.names()));
        assert_eq!(narrow.metadata()["made"], "here");
        let found = narrow.real(names[0]).unwrap();
        assert_eq!(narrow.shape(names[0]), Some(&shape[..]));
        // The kernels' own rounding is the reference.
        let expected = match inputs_first {
            true => Packed::new(pool::global(), &values, shape, kind).unpacked(pool::global()),
            false => {
                let packed = Packed::new(
                    pool::global(),
                    &turned(&values, shape),
                    [columns, rows],
                    kind,
                );
                turned(&packed.unpacked(pool::global()), [columns, rows])
            }
        };
        assert_eq!(found.as_slice::<f32>().unwrap(), expected, "{kind}");
        let same = [&checkpoint, &narrow].map(|all| all.real(names[1]).unwrap());
        assert_eq!(same[0], same[1]);
        let again = folder.path().join("again.safetensors");
        match quantize(&narrow, &again, kind) {
            // What is in half precision already stays as it is.
            Ok(_) => {
                assert!(whole, "{kind}");
                let again = Checkpoint::open(&again).unwrap().real(names[0]).unwrap();
                assert_eq!(again, found, "{kind}");
            }
            // Blocks are not rounded again.
            Err(error) => assert!(!whole && error.to_string().contains("already"), "{error}"),
        }
        let sizes = [&from, &to].map(|path| std::fs::metadata(path).unwrap().len());
        assert!(sizes[1] < sizes[0]);
    }
}

#[test]
fn our_own_files_are_cut_along_the_inputs() {
    let names = ["backbone.a.weight", "backbone.norm.gain", "head.codebook"];
    for shape in [[64, 96], [70, 65], [33, 130]] {
        check(names, shape, true);
    }
}

#[test]
fn published_files_are_cut_along_the_inputs() {
    let names = [
        "model.a.weight",
        "model.norm.weight",
        "model.embed_tokens.weight",
    ];
    for shape in [[64, 96], [65, 71], [130, 33]] {
        check(names, shape, false);
    }
}

#[test]
fn a_file_without_such_weights_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from.safetensors");
    write(&from, ["backbone.a.weight", "backbone.b", "head.c"], [4, 4]);
    let checkpoint = Checkpoint::open(&from).unwrap();
    let to = folder.path().join("to.safetensors");
    let error = quantize(&checkpoint, &to, WeightsType::Q8)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no tensor here becomes q8"), "{error}");
    assert!(!to.exists());
}

#[test]
fn metadata_that_lies_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from.safetensors");
    write(
        &from,
        ["backbone.a.weight", "backbone.g", "head.c"],
        [64, 96],
    );
    let to = folder.path().join("to.safetensors");
    quantize(&Checkpoint::open(&from).unwrap(), &to, WeightsType::Q4).unwrap();
    let bytes = std::fs::read(&to).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("ravel.quantized"));
    for (was, is, told) in [
        ("[64,96]", "[66,96]", "are needed"),
        ("[64,96]", "[64,95]", "are needed"),
        (r#"\"axis\":0"#, r#"\"axis\":7"#, "axis"),
        (r#"\"axis\":0"#, r#"\"axis\":1"#, "are needed"),
        (r#"\"q4\""#, r#"\"q8\""#, "are needed"),
        (r#"\"q4\""#, r#"\"q9\""#, "unknown variant"),
        (r#"a.weight\":{"#, r#"b.weight\":{"#, "not there"),
    ] {
        let mut changed = bytes.clone();
        let start = metadata_place(&changed, was);
        changed[start..start + was.len()].copy_from_slice(is.as_bytes());
        let error = Checkpoint::from_bytes(changed.into(), "lying")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ravel.quantized") && error.contains(told),
            "{was} {is}: {error}"
        );
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn a_scale_that_is_not_finite_shows_in_its_block_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let names = ["backbone.a.weight", "backbone.g", "head.c"];
    write(&from, names, [64, 96]);
    quantize(&Checkpoint::open(&from).unwrap(), &to, WeightsType::Q8).unwrap();
    let bytes = std::fs::read(&to).unwrap();
    let good = Checkpoint::open(&to).unwrap().real(names[0]).unwrap();
    let good = good.as_slice::<f32>().unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let scales = header.as_object().unwrap().values();
    let mut scales = scales.filter(|entry| entry["dtype"] == "BF16");
    let start = scales.next().unwrap()["data_offsets"][0].as_u64().unwrap();
    for bad in [0x7f80u16, 0xff80, 0x7fc0] {
        let mut changed = bytes.clone();
        changed[8 + length + start as usize..][..2].copy_from_slice(&bad.to_le_bytes());
        let found = Checkpoint::from_bytes(changed.into(), "bad").unwrap();
        let found = found.real(names[0]).unwrap();
        for (at, (found, good)) in found
            .as_slice::<f32>()
            .unwrap()
            .iter()
            .zip(good)
            .enumerate()
        {
            let in_block = at % 96 == 0 && at / 96 < 32;
            assert!(
                found.is_nan() == in_block && (in_block || found == good),
                "{at}"
            );
        }
    }
}

/// Where a piece of the quantization's own entry is, which stands in the header's metadata.
fn metadata_place(bytes: &[u8], what: &str) -> usize {
    let find = |from: usize, what: &str| {
        let at = bytes[from..]
            .windows(what.len())
            .position(|part| part == what.as_bytes());
        from + at.unwrap_or_else(|| panic!("{what} is not in the file"))
    };
    let key = find(0, "ravel.quantized");
    find(key, what)
}
