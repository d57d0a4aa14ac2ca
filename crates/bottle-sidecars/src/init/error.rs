//! Why the bundle is down.

use crate::common;

/// Why the bundle is down.
#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    #[error(transparent)]
    Common(#[from] common::Error),
    #[error("failed to start {what}: {error}")]
    Start { what: String, error: std::io::Error },
    #[error("failed to become user {id}: {error}")]
    Identity { id: u32, error: std::io::Error },
    #[error("{door} keeps ending: {reason}")]
    GaveUp { door: &'static str, reason: String },
}
