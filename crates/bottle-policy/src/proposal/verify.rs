//! Whether a record of proposals tells the truth: every line, every decision, every policy.

use std::collections::BTreeMap;

use super::change::{ChangeError, InForce, Texts};
use super::record::{Cause, Chain, ChainError, Event, Record};
use super::{PolicyFile, ProposalId, Verdict, proposal_hash, sha256};
use crate::supervise::Request;

/// What a record that holds tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Proposals.
    pub asked: usize,
    /// Of them granted, by a person or a rule.
    pub granted: usize,
    /// Of them refused, or not decided in time.
    pub denied: usize,
    /// Of them never decided.
    pub open: usize,
    /// Policies that came into force, those that went back among them.
    pub applied: usize,
}

/// Why a record does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A line does not fit to what comes before it.
    #[error(transparent)]
    Line(#[from] ChainError),
    /// A policy is not the one that the record leads to.
    #[error("{file} at the end is not what the record leads to ({recorded}, but the file is {found})")]
    Last {
        /// Which.
        file: PolicyFile,
        /// SHA-256.
        recorded: String,
        /// SHA-256, or `missing`.
        found: String,
    },
}

/// Checks a whole `proposals.jsonl`: the chain of hashes; that each decision is one on what was shown; that each policy
/// that came into force has an approval before it and is exactly what the approval makes of the policy before; and that
/// the policies at the end, where they are given, are those that all this leads to. `first` are the policies that the run
/// began with, as the plan renders them.
pub fn verify(run: &str, file: &str, first: &Texts, last: &Texts) -> Result<Verified, VerifyError> {
    let (records, _) = Chain::read(run, file)?;
    let mut story = Story::new(run, first);
    for (at, record) in records.iter().enumerate() {
        story.add(record).map_err(|reason| ChainError { line: at + 1, reason })?;
    }
    for (&file, text) in first.keys().map(|file| (file, last.get(file))) {
        let recorded = story.hash(file);
        let found = text.map(|text| sha256(text));
        // A bundle that ended in the middle of an apply has either of both policies.
        let under_way = story.pending().filter_map(|next| Some(sha256(next.texts().get(&file)?)));
        let good = last.is_empty()
            || found
                .as_ref()
                .is_some_and(|found| *found == recorded || under_way.into_iter().any(|hash| hash == *found));
        if !good {
            return Err(VerifyError::Last { file, recorded, found: found.unwrap_or_else(|| "missing".to_owned()) });
        }
    }
    Ok(story.told())
}

/// A proposal as the record has it.
struct Told {
    nonce: String,
    request: Request,
    file: Option<PolicyFile>,
    policy_hash: String,
    hash: String,
    verdict: Option<Verdict>,
    applied: bool,
    ended: bool,
}

impl Told {
    /// What was granted, which may be something else than what was asked.
    fn granted(&self) -> Option<&Request> {
        match &self.verdict {
            Some(Verdict::Approve) => Some(&self.request),
            Some(Verdict::Modified { request }) => Some(request),
            _ => None,
        }
    }
}

struct Story<'a> {
    run: &'a str,
    next: ProposalId,
    told: BTreeMap<ProposalId, Told>,
    in_force: InForce,
    applied: usize,
}

impl<'a> Story<'a> {
    fn new(run: &'a str, first: &Texts) -> Self {
        let in_force = InForce::new(first.clone());
        Self { run, next: ProposalId::FIRST, told: BTreeMap::new(), in_force, applied: 0 }
    }

    fn hash(&self, file: PolicyFile) -> String {
        sha256(self.in_force.texts().get(&file).map_or("", String::as_str))
    }

    /// Policies that were approved and neither applied nor rolled back.
    fn pending(&self) -> impl Iterator<Item = InForce> {
        self.told
            .iter()
            .filter(|(_, told)| !told.applied)
            .filter_map(|(&id, told)| self.in_force.with(id, told.granted()?).ok())
    }

    fn take_id(&mut self, id: ProposalId) -> Result<(), String> {
        if id != self.next {
            return Err(format!("it is {id}, and {} is due", self.next));
        }
        self.next = id.next();
        Ok(())
    }

    fn find(&mut self, id: ProposalId) -> Result<&mut Told, String> {
        self.told.get_mut(&id).ok_or_else(|| format!("there is no proposal {id} before it"))
    }

    /// What was shown has to be what was so.
    fn check_hashes(&self, id: ProposalId, told: &Told) -> Result<(), String> {
        let policy = told.file.map_or_else(|| sha256(""), |file| self.hash(file));
        if told.policy_hash != policy {
            return Err(format!("{id} names a policy that was not in force"));
        }
        if told.hash != proposal_hash(self.run, id, &told.nonce, &told.request, &told.policy_hash) {
            return Err(format!("the hash of {id} is not the one of what it says"));
        }
        Ok(())
    }

    fn add(&mut self, record: &Record) -> Result<(), String> {
        match &record.event {
            Event::Noted { id, .. } => self.take_id(*id),
            Event::Asked { id, nonce, request, file, policy_hash, hash, expires_at: _ } => {
                self.take_id(*id)?;
                let told = Told {
                    nonce: nonce.clone(),
                    request: (**request).clone(),
                    file: *file,
                    policy_hash: policy_hash.clone(),
                    hash: hash.clone(),
                    verdict: None,
                    applied: false,
                    ended: false,
                };
                self.check_hashes(*id, &told)?;
                self.told.insert(*id, told);
                Ok(())
            }
            Event::Renewed { id, policy_hash, hash } => {
                let told = self.find(*id)?;
                if told.verdict.is_some() {
                    return Err(format!("{id} was decided before it"));
                }
                told.policy_hash.clone_from(policy_hash);
                told.hash.clone_from(hash);
                self.told.get(id).map_or(Ok(()), |told| self.check_hashes(*id, told))
            }
            Event::Decided { id, hash, policy_hash, verdict, by: _ } => {
                let told = self.find(*id)?;
                if told.verdict.is_some() {
                    return Err(format!("{id} was decided before it"));
                }
                if told.hash != *hash || told.policy_hash != *policy_hash {
                    return Err(format!("it decides on another {id} than the one that was shown"));
                }
                told.verdict = Some(verdict.clone());
                let told = self.told.get(id).ok_or("lost")?;
                if verdict.grants() { self.check_hashes(*id, told) } else { Ok(()) }
            }
            Event::Applied { cause, file, before, after, until: _ } => {
                self.check_before(*file, before)?;
                let next = self.caused(cause, *file)?;
                self.in_force = next;
                if self.hash(*file) != *after {
                    return Err(format!("{file} became something else than what was approved"));
                }
                self.applied += 1;
                Ok(())
            }
            Event::RolledBack { cause, file, kept, reason: _ } => {
                self.check_before(*file, kept)?;
                if let Cause::Granted(id) = cause {
                    let told = self.find(*id)?;
                    if told.granted().is_none() || told.applied {
                        return Err(format!("{id} was not waiting to be applied"));
                    }
                    told.applied = true;
                    told.ended = true;
                }
                Ok(())
            }
        }
    }

    fn check_before(&self, file: PolicyFile, before: &str) -> Result<(), String> {
        if self.hash(file) == before { Ok(()) } else { Err(format!("{file} was another before it")) }
    }

    /// What a cause makes of the policies.
    fn caused(&mut self, cause: &Cause, file: PolicyFile) -> Result<InForce, String> {
        let cannot = |error: ChangeError| format!("it can't have been applied: {error}");
        match cause {
            Cause::Granted(id) => {
                let told = self.find(*id)?;
                let Some(request) = told.granted().cloned() else {
                    return Err(format!("{id} was applied without an approval"));
                };
                if told.applied {
                    return Err(format!("{id} was applied before"));
                }
                told.applied = true;
                self.in_force.with(*id, &request).map_err(cannot)
            }
            Cause::Ended(id) => {
                let told = self.find(*id)?;
                if !told.applied || told.ended {
                    return Err(format!("{id} was not in force"));
                }
                told.ended = true;
                self.in_force.without(*id).map_err(cannot)
            }
            Cause::Hand { user: _, text } => Ok(self.in_force.by_hand(file, text.clone())),
        }
    }

    fn told(&self) -> Verified {
        let count = |wanted: fn(&Told) -> bool| self.told.values().filter(|told| wanted(told)).count();
        let answered = |told: &Told| matches!(told.verdict, Some(Verdict::Answer { .. }));
        Verified {
            asked: self.told.len(),
            granted: self.told.values().filter(|told| told.granted().is_some() || answered(told)).count(),
            denied: count(|told| matches!(told.verdict, Some(Verdict::Deny { .. }))),
            open: count(|told| told.verdict.is_none()),
            applied: self.applied,
        }
    }
}
