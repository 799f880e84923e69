//! `ravel models` against a hub in this process.

use std::path::Path;

use crate::command::{Run, check_refused, command, from, ravel};
use crate::mirror::{Mirror, Reply, Request};

const WEIGHTS: &[u8] = &[7; 5000];

/// Runs `ravel models …` with `folder/cache` as the cache and `hub` as the hub.
fn models(folder: &Path, hub: &str, arguments: &[&str]) -> Run {
    let mut command = command(folder, &[&["models"], arguments].concat());
    for name in [
        "HF_HOME",
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "HUGGINGFACE_HUB_CACHE",
    ] {
        command.env_remove(name);
    }
    command
        .env("HF_HUB_CACHE", folder.join("cache"))
        .env("HF_ENDPOINT", hub);
    from(command.output().expect("the program runs"))
}

fn hub(change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Mirror {
    Mirror::hub(
        &[("config.json", b"{}"), ("model.safetensors", WEIGHTS)],
        change,
    )
}

/// Standard output as one JSON object per line.
fn objects(run: &Run) -> Vec<serde_json::Value> {
    assert_eq!(run.code, 0, "{}", run.err);
    run.text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn known_models_are_listed_with_licences() {
    let folder = tempfile::tempdir().unwrap();
    let listed = objects(&models(
        folder.path(),
        "http://127.0.0.1:9",
        &["list", "--json"],
    ));
    let var = listed
        .iter()
        .find(|model| model["name"] == "var-d16")
        .unwrap();
    assert_eq!(
        (var["licence"].as_str(), var["cached"].as_bool()),
        (Some("MIT"), Some(false))
    );
    let shown = models(folder.path(), "http://127.0.0.1:9", &["show", "var-d16"]).text();
    assert!(
        shown.contains("licence: MIT") && shown.contains("FoundationVision/var:var_d16.pth"),
        "{shown}"
    );
}

#[test]
fn a_repository_is_pulled_shown_verified_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let hub = hub(|_, reply| reply);
    let run = models(folder, &hub.url, &["pull", "o/n"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.err.contains("o/n: licence mit"), "{}", run.err);
    let pulled = objects(&models(folder, &hub.url, &["pull", "o/n", "--json"]));
    assert_eq!(pulled.len(), 2);
    assert_eq!(
        (pulled[1]["cached"].as_bool(), pulled[1]["bytes"].as_u64()),
        (Some(true), Some(5000))
    );
    let path = pulled[1]["path"].as_str().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), WEIGHTS);
    let shown = objects(&models(folder, &hub.url, &["show", "o/n", "--json"]));
    assert_eq!(shown[0]["cache"][0]["bytes"], 5002);
    assert!(models(folder, &hub.url, &["list"]).text().contains("o/n"));
    let verified = objects(&models(folder, &hub.url, &["verify", "--json"]));
    assert!(verified.len() == 2 && verified.iter().all(|file| file["state"] == "whole"));
    std::fs::write(path, [8; 5000]).unwrap();
    let run = models(folder, &hub.url, &["verify", "o/n"]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(
        run.text().contains("o/n:model.safetensors damaged"),
        "{}",
        run.text()
    );
    let run = models(folder, &hub.url, &["rm", "o/n"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(std::fs::read_dir(folder.join("cache")).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_pulled_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = hub(|_, reply| reply);
    let check = |arguments: &[&str], expected: &str, hint: &str| {
        let run = models(folder, &good.url, arguments);
        check_refused(&run, expected);
        assert!(run.err.contains(hint), "{}", run.err);
    };
    check(&["pull", "var-d18"], "no model `var-d18`", "var-d16");
    check(&["pull", "../x/y"], "a repository is expected", "");
    check(&["pull", "o/n:../../x"], "stays below its repository", "");
    check(&["pull", "o/absent"], "not found (404)", "hint:");
    check(
        &["pull", "o/n", "--offline"],
        "the network is switched off",
        "--offline",
    );
    check(
        &["pull", "dac"],
        "not published on the hub",
        "https://github.com/",
    );
    check(&["rm", "o/n"], "not in the cache", "ravel models pull o/n");
    check(
        &["verify", "o/n"],
        "not in the cache",
        "ravel models pull o/n",
    );
    let hostile = Mirror::hub(&[("../../x.safetensors", b"data")], |_, reply| reply);
    check_refused(
        &models(folder, &hostile.url, &["pull", "o/n"]),
        "stays below its repository",
    );
    let closed = Mirror::new(|_| Reply::new(401));
    let run = models(folder, &closed.url, &["pull", "o/n"]);
    check_refused(&run, "access refused (401)");
    assert!(run.err.contains("HF_TOKEN"), "{}", run.err);
    assert!(!folder.join("cache").exists());
}

#[test]
fn wrong_bytes_fail_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = hub(|request, reply| {
        match request.method == "GET" && request.path.ends_with(".safetensors") {
            true => reply.body(&[8; 5000]),
            false => reply,
        }
    });
    let run = models(
        folder.path(),
        &wrong.url,
        &["pull", "o/n:model.safetensors"],
    );
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(run.err.contains("SHA-256"), "{}", run.err);
    assert!(
        models(folder.path(), &wrong.url, &["list", "--cached"])
            .text()
            .trim()
            .is_empty()
    );
}

#[test]
fn a_definition_that_names_a_model_that_is_not_pulled_says_how_to() {
    let folder = tempfile::tempdir().unwrap();
    let shown = ravel(folder.path(), &["pipelines", "show", "emoji-ar"]).text();
    let definition = shown.replacen("\"tokenizer.safetensors\"", "\"hub:owner/name/w.pth\"", 1);
    assert_ne!(definition, shown);
    std::fs::write(folder.path().join("pipeline.toml"), definition).unwrap();
    let mut command = command(folder.path(), &["pipelines", "check", "pipeline.toml"]);
    let run = from(command.env("HF_HUB_CACHE", folder.path()).output().unwrap());
    check_refused(&run, "hub:owner/name/w.pth: not in the cache");
    assert!(
        run.err
            .contains("hint: `ravel models pull owner/name:w.pth` fetches it"),
        "{}",
        run.err
    );
}
