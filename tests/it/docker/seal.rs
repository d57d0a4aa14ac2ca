//! The self-test, tested: a guest that an engine gives more than the plan does.

use std::os::unix::fs::PermissionsExt as _;

use bottle_testkit::{commands, said, sh};

use crate::job::{Job, ended_with};

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
fn a_guest_with_a_network_stops_the_run() {
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
fn a_guest_without_its_seccomp_profile_stops_the_run() {
    let job = Job::new(&commands(&["echo the agent started"]));
    let path = lying_docker(&job, "s/seccomp:[^\"]*/seccomp:unconfined/");
    let output = job.command().env("PATH", path).output().expect("the runner");
    ended_with(&output, 4);
    assert!(said(&output).contains("the bottle is not sealed"), "{}", said(&output));
}

#[test]
fn doors_that_do_not_know_the_canary_stop_the_run() {
    let job = Job::new(&commands(&["echo the agent started"]));
    // In the policies of pipelock and the gate; supervise could read no other secret's file.
    let path = lying_docker(&job, "/pipelock.yaml:$/,/supervise.yaml:$/ s/- BOTTLE_CANARY$/- BOTTLE_TEST_TOKEN/");
    let output = job.command().env("PATH", path).output().expect("the runner");
    ended_with(&output, 4);
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
    let words = "a door does not refuse a known secret: egress: the planted secret was not refused as one; the door said: HTTP/1.1 502 ";
    assert!(said(&output).contains(words) && said(&output).contains("(and 1 more)"), "{}", said(&output));
    job.gone();
}

#[test]
fn a_guest_with_the_docker_socket_stops_the_run() {
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
