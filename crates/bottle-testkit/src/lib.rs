//! What the tests of several crates, or of several rooms of `tests/it`, share. It is a dev-dependency and nothing else:
//! `crates/bottle-types/tests/floors.rs` fails where a crate needs it for more than its tests.
//!
//! Map: `world` (a clean environment for the runner), `process` (children that end with their test, and waiting), `sidecars` (the
//! command line of the bundle's program), `bridge` (the guest's link), `sshd`, `upstream` (a repository behind it), `tls` (an authority and what it signs), `server` (scripts of
//! `tests/fixtures` that serve over TLS, the model's stand-in among them), `forge` (the stand-in forge), `company` (a network whose proxies, squid and tinyproxy, are the only way out), `clock` (one that a test turns), `cassette` (what the model says
//! in a replay), `cases` (of data files, judged side by side), `random`, and [`shape`] (types held against a committed file).
//!
//! The programs under test are the caller's: it passes `env!("CARGO_BIN_EXE_…")`.
#![expect(clippy::disallowed_methods, reason = "tests start programs, and are told by variables where these are")]

mod bridge;
mod cases;
mod cassette;
mod clock;
mod company;
mod forge;
mod process;
mod random;
mod server;
pub mod shape;
mod sidecars;
mod sshd;
mod tls;
mod upstream;
mod world;

use std::path::{Path, PathBuf};

pub use bridge::bridge;
pub use cases::judge_all;
pub use cassette::commands;
pub use clock::TurnedClock;
pub use company::{Company, CompanyProxy, INTERNET};
pub use forge::Double;
pub use process::{Lines, Running, found_within, git_script, needed, python, said, sh, until, until_within};
pub use random::{SplitMix64, random, random_bytes, random_hex, random_letters};
pub use server::Server;
pub use sidecars::with_dirs;
pub use sshd::{Sshd, free_port};
pub use tls::Certificates;
pub use upstream::{Host, Upstream};
pub use world::{World, cache};

/// Finds a file of this repository by its path from the root.
pub fn in_repository(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/bottle-testkit is two below");
    root.join(path)
}
