//! The seal, from outside the self-test's own view; and the self-test, tested.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use bottle_testkit::{commands, said, sh};

use crate::job::{Job, ended_with};
use crate::place::{Place, here};

/// A docker command that launches what it is told to, but changed: an engine that does not keep its word.
fn lying_docker(job: &Job, sed: &str) -> String {
    let real = sh(&["sh", "-c", "command -v docker"]);
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in */docker-compose.yml) file=$word;; up) up=yes;; esac; done\n\
         [ -z \"$up\" ] || sed -i '{sed}' \"$file\"\nexec {real} \"$@\"\n"
    );
    let path = job.world.write("lying/docker", &script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    format!("{}:{}", path.parent().expect("a parent").display(), std::env::var("PATH").expect("PATH"))
}

#[test]
pub(crate) fn a_guest_with_a_network_stops_the_run() {
    let job = Job::new(&commands(&["echo the agent started"]));
    let path = lying_docker(&job, "s/network_mode: .*/network_mode: bridge/");
    let output = job.command().env("PATH", path).output().expect("the runner");
    ended_with(&output, 4);
    assert!(said(&output).contains("the bottle is not sealed"), "{}", said(&output));
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
    let junit = job.world.record_file("junit.xml");
    for case in ["net.interfaces", "net.host"] {
        let at = junit.find(&format!("name=\"{case}")).unwrap_or_else(|| panic!("no case {case}: {junit}"));
        assert!(
            junit[at..].split("<testcase").next().is_some_and(|case| case.contains("<failure")),
            "{case} passed with a network"
        );
    }
    job.gone();
    // What Compose was told is not what the plan says, and the record shows it.
    let output = job.world.runner().arg("verify-record").arg(job.world.record()).output().expect("the runner");
    ended_with(&output, 1);
    assert!(said(&output).contains("docker-compose.yml: is not what the plan renders"), "{}", said(&output));
}

#[test]
pub(crate) fn a_guest_without_its_seccomp_profile_stops_the_run() {
    let job = Job::new(&commands(&["echo the agent started"]));
    let path = lying_docker(&job, "s/seccomp:[^\"]*/seccomp:unconfined/");
    let output = job.command().env("PATH", path).output().expect("the runner");
    ended_with(&output, 4);
    assert!(said(&output).contains("the bottle is not sealed"), "{}", said(&output));
}

#[test]
pub(crate) fn a_guest_with_the_docker_socket_stops_the_run() {
    let job = Job::new(&commands(&["echo the agent started"]));
    let path = lying_docker(&job, "s#^\\( *\\)network_mode: .*#&\\n\\1volumes_from: [\"container:LIAR\"]#");
    // A container that holds the socket, so that the guest can be given its volumes.
    let liar = sh(&[
        "docker",
        "create",
        "--volume",
        "/var/run/docker.sock:/var/run/docker.sock",
        "claude-bottle-test/upstream:1",
    ]);
    let shim = job.world.path("lying/docker");
    let script = std::fs::read_to_string(&shim).expect("the shim").replace("LIAR", &liar);
    std::fs::write(&shim, script).expect("the shim");
    let output = job.command().env("PATH", path).output().expect("the runner");
    sh(&["docker", "rm", "--force", &liar]);
    ended_with(&output, 4);
    assert!(said(&output).contains("not sealed"), "{}", said(&output));
}

/// Every way out, tried by the agent itself with another program than the self-test.
#[test]
pub(crate) fn no_way_out_works_from_a_running_guest() {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut addresses = sh(&["hostname", "-I"]);
    addresses.push_str(" 127.0.0.1 172.17.0.1");
    let script = format!(
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
    );
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
