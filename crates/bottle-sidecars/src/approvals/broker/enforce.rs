//! Enforces a decision: puts in force what it grants, and writes down what came of it.

use std::time::Duration;

use bottle_policy::supervise::Request;
use bottle_wire::control::Applied;
use bottle_wire::proposal::Standing;
use bottle_wire::proposal::record::{Cause, Event};
use bottle_wire::proposal::{By, PolicyFile, ProposalId, State, Verdict, sha256};
use time::OffsetDateTime;

use super::super::error::BrokerError;
use super::{Broker, stamp};
use crate::confirm::Install;

impl Broker {
    /// Takes a decision that counts, and puts in force what it grants.
    pub(super) async fn settle(&mut self, id: ProposalId, verdict: Verdict, by: By) -> Result<(), BrokerError> {
        let Some(Standing { proposal, .. }) = self.log.ledger().get(id) else { return Ok(()) };
        let (hash, policy_hash) = (proposal.hash.clone(), proposal.policy_hash.clone());
        tracing::info!("{id}: decided by {by}");
        self.log.add(Event::Decided { id, hash, policy_hash, verdict, by })?;
        self.status_text(id);
        self.put_in_force(id).await
    }

    /// Applies what was approved and not applied yet.
    pub(super) async fn put_in_force(&mut self, id: ProposalId) -> Result<(), BrokerError> {
        let ledger = self.log.ledger();
        let Some(standing) = ledger.get(id).filter(|standing| matches!(standing.state, State::Applying { .. })) else {
            return Ok(());
        };
        let Some(change) = &standing.proposal.change else { return Ok(()) };
        let file = change.file;
        let cause = Cause::Granted(id);
        let text = match ledger.with(id) {
            Ok(next) => next.texts().get(&file).cloned().unwrap_or_default(),
            Err(error) => {
                let event = Event::RolledBack { cause, file, kept: ledger.hash(file), reason: error.to_string() };
                self.log.add(event)?;
                self.status_text(id);
                return Ok(());
            }
        };
        let time = ledger.granted(id).and_then(Request::duration);
        let until = time.map(|time| stamp(OffsetDateTime::now_utc() + Duration::from_secs(time.0)));
        self.install(file, text, cause, until).await?;
        self.status_text(id);
        Ok(())
    }

    /// Has a file put in force, and writes down what came of it.
    pub(super) async fn install(
        &mut self,
        file: PolicyFile,
        text: String,
        cause: Cause,
        until: Option<String>,
    ) -> Result<Applied, BrokerError> {
        let before = self.log.ledger().hash(file);
        let (on_disk, after) = (self.on_disk(file).unwrap_or_else(|| before.clone()), sha256(&text));
        let applied = if before == after {
            Applied::InForce { file, before: before.clone(), after: after.clone() }
        } else {
            self.supervisor.install(Install { file, before: on_disk, text }).await
        };
        let event = match &applied {
            Applied::InForce { .. } => Event::Applied { cause, file, before, after, until },
            Applied::Kept { reason } => {
                tracing::error!("{file} stays as it was: {reason}");
                Event::RolledBack { cause, file, kept: before, reason: reason.clone() }
            }
        };
        self.log.add(event)?;
        self.renew().await?;
        Ok(applied)
    }

    /// Open proposals are shown with the policy in force; what has become pointless is closed.
    pub(super) async fn renew(&mut self) -> Result<(), BrokerError> {
        for (id, renewed) in self.log.ledger().outdated() {
            match renewed {
                Ok(event) => {
                    self.log.add(event)?;
                    self.status_text(id);
                }
                Err(error) => {
                    let why = format!("since the policy has changed, {error}");
                    let Some(Standing { proposal, .. }) = self.log.ledger().get(id) else { continue };
                    let (hash, policy_hash) = (proposal.hash.clone(), proposal.policy_hash.clone());
                    let verdict = Verdict::Deny { why };
                    self.log.add(Event::Decided { id, hash, policy_hash, verdict, by: By::Nobody })?;
                    self.status_text(id);
                }
            }
        }
        Ok(())
    }
}
