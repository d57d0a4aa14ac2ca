//! `supervise.yaml`: who decides what the agent asks for, and what it may have written at the forge.
//!
//! Map: `request` (what it may ask, checked and normalised as the manifest is), `dockerfile` (what it may ask of an image),
//! `held` (what pipelock asks about), `held_push` (what the gate asks about). What becomes of it is in `bottle_wire::proposal`.

mod dockerfile;
mod held;
mod held_push;
mod request;

use std::fmt;

use bottle_types::host::HostPattern;
use bottle_types::secret::SecretName;
use bottle_types::units::Seconds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outputs::OutputPolicy;

pub use held::{Found, Held, MOST_FINDINGS};
pub use held_push::HeldPush;
pub use request::{LONGEST_TEXT, Request, RequestError, RouteWords};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SupervisePolicy {
    /// Format version, 1.
    pub version: u32,
    /// The run's slug: a proposal of another run means nothing here.
    pub run: String,
    /// Who decides.
    #[serde(default)]
    pub approval: Approval,
    /// How long a proposal waits.
    #[serde(default = "SupervisePolicy::default_timeout")]
    pub timeout: Seconds,
    /// What is granted without a person, whoever decides the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auto: Vec<AutoRule>,
    /// Secrets that no call may have in it; of those that open nothing alone, as this door reads no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretName>,
    /// What the agent may have written at the forge; none: nothing by a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<OutputPolicy>,
}

/// A rule that grants routes: to these hosts, with these methods at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoRule {
    /// A host name, or `*.name` for every host below a name.
    pub host: HostPattern,
    /// Methods; none given: `GET` and `HEAD`.
    #[serde(default = "AutoRule::default_methods")]
    pub methods: Vec<String>,
}

impl AutoRule {
    fn default_methods() -> Vec<String> {
        vec!["GET".to_owned(), "HEAD".to_owned()]
    }

    /// Whether it grants a request: a route over https at the usual port, to a host within its own, with no method but its
    /// own.
    pub fn grants(&self, request: &Request) -> bool {
        let Request::RequestRoute { host, port: None, scheme, methods, .. } = request else { return false };
        scheme.is_https()
            && self.host.covers(host)
            && !methods.is_empty()
            && methods.iter().all(|method| self.methods.contains(method))
    }
}

impl fmt::Display for AutoRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.methods.join(","), self.host)
    }
}

impl SupervisePolicy {
    /// Fifteen minutes.
    pub fn default_timeout() -> Seconds {
        Seconds(900)
    }
}

/// Who decides on a proposal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A person with write permission, by a comment on the issue or pull request.
    Comment,
    /// The person at this machine, by `bottle-runner proposals`.
    Local,
    /// Nobody: everything is refused and collected for the report.
    #[default]
    Deny,
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comment => "comment",
            Self::Local => "local",
            Self::Deny => "deny",
        })
    }
}
