//! The real supervisor with real sidecars, in directories of its own.
#![expect(clippy::disallowed_methods, reason = "a test starts the real binary")]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bottle_testkit::{Lines, Running, with_dirs};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

struct Bundle {
    process: Running,
    dir: TempDir,
    lines: Lines,
}

impl Bundle {
    fn start(bundle: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // Daemons of other users come through here.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
        file("bundle.yaml", bundle);
        file("supervise.yaml", "version: 1\nrun: run-1\n");
        let at = |name: &str| dir.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bottle-sidecars"));
        command.args(["supervisor".as_ref(), "--config".as_ref(), at("bundle.yaml").as_os_str()]);
        with_dirs(&mut command, dir.path(), &["doors", "internal", "state"]);
        let child = command.stderr(Stdio::piped()).spawn().expect("the supervisor starts");
        let mut process = Running::new(child);
        let lines = Lines::of(process.stderr());
        Self { process, dir, lines }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("doors/supervise.sock")
    }

    /// Waits for the nth line (from 1) that contains a text.
    fn line(&self, text: &str, nth: usize) -> String {
        self.lines.nth(text, nth, Duration::from_secs(10))
    }

    /// The process of the nth start of a daemon.
    fn pid(&self, door: &str, nth: usize) -> Pid {
        let line = self.line(&format!("{door} | started"), nth);
        let number = line.rsplit(' ').next().and_then(|pid| pid.parse().ok());
        Pid::from_raw(number.unwrap_or_else(|| panic!("no process in {line}"))).expect("a process")
    }
}

const OWN_USER: &str = "version: 1\ndaemons:\n  - { door: supervise, config: supervise.yaml }\n";
const OTHER_USER: &str =
    "version: 1\ndaemons:\n  - { door: supervise, config: supervise.yaml, user: { id: 2004, groups: [2000] } }\n";

/// Whether a process ends soon; one that nobody has waited for yet has ended too.
fn gone(pid: Pid) -> bool {
    let start = Instant::now();
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        if start.elapsed() > Duration::from_secs(1) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

#[test]
fn starts_restarts_and_ends() {
    let mut bundle = Bundle::start(OWN_USER);
    let ready = bundle.line("supervisor | all doors open after", 1);
    assert!(ready.ends_with(" ms"), "{ready}");
    bundle.line("supervise |  INFO listening", 1);

    let first = bundle.pid("supervise", 1);
    let start = Instant::now();
    kill_process(first, Signal::KILL).expect("a kill");
    let second = bundle.pid("supervise", 2);
    bundle.line("supervise |  INFO listening", 2);
    UnixStream::connect(bundle.socket()).expect("the door is open again");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(bundle.line("supervise ended", 1).contains("signal 9"));

    bundle.process.signal("HUP");
    bundle.line("nothing to read again", 1);

    let start = Instant::now();
    bundle.process.signal("TERM");
    assert_eq!(bundle.process.exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(gone(second));
}

#[test]
fn a_killed_supervisor_takes_its_daemons_along() {
    let mut bundle = Bundle::start(OWN_USER);
    bundle.line("all doors open", 1);
    let pid = bundle.pid("supervise", 1);
    bundle.process.kill();
    assert!(gone(pid));
}

#[test]
fn a_daemon_that_can_not_start_ends_the_bundle() {
    let start = Instant::now();
    let mut bundle = Bundle::start(&format!("{OWN_USER}  - {{ door: egress, config: nowhere.yaml }}\n"));
    assert_eq!(bundle.process.exit().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    bundle.line("supervisor | error: egress keeps ending: exit code 1", 1);
    bundle.line("supervisor | egress ended: exit code 1; starting it again in 400 ms", 1);
    assert!(gone(bundle.pid("supervise", 1)));
    let lines = bundle.lines.all();
    assert!(
        lines
            .iter()
            .all(|line| ["supervisor | ", "supervise | ", "egress | "].iter().any(|name| line.starts_with(name)))
    );
}

#[test]
fn each_daemon_gets_its_user_or_nothing_starts() {
    let mut bundle = Bundle::start(OTHER_USER);
    if !rustix::process::geteuid().is_root() {
        assert_eq!(bundle.process.exit().code(), Some(1));
        return;
    }
    bundle.line("all doors open", 1);
    let pid = bundle.pid("supervise", 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("a status");
    for line in
        ["Uid:\t2004\t2004\t2004\t2004", "Gid:\t2004\t2004\t2004\t2004", "Groups:\t2000 ", "CapEff:\t0000000000000000"]
    {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    let mode = |name: &str| {
        let found = std::fs::metadata(bundle.dir.path().join(name)).expect("it is there");
        format!("{:o}", found.permissions().mode() & 0o7777)
    };
    assert_eq!(
        ["doors", "internal", "state/log", "state/git", "state/log/proposals.jsonl"].map(mode),
        ["1777", "1733", "1777", "700", "644"]
    );
    bundle.process.signal("INT");
    assert_eq!(bundle.process.exit().code(), Some(0));
    assert!(gone(pid));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (bundle, reason) in [
        ("version: 2\ndaemons: []\n", "version 2"),
        ("version: 1\ndaemons: []\n", "no daemons"),
        ("version: 1\ndaemons:\n  - { door: egress, config: ../x }\n", "not the name of a file"),
        ("version: 1\ndaemons:\n  - { door: egress, config: x, user: { id: 0 } }\n", "as root"),
        ("version: 1\nother: 1\n", "other"),
    ] {
        let mut bundle = Bundle::start(bundle);
        assert_eq!(bundle.process.exit().code(), Some(1));
        bundle.line(reason, 1);
    }
}
