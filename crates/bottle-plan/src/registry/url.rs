//! A registry's address.

use bottle_policy::route::Scheme;
use bottle_types::address::{has_password, without_userinfo};
use bottle_types::host::HostName;
use bottle_types::path::NormalPath;

/// An address over http or https whose path can be a route's, without user name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryUrl {
    /// In the clear or over TLS.
    pub scheme: Scheme,
    /// The host.
    pub host: HostName,
    /// The port, where it is not the scheme's own.
    pub port: Option<u16>,
    /// The path, with its slash at the end if it had one.
    pub path: String,
    /// Whether the text had a user name or a password, which are not kept.
    pub had_userinfo: bool,
}

impl RegistryUrl {
    /// Reads an address; an error says what is wrong with it, without what could be secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let clean = without_userinfo(text);
        let bare = clean.trim();
        let (scheme, rest) = match bare.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((scheme, _)) => return Err(format!("{scheme} can't be reached from a bottle, only http and https")),
            None => return Err("it is no http or https address".to_owned()),
        };
        if rest.contains(['?', '#']) {
            return Err("its address has a query or a fragment".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !name.contains(']') || name.ends_with(']') => {
                (name, Some(port.parse::<u16>().map_err(|_| "its address has no valid port".to_owned())?))
            }
            _ => (authority, None),
        };
        let host = HostName::parse(name).map_err(|error| error.to_string())?;
        let own = match scheme {
            Scheme::Https => 443,
            Scheme::Http => 80,
        };
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~+@:,=".contains(&b))
            || (!path.is_empty() && NormalPath::parse(path).is_err())
        {
            return Err(format!("the path of its address at {host} can't be a route's"));
        }
        let url = Self {
            scheme,
            host,
            port: port.filter(|port| *port != own),
            path: path.to_owned(),
            had_userinfo: has_password(text),
        };
        if crate::tokens::looks_like_secret(&url.to_string()) {
            return Err(format!("the path of its address at {} has what looks like a secret in it", url.host));
        }
        Ok(url)
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_string(),
        }
    }

    /// The directory that an index is in, where its own is the last part of the path and there is more before it.
    pub(crate) fn parent_of(&self, last: &str) -> Self {
        let parent = self.path.trim_end_matches('/').strip_suffix(last).unwrap_or_default();
        let path = if parent.len() > 1 { parent.to_owned() } else { self.path.clone() };
        Self { path, ..self.clone() }
    }

    /// Whether the other address is this one, or below it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let prefix = format!("{}/", self.path.trim_end_matches('/'));
        let same = self.scheme == other.scheme && self.host == other.host && self.port == other.port;
        same && format!("{}/", other.path.trim_end_matches('/')).starts_with(&prefix)
    }
}

impl std::fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_without_what_is_secret() {
        for (text, expected) in [
            ("https://npm.example.org", Ok("https://npm.example.org")),
            ("https://npm.example.org:443/a/b/", Ok("https://npm.example.org/a/b/")),
            ("HTTP://Mirror.example.org:8080/x", Ok("http://mirror.example.org:8080/x")),
            ("https://me:pass%40word@npm.example.org/npm", Ok("https://npm.example.org/npm")),
            ("https://me:p@ss@npm.example.org/npm", Ok("https://npm.example.org/npm")),
            ("https://10.0.0.5/npm", Err("`10.0.0.5` is an address; a host name is needed")),
            ("https://[::1]:8080/npm", Err("`[::1]` is not a host name")),
            ("https://npm.example.org/a?token=x", Err("its address has a query or a fragment")),
            ("https://npm.example.org/a/../b", Err("the path of its address at npm.example.org can't be a route's")),
            ("https://npm.example.org/{a,b}", Err("the path of its address at npm.example.org can't be a route's")),
            ("https://npm.example.org:x/", Err("its address has no valid port")),
            ("file:///srv/packages", Err("file can't be reached from a bottle, only http and https")),
            ("/srv/packages", Err("it is no http or https address")),
        ] {
            let read = RegistryUrl::parse(text).map(|url| url.to_string());
            assert_eq!(read.as_deref(), expected.map_err(str::to_owned).as_ref().copied(), "{text}");
        }
        let token = format!("gh{}_aB3dE6gH9jK2mN5pQ8sT1vW4xY7zC0fLrUiO", 'p');
        let error = RegistryUrl::parse(&format!("https://npm.example.org/{token}/npm")).expect_err("a token");
        assert_eq!(error, "the path of its address at npm.example.org has what looks like a secret in it");
        assert_eq!(
            without_userinfo("failed: https://a:b@c.example/x and 'http://d@e.example' (https://f.example/g@h)"),
            "failed: https://c.example/x and 'http://e.example' (https://f.example/g@h)"
        );
    }
}
