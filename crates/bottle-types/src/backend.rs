//! The backends: what a bottle can run in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::{BUNDLE_ADDRESS, Door};

/// Where a bottle runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Docker with Compose.
    #[default]
    Docker,
    /// A microVM by smolvm.
    Smolmachines,
    /// bubblewrap.
    Bubblewrap,
}

impl Backend {
    /// The host by whose name or address the guest reaches a door.
    pub fn door_host(self, door: Door) -> String {
        match self {
            // There is no name service in there.
            Self::Smolmachines => BUNDLE_ADDRESS.to_string(),
            Self::Docker | Self::Bubblewrap => door.name().to_owned(),
        }
    }

    /// All of them, in the order in which a machine that has several takes one.
    pub const ALL: [Self; 3] = [Self::Smolmachines, Self::Docker, Self::Bubblewrap];

    /// Its name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Smolmachines => "smolmachines",
            Self::Bubblewrap => "bubblewrap",
        }
    }
}
