//! A world in which something is wrong: each fault has its exit code and one clear message.

use bottle_testkit::{commands, said};

use super::MINUTES;
use crate::job::{Job, ended_with, manifest};

/// The run ends with this code and says these texts, and nothing of it is left.
pub(crate) fn fails(job: &Job, args: &[&str], env: &[(&str, &str)], code: i32, says: &[&str]) {
    let output = job.command().args(args).envs(env.iter().copied()).output().expect("the runner");
    ended_with(&output, code);
    for text in says {
        assert!(said(&output).contains(text), "`{text}` is missing in: {}", said(&output));
    }
    job.nothing_left();
}

shared!(the_upstream_is_out_of_reach: docker, bubblewrap, smolmachines: MINUTES);
fn the_upstream_is_out_of_reach() {
    let mut job = Job::new(&commands(&[]));
    job.upstream.stop();
    fails(&job, &[], &[], 4, &["provision.git failed", "origin"]);
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
}

shared!(the_host_key_is_another: docker, bubblewrap, smolmachines);
fn the_host_key_is_another() {
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let job = Job::with_manifest(&commands(&[]), |upstream| manifest(upstream).replace(&upstream.host_key, other));
    fails(&job, &[], &[], 4, &["provision.git failed", "Host key verification failed"]);
}

shared!(the_host_key_is_not_pinned: docker, bubblewrap, smolmachines);
fn the_host_key_is_not_pinned() {
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
