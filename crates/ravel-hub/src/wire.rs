//! Requests to a hub: redirects followed one by one, and the token kept to the hub's own host.

use std::io::Read;
use std::time::Duration;

use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use crate::{HubError, Settings, one_line};

/// Redirects that are followed; hubs need two.
const MAX_REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(20);
/// Longest silence of a server.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of a description that are read.
const MAX_TEXT: u64 = 64 << 20;

/// A connection to one hub.
pub(crate) struct Wire {
    agent: Agent,
    endpoint: Uri,
    token: Option<String>,
}

/// What the hub says about a file before sending it.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Method {
    Get(Option<u64>),
    Head,
}

impl Wire {
    pub(crate) fn new(settings: &Settings) -> Result<Self, HubError> {
        let agent = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("ravel/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let endpoint = checked(&settings.endpoint, None).map_err(|reason| HubError::Name {
            name: one_line(&settings.endpoint),
            reason: format!("the hub's address (HF_ENDPOINT) cannot be used: {reason}"),
        })?;
        Ok(Self {
            agent,
            endpoint,
            token: settings.token.clone(),
        })
    }

    /// A text below the hub's address.
    pub(crate) fn text(&self, path: &str) -> Result<String, HubError> {
        let url = self.url(path);
        let answer = self.follow(&url, Method::Get(None), |_| false)?;
        let mut text = String::new();
        let mut body = answer.into_body().into_reader().take(MAX_TEXT);
        body.read_to_string(&mut text)
            .map_err(|error| broken(&url, &error))?;
        Ok(text)
    }

    /// What the hub says about a file. Its own words count, not those of the store that it may send us to.
    pub(crate) fn facts(&self, path: &str) -> Result<Facts, HubError> {
        let mut facts = Facts::default();
        let last = self.follow(&self.url(path), Method::Head, |answer| {
            let linked = header(answer, "x-linked-etag");
            facts.size = header(answer, "x-linked-size").and_then(|size| size.parse().ok());
            facts.etag = linked.map(String::from);
            facts.etag.is_some()
        })?;
        if facts.etag.is_none() {
            facts.etag = header(&last, "etag").map(String::from);
        }
        if facts.size.is_none() && last.status().is_success() {
            facts.size = header(&last, "content-length").and_then(|size| size.parse().ok());
        }
        Ok(facts)
    }

    /// A file from an offset on.
    pub(crate) fn file(&self, path: &str, from: u64) -> Result<Response<Body>, HubError> {
        self.follow(&self.url(path), Method::Get(Some(from)), |_| false)
    }

    /// The address of something on this hub.
    pub(crate) fn url(&self, path: &str) -> String {
        let base = self.endpoint.to_string();
        format!("{}/{path}", base.trim_end_matches('/'))
    }

    /// Follows redirects until an answer is none, or `enough` is satisfied with one.
    fn follow(
        &self,
        url: &str,
        method: Method,
        mut enough: impl FnMut(&Response<Body>) -> bool,
    ) -> Result<Response<Body>, HubError> {
        let wrong = |reason: String| HubError::Answer {
            url: one_line(url),
            reason,
        };
        let mut at = checked(url, None).map_err(wrong)?;
        let mut at_home = true;
        for _ in 0..=MAX_REDIRECTS {
            at_home &= same_origin(&at, &self.endpoint);
            let answer = self.ask(&at, method, at_home)?;
            if !answer.status().is_redirection() || answer.status() == 304 {
                return success(url, answer);
            }
            if enough(&answer) {
                return Ok(answer);
            }
            let place = header(&answer, "location");
            let place = place.ok_or_else(|| wrong("a redirect to nowhere".into()))?;
            at = checked(place, Some(&at)).map_err(|reason| {
                wrong(format!("a redirect to `{}`: {reason}", one_line(place)))
            })?;
        }
        Err(wrong(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn ask(&self, at: &Uri, method: Method, at_home: bool) -> Result<Response<Body>, HubError> {
        let mut request = match method {
            Method::Get(_) => self.agent.get(at),
            Method::Head => self.agent.head(at),
        };
        request = request.header("accept-encoding", "identity");
        if let (true, Some(token)) = (at_home, &self.token) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Method::Get(Some(from @ 1..)) = method {
            request = request.header("range", format!("bytes={from}-"));
        }
        request.call().map_err(|error| HubError::Network {
            url: one_line(&origin(at)),
            reason: one_line(&error.to_string()),
        })
    }
}

/// The answer, if it is a good one.
fn success(url: &str, answer: Response<Body>) -> Result<Response<Body>, HubError> {
    let url = one_line(url);
    match answer.status().as_u16() {
        200..=299 | 416 => Ok(answer),
        404 => Err(HubError::NotFound { url }),
        status @ (401 | 403) => Err(HubError::Refused { url, status }),
        status => Err(HubError::Network {
            url,
            reason: format!("the server answers {status}"),
        }),
    }
}

pub(crate) fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// A connection that breaks off while a body is read.
pub(crate) fn broken(url: &str, error: &std::io::Error) -> HubError {
    HubError::Network {
        url: one_line(url),
        reason: format!("the connection broke off: {}", one_line(&error.to_string())),
    }
}

/// An address that may be asked; seen from `base` if it is a part of one.
fn checked(text: &str, base: Option<&Uri>) -> Result<Uri, String> {
    let whole = match base {
        Some(base) if text.starts_with("//") => {
            format!("{}:{text}", base.scheme_str().unwrap_or_default())
        }
        Some(base) if text.starts_with('/') => format!("{}{text}", origin(base)),
        Some(base) if !text.contains("://") => {
            let folder = base
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            format!("{}{folder}/{text}", origin(base))
        }
        _ => text.to_string(),
    };
    let uri: Uri = whole.parse().map_err(|_| "no address".to_string())?;
    let authority = uri.authority().ok_or("no host")?;
    if authority.as_str().contains('@') {
        return Err("a user's name in it".into());
    }
    match (uri.scheme_str(), base.and_then(Uri::scheme_str)) {
        (Some("http"), Some("https")) => Err("from a secure connection to an open one".into()),
        (Some("http" | "https"), _) => Ok(uri),
        _ => Err("neither http nor https".into()),
    }
}

fn origin(uri: &Uri) -> String {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{host}", uri.scheme_str().unwrap_or_default())
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| {
        uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            _ => Some(80),
        })
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// A path with everything escaped that is no plain letter.
pub(crate) fn escaped(path: &str) -> String {
    let letter = |byte: u8| match byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_read_from_where_they_stand() {
        let base: Uri = "https://hub:8443/a/b?x".parse().unwrap();
        let check = |place: &str, expected: &str| {
            assert_eq!(checked(place, Some(&base)).unwrap().to_string(), expected)
        };
        check("/c", "https://hub:8443/c");
        check("c?y=1", "https://hub:8443/a/c?y=1");
        check("//store/c", "https://store/c");
        check("https://store/c", "https://store/c");
        for place in [
            "http://hub/c",
            "file:///etc/passwd",
            "ftp://x/y",
            "https://u:p@hub/c",
            "https://",
        ] {
            assert!(checked(place, Some(&base)).is_err(), "{place}");
        }
    }

    #[test]
    fn only_the_hub_itself_is_home() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://hub/a", "https://HUB:443/b"));
        assert!(!same("https://hub/", "http://hub/"));
        assert!(!same("https://hub/", "https://hub:444/"));
        assert!(!same("https://hub/", "https://hub.evil/"));
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escaped("a b/ü%.pt"), "a%20b/%C3%BC%25.pt");
    }
}
