//! `bundle.yaml`: what the supervisor starts, and as whom.

use bottle_types::door::Door;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Format version, 1.
    pub version: u32,
    /// The sidecars to run, in starting order.
    pub daemons: Vec<Daemon>,
}

/// One sidecar process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Daemon {
    /// Which one.
    pub door: Door,
    /// File name of its policy in the configuration directory, such as `routes.yaml`.
    pub config: String,
    /// The identity it runs under; none: the supervisor's own (where the supervisor is unprivileged).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
}

/// A user of the bundle image, by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User and primary group id.
    pub id: u32,
    /// Supplementary groups; [`DOORS_GROUP`] may read the secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
}

/// The group that may read the bundle's secret files: pipelock and git-gate.
pub const DOORS_GROUP: u32 = 2000;

/// The user of each sidecar in the bundle image (`images/Dockerfile.sidecars` makes the same ones).
pub fn image_user(door: Door) -> User {
    let (id, groups) = match door {
        Door::Egress => (2001, vec![]),
        Door::Pipelock => (2002, vec![DOORS_GROUP]),
        Door::GitGate => (2003, vec![DOORS_GROUP]),
        Door::Supervise => (2004, vec![]),
    };
    User { id, groups }
}
