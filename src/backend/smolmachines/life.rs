//! Whether a machine still lives: its monitor's process, and what smolvm says of it. A command in a machine that has stopped would
//! go on until the run's time limit.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::cli::Smolvm;
use super::machine;
use crate::backend::sandbox::ProcessId;

/// How often the monitor is looked for: a glance at /proc.
const MONITOR_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How often smolvm is asked.
const STATUS_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// A machine that is busy may miss a question: so many in a row it may not.
const MOST_MISSED: u32 = 4;

/// What is known of a machine's end.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Why it is lost.
    lost: watch::Sender<Option<String>>,
    follower: Mutex<Option<AbortHandle>>,
}

impl Life {
    /// Follows a machine that has started, by its monitor's process id; all takes `slowness` times as long in it.
    pub(super) fn follow(&self, smolvm: &Smolvm, name: &str, monitor: i32, slowness: u32) {
        let (smolvm, name, lost) = (smolvm.clone(), name.to_owned(), self.lost.clone());
        let follower = tokio::spawn(async move {
            let why = tokio::select! {
                why = ended(monitor) => why,
                why = silent(&smolvm, &name, STATUS_POLL_INTERVAL * slowness) => why,
            };
            lost.send_replace(Some(why));
        });
        self.set(Some(follower.abort_handle()));
    }

    /// It may end now.
    pub(super) fn let_go(&self) {
        self.set(None);
    }

    fn set(&self, follower: Option<AbortHandle>) {
        let mut place = self.follower.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *place, follower) {
            before.abort();
        }
    }

    /// Ends when the machine is lost; why.
    pub(super) async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        // The sender is here, so this can't fail.
        lost.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()).unwrap_or_default()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Ends with the monitor.
async fn ended(monitor: i32) -> String {
    if let Some(process) = ProcessId::now(monitor) {
        while process.is_alive() {
            tokio::time::sleep(MONITOR_POLL_INTERVAL).await;
        }
    }
    format!("its monitor (process {monitor}) has ended")
}

/// Ends when smolvm has not called the machine running for several times.
async fn silent(smolvm: &Smolvm, name: &str, every: Duration) -> String {
    let mut missed = 0;
    loop {
        tokio::time::sleep(every).await;
        let why = match machine::status(smolvm, name).await {
            Ok(status) if status.state == "running" => {
                missed = 0;
                continue;
            }
            Ok(status) => format!("smolvm says that it is {}", status.state),
            Err(error) => format!("smolvm does not say how it is: {error}"),
        };
        missed += 1;
        if missed == MOST_MISSED {
            return why;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Program;

    #[tokio::test]
    async fn a_process_that_ends_is_noticed_and_one_that_lives_is_not() {
        let own_pid = i32::try_from(std::process::id()).expect("a number");
        assert!(tokio::time::timeout(MONITOR_POLL_INTERVAL * 3, ended(own_pid)).await.is_err());
        let stdout = Program::new(["sh", "-c", "sleep 1 >/dev/null & echo $!"]).run().await.expect("a process").stdout;
        let child = String::from_utf8_lossy(&stdout).trim().parse().expect("a number");
        assert_eq!(ended(child).await, format!("its monitor (process {child}) has ended"));
    }
}
