//! Real machines: the suite of the other backends, and what only this one can get wrong.

use std::os::unix::fs::PermissionsExt as _;

use crate::docker::{Job, commands, ended_with, main_job, promises, seal};
use crate::place::{Place, on};
use crate::world::said;

macro_rules! also_here {
    ($($module:ident: $($test:ident),+;)+) => {
        $($(
            #[test]
            fn $test() {
                on(Place::Smolmachines, $module::$test);
            }
        )+)+
    };
}

also_here! {
    main_job: an_issue_becomes_a_scanned_branch_and_a_record;
    promises: no_credential_is_in_the_bottle,
        what_no_route_allows_is_refused_and_says_what_is_missing,
        nothing_secret_is_in_the_record,
        nothing_is_left_after_success_failure_and_crash;
    seal: no_way_out_works_from_a_running_guest;
}

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
