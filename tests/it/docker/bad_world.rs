//! A world in which something is wrong: each fault has its exit code and one clear message.

use super::{Job, commands, ended_with, manifest};
use crate::world::said;

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
