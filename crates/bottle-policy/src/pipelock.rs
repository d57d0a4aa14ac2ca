//! `pipelock.yaml`: what may leave, and to where. Key names follow the public pipelock where the meaning is the same.

use std::collections::BTreeSet;

use bottle_scan::dlp::{DataKind, Rules, TokenPattern};
use bottle_types::host::HostPattern;
use bottle_types::rule::Rule;
use bottle_types::secret::SecretName;
use bottle_types::units::ByteSize;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::proxy::UpstreamProxy;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelockPolicy {
    /// Format version, 1.
    pub version: u32,
    /// Whether the guest's proxy is pipelock itself (a bottle without routes); else it takes requests from egress alone.
    #[serde(default)]
    pub guest_proxy: bool,
    /// In a bottle without routes: hosts that may be reached over https, any method and path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_allowlist: Vec<HostPattern>,
    /// Secrets in what leaves.
    #[serde(default)]
    pub dlp: Dlp,
    /// Networks that may not be dialled although they are public, such as a company's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub internal: Vec<IpNet>,
    /// Addresses that may not be dialled.
    #[serde(default)]
    pub ssrf: Ssrf,
    /// Hosts whose TLS is not intercepted.
    #[serde(default)]
    pub tls_interception: TlsInterception,
    /// Bodies.
    #[serde(default)]
    pub request_body_scanning: BodyScanning,
    /// What comes back.
    #[serde(default, skip_serializing_if = "Answers::is_default")]
    pub response_scanning: Answers,
    /// How much may leave in one run.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// The proxy through which everything leaves; none: hosts are reached directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<UpstreamProxy>,
    /// Every secret that the bottle knows: none may leave but in the header of its own route. Values are files of that
    /// name in the secrets directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretName>,
}

/// What a finding leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The request is refused before its last byte goes.
    #[default]
    Block,
    /// The finding is logged and the request goes on; a secret that the bottle knows is blocked all the same.
    Warn,
    /// Not looked for, except the secrets that the bottle knows.
    Off,
}

/// Data loss prevention.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dlp {
    /// What a finding leads to.
    #[serde(default)]
    pub action: Action,
    /// Token formats besides those that the program knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<TokenPattern>,
    /// Kinds of data that are no token and are looked for all the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub detect: BTreeSet<DataKind>,
    /// Rules that are not looked for on their way to a host; a secret that the bottle knows is looked for all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<Exemption>,
}

/// One rule and one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exemption {
    /// Where to.
    pub host: HostPattern,
    /// The rule's id.
    #[schemars(with = "String")]
    pub rule: Rule,
}

/// Server-side request forgery: private and metadata addresses are refused unless listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssrf {
    /// Networks that may be dialled although they are private, such as `10.0.0.0/24`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub ip_allowlist: Vec<IpNet>,
}

/// TLS that the doors don't end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsInterception {
    /// Hosts with pinned certificates: tunnelled, and reported as not inspected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passthrough_domains: Vec<HostPattern>,
}

/// How bodies are scanned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyScanning {
    /// A request body above this size is refused.
    pub max_body_bytes: ByteSize,
}

/// How answers are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// What words that talk an agent into something, or what looks like a secret, lead to in an answer; not looked for
    /// in the model's own.
    #[serde(default = "Answers::off")]
    pub action: Action,
    /// A larger answer is cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<ByteSize>,
}

impl Dlp {
    /// Tells whether it is a format that is looked for.
    pub fn knows(&self, rule: &Rule) -> bool {
        let is_known = |id: &str| Rules::has_builtin(id) || self.patterns.iter().any(|pattern| pattern.name == id);
        rule.id().is_some_and(is_known)
    }
}

impl Answers {
    fn off() -> Action {
        Action::Off
    }

    /// Whether nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self { action: Action::Off, max_body_bytes: None }
    }
}

impl Default for BodyScanning {
    fn default() -> Self {
        Self { max_body_bytes: ByteSize(10 << 20) }
    }
}
