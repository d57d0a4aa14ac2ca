//! The one place that starts processes on the host: `docker compose`, `git`, `bwrap`, `smolvm`, package managers, an editor, and the
//! commands that print credentials.
//!
//! Every call has a time limit but for what is kept, a child never outlives its caller, and what it printed comes back
//! whole.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::mpsc;

/// A program to run on the host.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) argv: Vec<OsString>,
    /// Variables on top of the caller's.
    pub(crate) env: Vec<(String, OsString)>,
    /// Variables taken away.
    pub(crate) without: Vec<&'static str>,
    pub(crate) limit: Duration,
    /// Its standard input; none: empty.
    input: Vec<u8>,
    /// Where it starts; none: where this program is.
    dir: Option<PathBuf>,
    /// Whether it has no variables but those of `env`.
    bare: bool,
}

/// How it ended.
#[derive(Debug, Clone)]
pub(crate) struct ExitOutput {
    /// The exit code; 128 + n for a signal.
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl ExitOutput {
    /// Standard error as text without the white space around it.
    pub(crate) fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// Why there is no ending.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("failed to run `{program}`: {error}")]
    Start { program: String, error: std::io::Error },
    #[error("`{program}` did not end within {} s", limit.as_secs())]
    Slow { program: String, limit: Duration },
}

impl Program {
    pub(crate) fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: vec![],
            without: vec![],
            limit: Duration::from_secs(60),
            input: vec![],
            dir: None,
            bare: false,
        }
    }

    /// `git -C dir …`, with no configuration but the checkout's own and nobody to ask.
    pub(crate) fn git(dir: &std::path::Path, args: &[&str]) -> Self {
        let mut argv: Vec<OsString> = [
            // Another user's checkout is read, and nothing that its configuration names is run.
            "-c",
            "safe.directory=*",
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
            // A directory of the tree that looks like a repository is none: a change can bring one along.
            "-c",
            "safe.bareRepository=explicit",
            "-C",
        ]
        .map(Into::into)
        .to_vec();
        argv.insert(0, "git".into());
        argv.push(dir.into());
        argv.extend(args.iter().map(Into::into));
        let mut program = Self::new(argv);
        program.env = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_GRAFT_FILE", "/dev/null/none"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("LC_ALL", "C"),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .to_vec();
        program.without = vec![
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
            "GIT_OBJECT_DIRECTORY",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES",
            "GIT_COMMON_DIR",
            "GIT_NAMESPACE",
            "GIT_CONFIG_PARAMETERS",
            "GIT_CONFIG_COUNT",
        ];
        program
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Leaves the processors to whoever else wants them, by nice(1).
    pub(crate) fn low_priority(mut self) -> Self {
        self.argv.splice(0..0, ["nice", "-n", "10"].map(Into::into));
        self
    }

    pub(crate) fn in_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    pub(crate) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// Runs it on the caller's own terminal, for as long as the person there likes; its exit code.
    pub(crate) async fn interactive(self) -> Result<i32, ProcessError> {
        let name = self.name();
        let start = |error| ProcessError::Start { program: name.clone(), error };
        let (program, args) = self.argv.split_first().ok_or_else(|| start(std::io::ErrorKind::InvalidInput.into()))?;
        #[expect(clippy::disallowed_methods, reason = "this is the module that starts processes")]
        let status = Command::new(program).args(args).status().await.map_err(start)?;
        Ok(status.code().unwrap_or(-1))
    }

    fn name(&self) -> String {
        self.argv.iter().take(3).map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn command(&self) -> std::io::Result<Command> {
        let (program, args) = self.argv.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        #[expect(clippy::disallowed_methods, reason = "this is the module that starts processes")]
        let mut command = Command::new(program);
        command.args(args).kill_on_drop(true);
        // A Ctrl-C in the terminal is ours to handle: the child must finish what we asked of it, the teardown above all.
        command.process_group(0);
        if self.bare {
            command.env_clear();
        }
        for variable in &self.without {
            command.env_remove(variable);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        Ok(command)
    }

    /// Starts it and lets it run: until it is ended, or what is returned goes.
    pub(crate) fn keep(self, stdin: OwnedFd, log: File) -> Result<ChildGuard, ProcessError> {
        let start = |error| ProcessError::Start { program: self.name(), error };
        let mut command = self.command().map_err(start)?;
        command.stdin(stdin).stdout(log.try_clone().map_err(start)?).stderr(log);
        command.spawn().map(ChildGuard).map_err(start)
    }

    /// Starts it, to give what it prints as it comes.
    pub(crate) fn pipes(self) -> Result<PipedChild, ProcessError> {
        let start = |error| ProcessError::Start { program: self.name(), error };
        let mut command = self.command().map_err(start)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(start)?;
        Ok(PipedChild { child, program: self })
    }

    /// Takes every variable away but those of `env`.
    pub(crate) fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Runs it to its end, and gives what it prints; none: that is more than `max` bytes. What it complains of is dropped, and all that it
    /// has started ends with it.
    pub(crate) async fn print(self, max: usize) -> Result<Option<ExitOutput>, ProcessError> {
        let name = self.name();
        let start = |error| ProcessError::Start { program: name.clone(), error };
        let mut command = self.command().map_err(start)?;
        let stdin = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(start)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that ends before it has read all says why by its exit code.
                let _ = stdin.write_all(&self.input).await;
            }
        };
        let group = GroupGuard(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)));
        let out = child.stdout.take();
        let ended = async {
            let mut stdout = vec![];
            if let Some(out) = out {
                // A byte more shows that there is more.
                let mut out = out.take(max as u64 + 1);
                tokio::join!(feed, out.read_to_end(&mut stdout)).1.map_err(start)?;
            }
            if stdout.len() > max {
                return Ok(None);
            }
            let status = child.wait().await.map_err(start)?;
            Ok(Some(ExitOutput { code: exit_code(status), stdout, stderr: vec![] }))
        };
        let ended = tokio::time::timeout(self.limit, ended).await;
        drop(group);
        ended.unwrap_or_else(|_| Err(ProcessError::Slow { program: name.clone(), limit: self.limit }))
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Result<ExitOutput, ProcessError> {
        let name = self.name();
        let start = |error| ProcessError::Start { program: name.clone(), error };
        let mut command = self.command().map_err(start)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(start)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that ends before it has read all says why by its exit code.
                let _ = stdin.write_all(&self.input).await;
            }
        };
        let ended = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(self.limit, ended)
            .await
            .map_err(|_| ProcessError::Slow { program: name.clone(), limit: self.limit })?
            .map_err(start)?;
        Ok(ExitOutput { code: exit_code(output.status), stdout: output.stdout, stderr: output.stderr })
    }
}

/// A group of processes; it is killed when this goes.
struct GroupGuard(Option<Pid>);

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // A group without a process any more has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A process that runs beside us; it is killed when this goes.
#[derive(Debug)]
pub(crate) struct ChildGuard(tokio::process::Child);

impl ChildGuard {
    /// Kills it, if it has not ended, and waits for its end.
    pub(crate) async fn end(&mut self) {
        // What has ended already can't be killed, and has ended.
        let _ = self.0.kill().await;
    }
}

/// A process whose output is read as it comes; it is killed when this goes.
#[derive(Debug)]
pub(crate) struct PipedChild {
    child: tokio::process::Child,
    program: Program,
}

impl PipedChild {
    /// Feeds it, sends on what it prints until nobody listens any more, and gives its exit code.
    pub(crate) async fn relay<T>(
        mut self,
        to: &mpsc::Sender<T>,
        stdout: fn(Bytes) -> T,
        stderr: fn(Bytes) -> T,
    ) -> Result<i32, ProcessError> {
        let (stdin, out, err) = (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let input = std::mem::take(&mut self.program.input);
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that ends before it has read all says why by its exit code.
                let _ = stdin.write_all(&input).await;
            }
        };
        let ended =
            async { tokio::join!(feed, pass_on(out, to, stdout), pass_on(err, to, stderr), self.child.wait()).3 };
        let (name, limit) = (self.program.name(), self.program.limit);
        let status = tokio::time::timeout(limit, ended)
            .await
            .map_err(|_| ProcessError::Slow { program: name.clone(), limit })?
            .map_err(|error| ProcessError::Start { program: name, error })?;
        Ok(exit_code(status))
    }
}

async fn pass_on<T>(from: Option<impl AsyncRead + Unpin>, to: &mpsc::Sender<T>, how: fn(Bytes) -> T) {
    let Some(mut from) = from else { return };
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        buffer.reserve(64 << 10);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            // Nobody listens: what still comes is dropped, so that the process is not held up.
            Ok(_) => drop(to.send(how(buffer.split().freeze())).await),
        }
    }
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}
