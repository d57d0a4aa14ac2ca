//! What setups keep for later runs: a directory of this machine with archives named by their hash, and an index by key.
//!
//! Map: `archive` (what may be in one, and writing it anew), `store` (the directory: finding, keeping, removing), `sessions` (a directory of its own, with what
//! agents leave), `mirrors` (objects of upstreams). Always: the guest
//! sees nothing of this directory but what is kept of its own upstream, read-only; an archive is checked whole, by its hash and entry by entry, before a byte of it is used; what is
//! written appears whole or not at all. Who may write, and when, is decided in `run/cache`.

mod archive;
mod mirrors;
mod sessions;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use archive::{ArchiveError, Summary, pieces};
pub(crate) use mirrors::{Copying, KeptMirror, MAX_MIRRORS_BYTES, MirrorStore, copy_mirror, hash_mirror};
pub(crate) use sessions::{SessionHeader, SessionStore, StoredSession};
pub(crate) use store::{CacheEntry, Kept, MAX_AGE_DAYS, MAX_STORE_BYTES, NewEntry, Pruned, Store};
