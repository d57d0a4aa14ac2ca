//! Whether a record of proposals tells the truth: every line, every decision, every policy.

use super::change::Texts;
use super::ledger::Ledger;
use super::record::{Chain, ChainError};
use super::{PolicyFile, State, sha256};

/// What a record that holds tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProposalCounts {
    /// Proposals.
    pub asked: usize,
    /// Of them granted or answered, by a person or a rule.
    pub granted: usize,
    /// Of them refused, or not decided in time.
    pub denied: usize,
    /// Of them approved, but the doors did not take it.
    pub failed: usize,
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
    /// A policy at the beginning is not the plan's.
    #[error("{0} at the beginning is not the one of the plan")]
    First(PolicyFile),
    /// A policy at the end is not the one that the record leads to.
    #[error("{file} at the end is {found}, and the record leads to {recorded}")]
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
/// that came into force has an approval before it, and is exactly what the approval makes of the policy before. Then, that
/// the policies which the run began with are those of `first` (as the plan renders them), and that `last` are those which
/// all this leads to; files that are in neither map are not looked at.
pub fn verify(run: &str, file: &str, first: &Texts, last: &Texts) -> Result<ProposalCounts, VerifyError> {
    let (records, _) = Chain::read(run, file)?;
    let mut ledger = Ledger::new(run);
    for (at, record) in records.iter().enumerate() {
        ledger.add(record).map_err(|reason| ChainError { line: at + 1, reason })?;
    }
    let began = ledger.first().ok_or(ChainError { line: 1, reason: "nothing is recorded".to_owned() })?;
    for (&file, text) in first {
        if began.get(&file) != Some(text) {
            return Err(VerifyError::First(file));
        }
    }
    for (&file, text) in last {
        let (recorded, found) = (ledger.hash(file), sha256(text));
        if found != recorded && !under_way(&ledger, file, &found) {
            return Err(VerifyError::Last { file, recorded, found });
        }
    }
    Ok(told(&ledger))
}

/// A bundle that ended in the middle of an apply has the one policy or the other.
fn under_way(ledger: &Ledger, file: PolicyFile, found: &str) -> bool {
    ledger.standings().filter(|standing| matches!(standing.state, State::Applying { .. })).any(|standing| {
        let next = ledger.with(standing.proposal.id).ok();
        next.and_then(|next| next.texts().get(&file).map(|text| sha256(text))).as_deref() == Some(found)
    })
}

fn told(ledger: &Ledger) -> ProposalCounts {
    let mut told = ProposalCounts { applied: ledger.applied(), ..ProposalCounts::default() };
    for standing in ledger.standings() {
        told.asked += 1;
        match standing.state {
            State::Open => told.open += 1,
            State::Denied { .. } => told.denied += 1,
            State::Failed { .. } => told.failed += 1,
            State::Applying { .. } | State::InForce { .. } | State::Granted { .. } | State::Ended { .. } => {
                told.granted += 1;
            }
        }
    }
    told
}
