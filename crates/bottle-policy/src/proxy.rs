//! The company's proxy between the doors and the internet: its address, who the doors are there, and what goes past it.

use std::fmt;
use std::net::IpAddr;

use bottle_types::address::{has_password, without_userinfo};
use bottle_types::host::HostName;
use bottle_types::secret::SecretName;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gate::GitHost;

/// What is wrong with what is said about a proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not an address of a proxy; the text has no userinfo.
    #[error("`{0}` is not the address of a proxy: `http://host:port`, or the same by https")]
    Url(String),
    /// A user or a password before the host; the text is the address without.
    #[error("`{0}` has a user or a password before its host: they are `user` and `password_from`")]
    Userinfo(String),
    /// Not an HTTP proxy.
    #[error("`{0}` is no HTTP proxy; the doors speak CONNECT to http and https proxies alone")]
    Scheme(String),
    /// Programs differ in the port that they take for none.
    #[error("`{0}` has no port")]
    Port(String),
    /// Neither a host nor a network.
    #[error("`{0}` is neither a host, an address, a network nor `*`")]
    Direct(String),
    /// A user that Basic can't name.
    #[error("a user is not empty, and has no colon and no control character")]
    User,
}

/// The proxy through which all connections to the internet go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamProxy {
    /// Where it is.
    pub url: ProxyUrl,
    /// Who the doors are there (Basic, RFC 7617); none: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<ProxyLogin>,
    /// What is reached without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<DirectRule>,
    /// Whether the proxy is given names, and resolves them; else it is given addresses that were judged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remote_dns: bool,
}

/// A user and the secret with the password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyLogin {
    /// The user.
    pub user: String,
    /// The secret.
    pub password: SecretName,
}

impl UpstreamProxy {
    /// Whether a host is reached without the proxy: `no_proxy` has it, or it is this machine itself.
    pub fn is_direct(&self, host: &HostName) -> bool {
        let name = host.as_str();
        name == "localhost" || name.ends_with(".localhost") || self.no_proxy.iter().any(|rule| rule.has_name(host))
    }

    /// The same for a git server's.
    pub fn is_direct_host(&self, host: &GitHost) -> bool {
        match host {
            GitHost::Name(name) => self.is_direct(name),
            GitHost::Address(address) => self.is_direct_address(*address),
        }
    }

    /// The same for a host that is an address.
    pub fn is_direct_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.no_proxy.iter().any(|rule| rule.has_address(address))
    }
}

/// Checks a user's name, as Basic has it (RFC 7617, 2).
pub fn check_user(user: &str) -> Result<(), ProxyError> {
    let is_good = !user.is_empty() && !user.contains(':') && !user.chars().any(char::is_control);
    if is_good { Ok(()) } else { Err(ProxyError::User) }
}

/// A proxy's address; userinfo is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ProxyUrl {
    /// Whether TLS is spoken with the proxy itself.
    pub tls: bool,
    /// The host.
    pub host: GitHost,
    /// The port.
    pub port: u16,
}

impl ProxyUrl {
    /// Reads `http://host:port` or `https://host:port`, with or without a slash behind.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let shown = without_userinfo(text);
        if has_password(text) || text.contains('@') {
            return Err(ProxyError::Userinfo(shown));
        }
        let error = || ProxyError::Url(shown.clone());
        let (scheme, rest) = text.split_once("://").ok_or_else(error)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(ProxyError::Scheme(shown)),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        // The colons inside of an address in brackets are its own.
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(error)?)
            }
            Some(_) => return Err(error()),
            None if GitHost::parse(authority).is_some() => return Err(ProxyError::Port(shown)),
            None => return Err(error()),
        };
        Ok(Self { tls, host: GitHost::parse(host).ok_or_else(error)?, port })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "https" } else { "http" }, self.host, self.port)
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = ProxyError;
    fn try_from(text: String) -> Result<Self, ProxyError> {
        Self::parse(&text)
    }
}

impl From<ProxyUrl> for String {
    fn from(url: ProxyUrl) -> Self {
        url.to_string()
    }
}

/// What is reached without the proxy, as curl reads an entry of `NO_PROXY`: a host with all below it, an address, a network, or `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum DirectRule {
    /// Everything.
    All,
    /// An address, or a network: of hosts that are written as addresses.
    Network(IpNet),
    /// A host, and every host below it.
    Host(HostName),
}

impl DirectRule {
    /// Reads `host.example`, `.host.example`, `*.host.example`, `10.0.0.1`, `[::1]`, `10.0.0.0/8` or `*`.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        if text == "*" {
            return Ok(Self::All);
        }
        let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = address.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        let host = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        HostName::parse(host).map(Self::Host).map_err(|_| ProxyError::Direct(text.to_owned()))
    }

    fn has_name(&self, host: &HostName) -> bool {
        match self {
            Self::All => true,
            Self::Network(_) => false,
            Self::Host(name) => {
                let above = host.as_str().strip_suffix(name.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        }
    }

    fn has_address(&self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => network.contains(&address),
            Self::Host(_) => false,
        }
    }
}

impl fmt::Display for DirectRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "{}", network.addr())
            }
            Self::Network(network) => write!(f, "{network}"),
            Self::Host(name) => write!(f, "{name}"),
        }
    }
}

impl TryFrom<String> for DirectRule {
    type Error = ProxyError;
    fn try_from(text: String) -> Result<Self, ProxyError> {
        Self::parse(&text)
    }
}

impl From<DirectRule> for String {
    fn from(rule: DirectRule) -> Self {
        rule.to_string()
    }
}

/// Reads a value of `NO_PROXY`, whose entries are divided by commas or blanks; gives the entries that say nothing apart: their hosts
/// go through the proxy.
pub fn no_proxy(text: &str) -> (Vec<DirectRule>, Vec<String>) {
    let (mut rules, mut unread) = (vec![], vec![]);
    for entry in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()) {
        match DirectRule::parse(entry) {
            Ok(rule) => rules.push(rule),
            Err(_) => unread.push(entry.to_owned()),
        }
    }
    (rules, unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_address_is_one_or_says_what_it_lacks() {
        for (text, is) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
            ("https://[fd00::1]:443", "https://[fd00::1]:443"),
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
        ] {
            assert_eq!(ProxyUrl::parse(text).map(|url| url.to_string()).as_deref(), Ok(is), "{text}");
        }
        for (text, why) in [
            ("http://proxy.example", "has no port"),
            ("http://[fd00::1]/", "has no port"),
            ("proxy.example:3128", "is not the address of a proxy"),
            ("http://proxy.example:0", "is not the address of a proxy"),
            ("http://proxy.example:99999", "is not the address of a proxy"),
            ("http://proxy.example:+80", "is not the address of a proxy"),
            ("http://proxy.example:3128/path", "is not the address of a proxy"),
            ("http://0x7f000001:3128", "is not the address of a proxy"),
            ("socks5://proxy.example:1080", "is no HTTP proxy"),
            ("http://me:hunter2-hunter2@proxy.example:3128", "has a user or a password"),
            ("http://me@proxy.example:3128", "has a user or a password"),
        ] {
            let error = ProxyUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    fn proxy(text: &str) -> UpstreamProxy {
        let (no_proxy, unread) = no_proxy(text);
        assert_eq!(unread, Vec::<String>::new());
        let url = ProxyUrl::parse("http://proxy.example:3128").expect("a proxy");
        UpstreamProxy { url, login: None, no_proxy, remote_dns: false }
    }

    #[test]
    fn no_proxy_is_read_as_curl_reads_it() {
        let rules = proxy("corp.example, .inner.example *.star.example,10.0.0.0/8 [fd00::1]");
        for (host, direct) in [
            ("corp.example", true),
            ("git.corp.example", true),
            ("notcorp.example", false),
            ("corp.example.evil.example", false),
            ("inner.example", true),
            ("a.b.inner.example", true),
            ("x.star.example", true),
            ("other.example", false),
            ("localhost", true),
            ("a.localhost", true),
            ("notlocalhost", false),
        ] {
            assert_eq!(rules.is_direct(&HostName::parse(host).expect(host)), direct, "{host}");
        }
        for (address, direct) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("11.1.2.3", false),
            ("fd00::1", true),
            ("fd00::2", false),
            ("127.0.0.9", true),
            ("::1", true),
        ] {
            assert_eq!(rules.is_direct_address(address.parse().expect(address)), direct, "{address}");
        }
        assert!(proxy("*").is_direct(&HostName::parse("any.example").expect("a host")));
    }

    #[test]
    fn what_says_nothing_is_set_apart() {
        let (rules, unread) = no_proxy("a.example,git.example:8080,,10.0.0.0/33 b_c");
        assert_eq!(rules.len(), 1);
        assert_eq!(unread, ["git.example:8080", "10.0.0.0/33", "b_c"]);
    }
}
