//! Proposals about requests that pipelock holds: asked like the agent's own, with the same limits and the same record, and
//! taken back when nobody waits for them any more.
//!
//! Always: one question at a time about requests of one kind, so that a client that tries again asks nobody twice; a
//! person's no stands for the rest of the run.

use std::time::Instant;

use bottle_policy::supervise::{Approval, Held, Request};
use bottle_wire::control::Holding;
use bottle_wire::proposal::Standing;
use bottle_wire::proposal::{By, ProposalId, State, Verdict};
use tokio::sync::{mpsc, watch};

use super::super::error::BrokerError;
use super::super::words::{self, StatusText};
use super::{Broker, BrokerHandle, BrokerMessage};

/// A question of pipelock's; one that is dropped undecided is taken back.
pub(in super::super) struct Question {
    broker: mpsc::Sender<BrokerMessage>,
    id: ProposalId,
    status_text: watch::Receiver<StatusText>,
    is_final: bool,
}

impl BrokerHandle {
    /// Asks about a held request: what there is to say at once, and where it waits the question. `None`: the task has ended.
    pub(in super::super) async fn hold(&self, held: Held) -> Option<(Holding, Option<Question>)> {
        let (holding, status_text) = self.call(|to| BrokerMessage::Hold(held, to)).await?;
        let question = match (&holding, status_text) {
            (Holding::Waits { id }, Some(status_text)) => {
                Some(Question { broker: self.0.clone(), id: *id, status_text, is_final: false })
            }
            _ => None,
        };
        Some((holding, question))
    }
}

impl Question {
    /// Waits for the decision. `None`: the task has ended, and nothing was decided.
    pub(in super::super) async fn decided(&mut self) -> Option<Holding> {
        while !self.status_text.borrow_and_update().is_final {
            if self.status_text.changed().await.is_err() && !self.status_text.borrow().is_final {
                return None;
            }
        }
        self.is_final = true;
        BrokerHandle(self.broker.clone()).call(|to| BrokerMessage::Held(self.id, to)).await
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.is_final {
            let (broker, id) = (self.broker.clone(), self.id);
            // A drop can't wait, and the desk may be busy with an apply.
            tokio::spawn(async move {
                let _ = broker.send(BrokerMessage::Withdraw(id)).await;
            });
        }
    }
}

impl Broker {
    /// Asks about a held request, unless it is decided already.
    pub(super) async fn hold(
        &mut self,
        held: Held,
    ) -> Result<(Holding, Option<watch::Receiver<StatusText>>), BrokerError> {
        let refused = |why: String| Ok((Holding::Refused { id: None, why }, None));
        let held = match Held::new(held.clone()) {
            Ok(normal) if normal == held => held,
            _ => return refused("it is not what pipelock would ask".to_owned()),
        };
        if let Some(standing) = self.held_before(&held) {
            let id = standing.proposal.id;
            let holding = match &standing.state {
                State::Open => Holding::Refused {
                    id: Some(id),
                    why: "a person is being asked about another request like this one: wait for that decision"
                        .to_owned(),
                },
                _ => words::held(standing),
            };
            return Ok((holding, None));
        }
        let id = match self.enter(Request::HeldRequest(held), Instant::now()).await? {
            Ok(id) => id,
            Err(why) => return refused(why),
        };
        let status_text = self.waiting.get(&id).map(watch::Sender::subscribe);
        Ok((self.holding(id), status_text))
    }

    /// The last proposal about requests of this kind that no other look could end otherwise.
    fn held_before(&self, held: &Held) -> Option<&Standing> {
        let same = |standing: &&Standing| {
            let Request::HeldRequest(before) = &standing.proposal.request else { return false };
            let stands = match &standing.state {
                State::Open => true,
                // Nobody decides in this run; else whoever sent that one had gone.
                State::Denied { by: By::Nobody, .. } => self.policy.approval == Approval::Deny,
                State::Denied { by: By::Timeout, .. } => false,
                State::Denied { .. } => true,
                // A yes is for the bytes that it was asked about, and those go without asking again.
                _ => false,
            };
            stands && before.asks_like(held)
        };
        self.log.ledger().standings().filter(same).last()
    }

    /// How a held request stands.
    pub(super) fn holding(&self, id: ProposalId) -> Holding {
        let standing = self.log.ledger().get(id);
        standing.map_or_else(|| Holding::Refused { id: None, why: "it is lost".to_owned() }, words::held)
    }

    /// Closes the question about a held request that nobody waits for any more.
    pub(super) async fn withdraw(&mut self, id: ProposalId, why: &str) -> Result<(), BrokerError> {
        let open = self.log.ledger().get(id).filter(|standing| standing.state.is_open());
        if open.is_some_and(|standing| matches!(standing.proposal.request, Request::HeldRequest(_))) {
            self.settle(id, Verdict::Deny { why: why.to_owned() }, By::Nobody).await?;
        }
        Ok(())
    }
}
