//! Real machines, and what only these can get wrong; the suite's tests for them are beside the other backends'.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use bottle_testkit::{commands, said, sh};

use crate::job::{Job, ended_with};
use crate::place::{Place, machine, on, smolvm};
use crate::suite::promises::wait_for_agent;

/// A run with a program in another's place, which must stop before the agent does anything.
fn stopped_by(name: &str, script: &str) -> String {
    let job = Job::new(&commands(&["echo the agent started"]));
    let path = job.world.write(&format!("lying/{name}"), script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut command = job.command();
    if name == "smolvm" {
        command.env("BOTTLE_SMOLVM", &path);
    }
    let dirs = format!("{}:{}", path.parent().expect("a parent").display(), std::env::var("PATH").expect("PATH"));
    let output = command.env("PATH", dirs).output().expect("the runner");
    ended_with(&output, 4);
    assert!(!job.world.record().join("transcript.jsonl").exists(), "the agent was started");
    job.nothing_left();
    said(&output)
}

/// smolvm, but that one word of its command line is another.
fn lying_smolvm(sed: &str) -> String {
    let real = std::env::var("BOTTLE_SMOLVM").expect("BOTTLE_SMOLVM: run these tests by scripts/smol test");
    let dir = real.rsplit_once('/').expect("a path").0;
    format!(
        "#!/bin/bash\nexport SMOLVM_LIB_DIR={dir} LD_LIBRARY_PATH={dir} SMOLVM_AGENT_ROOTFS={dir}/agent-rootfs\n\
         words=()\nfor word; do words+=(\"$(sed '{sed}' <<<\"$word\")\"); done\nexec {real} \"${{words[@]}}\"\n"
    )
}

#[test]
fn a_machine_that_may_reach_more_stops_the_run() {
    on(Place::Smolmachines, || {
        let said = stopped_by("smolvm", &lying_smolvm("s|^198.18.0.1/32$|0.0.0.0/0|"));
        assert!(said.contains("its allow list is [0.0.0.0/0], not [198.18.0.1/32]"), "{said}");
    });
}

#[test]
fn a_monitor_in_the_hosts_network_stops_the_run() {
    on(Place::Smolmachines, || {
        let script = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n";
        let said = stopped_by("nsenter", script);
        assert!(said.contains("its monitor is in another network than its doors"), "{said}");
    });
}

/// A machine gets this signal while its agent sleeps, after it has pushed: the run must end with 4 and these words, for the name and
/// its monitor, and with what was pushed in its record.
fn lost_by(signal: &str, words: fn(&str, &str) -> String) {
    let push = "git commit -q --allow-empty -m early && git push -q origin HEAD:refs/heads/bottle/early";
    let job = Job::new(&commands(&[&format!("{push} && touch /tmp/started; sleep 600")]));
    let mut running = job.start();
    let slug = wait_for_agent(&job, &mut running);
    let status = smolvm().args(["machine", "status", "--json", "--name", &machine(&slug)]).output().expect("smolvm");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    let monitor = status["pid"].to_string();
    let begun = Instant::now();
    sh(&["kill", &format!("-{signal}"), &monitor]);
    let output = running.wait();
    let took = begun.elapsed();
    ended_with(&output, 4);
    let said = said(&output);
    assert!(said.contains(&format!("the bottle died: {}", words(&machine(&slug), &monitor))), "{said}");
    assert!(said.contains("what it pushed before is in gate.jsonl of the run record"), "{said}");
    // Of 600 that the agent would have slept.
    assert!(took < Duration::from_secs(300), "{took:?}");
    let gate = job.world.record_file("gate.jsonl");
    assert!(gate.contains("refs/heads/bottle/early") && gate.contains("\"accepted\""), "{gate}");
    assert!(job.upstream.git(&["for-each-ref"]).contains("refs/heads/bottle/early"));
    job.nothing_left();
}

#[test]
fn a_machine_that_dies_ends_the_run_with_what_it_pushed() {
    on(Place::Smolmachines, || {
        lost_by("KILL", |name, monitor| {
            format!("the machine {name} is lost: its monitor (process {monitor}) has ended")
        });
    });
}

#[test]
fn a_machine_that_hangs_ends_the_run_with_what_it_pushed() {
    on(Place::Smolmachines, || lost_by("STOP", |name, _| format!("the machine {name} is lost: smolvm ")));
}

/// Its system comes from `docker save`, and has no Claude Code; its disk is as large as it is said to be.
#[test]
fn an_archive_without_claude_code_is_a_machine_with_a_disk_of_20_gib() {
    on(Place::Smolmachines, || {
        let mut job = Job::new(&commands(&[
            // On a full disk there is no room for what a command prints either.
            "fallocate -l 15G ~/large && said=fit || said='do not fit'; rm -f ~/large; echo 15 GiB $said",
            "fallocate -l 21G ~/larger && said=fit || said='do not fit'; rm -f ~/larger; echo 21 GiB $said",
            "df -BG ~ | tail -n 1",
        ]));
        let archive =
            std::env::var("BOTTLE_TEST_ARCHIVE").expect("BOTTLE_TEST_ARCHIVE: run these tests by scripts/smol test");
        let listed = sh(&["tar", "-tf", &archive]);
        assert!(listed.contains("manifest.json"), "not of `docker save`: {listed}");
        *job.args.last_mut().expect("the image") = archive;
        ended_with(&job.run(), 1);
        let transcript = job.world.record_file("transcript.jsonl");
        assert!(transcript.contains("15 GiB fit"), "{transcript}");
        assert!(transcript.contains("21 GiB do not fit"), "{transcript}");
        job.nothing_left();
    });
}
