//! Third phase: every new object is scanned, and nothing was found.

use std::time::Instant;

use bottle_policy::gate::hold::Holds;
use bottle_scan::known::KnownSecrets;
use bottle_wire::push_report::Timings;

use super::super::changes::{Changes, RefUpdate, Repo};
use super::super::hold;
use super::super::rules::Refusal;
use super::super::scan::{self, FoundIn};
use super::listed::Listed;
use super::millis;
use super::received::Received;
use super::refused::Refused;

/// A push that may go to upstream. [`Judged::new`], which scans, is the only way to make one: its fields are private.
pub(super) struct Judged<'a> {
    received: Received<'a>,
    updates: Vec<RefUpdate>,
    changes: Changes,
    /// What was found, and a person has let through.
    allowed: Vec<FoundIn>,
    ms: Timings,
}

impl<'a> Judged<'a> {
    /// Scans a listed push, and refuses it if something is found or could not be looked at.
    pub(super) fn new(listed: Listed<'a>, known: &KnownSecrets) -> Result<Self, Box<Refused<'a>>> {
        let Listed { mut received, updates, changes, scanners, mut ms } = listed;
        let start = Instant::now();
        let scanned = scanners.scan(&received, &updates, &changes, known);
        ms.scan = millis(start);
        match scanned {
            Ok(findings) if findings.is_empty() || !is_refused(&received, &findings) => {
                Self::unless_held(received, updates, changes, findings, ms)
            }
            Ok(findings) => {
                if findings.iter().any(scan::is_in_a_name) {
                    received.names.fill(scan::WITHHELD.to_owned());
                }
                let (refusals, remote_lines) = (vec![], vec![]);
                Err(Box::new(Refused { received, changes, refusals, findings, remote_lines, is_held: false, ms }))
            }
            Err(reason) => {
                let why = format!("could not be scanned: {reason}; nothing was pushed");
                Err(Refused::by_rules(received, changes, vec![Refusal::all(why)], ms))
            }
        }
    }

    /// A push that waits for a person goes if exactly this one was let through.
    fn unless_held(
        received: Received<'a>,
        updates: Vec<RefUpdate>,
        changes: Changes,
        findings: Vec<FoundIn>,
        ms: Timings,
    ) -> Result<Self, Box<Refused<'a>>> {
        let held = match hold::question(&received.repo, &updates, &changes, &findings) {
            Ok(held) => held,
            Err(reason) => return Err(Refused::by_rules(received, changes, vec![Refusal::all(reason)], ms)),
        };
        let Some(held) = held.filter(|held| !hold::is_approved(&received.repo, held)) else {
            return Ok(Self { received, updates, changes, allowed: findings, ms });
        };
        let refusals = vec![Refusal::all(hold::ask(&received.repo.gate.dirs, &held))];
        Err(Box::new(Refused { received, changes, refusals, findings, remote_lines: vec![], is_held: true, ms }))
    }

    pub(super) fn repo(&self) -> &Repo<'a> {
        &self.received.repo
    }

    pub(super) fn updates(&self) -> &[RefUpdate] {
        &self.updates
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The parts, for the phase after this one.
    pub(super) fn into_parts(self) -> (Received<'a>, Changes, Vec<FoundIn>, Timings) {
        (self.received, self.changes, self.allowed, self.ms)
    }
}

/// Tells whether what was found refuses a push, and does not hold it.
fn is_refused(received: &Received<'_>, findings: &[FoundIn]) -> bool {
    Holds::new(&received.repo.upstream.push.hold).map_or(true, |holds| hold::refuses(&holds, findings))
}
