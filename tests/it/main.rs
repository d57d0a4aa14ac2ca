//! What needs the built binary, and in `docker` a running engine: one test binary, so that it links once.
//!
//! Map: `addresses` (passwords in them), `docs` (pages held against the program), `world` (a clean environment, an upstream, a sample repository), `init` (a first manifest), `input` (bad input and its messages), `presets` (what the
//! host's tools say), `records` (of earlier versions),
//! `forge/` (a job of a stand-in forge), `docker/`
//! (real bottles), `bubblewrap/` (the same, and its own), `smolmachines/` (the same by scripts/smol, and a stand-in), `place` (which of them, and how to look into a bottle). `scripts/test` sets everything up that these need; nothing is skipped where it is missing.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test")]

mod addresses;
mod bubblewrap;
mod docker;
mod docs;
mod forge;
mod init;
mod input;
mod job;
mod place;
mod presets;
mod records;
mod smolmachines;

/// The program under test.
const RUNNER: &str = env!("CARGO_BIN_EXE_bottle-runner");
