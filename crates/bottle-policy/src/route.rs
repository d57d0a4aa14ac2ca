//! `routes.yaml`: where the guest may go, how, and with which credential added on the way.

use std::collections::BTreeMap;

use bottle_types::host::{HostName, HostPattern};
use bottle_types::path::NormalPath;
use bottle_types::secret::SecretName;
use bottle_types::units::{ByteSize, Rate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::forge_read::ForgeReadRules;
use crate::mcp::McpRules;

/// The whole file, read by egress and by pipelock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutesPolicy {
    /// Format version, 1.
    pub version: u32,
    /// The rules; the first that matches a request decides, and a request that none matches is refused.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The declared git upstreams: smart HTTP to them is refused whatever the routes say, because it would go round the
    /// gate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git_upstreams: Vec<GitUpstream>,
    /// Answer the model's routes from the replay file instead of sending them on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
    /// Hosts whose TLS is not ended at the doors: tunnelled to port 443, and reported as not inspected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passthrough: Vec<HostPattern>,
    /// What may be spent on the model's routes.
    #[serde(default, skip_serializing_if = "Budget::is_none")]
    pub budget: Budget,
}

impl RoutesPolicy {
    /// Which entry of `passthrough`, from 0, has this host's TLS passed through; asked about connections to port 443 alone.
    pub fn passes_through(&self, host: &HostName) -> Option<usize> {
        self.passthrough.iter().position(|pattern| pattern.matches(host))
    }
}

/// One rule: requests to these hosts with these methods and paths may pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// A host name, or `*.name` for every host below a name.
    pub host: HostPattern,
    /// The port; 443 with TLS unless `scheme` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `https` unless it says `http`.
    #[serde(default, skip_serializing_if = "Scheme::is_https")]
    pub scheme: Scheme,
    /// Methods that may pass, such as `GET`; none given: `GET` and `HEAD`.
    #[serde(default = "Route::default_methods")]
    pub methods: Vec<String>,
    /// Globs over the normalised path: `*` within a segment, `**` across segments; none given: every path. A path with an encoded
    /// or doubled slash is allowed only by a glob that has it too, as `%2F` or `//`.
    #[serde(default = "Route::default_paths")]
    pub paths: Vec<String>,
    /// Query parameters that have to be there, each once, with a value that its glob takes (`*` is any text).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// Headers that have to be there, likewise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Whether a request may become a WebSocket; what the guest says over it is scanned message by message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub websocket: bool,
    /// The largest request body; pipelock's `max_request_bytes` where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// How many requests may go, such as `100/m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Where the requests really go: a base URL, such as that of a gateway or a company's mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<BaseUrl>,
    /// What a secret in a request leads to on this route.
    #[serde(default, skip_serializing_if = "RouteDlp::is_default")]
    pub dlp: RouteDlp,
    /// The credential added by pipelock after its scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// This is the model's API: its traffic is recorded, and replayed where a run says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub model: bool,
    /// An MCP server is behind it, and each message is judged; set by an agent's `mcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<McpRules>,
    /// A forge is read there, and each request and answer is judged; set by the bottle's `forge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<ForgeReadRules>,
}

impl Route {
    fn default_methods() -> Vec<String> {
        vec!["GET".to_owned(), "HEAD".to_owned()]
    }

    fn default_paths() -> Vec<String> {
        vec!["/**".to_owned()]
    }

    /// The port in force.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.port())
    }

    /// A rule that lets these methods and paths of a host pass over TLS, and says nothing else.
    pub fn plain(host: HostPattern, methods: &[&str], paths: &[&str]) -> Self {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Self {
            host,
            port: None,
            scheme: Scheme::Https,
            methods: texts(methods),
            paths: texts(paths),
            query: BTreeMap::new(),
            headers: BTreeMap::new(),
            websocket: false,
            max_bytes: None,
            rate: None,
            upstream: None,
            dlp: RouteDlp::default(),
            auth: None,
            model: false,
            mcp: None,
            forge: None,
        }
    }
}

/// What pipelock does about secrets on one route; what is not said is as for the whole bottle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteDlp {
    /// What what looks like a secret in a request leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound: Option<Outbound>,
}

impl RouteDlp {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a finding leads to on one route. A secret that the bottle knows is blocked whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outbound {
    /// The request is refused before its last byte goes.
    Block,
    /// In a body it is overwritten with asterisks, and the request goes on; in URL, headers and other forms it is blocked.
    Redact,
    /// The finding is logged and the request goes on.
    Warn,
    /// The request is held, and a person is asked.
    Ask,
}

/// A base URL: scheme, host, port, and a path without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct BaseUrl {
    /// In the clear or over TLS.
    pub scheme: Scheme,
    /// The host.
    pub host: HostName,
    /// The port, where it is not the scheme's own.
    pub port: Option<u16>,
    /// What stands before each request's own path: empty, or `/` and more.
    pub path: String,
}

/// A text that is not a base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a base URL such as https://gateway.example.org/path: {1}")]
pub struct BaseUrlError(String, String);

impl BaseUrl {
    /// Reads a URL without user information, query and fragment.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let wrong = |why: &str| BaseUrlError(text.to_owned(), why.to_owned());
        let (scheme, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (Scheme::Https, rest),
            (_, Some(rest)) => (Scheme::Http, rest),
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => {
                let digits = port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|port| digits && *port != 0);
                (host, Some(port.ok_or_else(|| wrong("its port is none"))?))
            }
            None => (authority, None),
        };
        let host = HostName::parse(host).map_err(|error| wrong(&error.to_string()))?;
        let path = path.trim_end_matches('/');
        if !path.is_empty() {
            NormalPath::parse(path).map_err(|error| wrong(&error.to_string()))?;
        }
        Ok(Self { scheme, host, port, path: path.to_owned() })
    }

    /// The port in force.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.port())
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = BaseUrlError;
    fn try_from(text: String) -> Result<Self, BaseUrlError> {
        Self::parse(&text)
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        url.to_string()
    }
}

/// How upstream is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Over verified TLS.
    #[default]
    Https,
    /// In the clear.
    Http,
}

impl Scheme {
    /// Whether it is `https`.
    pub fn is_https(&self) -> bool {
        *self == Self::Https
    }

    /// Its own port.
    pub fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// A credential and the header it goes into: `header` and `from`, `bearer` alone, or `aws` alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The header's name, such as `x-api-key`; the value is the secret as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The host's variable that holds the value of `header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SecretName>,
    /// The host's variable that holds a token for `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretName>,
    /// The keys that sign each request for AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsAuth>,
}

/// What AWS's Signature Version 4 is made with: the service, the region, and either `from`, or `access_key_id` and `secret_access_key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsAuth {
    /// The service's name in signatures, such as `s3`, `bedrock` or `execute-api`.
    pub service: String,
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// A credential that has all parts of the keys in one value, as `credential_process` prints them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SecretName>,
    /// The credential that is the access key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretName>,
    /// The credential that is the secret access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretName>,
    /// The credential that is the session token of temporary keys; they have to stay good for the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretName>,
}

/// Where the parts of AWS's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsKeySource<'a> {
    /// In one value.
    Whole(&'a SecretName),
    /// Each in its own.
    Parts {
        /// The access key's id.
        id: &'a SecretName,
        /// The secret access key.
        secret: &'a SecretName,
        /// The session token.
        token: Option<&'a SecretName>,
    },
}

impl AwsAuth {
    /// Where the keys are; an error says what is wrong.
    pub fn keys(&self) -> Result<AwsKeySource<'_>, &'static str> {
        let is_word = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if !is_word(&self.service) {
            return Err("`auth.aws.service` is a service's name in signatures, such as `s3`");
        }
        if !is_word(&self.region) {
            return Err("`auth.aws.region` is a region's name, such as `eu-central-1`");
        }
        match (&self.from, &self.access_key_id, &self.secret_access_key, &self.session_token) {
            (Some(from), None, None, None) => Ok(AwsKeySource::Whole(from)),
            (None, Some(id), Some(secret), token) => Ok(AwsKeySource::Parts { id, secret, token: token.as_ref() }),
            (None, ..) => Err("`auth.aws` needs `from`, or `access_key_id` and `secret_access_key`"),
            (Some(_), ..) => Err("`auth.aws` takes `from`, or the parts of the keys each by its name, not both"),
        }
    }
}

/// What is added to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Injection<'a> {
    /// A header.
    Header {
        /// Its name in small letters.
        name: String,
        /// The text before the value.
        before: &'static str,
        /// The secret that is the value.
        from: &'a SecretName,
    },
    /// A signature.
    Aws(&'a AwsAuth, AwsKeySource<'a>),
}

impl<'a> Injection<'a> {
    /// The secrets that it is made of; the first is the one that logs name.
    pub fn secrets(&self) -> Vec<&'a SecretName> {
        match self {
            Self::Header { from, .. } => vec![from],
            Self::Aws(_, AwsKeySource::Whole(from)) => vec![from],
            Self::Aws(_, AwsKeySource::Parts { id, secret, token }) => {
                [Some(*secret), Some(*id), *token].into_iter().flatten().collect()
            }
        }
    }
}

impl Auth {
    /// What is added; an error says what is wrong with the keys.
    pub fn injection(&self) -> Result<Injection<'_>, &'static str> {
        if let Some(aws) = &self.aws {
            return match (&self.header, &self.from, &self.bearer) {
                (None, None, None) => Ok(Injection::Aws(aws, aws.keys()?)),
                _ => Err("`auth` takes `header` and `from`, `bearer`, or `aws`, one of them"),
            };
        }
        match (&self.header, &self.from, &self.bearer) {
            (Some(header), Some(from), None) => {
                Ok(Injection::Header { name: header.to_ascii_lowercase(), before: "", from })
            }
            (None, None, Some(from)) => {
                Ok(Injection::Header { name: "authorization".to_owned(), before: "Bearer ", from })
            }
            (Some(_), None, _) => Err("`auth.header` needs `auth.from`: the variable that holds the value"),
            (None, Some(_), _) => Err("`auth.from` needs `auth.header`: the header the value goes into"),
            (None, None, None) => Err("`auth` needs `header` and `from`, `bearer`, or `aws`"),
            (Some(_), Some(_), Some(_)) => Err("`auth` takes `header` and `from`, or `bearer`, not both"),
        }
    }
}

/// A git repository that may be reached through the gate alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitUpstream {
    /// Its host.
    pub host: HostName,
    /// Its path without a leading slash and without `.git`, such as `team/app`.
    pub path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_read_and_print_the_same() {
        for text in ["https://gateway.example.org", "http://mirror.example.org:8080", "https://g.example.org/a/b"] {
            assert_eq!(BaseUrl::parse(text).map(|url| url.to_string()).as_deref(), Ok(text));
        }
        let same = BaseUrl::parse("https://g.example.org/a/b/").map(|url| url.to_string());
        assert_eq!(same.as_deref(), Ok("https://g.example.org/a/b"));
        for text in [
            "",
            "g.example.org",
            "ftp://g.example.org",
            "https://",
            "https://10.0.0.1/",
            "https://u:p@g.example.org/",
            "https://g.example.org:0/",
            "https://g.example.org/?q=1",
            "https://g.example.org/a/../b",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
    }
}
