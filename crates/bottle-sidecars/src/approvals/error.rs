//! Why the server can't start, or can't go on.

use std::path::PathBuf;

use bottle_wire::proposal::ProposalId;

use crate::common;

/// Why the server can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokerError {
    #[error(transparent)]
    Common(#[from] common::Error),
    #[error("failed to go on with {}: {reason}", path.display())]
    Record { path: PathBuf, reason: String },
    #[error("the time of {id} is up, and what it allowed can't be taken back: {reason}")]
    Late { id: ProposalId, reason: String },
    #[error("failed to make a nonce: {0}")]
    Random(getrandom::Error),
    #[error("failed to start: {0}")]
    Start(std::io::Error),
}
