//! `routes.yaml`: where the guest may go, how, and with which credential added on the way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::host::{HostName, HostPattern};
use crate::secret::SecretName;

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
    /// What may be spent on the model's routes.
    #[serde(default, skip_serializing_if = "Budget::is_none")]
    pub budget: Budget,
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
    /// Globs over the normalised path: `*` within a segment, `**` across segments; none given: every path.
    #[serde(default = "Route::default_paths")]
    pub paths: Vec<String>,
    /// The credential added by pipelock after its scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// This is the model's API: its traffic is recorded, and replayed where a run says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub model: bool,
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
        self.port.unwrap_or(match self.scheme {
            Scheme::Https => 443,
            Scheme::Http => 80,
        })
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
}

/// A credential and the header it goes into: either `header` and `from`, or `bearer` alone.
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
}

impl Auth {
    /// Header name (lower case), text before the value, and the secret's name; an error says what is wrong with the keys.
    pub fn injection(&self) -> Result<(String, &'static str, &SecretName), &'static str> {
        match (&self.header, &self.from, &self.bearer) {
            (Some(header), Some(from), None) => Ok((header.to_ascii_lowercase(), "", from)),
            (None, None, Some(bearer)) => Ok(("authorization".to_owned(), "Bearer ", bearer)),
            (Some(_), None, _) => Err("`auth.header` needs `auth.from`: the variable that holds the value"),
            (None, Some(_), _) => Err("`auth.from` needs `auth.header`: the header the value goes into"),
            (None, None, None) => Err("`auth` needs `header` and `from`, or `bearer`"),
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
