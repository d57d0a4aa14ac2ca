//! The end of a push that does not go to upstream.

use bottle_wire::push_report::Timings;

use super::super::changes::Changes;
use super::super::rules::Refusal;
use super::super::scan::FoundIn;
use super::received::Received;

/// A push that is refused, and why.
pub(super) struct Refused<'a> {
    pub(super) received: Received<'a>,
    /// As far as they were listed.
    pub(super) changes: Changes,
    pub(super) refusals: Vec<Refusal>,
    pub(super) findings: Vec<FoundIn>,
    /// Upstream's own words.
    pub(super) remote_lines: Vec<String>,
    /// It waits for a person.
    pub(super) is_held: bool,
    pub(super) ms: Timings,
}

impl<'a> Refused<'a> {
    /// Refuses a push because of rules, or because something went wrong on the way.
    pub(super) fn by_rules(received: Received<'a>, changes: Changes, refusals: Vec<Refusal>, ms: Timings) -> Box<Self> {
        Box::new(Self { received, changes, refusals, findings: vec![], remote_lines: vec![], is_held: false, ms })
    }
}
