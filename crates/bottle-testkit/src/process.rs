//! Child processes that end with their test, and waiting with an end.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longest time that [`until`] waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a program that must succeed, and gives its standard output.
///
/// # Panics
/// If it can't be started or fails, with what it wrote to its standard error.
#[track_caller]
pub fn sh(argv: &[&str]) -> String {
    let output = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{argv:?}: {error}"));
    assert!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Runs a shell's script with git's commands in a directory, by no configuration but the repositories' own, and gives what it printed.
///
/// # Panics
/// If a command of it fails, with what it wrote.
#[track_caller]
pub fn git_script(dir: &Path, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b.test")])
        .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@b.test")])
        .output()
        .unwrap_or_else(|error| panic!("{script}: {error}"));
    assert!(output.status.success(), "{script}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Joins what a program wrote to both of its streams, for messages and searches.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Reads a variable that `scripts/test` sets.
///
/// # Panics
/// If it is not set: nothing is skipped where something is missing.
#[track_caller]
pub fn needed(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable}: run the tests by scripts/test"))
}

/// Names the Python that has the packages of the tests.
#[track_caller]
pub fn python() -> Command {
    Command::new(needed("BOTTLE_TEST_PYTHON"))
}

/// Child process that is killed, and waited for, when it is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Takes a child over.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Gives its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal by its name, such as `TERM`.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        sh(&["kill", &format!("-{signal}"), &self.id().to_string()]);
    }

    /// Takes its standard output, which must be a pipe.
    pub fn stdout(&mut self) -> ChildStdout {
        self.0.stdout.take().expect("a pipe")
    }

    /// Takes its standard error, which must be a pipe.
    pub fn stderr(&mut self) -> ChildStderr {
        self.0.stderr.take().expect("a pipe")
    }

    /// Reads the first line of its standard output, which must be a pipe, and closes that: servers print their port there.
    ///
    /// # Panics
    /// If it ended without one.
    pub fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.stdout()).read_line(&mut line).expect("a line");
        assert!(!line.trim().is_empty(), "it did not start");
        line.trim().to_owned()
    }

    /// Gives what it printed, if it has ended.
    pub fn ended(&mut self) -> Option<String> {
        self.0.try_wait().expect("a state")?;
        let mut bytes = vec![];
        self.0.stdout.take()?.read_to_end(&mut bytes).expect("what it printed");
        self.0.stderr.take()?.read_to_end(&mut bytes).expect("what it printed");
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits for its end. Both pipes are drained meanwhile, so that a full one can't stop it.
    pub fn wait(mut self) -> Output {
        let (stdout, stderr) = (drain(self.0.stdout.take()), drain(self.0.stderr.take()));
        let status = self.exit();
        let read = |pipe: JoinHandle<Vec<u8>>| pipe.join().expect("what it printed");
        Output { status, stdout: read(stdout), stderr: read(stderr) }
    }

    /// Waits for its end, and gives how it ended; its pipes are the caller's.
    pub fn exit(&mut self) -> ExitStatus {
        self.0.wait().expect("its end")
    }

    /// Kills it, and waits for its end.
    pub fn kill(&mut self) {
        self.0.kill().expect("a kill");
        self.exit();
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = vec![];
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).expect("what it printed");
        }
        bytes
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits up to 20 seconds for something to come true.
///
/// # Panics
/// If it does not.
#[track_caller]
pub fn until(what: &str, check: impl FnMut() -> bool) {
    until_or(PATIENCE, what, check, String::new);
}

/// Waits for something to come true, but no longer than this.
///
/// # Panics
/// If it does not.
#[track_caller]
pub fn until_within(limit: Duration, what: &str, check: impl FnMut() -> bool) {
    until_or(limit, what, check, String::new);
}

/// As [`until_within`]; the panic says `why` as well.
#[track_caller]
pub(crate) fn until_or(limit: Duration, what: &str, mut check: impl FnMut() -> bool, why: impl Fn() -> String) {
    found_or(limit, what, || check().then_some(()), why);
}

/// Looks until there is something, but no longer than this, and gives it.
///
/// # Panics
/// If there is not.
#[track_caller]
pub fn found_within<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    found_or(limit, what, look, String::new)
}

#[track_caller]
fn found_or<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>, why: impl Fn() -> String) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let begun = Instant::now();
        if let Some(found) = look() {
            return found;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not in time: {what} {}", why());
        // A look may start programs in a container: what is waited for needs the processors, too.
        let pause = (4 * begun.elapsed()).clamp(Duration::from_millis(10), Duration::from_secs(2));
        thread::sleep(pause.min(left));
    }
}

/// Lines that a process writes to its standard error, while it runs and afterwards.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Reads them in a thread of its own, to the end of the stream.
    pub fn of(stderr: ChildStderr) -> Self {
        let lines = Self(Arc::default());
        let sink = Arc::clone(&lines.0);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().expect("lines").push(line);
            }
        });
        lines
    }

    /// Gives those that are there now.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("lines").clone()
    }

    /// Waits for the nth line (from 1) that contains a text, but no longer than this.
    ///
    /// # Panics
    /// If it does not come, with all lines that did.
    #[track_caller]
    pub fn nth(&self, text: &str, nth: usize, limit: Duration) -> String {
        let start = Instant::now();
        loop {
            let lines = self.all();
            match lines.iter().filter(|line| line.contains(text)).nth(nth - 1) {
                Some(line) => return line.clone(),
                None if start.elapsed() > limit => panic!("no `{text}` in {lines:#?}"),
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}
