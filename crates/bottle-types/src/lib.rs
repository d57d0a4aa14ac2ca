//! The types on the ground: each is a checked form of one thing that every other crate may need to name.
//!
//! Map: `text` (the macro behind checked texts, a word of a shell), `secret`, `canary` (the secret that nobody has a use for), `host`, `path`, `units` (sizes, times, rates), `net` (which
//! addresses may be dialled), `door` (the sidecars, their sockets and ports), `backend`, `git` (object ids, ref names), `place` (where a door found something), `reason` (why a door lets
//! a request go no further), `record_file` (the files of a run record), `rule` (the rule behind a finding), `yaml` (reads and writes policy files).
//!
//! Always: a value exists only if its `parse` took it. No clock, no file system, no environment, no process, no network, no
//! tokio. Only [`secret::Secret`] holds a secret's value. What needs another type of ours, and any rule that decides, belongs
//! in the crates above.

pub mod address;
pub mod backend;
pub mod canary;
pub mod door;
pub mod git;
pub mod host;
pub mod net;
pub mod path;
pub mod place;
pub mod reason;
pub mod record_file;
pub mod rule;
pub mod secret;
pub mod text;
pub mod units;
pub mod yaml;
