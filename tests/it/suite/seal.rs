//! The seal, from outside the self-test's own view; and the self-test, tested.

use std::process::Command;

use bottle_testkit::{commands, said, sh};

use super::{MINUTES, tools};
use crate::job::{Job, ended_with};
use crate::place::{Place, here};

/// A program in Python that tries every way out, among them this machine's addresses at a port.
fn tries(addresses: &str, port: u16) -> String {
    format!(
        r#"
import socket, os
def attempt(name, call):
    try:
        call()
        print("way", "open:", name)
    except Exception as error:
        print("way", "shut:", name, error)
def tcp(family, address, port):
    def call():
        s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(2); s.connect((address, port))
    return call
def udp(address, port):
    def call():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.connect((address, port)); s.send(b"x"); s.recv(1)
    return call
for address in "{addresses}".split():
    attempt("host " + address, tcp(socket.AF_INET6 if ":" in address else socket.AF_INET, address, {port}))
attempt("internet", tcp(socket.AF_INET, "1.1.1.1", 443))
attempt("ipv6", tcp(socket.AF_INET6, "2606:4700:4700::1111", 443))
attempt("metadata", tcp(socket.AF_INET, "169.254.169.254", 80))
attempt("dns", udp("8.8.8.8", 53))
attempt("docker dns", udp("127.0.0.11", 53))
for name in ["example.com", "host.docker.internal", "localhost.example", "metadata.google.internal"]:
    attempt("name " + name, lambda: socket.getaddrinfo(name, 80))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("vsock", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
attempt("alg", lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET))
for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"]:
    def call(path=path):
        s = socket.socket(socket.AF_UNIX); s.connect(path)
    attempt(path, call)
attempt("doors directory", lambda: open("/run/bottle/x", "w"))
"#
    )
}

/// A listener of this machine's that anybody but a sealed guest reaches, its port, and this machine's addresses.
fn listening() -> (std::net::TcpListener, u16, String) {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut addresses = sh(&["hostname", "-I"]);
    addresses.push_str(" 127.0.0.1 172.17.0.1");
    (listener, port, addresses)
}

shared!(no_way_out_works_from_a_server_of_the_owners: docker, bubblewrap, smolmachines: MINUTES);
/// Every way out, tried by an MCP server that Claude Code has started; and the self-test, with the server planned.
fn no_way_out_works_from_a_server_of_the_owners() {
    let (_listener, port, addresses) = listening();
    let server = format!(
        "{}\nimport contextlib, io\ndef answer():\n    out = io.StringIO()\n    with contextlib.redirect_stdout(out):\n        exec(TRIES, {{}})\n    return out.getvalue()\n\nTRIES = '''{}'''\n{}",
        tools::HEAD,
        tries(&addresses, port),
        tools::serve("tries")
    );
    let job = tools::job(
        "      tries: { command: [python3, tools/server.py] }\n    base_files: [tools]\n",
        &["tries"],
        &[("tools/server.py", &server)],
    );
    let output = job.run();
    ended_with(&output, 0);
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(!transcript.contains("way open:"), "{transcript}");
    assert!(transcript.matches("way shut:").count() >= 18, "{transcript}");
    let junit = job.world.record_file("junit.xml");
    assert!(junit.contains("testcase name=\"seal\""), "{junit}");
    job.nothing_left();
}

shared!(no_way_out_works_from_a_running_guest: docker, bubblewrap, smolmachines);
/// Every way out, tried by the agent itself with another program than the self-test.
fn no_way_out_works_from_a_running_guest() {
    let (listener, port, addresses) = listening();
    let script = tries(&addresses, port);
    let job = Job::new(&commands(&[&format!("python3 - <<'END'\n{script}\nEND\n")]));
    let output = job.run();
    ended_with(&output, 1);
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(!transcript.contains("way open:"), "{transcript}");
    assert!(transcript.matches("way shut:").count() >= 18, "{transcript}");
    // The control: the same listener is reached from a container, or sandbox, that is not sealed.
    let connect = |address: &str| format!("exec 3<>/dev/tcp/{address}/{port}");
    let mut control;
    match here() {
        Place::Docker => {
            control = Command::new("docker");
            control.args(["run", "--rm", "ghcr.io/claude-bottle/agent:v1", "bash", "-c", &connect("172.17.0.1")]);
        }
        Place::Bubblewrap | Place::Smolmachines => {
            let address = addresses.split(' ').next().expect("an address").to_owned();
            control = Command::new("bwrap");
            control.args(["--ro-bind", "/", "/", "--dev", "/dev", "bash", "-c", &connect(&address)]);
        }
    }
    let control = control.output().expect("the control");
    drop(listener);
    assert!(
        control.status.success(),
        "the host can't be reached even without a seal, so the test above shows nothing: {}",
        said(&control)
    );
}
