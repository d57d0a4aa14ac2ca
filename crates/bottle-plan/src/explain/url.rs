//! A URL as a client asks a door for it.

use bottle_policy::route::Scheme;
use bottle_types::address::without_userinfo;

/// A text that no client could ask a door for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("`{0}` is no URL that a door takes: it begins with https://, http://, wss:// or ws://")]
    Scheme(String),
    /// Something before the host that no proxy passes on.
    #[error("`{0}` was given with a user name or a password before its host, which no door passes on")]
    UserInfo(String),
    /// A port that is none.
    #[error("`{0}` has no valid port")]
    Port(String),
    /// Nothing between the slashes and the path.
    #[error("`{0}` names no host")]
    NoHost(String),
}

/// The parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UrlParts {
    pub(super) scheme: Scheme,
    pub(super) websocket: bool,
    /// As written; perhaps no host's name.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) query: String,
}

impl UrlParts {
    /// Takes a URL apart; what stands behind `#` never leaves a client.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let shown = || without_userinfo(text);
        let schemes = [
            ("https://", Scheme::Https, false),
            ("http://", Scheme::Http, false),
            ("wss://", Scheme::Https, true),
            ("ws://", Scheme::Http, true),
        ];
        let lower = text.to_ascii_lowercase();
        let found = schemes.into_iter().find(|(prefix, ..)| lower.starts_with(prefix));
        let (prefix, scheme, websocket) = found.ok_or_else(|| UrlError::Scheme(shown()))?;
        let rest = &text[prefix.len()..];
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::UserInfo(shown()));
        }
        let bracket = authority.rfind(']').unwrap_or(0);
        let (host, port) = match authority[bracket..].rsplit_once(':') {
            Some((_, port)) => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let number = port.parse().ok().filter(|_| digits).ok_or_else(|| UrlError::Port(shown()))?;
                (&authority[..authority.len() - port.len() - 1], number)
            }
            None => (authority, scheme.port()),
        };
        if host.is_empty() {
            return Err(UrlError::NoHost(shown()));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { scheme, websocket, host: host.to_owned(), port, path: path.to_owned(), query: query.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_as_clients_do() {
        let parts = |text: &str| {
            let url = UrlParts::parse(text).expect(text);
            (url.host, url.port, url.path, url.query, url.websocket)
        };
        let own = |host: &str, port, path: &str, query: &str, websocket| {
            (host.to_owned(), port, path.to_owned(), query.to_owned(), websocket)
        };
        assert_eq!(parts("https://a.example"), own("a.example", 443, "/", "", false));
        assert_eq!(parts("HTTP://a.example:8080/x?y=1#z"), own("a.example", 8080, "/x", "y=1", false));
        assert_eq!(parts("wss://a.example?y"), own("a.example", 443, "/", "y", true));
        assert_eq!(parts("https://[::1]:9/"), own("[::1]", 9, "/", "", false));
        for (text, error) in [
            ("a.example", UrlError::Scheme("a.example".to_owned())),
            ("file:///etc/passwd", UrlError::Scheme("file:///etc/passwd".to_owned())),
            ("https:///x", UrlError::NoHost("https:///x".to_owned())),
            ("https://a.example:x/", UrlError::Port("https://a.example:x/".to_owned())),
            ("https://a.example:+1/", UrlError::Port("https://a.example:+1/".to_owned())),
        ] {
            assert_eq!(UrlParts::parse(text), Err(error));
        }
        let error = UrlParts::parse("https://user:pass-word@a.example/").expect_err("user information");
        assert!(matches!(error, UrlError::UserInfo(_)) && !error.to_string().contains("pass-word"), "{error}");
    }
}
