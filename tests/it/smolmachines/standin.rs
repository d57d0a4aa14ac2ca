//! A script in smolvm's place: what a run does around a machine that it can't have. Every command line that the script is given is
//! given to the real smolvm as well, which must understand it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bottle_testkit::{cache, commands, said, sh};

use crate::job::{Job, ended_with};
use crate::place::{Place, on};

/// What the script does where the tests differ; all else succeeds and says nothing.
struct StandIn {
    version: &'static str,
    start: &'static str,
    allowed: &'static str,
    /// What the agent is: everything before it in the machine succeeds, and the self-test finds it sealed.
    agent: Option<&'static str>,
}

/// The monitor is a process in the network in which `start` is called.
const GOOD: StandIn = StandIn {
    version: "1.32.2",
    start: "sleep 600 >/dev/null 2>&1 & echo $! >\"$0.pid\"",
    allowed: "\"198.18.0.1/32\"",
    agent: None,
};

/// The self-test's words for a way out that was tried and does not work, and for doors that refuse the canary.
const SEALED: &str = r#"{"case":"net.interfaces","ok":true,"detail":"","ms":1}
{"case":"canary.egress","ok":true,"detail":"","ms":1}
{"case":"canary.git-gate","ok":true,"detail":"","ms":1}
{"case":"canary.supervise","ok":true,"detail":"","ms":1}"#;

/// The answer of git when it has brought the repository in: the commit at which the work starts.
const STARTED: &str = "*'%H%n%h %s'*) printf '%040d\\n0000000 start\\n' 1 ;;";

type Calls = Vec<Vec<String>>;

impl StandIn {
    fn write(&self, job: &Job) -> PathBuf {
        let exec = match self.agent {
            None => format!("case \" $* \" in {STARTED} *) cat >/dev/null ;; esac"),
            Some(agent) => format!(
                "case \" $* \" in *' selftest '*) cat >/dev/null; echo '{SEALED}' ;; *' --output-format '*) {agent} ;; {STARTED} \
                 *) cat >/dev/null ;; esac"
            ),
        };
        let script = format!(
            "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo smolvm {}; exit 0; }}\n\
             {{ flock 9; for word; do printf '%s\\0' \"$word\"; done; printf '\\1'; }} 9>\"$0.lock\" >>\"$0.calls\"\n\
             case $6 in\n  ls | egress-events) echo '[]' ;;\n  start) {} ;;\n\
               status) printf '{{\"name\":\"x\",\"state\":\"%s\",\"pid\":%s,\"created_at\":1,\"allowed_cidrs\":[{}]}}' \
               \"$(cat \"$0.state\" 2>/dev/null || echo running)\" \"$(cat \"$0.pid\")\" ;;\n\
               delete) kill \"$(cat \"$0.pid\")\" || true ;;\n  exec) {} ;;\nesac\n",
            self.version, self.start, self.allowed, exec
        );
        let path = job.world.write("standin/smolvm", &script);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    }

    /// A run that must end with 4: what it said, and the calls. None where there is no /dev/kvm to get past.
    fn run(&self) -> Option<(String, Calls)> {
        let mut job = Job::new(&commands(&["echo the agent started"]));
        let rootfs = job.world.path("rootfs");
        std::fs::create_dir_all(&rootfs).expect("a directory");
        *job.args.last_mut().expect("the image") = rootfs.display().to_string();
        let path = self.write(&job);
        let output = job.command().env("BOTTLE_SMOLVM", &path).output().expect("the runner");
        ended_with(&output, 4);
        let said = said(&output);
        if std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() && self.version == GOOD.version
        {
            assert!(said.contains("/dev/kvm") && said.contains("use --backend docker"), "{said}");
            return None;
        }
        assert_eq!(job.world.record().join("transcript.jsonl").exists(), self.agent.is_some(), "{said}");
        let calls = std::fs::read_to_string(path.with_extension("calls")).unwrap_or_default();
        let words = |line: &str| line.split_terminator('\0').map(str::to_owned).collect();
        let calls: Calls = calls.split_terminator('\u{1}').map(words).collect();
        let sandboxes = sh(&["sh", "-c", "ls /var/tmp/claude-bottle-$(id -u)"]);
        assert!(job.world.slugs().iter().all(|slug| !sandboxes.contains(slug.as_str())), "left: {sandboxes}");
        for slug in job.world.slugs().iter().filter(|_| self.agent.is_some()) {
            let record = job.world.path("state").join(slug);
            let output = job.world.runner().arg("verify-record").arg(record).output().expect("the runner");
            ended_with(&output, 0);
        }
        Some((said, calls))
    }
}

/// The verbs of these calls, in order.
fn verbs(calls: &Calls) -> Vec<&str> {
    calls.iter().map(|call| call[5].as_str()).collect()
}

/// Gives each call to the real smolvm, in a state of its own: whatever comes of it, it must not be wrong usage (2).
fn understood(calls: &Calls) {
    let real = sh(&["sh", "-c", &format!("ls {}/smolvm/*/smolvm | tail -n 1", cache().display())]);
    let dir = real.rsplit_once('/').expect("scripts/test fetches smolvm").0.to_owned();
    let state = tempfile::tempdir().expect("a directory");
    let call = |words: &[String]| {
        let mut words = words.to_vec();
        words[1] = state.path().display().to_string();
        if words[5] == "start" {
            // It is not to boot anything here; what stands before is read first.
            words.push("--help".to_owned());
        }
        let mut command = Command::new(&real);
        command.args(&words).env("SMOLVM_LIB_DIR", &dir).env("LD_LIBRARY_PATH", &dir).env("HOME", state.path());
        let output = command.stdin(std::process::Stdio::null()).output().expect("smolvm");
        (output.status.code(), said(&output))
    };
    for words in calls {
        let (code, said) = call(words);
        assert!(matches!(code, Some(0 | 1)), "{words:?} ended with {code:?}: {said}");
    }
    // The control: what it does not know it says, with that code.
    let mut wrong = calls[0].clone();
    wrong.insert(6, "--no-such-option".to_owned());
    assert_eq!(call(&wrong).0, Some(2), "{wrong:?}");
}

#[test]
fn an_older_smolvm_is_refused() {
    on(Place::Smolmachines, || {
        let (said, calls) = StandIn { version: "1.9.0", ..GOOD }.run().expect("it is asked for before /dev/kvm");
        assert!(said.contains("smolvm 1.9.0 is too old: 1.32 or newer is needed"), "{said}");
        assert!(calls.is_empty(), "{calls:?}");
    });
}

#[test]
fn a_machine_that_does_not_boot_says_what_to_do_and_is_removed() {
    on(Place::Smolmachines, || {
        let start = "echo '{\"error\":{\"code\":\"SMOLVM_ERROR\",\"message\":\"no boot progress for 30 seconds\"}}' >&2; exit 1";
        let Some((said, calls)) = StandIn { start, ..GOOD }.run() else { return };
        assert!(said.contains("does not start: no boot progress for 30 seconds (SMOLVM_ERROR)"), "{said}");
        assert!(said.contains("switch nested virtualization on in its host, or use --backend docker"), "{said}");
        assert_eq!(verbs(&calls), ["ls", "create", "start", "egress-events", "stop", "delete"]);
        understood(&calls);
    });
}

#[test]
fn an_allow_list_that_is_not_in_force_stops_the_run() {
    on(Place::Smolmachines, || {
        let Some((said, calls)) = StandIn { allowed: "", ..GOOD }.run() else { return };
        assert!(said.contains("its allow list is [], not [198.18.0.1/32]"), "{said}");
        assert!(!verbs(&calls).contains(&"exec"), "{calls:?}");
    });
}

#[test]
fn everything_that_smolvm_is_told_is_known_to_it() {
    on(Place::Smolmachines, || {
        let Some((said, calls)) = GOOD.run() else { return };
        // It runs nothing, so the self-test says nothing, and that proves nothing.
        assert!(said.contains("the seal could not be proved"), "{said}");
        let verbs = verbs(&calls);
        for verb in ["ls", "create", "start", "status", "cp", "exec", "egress-events", "stop", "delete"] {
            assert!(verbs.contains(&verb), "{verb}: {verbs:?}");
        }
        let create = calls.iter().find(|call| call[5] == "create").expect("a machine");
        let has = |name: &str, value: &str| create.windows(2).any(|pair| pair[0] == name && pair[1] == value);
        assert!(has("--allow-cidr", "198.18.0.1/32") && has("--cpus", "2") && has("--mem", "4096"), "{create:?}");
        assert!(create.iter().filter(|word| word.as_str() == "--allow-cidr").count() == 1, "{create:?}");
        assert!(!create.iter().any(|word| ["--net", "tsi", "-v", "--volume", "--nested"].contains(&word.as_str())));
        for exec in calls.iter().filter(|call| call[5] == "exec") {
            assert_eq!(exec[6], "-i", "plain output is cut: {exec:?}");
        }
        understood(&calls);
    });
}

/// The agent's phase of a run whose machine is lost in it, and nobody in the machine says so: what was said, and how long it took.
fn lost(agent: &'static str) -> Option<(String, Duration)> {
    lost_of(&StandIn { agent: Some(agent), ..GOOD })
}

fn lost_of(machine: &StandIn) -> Option<(String, Duration)> {
    let begun = Instant::now();
    let (said, calls) = machine.run()?;
    let verbs = verbs(&calls);
    // Logs and work are collected side by side; once each, and before the machine goes.
    assert_eq!(verbs[verbs.len() - 2..], ["stop", "delete"]);
    let times = |verb: &str| verbs.iter().filter(|one| **one == verb).count();
    assert_eq!((times("egress-events"), times("stop"), times("delete")), (1, 1, 1), "{verbs:?}");
    assert!(said.contains("what it pushed before is in gate.jsonl of the run record"), "{said}");
    Some((said, begun.elapsed()))
}

#[test]
fn a_machine_whose_monitor_dies_ends_the_run_at_once() {
    on(Place::Smolmachines, || {
        let Some((said, took)) = lost("kill \"$(cat \"$0.pid\")\"; exec sleep 600") else { return };
        assert!(said.contains("the bottle died: the machine claude-bottle-agent-"), "{said}");
        assert!(said.contains(" is lost: its monitor (process "), "{said}");
        assert!(took < Duration::from_secs(60), "{took:?}");
    });
}

#[test]
fn a_machine_that_does_not_answer_any_more_ends_the_run() {
    on(Place::Smolmachines, || {
        let Some((said, took)) = lost("echo unreachable >\"$0.state\"; exec sleep 600") else { return };
        assert!(said.contains(" is lost: smolvm says that it is unreachable"), "{said}");
        assert!(took < Duration::from_secs(120), "{took:?}");
    });
}

/// Everything gets more time in a machine that was slow to start, what may take for ever too.
#[test]
fn a_machine_that_was_slow_to_start_is_lost_in_the_same_way() {
    on(Place::Smolmachines, || {
        let start = "sleep 7; sleep 600 >/dev/null 2>&1 & echo $! >\"$0.pid\"";
        let agent = Some("sleep 3; kill \"$(cat \"$0.pid\")\"; exec sleep 600");
        let Some((said, _)) = lost_of(&StandIn { start, agent, ..GOOD }) else { return };
        assert!(said.contains(" is lost: its monitor (process "), "{said}");
    });
}
