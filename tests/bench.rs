//! `ravel bench` at toy sizes.

use crate::command::ravel;

fn bench(arguments: &[&str]) -> crate::command::Run {
    let folder = tempfile::tempdir().unwrap();
    ravel(folder.path(), &[&["bench", "image"], arguments].concat())
}

#[test]
fn a_picture_is_timed_in_parts_that_add_up() {
    let run = bench(&[
        "--preset",
        "tiny",
        "--json",
        "--seed",
        "5",
        "--threads",
        "1",
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    let row: serde_json::Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!(
        (row["width"].as_u64(), row["codes"].as_u64()),
        (Some(64), Some(16))
    );
    assert_eq!(row["threads"], 1);
    let seconds = |part: &str| row["seconds"][part].as_f64().unwrap();
    let parts = ["prefill", "decode", "tokenizer-decode"].map(seconds);
    assert!(parts.iter().all(|&part| part > 0.0), "{row}");
    let sum: f64 = parts.iter().sum();
    assert!((sum - seconds("picture")).abs() < 1e-3, "{row}");
    assert!(
        seconds("whole") >= seconds("picture") + seconds("load"),
        "{row}"
    );
    if cfg!(target_os = "linux") {
        assert!(row["peak-mib"].as_f64().unwrap() > 1.0, "{row}");
    }
    let text = bench(&["--preset", "tiny"]).text();
    assert!(
        text.contains("tokenizer decode") && text.contains("16 codes"),
        "{text}"
    );
}

#[test]
fn a_decoder_is_timed_and_narrow_products_are_held_against_wide_ones() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |more: &[&str]| {
        let common = ["bench", "tokenizer", "--preset", "tiny", "--rounds", "2"];
        ravel(folder.path(), &[&common, more].concat())
    };
    let run = bench(&["--type", "bf16", "--json", "--threads", "2"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let row: serde_json::Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!(
        (row["width"].as_u64(), row["type"].as_str()),
        (Some(64), Some("bf16"))
    );
    let seconds = |part: &str| row["seconds"][part].as_f64().unwrap();
    assert!(
        0.0 < seconds("least") && seconds("least") <= seconds("decode"),
        "{row}"
    );
    // Where the processor has no narrow products both pictures are the same, and the ratio is no number.
    assert!(row["psnr-db"].as_f64().is_none_or(|db| db > 40.0), "{row}");
    let run = bench(&[]);
    assert!(run.text().contains("decode, least") && !run.text().contains("PSNR"));
    let run = bench(&["--type", "f64"]);
    assert!(run.code == 2 && run.err.contains("bf16"), "{}", run.err);
}

#[test]
fn presets_and_threads_that_do_not_exist_are_refused() {
    let run = bench(&["--preset", "var-d17"]);
    assert!(run.code == 2 && run.err.contains("var-d16"), "{}", run.err);
    let run = bench(&["--preset", "tiny", "--threads", "0"]);
    assert_eq!(run.code, 2, "{}", run.err);
}
