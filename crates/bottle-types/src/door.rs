//! The four doors: their names, the guest's ports, and where their sockets are.

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A sidecar that the guest can talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// The guest's HTTP(S) proxy.
    Egress,
    /// The last door before the internet; the guest's proxy in a bottle without routes.
    Pipelock,
    /// The git mirror.
    GitGate,
    /// The MCP server.
    Supervise,
}

impl Door {
    /// All of them, in the order in which they are started and reported.
    pub const ALL: [Self; 4] = [Self::Pipelock, Self::Egress, Self::GitGate, Self::Supervise];

    /// The name: of the sidecar, of its subcommand, and of the host that the guest connects to.
    pub fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Pipelock => "pipelock",
            Self::GitGate => "git-gate",
            Self::Supervise => "supervise",
        }
    }

    /// The TCP port that the guest connects to.
    pub fn port(self) -> u16 {
        match self {
            Self::Egress => 8889,
            Self::Pipelock => 8888,
            Self::GitGate => 9418,
            Self::Supervise => 9100,
        }
    }

    /// The file name of its unix socket in the doors directory (`/run/bottle` on Docker).
    pub fn socket(self) -> String {
        format!("{}.sock", self.name())
    }
}

/// Where a guest that is a machine finds its doors. It is the same in every run, because each machine's monitor has a
/// network of its own; of the range for measuring devices (RFC 2544), which no network uses.
pub const BUNDLE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Where the doors' sockets are, in the bundle and in the guest: the mount point of the one shared volume.
pub const DOORS_DIR: &str = "/run/bottle";
/// Where the sidecars talk to each other and take control requests; never visible to the guest.
pub const INTERNAL_DIR: &str = "/run/bottle-internal";
/// Where the bundle keeps what it makes: `ca/`, `git/`, `log/`, `replay/`.
pub const STATE_DIR: &str = "/var/lib/bottle";
/// Where the guest reads the gate's mirror of the repository that it works on, where both are on one system: what upstream has is then
/// neither sent nor kept twice.
pub const MIRROR_DIR: &str = "/run/bottle-mirror";
/// Where bundle and guest read what earlier runs on this machine had of that repository.
pub const KEPT_MIRROR_DIR: &str = "/run/bottle-kept";
/// In the bundle's state directory, the seed of a mirror: a directory each, by the upstream's name.
pub const SEED_DIR: &str = "seed";
/// In a seed: the file that names a directory of objects in place of bringing some.
pub const SEED_ALTERNATE: &str = "alternate";
/// Where secret values are, a file each, named as the secret.
pub const SECRETS_DIR: &str = "/run/secrets";
/// Where the policy files are.
pub const CONFIG_DIR: &str = "/etc/claude-bottle";
/// In the bundle's log directory: what the sidecars write for the run record.
pub const LOGS: [&str; 5] = ["egress.jsonl", "gate.jsonl", "signing.jsonl", "proposals.jsonl", "cassette.jsonl"];
/// The cassette that answers the model, in the bundle's state directory; copied there before the agent starts.
pub const REPLAY_FILE: &str = "replay/cassette";
