//! Third phase: every new object is scanned, and nothing was found.

use std::time::Instant;

use bottle_scan::known::KnownSecrets;
use bottle_wire::push_report::Timings;

use super::super::changes::{Changes, Repo, Update};
use super::super::rules::Refusal;
use super::super::scan;
use super::listed::Listed;
use super::millis;
use super::received::Received;
use super::refused::Refused;

/// A push that may go to upstream. [`Judged::new`], which scans, is the only way to make one: its fields are private.
pub(super) struct Judged<'a> {
    received: Received<'a>,
    changes: Changes,
    ms: Timings,
}

impl<'a> Judged<'a> {
    /// Scans a listed push, and refuses it if something is found or could not be looked at.
    pub(super) fn new(listed: Listed<'a>, known: &KnownSecrets) -> Result<Self, Box<Refused<'a>>> {
        let Listed { mut received, changes, scanners, mut ms } = listed;
        let start = Instant::now();
        let scanned = scanners.scan(&received, &changes, known);
        ms.scan = millis(start);
        match scanned {
            Ok(findings) if findings.is_empty() => Ok(Self { received, changes, ms }),
            Ok(findings) => {
                if findings.iter().any(|one| scan::is_in_a_name(&one.finding)) {
                    received.names.fill(scan::WITHHELD.to_owned());
                }
                Err(Box::new(Refused { received, changes, refusals: vec![], findings, remote_lines: vec![], ms }))
            }
            Err(reason) => {
                let why = format!("could not be scanned: {reason}; nothing was pushed");
                Err(Refused::by_rules(received, changes, vec![Refusal::all(why)], ms))
            }
        }
    }

    pub(super) fn repo(&self) -> &Repo<'a> {
        &self.received.repo
    }

    pub(super) fn updates(&self) -> &[Update] {
        &self.received.updates
    }

    /// The parts, for the phase after this one.
    pub(super) fn into_parts(self) -> (Received<'a>, Changes, Timings) {
        (self.received, self.changes, self.ms)
    }
}
