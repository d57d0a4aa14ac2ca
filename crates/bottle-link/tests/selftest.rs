//! The self-test outside of any seal: it must see that.
#![expect(clippy::disallowed_methods, reason = "a test starts the real binary")]

use std::process::{Command, Output};

fn selftest(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bottle-link")).arg("selftest").args(args).output().expect("the self-test runs")
}

#[test]
fn a_machine_without_a_seal_fails() {
    // These tests may run as root, whom nothing stops: the tries must not change the machine.
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("a list of mounts");
    let before = mounts();
    let output = selftest(&["--json", "--host-address", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(mounts(), before);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for line in text.lines() {
        assert!(line.starts_with(r#"{"case":""#) && line.contains(r#","ok":"#) && line.ends_with('}'), "{line}");
    }
    for case in [
        "net.interfaces",
        "net.tcp4",
        "net.metadata",
        "net.host.127.0.0.1:1",
        "dns.udp",
        "socket.vsock",
        "unix.docker",
        "proc.caps",
        "fs.mounts",
        "ns.user",
    ] {
        assert!(text.contains(&format!(r#"{{"case":"{case}""#)), "{case} is missing");
    }
    assert!(
        text.contains(r#"{"case":"net.interfaces","ok":false"#) || text.contains(r#"{"case":"fs.mounts","ok":false"#)
    );
}

#[test]
fn a_door_that_never_answers_fails() {
    let output = selftest(&["--door", "1=nowhere.sock", "--doors", "/nonexistent", "--wait", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.lines().any(|line| line.starts_with("OPEN door.nowhere")), "{text}");
}

#[test]
fn bad_usage_is_told_from_a_broken_seal() {
    let output = selftest(&["--host-address", "localhost:80"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: `localhost:80` is not an address and a port\nhelp: see bottle-link --help\n"
    );
}
