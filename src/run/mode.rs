//! The modes of a run, which say where its work comes from.

use bottle_plan::task::Undo;

use super::handoff::Handoff;

/// Where a run's work comes from. A dry run, which lets nothing leave, can have each of them.
#[derive(Debug)]
pub(crate) enum RunMode {
    /// An agent whose calls the model answers.
    Live,
    /// An agent whose calls a cassette answers, by the file's bytes.
    Replay(Vec<u8>),
    /// Another job's agent: its work is taken from its run record, and no agent runs.
    Publish(Handoff),
    /// Nobody's: a branch goes back to where it was before an earlier run, and no agent runs.
    Undo(Undo),
}

impl RunMode {
    /// Whether an agent is started.
    pub(super) fn has_agent(&self) -> bool {
        match self {
            Self::Live | Self::Replay(_) => true,
            Self::Publish(_) | Self::Undo(_) => false,
        }
    }
}
