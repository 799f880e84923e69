//! What the environment says, in the hub's own variables.

use std::path::{Path, PathBuf};

/// The hub that is asked if nobody names another.
const ENDPOINT: &str = "https://huggingface.co";

/// Where the cache is, which hub is asked, and as whom.
#[derive(Clone)]
pub struct Settings {
    /// The cache's folder.
    pub cache: PathBuf,
    /// The hub, without a slash at its end.
    pub endpoint: String,
    /// Whether the network may not be used.
    pub offline: bool,
    /// Who asks. It is sent to the endpoint's own host and to no other.
    pub token: Option<String>,
}

impl Settings {
    /// As the process's environment says: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN` (and the token file
    /// that `hf auth login` leaves).
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`Settings::from_env`], with variables from elsewhere.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let home = set("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
            let user = set("HOME")
                .or_else(|| set("USERPROFILE"))
                .map_or_else(PathBuf::new, PathBuf::from);
            cache
                .unwrap_or_else(|| user.join(".cache"))
                .join("huggingface")
        });
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE"));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let yes = |value: String| {
            matches!(
                value.to_ascii_lowercase().as_str(),
                "1" | "true" | "yes" | "on"
            )
        };
        Self {
            cache: cache.map_or_else(|| home.join("hub"), PathBuf::from),
            endpoint: endpoint.trim().trim_end_matches('/').into(),
            offline: set("HF_HUB_OFFLINE").is_some_and(yes),
            token: set("HF_TOKEN")
                .or_else(|| token_file(&home))
                .map(|token| token.trim().into()),
        }
    }
}

fn token_file(home: &Path) -> Option<String> {
    let token = std::fs::read_to_string(home.join("token")).ok()?;
    Some(token).filter(|token| !token.trim().is_empty())
}

impl std::fmt::Debug for Settings {
    /// Without the token.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cache,
            endpoint,
            offline,
            token,
        } = self;
        write!(
            formatter,
            "Settings {{ cache: {cache:?}, endpoint: {endpoint:?}, offline: {offline}, token: {} }}",
            token.is_some()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn variables_mean_what_they_mean_to_the_hub() {
        let plain = settings(&[("HOME", "/home/u")]);
        assert_eq!(plain.cache, Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!(plain.endpoint, ENDPOINT);
        assert!(!plain.offline && plain.token.is_none());
        assert_eq!(settings(&[("HF_HOME", "/h")]).cache, Path::new("/h/hub"));
        assert_eq!(
            settings(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]).cache,
            Path::new("/c")
        );
        assert_eq!(
            settings(&[("XDG_CACHE_HOME", "/x")]).cache,
            Path::new("/x/huggingface/hub")
        );
        assert_eq!(
            settings(&[("HF_ENDPOINT", "http://mirror/ ")]).endpoint,
            "http://mirror"
        );
        assert!(settings(&[("HF_HUB_OFFLINE", "1")]).offline);
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
        let named = settings(&[("HF_TOKEN", "secret\n")]);
        assert_eq!(named.token.as_deref(), Some("secret"));
        assert!(!format!("{named:?}").contains("secret"));
    }

    #[test]
    fn a_login_is_found() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_abc\n").unwrap();
        let found = settings(&[("HF_HOME", home.path().to_str().unwrap())]);
        assert_eq!(found.token.as_deref(), Some("hf_abc"));
    }
}
