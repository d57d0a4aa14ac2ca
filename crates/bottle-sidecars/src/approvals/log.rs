//! The log of proposals, `proposals.jsonl`, and the state that it leads to. One task alone has it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bottle_wire::proposal::change::Texts;
use bottle_wire::proposal::ledger::Ledger;
use bottle_wire::proposal::record::{Chain, Event, Record};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::BrokerError;

/// An open log.
#[derive(Debug)]
pub(super) struct ProposalLog {
    path: PathBuf,
    file: File,
    chain: Chain,
    ledger: Ledger,
    is_gone_on_with: bool,
}

impl ProposalLog {
    /// Opens the file, or goes on with it. One that does not hold is left as it is, and nothing is decided. A new one begins
    /// with the policies that are there.
    pub(super) fn open(path: &Path, run: &str, policies: Texts) -> Result<Self, BrokerError> {
        let make = |error| crate::common::Error::Make { path: path.to_owned(), error };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(make)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(make)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(make)?;
        // A kill in the middle of a write leaves a line without a newline, and nobody was told of it.
        let complete = text.rfind('\n').map_or(0, |at| at + 1);
        if complete < text.len() {
            tracing::warn!("dropping a half line at the end of {}", path.display());
            text.truncate(complete);
            file.set_len(complete as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(make)?;
        }
        let broken = |reason: String| BrokerError::Record { path: path.to_owned(), reason };
        let (records, chain) = Chain::read(run, &text).map_err(|error| broken(error.to_string()))?;
        let mut ledger = Ledger::new(run);
        for (at, record) in records.iter().enumerate() {
            ledger.add(record).map_err(|reason| broken(format!("line {}: {reason}", at + 1)))?;
        }
        let is_gone_on_with = !records.is_empty();
        let mut log = Self { path: path.to_owned(), file, chain, ledger, is_gone_on_with };
        if records.is_empty() {
            log.add(Event::Began { policies })?;
        }
        Ok(log)
    }

    /// Tells whether there was a life before this one.
    pub(super) fn is_gone_on_with(&self) -> bool {
        self.is_gone_on_with
    }

    /// The state that the log leads to.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes an event down; nothing has happened if that fails.
    pub(super) fn add(&mut self, event: Event) -> Result<Record, BrokerError> {
        let failed = |reason: String| BrokerError::Record { path: self.path.clone(), reason };
        let time = rfc3339(OffsetDateTime::now_utc()).map_err(|error| failed(error.to_string()))?;
        let (record, line, chain) = self.chain.append(time, event);
        let mut ledger = self.ledger.clone();
        ledger.add(&record).map_err(failed)?;
        self.write(&line).map_err(|error| crate::common::Error::Make { path: self.path.clone(), error })?;
        (self.chain, self.ledger) = (chain, ledger);
        Ok(record)
    }

    /// Writes a whole line or nothing.
    fn write(&mut self, line: &str) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        self.file.write_all(line.as_bytes()).inspect_err(|_| {
            // If this fails too, the next start drops the half line.
            let _ = self.file.set_len(before);
        })
    }
}

/// A time as the record has it.
pub(super) fn rfc3339(time: OffsetDateTime) -> io::Result<String> {
    time.replace_nanosecond(time.nanosecond() / 1_000_000 * 1_000_000)
        .map_err(io::Error::other)?
        .format(&Rfc3339)
        .map_err(io::Error::other)
}

/// The moment that a text of the record names; one that can't be read has passed.
pub(super) fn moment(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use bottle_wire::proposal::ProposalId;

    use super::*;

    #[test]
    fn a_restart_goes_on_with_the_record_and_a_broken_one_stops_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("proposals.jsonl");
        let open = || ProposalLog::open(&path, "run-1", Texts::new());
        let note = |log: &mut ProposalLog, line: &str| {
            let id = log.ledger().next_id();
            log.add(Event::Noted { id, line: line.to_owned() }).expect("a line");
            id.to_string()
        };
        let mut log = open().expect("a new file");
        assert_eq!(note(&mut log, "one"), "P1");
        drop(log);
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(&path, format!("{text}{{\"half\":")).expect("a half line");
        let mut log = open().expect("the half line is dropped");
        assert_eq!(note(&mut log, "two"), "P2");
        let again = Event::Noted { id: ProposalId::FIRST, line: "again".to_owned() };
        assert!(log.add(again).is_err(), "an event that can't follow is not written");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(Chain::read("run-1", &text).expect("a chain").0.len(), 3);
        std::fs::write(&path, text.replace("one", "two")).expect("a change");
        assert!(matches!(open(), Err(BrokerError::Record { .. })));
    }
}
