//! `gate.yaml`: the git upstreams, and what a push to each may bring.
//!
//! Map: `refs` (which refs may be pushed), `paths` (which paths may not), `exemptions` (which findings are none),
//! `hold` (which pushes wait for a person), `patch` (how much a push may change), `commits` (whose commits, their
//! messages and trailers), `signing` (which commits are signed).

pub mod commits;
pub mod exemptions;
pub mod hold;
pub mod patch;
pub mod paths;
pub mod refs;
pub mod signing;
pub mod trailers;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use bottle_scan::dlp::{DataKind, TokenPattern};
use bottle_types::git::{ObjectId, RefName};
use bottle_types::host::HostName;
use bottle_types::secret::SecretName;
use bottle_types::units::ByteSize;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use bottle_types::address::{has_password, without_userinfo};

use crate::proxy::UpstreamProxy;
use commits::CommitRules;
use exemptions::FindingExemption;
use hold::{ApprovedPush, HoldRules};
use signing::SigningPolicy;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatePolicy {
    /// Format version, 1.
    pub version: u32,
    /// Scan and accept, forward nothing; what would have been pushed is kept as a bundle file.
    #[serde(default)]
    pub dry_run: bool,
    /// The mirrored repositories.
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// Token formats besides those that the program knows: a push that contains one is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<TokenPattern>,
    /// Kinds of data that are no token and are looked for all the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub detect: BTreeSet<DataKind>,
    /// Findings in files that are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<FindingExemption>,
    /// Whether the allowlists of `.gitleaks.toml` and `.gitleaksignore` in an upstream's default branch count, as they were before
    /// this run pushed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base_allowlists: bool,
    /// Held pushes that a person has let through in this run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved: Vec<ApprovedPush>,
    /// Networks at which upstream's LFS objects may be although they are private, such as `10.0.0.0/24`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub allow_private: Vec<IpNet>,
    /// Networks at which they may not be although they are public, such as a company's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub internal: Vec<IpNet>,
    /// The proxy through which upstreams are reached over https; none: they are reached directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<UpstreamProxy>,
    /// How the run's commits are signed; none: nothing is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningPolicy>,
    /// Commits from which the work starts, which upstream's branches and tags need not have: the head of a fork's pull request, or of the
    /// checkout that is brought. What is reachable from them is not this run's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<ObjectId>,
    /// Every secret that the bottle knows: a push that contains one is refused. Values are files of that name in the
    /// secrets directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretName>,
}

/// One mirrored repository, at `git://git-gate:9418/<name>.git` for the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its name at the gate.
    pub name: RepoName,
    /// Where it really is.
    pub url: UpstreamUrl,
    /// ssh: the secret that holds the private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<SecretName>,
    /// ssh: the host's public key, as `ssh-ed25519 AAAA…`; without it there is no connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_host_key: Option<HostKey>,
    /// https: the secret that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretName>,
    /// The largest Git LFS object that a fetch may bring; 0: none.
    #[serde(default = "Upstream::default_max_lfs", skip_serializing_if = "Upstream::is_default_max_lfs")]
    pub max_lfs_bytes: ByteSize,
    /// The part of its history that is fetched; none: all of it, with all of its refs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryLimit>,
    /// What may be pushed.
    #[serde(default)]
    pub push: PushRules,
}

/// The part of a repository's history that the gate fetches. The guest sees no more of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryLimit {
    /// So many generations of commits behind each of the refs, their own commits among them.
    pub commits: NonZeroU32,
    /// Full names of refs that are fetched where upstream has them, besides its default branch.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refs: BTreeSet<RefName>,
    /// Commits that are fetched by their ids, where upstream gives them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub starts: BTreeSet<ObjectId>,
}

impl GatePolicy {
    /// Every secret that a push is searched for: the bottle's, and the proxy's password.
    pub fn known_secrets(&self) -> Vec<SecretName> {
        let login = self.proxy.as_ref().and_then(|proxy| proxy.login.as_ref());
        let mut names = self.secrets.clone();
        names.extend(login.map(|login| login.password.clone()).filter(|password| !self.secrets.contains(password)));
        names
    }

    /// Whether there is a rule about the run's own commits.
    pub fn judges_commits(&self) -> bool {
        self.signing.is_some() || self.upstreams.iter().any(|upstream| !upstream.push.commits.is_none())
    }
}

impl Upstream {
    /// As large as the largest object that the forges take.
    pub fn default_max_lfs() -> ByteSize {
        ByteSize(5 << 30)
    }

    /// Whether a limit is the one where none is written.
    pub fn is_default_max_lfs(limit: &ByteSize) -> bool {
        *limit == Self::default_max_lfs()
    }
}

/// What a push may bring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushRules {
    /// Globs of full ref names that may be created or updated; none: nothing may be pushed.
    #[serde(default)]
    pub refs: Vec<String>,
    /// Globs of paths that no pushed commit may add, change, rename or delete.
    #[serde(default)]
    pub protect_paths: Vec<String>,
    /// Whether tags may be pushed: those that a glob of `refs` below `refs/tags/` names, or all where there is none.
    #[serde(default)]
    pub tags: bool,
    /// The largest single blob.
    #[serde(default = "PushRules::default_max_blob")]
    pub max_blob_bytes: ByteSize,
    /// All new objects of one push together, unpacked.
    #[serde(default = "PushRules::default_max_push")]
    pub max_push_bytes: ByteSize,
    /// So many files at most may the commits of one push change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u64>,
    /// So many lines may they add and remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lines: Option<u64>,
    /// So many files may they make that are binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_binaries: Option<u64>,
    /// What each new commit has to be like.
    #[serde(default, skip_serializing_if = "CommitRules::is_none")]
    pub commits: CommitRules,
    /// Pushes that wait for a person.
    #[serde(default, skip_serializing_if = "HoldRules::is_none")]
    pub hold: HoldRules,
    /// The one branch that may get other commits in place of those that it has; none: branches that were there only grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<BranchRewrite>,
}

/// A branch that a person has asked to be rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BranchRewrite {
    /// Its full name, such as `refs/heads/bottle/issue-7`.
    pub name: RefName,
    /// The commit that it is at. From another one it only grows, unless this run has pushed that.
    pub from: ObjectId,
    /// The one commit that it may go to, and no push does anything else with it; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ObjectId>,
}

impl PushRules {
    fn default_max_blob() -> ByteSize {
        ByteSize(128 << 20)
    }

    fn default_max_push() -> ByteSize {
        ByteSize(512 << 20)
    }
}

impl Default for PushRules {
    fn default() -> Self {
        Self {
            refs: vec![],
            protect_paths: vec![],
            tags: false,
            max_blob_bytes: Self::default_max_blob(),
            max_push_bytes: Self::default_max_push(),
            max_files: None,
            max_lines: None,
            max_new_binaries: None,
            commits: CommitRules::default(),
            hold: HoldRules::default(),
            rewrite: None,
        }
    }
}

/// How an upstream's address with a credential in it is refused.
pub const PASSWORD_IN_ADDRESS: &str = "with a user name, a password or a token before its host";

/// What is wrong with a value of the gate's policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// Not usable as a directory name of a mirror.
    #[error("`{0}` is not a repository name: letters, digits, `-`, `_` and `.`, not starting with a dot or a dash")]
    Name(String),
    /// Not one of the forms of a git upstream.
    #[error(
        "`{0}` is not a git upstream: `ssh://user@host[:port]/path`, `user@host:path`, `https://host[:port]/path`, or http"
    )]
    Url(String),
    /// An address with a password or a token before its host; the text is the address without.
    #[error("`{0}` is given {PASSWORD_IN_ADDRESS}")]
    Password(String),
    /// Not a public key line.
    #[error("`{0}` is not a host key: it is written as `ssh-ed25519 AAAA…`")]
    HostKey(String),
    /// Not an exemption.
    #[error("`exemptions`, `{key}`: {reason}")]
    Exemption {
        /// Which part of it.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a rule that could hold a push.
    #[error("`hold`, `{key}`: {reason}")]
    Hold {
        /// Which part of it.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a rule about commits.
    #[error("`commits`, `{key}`: {reason}")]
    Commits {
        /// Which part of it.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a glob.
    #[error("`{glob}` is not a glob: {reason}")]
    Glob {
        /// The text.
        glob: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A repository's name at the gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct RepoName(String);

impl RepoName {
    /// Checks a name: letters, digits, `-`, `_`, `.`; at most 100; not starting with `.` or `-`, not ending in `.git`.
    pub fn parse(text: &str) -> Result<Self, GateError> {
        let good = !text.is_empty()
            && text.len() <= 100
            && !text.starts_with(['.', '-'])
            && !text.ends_with(".git")
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if good { Ok(Self(text.to_owned())) } else { Err(GateError::Name(text.to_owned())) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

bottle_types::checked_text!(RepoName, GateError);

/// How an upstream is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Over ssh, with a pinned host key.
    Ssh,
    /// Over verified TLS.
    Https,
    /// Open to everybody on the way; the manifest's `plain_http` allows it host by host.
    Http,
}

impl Transport {
    /// The port that it has where none is written.
    fn own_port(self) -> u16 {
        match self {
            Self::Ssh => 22,
            Self::Https => 443,
            Self::Http => 80,
        }
    }

    /// The address's beginning.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// Where a git server is: by name, or by an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GitHost {
    /// A name.
    Name(HostName),
    /// An address, in its usual spelling.
    Address(IpAddr),
}

impl GitHost {
    /// Reads a name, an IPv4 address, or an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let six = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match (six, text.parse::<Ipv4Addr>()) {
            (Some(six), _) => six.parse::<Ipv6Addr>().ok().map(|six| Self::Address(six.into())),
            (None, Ok(four)) => Some(Self::Address(four.into())),
            (None, Err(_)) => HostName::parse(text).ok().map(Self::Name),
        }
    }

    /// The name, where it is one.
    pub fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl fmt::Display for GitHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Address(IpAddr::V4(four)) => write!(f, "{four}"),
            Self::Address(IpAddr::V6(six)) => write!(f, "[{six}]"),
        }
    }
}

/// The address of a git upstream, taken apart; userinfo with a password is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct UpstreamUrl {
    /// ssh, https or http.
    pub transport: Transport,
    /// ssh: the login name.
    pub user: Option<String>,
    /// The host.
    pub host: GitHost,
    /// The port where it is not the transport's own.
    pub port: Option<u16>,
    /// The path, without a leading slash, as it was written (with or without `.git`).
    pub path: String,
}

impl UpstreamUrl {
    /// Reads `ssh://[user@]host[:port]/path`, `[user@]host:path`, `https://host[:port]/path` or the same by http.
    pub fn parse(text: &str) -> Result<Self, GateError> {
        // As scp writes it there is no password; one that is there would be read as a path.
        let in_path = |(user, rest): (&str, &str)| {
            !user.contains('@')
                && !rest.starts_with('/')
                && rest.split('/').next().is_some_and(|part| part.contains('@'))
        };
        if has_password(text) {
            return Err(GateError::Password(without_userinfo(text)));
        }
        if !text.contains("://") && text.split_once(':').is_some_and(in_path) {
            let host = text.rsplit_once('@').map_or("", |(_, host)| host);
            return Err(GateError::Password(host.to_owned()));
        }
        let error = || GateError::Url(text.to_owned());
        if text.len() > 2048 || !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['?', '#', '\\']) {
            return Err(error());
        }
        let transports = [Transport::Ssh, Transport::Https, Transport::Http];
        let named = transports
            .into_iter()
            .find_map(|transport| Some((transport, text.strip_prefix(transport.scheme())?.strip_prefix("://")?)));
        let (transport, authority, path) = match named {
            Some((transport, rest)) => {
                let (authority, path) = rest.split_once('/').ok_or_else(error)?;
                (transport, authority, path)
            }
            None if text.contains("://") => return Err(error()),
            None => {
                let (authority, path) = text.split_once(':').ok_or_else(error)?;
                (Transport::Ssh, authority, path.strip_prefix('/').unwrap_or(path))
            }
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let user_is_good = user.is_none_or(|user| transport == Transport::Ssh && is_login(user));
        // The colons inside of an address in brackets are its own.
        let (host, port) = match host.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) if text.contains("://") => (host, Some(port.parse().map_err(|_| error())?)),
            Some(_) => return Err(error()),
            None => (host, None),
        };
        if !user_is_good || !is_repository_path(path) {
            return Err(error());
        }
        let host = GitHost::parse(host).ok_or_else(error)?;
        Ok(Self {
            transport,
            user: user.map(str::to_owned),
            host,
            port: port.filter(|port| *port != transport.own_port()),
            path: path.to_owned(),
        })
    }

    /// Whether a submodule's URL, as `.gitmodules` has it, leads to this repository. A relative one (`../lib.git`) starts
    /// at `parent`, the repository that has the submodule.
    pub fn is_reached_by(&self, written: &str, parent: &Self) -> bool {
        let absolute = if written.starts_with("./") || written.starts_with("../") {
            let mut path: Vec<&str> = parent.path.split('/').collect();
            let mut rest = written;
            loop {
                if let Some(after) = rest.strip_prefix("./") {
                    rest = after;
                } else if let Some(after) = rest.strip_prefix("../") {
                    if path.pop().is_none() {
                        return false;
                    }
                    rest = after;
                } else {
                    break;
                }
            }
            path.push(rest);
            let root = Self { path: String::new(), ..parent.clone() };
            format!("{root}{}", path.join("/"))
        } else {
            written.to_owned()
        };
        Self::parse(absolute.trim_end_matches('/')).is_ok_and(|url| {
            let is_open = url.transport == Transport::Http && self.transport != Transport::Http;
            !is_open && url.host == self.host && url.repository() == self.repository()
        })
    }

    /// The host, and the port where it is not the transport's own.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_string(),
        }
    }

    /// The path without `.git`: what tells two repositories of a host apart.
    pub fn repository(&self) -> &str {
        self.path.strip_suffix(".git").unwrap_or(&self.path)
    }
}

/// Tells whether a text is a login name that no program takes for an option.
fn is_login(user: &str) -> bool {
    !user.is_empty()
        && !user.starts_with('-')
        && user.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Tells whether a path leads down only, in one spelling.
fn is_repository_path(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with(['-', '/'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains('%')
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.transport.scheme())?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}/{}", self.authority(), self.path)
    }
}

impl TryFrom<String> for UpstreamUrl {
    type Error = GateError;
    fn try_from(text: String) -> Result<Self, GateError> {
        Self::parse(&text)
    }
}

impl From<UpstreamUrl> for String {
    fn from(url: UpstreamUrl) -> Self {
        url.to_string()
    }
}

/// An ssh host's public key: algorithm and base64, as in `known_hosts` without the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct HostKey(String);

impl HostKey {
    /// Reads `ssh-ed25519 AAAA…`; a trailing comment is dropped.
    pub fn parse(text: &str) -> Result<Self, GateError> {
        use base64::Engine as _;
        let error = || GateError::HostKey(text.to_owned());
        let mut parts = text.split_ascii_whitespace();
        let (Some(algorithm), Some(key)) = (parts.next(), parts.next()) else { return Err(error()) };
        let blob = base64::engine::general_purpose::STANDARD.decode(key).map_err(|_| error())?;
        // RFC 4253: the blob begins with the algorithm's name, behind its length in four bytes.
        let named = blob.get(4..4 + algorithm.len()) == Some(algorithm.as_bytes())
            && blob.get(..4) == Some(&u32::try_from(algorithm.len()).map_err(|_| error())?.to_be_bytes()[..]);
        if !named || text.contains(['\n', '\r']) {
            return Err(error());
        }
        Ok(Self(format!("{algorithm} {key}")))
    }

    /// Algorithm and key, one space between.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostKey {
    type Error = GateError;
    fn try_from(text: String) -> Result<Self, GateError> {
        Self::parse(&text)
    }
}

impl From<HostKey> for String {
    fn from(key: HostKey) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read_in_all_their_spellings() {
        for (text, shown) in [
            ("ssh://git@git.example.org:2222/team/app.git", "ssh://git@git.example.org:2222/team/app.git"),
            ("git@git.example.org:team/app", "ssh://git@git.example.org/team/app"),
            ("https://git.example.org:443/team/app.git", "https://git.example.org/team/app.git"),
            ("http://git.home:3000/team/app.git", "http://git.home:3000/team/app.git"),
            ("http://git.home:80/app", "http://git.home/app"),
            ("https://git.example.org/gitea/team/app", "https://git.example.org/gitea/team/app"),
            ("http://192.168.7.2:3000/team/app.git", "http://192.168.7.2:3000/team/app.git"),
            ("https://[2001:DB8::0:2]/team/app", "https://[2001:db8::2]/team/app"),
            ("https://[2001:db8::2]:3000/team/app", "https://[2001:db8::2]:3000/team/app"),
            ("ssh://git@[2001:db8::2]:2222/team/app", "ssh://git@[2001:db8::2]:2222/team/app"),
            ("git@192.168.7.2:team/app", "ssh://git@192.168.7.2/team/app"),
        ] {
            assert_eq!(UpstreamUrl::parse(text).map(|url| url.to_string()).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for text in [
            "",
            "app",
            "/srv/app",
            "file:///srv/app",
            "http:///x",
            "http://0x7f000001/x",
            "http://127.1/x",
            "http://2001:db8::2/x",
            "http://[2001:db8::2/x",
            "http://[2001:db8::2]x/x",
            "http://[fe80::1%25eth0]/x",
            "ext::sh -c id",
            "ssh://-oProxyCommand=id@a.example/x",
            "ssh://a.example/../x",
            "ssh://a.example:99999/x",
            "git@a.example:-x",
            "https://a.example/x?y",
            "https://a.example/",
        ] {
            assert!(UpstreamUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_upstream_with_a_password_is_refused_unprinted() {
        for (text, shown) in [
            ("https://user:hunter22@a.example/x", "https://a.example/x"),
            ("https://hunter22@a.example/x", "https://a.example/x"),
            ("HTTPS://user:hunter22@a.example/x", "HTTPS://a.example/x"),
            ("ssh://git:hunter22@a.example/x", "ssh://git@a.example/x"),
            ("git:hunter22@a.example:x", "git@a.example:x"),
            ("https://user:hun/ter22@a.example/x", "https://a.example/x"),
            ("https://user:hunter22@a.example/x?y z", "https://a.example/x?y z"),
            ("git:hunter22@host", "host"),
        ] {
            let error = UpstreamUrl::parse(text).expect_err(text);
            assert_eq!(error, GateError::Password(shown.to_owned()));
        }
    }

    #[test]
    fn a_submodule_reaches_a_declared_upstream_or_not() {
        let parse = |text: &str| UpstreamUrl::parse(text).expect("a URL");
        let lib = parse("ssh://git@git.example.org:2222/team/lib.git");
        let app = parse("https://git.example.org/team/app.git");
        for written in ["../lib.git", "../lib", "git@git.example.org:team/lib.git", "https://git.example.org/team/lib/"]
        {
            assert!(lib.is_reached_by(written, &app), "{written}");
        }
        for written in
            ["../../lib", "../../../team/lib", "lib", "https://evil.example/team/lib", "ext::sh", "", "-u../lib"]
        {
            assert!(!lib.is_reached_by(written, &app), "{written}");
        }
    }

    #[test]
    fn a_host_key_names_its_algorithm_inside_too() {
        let good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        assert_eq!(HostKey::parse(&format!("{good} comment")).map(String::from).as_deref(), Ok(good));
        for text in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 !!!",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        ] {
            assert!(HostKey::parse(text).is_err(), "{text}");
        }
    }
}
