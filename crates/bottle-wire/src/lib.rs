//! The formats that both sides share: the bundle writes them and the runner reads them, or the other way round.
//!
//! Map: `control` (verbs and answers of the control sockets), `proposal/` (what an agent asked for, and its record),
//! `access` (a line for each request), `push_report` (a line for each pushed ref), `signing_report` (a line for each commit that was to be signed), `receipt` (lines for each output), `run_record` (`metadata.json`), `cassette` (recorded
//! model traffic) and how it is played: `model_call` (which request is which), `messages` (the model's API), `sse` (event streams),
//! `event_stream` (Amazon's framing of them).
//!
//! Always: unknown keys are errors; no line holds a secret's value. No clock, no file system, no environment, no process, no
//! network, no tokio. What is allowed is decided in `bottle-policy`.

pub mod access;
pub mod cassette;
pub mod control;
pub mod event_stream;
pub mod messages;
pub mod model_call;
pub mod proposal;
pub mod push_report;
pub mod receipt;
pub mod run_record;
pub mod signing_report;
pub mod sse;

/// Version of the wire: everything that two programs, or two versions of one, hand to each other. It covers the control
/// sockets, `proposals.jsonl`, the policy files, `egress.jsonl`, `gate.jsonl`, `signing.jsonl`, `outputs.jsonl`, `budget.jsonl`, cassettes, `metadata.json` and
/// `plan.json`. `wire-v3.json` beside this crate's manifest holds the shapes, `plan-v3.json` those of the plan; a change of a
/// shape is a new version, and the versions before it are still read.
pub const VERSION: u32 = 3;
