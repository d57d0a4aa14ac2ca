//! A daemon's life: its runtime, and the signals that end it or make it read its policy again.

use std::future::Future;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::common::Error;

/// A door's threads that serve. A request goes from task to task; with a second thread each step would wake it, to find the work done or to
/// take it away: a third more processor time for a small request. One has time for 25,000 of those, or a gigabyte, in a second.
const WORKERS: usize = 1;

/// Runs a daemon until SIGTERM or SIGINT, which end it at once with success. `start` makes what it needs and gives the
/// work that goes on, and what to do at SIGHUP.
pub(crate) fn daemon<S, W, R>(start: S) -> ExitCode
where
    S: AsyncFnOnce() -> Result<(W, R), Error>,
    W: Future<Output = ()> + Send + 'static,
    R: Fn(),
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("failed to start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
        let (Ok(mut term), Ok(mut int), Ok(mut hup)) = signals else {
            tracing::error!("failed to listen for signals");
            return ExitCode::FAILURE;
        };
        let (work, reload) = match start().await {
            Ok(started) => started,
            Err(error) => {
                tracing::error!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let mut work = tokio::spawn(work);
        loop {
            tokio::select! {
                _ = term.recv() => return ExitCode::SUCCESS,
                _ = int.recv() => return ExitCode::SUCCESS,
                _ = hup.recv() => reload(),
                _ = &mut work => {
                    tracing::error!("stopped listening");
                    return ExitCode::FAILURE;
                }
            }
        }
    });
    runtime.shutdown_background();
    code
}
