//! kill -9 of what a bottle is made of: a door comes back, and a run that can't go on ends soon, as what it is.

use std::process::Stdio;
use std::time::{Duration, Instant};

use bottle_testkit::{Running, commands, said};

use super::promises::wait_for_agent;
use crate::job::{Job, ended_with, manifest};
use crate::place::{Place, Room, here, inside, kill_first_process, run_inside};

/// A machine's doors are bubblewrap's bundle.
const MACHINE: &str = "the doors there die as in bubblewrap, and the deaths of a machine are in smolmachines::real";
/// A run must have ended so long after a death that it can't survive.
const MOST_TO_END: Duration = Duration::from_secs(5);
/// A door is back within a second; this machine may be busy with other tests.
const MOST_TO_COME_BACK: Duration = Duration::from_secs(3);

/// The agent commits, says that it has started, waits for a word, and pushes.
fn waiting() -> Job {
    let wait = "echo x > new.txt; git add -A; git commit -qm new; touch /tmp/started; while [ ! -e /tmp/go ]; do sleep 0.1; done";
    Job::with_manifest(&commands(&[wait, "git push origin HEAD"]), |upstream| {
        manifest(upstream).replace("python3 -m unittest", "true")
    })
}

/// Kills every process of the bundle whose command line begins so; how many.
fn kill_in_bundle(slug: &str, words: &str) -> u32 {
    let script = "n=0; for p in /proc/[0-9]*; do \
                  if tr '\\0' ' ' 2>/dev/null <$p/cmdline | grep -q \"^[^ ]*bottle-sidecars $1 \"; then kill -9 ${p#/proc/} && n=$((n+1)); fi; \
                  done; echo $n";
    let killed = run_inside(slug, Room::Bundle, true, &["sh", "-c", script, "sh", words], b"");
    killed.trim().parse().expect("a number")
}

/// What the doors have said so far.
fn doors_log(slug: &str) -> String {
    match here() {
        Place::Docker => {
            let container = format!("claude-bottle-sidecars-{slug}");
            let logs = std::process::Command::new("docker").args(["logs", &container]).output().expect("docker logs");
            said(&logs)
        }
        _ => std::fs::read_to_string(crate::place::sandboxes().join(slug).join("bundle.log")).unwrap_or_default(),
    }
}

shared!(a_door_that_is_killed_comes_back_and_the_run_goes_on: docker, bubblewrap, smolmachines: MACHINE);
fn a_door_that_is_killed_comes_back_and_the_run_goes_on() {
    let job = waiting();
    let mut running = job.start();
    let slug = wait_for_agent(&job, &mut running);
    for door in ["egress", "pipelock", "git-gate"] {
        let since = Instant::now();
        assert_eq!(kill_in_bundle(&slug, &format!("{door} --config")), 1, "{door} is one process");
        let back = format!("{door} | open again");
        while !doors_log(&slug).contains(&back) {
            assert!(since.elapsed() < MOST_TO_COME_BACK, "{door} is not back: {}", doors_log(&slug));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    run_inside(&slug, Room::Guest, true, &["touch", "/tmp/go"], b"");
    ended_with(&running.wait(), 0);
    let refs = job.upstream.git(&["for-each-ref", "--format", "%(refname)", "refs/heads/bottle"]);
    assert_eq!(refs.lines().count(), 1, "the work is pushed by the gate that came back: {refs}");
    job.nothing_left();
}

/// The run ends within five seconds of a death, with exit code 4 and these words, and with everything collected.
fn dies(kill: impl Fn(&str), words: &str, work_is_kept: bool) {
    let job = waiting();
    let mut running = job.start();
    let slug = wait_for_agent(&job, &mut running);
    kill(&slug);
    let since = Instant::now();
    let output = running.wait();
    let took = since.elapsed();
    ended_with(&output, 4);
    assert!(said(&output).contains("the bottle died: ") && said(&output).contains(words), "{}", said(&output));
    assert!(took < MOST_TO_END, "it went on for {took:?}: {}", said(&output));
    job.nothing_left();
    assert!(job.world.record_file("compose.log").contains("egress |"), "the logs were not collected");
    assert!(job.world.record_file("egress.jsonl").contains("/v1/messages"), "the doors' own log was not collected");
    assert!(job.world.record_file("metadata.json").contains("the bottle died"));
    assert_eq!(job.world.record().join("work.bundle").exists(), work_is_kept, "{}", said(&output));
}

shared!(the_death_of_the_bundles_first_process_ends_the_run: docker, bubblewrap, smolmachines: MACHINE);
fn the_death_of_the_bundles_first_process_ends_the_run() {
    dies(|slug| kill_first_process(slug, Room::Bundle), "the doors", true);
}

shared!(the_death_of_the_supervisor_ends_the_run: docker, bubblewrap, smolmachines: MACHINE);
fn the_death_of_the_supervisor_ends_the_run() {
    dies(
        |slug| match here() {
            // There it is the first process, which nobody inside can kill.
            Place::Docker => kill_first_process(slug, Room::Bundle),
            _ => assert_eq!(kill_in_bundle(slug, "supervisor --config"), 1, "there is one supervisor"),
        },
        "the doors",
        true,
    );
}

shared!(a_door_that_does_not_stay_up_ends_the_run: docker, bubblewrap, smolmachines: MACHINE);
fn a_door_that_does_not_stay_up_ends_the_run() {
    dies(
        |slug| {
            // Each as soon as it is there, until the bundle gives it up.
            let script = "while :; do for p in /proc/[0-9]*; do \
                          if tr '\\0' ' ' 2>/dev/null <$p/cmdline | grep -q '^[^ ]*bottle-sidecars egress --config'; then kill -9 ${p#/proc/}; fi; \
                          done; done";
            let mut killer = inside(slug, Room::Bundle, true, &["sh", "-c", script]);
            let killer = Running::new(killer.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell"));
            let since = Instant::now();
            while !doors_log(slug).contains("egress keeps ending") {
                assert!(since.elapsed() < Duration::from_secs(20), "egress is not given up: {}", doors_log(slug));
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(killer);
        },
        "the doors",
        true,
    );
}

shared!(the_death_of_the_guests_first_process_ends_the_run: docker, bubblewrap, smolmachines: MACHINE);
fn the_death_of_the_guests_first_process_ends_the_run() {
    dies(|slug| kill_first_process(slug, Room::Guest), "the guest", false);
}

shared!(no_signal_is_blocked_in_what_the_agent_runs: docker, bubblewrap, smolmachines: MACHINE);
fn no_signal_is_blocked_in_what_the_agent_runs() {
    let job = Job::new(&commands(&[
        "grep SigBlk /proc/self/status",
        "tail -f /dev/null & kill $!; wait $!; echo ended with $?",
    ]));
    ended_with(&job.run(), 1);
    let transcript = job.world.record_file("transcript.jsonl");
    assert!(transcript.contains("SigBlk:\\t0000000000000000"), "{transcript}");
    assert!(transcript.contains("ended with 143"), "{transcript}");
}
