//! SIGINT and SIGTERM: the first one ends the run in good order, further ones are told to wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Code, Failure};

/// Whether, and by which signal, the run was cancelled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancel {
    token: CancellationToken,
    code: Arc<AtomicU8>,
}

impl Cancel {
    /// Listens from here on.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let cancel = Self::default();
        for (kind, code) in [(SignalKind::interrupt(), Code::Interrupted), (SignalKind::terminate(), Code::Terminated)]
        {
            let mut signals = signal(kind)
                .map_err(|error| Failure::machine(format_args!("failed to listen for signals: {error}")))?;
            let cancel = cancel.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    if cancel.code.compare_exchange(0, code as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                        cancel.token.cancel();
                    } else {
                        tracing::warn!("already stopping: collecting the logs and removing the bottle");
                    }
                }
            });
        }
        Ok(cancel)
    }

    /// Ends when a signal has come.
    pub(crate) async fn requested(&self) -> Failure {
        self.token.cancelled().await;
        if self.code.load(Ordering::SeqCst) == Code::Interrupted as u8 {
            Failure::new(Code::Interrupted, "cancelled by SIGINT")
        } else {
            Failure::new(Code::Terminated, "cancelled by SIGTERM")
        }
    }
}
