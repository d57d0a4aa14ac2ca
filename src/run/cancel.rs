//! What ends a run before its end: SIGINT and SIGTERM, or somebody's word at the forge. The first one ends it in good order,
//! further ones are told to wait.

use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Code, Failure};

/// Whether, and why, the run was cancelled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancel {
    token: CancellationToken,
    why: Arc<OnceLock<(Failure, bool)>>,
}

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

    /// Whether the run was ended by one who gives it the time to put its things away; a job's runner kills after seconds.
    pub(crate) fn leaves_time(&self) -> bool {
        self.why.get().is_some_and(|(_, hurried)| !hurried)
    }

    /// Ends when the run is to end.
    pub(crate) async fn requested(&self) -> Failure {
        self.token.cancelled().await;
        self.why.get().map_or_else(|| Failure::new(Code::Terminated, "cancelled"), |(failure, _)| failure.clone())
    }
}
