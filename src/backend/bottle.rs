//! A launched bottle and its verbs, and running a command in it to its end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, select_all};
use tokio::sync::{mpsc, oneshot};

use super::Tree;
use crate::exit::Failure;
use crate::secrets::Secrets;

/// A side of the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The running agent environment.
    Guest,
    /// The sidecars.
    Bundle,
    /// A service, by its place in the plan.
    Service(usize),
}

/// The user that runs a command in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecUser {
    /// The agent's user.
    Agent,
    /// User 0 without capabilities: before the agent starts, to set up what it must not change.
    Root,
}

/// A command in a bottle. It inherits the environment of its side.
#[derive(Debug, Clone)]
pub(crate) struct Exec {
    pub(crate) side: Side,
    pub(crate) user: ExecUser,
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: Option<Vec<u8>>,
}

impl Exec {
    /// A command of the agent's user in the guest.
    pub(crate) fn guest<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            side: Side::Guest,
            user: ExecUser::Agent,
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: None,
            env: vec![],
            stdin: None,
        }
    }

    /// A shell script of the agent's user in the guest.
    pub(crate) fn shell(script: &str) -> Self {
        Self::guest(["sh", "-c", script])
    }

    pub(crate) fn by_root(mut self) -> Self {
        self.user = ExecUser::Root;
        self
    }

    pub(crate) fn in_dir(mut self, dir: &str) -> Self {
        self.cwd = Some(dir.to_owned());
        self
    }
}

/// A piece of a command's output.
#[derive(Debug, Clone)]
pub(crate) enum OutputChunk {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// A running command: its output as it comes, then its exit code.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) output: mpsc::Receiver<OutputChunk>,
    pub(crate) code: oneshot::Receiver<Result<i64, BottleError>>,
}

/// A command that ended.
#[derive(Debug, Clone)]
pub(crate) struct ExecResult {
    pub(crate) code: i64,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl ExecResult {
    /// Both streams as text, standard output first.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&self.stderr));
        text
    }
}

/// What a backend's verbs fail with.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum BottleError {
    #[error("{doing}: {reason}")]
    Backend { doing: String, reason: String },
    #[error("`{command}` did not end within {} s", limit.as_secs())]
    Slow { command: String, limit: Duration },
}

impl BottleError {
    pub(crate) fn new(doing: impl std::fmt::Display, reason: impl std::fmt::Display) -> Self {
        Self::Backend { doing: doing.to_string(), reason: reason.to_string() }
    }
}

/// A bottle: planned, or running.
pub(crate) trait Bottle: Send + Sync {
    /// Starts the guest and the bundle, with the secrets in the bundle alone. What was started is still there after a
    /// failure, for the logs and the teardown. Gives what a person may like to know of how it was done.
    fn up<'a>(&'a self, secrets: &'a Secrets) -> BoxFuture<'a, Result<Vec<String>, Failure>>;
    /// Waits until the sidecars say that their doors are open, where the backend hears it. It spares asking for what can't be
    /// there yet, and proves nothing.
    fn opened(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
    /// Ends when a part has died that a launched bottle can't do without; which, and how.
    fn died(&self) -> BoxFuture<'_, String>;
    /// Starts a command.
    fn exec(&self, exec: Exec) -> BoxFuture<'_, Result<Running, BottleError>>;
    /// Puts files in place, parents included, with owner and mode as given.
    fn copy_in(&self, side: Side, tree: Tree) -> BoxFuture<'_, Result<(), BottleError>>;
    /// Reads a file or everything below a directory; `None` where there is nothing.
    fn copy_out<'a>(&'a self, side: Side, path: &'a str) -> BoxFuture<'a, Result<Option<Tree>, BottleError>>;
    /// What a service has printed last, on one line; nothing where that can't be had.
    fn last_words(&self, service: usize) -> BoxFuture<'_, String>;
    /// Whether this machine has objects of the upstream from earlier runs, which the gate reads.
    fn has_kept_mirror(&self) -> bool {
        false
    }
    /// Once the guest has its repository, or failed to get it: keeps for later runs what the gate's mirror has, or forgets what was kept.
    fn keep_mirror(&self, _works: bool) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
    /// Waits until that is kept, and not for long; what is not kept when the bottle is removed is given up.
    fn mirror_kept(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
    /// Sends a signal to every process of the agent's user in the guest.
    fn signal(&self, signal: &'static str) -> BoxFuture<'_, Result<(), BottleError>>;
    /// How long something may take in here that takes this long elsewhere: a machine under emulation is slow.
    fn patience(&self, limit: Duration) -> Duration {
        limit
    }
    /// Addresses of the host at which the guest must not reach anything, as this backend knows them.
    fn host_addresses(&self) -> BoxFuture<'_, Result<Vec<std::net::IpAddr>, BottleError>>;
    /// Where the guest's own system lies among the host's mounts, where it is bound from there: for the self-test, which lets
    /// nothing else of the host be mounted.
    fn own_system(&self) -> BoxFuture<'_, Result<Option<String>, Failure>> {
        async { Ok(None) }.boxed()
    }
    /// What tells the guest's system from another: what one has built need not work in the other.
    fn system_id(&self) -> BoxFuture<'_, Result<String, BottleError>>;
    /// The sidecars' and the guest's own logs.
    fn logs(&self) -> BoxFuture<'_, Result<Vec<u8>, BottleError>>;
    /// Removes everything of this bottle; what is gone already is fine.
    fn tear_down(&self) -> BoxFuture<'_, Result<(), BottleError>>;
}

/// The first of these that ends; none of none does.
pub(super) async fn any(all: impl Iterator<Item = impl Future<Output = String>>) -> String {
    let all: Vec<_> = all.map(Box::pin).collect();
    if all.is_empty() { std::future::pending().await } else { select_all(all).await.0 }
}

/// So many lines say why a service has ended.
const LAST_LINES: usize = 5;
/// No longer is what they say.
const LAST_BYTES: usize = 600;

/// The last lines of what was printed, as one, without what is not for reading.
pub(super) fn last_lines(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let all = lines[lines.len().saturating_sub(LAST_LINES)..].join("; ");
    let all: String = all.chars().filter(|c| !c.is_control()).collect();
    let from = (all.len().saturating_sub(LAST_BYTES)..).find(|at| all.is_char_boundary(*at)).unwrap_or(all.len());
    all[from..].to_owned()
}

/// The most that is kept of a command's output.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// Runs a command to its end; output past 4 MiB a stream is dropped. When the time is up, the agent's processes are
/// killed.
pub(crate) async fn finish(bottle: &dyn Bottle, exec: Exec, limit: Duration) -> Result<ExecResult, BottleError> {
    let command = exec.argv.join(" ");
    let limit = bottle.patience(limit);
    let work = async {
        let mut running = bottle.exec(exec).await?;
        let mut done = ExecResult { code: -1, stdout: vec![], stderr: vec![] };
        while let Some(output) = running.output.recv().await {
            let (kept, bytes) = match &output {
                OutputChunk::Stdout(bytes) => (&mut done.stdout, bytes),
                OutputChunk::Stderr(bytes) => (&mut done.stderr, bytes),
            };
            let space = MAX_OUTPUT_BYTES.saturating_sub(kept.len()).min(bytes.len());
            kept.extend_from_slice(&bytes[..space]);
        }
        done.code = running
            .code
            .await
            .map_err(|_| BottleError::new("failed to learn the exit code", "the engine went away"))??;
        Ok(done)
    };
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => {
            bottle.signal("KILL").await?;
            Err(BottleError::Slow { command, limit })
        }
    }
}

/// [`finish`], with an error where the command did not end with 0.
pub(crate) async fn succeed(bottle: &dyn Bottle, exec: Exec, limit: Duration) -> Result<ExecResult, BottleError> {
    let command = exec.argv.join(" ");
    let done = finish(bottle, exec, limit).await?;
    if done.code == 0 {
        return Ok(done);
    }
    Err(BottleError::new(format_args!("`{command}` ended with {}", done.code), done.text().trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_service_are_one_short_line() {
        assert_eq!(last_lines(b"one\n\n two \r\n\x1b[31mthree\x07\n"), "one; two; [31mthree");
        assert_eq!(last_lines(b"1\n2\n3\n4\n5\n6\n"), "2; 3; 4; 5; 6");
        assert_eq!(last_lines(b" \n"), "");
        let long = last_lines("é".repeat(10_000).as_bytes());
        assert!(long.len() <= LAST_BYTES && long.starts_with('é'), "{}", long.len());
    }
}
