//! The one task that decides and writes: requests come to it one after the other, so the chain has one writer.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bottle_policy::proposal::{Chain, Decision, ProposalId, Record};
use bottle_policy::supervise::{Approval, Request, SupervisePolicy};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::limits::Limit;
use super::view::View;

/// Messages that wait; more callers than that wait themselves.
const QUEUE: usize = 32;

/// What the agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// None: it was not taken.
    pub(super) id: Option<ProposalId>,
    pub(super) text: String,
    /// It was not taken, or there is no such proposal: a mistake of the caller's, not a decision.
    pub(super) mistake: bool,
}

enum Message {
    Ask(Request, oneshot::Sender<Answer>),
    Status(ProposalId, oneshot::Sender<Answer>),
    View(oneshot::Sender<View>),
    Reload(View),
}

/// The way to the task.
#[derive(Debug, Clone)]
pub(super) struct Desk(mpsc::Sender<Message>);

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Desk {
    /// A desk and the work it needs; the work ends when the last desk has gone.
    pub(super) fn open(mut book: Book, mut view: View) -> (Self, impl Future<Output = ()>) {
        let (sender, mut messages) = mpsc::channel(QUEUE);
        let work = async move {
            while let Some(message) = messages.recv().await {
                // A caller that has gone needs no answer.
                match message {
                    Message::Ask(request, to) => drop(to.send(book.ask(request, Instant::now()))),
                    Message::Status(id, to) => drop(to.send(book.status(id))),
                    Message::View(to) => drop(to.send(view.clone())),
                    Message::Reload(new) => view = new,
                }
            }
        };
        (Self(sender), work)
    }

    pub(super) async fn ask(&self, request: Request) -> Option<Answer> {
        self.call(|to| Message::Ask(request, to)).await
    }

    pub(super) async fn status(&self, id: ProposalId) -> Option<Answer> {
        self.call(|to| Message::Status(id, to)).await
    }

    pub(super) async fn view(&self) -> Option<View> {
        self.call(Message::View).await
    }

    pub(super) async fn reload(&self, view: View) {
        let _ = self.0.send(Message::Reload(view)).await;
    }

    /// `None`: the task has ended, and nothing was decided.
    async fn call<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (to, answer) = oneshot::channel();
        self.0.send(message(to)).await.ok()?;
        answer.await.ok()
    }
}

/// The file of proposals and what is known of it.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    file: File,
    chain: Chain,
    records: Vec<Record>,
    approval: Approval,
    proposals: Limit,
    progress: Limit,
}

impl Book {
    /// Opens the file, or goes on with it. One whose chain is broken is left as it is, and nothing is decided.
    pub(super) fn open(path: &Path, policy: &SupervisePolicy) -> Result<Self, Error> {
        let make = |error| crate::common::Error::Make { path: path.to_owned(), error };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(make)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(make)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(make)?;
        // What a kill in the middle of a write left: no newline, so nobody was told of it.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            tracing::warn!("dropping a half line at the end of {}", path.display());
            text.truncate(whole);
            file.set_len(whole as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(make)?;
        }
        let broken = |error: bottle_policy::proposal::ChainError| Error::Chain {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let (records, chain) = Chain::read(&policy.run, &text).map_err(broken)?;
        let now = Instant::now();
        let mut proposals = Limit::new(10, Duration::from_secs(6), 100, now);
        let mut progress = Limit::new(30, Duration::from_secs(1), 2000, now);
        let lines = records.iter().filter(|record| is_progress(&record.request)).count();
        proposals.used(records.len() - lines);
        progress.used(lines);
        Ok(Self { path: path.to_owned(), file, chain, records, approval: policy.approval, proposals, progress })
    }

    fn ask(&mut self, request: Request, now: Instant) -> Answer {
        let progress = is_progress(&request);
        if !progress && let Some(same) = self.records.iter().find(|record| record.request == request) {
            return Answer { id: Some(same.id), text: format!("{} (asked before)", same.reason), mistake: false };
        }
        let limit = if progress { &mut self.progress } else { &mut self.proposals };
        if let Err(reason) = limit.take(now) {
            tracing::warn!("refused a {}: {reason}", request.tool());
            return Answer { id: None, text: format!("refused: {reason}; it is not noted"), mistake: true };
        }
        let id = self.chain.next_id();
        let (decision, reason) = decide(&request, self.approval, id);
        let written = OffsetDateTime::now_utc().format(&Rfc3339).map_err(io::Error::other).and_then(|time| {
            let (record, line, chain) = self.chain.append(time, request, decision, reason.clone());
            self.write(&line)?;
            tracing::info!("{id}: {}: {decision:?}", record.request.tool());
            self.records.push(record);
            self.chain = chain;
            Ok(())
        });
        match written {
            Ok(()) => Answer { id: Some(id), text: reason, mistake: false },
            Err(error) => {
                tracing::error!("failed to write {}: {error}", self.path.display());
                Answer { id: None, text: "refused: it can't be recorded".to_owned(), mistake: true }
            }
        }
    }

    /// Writes a whole line or nothing.
    fn write(&mut self, line: &str) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        self.file.write_all(line.as_bytes()).inspect_err(|_| {
            // If this fails too, the next start drops the half line.
            let _ = self.file.set_len(before);
        })
    }

    fn status(&self, id: ProposalId) -> Answer {
        match self.records.iter().find(|record| record.id == id) {
            Some(record) => Answer { id: Some(id), text: record.reason.clone(), mistake: false },
            None => Answer { id: None, text: format!("there is no proposal {id} in this run"), mistake: true },
        }
    }
}

fn is_progress(request: &Request) -> bool {
    matches!(request, Request::Progress { .. })
}

/// Nothing is granted: a person's decision has no way here yet.
fn decide(request: &Request, approval: Approval, id: ProposalId) -> (Decision, String) {
    if is_progress(request) {
        return (Decision::Noted, format!("noted as {id}"));
    }
    let why = match approval {
        Approval::Deny => "approval is `deny` in this run".to_owned(),
        Approval::Comment | Approval::Local => format!("approval by `{approval}` can't be decided in this version"),
    };
    let what = if matches!(request, Request::Ask { .. }) {
        "nobody answers during this run, so decide by what you know and say so in your result; "
    } else {
        ""
    };
    (Decision::Refused, format!("refused: {why}; {what}it's noted for the report as proposal {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(approval: Approval) -> SupervisePolicy {
        SupervisePolicy { version: 1, run: "run-1".to_owned(), approval, timeout: SupervisePolicy::default_timeout() }
    }

    fn ask(question: &str) -> Request {
        Request::ask(question).expect("a question")
    }

    #[test]
    fn nothing_is_granted_whoever_should_decide() {
        for approval in [Approval::Deny, Approval::Comment, Approval::Local] {
            let route = Request::route("a.example", &[], &[], "x", None).expect("a route");
            for request in [route, Request::push("refs/heads/x", "x").expect("a push"), ask("may I?")] {
                let (decision, reason) = decide(&request, approval, ProposalId::FIRST);
                assert_eq!(decision, Decision::Refused);
                assert!(reason.starts_with("refused: ") && reason.ends_with("proposal P1"), "{reason}");
            }
        }
    }

    #[test]
    fn a_restart_goes_on_with_the_chain_and_a_broken_one_stops_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("proposals.jsonl");
        let open = || Book::open(&path, &policy(Approval::Deny));
        let now = Instant::now();
        let mut book = open().expect("a new file");
        assert_eq!(book.ask(ask("one?"), now).id, Some(ProposalId::FIRST));
        assert_eq!(book.ask(ask("one?"), now).id, Some(ProposalId::FIRST), "asked before");
        drop(book);
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(&path, format!("{text}{{\"half\":")).expect("a half line");
        let mut book = open().expect("the half line is dropped");
        assert_eq!(book.ask(ask("two?"), now).id.map(|id| id.to_string()).as_deref(), Some("P2"));
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(Chain::read("run-1", &text).expect("a chain").0.len(), 2);
        std::fs::write(&path, text.replace("one?", "two?")).expect("a change");
        assert!(matches!(open(), Err(Error::Chain { .. })));
    }

    #[test]
    fn a_flood_is_refused_and_not_recorded() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("proposals.jsonl");
        let mut book = Book::open(&path, &policy(Approval::Deny)).expect("a new file");
        let now = Instant::now();
        let taken = (0..500).filter(|n| book.ask(ask(&format!("{n}?")), now).id.is_some()).count();
        assert_eq!(taken, 10);
        assert_eq!(std::fs::read_to_string(&path).expect("a file").lines().count(), 10);
    }
}
