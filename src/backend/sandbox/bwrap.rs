//! One sandbox: bwrap around the link, which is its first process and runs commands in it.
//!
//! The link gets a listening unix socket as standard input: whoever may enter the run's directory on the host can send
//! commands, nobody inside can.

use std::ffi::OsString;
use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::process_id::ProcessId;
use crate::backend::{BottleError, Exec, OutputChunk, Running};
use crate::process::{ChildGuard, Program};

/// After a command has ended, how long something that it left behind may hold its output open.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// What bwrap is told.
#[derive(Debug, Clone, Default)]
pub(in crate::backend) struct BwrapOptions {
    /// bwrap's own options.
    pub(in crate::backend) args: Vec<String>,
    /// Directories of the host that are bound read-only where they are, after everything else.
    pub(in crate::backend) lent: Vec<String>,
    /// Seccomp programs.
    pub(in crate::backend) filters: Vec<PathBuf>,
    /// Control groups to join.
    pub(in crate::backend) groups: Vec<PathBuf>,
    /// Another user on the host.
    pub(in crate::backend) user: Option<u32>,
    /// The link, which is the step before bwrap.
    pub(in crate::backend) link: PathBuf,
    /// Where bwrap says which process the first one is.
    pub(in crate::backend) info: Option<PathBuf>,
    /// Ports of a service inside, each with the unix socket that is made for it here and that the link inside listens on.
    pub(in crate::backend) served: Vec<(u16, PathBuf)>,
}

impl BwrapOptions {
    pub(in crate::backend) fn add(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    pub(in crate::backend) fn bind(&mut self, how: &str, from: &Path, to: &str) {
        let from = from.display().to_string();
        self.add(&[how, &from, to]);
    }

    /// The whole command, by way of a step that joins the groups, opens what is passed by number, and becomes the user.
    pub(in crate::backend) fn command(&self, inner: &[String]) -> Program {
        let mut words = vec![self.link.clone().into_os_string(), "outside".into()];
        let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
        for group in &self.groups {
            option("--join", super::cgroup::entry(group).into());
        }
        let mut bwrap = vec!["bwrap".to_owned()];
        bwrap.extend(self.args.iter().cloned());
        bwrap.extend(self.lent.iter().flat_map(|dir| ["--ro-bind".to_owned(), dir.clone(), dir.clone()]));
        let mut number = 3..;
        let mut numbered = |name: &str| bwrap.extend([name.to_owned(), number.next().unwrap_or_default().to_string()]);
        if let Some(info) = &self.info {
            option("--write", info.into());
            numbered("--info-fd");
        }
        for filter in &self.filters {
            option("--read", filter.into());
            numbered("--add-seccomp-fd");
        }
        let mut inner = inner.to_vec();
        for ((port, socket), number) in self.served.iter().zip(number) {
            option("--bind", socket.into());
            inner.extend(["--serve-fd".to_owned(), format!("{port}={number}")]);
        }
        if let Some(user) = self.user {
            option("--user", user.to_string().into());
        }
        bwrap.push("--".to_owned());
        bwrap.extend(inner);
        words.push("--".into());
        words.extend(bwrap.into_iter().map(OsString::from));
        Program::new(words)
    }
}

/// How long a sandbox may take until it answers: tens of milliseconds, and tens of seconds where a hundred start at once. One that can't be made
/// ends, and is not waited for.
const MADE_TIMEOUT: Duration = Duration::from_secs(60);

/// A sandbox by its socket; it need not run yet.
#[derive(Debug, Clone)]
pub(in crate::backend) struct Sandbox {
    pub(in crate::backend) socket: PathBuf,
    pub(in crate::backend) log: PathBuf,
}

fn failed(reason: &dyn std::fmt::Display) -> BottleError {
    BottleError::new("failed to start the sandbox", reason)
}

impl Sandbox {
    /// Starts it. `log` takes what its first process prints.
    pub(in crate::backend) fn start(
        &self,
        options: &BwrapOptions,
        inner: &[String],
        log: File,
    ) -> Result<ChildGuard, BottleError> {
        let listener = UnixListener::bind(&self.socket).map_err(|error| failed(&error))?;
        options.command(inner).keep(OwnedFd::from(listener), log).map_err(|error| failed(&error))
    }

    /// Waits until it is made; its first process, as `info` has it from bwrap.
    pub(in crate::backend) async fn made(&self, info: &Path) -> Result<ProcessId, BottleError> {
        // It answers as soon as its first process runs, which then has its number in the file. No command is a question.
        let answered = async {
            let done = self.exec(Exec::guest(Vec::<String>::new())).await?;
            done.code.await.map_err(|_| failed(&"it went away"))?
        };
        let code = tokio::time::timeout(MADE_TIMEOUT, answered).await;
        let log_text = || std::fs::read_to_string(&self.log).unwrap_or_default().trim().to_owned();
        match code {
            Ok(Ok(0)) => {}
            Ok(Ok(code)) => return Err(failed(&format_args!("it answers with {code}: {}", log_text()))),
            Ok(Err(error)) => {
                let log_text = log_text();
                return Err(if log_text.is_empty() { error } else { failed(&log_text) });
            }
            Err(_) => {
                let (seconds, log_text) = (MADE_TIMEOUT.as_secs(), log_text());
                return Err(failed(&format_args!(
                    "it does not answer within {seconds} s; the machine may have too much to do: {log_text}"
                )));
            }
        }
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(info).unwrap_or_default())
            .ok()
            .and_then(|info| i32::try_from(info["child-pid"].as_i64()?).ok())
            .and_then(ProcessId::now)
            .ok_or_else(|| failed(&"bwrap did not say which process it is"))
    }

    /// Ends with its first process: a question that is never asked is open until then.
    pub(in crate::backend) async fn ended(&self) {
        if let Ok(mut stream) = UnixStream::connect(&self.socket).await {
            let _ = stream.read(&mut [0]).await;
        }
    }

    /// Starts a command in it, as the user that the sandbox has.
    pub(in crate::backend) async fn exec(&self, exec: Exec) -> Result<Running, BottleError> {
        let command = exec.argv.first().cloned().unwrap_or_default();
        let failed = |error: &dyn std::fmt::Display| {
            BottleError::new(format_args!("failed to run `{command}` in the bottle"), error)
        };
        let io = |error: std::io::Error| failed(&error);
        let mut stream = UnixStream::connect(&self.socket).await.map_err(io)?;
        let (stdin, feed) = match &exec.stdin {
            Some(_) => {
                let (reader, writer) = std::io::pipe().map_err(io)?;
                (OwnedFd::from(reader), Some(pipe::Sender::from_owned_fd(writer.into()).map_err(io)?))
            }
            None => (OwnedFd::from(File::open("/dev/null").map_err(io)?), None),
        };
        let (out, stdout) = std::io::pipe().map_err(io)?;
        let (err, stderr) = std::io::pipe().map_err(io)?;
        let out = pipe::Receiver::from_owned_fd(out.into()).map_err(io)?;
        let err = pipe::Receiver::from_owned_fd(err.into()).map_err(io)?;
        let request = request(&exec);
        stream.writable().await.map_err(io)?;
        pass(&stream, request.len(), &[stdin, stdout.into(), stderr.into()]).map_err(|error| failed(&error))?;
        stream.write_all(&request).await.map_err(io)?;
        let (sender, output) = mpsc::channel(64);
        let (code_sender, code) = oneshot::channel();
        let feed = async move {
            if let (Some(mut feed), Some(bytes)) = (feed, exec.stdin) {
                // A command that does not read to the end has ended; its exit code says how.
                let _ = feed.write_all(&bytes).await;
            }
        };
        tokio::spawn(async move {
            let _ = code_sender.send(attend(stream, feed, out, err, sender).await);
        });
        Ok(Running { output, code })
    }
}

/// Sees a command to its end: what goes in, what comes out, and the exit code that the link answers with.
async fn attend(
    mut stream: UnixStream,
    feed: impl Future<Output = ()>,
    out: pipe::Receiver,
    err: pipe::Receiver,
    sender: mpsc::Sender<OutputChunk>,
) -> Result<i64, BottleError> {
    let count = AtomicU64::new(0);
    let relay = async {
        tokio::join!(relay(out, &sender, &count, OutputChunk::Stdout), relay(err, &sender, &count, OutputChunk::Stderr))
    };
    tokio::pin!(relay);
    let ended = async {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    let all = async { tokio::join!(feed, ended).1 };
    tokio::pin!(all);
    let (ended, relayed) = tokio::select! {
        ended = &mut all => (ended, false),
        _ = &mut relay => (all.await, true),
    };
    // What still comes, or waits for whoever reads, is waited for; what only holds the pipes open is not.
    let mut seen = None;
    while !relayed && tokio::time::timeout(LAST_OUTPUT, &mut relay).await.is_err() {
        let now = (count.load(Ordering::Relaxed), sender.capacity());
        if seen == Some(now) && sender.capacity() == sender.max_capacity() {
            break;
        }
        seen = Some(now);
    }
    let lost = || BottleError::new("failed to learn the exit code", "the sandbox went away");
    ended.map_err(|_| lost()).and_then(|answer| answer.trim().parse().map_err(|_| lost()))
}

/// A command as the link reads it, without the length before it.
fn request(exec: &Exec) -> Vec<u8> {
    let mut words = vec![exec.cwd.clone().unwrap_or_default(), exec.argv.len().to_string()];
    words.extend(exec.argv.iter().cloned());
    words.extend(exec.env.iter().map(|(name, value)| format!("{name}={value}")));
    words.into_iter().flat_map(|word| [word.into_bytes(), vec![0]].concat()).collect()
}

/// Sends the length of what follows, and the three descriptors with it.
fn pass(stream: &UnixStream, length: usize, fds: &[OwnedFd; 3]) -> rustix::io::Result<()> {
    let head = u32::try_from(length).map_err(|_| rustix::io::Errno::MSGSIZE)?.to_be_bytes();
    let fds = fds.each_ref().map(|fd| fd.as_fd());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(stream, &[IoSlice::new(&head)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

async fn relay(
    mut from: impl AsyncRead + Unpin,
    to: &mpsc::Sender<OutputChunk>,
    count: &AtomicU64,
    how: fn(bytes::Bytes) -> OutputChunk,
) {
    let mut buffer = bytes::BytesMut::with_capacity(64 << 10);
    loop {
        buffer.reserve(64 << 10);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                count.fetch_add(read as u64, Ordering::Relaxed);
                if to.send(how(buffer.split().freeze())).await.is_err() {
                    return;
                }
            }
        }
    }
}
