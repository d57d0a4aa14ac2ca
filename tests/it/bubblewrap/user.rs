//! The suite as a user who is not root. Where the tests run as root, a part of them is run once more as somebody else.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use bottle_testkit::{World, cache, needed, said, sh};

use crate::RUNNER;

/// A number that is nobody's, and no dynamic one of systemd's.
const USER: u32 = 60577;

/// The main job, promises, walls that are not there, limits, an image: what differs where there is no root. What looks into a
/// running bottle from outside is not among them: it takes root.
const TESTS: [&str; 11] = [
    "suite::main_job::an_issue_becomes_a_scanned_branch_and_a_record::bubblewrap",
    "suite::main_job::a_brought_checkout_leaves_its_credentials_behind::bubblewrap",
    "suite::promises::what_no_route_allows_is_refused_and_says_what_is_missing::bubblewrap",
    "suite::promises::nothing_secret_is_in_the_record::bubblewrap",
    "suite::promises::nothing_is_left_after_success_failure_and_crash::bubblewrap",
    "bubblewrap::own::a_guest_with_the_hosts_network_stops_the_run",
    "bubblewrap::own::a_guest_without_its_seccomp_programs_stops_the_run",
    "bubblewrap::own::nothing_of_the_hosts_is_in_the_guest",
    "bubblewrap::own::limits_hold_and_the_record_says_by_what",
    "bubblewrap::own::a_killed_runner_takes_its_sandboxes_along",
    "bubblewrap::image::a_directory_is_the_guests_system_and_nothing_of_the_hosts_is",
];

/// In a mount namespace of its own: adds the user to the lists of users and groups, opens the way to the directories that the tests
/// need, and becomes the user. A directory on the way that is closed to others, root's home above all, is covered by an empty one
/// that has nothing but what the tests need, at the same paths.
const BECOME: &str = r#"set -e
world=$1 user=$2
shift 2
for list in passwd group; do mount --bind "$world/$list" "/etc/$list"; done
closed() {
  dir=$1
  found=
  while [ "$dir" != / ]; do
    dir=$(dirname "$dir")
    setpriv --reuid "$user" --regid "$user" --clear-groups test -x "$dir" || found=$dir
  done
  echo "$found"
}
needed=
while [ "$1" != -- ]; do
  needed="$needed $1"
  shift
done
shift
for one in $needed; do
  above=$(closed "$one")
  [ -n "$above" ] || continue
  behind="$world/behind$(echo "$above" | tr / _)"
  mkdir -p "$behind"
  mount --rbind "$above" "$behind"
  mount -t tmpfs -o mode=0755 tmpfs "$above"
  for open in $needed; do
    case $open in
      "$above"/*)
        mkdir -p "$open"
        mount --rbind "$behind${open#"$above"}" "$open"
        ;;
    esac
  done
done
cd /
exec setpriv --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all -- "$@"
"#;

#[test]
fn a_user_who_is_not_root_runs_the_same_bottles() {
    let own = sh(&["id", "--user"]);
    let tests = std::env::current_exe().expect("this program");
    let world = World::new(RUNNER);
    let home = world.path("home");
    let mut command = if own == "0" {
        as_somebody(&world, &home, &tests)
    } else {
        // The rest of the suite runs as this user, too.
        Command::new(&tests)
    };
    command.args(["--test-threads", "2", "--exact"]);
    command.args(TESTS);
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
    open(home);
    for (list, line) in [
        ("passwd", format!("bottler:x:{USER}:{USER}::{}:/bin/sh\n", home.display())),
        ("group", format!("bottler:x:{USER}:\n")),
    ] {
        let all = fs::read_to_string(Path::new("/etc").join(list)).expect("a list");
        world.write(list, &format!("{}\n{line}", all.trim_end()));
    }
    let script = world.write("become", BECOME);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh"]).arg(script).arg(world.path(".")).arg(USER.to_string());
    command.args(needed_files(world, tests)).args(["--", "env", &format!("CLAUDE_BOTTLE_CACHE={}", cache().display())]);
    for name in ["HOME", "TMPDIR"] {
        command.arg(format!("{name}={}", home.display()));
    }
    command.args(["USER=bottler", "LOGNAME=bottler"]).arg(tests);
    command
}

/// The directories that the tests read: our programs, this repository, the cache, the Python that
/// the cache's own is a link to, and the test's world.
fn needed_files(world: &World, tests: &Path) -> Vec<PathBuf> {
    let python = needed("BOTTLE_TEST_PYTHON");
    let python = sh(&[&python, "-c", "import sys; print(sys.base_prefix)"]);
    let built = tests.ancestors().nth(2).expect("deps, and the programs beside it");
    let mut files = vec![built.to_owned(), env!("CARGO_MANIFEST_DIR").into(), cache(), python.into(), world.path(".")];
    if let Some(link) = std::env::var_os("BOTTLE_BIN_DIR") {
        files.push(link.into());
    }
    // One that is below another comes with it.
    let all = files.clone();
    files.retain(|dir| !all.iter().any(|other| dir != other && dir.starts_with(other)));
    files.sort();
    files.dedup();
    files
}

/// Makes it the user's, and its way there open.
fn open(home: &Path) {
    chown(home, Some(USER), Some(USER)).expect("root");
    let above = home.parent().expect("a parent");
    fs::set_permissions(above, fs::Permissions::from_mode(0o755)).expect("a mode");
}
