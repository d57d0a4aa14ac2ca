//! The cancellation of a run by SIGINT, by SIGTERM, or by somebody's word at the forge. The first one ends it in good order,
//! further ones are told to wait.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio_util::sync::CancellationToken;

use crate::exit::{Code, Failure};

/// The cancellation of a run, with its reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancel {
    token: CancellationToken,
    why: Arc<OnceLock<(Failure, bool)>>,
    held: Arc<RwLock<()>>,
}

/// How long a run that is to end waits for what has to be said before: a job's runner kills it after 7.5 s.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(3);

impl Cancel {
    /// Listens from here on.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let cancel = Self::default();
        for (kind, code, name) in [
            (SignalKind::interrupt(), Code::Interrupted, "SIGINT"),
            (SignalKind::terminate(), Code::Terminated, "SIGTERM"),
        ] {
            let mut signals = signal(kind)
                .map_err(|error| Failure::machine(format_args!("failed to listen for signals: {error}")))?;
            let cancel = cancel.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    if !cancel.set(Failure::new(code, format_args!("cancelled by {name}")), true) {
                        tracing::warn!("already stopping: collecting the logs and removing the bottle");
                    }
                }
            });
        }
        Ok(cancel)
    }

    /// Ends the run, if nothing has ended it yet; nobody kills it soon.
    pub(crate) fn end(&self, why: Failure) {
        self.set(why, false);
    }

    fn set(&self, why: Failure, hurried: bool) -> bool {
        let first = self.why.set((why, hurried)).is_ok();
        self.token.cancel();
        first
    }

    /// True if the run was ended by one who gives it the time to put its things away; a job's runner kills after seconds.
    pub(crate) fn leaves_time(&self) -> bool {
        self.why.get().is_some_and(|(_, hurried)| !hurried)
    }

    /// Ends when the run is to end.
    pub(crate) async fn requested(&self) -> Failure {
        self.token.cancelled().await;
        self.why.get().map_or_else(|| Failure::new(Code::Terminated, "cancelled"), |(failure, _)| failure.clone())
    }

    /// Keeps [`Cancel::due`] from ending, for a moment: somebody has to be told that the run ends.
    pub(crate) async fn hold(&self) -> OwnedRwLockReadGuard<()> {
        self.held.clone().read_owned().await
    }

    /// Ends when the run is to end, and who holds it back has said what there was to say.
    pub(crate) async fn due(&self) -> Failure {
        let failure = self.requested().await;
        // Late is said nothing at all: the bottle must be gone before this process is.
        let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, self.held.write()).await;
        failure
    }
}
