//! Which backend a test runs on, and how a test looks into a running bottle from outside.
//!
//! `suite/` has a test for each backend of one function, by [`on`]; a test that says nothing runs on Docker.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bottle_testkit::{said, sh};

/// The backends that the suite runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Docker,
    Bubblewrap,
    Smolmachines,
}

thread_local! {
    static HERE: Cell<Place> = const { Cell::new(Place::Docker) };
}

/// Runs a test on a backend. A test has a thread of its own.
pub(crate) fn on(place: Place, test: fn()) {
    HERE.set(place);
    test();
}

/// The backend of this test.
pub(crate) fn here() -> Place {
    HERE.get()
}

/// One side of a running bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Guest,
    Bundle,
}

impl Room {
    fn name(self) -> &'static str {
        match (here(), self) {
            (Place::Docker, Self::Guest) => "agent",
            (Place::Docker, Self::Bundle) => "sidecars",
            (_, Self::Guest) => "guest",
            (_, Self::Bundle) => "bundle",
        }
    }
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Bubblewrap => "bubblewrap",
            Self::Smolmachines => "smolmachines",
        }
    }
}

/// A command in a room of a running bottle, by its engine's own means or the kernel's, not by the runner's: as root in
/// there, or as the agent in the guest.
pub(crate) fn inside(slug: &str, room: Room, as_root: bool, argv: &[&str]) -> Command {
    let mut command;
    match here() {
        Place::Docker => {
            command = Command::new("docker");
            command.args(["exec", "--interactive", "--user", if as_root { "0:0" } else { "1000:1000" }]);
            command.arg(format!("claude-bottle-{}-{slug}", room.name()));
        }
        Place::Smolmachines if room == Room::Guest => {
            command = smolvm();
            command.args(["machine", "exec", "-i", "-u", "0:0", "--name", &machine(slug), "--"]);
            if !as_root {
                command.args(["/opt/claude-bottle/bin/bottle-link", "confine", "--user", "1000:1000", "--"]);
            }
        }
        Place::Bubblewrap | Place::Smolmachines => {
            let pid = first_process(slug, room).expect("a sandbox").to_string();
            // There is one user in each, who owns everything that can be changed.
            let user = if room == Room::Guest { "1000" } else { "2000" };
            command = Command::new("nsenter");
            command.args(["--target", &pid, "--user", "--mount", "--pid", "--net", "--ipc", "--uts"]);
            command.args(["--setuid", user, "--setgid", user]);
            command.args(["--wd=/", "--"]);
        }
    }
    command.args(argv).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether a room can be looked into yet.
pub(crate) fn is_up(slug: &str, room: Room) -> bool {
    match (here(), room) {
        (Place::Docker, _) => true,
        // Its last file before provisioning.
        (Place::Smolmachines, Room::Guest) => sandboxes().join(slug).join("seccomp.1").exists(),
        _ => first_process(slug, room).is_some(),
    }
}

/// smolvm, as the runner calls it.
pub(crate) fn smolvm() -> Command {
    let program = std::env::var("BOTTLE_SMOLVM").expect("BOTTLE_SMOLVM: run these tests by scripts/smol test");
    let dir = Path::new(&program).parent().expect("a directory").to_owned();
    let mut command = Command::new(&program);
    command
        .env("SMOLVM_LIB_DIR", &dir)
        .env("LD_LIBRARY_PATH", &dir)
        .env("SMOLVM_AGENT_ROOTFS", dir.join("agent-rootfs"));
    command.arg("--state-dir").arg(sandboxes().join(".smolvm"));
    command
}

/// The name of a run's machine.
pub(crate) fn machine(slug: &str) -> String {
    format!("claude-bottle-agent-{slug}")
}

/// How long a test may wait for what takes seconds elsewhere.
pub(crate) fn patience(seconds: u64) -> Duration {
    Duration::from_secs(if here() == Place::Smolmachines { seconds * 60 } else { seconds })
}

fn first_process(slug: &str, room: Room) -> Option<i64> {
    let info = fs::read(sandboxes().join(slug).join(format!("{}.info", room.name()))).ok()?;
    serde_json::from_slice::<serde_json::Value>(&info).ok()?["child-pid"].as_i64()
}

/// Kills a room's first process, from outside.
pub(crate) fn kill_first_process(slug: &str, room: Room) {
    match here() {
        Place::Docker => drop(sh(&["docker", "kill", &format!("claude-bottle-{}-{slug}", room.name())])),
        _ => drop(sh(&["kill", "-9", &first_process(slug, room).expect("a sandbox").to_string()])),
    }
}

/// Where the sandboxes' directories are.
pub(crate) fn sandboxes() -> PathBuf {
    PathBuf::from(format!("/var/tmp/claude-bottle-{}", sh(&["id", "--user"])))
}

/// Everything that is still there of a run.
pub(crate) fn left_behind(slug: &str) -> Vec<String> {
    match here() {
        Place::Docker => {
            let filter = format!("label=io.claude-bottle.slug={slug}");
            let mut left = vec![];
            for argv in [
                &["docker", "ps", "--all", "--quiet", "--filter", &filter][..],
                &["docker", "network", "ls", "--quiet", "--filter", &filter],
                &["docker", "volume", "ls", "--quiet", "--filter", &filter],
            ] {
                left.extend(sh(argv).lines().map(str::to_owned));
            }
            left
        }
        Place::Bubblewrap | Place::Smolmachines => {
            let mut left: Vec<String> = [sandboxes().join(slug)]
                .into_iter()
                .filter(|dir| dir.exists())
                .map(|dir| dir.display().to_string())
                .collect();
            let groups = sh(&["find", "/sys/fs/cgroup", "-type", "d", "-name", &format!("claude-bottle-{slug}-*")]);
            left.extend(groups.lines().map(str::to_owned));
            left.extend(processes(slug));
            if here() == Place::Smolmachines {
                let listed = smolvm().args(["machine", "ls", "--json"]).output().expect("smolvm");
                assert!(listed.status.success(), "{}", said(&listed));
                let machines: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout).expect("JSON");
                left.extend(
                    machines.iter().filter(|one| one["name"] == machine(slug)).map(|one| one["state"].to_string()),
                );
            }
            left
        }
    }
}

/// The processes whose command line names the run's directory, but for this one's own.
pub(crate) fn processes(slug: &str) -> Vec<String> {
    let dir = sandboxes().join(slug).display().to_string();
    let mut found = vec![];
    for entry in fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&dir) {
            found.push(line);
        }
    }
    found
}

/// Runs a command in a room; what it printed.
pub(crate) fn run_inside(slug: &str, room: Room, as_root: bool, argv: &[&str], input: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = inside(slug, room, as_root, argv).spawn().expect("a command");
    child.stdin.take().expect("a pipe").write_all(input).expect("its input");
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{argv:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
