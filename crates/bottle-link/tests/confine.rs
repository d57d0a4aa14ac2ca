//! What a confined command is, and that nothing is run half confined.
#![expect(clippy::disallowed_methods, reason = "tests start the program they test")]

use std::process::{Command, Output};

fn confine(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bottle-link")).arg("confine").args(args).output().expect("the link")
}

/// Only root has capabilities to give up.
fn is_root() -> bool {
    let id = Command::new("id").arg("--user").output().expect("id");
    id.stdout == b"0\n"
}

#[test]
fn a_confined_command_is_another_user_for_good() {
    let script = "cat /proc/self/status; exit 7";
    let output = confine(&["--user", "4242:4343", "--most-processes", "77", "--", "sh", "-c", script]);
    if !is_root() {
        assert_eq!(output.status.code(), Some(126));
        assert!(output.stdout.is_empty(), "it was run all the same");
        return;
    }
    assert_eq!(output.status.code(), Some(7));
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "Uid:\t4242\t4242\t4242\t4242",
        "Gid:\t4343\t4343\t4343\t4343",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    assert!(status.lines().any(|line| line.split_whitespace().eq(["Groups:"])), "{status}");
}

#[test]
fn what_cannot_be_confined_is_not_run() {
    let dir = std::env::temp_dir().join(format!("bottle-confine-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let odd = dir.join("odd");
    // Nine bytes are no array of eight-byte steps.
    std::fs::write(&odd, [0; 9]).expect("a file");
    let odd = odd.display().to_string();
    for filter in ["/nonexistent/filter", odd.as_str(), "/dev/null"] {
        let output = confine(&["--user", "4242:4242", "--filter", filter, "--", "echo", "ran"]);
        assert_eq!(output.status.code(), Some(126), "{filter}");
        assert!(output.stdout.is_empty(), "{filter}: it was run all the same");
    }
    std::fs::remove_dir_all(&dir).expect("removed");
    if is_root() {
        let output = confine(&["--user", "4242:4242", "--", "/nonexistent/program"]);
        assert_eq!(output.status.code(), Some(127));
    }
}

/// A program of one step that lets everything pass, and one that ends whoever makes a call.
#[test]
fn a_filter_is_in_force_when_the_command_runs() {
    if !is_root() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("bottle-filter-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    // `ret k` (linux/bpf_common.h: BPF_RET | BPF_K is 6), with SECCOMP_RET_ALLOW and SECCOMP_RET_KILL_PROCESS.
    let step = |value: u32| [&6u16.to_ne_bytes()[..], &[0, 0], &value.to_ne_bytes()].concat();
    for (name, value, lives) in [("allow", 0x7fff_0000, true), ("kill", 0x8000_0000, false)] {
        let path = dir.join(name);
        std::fs::write(&path, step(value)).expect("a file");
        let path = path.display().to_string();
        let output =
            confine(&["--user", "4242:4242", "--filter", &path, "--", "grep", "Seccomp:", "/proc/self/status"]);
        assert_eq!(output.status.success(), lives, "{name}: {output:?}");
        assert_eq!(output.stdout == b"Seccomp:\t2\n", lives, "{name}: {output:?}");
    }
    std::fs::remove_dir_all(&dir).expect("removed");
}
