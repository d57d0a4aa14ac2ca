//! `proposals.jsonl`: what was asked and what became of it, each line bound to the one before by its SHA-256.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::supervise::Request;

/// The number of a proposal in its run, written as `P1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ProposalId(u32);

/// A text that is not the id of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the id of a proposal, such as P1")]
pub struct ProposalIdError(String);

impl ProposalId {
    /// The first of a run.
    pub const FIRST: Self = Self(1);

    /// Reads `P1`, with one spelling for each number.
    pub fn parse(text: &str) -> Result<Self, ProposalIdError> {
        let error = || ProposalIdError(text.chars().take(20).collect());
        let number = text.strip_prefix('P').and_then(|digits| digits.parse().ok()).ok_or_else(error)?;
        let id = Self(number);
        if number > 0 && id.to_string() == text { Ok(id) } else { Err(error()) }
    }

    /// The one after this.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}", self.0)
    }
}

impl TryFrom<String> for ProposalId {
    type Error = ProposalIdError;
    fn try_from(text: String) -> Result<Self, ProposalIdError> {
        Self::parse(&text)
    }
}

impl From<ProposalId> for String {
    fn from(id: ProposalId) -> Self {
        id.to_string()
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It changes nothing.
    Refused,
    /// It needed no decision.
    Noted,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// SHA-256 of the line before, without its newline, in hex; of the run's slug for the first.
    pub previous: String,
    /// Which proposal.
    pub id: ProposalId,
    /// When, as RFC 3339 in UTC.
    pub time: String,
    /// What was asked, as it would be decided on; the key is the tool's name.
    pub request: Request,
    /// What became of it.
    pub decision: Decision,
    /// Why, in words that the agent was given too.
    pub reason: String,
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
    next: ProposalId,
}

impl Chain {
    /// The chain of a run in which nothing has been asked yet.
    pub fn new(run: &str) -> Self {
        Self { hash: hash(run), next: ProposalId::FIRST }
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
            if record.id != chain.next {
                return Err(error(&format!("it is {}, and {} is due", record.id, chain.next)));
            }
            chain = Self { hash: hash(line), next: record.id.next() };
            records.push(record);
        }
        Ok((records, chain))
    }

    /// The id of the next proposal.
    pub fn next_id(&self) -> ProposalId {
        self.next
    }

    /// The record that comes next, and its line, with the newline; and the chain behind it.
    pub fn append(&self, time: String, request: Request, decision: Decision, reason: String) -> (Record, String, Self) {
        let record = Record { previous: self.hash.clone(), id: self.next, time, request, decision, reason };
        // A record has string keys alone, so this can't fail; an empty line would show as a broken chain.
        let mut line = serde_json::to_string(&record).unwrap_or_default();
        let chain = Self { hash: hash(&line), next: self.next.next() };
        line.push('\n');
        (record, line, chain)
    }
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> String {
        let mut chain = Chain::new("run-1");
        let mut file = String::new();
        for question in ["one?", "two?\nthree?"] {
            let request = Request::ask(question).expect("a question");
            let (_, line, next) =
                chain.append("2026-11-23T10:00:00Z".to_owned(), request, Decision::Refused, "nobody".to_owned());
            file.push_str(&line);
            chain = next;
        }
        file
    }

    #[test]
    fn a_chain_reads_as_it_was_written_and_goes_on() {
        let (records, chain) = Chain::read("run-1", &file()).expect("an unbroken chain");
        assert_eq!(records.len(), 2);
        assert_eq!(chain.next_id().to_string(), "P3");
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

    #[test]
    fn an_id_has_one_spelling() {
        assert_eq!(ProposalId::parse("P12").map(|id| id.to_string()).as_deref(), Ok("P12"));
        for text in ["", "P", "P0", "P01", "p1", "P+1", "1", "P99999999999"] {
            assert!(ProposalId::parse(text).is_err(), "{text}");
        }
    }
}
