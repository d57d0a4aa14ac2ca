//! The one place where the gate spawns: a hermetic environment, and an end in time.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// No clone and no push takes longer; a connection that does is stuck.
pub(super) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// Longest output that is read of a process: one that says more is broken or hostile.
const MAX_OUTPUT_BYTES: usize = 512 << 20;

/// Why a process gave no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChildError {
    #[error("failed to start {0}: {1}")]
    Start(String, io::Error),
    #[error("{0} took longer than {1} s")]
    Slow(String, u64),
    #[error("{0} made no progress for {1} s")]
    Silent(String, u64),
    #[error("{0} said more than the gate takes")]
    Loud(String),
    #[error("failed to wait for {0}: {1}")]
    Wait(String, io::Error),
}

/// How long a process may take, and how long it may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessLimits {
    pub(super) total: Duration,
    pub(super) silence: Duration,
}

impl ProcessLimits {
    /// Work on this machine alone.
    pub(super) fn local() -> Self {
        Self::seconds(600, 600)
    }

    pub(super) const fn seconds(total: u64, silence: u64) -> Self {
        Self { total: Duration::from_secs(total), silence: Duration::from_secs(silence) }
    }
}

/// Exit status and output of a process.
#[derive(Debug)]
pub(super) struct ChildOutput {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// A variable of this process's own environment.
#[expect(clippy::disallowed_methods, reason = "the gate's own one place: src/host/env.rs is the host side's")]
pub(super) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// A program with nothing of this process's environment but PATH.
#[expect(clippy::disallowed_methods, reason = "the gate's own one place: src/process.rs is the host side's")]
pub(super) fn program(name: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .env_clear()
        .env("PATH", variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()))
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

/// git, with no configuration but the repository's own.
pub(super) fn git(home: &Path) -> Command {
    let mut command = program("git", home);
    command
        .env("XDG_CONFIG_HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "/bin/false")
        .env("SSH_ASKPASS", "/bin/false")
        .env("GIT_ALLOW_PROTOCOL", "ssh:https");
    command
}

/// A process's name in messages: the program and its first words, which never hold a secret.
fn title(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let first = command.get_args().map(OsStr::to_string_lossy).find(|arg| arg.starts_with(|c: char| c.is_alphabetic()));
    first.map_or(name.clone(), |first| format!("{name} {first}"))
}

enum OutputPart {
    Bytes(bool, Vec<u8>),
    End,
}

/// Runs a process to its end, or ends it when a limit is reached.
pub(super) fn run(
    mut command: Command,
    input: Option<Vec<u8>>,
    limits: ProcessLimits,
) -> Result<ChildOutput, ChildError> {
    let title = title(&command);
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| ChildError::Start(title.clone(), error))?;
    let (send, parts) = channel();
    if let Some(pipe) = child.stdout.take() {
        read_from(pipe, false, send.clone());
    }
    if let Some(pipe) = child.stderr.take() {
        read_from(pipe, true, send);
    }
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // A process that ends before it has read all says why by its exit code.
        thread::spawn(move || pipe.write_all(&input));
    }
    let result = follow(&mut child, &parts, limits, &title);
    if result.is_err() {
        end(&mut child);
    }
    result
}

fn read_from(mut pipe: impl Read + Send + 'static, is_stderr: bool, send: Sender<OutputPart>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            if send.send(OutputPart::Bytes(is_stderr, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
        let _ = send.send(OutputPart::End);
    });
}

fn follow(
    child: &mut Child,
    parts: &Receiver<OutputPart>,
    limits: ProcessLimits,
    title: &str,
) -> Result<ChildOutput, ChildError> {
    let deadline = Instant::now() + limits.total;
    let (mut stdout, mut stderr, mut open) = (vec![], vec![], 2);
    while open > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        match parts.recv_timeout(left.min(limits.silence)) {
            Ok(OutputPart::Bytes(is_stderr, bytes)) => {
                if is_stderr { &mut stderr } else { &mut stdout }.extend_from_slice(&bytes);
                if stdout.len() + stderr.len() > MAX_OUTPUT_BYTES {
                    return Err(ChildError::Loud(title.to_owned()));
                }
            }
            Ok(OutputPart::End) => open -= 1,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if limits.silence < left => {
                return Err(ChildError::Silent(title.to_owned(), limits.silence.as_secs()));
            }
            Err(RecvTimeoutError::Timeout) => {
                return Err(ChildError::Slow(title.to_owned(), limits.total.as_secs()));
            }
        }
    }
    loop {
        let ended = child.try_wait().map_err(|error| ChildError::Wait(title.to_owned(), error))?;
        if let Some(status) = ended {
            return Ok(ChildOutput { status, stdout, stderr });
        }
        if Instant::now() > deadline {
            return Err(ChildError::Slow(title.to_owned(), limits.total.as_secs()));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Asks a process to end, so that git can end its own children, then ends it.
fn end(child: &mut Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    for _ in 0..50 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Runs a local git command; its stdout, or its name and what it said.
pub(super) fn git_ok(command: Command, input: Option<Vec<u8>>) -> Result<Vec<u8>, String> {
    let title = title(&command);
    let output = run(command, input, ProcessLimits::local()).map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{title} failed: {}", last_words(&output.stderr)))
    }
}

/// The last lines of a program's stderr, in one line fit for a terminal.
pub(super) fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines: Vec<String> = text
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty() && !is_progress(line))
        .map(|line| printable(line).to_string())
        .collect();
    let skip = lines.len().saturating_sub(4);
    let words = lines.split_off(skip).join("; ");
    if words.is_empty() { "it did not say why".to_owned() } else { words.chars().take(600).collect() }
}

/// Tells whether a line is only about how far git has come.
pub(super) fn is_progress(line: &str) -> bool {
    let remote = line.strip_prefix("remote: ");
    // git's own line about each ref that went well; `!` begins the others.
    if remote.is_none() && (line.starts_with("From ") || (line.contains(" -> ") && !line.starts_with('!'))) {
        return true;
    }
    let line = remote.unwrap_or(line);
    let counted = ["Enumerating", "Counting", "Compressing", "Writing", "Receiving", "Resolving", "Total", "Delta"];
    counted.iter().any(|word| line.starts_with(word)) && line.contains(|c: char| c.is_ascii_digit())
}

/// The text with control characters and those that reorder a line escaped.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
