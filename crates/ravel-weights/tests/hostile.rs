//! Files that lie, and modules that do not fit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::module::Param;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Tensor, TensorData};
use ravel_testkit::{assert_close, device, formula};
use ravel_weights::{Checkpoint, Dtype, load, save, tensors_of};

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

fn check_refused(bytes: Vec<u8>, expected: &str) {
    let error = Checkpoint::from_bytes(Cow::Owned(bytes), "weights")
        .err()
        .expect("a hostile file was accepted");
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
    assert_close("weight", &loaded.weight.val(), &module.weight.val(), 1.0 / 2048.0);
}

#[test]
fn truncated_and_lying_files_are_refused_in_one_line() {
    let whole = file_of(tensors_of(&linear(1)));
    check_refused(Vec::new(), "too few");
    check_refused(whole[..5].to_vec(), "too few");
    check_refused(whole[..40].to_vec(), "truncated");
    check_refused(whole[..whole.len() - 1].to_vec(), "not fully covered");
    check_refused(u64::MAX.to_le_bytes().to_vec(), "header");
    let crafted = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
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
    assert!(line.contains("`weight` is [4, 2], the definition needs [3, 2]"), "{line}");
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
