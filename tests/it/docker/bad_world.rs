//! A world in which something is wrong: each fault has its exit code and one clear message.

use bottle_testkit::{World, commands, said};

use crate::RUNNER;
use crate::job::{Job, ended_with, manifest};

fn fails(job: &Job, args: &[&str], env: &[(&str, &str)], code: i32, says: &[&str]) {
    let output = job.command().args(args).envs(env.iter().copied()).output().expect("the runner");
    ended_with(&output, code);
    for text in says {
        assert!(said(&output).contains(text), "`{text}` is missing in: {}", said(&output));
    }
    job.nothing_left();
}

#[test]
pub(crate) fn the_engine_is_down() {
    let job = Job::new(&commands(&[]));
    fails(
        &job,
        &[],
        &[("DOCKER_HOST", "unix:///nonexistent/docker.sock")],
        4,
        &["no Docker engine answers", "start it"],
    );
}

#[test]
pub(crate) fn the_image_is_missing() {
    let job = Job::new(&commands(&[]));
    let says = ["the image bottle.invalid/none:1 is not here and can't be pulled", "name another `image:`"];
    fails(&job, &["--image", "bottle.invalid/none:1"], &[], 4, &says);
}

#[test]
pub(crate) fn the_upstream_is_out_of_reach() {
    let mut job = Job::new(&commands(&[]));
    job.upstream.stop();
    fails(&job, &[], &[], 4, &["provision.git failed", "origin"]);
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
}

#[test]
pub(crate) fn the_host_key_is_another() {
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let job = Job::with_manifest(&commands(&[]), |upstream| manifest(upstream).replace(&upstream.host_key, other));
    fails(&job, &[], &[], 4, &["provision.git failed", "Host key verification failed"]);
}

#[test]
pub(crate) fn the_host_key_is_not_pinned() {
    let job = Job::with_manifest(&commands(&[]), |upstream| {
        manifest(upstream)
            .lines()
            .filter(|line| !line.contains("known_host_key"))
            .map(|line| format!("{line}\n"))
            .collect()
    });
    fails(&job, &[], &[], 2, &["known_host_key", "ssh-keyscan"]);
    assert!(job.world.slugs().is_empty(), "something was started");
}

/// podman 4.3.1's own answer to /version, but for parts that say nothing here.
const PODMAN: &str = r#"{"Platform":{"Name":"linux/amd64/debian-12"},"Version":"4.3.1","ApiVersion":"1.41","MinAPIVersion":"1.24",
"Os":"linux","Arch":"amd64","Components":[{"Name":"Podman Engine","Version":"4.3.1","Details":{"APIVersion":"4.3.1"}}]}"#;

/// An engine's socket that answers everything with this.
fn socket_that_says(world: &World, status: &'static str, body: String) -> String {
    use std::io::{Read as _, Write as _};
    let path = world.path("engine.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
            let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    format!("unix://{}", path.display())
}

/// The runner's words about an engine that answers so.
fn with_an_engine_that_says(status: &'static str, body: String) -> String {
    let world = World::new(RUNNER);
    world.write("claude-bottle.yml", "version: 1\nbottles:\n  default: {}\n");
    let mut command = world.runner();
    command
        .args(["run", "--task", "x", "--backend", "docker"])
        .env("DOCKER_HOST", socket_that_says(&world, status, body));
    let output = command.output().expect("the runner");
    ended_with(&output, 4);
    said(&output)
}

#[test]
fn podman_as_the_engine_is_told_what_it_lacks_in_one_sentence() {
    let text = with_an_engine_that_says("200 OK", PODMAN.to_owned());
    let words = "the engine is podman 4.3.1, whose Docker API takes no seccomp profile with a container";
    assert!(text.contains(words) && text.contains("--backend bubblewrap"), "{text}");
    assert!(text.len() < 2000, "{} bytes: {text}", text.len());
}

#[test]
fn an_engine_that_answers_with_a_page_is_quoted_in_a_line() {
    let page = format!("{{\"message\": \"opening seccomp profile failed: {}\"}}", "names ".repeat(2000));
    let text = with_an_engine_that_says("500 Internal Server Error", page);
    assert!(text.contains("opening seccomp profile failed: names names"), "{text}");
    assert!(text.len() < 2500, "{} bytes: {text}", text.len());
}
