//! What is given to the agent of the files that people attach: `attachments` of an agent.

use bottle_types::units::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most files that may be asked for.
const MOST_FILES: u32 = 50;
/// The largest file that may be asked for.
const MOST_BYTES: u64 = 32 << 20;

/// Which of the pictures and texts that people attach to their words the agent gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttachmentRules {
    /// So many files at most; 0: none.
    pub max: u32,
    /// The size of a file as it is at the forge.
    pub max_bytes: ByteSize,
}

impl Default for AttachmentRules {
    fn default() -> Self {
        Self { max: 20, max_bytes: ByteSize(10 << 20) }
    }
}

impl AttachmentRules {
    /// All files of a run together, as they are at the forge, in bytes.
    pub const ALL_BYTES: u64 = 40 << 20;

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Tells what is wrong with the rules: the key that leads to it, and the problem.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.max > MOST_FILES {
            return Err(("max", format!("expected between 0 and {MOST_FILES}")));
        }
        if !(1..=MOST_BYTES).contains(&self.max_bytes.0) {
            return Err(("max_bytes", format!("expected between 1 and {}", ByteSize(MOST_BYTES))));
        }
        Ok(())
    }
}
