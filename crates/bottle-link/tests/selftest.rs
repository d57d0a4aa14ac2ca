//! The self-test outside of any seal: it must see that.
#![expect(clippy::disallowed_methods, reason = "a test starts the real binary")]

use std::process::{Command, Output};

fn selftest(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bottle-link")).arg("selftest").args(args).output().expect("the self-test runs")
}

/// Runs the self-test in a mount namespace of its own, as root of it, whoever runs this: nothing that happens on the machine
/// meanwhile comes in, so the whole tables can be compared. Its exit code, what it printed, and the mounts before and after.
fn selftest_among_own_mounts(args: &[&str]) -> (Option<i32>, String, [String; 2]) {
    const BETWEEN: &str = "-- between --\n";
    let script = format!(
        "cat /proc/self/mountinfo; printf -- '{between}'; \"$@\"; code=$?; printf -- '{between}'; \
         cat /proc/self/mountinfo; exit $code",
        between = BETWEEN.replace('\n', "\\n"),
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]);
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let output = unshare
        .args(["sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_bottle-link"), "selftest"])
        .args(args)
        .output()
        .expect("unshare, of util-linux");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let parts: Vec<&str> = text.split(BETWEEN).collect();
    let [before, said, after] = parts[..] else {
        panic!("no mount namespace: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    (output.status.code(), said.to_owned(), [before, after].map(str::to_owned))
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

#[test]
fn a_machine_without_a_seal_fails() {
    // As root nothing stops the tries: they must not change the machine.
    let (code, text, [before, after]) = selftest_among_own_mounts(&["--json", "--host-address", "127.0.0.1:1"]);
    assert_eq!(code, Some(1));
    assert!(before.lines().count() > 1, "{before}");
    assert_eq!(after, before);
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
