//! Proposals about pushes: what the gate has refused in this run, and what it holds.
//!
//! Always: an agent can ask about nothing that the gate has not found; a question about a push stays when whoever pushed goes, and
//! a person's no stands for the rest of the run.

use std::path::Path;
use std::time::Instant;

use bottle_policy::supervise::{Approval, HeldPush, Request};
use bottle_types::rule::Rule;
use bottle_wire::control::Holding;
use bottle_wire::proposal::change::ChangeError;
use bottle_wire::proposal::{By, Change, Standing, State};
use bottle_wire::push_report::PushedRef;

use super::super::error::BrokerError;
use super::super::words;
use super::{Broker, BrokerHandle, BrokerMessage};

impl BrokerHandle {
    /// Asks about a push that the gate holds. `None`: the task has ended.
    pub(in super::super) async fn hold_push(&self, held: HeldPush) -> Option<Holding> {
        self.call(|to| BrokerMessage::HoldPush(Box::new(held), to)).await
    }
}

impl Broker {
    /// Asks about a held push, unless it was asked about already.
    pub(super) async fn hold_push(&mut self, held: HeldPush) -> Result<Holding, BrokerError> {
        let refused = |why: String| Ok(Holding::Refused { id: None, why });
        let held = match HeldPush::new(held.clone()) {
            Ok(normal) if normal == held => held,
            _ => return refused("it is not what the gate would ask".to_owned()),
        };
        self.end_what_is_late().await?;
        if let Some(standing) = self.push_before(&held) {
            return Ok(words::held(standing));
        }
        match self.enter(Request::HeldPush(held), Instant::now()).await? {
            Ok(id) => Ok(self.holding(id)),
            Err(why) => refused(why),
        }
    }

    /// The last proposal about these refs, from and to these objects, that no other look could end otherwise.
    fn push_before(&self, held: &HeldPush) -> Option<&Standing> {
        let same = |standing: &&Standing| {
            let Request::HeldPush(before) = &standing.proposal.request else { return false };
            let stands = match &standing.state {
                State::Denied { by: By::Nobody, .. } => self.policy.approval == Approval::Deny,
                State::Denied { by: By::Timeout, .. } | State::Failed { .. } | State::Ended { .. } => false,
                // One that is in force, and not in the policy, went when somebody gave a whole one by hand.
                State::InForce { .. } => {
                    Change::of(self.log.ledger().in_force().texts(), &standing.proposal.request)
                        == Err(ChangeError::Already)
                }
                _ => true,
            };
            stands && before.approved() == held.approved()
        };
        self.log.ledger().standings().filter(same).last()
    }
}

/// Tells whether the gate has refused such a finding in this run, by its own record.
pub(super) fn was_refused(record: &Path, rule: &Rule, path: &str, sha256: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(record) else { return false };
    let pushes = text.lines().filter_map(|line| serde_json::from_str::<PushedRef>(line).ok());
    pushes.filter(|push| !push.verdict.has_passed()).flat_map(|push| push.findings).any(|finding| {
        let derived = || finding.path.strip_prefix(path).is_some_and(|rest| rest.starts_with(" ("));
        finding.rule == *rule && finding.sha256.as_deref() == Some(sha256) && (finding.path == path || derived())
    })
}
