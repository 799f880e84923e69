//! Every case of `tests/golden` whose family is known here, and how folders that are no cases are refused.

use std::path::PathBuf;

use ravel_golden::{FAMILIES, Outcome, Verdict, run_all};

#[test]
fn the_shared_cases_agree_with_their_references() {
    let mut short = Vec::new();
    let mut seen = 0;
    for family in FAMILIES {
        let shared = [ravel_testkit::golden_folder()];
        let outcomes = run_all(&shared, Some(family.name), &mut |_| ());
        for outcome in outcomes.unwrap_or_else(|error| panic!("{}: {error}", family.name)) {
            seen += 1;
            if !outcome.passed() {
                short.push(in_words(&outcome));
            }
        }
    }
    assert!(seen >= FAMILIES.len(), "a family has no case");
    assert!(short.is_empty(), "{}", short.join("\n"));
}

fn in_words(outcome: &Outcome) -> String {
    let rows = outcome.rows.iter();
    let failed = rows.filter(|row| row.verdict == Verdict::Fail);
    let failed: Vec<_> = failed
        .map(|row| {
            format!(
                "{} {} {:e} of {:e}",
                row.tensor, row.note, row.error, row.bound
            )
        })
        .collect();
    format!(
        "{}: {:?} {}",
        outcome.case.display(),
        outcome.error,
        failed.join("; ")
    )
}

fn refused(paths: &[PathBuf], family: Option<&str>) -> String {
    let outcomes = run_all(paths, family, &mut |_| ());
    outcomes.expect_err("a refusal").to_string()
}

#[test]
fn what_is_no_case_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let here = || vec![folder.path().to_path_buf()];
    assert!(refused(&here(), None).contains("no case folder there"));
    assert!(refused(&here(), Some("nonsense")).contains("no family `nonsense`"));
    let absent = vec![folder.path().join("absent")];
    assert!(refused(&absent, None).contains("absent"));
}

#[test]
fn a_case_that_cannot_be_run_is_reported_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let shared = ravel_testkit::golden_folder().join("decode_logits_processors");
    let copy = |name: &str, file: &str, bytes: &[u8]| {
        let case = folder.path().join(name);
        std::fs::create_dir_all(&case).unwrap();
        std::fs::write(case.join(file), bytes).unwrap();
    };
    let io = std::fs::read(shared.join("io.safetensors")).unwrap();
    let readme = std::fs::read(shared.join("README.md")).unwrap();
    copy("decode_logits_processors_whole", "io.safetensors", &io);
    copy("decode_logits_processors_whole", "README.md", &readme);
    copy("decode_logits_processors_cut", "io.safetensors", &io[..100]);
    copy("decode_logits_processors_cut", "README.md", &readme);
    copy("decode_logits_processors_mute", "io.safetensors", &io);
    copy("what_is_this", "io.safetensors", &io);
    let paths = [folder.path().to_path_buf()];
    let outcomes = run_all(&paths, None, &mut |_| ()).unwrap();
    let passed: Vec<bool> = outcomes.iter().map(Outcome::passed).collect();
    assert_eq!(passed, [false, false, true, false]);
    let unusable: Vec<bool> = outcomes.iter().map(|outcome| outcome.unusable).collect();
    assert_eq!(unusable, [true, true, false, true]);
}

#[test]
fn a_wrong_number_fails_its_own_tensor_only() {
    let folder = tempfile::tempdir().unwrap();
    let shared = ravel_testkit::golden_folder().join("decode_logits_processors");
    let case = folder.path().join("decode_logits_processors_wrong");
    std::fs::create_dir(&case).unwrap();
    std::fs::copy(shared.join("io.safetensors"), case.join("io.safetensors")).unwrap();
    let readme = std::fs::read_to_string(shared.join("README.md")).unwrap();
    let changed = readme.replace("| min_p 0.1 |", "| min_p 0.2 |");
    assert_ne!(readme, changed);
    std::fs::write(case.join("README.md"), changed).unwrap();
    let outcomes = run_all(&[case], None, &mut |_| ()).unwrap();
    let rows = outcomes[0].rows.iter();
    let failed: Vec<_> = rows
        .filter(|row| row.verdict == Verdict::Fail)
        .map(|row| row.tensor.as_str())
        .collect();
    assert_eq!(failed, ["out_min_p"]);
}
