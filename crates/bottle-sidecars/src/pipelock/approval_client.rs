//! Client of supervise, which asks a person about a request that is held here.
//!
//! Always: what is not clearly approved is refused, also where supervise ends, is not there or says something else; a yes is
//! for exactly the bytes that it was asked about.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bottle_policy::supervise::Held;
use bottle_wire::control::{Call, Holding, SUPERVISE_SOCKET};
use bottle_wire::proposal::ProposalId;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;

use crate::common::{Dirs, Error, random_bytes};
use crate::confirm::MAX_LINE_BYTES;

/// Requests that are held in memory at once, each of at most [`super::approval::MAX_HELD_BYTES`].
const MAX_HELD_REQUESTS: usize = 64;
/// For a client that gave up and tries again; then the question is taken back.
const RETRY_GRACE: Duration = Duration::from_secs(15);
/// So long after a yes the same bytes go again: whoever has them has learnt nothing new.
const APPROVAL_REUSE: Duration = Duration::from_secs(600);

/// SHA-256 of all that makes a request the same.
pub(super) type Digest = [u8; 32];

/// The outcome of a question.
#[derive(Debug, Clone)]
pub(super) enum ApprovalOutcome {
    /// The request goes.
    Approved(ProposalId),
    /// It does not, for this reason.
    Refused(Option<ProposalId>, String),
}

/// Questions under way, and what was approved lately.
pub(super) struct ApprovalClient {
    socket: PathBuf,
    questions: Mutex<HashMap<Digest, watch::Sender<Option<ApprovalOutcome>>>>,
    slot: Arc<Semaphore>,
}

impl ApprovalClient {
    pub(super) fn new(dirs: &Dirs) -> Self {
        let socket = dirs.internal.join(SUPERVISE_SOCKET);
        Self { socket, questions: Mutex::default(), slot: Arc::new(Semaphore::new(MAX_HELD_REQUESTS)) }
    }

    /// Room to hold one request; none: all of it is taken.
    pub(super) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slot).try_acquire_owned().ok()
    }

    /// Asks about a request, or waits with those that sent the same; whoever stops waiting just drops this. `held` needs
    /// no name yet.
    pub(super) async fn ask(self: &Arc<Self>, digest: Digest, held: Held) -> ApprovalOutcome {
        let mut outcome_receiver = self.question(digest, held);
        loop {
            if let Some(outcome) = outcome_receiver.borrow_and_update().clone() {
                return outcome;
            }
            if outcome_receiver.changed().await.is_err() {
                return ApprovalOutcome::Refused(None, "the question was lost".to_owned());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, watch::Sender<Option<ApprovalOutcome>>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn question(self: &Arc<Self>, digest: Digest, held: Held) -> watch::Receiver<Option<ApprovalOutcome>> {
        let mut questions = self.lock();
        if let Some(question) = questions.get(&digest) {
            return question.subscribe();
        }
        let (question, outcome_receiver) = watch::channel(None);
        questions.insert(digest, question.clone());
        drop(questions);
        tokio::spawn(Arc::clone(self).follow(digest, held, question));
        outcome_receiver
    }

    async fn follow(self: Arc<Self>, digest: Digest, held: Held, question: watch::Sender<Option<ApprovalOutcome>>) {
        let outcome = tokio::select! {
            outcome = self.talk(held) => outcome,
            // Dropping the call closes the connection, which takes the question back.
            () = self.abandoned(digest, &question) => return,
        };
        let approved = matches!(outcome, ApprovalOutcome::Approved(_));
        if !approved {
            // supervise remembers a no itself.
            self.lock().remove(&digest);
        }
        question.send_replace(Some(outcome));
        if approved {
            sleep(APPROVAL_REUSE).await;
            self.lock().remove(&digest);
        }
    }

    /// Ends when nobody has waited for a while, and nobody will.
    async fn abandoned(&self, digest: Digest, question: &watch::Sender<Option<ApprovalOutcome>>) {
        loop {
            question.closed().await;
            sleep(RETRY_GRACE).await;
            let mut questions = self.lock();
            if question.receiver_count() == 0 {
                questions.remove(&digest);
                return;
            }
        }
    }

    async fn talk(&self, held: Held) -> ApprovalOutcome {
        let request = match question_name() {
            Ok(request) => request,
            Err(error) => return ApprovalOutcome::Refused(None, format!("nobody can be asked about it: {error}")),
        };
        let held = match Held::new(Held { request, ..held }) {
            Ok(held) => held,
            Err(error) => return ApprovalOutcome::Refused(None, format!("nobody can be asked about it: {error}")),
        };
        let mut last = None;
        match self.call(held, &mut last).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!("nobody decided about a held request: {error}");
                ApprovalOutcome::Refused(last, "there is nobody to ask: supervise does not answer".to_owned())
            }
        }
    }

    async fn call(&self, held: Held, last: &mut Option<ProposalId>) -> io::Result<ApprovalOutcome> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let mut line = serde_json::to_vec(&Call::Hold(held))?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answers = BufReader::new(stream.take(MAX_LINE_BYTES));
        loop {
            let mut line = String::new();
            if answers.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match serde_json::from_str(&line)? {
                Holding::Waits { id } => *last = Some(id),
                Holding::Approved { id, by } => {
                    tracing::info!("{id}: {by} lets the held request go");
                    return Ok(ApprovalOutcome::Approved(id));
                }
                Holding::Refused { id, why } => return Ok(ApprovalOutcome::Refused(id, why)),
            }
        }
    }
}

/// Another one for each request: what tells two questions apart says nothing about what was found.
fn question_name() -> Result<String, Error> {
    Ok(hex::encode(random_bytes::<8>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_have_the_same_name() {
        let names: std::collections::BTreeSet<String> = (0..1000).map(|_| question_name().expect("a name")).collect();
        assert!(names.len() == 1000 && names.iter().all(|question_name| question_name.len() == 16), "{names:?}");
    }
}
