//! Proposals that end by themselves, and those of a life before this one.

use bottle_wire::control::Applied;
use bottle_wire::proposal::Standing;
use bottle_wire::proposal::record::Cause;
use bottle_wire::proposal::{By, PolicyFile, ProposalId, State, Verdict, sha256};
use time::OffsetDateTime;

use super::super::error::BrokerError;
use super::super::log::moment;
use super::Broker;
use crate::confirm::Install;

impl Broker {
    /// When something ends by itself.
    pub(super) fn due(&self) -> Option<OffsetDateTime> {
        self.log.ledger().standings().filter_map(ends).min()
    }

    pub(super) async fn time_is_up(&mut self) -> Result<(), BrokerError> {
        self.end_what_is_late().await?;
        let now = OffsetDateTime::now_utc();
        let late = |standing: &&Standing| !standing.state.is_open() && ends(standing).is_some_and(|end| end <= now);
        let ended: Vec<(ProposalId, PolicyFile)> = self
            .log
            .ledger()
            .standings()
            .filter(late)
            .filter_map(|standing| Some((standing.proposal.id, standing.proposal.change.as_ref()?.file)))
            .collect();
        for (id, file) in ended {
            let without = self.log.ledger().in_force().without(id);
            let text = without.ok().and_then(|without| without.texts().get(&file).cloned());
            let Some(text) = text else {
                tracing::error!("{id}: its time is up, and the policy without it can't be told");
                return Err(BrokerError::Record {
                    path: "the policy".into(),
                    reason: format!("without {id} it is none"),
                });
            };
            tracing::info!("{id}: its time is up");
            let applied = self.install(file, text, Cause::Ended(id), None).await?;
            if let Applied::Kept { reason } = applied {
                // Whatever is wrong with the doors: a policy whose time is up may not stay, so nothing goes on.
                return Err(BrokerError::Late { id, reason });
            }
            self.status_text(id);
        }
        Ok(())
    }

    /// Refuses what nobody has decided in time.
    pub(super) async fn end_what_is_late(&mut self) -> Result<(), BrokerError> {
        let now = OffsetDateTime::now_utc();
        let open = self.log.ledger().standings().filter(|standing| standing.state.is_open());
        let late: Vec<ProposalId> = open
            .filter(|standing| moment(&standing.proposal.expires_at) <= now)
            .map(|standing| standing.proposal.id)
            .collect();
        for id in late {
            let why = format!("nobody decided within {}", self.policy.timeout);
            self.settle(id, Verdict::Deny { why }, By::Timeout).await?;
        }
        Ok(())
    }

    /// After a start: finishes what was approved and not applied, and has the doors go by what the record says.
    pub(super) async fn take_up(&mut self) -> Result<(), BrokerError> {
        let ids: Vec<ProposalId> = self.log.ledger().standings().map(|standing| standing.proposal.id).collect();
        for id in ids {
            self.status_text(id);
            self.withdraw(id, "supervise was started anew, and what pipelock held for it is refused").await?;
            self.put_in_force(id).await?;
        }
        for file in PolicyFile::ALL {
            let Some(text) = self.log.ledger().in_force().texts().get(&file).cloned() else { continue };
            let Some(before) = self.on_disk(file).filter(|found| *found != sha256(&text)) else { continue };
            tracing::warn!("{file} is not what the record leads to: putting that in force");
            if let Applied::Kept { reason } = self.supervisor.install(Install { file, before, text }).await {
                return Err(BrokerError::Record { path: file.name().into(), reason });
            }
        }
        Ok(())
    }

    /// SHA-256 of a policy file as it is.
    pub(super) fn on_disk(&self, file: PolicyFile) -> Option<String> {
        std::fs::read_to_string(self.paths.config_dir.join(file.name())).ok().map(|text| sha256(&text))
    }
}

/// When a proposal changes by itself.
fn ends(standing: &Standing) -> Option<OffsetDateTime> {
    match &standing.state {
        State::Open => Some(moment(&standing.proposal.expires_at)),
        State::InForce { until: Some(until), .. } => Some(moment(until)),
        _ => None,
    }
}
