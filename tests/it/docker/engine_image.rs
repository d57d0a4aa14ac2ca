//! An image that the Docker engine has, as the system of a bubblewrap guest: by its name, and as `docker save` writes it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bottle_plan::plan::AGENT_IMAGE;
use bottle_testkit::{commands, said, sh};

use crate::job::{Job, ended_with};
use crate::place::{Place, on, sandboxes};

/// Says which programs there are.
const PROGRAMS: &str = "ls /usr/bin | sort | sha256sum | cut -c 1-64";

#[test]
fn an_engines_image_is_a_bubblewrap_guests_system_by_name_and_as_an_archive() {
    let image = sh(&["docker", "run", "--rm", "--entrypoint", "sh", AGENT_IMAGE, "-c", PROGRAMS]);
    let host = sh(&["sh", "-c", PROGRAMS]);
    assert_ne!(image, host, "this machine has the image's programs: nothing could be told apart");
    let id = sh(&["docker", "image", "inspect", "--format", "{{.Id}}", AGENT_IMAGE]);
    let kept = sandboxes().join(".images").join(id.trim_start_matches("sha256:"));
    let job = in_bubblewrap();
    let archive = job.world.path("agent.tar").display().to_string();
    sh(&["docker", "save", "--output", &archive, AGENT_IMAGE]);
    fs::set_permissions(&archive, fs::Permissions::from_mode(0o644)).expect("a mode");
    for (job, given) in [(job, archive.as_str()), (in_bubblewrap(), AGENT_IMAGE)] {
        let output = job.command().args(["--image", given]).output().expect("the runner");
        let unpacked = kept.is_dir();
        let _ = fs::remove_dir_all(&kept);
        ended_with(&output, 1);
        assert!(unpacked && said(&output).contains("unpacking"), "{given}: {}", said(&output));
        let transcript = job.world.record_file("transcript.jsonl");
        assert!(transcript.contains(&image) && !transcript.contains(&host), "{given}: {transcript}");
        job.nothing_left();
    }
}

fn in_bubblewrap() -> Job {
    on(Place::Bubblewrap, || ());
    Job::new(&commands(&[PROGRAMS]))
}
