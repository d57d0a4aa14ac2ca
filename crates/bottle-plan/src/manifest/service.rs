//! What runs beside the agent, such as a database: the words of `services`.

use std::collections::BTreeMap;

use bottle_types::units::Seconds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Resources;

/// A program beside the agent, such as a database. It has no network: only the agent reaches it, at its name and its ports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Docker: its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Docker: the words that its image's entrypoint gets in place of the image's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Docker: who it is in its image, a name or numbers; none: who the image says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// bubblewrap: a program of this machine and its arguments. It starts in a directory of its own, which is gone with the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub program: Vec<String>,
    /// Variables that it sees; never a secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its variables with a password that is made for each run, each with the name of the agent's variable that has it too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub generate: BTreeMap<String, String>,
    /// The TCP ports at which it listens on its loopback interface; the agent finds them at its own.
    pub ports: Vec<u16>,
    /// A shell command, run in it, that ends with 0 when it is ready; none: it is when each of its ports takes a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// How long it may take until then.
    pub time: Seconds,
    /// Its share of the machine.
    pub resources: Resources,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            image: None,
            command: vec![],
            user: None,
            program: vec![],
            env: BTreeMap::new(),
            generate: BTreeMap::new(),
            ports: vec![],
            health: None,
            time: Seconds(60),
            resources: Resources::default(),
        }
    }
}
