//! The course of a push, in the pre-receive hook: `Received` → `Listed` → `Judged` → `Forwarded`, or `Refused` at any of
//! them; only then does git move the mirror's refs.
//!
//! Map: a file a phase; `command` (the git command that pushes), `report` (the agent's terminal, `gate.jsonl` and the log).
//!
//! Always: each phase takes the value of the one before, so forwarding takes a `Judged`, which only the scan makes; whatever
//! goes wrong on the way refuses the push. Push rules and scanners do not belong here.

mod command;
mod forwarded;
mod judged;
mod listed;
mod received;
mod refused;
mod report;

use std::process::ExitCode;
use std::time::Instant;

use super::dirs::GateDirs;
use forwarded::Forwarded;
use judged::Judged;
use listed::Listed;
pub(super) use received::AskedUpdate;
use received::Received;
use report::{PushReport, tell};

/// Runs the pre-receive hook.
pub(super) fn main(gate: &GateDirs) -> ExitCode {
    let started = Instant::now();
    let known = match gate.dirs.known_secrets(&gate.policy.known_secrets()) {
        Ok(known) => known,
        Err(error) => {
            tell(&[format!("refused: {error}")]);
            return ExitCode::FAILURE;
        }
    };
    let received = match Received::read(gate, &known, started) {
        Ok(received) => received,
        Err(reason) => {
            tell(&[known.mask_str(&format!("refused: {reason}"))]);
            return ExitCode::FAILURE;
        }
    };
    let end = Listed::new(received).and_then(|listed| Judged::new(listed, &known)).and_then(Forwarded::new);
    match end {
        Ok(forwarded) => PushReport::from(forwarded).conclude(&known),
        Err(refused) => PushReport::from(*refused).conclude(&known),
    }
}

/// Milliseconds since `start`.
fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
