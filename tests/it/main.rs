//! What needs the built binary, and for Docker a running engine: one test binary, so that it links once.
//!
//! Map: `suite/` (real bottles on every backend), `docker/`, `bubblewrap/` and `smolmachines/` (what is one backend's alone), `forge/` (a job
//! of a stand-in forge), `addresses` (passwords in them), `benchmarks` (what is made of their figures), `book` (the pages as a whole), `collector` (of traces), `docs` (pages held against the program), `doctor` (a repository at its forge), `init` (a first manifest), `installation` (the Debian package, and what is wrong with one), `input`
//! (bad input and its messages), `policy` (`explain`, `test` and `suggest`), `presets` (what the host's tools say), `records` (of earlier versions); for them `job` (one that is
//! ready to run) and `place` (the backend of a test, and how to look into a bottle); what is not ours alone is in `bottle-testkit`.
//! `scripts/test` sets everything up that these need; nothing is skipped where it is missing.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test")]

mod addresses;
mod benchmarks;
mod book;
mod bubblewrap;
mod collector;
mod docker;
mod docs;
mod doctor;
mod forge;
mod init;
mod input;
mod installation;
mod job;
mod place;
mod policy;
mod presets;
mod records;
mod smolmachines;
mod suite;

/// The program under test.
const RUNNER: &str = env!("CARGO_BIN_EXE_bottle-runner");
