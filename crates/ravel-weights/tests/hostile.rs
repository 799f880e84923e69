//! Files that lie, and modules that do not fit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Param;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Tensor, TensorData};
use ravel_testkit::{assert_close, device, formula};
use ravel_weights::{Checkpoint, Dtype, atomic_write, load, save, tensors_of};

fn linear(salt: u32) -> Linear {
    let device = device();
    let mut linear = LinearConfig::new(3, 2).init(&device);
    linear.weight = Param::from_tensor(formula([3, 2], salt, 1.0, &device));
    linear.bias = Some(Param::from_tensor(formula([2], salt + 1, 1.0, &device)));
    linear
}

fn file_of(tensors: Vec<(String, TensorData)>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    save(&path, tensors, &BTreeMap::new(), Dtype::Keep).unwrap();
    std::fs::read(path).unwrap()
}

/// A file with a header of our own and `data` zero bytes behind it.
fn crafted(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// A file with one tensor of any name, type and shape; `name` and `shape` are JSON.
fn one_tensor(name: &str, dtype: &str, shape: &str, data: &[u8]) -> Checkpoint {
    let header = format!(
        r#"{{"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{}]}}}}"#,
        data.len()
    );
    let mut bytes = crafted(&header, 0);
    bytes.extend(data);
    Checkpoint::from_bytes(Cow::Owned(bytes), "weights").unwrap()
}

fn check_refused(bytes: Vec<u8>, expected: &str) {
    let error = Checkpoint::from_bytes(Cow::Owned(bytes), "weights")
        .expect_err("a hostile file was accepted");
    let line = error.to_string();
    assert!(line.contains(expected), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn a_module_comes_back_bit_for_bit_with_its_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let module = linear(1);
    let metadata = BTreeMap::from([("step".to_string(), "7".to_string())]);
    save(&path, tensors_of(&module), &metadata, Dtype::Keep).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let loaded = load(linear(9), &checkpoint, "").unwrap();
    assert_close("weight", &loaded.weight.val(), &module.weight.val(), 0.0);
    assert_eq!(checkpoint.metadata()["step"], "7");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn half_precision_keeps_eleven_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let module = linear(1);
    save(&path, tensors_of(&module), &BTreeMap::new(), Dtype::F16).unwrap();
    let loaded = load(linear(9), &Checkpoint::open(&path).unwrap(), "").unwrap();
    assert_close(
        "weight",
        &loaded.weight.val(),
        &module.weight.val(),
        1.0 / 2048.0,
    );
}

#[test]
fn truncated_and_lying_files_are_refused_in_one_line() {
    let whole = file_of(tensors_of(&linear(1)));
    check_refused(Vec::new(), "too few");
    check_refused(whole[..5].to_vec(), "too few");
    check_refused(whole[..40].to_vec(), "truncated");
    check_refused(whole[..whole.len() - 1].to_vec(), "not fully covered");
    check_refused(u64::MAX.to_le_bytes().to_vec(), "header");
    let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}}"#;
    check_refused(crafted(huge, 8), "weights");
    let backwards = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#;
    check_refused(crafted(backwards, 8), "weights");
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    check_refused(crafted(overlap, 12), "weights");
    check_refused(crafted("not json", 0), "weights");
}

#[test]
fn everything_that_does_not_fit_is_reported_together() {
    let mut tensors = tensors_of(&linear(1));
    tensors[0].1 = TensorData::new::<f32, _>(vec![0.0; 8], [4, 2]);
    tensors[1].0 = "biass".into();
    let bytes = file_of(tensors);
    let checkpoint = Checkpoint::from_bytes(Cow::Owned(bytes), "weights").unwrap();
    let line = load(linear(2), &checkpoint, "").err().unwrap().to_string();
    assert!(line.contains("1 missing: `bias`"), "{line}");
    assert!(line.contains("1 unused: `biass`"), "{line}");
    assert!(
        line.contains("`weight` is [4, 2], the definition needs [3, 2]"),
        "{line}"
    );
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let mut tensors = tensors_of(&linear(1));
    tensors[1].1 = TensorData::new::<f32, _>(vec![0.0, f32::NAN], [2]);
    let checkpoint = Checkpoint::from_bytes(Cow::Owned(file_of(tensors)), "weights").unwrap();
    let line = load(linear(2), &checkpoint, "").err().unwrap().to_string();
    assert!(line.contains("`bias` holds NaN"), "{line}");
}

#[test]
fn loading_keeps_what_takes_gradients() {
    let bytes = file_of(tensors_of(&linear(1)));
    let checkpoint = Checkpoint::from_bytes(Cow::Owned(bytes), "weights").unwrap();
    let training = device().autodiff();
    let module = burn::module::Module::train(burn::module::Module::fork(linear(3), &training));
    let loaded = load(module, &checkpoint, "").unwrap();
    assert!(loaded.weight.val().is_require_grad());
    let input: Tensor<2> = formula([1, 3], 4, 1.0, &training);
    let gradients = loaded.forward(input).sum().backward();
    assert!(loaded.weight.val().grad(&gradients).is_some());
}

#[test]
fn headers_that_break_the_format_are_refused_in_one_line() {
    let tensor =
        |offsets: &str| format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}"#);
    let (first, second, apart) = (tensor("[0,8]"), tensor("[8,16]"), tensor("[12,20]"));
    let cases = [
        ("hole", format!(r#"{{"a":{first},"b":{apart}}}"#), 20),
        ("hole at the start", format!(r#"{{"a":{second}}}"#), 16),
        (
            "bytes behind the last tensor",
            format!(r#"{{"a":{first}}}"#),
            9,
        ),
        (
            "data beyond the end",
            format!(r#"{{"a":{first},"b":{second}}}"#),
            15,
        ),
        (
            "a name twice, two places",
            format!(r#"{{"a":{first},"a":{second}}}"#),
            16,
        ),
        (
            "a name twice, one place",
            format!(r#"{{"a":{first},"a":{first}}}"#),
            8,
        ),
        (
            "a name twice, spelled differently",
            format!(r#"{{"a":{first},"\u0061":{first}}}"#),
            8,
        ),
        (
            "metadata twice",
            r#"{"__metadata__":{},"__metadata__":{}}"#.into(),
            0,
        ),
        (
            "metadata that is no text",
            r#"{"__metadata__":{"step":7}}"#.into(),
            0,
        ),
        ("a list", "[]".into(), 0),
        ("brackets without end", "[".repeat(100_000), 0),
        ("empty header", String::new(), 0),
        (
            "negative side",
            first.replace("[2]", "[-2]").replacen('{', r#"{"a":{"#, 1) + "}",
            8,
        ),
        (
            "fractional side",
            first.replace("[2]", "[2.5]").replacen('{', r#"{"a":{"#, 1) + "}",
            8,
        ),
        (
            "unknown type",
            format!(r#"{{"a":{}}}"#, first.replace("F32", r"F\n99")),
            8,
        ),
        (
            "offsets of u64::MAX",
            format!(r#"{{"a":{}}}"#, tensor("[0,18446744073709551615]")),
            8,
        ),
        (
            "offsets beyond u64",
            format!(r#"{{"a":{}}}"#, tensor("[0,99999999999999999999]")),
            8,
        ),
        (
            "name of two lines",
            format!(r#"{{"a\nb\u001b[2J":{apart}}}"#),
            20,
        ),
    ];
    for (what, header, data) in cases {
        let error = Checkpoint::from_bytes(Cow::Owned(crafted(&header, data)), "weights")
            .err()
            .unwrap_or_else(|| panic!("accepted: {what}"));
        let line = error.to_string();
        assert!(
            line.starts_with("weights: not a safetensors file"),
            "{what}: {line}"
        );
        assert!(!line.contains(char::is_control), "{what}: {line:?}");
        assert!(line.len() < 1000, "{what}: {} bytes", line.len());
    }
    check_refused([&2u64.to_le_bytes()[..], &[0xFF, 0xFE]].concat(), "weights");
}

#[test]
fn no_cut_is_accepted_and_no_flipped_bit_panics() {
    let module = linear(1);
    let whole = file_of(tensors_of(&module));
    for end in 0..whole.len() {
        check_refused(whole[..end].to_vec(), "weights");
    }
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    for bit in 0..8 * header {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(checkpoint) = Checkpoint::from_bytes(Cow::Owned(bytes), "weights") {
            // Harmless or not, it must end in a module or in an error.
            let _ = load(linear(2), &checkpoint, "");
            let _ = checkpoint.tensors_under("");
        }
    }
}

#[test]
fn numbers_of_the_wrong_kind_are_refused_by_name() {
    let refused = |checkpoint: &Checkpoint, expected: &str| {
        let module = burn::nn::LayerNormConfig::new(2)
            .with_bias(false)
            .init(&device());
        let line = load(module, checkpoint, "").err().unwrap().to_string();
        assert!(line.contains(expected), "{line}");
        assert!(line.len() < 1000, "{} bytes", line.len());
    };
    refused(
        &one_tensor("gamma", "I64", "[2]", &[0; 16]),
        "`gamma` holds I64",
    );
    refused(
        &one_tensor("gamma", "BOOL", "[2]", &[0; 2]),
        "`gamma` holds BOOL",
    );
    refused(
        &one_tensor("gamma", "F8_E4M3", "[2]", &[0; 2]),
        "`gamma` holds F8_E4M3",
    );
    refused(&one_tensor("gamma", "F4", "[2]", &[0]), "`gamma` holds F4");
    refused(
        &one_tensor("gamma", "F16", "[2]", &[0, 0x7C, 0, 0]),
        "`gamma` holds NaN or infinity",
    );
    refused(
        &one_tensor("gamma", "BF16", "[2]", &[0, 0, 0x80, 0xFF]),
        "`gamma` holds NaN or infinity",
    );
    // Finite in the file, beyond what f32 can hold.
    let huge = [1e300f64.to_le_bytes(), 0f64.to_le_bytes()].concat();
    refused(
        &one_tensor("gamma", "F64", "[2]", &huge),
        "`gamma` holds NaN or infinity",
    );
    refused(
        &one_tensor("gamma", "F32", "[]", &[0; 4]),
        "`gamma` is [], the definition needs [2]",
    );
    let empty = "[0,4294967296,4294967295]";
    refused(
        &one_tensor("gamma", "F32", empty, &[]),
        "the definition needs [2]",
    );
    let long = format!("[{}2]", "1,".repeat(100_000));
    let checkpoint = one_tensor("gamma", "F32", &long, &[0; 8]);
    refused(&checkpoint, "the definition needs [2]");
}

#[test]
fn reports_stay_one_short_line_whatever_the_names() {
    let number = || TensorData::new::<f32, _>(vec![0.0], [1]);
    let hostile = [
        "a\nhint: run this".to_string(),
        "b\u{1b}[2J".into(),
        "c".repeat(1 << 20),
    ];
    let many = (0..10_000).map(|at| format!("d{at}"));
    let tensors = hostile.into_iter().chain(many).map(|name| (name, number()));
    let checkpoint = Checkpoint::from_bytes(Cow::Owned(file_of(tensors.collect())), "weights");
    let line = load(linear(2), &checkpoint.unwrap(), "")
        .err()
        .unwrap()
        .to_string();
    assert!(line.contains("10003 unused"), "{line}");
    assert!(line.contains("and 9998 more"), "{line}");
    assert!(line.contains(r"`a\nhint: run this`"), "{line}");
    assert!(!line.contains(char::is_control), "{line:?}");
    assert!(line.len() < 2000, "{} bytes", line.len());
}

#[test]
fn a_prefix_ends_at_a_dot() {
    let renamed = |prefix: &str| {
        let named = |(name, data)| (format!("{prefix}.{name}"), data);
        tensors_of(&linear(1))
            .into_iter()
            .map(named)
            .collect::<Vec<_>>()
    };
    let tensors = [renamed("model"), renamed("model2"), renamed("other.model")].concat();
    let checkpoint = Checkpoint::from_bytes(Cow::Owned(file_of(tensors)), "weights").unwrap();
    assert!(load(linear(2), &checkpoint, "model").is_ok());
    assert!(load(linear(2), &checkpoint, "other.model").is_ok());
    let line = load(linear(2), &checkpoint, "other")
        .err()
        .unwrap()
        .to_string();
    assert!(
        line.contains("missing: `other.weight`, `other.bias`"),
        "{line}"
    );
    assert!(
        line.contains("unused: `other.model.bias`, `other.model.weight`"),
        "{line}"
    );
}

#[test]
fn every_bit_of_every_number_survives_the_file() {
    let odd = [
        0,
        1,
        0x8000_0000,
        0x7F7F_FFFF,
        0x7F80_0000,
        0x7FC0_1234,
        0xFFFF_FFFF,
    ];
    let floats: Vec<f32> = odd.map(f32::from_bits).to_vec();
    let whole = vec![i64::MIN, -1, 0, (1 << 53) + 1, i64::MAX];
    let tensors = vec![
        ("floats".to_string(), TensorData::new::<f32, _>(floats, [7])),
        (
            "whole".to_string(),
            TensorData::new::<i64, _>(whole.clone(), [5]),
        ),
    ];
    let checkpoint = Checkpoint::from_bytes(Cow::Owned(file_of(tensors)), "weights").unwrap();
    let floats: Vec<f32> = checkpoint.real("floats").unwrap().try_into_vec().unwrap();
    assert_eq!(
        floats
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>(),
        odd
    );
    let back: Vec<i64> = checkpoint.whole("whole").unwrap().try_into_vec().unwrap();
    assert_eq!(back, whole);
}

#[test]
fn files_that_cannot_be_read_or_written_are_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let check = |path: &Path| {
        let line = Checkpoint::open(path).err().unwrap().to_string();
        assert!(line.contains(&path.display().to_string()), "{line}");
        assert_eq!(line.lines().count(), 1);
    };
    check(folder.path());
    check(&folder.path().join("absent.safetensors"));
    let path = folder.path().join("weights.safetensors");
    let kept = file_of(tensors_of(&linear(1)));
    atomic_write(&path, &kept).unwrap();
    check(&path.join("below-a-file.safetensors"));
    assert!(atomic_write(&path.join("below-a-file"), b"x").is_err());
    assert!(atomic_write(&folder.path().join("absent/weights"), b"x").is_err());
    assert!(atomic_write(folder.path(), b"x").is_err());
    assert_eq!(std::fs::read(&path).unwrap(), kept);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_goes_on_and_on_is_refused_by_its_first_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8]| {
        // A terabyte of zeros that takes no room on the disk.
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let line = Checkpoint::open(&path).err().unwrap().to_string();
        assert!(line.contains("not a safetensors file"), "{line}");
    };
    check("zeros", b"");
    check("tail", &file_of(tensors_of(&linear(1))));
    assert!(Checkpoint::open(Path::new("/dev/zero")).is_err());
}

#[test]
fn equal_models_are_equal_files() {
    let folder = tempfile::tempdir().unwrap();
    let metadata: BTreeMap<String, String> = (0..8)
        .map(|at| (format!("key {at}"), format!("größe {at}")))
        .collect();
    let written = |name: &str| {
        let path = folder.path().join(name);
        save(&path, tensors_of(&linear(1)), &metadata, Dtype::F16).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.metadata(), &metadata);
        std::fs::read(&path).unwrap()
    };
    let first = written("a");
    assert!((0..4).all(|_| written("b") == first));
}

#[test]
fn numbers_that_half_precision_cannot_hold_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let large = |value: f32| {
        let data = TensorData::new(vec![1.0, value], [2]);
        [("layer.weight".to_string(), data)]
    };
    let line = save(&path, large(1e6), &BTreeMap::new(), Dtype::F16)
        .unwrap_err()
        .to_string();
    assert!(line.contains("layer.weight"), "{line}");
    assert!(!path.exists());
    save(&path, large(6e4), &BTreeMap::new(), Dtype::F16).unwrap();
}
