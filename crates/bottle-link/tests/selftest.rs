//! The self-test outside of any seal: it must see that.
#![expect(clippy::disallowed_methods, reason = "a test starts the real binary")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

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
    // A mount is gone in every namespace when somebody removes the directory that it is at, as a container engine does beside this.
    let is_left = |line: &&str| {
        let point = line.split(' ').nth(4).expect("a mount point");
        after.lines().any(|other| other == *line) || std::path::Path::new(point).exists()
    };
    assert_eq!(after.lines().collect::<Vec<_>>(), before.lines().filter(is_left).collect::<Vec<_>>());
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

/// A door at a port of its own that answers each connection, once it has read something, with these bytes; its port.
fn door_that_says(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap_or(0);
                if read > 0 && stream.write_all(answer).is_ok() {
                    // As the doors, it reads to the end what else comes.
                    while stream.read(&mut request).unwrap_or(0) > 0 {}
                }
            });
        }
    });
    port
}

/// The line of the canary's case at this door.
fn canary_at(door: &str, port: u16, file: &str, push: &[u8]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bottle-link"))
        .args(["selftest", "--doors-alone", "--doors", "/nonexistent", "--wait", "1", "--canary", file])
        .args(["--door", &format!("{port}={door}.sock")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the self-test runs");
    child.stdin.take().expect("standard input").write_all(push).expect("the push");
    let output = child.wait_with_output().expect("the self-test runs");
    // The door has no socket.
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let line = text.lines().find(|line| line.contains(&format!("canary.{door}")));
    line.unwrap_or_else(|| panic!("no case: {text}")).to_owned()
}

#[test]
fn a_door_must_say_that_it_knows_the_canary() {
    const KNOWN: &[u8] = b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"error\":\"dlp\",\"rule\":\"known-secret:BOTTLE_CANARY\"}";
    const FORMAT: &[u8] =
        b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"error\":\"dlp\",\"rule\":\"github-pat\"}";
    const ROUTE: &[u8] = b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"error\":\"no_route\"}";
    const PASSED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    const GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";
    const NO_REPOSITORY: &[u8] = b"0026ERR git-gate: no such repository\n\n";
    const TAKEN: &[u8] = b"0000000eunpack ok\n001dok refs/heads/self-test\n0000";
    const REFUSED: &[u8] =
        b"00000030\x02git-gate: refused: known-secret:BOTTLE_CANARY\n0020ng refs/heads/self-test no\n0000";
    const CALLED: &[u8] =
        b"HTTP/1.1 200 OK\r\n\r\ndata: {\"isError\":true,\"text\":\"known-secret:BOTTLE_CANARY\"}\n\n";
    const NOTED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\ndata: {\"isError\":false,\"text\":\"noted as P1\"}\n\n";
    let dir = std::env::temp_dir().join(format!("bottle-link-canary-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("canary").display().to_string();
    std::fs::write(&file, "https://deploy:0123456789@git.corp.internal\n").expect("a file");
    let mut wrong = vec![];
    for (door, answer, is_ok) in [
        ("egress", KNOWN, true),
        ("pipelock", KNOWN, true),
        ("egress", FORMAT, false),
        ("egress", ROUTE, false),
        ("egress", PASSED, false),
        ("egress", GATEWAY, false),
        ("egress", b"" as &[u8], false),
        ("git-gate", REFUSED, true),
        ("git-gate", NO_REPOSITORY, false),
        ("git-gate", TAKEN, false),
        ("git-gate", KNOWN, false),
        ("supervise", CALLED, true),
        ("supervise", NOTED, false),
        ("supervise", ROUTE, false),
        ("supervise", KNOWN, false),
    ] {
        let line = canary_at(door, door_that_says(answer), &file, b"a push");
        if line.starts_with("ok ") != is_ok {
            wrong.push(format!("{}: {line}", String::from_utf8_lossy(answer)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nobody is there; there is no canary; there is no push.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    for (door, port, file, push) in [
        ("egress", closed, file.as_str(), &b"a push"[..]),
        ("egress", door_that_says(KNOWN), "/nonexistent", b"a push"),
        ("egress", door_that_says(KNOWN), "/dev/null", b"a push"),
        ("git-gate", door_that_says(REFUSED), file.as_str(), b""),
    ] {
        let line = canary_at(door, port, file, push);
        assert!(line.starts_with("OPEN "), "{file}: {line}");
    }
    std::fs::remove_dir_all(&dir).expect("removed");
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
