//! `ravel models`: published checkpoints, by name or by repository.

use std::ops::ControlFlow;

use indicatif::HumanBytes;
use ravel_hub::{
    Cache, CachedRepo, Checked, Entry, Hub, HubError, Plan, Progress, Pulled, Settings, State,
    Target,
};
use ravel_hub::{catalogue, entry, nearest};
use serde_json::{Value, json};

use crate::arguments::ModelsCommand;
use crate::failure::Failure;
use crate::interrupt;
use crate::progress::{bytes_bar, note, say};

/// Runs `ravel models`.
pub fn run(command: &ModelsCommand) -> Result<(), Failure> {
    let mut settings = Settings::from_env();
    match command {
        ModelsCommand::List { cached, json } => list(&Cache::new(settings.cache), *cached, *json),
        ModelsCommand::Show { model, json } => show(&Cache::new(settings.cache), model, *json),
        ModelsCommand::Pull {
            models,
            offline,
            json,
            quiet,
        } => {
            settings.offline |= offline;
            models
                .iter()
                .try_for_each(|model| pull(&settings, model, *json, *quiet))
        }
        ModelsCommand::Verify { models, json } => {
            verify(&Cache::new(settings.cache), models, *json)
        }
        ModelsCommand::Rm { models, json } => {
            let cache = Cache::new(settings.cache);
            models
                .iter()
                .try_for_each(|model| remove(&cache, model, *json))
        }
    }
}

/// What a model's name or a repository means, and the entry of the catalogue if there is one.
fn targets(model: &str) -> Result<(Option<&'static Entry>, Vec<Target>), Failure> {
    if let Some(entry) = entry(model) {
        return Ok((Some(entry), entry.targets()?));
    }
    if !model.contains('/') {
        let hint = match nearest(model)[..] {
            [] => "`ravel models list` names those that are known; any other is `owner/repository`"
                .to_string(),
            ref near => format!(
                "near names: {}; any repository is `owner/repository[:file]`",
                near.join(", ")
            ),
        };
        return Err(Failure::input_with(format!("no model `{model}`"), hint));
    }
    Ok((None, vec![model.parse()?]))
}

/// As [`targets`], for something that must be on the hub.
fn on_hub(model: &str) -> Result<(Option<&'static Entry>, Vec<Target>), Failure> {
    let (entry, targets) = targets(model)?;
    match entry.and_then(|entry| entry.page.as_deref()) {
        Some(page) => Err(Failure::input_with(
            format!("`{model}` is not published on the hub"),
            format!("its files are at {page}; name the downloaded file in a definition"),
        )),
        None => Ok((entry, targets)),
    }
}

/// What of a model is in the cache.
fn in_cache(cache: &Cache, targets: &[Target]) -> bool {
    let there = |target: &Target| match &target.file {
        Some(_) => cache.find(target).is_ok(),
        None => cache
            .repo(&target.repo)
            .is_ok_and(|repo| !repo.files.is_empty()),
    };
    !targets.is_empty() && targets.iter().all(there)
}

fn list(cache: &Cache, only_cached: bool, json: bool) -> Result<(), Failure> {
    for entry in catalogue() {
        let cached = in_cache(cache, &entry.targets()?);
        if only_cached && !cached {
            continue;
        }
        say(&match json {
            true => described(entry, cached).to_string(),
            false => format!(
                "{:22} {:6} {:9} {}  ({})",
                entry.name,
                entry.parameters,
                if cached { "cached" } else { "" },
                entry
                    .repo
                    .as_deref()
                    .or(entry.page.as_deref())
                    .unwrap_or_default(),
                entry.licence
            ),
        });
    }
    let named = |repo: &CachedRepo| {
        catalogue()
            .iter()
            .any(|entry| entry.repo.as_deref() == Some(&*repo.repo))
    };
    for repo in cache
        .list()?
        .iter()
        .filter(|repo| !named(repo) && repo.bytes + repo.incomplete_bytes > 0)
    {
        say(&match json {
            true => json!({ "repo": repo.repo, "cached": true, "bytes": repo.bytes }).to_string(),
            false => format!(
                "{:22} {:6} {:9} {}",
                "",
                HumanBytes(repo.bytes).to_string(),
                "cached",
                repo.repo
            ),
        });
    }
    Ok(())
}

fn described(entry: &Entry, cached: bool) -> Value {
    let mut value = json!(entry);
    value["cached"] = cached.into();
    value
}

fn show(cache: &Cache, model: &str, json: bool) -> Result<(), Failure> {
    let (entry, targets) = targets(model)?;
    let mut repos: Vec<CachedRepo> = targets
        .iter()
        .filter_map(|target| cache.repo(&target.repo).ok())
        .collect();
    repos.dedup_by(|a, b| a.repo == b.repo);
    if json {
        let entry = entry.map(|entry| described(entry, in_cache(cache, &targets)));
        say(&json!({ "model": entry, "cache": repos }).to_string());
        return Ok(());
    }
    if let Some(entry) = entry {
        say(&format!(
            "{} ({}, {})",
            entry.name, entry.family, entry.parameters
        ));
        say(&format!("licence: {}", entry.licence));
        match &entry.page {
            Some(page) => say(&format!("published at {page}")),
            None => targets
                .iter()
                .for_each(|target| say(&format!("needs {target}"))),
        }
    }
    if repos.is_empty() {
        say(&format!(
            "nothing of it is in the cache ({})",
            cache.root().display()
        ));
    }
    for repo in &repos {
        say(&format!(
            "{} in the cache: {}",
            repo.repo,
            HumanBytes(repo.bytes)
        ));
        for file in &repo.files {
            say(&format!(
                "  {:10} {}  {}",
                HumanBytes(file.bytes).to_string(),
                file.file,
                file.path.display()
            ));
        }
        if repo.incomplete_bytes > 0 {
            say(&format!(
                "  {} of downloads that broke off; pulling goes on with them",
                HumanBytes(repo.incomplete_bytes)
            ));
        }
    }
    Ok(())
}

fn pull(settings: &Settings, model: &str, json: bool, quiet: bool) -> Result<(), Failure> {
    let (_, targets) = on_hub(model)?;
    let hub = Hub::new(settings)?;
    for target in &targets {
        let plan = hub.plan(target)?;
        let licence = plan.licence.clone().or_else(|| stated(target));
        let licence = licence.unwrap_or_else(|| "not stated; see the repository".into());
        if !json && !quiet {
            note(&format!("{target}: licence {licence}"));
        }
        for file in &plan.files {
            let pulled = with_bar(&hub, &plan, file, json || quiet)?;
            report(target, &plan, &pulled, &licence, json, quiet);
        }
    }
    Ok(())
}

/// The licence that the catalogue knows for a repository.
fn stated(target: &Target) -> Option<String> {
    let repo = target.repo.to_string();
    let mut known = catalogue().iter();
    let entry = known.find(|entry| entry.repo.as_deref() == Some(&*repo));
    entry.map(|entry| entry.licence.clone())
}

fn with_bar(
    hub: &Hub,
    plan: &Plan,
    file: &ravel_hub::FileName,
    quiet: bool,
) -> Result<Pulled, Failure> {
    let bar = bytes_bar(quiet);
    bar.set_message(file.to_string());
    let mut watch = |progress: &Progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let pulled = hub.pull(plan, file, &mut watch);
    bar.finish_and_clear();
    Ok(pulled?)
}

fn report(target: &Target, plan: &Plan, pulled: &Pulled, licence: &str, json: bool, quiet: bool) {
    if json {
        let mut value = json!(pulled);
        value["repo"] = target.repo.to_string().into();
        value["commit"] = plan.commit.as_str().into();
        value["licence"] = licence.into();
        say(&value.to_string());
    } else if !quiet {
        let how = match (pulled.cached, pulled.checked) {
            (true, _) => "was there",
            (false, true) => "pulled, its sum is right",
            (false, false) => "pulled; the server gave no sum to check",
        };
        say(&format!(
            "{} ({}, {how})",
            pulled.path.display(),
            HumanBytes(pulled.bytes)
        ));
    }
}

fn verify(cache: &Cache, models: &[String], json: bool) -> Result<(), Failure> {
    let mut repos = Vec::new();
    for model in models {
        repos.extend(on_hub(model)?.1.into_iter().map(|target| target.repo));
    }
    if models.is_empty() {
        repos.extend(
            cache
                .list()?
                .iter()
                .map(|repo| repo.repo.parse())
                .collect::<Result<Vec<_>, _>>()?,
        );
    }
    repos.dedup();
    let mut bad = 0;
    for repo in &repos {
        for checked in cache.verify(repo)? {
            bad += usize::from(matches!(
                checked.state,
                State::Damaged { .. } | State::Unreadable { .. }
            ));
            say(&verified(&repo.to_string(), &checked, json));
        }
    }
    match bad {
        0 => Ok(()),
        bad => Err(Failure::runtime(format!(
            "{bad} damaged; `ravel models rm` and `pull` fetch anew"
        ))),
    }
}

fn verified(repo: &str, checked: &Checked, json: bool) -> String {
    if json {
        let mut value = json!(checked.state);
        value["repo"] = repo.into();
        value["file"] = checked.file.file.as_str().into();
        return value.to_string();
    }
    let state = match &checked.state {
        State::Whole => "whole".into(),
        State::Unchecked => "unchecked: its server gave no sum".into(),
        State::Damaged { found, expected } => {
            format!("damaged: its sum is {found}, {expected} is expected")
        }
        State::Unreadable { reason } => format!("unreadable: {reason}"),
    };
    format!("{repo}:{} {state}", checked.file.file)
}

fn remove(cache: &Cache, model: &str, json: bool) -> Result<(), Failure> {
    for target in on_hub(model)?.1 {
        let bytes = cache.remove(&target)?;
        say(&match json {
            true => json!({ "removed": target.to_string(), "bytes": bytes }).to_string(),
            false => format!("{target} removed, {} free", HumanBytes(bytes)),
        });
    }
    Ok(())
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Interrupted => Self::Interrupted,
            HubError::Refused { .. } => Self::input_with(
                error,
                "private and gated repositories need `HF_TOKEN`, and their terms accepted on the repository's page; a name with a typing error looks the same",
            ),
            HubError::NotFound { .. } => Self::input_with(
                error,
                "look for the name on the hub, or `ravel models list`",
            ),
            HubError::Offline { .. } => Self::input_with(
                error,
                "leave out `--offline` and `HF_HUB_OFFLINE` to fetch it",
            ),
            HubError::Absent { ref what, .. } => {
                let hint = format!("`ravel models pull {what}` fetches it");
                Self::input_with(error, hint)
            }
            HubError::Name { .. } => Self::input(error),
            error => Self::runtime(error),
        }
    }
}
