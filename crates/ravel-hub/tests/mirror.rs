//! Pulling from a hub in this process: good, slow, broken and hostile ones.

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{COMMIT, Mirror, Reply, Request, sha256};
use ravel_hub::{Cache, Hub, HubError, Pulled, Settings, State, Target};
use tempfile::TempDir;

const WEIGHTS: &[u8] = &[7; 300_000];
const FILES: &[(&str, &[u8])] = &[
    ("config.json", b"{}"),
    ("README.md", b"hello"),
    ("model.safetensors", WEIGHTS),
];

fn settings(cache: &TempDir, endpoint: &str) -> Settings {
    Settings {
        cache: cache.path().into(),
        endpoint: endpoint.into(),
        offline: false,
        token: None,
    }
}

fn pull_with(settings: &Settings, target: &str) -> Result<Vec<Pulled>, HubError> {
    let hub = Hub::new(settings)?;
    let plan = hub.plan(&target.parse()?)?;
    let pull = |file| hub.pull(&plan, file, &mut |_| ControlFlow::Continue(()));
    plan.files.iter().map(pull).collect()
}

fn pull(cache: &TempDir, mirror: &Mirror, target: &str) -> Result<Vec<Pulled>, HubError> {
    pull_with(&settings(cache, &mirror.url), target)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn check_line(error: &HubError, expected: &str) {
    let line = error.to_string();
    assert!(line.contains(expected), "{line}");
    assert!(
        !line.contains(char::is_control) && line.len() < 1000,
        "{line:?}"
    );
}

/// Nothing under the cache's snapshots: no file appeared.
fn check_nothing_appeared(cache: &TempDir) {
    let listed = Cache::new(cache.path()).list().unwrap();
    assert!(
        listed.iter().all(|repo| repo.files.is_empty()),
        "{listed:?}"
    );
}

fn is_head(request: &Request) -> bool {
    request.method == "HEAD"
}

fn is_weights(request: &Request) -> bool {
    request.path.ends_with("/model.safetensors")
}

#[test]
fn a_good_pull_leaves_the_layout_of_the_hub() {
    let (cache, mirror) = (folder(), Mirror::hub(FILES, |_, reply| reply));
    let pulled = pull(&cache, &mirror, "o/n").unwrap();
    let names: Vec<&str> = pulled.iter().map(|file| file.file.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors"]);
    assert!(pulled.iter().all(|file| file.checked && !file.cached));
    let root = cache.path().join("models--o--n");
    let path = root
        .join("snapshots")
        .join(COMMIT)
        .join("model.safetensors");
    assert_eq!(fs::read(&path).unwrap(), WEIGHTS);
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    let blob = format!("../../blobs/{}", sha256(WEIGHTS));
    #[cfg(unix)]
    assert_eq!(fs::read_link(&path).unwrap(), Path::new(&blob));
    assert!(root.join("snapshots").join(COMMIT).join(blob).is_file());
    let found = Cache::new(cache.path())
        .find(&"o/n:model.safetensors".parse().unwrap())
        .unwrap();
    assert_eq!(found, path);
    let again = pull(&cache, &mirror, "o/n").unwrap();
    assert!(again.iter().all(|file| file.cached && file.checked));
    let sent = mirror
        .requests()
        .iter()
        .filter(|request| is_weights(request) && !is_head(request))
        .count();
    assert_eq!(sent, 1);
}

#[test]
fn files_in_folders_are_linked_relatively() {
    let files: &[(&str, &[u8])] = &[("a/b/x.pt", b"data")];
    let (cache, mirror) = (folder(), Mirror::hub(files, |_, reply| reply));
    let pulled = pull(&cache, &mirror, "o/n:a/b/x.pt").unwrap();
    let moved = cache.path().join("moved");
    fs::rename(cache.path().join("models--o--n"), &moved).unwrap();
    let below = pulled[0]
        .path
        .strip_prefix(cache.path().join("models--o--n"))
        .unwrap();
    assert_eq!(fs::read(moved.join(below)).unwrap(), b"data");
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    let count = AtomicUsize::new(0);
    let mirror = Mirror::hub(FILES, move |request, reply| {
        let cut =
            is_weights(request) && !is_head(request) && count.fetch_add(1, Ordering::SeqCst) < 2;
        Reply {
            cut: cut.then_some(100_000),
            ..reply
        }
    });
    let cache = folder();
    let pulled = pull(&cache, &mirror, "o/n:model.safetensors").unwrap();
    assert_eq!(fs::read(&pulled[0].path).unwrap(), WEIGHTS);
    let ranges: Vec<Option<String>> = mirror
        .requests()
        .iter()
        .filter(|request| is_weights(request) && !is_head(request))
        .map(|request| request.headers.get("range").cloned())
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=100000-".into()),
            Some("bytes=200000-".into())
        ]
    );
}

#[test]
fn an_interrupted_pull_goes_on_next_time() {
    let (cache, mirror) = (folder(), Mirror::hub(FILES, |_, reply| reply));
    let hub = Hub::new(&settings(&cache, &mirror.url)).unwrap();
    let plan = hub.plan(&"o/n:model.safetensors".parse().unwrap()).unwrap();
    assert_eq!(plan.licence.as_deref(), Some("mit"));
    let mut stop = |progress: &ravel_hub::Progress| match progress.done > 0 {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let error = hub.pull(&plan, &plan.files[0], &mut stop).unwrap_err();
    assert!(matches!(error, HubError::Interrupted));
    check_nothing_appeared(&cache);
    let begun = hub
        .cache()
        .repo(&"o/n".parse().unwrap())
        .unwrap()
        .incomplete_bytes;
    assert!(begun > 0);
    pull(&cache, &mirror, "o/n:model.safetensors").unwrap();
    let last = mirror.requests().pop().unwrap();
    assert_eq!(last.headers["range"], format!("bytes={begun}-"));
}

#[test]
fn a_server_that_knows_no_ranges_sends_everything_again() {
    let mirror = Mirror::hub(FILES, |_, reply| reply);
    let cache = folder();
    let blobs = cache.path().join("models--o--n/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(
        blobs.join(format!("{}.incomplete", sha256(WEIGHTS))),
        [7; 50],
    )
    .unwrap();
    let whole = Mirror::hub(FILES, |request, reply| match reply.status {
        206 => Reply {
            status: 200,
            ..reply
        }
        .body(WEIGHTS),
        _ => {
            let _ = request;
            reply
        }
    });
    let pulled = pull(&cache, &whole, "o/n:model.safetensors").unwrap();
    assert_eq!(fs::read(&pulled[0].path).unwrap(), WEIGHTS);
    // A part that is longer than the file is thrown away.
    let cache = folder();
    let blobs = cache.path().join("models--o--n/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(
        blobs.join(format!("{}.incomplete", sha256(WEIGHTS))),
        vec![7; 400_000],
    )
    .unwrap();
    let pulled = pull(&cache, &mirror, "o/n:model.safetensors").unwrap();
    assert_eq!(fs::read(&pulled[0].path).unwrap(), WEIGHTS);
}

#[test]
fn a_wrong_sum_is_refused_and_nothing_is_kept() {
    let mirror = Mirror::hub(FILES, |request, reply| {
        match is_weights(request) && !is_head(request) {
            true => reply.body(&[8; 300_000]),
            false => reply,
        }
    });
    let cache = folder();
    let error = pull(&cache, &mirror, "o/n:model.safetensors").unwrap_err();
    assert!(matches!(error, HubError::Damaged { .. }));
    check_line(&error, "model.safetensors: SHA-256 is");
    check_nothing_appeared(&cache);
    let kept = fs::read_dir(cache.path().join("models--o--n/blobs"))
        .unwrap()
        .count();
    assert_eq!(kept, 0);
}

#[test]
fn a_server_that_sends_too_much_or_too_little_is_refused() {
    let cache = folder();
    let more = Mirror::hub(FILES, |request, reply| {
        match is_weights(request) && !is_head(request) {
            true => reply.body(&[7; 300_001]),
            false => reply,
        }
    });
    check_line(
        &pull(&cache, &more, "o/n:model.safetensors").unwrap_err(),
        "more than the 300000 bytes",
    );
    let never = Mirror::hub(FILES, |request, reply| {
        match is_weights(request) && !is_head(request) {
            true => Reply {
                cut: Some(0),
                ..reply
            },
            false => reply,
        }
    });
    let error = pull(&cache, &never, "o/n:model.safetensors").unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    check_nothing_appeared(&cache);
}

#[test]
fn names_of_the_server_that_lead_elsewhere_are_refused() {
    for name in [
        "../../x.safetensors",
        "/etc/x.safetensors",
        "a\\b.safetensors",
        "a/../../x.pt",
        "x\ny.pt",
    ] {
        let cache = folder();
        let mirror = Mirror::hub(&[(name, b"data")], |_, reply| reply);
        let error = pull(&cache, &mirror, "o/n").unwrap_err();
        assert!(matches!(error, HubError::Name { .. }), "{name}: {error}");
        check_line(&error, "stays below its repository");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}

#[test]
fn etags_commits_and_sizes_of_the_server_are_checked() {
    let check = |change: fn(&Request, Reply) -> Reply, expected: &str| {
        let cache = folder();
        let error = pull(&cache, &Mirror::hub(FILES, change), "o/n:model.safetensors").unwrap_err();
        check_line(&error, expected);
        check_nothing_appeared(&cache);
    };
    check(
        |_, reply| {
            if reply.headers.is_empty() {
                reply
            } else {
                reply.with("ETag", "\"../../x\"")
            }
        },
        "no ETag that a file could be named by",
    );
    check(
        |_, reply| {
            if reply.headers.is_empty() {
                reply
            } else {
                reply.with("ETag", "\"\"")
            }
        },
        "no ETag",
    );
    check(
        |request, reply| match request.path.starts_with("/api") {
            true => reply.body(br#"{"sha":"../../..","siblings":[]}"#),
            false => reply,
        },
        "`../../..` is no commit",
    );
    check(
        |request, reply| match request.path.starts_with("/api") {
            true => reply.body(b"<html>sign in</html>"),
            false => reply,
        },
        "cannot be trusted",
    );
}

#[test]
fn redirects_are_followed_and_the_token_stays_at_home() {
    let store = Mirror::new(|_| {
        Reply::new(200)
            .with("ETag", "\"of-the-store\"")
            .body(WEIGHTS)
    });
    let target = store.url.clone();
    let mirror = Mirror::hub(FILES, move |request, reply| match is_weights(request) {
        true => Reply::new(302)
            .with("Location", format!("{target}/signed?x=1"))
            .with("X-Linked-ETag", format!("\"{}\"", sha256(WEIGHTS)))
            .with("X-Linked-Size", WEIGHTS.len()),
        false => reply,
    });
    let cache = folder();
    let with_token = Settings {
        token: Some("secret".into()),
        ..settings(&cache, &mirror.url)
    };
    let pulled = pull_with(&with_token, "o/n:model.safetensors").unwrap();
    assert_eq!(fs::read(&pulled[0].path).unwrap(), WEIGHTS);
    assert!(
        mirror
            .requests()
            .iter()
            .all(|request| request.headers["authorization"] == "Bearer secret")
    );
    let sent = store.requests();
    assert!(
        !sent.is_empty()
            && sent
                .iter()
                .all(|request| !request.headers.contains_key("authorization"))
    );
}

#[test]
fn a_way_back_home_does_not_get_the_token_again() {
    let mirror = Mirror::hub(FILES, |_, reply| reply);
    let home = mirror.url.clone();
    let store = Mirror::new(move |request| {
        Reply::new(307).with("Location", format!("{home}{}", request.path))
    });
    let away = store.url.clone();
    let cache = folder();
    let front = Mirror::hub(FILES, move |request, reply| match is_weights(request) {
        true => Reply::new(302).with("Location", format!("{away}{}", request.path)),
        false => reply,
    });
    let with_token = Settings {
        token: Some("secret".into()),
        ..settings(&cache, &front.url)
    };
    pull_with(&with_token, "o/n:model.safetensors").unwrap();
    for server in [&mirror, &store] {
        assert!(
            server
                .requests()
                .iter()
                .all(|request| !request.headers.contains_key("authorization"))
        );
    }
}

#[test]
fn redirects_without_end_or_to_odd_places_are_refused() {
    let check = |place: &'static str, expected: &str| {
        let mirror = Mirror::hub(FILES, move |request, reply| match is_weights(request) {
            true => Reply::new(302).with("Location", place.replace("SELF", &request.path)),
            false => reply,
        });
        let cache = folder();
        let error = pull(&cache, &mirror, "o/n:model.safetensors").unwrap_err();
        check_line(&error, expected);
        assert!(mirror.requests().len() < 20);
        check_nothing_appeared(&cache);
    };
    check("SELF", "more than 10 redirects");
    check("file:///etc/passwd", "a redirect to `file:///etc/passwd`");
    check("http://user:word@127.0.0.1/", "a user's name in it");
    check("http://", "redirect to");
}

#[test]
fn what_is_not_there_or_not_allowed_is_said_plainly() {
    let (cache, mirror) = (folder(), Mirror::hub(FILES, |_, reply| reply));
    let error = pull(&cache, &mirror, "o/other").unwrap_err();
    assert!(matches!(error, HubError::NotFound { .. }), "{error}");
    let error = pull(&cache, &mirror, "o/n:absent.pt").unwrap_err();
    assert!(matches!(error, HubError::NotFound { .. }), "{error}");
    for status in [401, 403] {
        let closed = Mirror::new(move |_| Reply::new(status));
        let error = pull(&cache, &closed, "o/n").unwrap_err();
        assert!(matches!(error, HubError::Refused { .. }), "{error}");
        check_line(&error, &format!("access refused ({status})"));
    }
    let broken = Mirror::new(|_| Reply::new(500));
    check_line(
        &pull(&cache, &broken, "o/n").unwrap_err(),
        "the server answers 500",
    );
    let nobody = pull_with(&settings(&cache, "http://127.0.0.1:9"), "o/n").unwrap_err();
    assert!(matches!(nobody, HubError::Network { .. }), "{nobody}");
    for endpoint in ["", "ftp://x", "no address", "http://u:p@host"] {
        assert!(
            matches!(
                Hub::new(&settings(&cache, endpoint)),
                Err(HubError::Name { .. })
            ),
            "{endpoint}"
        );
    }
    let empty = Mirror::hub(&[("README.md", b"x")], |_, reply| reply);
    check_line(&pull(&cache, &empty, "o/n").unwrap_err(), "no weights");
    check_nothing_appeared(&cache);
}

#[test]
fn without_the_network_the_cache_answers() {
    let (cache, mirror) = (folder(), Mirror::hub(FILES, |_, reply| reply));
    let offline = Settings {
        offline: true,
        ..settings(&cache, &mirror.url)
    };
    let error = pull_with(&offline, "o/n").unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    assert!(mirror.requests().is_empty());
    pull(&cache, &mirror, "o/n").unwrap();
    let asked = mirror.requests().len();
    let pulled = pull_with(&offline, "o/n").unwrap();
    assert!(pulled.len() == 2 && pulled.iter().all(|file| file.cached));
    assert!(matches!(
        pull_with(&offline, "o/n:absent.pt"),
        Err(HubError::Offline { .. })
    ));
    assert_eq!(mirror.requests().len(), asked);
}

#[test]
fn what_was_pulled_is_listed_verified_and_removed() {
    let files: &[(&str, &[u8])] = &[("a.pt", b"same"), ("b.pt", b"same"), ("c.pt", b"other")];
    let (folder, mirror) = (folder(), Mirror::hub(files, |_, reply| reply));
    pull(&folder, &mirror, "o/n").unwrap();
    let cache = Cache::new(folder.path());
    let repo = "o/n".parse().unwrap();
    let listed = cache.repo(&repo).unwrap();
    assert_eq!((listed.files.len(), listed.bytes), (3, 9));
    assert!(
        cache
            .verify(&repo)
            .unwrap()
            .iter()
            .all(|file| file.state == State::Whole)
    );
    fs::write(
        folder
            .path()
            .join("models--o--n/blobs")
            .join(sha256(b"other")),
        b"OTHER",
    )
    .unwrap();
    let damaged: Vec<String> = cache
        .verify(&repo)
        .unwrap()
        .into_iter()
        .filter(|file| matches!(file.state, State::Damaged { .. }))
        .map(|file| file.file.file)
        .collect();
    assert_eq!(damaged, ["c.pt"]);
    let target = |text: &str| text.parse::<Target>().unwrap();
    assert_eq!(cache.remove(&target("o/n:a.pt")).unwrap(), 0);
    assert_eq!(
        fs::read(cache.find(&target("o/n:b.pt")).unwrap()).unwrap(),
        b"same"
    );
    assert_eq!(cache.remove(&target("o/n:b.pt")).unwrap(), 4);
    assert!(matches!(
        cache.remove(&target("o/n:b.pt")),
        Err(HubError::Absent { .. })
    ));
    cache.remove(&target("o/n")).unwrap();
    assert!(matches!(cache.repo(&repo), Err(HubError::Absent { .. })));
    assert!(cache.list().unwrap().is_empty());
}

#[test]
fn a_mirror_that_names_files_otherwise_is_told_apart() {
    let mirror = Mirror::hub(FILES, |_, reply| {
        if reply.headers.is_empty() {
            reply
        } else {
            reply.with("ETag", "W/\"v1-abc\"")
        }
    });
    let cache = folder();
    let pulled = pull(&cache, &mirror, "o/n:config.json").unwrap();
    assert!(!pulled[0].checked);
    let checked = Cache::new(cache.path())
        .verify(&"o/n".parse().unwrap())
        .unwrap();
    assert_eq!(checked[0].state, State::Unchecked);
}
