//! Key tables: published names in, ours out, and one report of what does not fit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::nn::{Linear, LinearConfig};
use burn::tensor::TensorData;
use ravel_testkit::device;
use ravel_weights::{Checkpoint, Dtype, KeyTable, WeightsError, load, save};

/// A file whose tensors count up from their own first number.
fn file(tensors: &[(&str, &[usize], f32)]) -> Checkpoint {
    let tensors = tensors.iter().map(|&(name, shape, first)| {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|at| first + at as f32).collect();
        (
            name.to_string(),
            TensorData::new::<f32, _>(values, shape.to_vec()),
        )
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    save(&path, tensors, &BTreeMap::new(), Dtype::Keep).unwrap();
    Checkpoint::from_bytes(Cow::Owned(std::fs::read(path).unwrap()), "published").unwrap()
}

fn apply(
    table: &str,
    file: Checkpoint,
    variables: &[(&str, usize)],
) -> Result<Checkpoint, WeightsError> {
    let variables = variables
        .iter()
        .map(|&(name, number)| (name.to_string(), number));
    KeyTable::parse("table", table)?.apply(file, &variables.collect())
}

fn check_tensor(checkpoint: &Checkpoint, name: &str, shape: &[usize], expected: &[f32]) {
    assert_eq!(checkpoint.shape(name), Some(shape), "{name}");
    let data = checkpoint.real(name).unwrap();
    assert_eq!(data.shape().to_vec(), shape, "{name}");
    let found = data.as_slice::<f32>().unwrap();
    // One part in four million: the last bit of what weight norm computes, far below any misplaced number.
    let close = |(found, expected): (&f32, &f32)| (found - expected).abs() <= expected.abs() / 4e6;
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(close),
        "{name}: {found:?}"
    );
}

#[test]
fn tensors_are_joined_split_and_transposed_in_that_order() {
    let table = r#"
        drop = ["cache.{rest*}"]
        [[rule]]
        from = ["l.{i}.q", "l.{i}.k"]
        join = 0
        to = "blocks.{i}.qk"
        ops = ["transpose"]
        [[rule]]
        from = "l.{i}.kv"
        to = ["blocks.{i}.k", "blocks.{i}.v"]
        split = { axis = 0, parts = ["small", "2*small"] }
        ops = ["add:1"]
        [[rule]]
        from = "embedding"
        to = ["in", "out"]
    "#;
    let published = file(&[
        ("l.0.q", &[2, 2], 0.0),
        ("l.0.k", &[1, 2], 10.0),
        ("l.0.kv", &[3, 1], 20.0),
        ("embedding", &[2], 30.0),
        ("cache.0.k", &[1], 0.0),
    ]);
    let ours = apply(table, published, &[("small", 1)]).unwrap();
    check_tensor(
        &ours,
        "blocks.0.qk",
        &[2, 3],
        &[0.0, 2.0, 10.0, 1.0, 3.0, 11.0],
    );
    check_tensor(&ours, "blocks.0.k", &[1, 1], &[21.0]);
    check_tensor(&ours, "blocks.0.v", &[2, 1], &[22.0, 23.0]);
    check_tensor(&ours, "in", &[2], &[30.0, 31.0]);
    check_tensor(&ours, "out", &[2], &[30.0, 31.0]);
    assert_eq!(ours.names().count(), 5);
}

#[test]
fn every_step_moves_the_right_numbers() {
    let check = |ops: &str, shape: &[usize], expected: &[f32]| {
        let table = format!("[[rule]]\nfrom = 'a'\nto = 'b'\nops = [{ops}]");
        let ours = apply(&table, file(&[("a", &[2, 1, 3], 0.0)]), &[("n", 2)]).unwrap();
        check_tensor(&ours, "b", shape, expected);
    };
    check("'transpose'", &[2, 3, 1], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    check(
        "'permute:2,1,0'",
        &[3, 1, 2],
        &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0],
    );
    check(
        "'squeeze:1','transpose'",
        &[3, 2],
        &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0],
    );
    check(
        "'unsqueeze:3'",
        &[2, 1, 3, 1],
        &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    );
    check("'reshape:n,-1'", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    check(
        "'add:1','multiply:0.5'",
        &[2, 1, 3],
        &[0.5, 1.0, 1.5, 2.0, 2.5, 3.0],
    );
    check(
        "'repeat:1,n','reshape:-1'",
        &[12],
        &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0],
    );
    check("'reverse:2'", &[2, 1, 3], &[2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
    check("'reverse:0'", &[2, 1, 3], &[3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
}

const LINEAR: &str = r#"
    [[rule]]
    from = "lin.w"
    to = "layer.weight"
    ops = ["transpose"]
    [[rule]]
    from = "lin.b"
    to = "layer.bias"
"#;

fn loaded(table: &str, published: Checkpoint) -> Result<Linear, WeightsError> {
    load(
        LinearConfig::new(3, 2).init(&device()),
        &apply(table, published, &[])?,
        "layer",
    )
}

#[test]
fn a_published_linear_layer_loads_transposed() {
    let published = file(&[("lin.w", &[2, 3], 0.0), ("lin.b", &[2], 6.0)]);
    let linear = loaded(LINEAR, published).unwrap();
    let weight: Vec<f32> = linear.weight.val().into_data().try_into_vec().unwrap();
    assert_eq!(weight, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

fn check_report(published: &[(&str, &[usize], f32)], expected: &[&str]) {
    let line = loaded(LINEAR, file(published)).err().unwrap().to_string();
    for part in expected {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn reports_speak_in_the_names_of_the_file() {
    check_report(
        &[("lin.w", &[3, 3], 0.0), ("lin.bias", &[2], 0.0)],
        &[
            "1 missing: `lin.b` (here `layer.bias`);",
            "1 unused: `lin.bias`;",
            "`lin.w` (here `layer.weight`) is [3, 3], the definition needs [3, 2]",
        ],
    );
    let extra = &[
        ("lin.w", &[2usize, 3][..], 0.0),
        ("lin.b", &[2], 0.0),
        ("other.x", &[1], 0.0),
    ];
    check_report(extra, &["published: 1 unused: `other.x`"]);
    check_report(
        &[("lin.w", &[2, 3], 0.0), ("lin.b", &[2], f32::NAN)],
        &["`lin.b` holds NaN or infinity"],
    );
}

#[test]
fn a_rule_without_its_tensor_is_missing_unless_it_is_optional() {
    let published = || file(&[("lin.w", &[2, 3], 0.0), ("lin.b", &[2], 0.0)]);
    let table = |more: &str| {
        format!("{LINEAR}\n[[rule]]\nfrom = 'lin.{{i}}.scale'\nto = 'layer.scale.{{i}}'\n{more}")
    };
    let line = loaded(&table(""), published()).err().unwrap().to_string();
    assert!(line.contains("1 missing: `lin.{i}.scale`"), "{line}");
    loaded(&table("optional = true"), published()).unwrap();
    let elsewhere = table("").replace("layer.scale", "head.scale");
    loaded(&elsewhere, published()).unwrap();
}

#[test]
fn half_of_a_join_is_missing_by_its_own_name() {
    let table = "[[rule]]\nfrom = ['q', 'k']\njoin = 0\nto = 'layer.weight'";
    let line = loaded(table, file(&[("q", &[3, 2], 0.0)]))
        .err()
        .unwrap()
        .to_string();
    assert!(
        line.contains("missing: `q` + `k` (here `layer.weight`)"),
        "{line}"
    );
}

#[test]
fn shapes_that_rules_cannot_work_on_are_reported_together() {
    let table = r#"
        [[rule]]
        from = ["q", "k"]
        join = 1
        to = "qk"
        [[rule]]
        from = "v"
        to = ["a", "b"]
        split = { axis = 0, parts = [1, 2] }
        [[rule]]
        from = "w"
        to = "w"
        ops = ["squeeze:0"]
    "#;
    let published = file(&[
        ("q", &[2, 1], 0.0),
        ("k", &[3, 1], 0.0),
        ("v", &[4], 0.0),
        ("w", &[2], 0.0),
    ]);
    let line = apply(table, published, &[]).err().unwrap().to_string();
    assert!(
        line.contains("`q` is [2, 1] and `k` [3, 1], which cannot be joined along axis 1"),
        "{line}"
    );
    assert!(
        line.contains("`v` is [4], the definition needs [1, 2] along axis 0"),
        "{line}"
    );
    assert!(
        line.contains("`w` is [2], which does not fit at axis 0"),
        "{line}"
    );
}

#[test]
fn tables_that_cannot_be_meant_are_refused_in_one_line() {
    let check = |table: &str, expected: &str| {
        let published = file(&[("a", &[2], 0.0), ("b", &[2], 0.0)]);
        let line = apply(table, published, &[]).err().unwrap().to_string();
        assert!(
            line.starts_with("table: ") && line.contains(expected),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
    };
    check("rule = 7", "line 1");
    check("[[rule]]\nfrom = 'a'\nto = 'b'\nopps = []", "opps");
    check("[[rule]]\nfrom = ['a', 'b']\nto = 'b'", "`join`");
    check("[[rule]]\nfrom = 'a{'\nto = 'b'", "rule 1 (`a{`)");
    check("[[rule]]\nfrom = 'a'\nto = 'b.{i}'", "`{i}` is not in `a`");
    check(
        "[[rule]]\nfrom = 'a'\nto = 'b'\nops = ['turn']",
        "`turn` is no step",
    );
    check(
        "[[rule]]\nfrom = 'a'\nto = 'b'\nops = ['add:nan']",
        "`add:nan` is no step",
    );
    check(
        "[[rule]]\nfrom = 'a'\nto = ['b', 'c']\nsplit = { axis = 0, parts = [1] }",
        "as many parts",
    );
    check(
        "[[rule]]\nfrom = 'a'\nto = 'b'\nsplit = { axis = 0, parts = ['width'] }",
        "variable `width`",
    );
    check(
        "[[rule]]\nfrom = '{name}'\nto = 'c'",
        "`a` and `b` both become `c`",
    );
}

#[test]
fn weight_norm_is_folded_in_both_spellings() {
    let published = file(&[
        ("conv.weight_g", &[2, 1, 1], 2.0),
        ("conv.weight_v", &[2, 1, 2], 3.0),
        ("up.parametrizations.weight.original0", &[1, 2, 1], 1.0),
        ("up.parametrizations.weight.original1", &[2, 2, 1], 1.0),
        ("parametrizations.bias.original0", &[], 10.0),
        ("parametrizations.bias.original1", &[2], 3.0),
        ("lone.weight_g", &[1], 0.0),
    ]);
    let folded = published.fold_weight_norm().unwrap();
    let names: Vec<&str> = folded.names().collect();
    assert_eq!(names, ["bias", "conv.weight", "lone.weight_g", "up.weight"]);
    let (first, second) = (61f32.sqrt(), 5f32);
    let expected = [
        2.0 * 3.0 / second,
        2.0 * 4.0 / second,
        3.0 * 5.0 / first,
        3.0 * 6.0 / first,
    ];
    check_tensor(&folded, "conv.weight", &[2, 1, 2], &expected);
    let (odd, even) = (10f32.sqrt(), 20f32.sqrt());
    check_tensor(
        &folded,
        "up.weight",
        &[2, 2, 1],
        &[1.0 / odd, 4.0 / even, 3.0 / odd, 8.0 / even],
    );
    check_tensor(&folded, "bias", &[2], &[6.0, 8.0]);
}

#[test]
fn lengths_of_another_weight_are_refused() {
    let published = file(&[("a.weight_g", &[3, 1], 0.0), ("a.weight_v", &[2, 4], 0.0)]);
    let line = published.fold_weight_norm().err().unwrap().to_string();
    assert!(
        line.contains(
            "`a.weight_g` is [3, 1], which cannot be the lengths of `a.weight_v`, [2, 4]"
        ),
        "{line}"
    );
}
