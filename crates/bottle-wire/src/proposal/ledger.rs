//! The state of all proposals of a run, as its record leads to it: whoever writes the record goes by this, and so does
//! whoever checks it.
//!
//! Always: an event that does not follow from those before it is an error and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bottle_policy::outputs::{Output, OutputKind};
use bottle_policy::supervise::Request;

use super::change::{ChangeError, InForce, Texts};
use super::record::{Cause, Event, Record};
use super::{By, Change, PolicyFile, Proposal, ProposalId, Standing, State, Verdict, proposal_hash, sha256};

/// All that was asked, decided and applied so far.
#[derive(Debug, Clone)]
pub struct Ledger {
    run: String,
    next: ProposalId,
    /// Shared, because whoever writes the record tries an event on a copy.
    standings: BTreeMap<ProposalId, Arc<Standing>>,
    first: Option<Texts>,
    in_force: InForce,
    applied: usize,
    notes: usize,
    outputs: Vec<(ProposalId, Output)>,
    /// The kinds of outputs that were refused, one for each.
    refused: Vec<OutputKind>,
}

impl Ledger {
    /// Of a run in which nothing has happened yet.
    pub fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            next: ProposalId::FIRST,
            standings: BTreeMap::new(),
            first: None,
            in_force: InForce::new(Texts::new()),
            applied: 0,
            notes: 0,
            outputs: vec![],
            refused: vec![],
        }
    }

    /// The policies that the run began with; none before the first event.
    pub fn first(&self) -> Option<&Texts> {
        self.first.as_ref()
    }

    /// The policies in force.
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// The policies with one thing more that was approved and not applied yet.
    pub fn with(&self, id: ProposalId) -> Result<InForce, ChangeError> {
        match self.granted(id) {
            Some(request) => self.in_force.with(id, request),
            None => Err(ChangeError::Impossible(format!("{id} is not approved"))),
        }
    }

    /// Every proposal, in their order.
    pub fn standings(&self) -> impl Iterator<Item = &Standing> {
        self.standings.values().map(Arc::as_ref)
    }

    /// One proposal.
    pub fn get(&self, id: ProposalId) -> Option<&Standing> {
        self.standings.get(&id).map(Arc::as_ref)
    }

    /// The id of the next proposal or note.
    pub fn next_id(&self) -> ProposalId {
        self.next
    }

    /// Policies that came into force.
    pub fn applied(&self) -> usize {
        self.applied
    }

    /// What the runner is to write at the forge, in order.
    pub fn outputs(&self) -> &[(ProposalId, Output)] {
        &self.outputs
    }

    /// Outputs of a kind that were refused.
    pub fn refused(&self, kind: OutputKind) -> usize {
        self.refused.iter().filter(|other| **other == kind).count()
    }

    /// Lines of progress, and outputs that were refused.
    pub fn notes(&self) -> usize {
        self.notes
    }

    /// SHA-256 of a policy file in force.
    pub fn hash(&self, file: PolicyFile) -> String {
        sha256(self.in_force.texts().get(&file).map_or("", String::as_str))
    }

    /// What a proposal was granted, which may be something else than it asked for.
    pub fn granted(&self, id: ProposalId) -> Option<&Request> {
        let standing = self.standings.get(&id)?;
        let verdict = match &standing.state {
            State::Applying { verdict, .. } | State::InForce { verdict, .. } | State::Granted { verdict, .. } => {
                verdict
            }
            _ => return None,
        };
        match verdict {
            Verdict::Approve => Some(&standing.proposal.request),
            Verdict::Modified { request } => Some(request),
            Verdict::Deny { .. } | Verdict::Answer { .. } => None,
        }
    }

    /// The event of a request that comes now; or why there is nothing to decide.
    pub fn ask(&self, nonce: String, request: Request, expires_at: String) -> Result<Event, ChangeError> {
        let change = Change::of(self.in_force.texts(), &request)?;
        let file = change.map(|change| change.file);
        let policy_hash = file.map_or_else(|| sha256(""), |file| self.hash(file));
        let hash = proposal_hash(&self.run, self.next, &nonce, &request, &policy_hash);
        Ok(Event::Asked { id: self.next, nonce, request: Box::new(request), file, policy_hash, hash, expires_at })
    }

    /// Open proposals that were shown with a policy that is not in force any more, each with the event that makes it new;
    /// or why it has become pointless.
    pub fn outdated(&self) -> Vec<(ProposalId, Result<Event, ChangeError>)> {
        let open = self.standings.values().filter(|standing| standing.state.is_open());
        open.filter_map(|standing| {
            let proposal = &standing.proposal;
            let file = proposal.change.as_ref()?.file;
            let policy_hash = self.hash(file);
            (policy_hash != proposal.policy_hash).then(|| {
                let renewed = Change::of(self.in_force.texts(), &proposal.request).map(|_| Event::Renewed {
                    id: proposal.id,
                    hash: proposal_hash(&self.run, proposal.id, &proposal.nonce, &proposal.request, &policy_hash),
                    policy_hash,
                });
                (proposal.id, renewed)
            })
        })
        .collect()
    }

    /// Takes one event, or says why it can't have happened.
    pub fn add(&mut self, record: &Record) -> Result<(), String> {
        match (&self.first, &record.event) {
            (None, Event::Began { policies }) => {
                self.first = Some(policies.clone());
                self.in_force = InForce::new(policies.clone());
                return Ok(());
            }
            (None, _) => return Err("the policies that the run began with come first".to_owned()),
            (Some(_), Event::Began { .. }) => return Err("a run begins once".to_owned()),
            _ => {}
        }
        match &record.event {
            Event::Began { .. } => Ok(()),
            Event::Noted { id, .. } => {
                self.take_id(*id)?;
                self.notes += 1;
                Ok(())
            }
            Event::OutputRefused { id, kind, .. } => {
                self.take_id(*id)?;
                self.notes += 1;
                self.refused.push(*kind);
                Ok(())
            }
            Event::SecretRefused { .. } => {
                self.notes += 1;
                Ok(())
            }
            Event::Output { id, output } => {
                self.take_id(*id)?;
                self.outputs.push((*id, (**output).clone()));
                Ok(())
            }
            Event::Asked { .. } => self.asked(record),
            Event::Renewed { id, policy_hash, hash } => self.renewed(*id, policy_hash, hash),
            Event::Decided { id, hash, policy_hash, verdict, by } => self.decided(*id, hash, policy_hash, verdict, by),
            Event::Applied { cause, file, before, after, until } => {
                self.check_before(*file, before)?;
                let next = self.caused(cause, *file)?;
                if next.texts().get(file).is_none_or(|text| sha256(text) != *after) {
                    return Err(format!("{file} became something else than what was approved"));
                }
                self.in_force = next;
                self.applied += 1;
                self.set_applied(cause, after, until.as_deref());
                Ok(())
            }
            Event::RolledBack { cause, file, kept, reason } => {
                self.check_before(*file, kept)?;
                let Cause::Granted(id) = cause else { return Ok(()) };
                match self.standings.get_mut(id) {
                    Some(standing) if matches!(standing.state, State::Applying { .. }) => {
                        Arc::make_mut(standing).state = State::Failed { reason: reason.clone() };
                        Ok(())
                    }
                    _ => Err(format!("{id} was not waiting to be applied")),
                }
            }
        }
    }

    fn asked(&mut self, record: &Record) -> Result<(), String> {
        let Event::Asked { id, nonce, request, file, policy_hash, hash, expires_at } = &record.event else {
            return Ok(());
        };
        let change = Change::of(self.in_force.texts(), request).map_err(|error| format!("{id}: {error}"))?;
        if change.as_ref().map(|change| change.file) != *file {
            return Err(format!("{id} is about another policy than it says"));
        }
        request.check().map_err(|error| format!("{id}: {error}"))?;
        let proposal = Proposal {
            id: *id,
            run: self.run.clone(),
            nonce: nonce.clone(),
            request: (**request).clone(),
            change,
            policy_hash: policy_hash.clone(),
            hash: hash.clone(),
            asked_at: record.time.clone(),
            expires_at: expires_at.clone(),
        };
        if !proposal.is_whole() {
            return Err(format!("the hashes of {id} are not those of what it says"));
        }
        self.take_id(*id)?;
        self.standings.insert(*id, Arc::new(Standing { proposal, state: State::Open }));
        Ok(())
    }

    fn renewed(&mut self, id: ProposalId, policy_hash: &str, hash: &str) -> Result<(), String> {
        let mut proposal = self.open(id)?.proposal.clone();
        proposal.change =
            Change::of(self.in_force.texts(), &proposal.request).map_err(|error| format!("{id}: {error}"))?;
        policy_hash.clone_into(&mut proposal.policy_hash);
        hash.clone_into(&mut proposal.hash);
        if !proposal.is_whole() {
            return Err(format!("the hashes of {id} are not those of what it says"));
        }
        self.open(id)?.proposal = proposal;
        Ok(())
    }

    fn take_id(&mut self, id: ProposalId) -> Result<(), String> {
        if id != self.next {
            return Err(format!("it is {id}, and {} is due", self.next));
        }
        self.next = id.next();
        Ok(())
    }

    fn open(&mut self, id: ProposalId) -> Result<&mut Standing, String> {
        match self.standings.get_mut(&id) {
            Some(standing) if standing.state.is_open() => Ok(Arc::make_mut(standing)),
            Some(_) => Err(format!("{id} was decided before it")),
            None => Err(format!("there is no proposal {id} before it")),
        }
    }

    fn decided(&mut self, id: ProposalId, hash: &str, policy: &str, verdict: &Verdict, by: &By) -> Result<(), String> {
        let standing = self.open(id)?;
        if standing.proposal.hash != hash || standing.proposal.policy_hash != policy {
            return Err(format!("it decides on another {id} than the one that was shown"));
        }
        let nobody = matches!(by, By::Timeout | By::Nobody);
        if nobody && !matches!(verdict, Verdict::Deny { .. }) {
            return Err(format!("{by} can't say yes to {id}"));
        }
        let changes = standing.proposal.change.as_ref().map(|change| change.file);
        if verdict.grants()
            && let Some(file) = changes
            && self.hash(file) != policy
        {
            return Err(format!("{id} was shown with a policy that was not in force when it was approved"));
        }
        let (verdict, by) = (verdict.clone(), by.clone());
        self.open(id)?.state = match verdict {
            Verdict::Deny { why } => State::Denied { why, by },
            verdict if verdict.grants() && changes.is_some() => State::Applying { verdict, by },
            verdict => State::Granted { verdict, by },
        };
        Ok(())
    }

    fn check_before(&self, file: PolicyFile, before: &str) -> Result<(), String> {
        if self.hash(file) == before { Ok(()) } else { Err(format!("{file} was another before it")) }
    }

    /// What a cause makes of the policies.
    fn caused(&self, cause: &Cause, file: PolicyFile) -> Result<InForce, String> {
        let cannot = |error: ChangeError| format!("it can't have been applied: {error}");
        let state = |id| self.standings.get(id).map(|standing| &standing.state);
        match cause {
            Cause::Granted(id) if matches!(state(id), Some(State::Applying { .. })) => self.with(*id).map_err(cannot),
            Cause::Granted(id) => Err(format!("{id} was applied without an approval")),
            Cause::Ended(id) if matches!(state(id), Some(State::InForce { .. })) => {
                self.in_force.without(*id).map_err(cannot)
            }
            Cause::Ended(id) => Err(format!("{id} was not in force")),
            Cause::Hand { user: _, text } => Ok(self.in_force.by_hand(file, text.clone())),
        }
    }

    fn set_applied(&mut self, cause: &Cause, after: &str, until: Option<&str>) {
        let policy_hash = after.to_owned();
        let (Cause::Granted(id) | Cause::Ended(id)) = cause else { return };
        let Some(standing) = self.standings.get_mut(id).map(Arc::make_mut) else { return };
        standing.state = match standing.state.clone() {
            State::Applying { verdict, by } => {
                State::InForce { verdict, by, policy_hash, until: until.map(str::to_owned) }
            }
            _ => State::Ended { policy_hash },
        };
    }
}
