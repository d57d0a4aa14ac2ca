//! `proposals.jsonl`: what was asked, decided and applied, each line bound to the one before by its SHA-256.

use bottle_policy::outputs::{Output, OutputKind};
use bottle_policy::supervise::Request;
use bottle_types::rule::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::change::Texts;
use super::{By, PolicyFile, ProposalId, Verdict, sha256};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// SHA-256 of the line before, without its newline, in hex; of the run's slug for the first.
    pub previous: String,
    /// When, as RFC 3339 in UTC.
    pub time: String,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The first line: the policies that the run begins with.
    Began {
        /// Each file's text.
        policies: Texts,
    },
    /// The agent asks; ids count from `P1`, those of notes among them.
    Asked {
        /// Which proposal.
        id: ProposalId,
        /// Its nonce.
        nonce: String,
        /// What is asked, normalised.
        request: Box<Request>,
        /// The file that a yes changes; none: nothing in the running bottle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PolicyFile>,
        /// SHA-256 of that file as it is.
        policy_hash: String,
        /// The proposal's hash.
        hash: String,
        /// When it is refused if nobody has decided.
        expires_at: String,
    },
    /// The policy has changed under an open proposal; what was shown before can't be approved any more.
    Renewed {
        /// Which proposal.
        id: ProposalId,
        /// SHA-256 of its file as it is now.
        policy_hash: String,
        /// The proposal's new hash.
        hash: String,
    },
    /// A decision that counts.
    Decided {
        /// Which proposal.
        id: ProposalId,
        /// The hash of the proposal that was decided on.
        hash: String,
        /// The hash of the policy that was shown with it.
        policy_hash: String,
        /// What.
        verdict: Verdict,
        /// By whom.
        by: By,
    },
    /// A policy came into force.
    Applied {
        /// Because of what.
        cause: Cause,
        /// Which file; the doors that read it have confirmed the hash.
        file: PolicyFile,
        /// SHA-256 of what was in force.
        before: String,
        /// SHA-256 of what is in force.
        after: String,
        /// When it goes back; none: with the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<String>,
    },
    /// A policy did not come into force, and the one before it is in force.
    RolledBack {
        /// Because of what it was to be applied.
        cause: Cause,
        /// Which file.
        file: PolicyFile,
        /// SHA-256 of what is in force.
        kept: String,
        /// Why.
        reason: String,
    },
    /// A line of progress: nothing to decide.
    Noted {
        /// Its number.
        id: ProposalId,
        /// The line.
        line: String,
    },
    /// Something that the runner is to write at the forge when the agent is gone.
    Output {
        /// Its number.
        id: ProposalId,
        /// What, as the door has judged it.
        output: Box<Output>,
    },
    /// Something that the agent wanted written, and that is not.
    OutputRefused {
        /// Its number.
        id: ProposalId,
        /// Of what kind it was.
        kind: OutputKind,
        /// Why.
        reason: String,
    },
    /// A call with a secret of the run in it, of which nothing else is written down.
    SecretRefused {
        /// The tool that was called.
        tool: String,
        /// Which secret.
        rule: Rule,
    },
}

/// Why a policy changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Cause {
    /// A proposal was approved.
    Granted(ProposalId),
    /// The time of what a proposal got is up.
    Ended(ProposalId),
    /// Somebody gave the whole file by hand.
    Hand {
        /// The account's name.
        user: String,
        /// The file, which can't be told from what came before.
        text: String,
    },
}

/// A line of the file that does not fit to what comes before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ChainError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// The end of a chain: what the next line has to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    hash: String,
}

impl Chain {
    /// The chain of a run in which nothing has been asked yet.
    pub fn new(run: &str) -> Self {
        Self { hash: sha256(run) }
    }

    /// Reads a whole file: its records and where it goes on. A last line without a newline is an error as well.
    pub fn read(run: &str, file: &str) -> Result<(Vec<Record>, Self), ChainError> {
        let mut chain = Self::new(run);
        let mut records = vec![];
        for (at, line) in file.split_inclusive('\n').enumerate() {
            let error = |reason: &str| ChainError { line: at + 1, reason: reason.to_owned() };
            let line = line.strip_suffix('\n').ok_or_else(|| error("it is cut short"))?;
            let record: Record = serde_json::from_str(line).map_err(|cause| error(&cause.to_string()))?;
            if record.previous != chain.hash {
                return Err(error("it does not carry the hash of what comes before it"));
            }
            chain = Self { hash: sha256(line) };
            records.push(record);
        }
        Ok((records, chain))
    }

    /// The record that comes next, and its line, with the newline; and the chain behind it.
    pub fn append(&self, time: String, event: Event) -> (Record, String, Self) {
        let record = Record { previous: self.hash.clone(), time, event };
        // A record has string keys alone, so this can't fail; an empty line would show as a broken chain.
        let mut line = serde_json::to_string(&record).unwrap_or_default();
        let chain = Self { hash: sha256(&line) };
        line.push('\n');
        (record, line, chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> String {
        let mut chain = Chain::new("run-1");
        let mut file = String::new();
        for (id, said) in [(ProposalId::FIRST, "one"), (ProposalId::FIRST.next(), "two\nthree")] {
            let event = Event::Noted { id, line: said.to_owned() };
            let (_, line, next) = chain.append("2026-11-23T10:00:00Z".to_owned(), event);
            file.push_str(&line);
            chain = next;
        }
        file
    }

    #[test]
    fn a_chain_reads_as_it_was_written_and_goes_on() {
        assert_eq!(Chain::read("run-1", &file()).expect("an unbroken chain").0.len(), 2);
        assert_eq!(Chain::read("run-1", "").expect("an empty one").1, Chain::new("run-1"));
    }

    #[test]
    fn any_change_shows() {
        let good = file();
        let lines: Vec<&str> = good.split_inclusive('\n').collect();
        for bad in [
            good.replace("one", "eno"),
            lines[1].to_owned(),
            format!("{}{}", lines[1], lines[0]),
            format!("{good}{}", lines[1]),
            good.trim_end().to_owned(),
            format!("{good}\n"),
        ] {
            assert!(Chain::read("run-1", &bad).is_err(), "{bad}");
        }
        assert!(Chain::read("run-2", &good).is_err());
    }
}
