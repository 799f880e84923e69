//! PyTorch files: equal to the safetensors beside them, every way of nesting, and refusals of whatever is more than data.

mod common;

use std::borrow::Cow;
use std::path::PathBuf;

use common::{Pickle, f32s, legacy, torch, zip, zip_each, zip_with};
use half::{bf16, f16};
use ravel_weights::{Checkpoint, WeightsError};

fn golden(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(file)
}

fn opened(bytes: Vec<u8>) -> Result<Checkpoint, WeightsError> {
    Checkpoint::from_bytes(Cow::Owned(bytes), "file.pt")
}

fn check_values(checkpoint: &Checkpoint, name: &str, shape: &[usize], expected: &[f32]) {
    assert_eq!(checkpoint.shape(name), Some(shape), "{name}");
    let data = checkpoint.real(name).unwrap();
    assert_eq!(data.as_slice::<f32>().unwrap(), expected, "{name}");
}

fn check_refused(bytes: Vec<u8>, expected: &str) {
    let line = opened(bytes)
        .err()
        .unwrap_or_else(|| panic!("accepted: {expected}"))
        .to_string();
    assert!(line.starts_with("file.pt: not a PyTorch file"), "{line}");
    assert!(line.contains(expected), "{line}");
    assert!(
        !line.contains(char::is_control) && line.len() < 1000,
        "{line:?}"
    );
}

/// All tensors of one file are in the other, bit for bit.
fn check_same(pytorch: &str, safetensors: &str, count: usize) {
    let (pytorch, safetensors) = (golden(pytorch), golden(safetensors));
    let (a, b) = (
        Checkpoint::open(&pytorch).unwrap(),
        Checkpoint::open(&safetensors).unwrap(),
    );
    let shared: Vec<&str> = a.names().filter(|name| b.shape(name).is_some()).collect();
    assert_eq!(shared.len(), count);
    for name in shared {
        assert_eq!(a.shape(name), b.shape(name), "{name}");
        match a.real(name) {
            Ok(data) => assert_eq!(data, b.real(name).unwrap(), "{name}"),
            Err(_) => assert_eq!(a.whole(name).unwrap(), b.whole(name).unwrap(), "{name}"),
        }
    }
}

#[test]
fn published_pickles_equal_the_safetensors_beside_them() {
    check_same(
        "llamagen_gpt_c2i/c2i_tiny.pt",
        "llamagen_gpt_c2i/model.safetensors",
        25,
    );
    check_same("gpt2/pytorch_model.bin", "gpt2/model.safetensors", 40);
    check_same(
        "var_transformer/var_tiny.pth",
        "var_transformer/var.safetensors",
        51,
    );
    let vae = Checkpoint::open(&golden("var_transformer/vae_tiny.pth")).unwrap();
    assert_eq!(vae.names().count(), 140);
    assert!(vae.names().all(|name| vae.real(name).is_ok()));
}

#[test]
fn strides_and_offsets_are_honoured() {
    let storage = f32s(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let tensor = |offset, shape: &[i64], strides: &[i64]| {
        let pickle = Pickle::new().op(b"}").text("t");
        let pickle = pickle.tensor("FloatStorage", "0", 7, offset, shape, strides);
        opened(torch(pickle.op(b"s").stop(), &[&storage]))
    };
    let check = |offset, shape: &[i64], strides: &[i64], expected: &[f32]| {
        let sides: Vec<usize> = shape.iter().map(|&side| side as usize).collect();
        check_values(
            &tensor(offset, shape, strides).unwrap(),
            "t",
            &sides,
            expected,
        );
    };
    check(1, &[2, 3], &[3, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    check(0, &[3, 2], &[1, 3], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    check(6, &[], &[], &[6.0]);
    check(2, &[2, 2], &[0, 1], &[2.0, 3.0, 2.0, 3.0]);
    check(0, &[1, 2, 1], &[99, 1, 99], &[0.0, 1.0]);
    check(0, &[0, 4], &[4, 1], &[]);
    for (offset, shape, strides) in [
        (1, &[7][..], &[1][..]),
        (7, &[], &[]),
        (0, &[2, 2], &[6, 1]),
        (i64::MAX, &[2], &[1]),
        (0, &[2], &[i64::MAX]),
        (0, &[1 << 40], &[0]),
        (0, &[i64::MAX, i64::MAX], &[1, 1]),
        (0, &[-1], &[1]),
        (-1, &[1], &[1]),
        (0, &[2, 2], &[1]),
    ] {
        let line = tensor(offset, shape, strides).err().unwrap().to_string();
        assert!(line.contains("not a PyTorch file"), "{line}");
    }
}

#[test]
fn every_storage_is_read_in_its_own_type() {
    let check = |class: &str, bytes: &[u8], size: i64| {
        let pickle = Pickle::new().op(b"}").text("t");
        let count = bytes.len() as i64 / size;
        let pickle = pickle.tensor(class, "0", count, 0, &[count], &[1]);
        let file = opened(torch(pickle.op(b"s").stop(), &[bytes])).unwrap();
        match file.real("t") {
            Ok(data) => assert_eq!(data.as_slice::<f32>().unwrap(), [1.0, -2.0], "{class}"),
            Err(_) => assert_eq!(
                file.whole("t").unwrap().as_slice::<i64>().unwrap(),
                [1, -2],
                "{class}"
            ),
        }
    };
    check(
        "DoubleStorage",
        &[1f64, -2.0].map(f64::to_le_bytes).concat(),
        8,
    );
    check("FloatStorage", &f32s(&[1.0, -2.0]), 4);
    check(
        "HalfStorage",
        &[1.0, -2.0].map(|x| f16::from_f32(x).to_le_bytes()).concat(),
        2,
    );
    check(
        "BFloat16Storage",
        &[1.0, -2.0]
            .map(|x| bf16::from_f32(x).to_le_bytes())
            .concat(),
        2,
    );
    check("LongStorage", &[1i64, -2].map(i64::to_le_bytes).concat(), 8);
    check("IntStorage", &[1i32, -2].map(i32::to_le_bytes).concat(), 4);
    check(
        "ShortStorage",
        &[1i16, -2].map(i16::to_le_bytes).concat(),
        2,
    );
    check("CharStorage", &[1i8, -2].map(i8::to_le_bytes).concat(), 1);
    let bools = Pickle::new()
        .op(b"}")
        .text("t")
        .tensor("BoolStorage", "0", 2, 0, &[2], &[1]);
    let file = opened(torch(bools.op(b"s").stop(), &[&[1, 0]])).unwrap();
    assert_eq!(file.whole("t").unwrap().as_slice::<i64>().unwrap(), [1, 0]);
}

/// A dictionary of one tensor each, with the number that it holds.
fn weights(pickle: Pickle, names: &[(&str, i64)]) -> Pickle {
    names
        .iter()
        .fold(pickle.op(b"}"), |pickle, &(name, offset)| {
            pickle
                .text(name)
                .tensor("FloatStorage", "0", 3, offset, &[1], &[1])
                .op(b"s")
        })
}

fn check_found(pickle: Pickle, names: &[&str], first: f32) {
    let file = opened(torch(pickle.stop(), &[&f32s(&[0.0, 1.0, 2.0])])).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), names);
    check_values(&file, names[0], &[1], &[first]);
}

#[test]
fn nested_dictionaries_are_found_by_rule() {
    let new = || Pickle::new().op(b"}");
    check_found(
        weights(Pickle::new(), &[("a.w", 0), ("b", 1)]),
        &["a.w", "b"],
        0.0,
    );
    for name in ["model", "state_dict", "module", "model_ema", "generator"] {
        check_found(weights(new().text(name), &[("w", 1)]).op(b"s"), &["w"], 1.0);
    }
    let both = weights(new().text("model"), &[("w", 0)]).op(b"s");
    let both = weights(both.text("optimizer"), &[("state", 1)]).op(b"s");
    let averaged = weights(both.clone().text("model_ema"), &[("w", 2)]).op(b"s");
    check_found(both, &["w"], 0.0);
    check_found(averaged, &["w"], 2.0);
    let deep = weights(new().text("any").op(b"}").text("state_dict"), &[("w", 1)]).op(b"ss");
    check_found(deep, &["w"], 1.0);
    let parallel = weights(
        new().text("model"),
        &[
            ("module._orig_mod.w", 1),
            ("module.b._fsdp_wrapped_module.w", 0),
        ],
    );
    check_found(parallel.op(b"s"), &["b.w", "w"], 0.0);
    let apart = weights(new().text("left"), &[("w", 1)]).op(b"s");
    check_found(
        weights(apart.text("right"), &[("w", 0)]).op(b"s"),
        &["left.w", "right.w"],
        1.0,
    );
}

#[test]
fn a_dictionary_can_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pt");
    let pickle = weights(Pickle::new().op(b"}").text("model"), &[("w", 0)]).op(b"s");
    let pickle = weights(pickle.text("ema"), &[("w", 1)]).op(b"s");
    std::fs::write(&path, torch(pickle.stop(), &[&f32s(&[0.0, 1.0, 2.0])])).unwrap();
    check_values(&Checkpoint::open(&path).unwrap(), "w", &[1], &[0.0]);
    check_values(
        &Checkpoint::open_inside(&path, "ema").unwrap(),
        "w",
        &[1],
        &[1.0],
    );
    let line = Checkpoint::open_inside(&path, "none")
        .err()
        .unwrap()
        .to_string();
    assert!(
        line.contains("no dictionary `none`; there are `model`, `ema`"),
        "{line}"
    );
}

#[test]
fn objects_of_other_packages_are_passed_over_and_never_made() {
    let namespace = Pickle::new()
        .op(b"}")
        .text("hyper_parameters")
        .global("argparse", "Namespace")
        .op(&[b')', 0x81])
        .op(b"}")
        .text("width")
        .int(7)
        .op(b"sbs");
    let config = namespace
        .text("config")
        .global("omegaconf.dictconfig", "DictConfig")
        .op(&[b')', 0x81, b'}', b'b', b's']);
    let own = config
        .text("callbacks")
        .global("project.callbacks", "Saver")
        .text("x")
        .op(&[0x85, b'R', b's']);
    check_found(
        weights(own.text("state_dict"), &[("w", 2)]).op(b"s"),
        &["w"],
        2.0,
    );
}

#[test]
fn a_whole_module_saved_as_an_object_gives_its_parameters() {
    let module = |pickle: Pickle, class: &str| {
        pickle
            .global("project.model", class)
            .op(&[b')', 0x81, b'}'])
    };
    let inner = module(Pickle::new(), "Model")
        .text("_modules")
        .op(b"}")
        .text("layer");
    let layer = weights(module(inner, "Layer").text("_parameters"), &[("weight", 1)]).op(b"sbssb");
    check_found(layer, &["layer.weight"], 1.0);
}

#[test]
fn torch_script_gives_its_weights_and_its_program_is_not_looked_at() {
    let module = |pickle: Pickle, class: &str| pickle.global("__torch__", class).op(&[b')', 0x81]);
    let inner = module(
        module(Pickle::new(), "Model").op(b"}").text("layer"),
        "Layer",
    );
    let pickle = weights(inner, &[("weight", 1)])
        .text("training")
        .op(&[0x89, b's', b'b', b's', b'b'])
        .stop();
    let numbers = f32s(&[0.0, 1.0, 2.0]);
    let program = b"not even a stream of deflate".as_slice();
    let entries = |code: &'static str| {
        zip_each(&[
            ("net/data.pkl", &pickle, 0),
            (code, program, 8),
            ("net/data/0", &numbers, 0),
            ("net/constants.pkl", b"\x80\x02).", 0),
        ])
    };
    let file = opened(entries("net/code/__torch__.py")).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["layer.weight"]);
    check_values(&file, "layer.weight", &[1], &[1.0]);
    check_refused(entries("net/data/1"), "is compressed");
}

#[test]
fn the_older_format_is_read() {
    let pickle = weights(Pickle::new(), &[("a", 0), ("b", 2)])
        .text("n")
        .tensor("LongStorage", "1", 2, 1, &[1], &[1]);
    let pickle = pickle.op(b"s").stop();
    let (floats, whole) = (
        f32s(&[5.0, 6.0, 7.0]),
        [8i64, 9].map(i64::to_le_bytes).concat(),
    );
    let bytes = legacy(pickle, &[(3, &floats), (2, &whole)]);
    let file = opened(bytes.clone()).unwrap();
    check_values(&file, "a", &[1], &[5.0]);
    check_values(&file, "b", &[1], &[7.0]);
    assert_eq!(file.whole("n").unwrap().as_slice::<i64>().unwrap(), [9]);
    for end in 1..bytes.len() {
        assert!(opened(bytes[..end].to_vec()).is_err(), "cut at {end}");
    }
    check_refused(
        bytes[..bytes.len() - 1].to_vec(),
        "breaks off (half a download?)",
    );
    check_refused(
        Pickle::new().op(b"}").stop(),
        "not one that torch.save wrote",
    );
}

#[test]
fn a_pickle_that_would_run_something_is_refused_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let command = format!("touch {}", trace.display());
    let call = |module: &str, name: &str| {
        let pickle = Pickle::new()
            .op(b"}")
            .text("w")
            .global(module, name)
            .text(&command);
        pickle.op(&[0x85, b'R', b's']).stop()
    };
    let hostile = [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("__builtin__", "exec"),
        ("importlib", "import_module"),
        ("os.path", "exists"),
        ("operator", "attrgetter"),
        ("runpy", "_run_code"),
    ];
    for (module, name) in hostile {
        let expected =
            format!("it asks for `{module}.{name}`, which no weights need (nothing of it was run)");
        check_refused(torch(call(module, name), &[]), &expected);
        check_refused(legacy(call(module, name), &[]), &expected);
    }
    let stacked = Pickle::new()
        .text("os")
        .text("system")
        .op(&[0x93])
        .text(&command)
        .op(&[0x85, b'R']);
    check_refused(torch(stacked.stop(), &[]), "`os.system`");
    // Opcodes that call without naming anything first: OBJ, INST, extensions, PERSID.
    for op in [&b"o"[..], b"ios\nsystem\n", &[0x82, 1], b"P1\n"] {
        check_refused(
            torch(Pickle::new().op(b"(").op(op).stop(), &[]),
            "is none that weights need",
        );
    }
    assert!(!trace.exists());
}

#[test]
fn a_call_of_another_package_is_never_made() {
    let pickle = Pickle::new()
        .op(b"}")
        .text("w")
        .global("evil.package", "run")
        .text("x")
        .op(&[0x85, b'R', b's']);
    check_refused(torch(pickle.stop(), &[]), "it holds no tensors");
}

#[test]
fn damaged_archives_are_refused_in_one_line() {
    let pickle = weights(Pickle::new(), &[("w", 0)]).stop();
    let storage = f32s(&[0.0, 1.0, 2.0]);
    let whole = torch(pickle.clone(), &[&storage]);
    opened(whole.clone()).unwrap();
    check_refused(whole[..whole.len() / 2].to_vec(), "half a download?");
    check_refused(torch(pickle.clone(), &[]), "storage `0` is not in the file");
    check_refused(
        torch(pickle.clone(), &[&storage[..8]]),
        "should hold 3 elements and has 8 bytes",
    );
    check_refused(zip(&[("readme.txt", b"hello")]), "without `data.pkl`");
    check_refused(zip_with(&[("archive/data.pkl", &pickle)], 8), "compressed");
    let twice = [
        ("archive/data.pkl", &pickle[..]),
        ("archive/data.pkl", &pickle[..]),
    ];
    check_refused(zip(&twice), "occurs twice");
    let big = [
        ("a/data.pkl", &pickle[..]),
        ("a/data/0", &storage),
        ("a/byteorder", b"big"),
    ];
    check_refused(zip(&big), "big-endian");
    let again = Pickle::new().op(b"}").text("model");
    let again = weights(again, &[("module.w", 0), ("module._orig_mod.w", 1)]).op(b"s");
    check_refused(torch(again.stop(), &[&storage]), "`w` occurs twice");
}

#[test]
fn no_cut_and_no_flipped_bit_panics() {
    let pickle = weights(Pickle::new(), &[("w", 0), ("v", 1)]).stop();
    let whole = torch(pickle, &[&f32s(&[0.0, 1.0, 2.0])]);
    for end in 0..whole.len() {
        assert!(opened(whole[..end].to_vec()).is_err(), "cut at {end}");
    }
    for bit in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(file) = opened(bytes) {
            let names: Vec<String> = file.names().map(String::from).collect();
            for name in names {
                let _ = file.real(&name);
            }
        }
    }
}

#[test]
fn pickles_that_unfold_without_end_are_refused_quickly() {
    // Each dictionary holds the one before it twice: 2^30 tensors.
    let mut pickle = weights(Pickle::new(), &[("w", 0)]).op(&[b'q', 0]);
    for _ in 0..30 {
        pickle = pickle
            .op(b"0}")
            .text("a")
            .op(&[b'h', 0, b's'])
            .text("b")
            .op(&[b'h', 0, b's', b'q', 0]);
    }
    let started = std::time::Instant::now();
    check_refused(
        torch(pickle.stop(), &[&f32s(&[0.0, 1.0, 2.0])]),
        "than any checkpoint has",
    );
    // A dictionary that holds itself.
    let own = weights(Pickle::new(), &[("w", 0)])
        .op(&[b'q', 0])
        .text("model")
        .op(&[b'h', 0, b's']);
    let _ = opened(torch(own.stop(), &[&f32s(&[0.0, 1.0, 2.0])]));
    // A long text that becomes the key of storage after storage.
    let long = Pickle::new().op(b"(").text(&"k".repeat(100_000)).op(b"t");
    check_refused(torch(long.op(b"Q").stop(), &[]), "storage");
    check_refused(
        torch([&Pickle::new().0[..], &[b')'; 9_000_000]].concat(), &[]),
        "more objects",
    );
    assert!(started.elapsed().as_secs() < 20);
}

#[test]
fn what_is_no_file_of_weights_is_named() {
    let check = |bytes: &[u8], expected: &str| {
        let line = opened(bytes.to_vec()).err().unwrap().to_string();
        assert!(line.contains(expected), "{line}");
    };
    check(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "Git LFS pointer",
    );
    check(b"<!DOCTYPE html><html>404</html>", "a web page");
}
