//! The suite as a user who is not root. Where the tests run as root, a part of them is run once more as somebody else.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use crate::world::{World, cache, said, sh};

/// A number that is nobody's, and no dynamic one of systemd's.
const USER: u32 = 60577;

/// The main job, promises, walls that are not there, limits, an image: what differs where there is no root. What looks into a
/// running bottle from outside is not among them: it takes root.
const TESTS: [&str; 11] = [
    "main_job::an_issue_becomes_a_scanned_branch_and_a_record",
    "main_job::a_brought_checkout_leaves_its_credentials_behind",
    "promises::what_no_route_allows_is_refused_and_says_what_is_missing",
    "promises::nothing_secret_is_in_the_record",
    "promises::nothing_is_left_after_success_failure_and_crash",
    "own::a_guest_with_the_hosts_network_stops_the_run",
    "own::a_guest_without_its_seccomp_programs_stops_the_run",
    "own::nothing_of_the_hosts_is_in_the_guest",
    "own::limits_hold_and_the_record_says_by_what",
    "own::a_killed_runner_takes_its_sandboxes_along",
    "image::a_directory_is_the_guests_system_and_nothing_of_the_hosts_is",
];

/// Adds the user to a list of users or groups of this mount namespace alone, and becomes them.
const BECOME: &str = "set -e\nfor list in passwd group; do mount --bind \"$1/$list\" /etc/$list; done\nuser=$2\nshift 2\n\
                      exec setpriv --reuid \"$user\" --regid \"$user\" --clear-groups --inh-caps=-all -- \"$@\"\n";

#[test]
fn a_user_who_is_not_root_runs_the_same_bottles() {
    let own = sh(&["id", "--user"]);
    let tests = std::env::current_exe().expect("this program");
    let world = World::new();
    let home = world.path("home");
    let mut command = if own == "0" {
        as_somebody(&world, &home, &tests)
    } else {
        // The rest of the suite runs as this user, too.
        Command::new(&tests)
    };
    command.args(["--test-threads", "2", "--exact"]);
    command.args(TESTS.map(|test| format!("bubblewrap::{test}")));
    let output = command.current_dir("/").output().expect("the tests");
    if own == "0" {
        let _ = fs::remove_dir_all(format!("/var/tmp/claude-bottle-{USER}"));
    }
    assert!(output.status.success(), "{}", said(&output));
    let all = format!("test result: ok. {} passed; 0 failed; 0 ignored", TESTS.len());
    assert!(said(&output).contains(&all), "{}", said(&output));
}

/// This program, started by another user, who has a home and what the tests need.
fn as_somebody(world: &World, home: &Path, tests: &Path) -> Command {
    assert!(can_be_reached(tests), "{} is out of another user's reach: `chmod o+x` what it is in", tests.display());
    open(home);
    for (list, line) in [
        ("passwd", format!("bottler:x:{USER}:{USER}::{}:/bin/sh\n", home.display())),
        ("group", format!("bottler:x:{USER}:\n")),
    ] {
        let all = fs::read_to_string(Path::new("/etc").join(list)).expect("a list");
        world.write(list, &format!("{}\n{line}", all.trim_end()));
    }
    let script = world.write("become", BECOME);
    let tools = if can_be_reached(&cache().join("claude")) { cache() } else { brought(world) };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh"]).arg(script).arg(world.path("."));
    command.arg(USER.to_string()).args(["env", &format!("CLAUDE_BOTTLE_CACHE={}", tools.display())]);
    for name in ["HOME", "TMPDIR"] {
        command.arg(format!("{name}={}", home.display()));
    }
    command.args(["USER=bottler", "LOGNAME=bottler"]).arg(tests);
    command
}

/// Makes it the user's, and its way there open.
fn open(home: &Path) {
    chown(home, Some(USER), Some(USER)).expect("root");
    let above = home.parent().expect("a parent");
    fs::set_permissions(above, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// Claude Code and gitleaks where everybody can run them.
fn brought(world: &World) -> std::path::PathBuf {
    let to = world.path("cache");
    let script = "mkdir -p \"$2/bin\" && cp -L \"$1/bin/gitleaks\" \"$2/bin\" && { cp -aLl \"$1/claude\" \"$2\" 2>/dev/null || \
                  { rm -rf \"$2/claude\"; cp -aL \"$1/claude\" \"$2\"; }; } && chmod -R a+rX \"$2\"";
    sh(&["sh", "-c", script, "sh", &cache().display().to_string(), &to.display().to_string()]);
    to
}

/// Whether everybody may go there.
fn can_be_reached(path: &Path) -> bool {
    path.ancestors().skip(1).all(|dir| fs::metadata(dir).is_ok_and(|found| found.mode() & 1 == 1))
}
