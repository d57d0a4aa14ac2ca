//! Git LFS: objects come and go through the gate, beside the repository whose pointer files name them.
//!
//! Map: `serve` (the API as the guest sees it, on the gate's one socket), `server` (upstream's API, with the gate's
//! credential), `http` (its requests, to judged addresses), `pointer` (pointer files), `store` (objects that the guest has sent), `push`
//! (their part in a push), `config` (a pushed `.lfsconfig`).
//!
//! Always: upstream is asked for what a pointer of its own names, and sees an object only after the push with its pointer was
//! judged; addresses and headers of upstream's answers stay here. Git's own objects do not belong here.

mod config;
mod http;
mod pointer;
mod push;
mod serve;
mod server;
mod store;

pub(super) use config::judge as judge_config;
pub(super) use pointer::ids_among as pointers_among;
pub(super) use push::{LfsChanges, forget, forward, list};
pub(super) use serve::serve;
pub(super) use store::{LFS, sweep};

/// Why an object does not come or go.
#[derive(Debug, thiserror::Error)]
pub(super) enum LfsError {
    /// Upstream does not have it.
    #[error("{0}")]
    Missing(String),
    /// Asking again does not help.
    #[error("{0}")]
    Refused(String),
    /// Asking again may help.
    #[error("{0}")]
    Transient(String),
}
