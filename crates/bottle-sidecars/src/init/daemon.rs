//! One sidecar's life: start, end, start again, or give up.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bottle_policy::bundle;
use rustix::process::{Pid, Signal, WaitStatus, kill_process, kill_process_group};
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use super::identity::Identity;
use super::lines;
use crate::common::{Dirs, own_program};

/// A daemon that ends sooner than this has failed to start.
const FAILED_START_AGE: Duration = Duration::from_secs(2);
/// So many failed starts in a row, and it is given up.
const MAX_FAILURES: u32 = 5;
const MIN_RESTART_PAUSE: Duration = Duration::from_millis(50);
/// Together with its own start, a restart stays within a second.
const MAX_RESTART_PAUSE: Duration = Duration::from_millis(400);

/// The decision about a daemon that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RestartDecision {
    /// Start it again after this time.
    Again(Duration),
    /// The bundle can't be kept up.
    GiveUp,
}

pub(super) struct DaemonProcess {
    pub(super) name: &'static str,
    policy: bundle::Daemon,
    /// Where its door takes connections.
    pub(super) socket: PathBuf,
    life: Option<(Pid, Instant)>,
    /// Prints what it says; ends with its last writer.
    pub(super) lines: Option<JoinHandle<()>>,
    failures: u32,
    /// When it is to be started.
    pub(super) due: Option<Instant>,
    /// Whether it has said what it goes by, and so listens to signals.
    listens: bool,
    /// Whether it is to read everything again once it listens.
    hangs_up: bool,
}

impl DaemonProcess {
    pub(super) fn new(policy: bundle::Daemon, socket: PathBuf) -> Self {
        let due = Some(Instant::now());
        Self {
            name: policy.door.name(),
            policy,
            socket,
            life: None,
            lines: None,
            failures: 0,
            due,
            listens: false,
            hangs_up: false,
        }
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        self.life.map(|(pid, _)| pid)
    }

    /// Starts it, in a process group of its own, with one pipe for all that it prints.
    #[expect(clippy::disallowed_methods, reason = "the bundle's own one place: src/process.rs is the host side's")]
    pub(super) fn start(&mut self, dirs: &Dirs, config_dir: &Path) -> io::Result<()> {
        (self.due, self.listens, self.hangs_up) = (None, false, false);
        let program = own_program()?;
        let parent = rustix::process::getpid().as_raw_nonzero().get();
        let identity = Identity { parent, user: self.policy.user.clone() };
        let (reader, writer) = io::pipe()?;
        let child = Command::new(&program)
            .args(["supervisor", "--exec-as", &identity.to_string(), "--"])
            .arg(&program)
            .arg(self.name)
            .arg("--config")
            .arg(config_dir.join(&self.policy.config))
            .args(["--doors".as_ref(), dirs.doors.as_os_str(), "--internal".as_ref(), dirs.internal.as_os_str()])
            .args(["--state".as_ref(), dirs.state.as_os_str(), "--secrets".as_ref(), dirs.secrets.as_os_str()])
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        self.lines = Some(tokio::spawn(lines::forward(self.name, Receiver::from_owned_fd(OwnedFd::from(reader))?)));
        // The loop waits for all children at once; std does nothing when its handle goes.
        let pid = Pid::from_child(&child);
        self.life = Some((pid, Instant::now()));
        let user = self.policy.user.as_ref().map_or(String::new(), |user| format!(" as user {}", user.id));
        lines::say(self.name, &format!("started{user}, process {}", pid.as_raw_nonzero()));
        Ok(())
    }

    /// Takes note of its end, or of a start that failed, and decides what follows.
    pub(super) fn ended(&mut self, now: Instant) -> RestartDecision {
        let young = self.life.take().is_none_or(|(_, since)| now.duration_since(since) < FAILED_START_AGE);
        self.failures = if young { self.failures + 1 } else { 0 };
        if self.failures >= MAX_FAILURES {
            return RestartDecision::GiveUp;
        }
        let pause = (MIN_RESTART_PAUSE * (1 << self.failures.saturating_sub(1))).min(MAX_RESTART_PAUSE);
        self.due = Some(now + pause);
        RestartDecision::Again(pause)
    }

    /// Has it read everything again. One that does not listen yet would be ended by the signal: it is told once it does.
    pub(super) fn hang_up(&mut self) {
        if self.listens {
            self.signal(Signal::HUP);
        } else {
            self.hangs_up = true;
        }
    }

    /// Takes note that it has said what it goes by.
    pub(super) fn reported(&mut self) {
        self.listens = true;
        if std::mem::take(&mut self.hangs_up) {
            self.signal(Signal::HUP);
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // An end that nobody has taken note of yet is no error.
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends all that it has started as well.
    pub(super) fn signal_group(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill_process_group(pid, signal);
        }
    }
}

/// How a process ended, for people.
pub(super) fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bottle_types::door::Door;

    use super::*;

    #[test]
    fn five_failed_starts_are_enough_and_a_long_life_forgives() {
        let policy = bundle::Daemon { door: Door::Egress, config: "routes.yaml".to_owned(), user: None };
        let mut daemon = DaemonProcess::new(policy, PathBuf::from("egress.sock"));
        let now = Instant::now();
        let mut pauses = vec![];
        while let RestartDecision::Again(pause) = daemon.ended(now) {
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [50, 100, 200, 400]);
        daemon.life = Some((Pid::INIT, now));
        assert_eq!(daemon.ended(now + FAILED_START_AGE), RestartDecision::Again(MIN_RESTART_PAUSE));
        assert_eq!(daemon.failures, 0);
    }

    /// The program of the test does not listen to the signal, as no sidecar does while it starts.
    #[test]
    fn a_daemon_that_starts_is_not_ended_by_what_it_is_to_read() {
        #[expect(clippy::disallowed_methods, reason = "a process that a signal ends")]
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let policy = bundle::Daemon { door: Door::Egress, config: "routes.yaml".to_owned(), user: None };
        let mut daemon = DaemonProcess::new(policy, PathBuf::from("egress.sock"));
        daemon.life = Some((Pid::from_child(&child), Instant::now()));
        daemon.hang_up();
        std::thread::sleep(Duration::from_millis(50));
        assert!(child.try_wait().expect("a child").is_none(), "it was ended while it started");
        daemon.reported();
        let status = child.wait().expect("a child");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::HUP.as_raw()));
        // Told once, it is told at once from then on, and not again by its next report.
        assert!(daemon.listens && !daemon.hangs_up);
    }
}
