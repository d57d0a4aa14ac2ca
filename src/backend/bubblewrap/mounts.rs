//! What the agent's sandbox sees: the host's programs, and the run's own directories.

use std::io;
use std::path::{Path, PathBuf};

use bottle_plan::plan::{BottlePlan, TOOLS_DIR};
use bottle_types::door::{DOORS_DIR, Door};

use super::rootfs::{ETC_DIRECTORIES, Rootfs};
use crate::backend::bundle;
use crate::backend::sandbox::{BwrapOptions, RunDir, Tools, Users, etc as host_etc};

/// Where local authorities are put for `update-ca-certificates`.
const LOCAL_CAS: &str = "/usr/local/share/ca-certificates";
/// Where it puts what is trusted.
const TRUSTED: &str = "/etc/ssl/certs";

/// Makes its directories, and with this machine's system its /etc; where that is. On failure what there is stays for whoever
/// removes the run.
pub(super) fn make(run_dir: &RunDir, plan: &BottlePlan, rootfs: Option<&Rootfs>, users: Users) -> io::Result<PathBuf> {
    run_dir.directory("guest", 0o755, None)?;
    for (name, mode) in [("home", 0o755), ("workspace", 0o755), ("tmp", 0o1777), ("vartmp", 0o1777)] {
        run_dir.directory(&format!("guest/{name}"), mode, users.guest)?;
    }
    for name in ["guest-cas", "guest-certs"] {
        run_dir.directory(name, 0o755, users.setup)?;
    }
    if rootfs.is_none() {
        return host_etc::shared_etc(run_dir.base(), &host_etc::guest_parts(), &own_etc(plan, None), &ETC_DIRECTORIES);
    }
    let etc = run_dir.directory("guest-etc", 0o755, None)?;
    for directory in ETC_DIRECTORIES {
        run_dir.directory(&format!("guest-etc/{directory}"), 0o755, None)?;
    }
    Ok(etc)
}

/// Writes an image's /etc: before a command runs in it, but not before the sandbox is made.
pub(super) fn fill(run_dir: &RunDir, plan: &BottlePlan, rootfs: &Rootfs) -> io::Result<()> {
    rootfs.fill_etc(&run_dir.path("guest-etc"))?;
    for (name, text) in own_etc(plan, Some(rootfs)) {
        run_dir.write(&format!("guest-etc/{name}"), text.as_bytes(), None)?;
    }
    Ok(())
}

/// The files that its /etc has of its own.
fn own_etc(plan: &BottlePlan, rootfs: Option<&Rootfs>) -> Vec<(&'static str, String)> {
    let guest = &plan.guest;
    let (uid, gid, home) = (guest.uid, guest.gid, &guest.home);
    let image = |name: &str| rootfs.map_or_else(String::new, |rootfs| rootfs.etc(name));
    let passwd = ["root:x:0:0:root:/root:/bin/sh\n".to_owned(), format!("node:x:{uid}:{gid}::{home}:/bin/sh\n")];
    let group = ["root:x:0:\n".to_owned(), format!("node:x:{gid}:\n")];
    let services = plan.services.iter().map(|service| service.name.as_str());
    let names = Door::ALL.iter().map(|door| door.name()).chain(services);
    let doors: Vec<String> = names.map(|name| format!("127.0.0.1 {name}\n")).collect();
    let mut own_files = vec![
        ("passwd", with_users(&image("passwd"), &passwd)),
        ("group", with_users(&image("group"), &group)),
        ("hosts", format!("127.0.0.1 localhost\n::1 localhost\n{}", doors.concat())),
        ("resolv.conf", String::new()),
        // No public authority is trusted: a certificate of one could only mean that something went round the doors. What is not
        // listed is off, and a line for each would cost a process for each.
        ("ca-certificates.conf", "# no public authority\n".to_owned()),
    ];
    own_files.extend(host_etc::names("files"));
    own_files
}

/// A list of users or groups with these in it, each where its number is not there.
fn with_users(list: &str, lines: &[String]) -> String {
    let number = |line: &str| line.split(':').nth(2).map(str::to_owned);
    let mut all = list.trim_end().to_owned();
    if !all.is_empty() {
        all.push('\n');
    }
    for line in lines {
        if !list.lines().any(|other| number(other) == number(line)) {
            all.push_str(line);
        }
    }
    all
}

/// The agent's: no network, the doors' sockets, its own home and workspace for writing.
pub(super) fn guest(
    run_dir: &RunDir,
    plan: &BottlePlan,
    rootfs: Option<&Rootfs>,
    etc: &Path,
    tools: &Tools,
) -> BwrapOptions {
    let guest = &plan.guest;
    let mut options = BwrapOptions::default();
    add_system(&mut options, &guest.uid.to_string(), rootfs);
    options.add(&["--unshare-net", "--as-pid-1"]);
    options.bind("--ro-bind", etc, "/etc");
    authorities(&mut options, run_dir, rootfs, "--ro-bind");
    for (name, to) in [("home", &*guest.home), ("workspace", &guest.root), ("tmp", "/tmp"), ("vartmp", "/var/tmp")] {
        options.bind("--bind", &run_dir.path(&format!("guest/{name}")), to);
    }
    options.bind("--ro-bind", &run_dir.path("doors"), DOORS_DIR);
    let mirror = plan.git.as_ref().and_then(|git| git.mirror.as_deref());
    if let Some(to) = mirror {
        options.bind("--ro-bind", &run_dir.path(bundle::MIRROR), to);
    }
    for dir in &guest.host_tools {
        options.bind("--ro-bind", Path::new(dir), dir);
    }
    options.bind("--ro-bind", &tools.claude, &format!("{TOOLS_DIR}/bin/claude"));
    options.bind("--ro-bind", &tools.link, &format!("{TOOLS_DIR}/bin/bottle-link"));
    options
}

/// The same system with what it trusts for writing, and nothing else: what sets up what the agent can't change.
pub(super) fn setup(run_dir: &RunDir, rootfs: Option<&Rootfs>, etc: &Path) -> BwrapOptions {
    let mut options = BwrapOptions::default();
    add_system(&mut options, "0", rootfs);
    options.add(&["--unshare-net", "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin"]);
    options.bind("--ro-bind", etc, "/etc");
    authorities(&mut options, run_dir, rootfs, "--bind");
    options.add(&["--tmpfs", "/tmp"]);
    options
}

/// This machine's system, or an image's.
fn add_system(options: &mut BwrapOptions, id: &str, rootfs: Option<&Rootfs>) {
    let Some(rootfs) = rootfs else { return host_etc::add(options, id, &host_etc::guest_parts()) };
    host_etc::add_namespaces(options, id);
    rootfs.add_env(options);
    rootfs.add(options);
    host_etc::add_kernel(options);
}

fn authorities(options: &mut BwrapOptions, run_dir: &RunDir, rootfs: Option<&Rootfs>, how: &str) {
    options.bind(how, &run_dir.path("guest-certs"), TRUSTED);
    // Where the system has no such directory nothing can be bound there, and no program looks there.
    let there = rootfs.map_or_else(|| Path::new(LOCAL_CAS).is_dir(), |rootfs| rootfs.has_directory(LOCAL_CAS));
    if there {
        options.bind(how, &run_dir.path("guest-cas"), LOCAL_CAS);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::backend::bubblewrap::rootfs::tests::rootfs;

    /// An image can have links anywhere in its /etc; this machine's files are where some of them would lead.
    #[test]
    fn no_link_of_an_image_leads_out_of_the_guests_etc() {
        let plan: BottlePlan =
            serde_json::from_str(include_str!("../../../crates/bottle-plan/tests/golden/bubblewrap.json"))
                .expect("a plan");
        for (name, is_directory) in [
            ("passwd", false),
            ("group", false),
            ("hosts", false),
            ("hostname", false),
            ("resolv.conf", false),
            ("nsswitch.conf", false),
            ("ca-certificates.conf", false),
            ("ssl", true),
            ("ssl/certs", true),
            ("ca-certificates", true),
            ("ca-certificates/update.d", true),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let (image, outside) = (dir.path().join("image"), dir.path().join("outside"));
            let rootfs = rootfs(&image);
            let link = image.join("etc").join(name);
            fs::create_dir_all(link.parent().expect("a parent")).expect("a directory");
            if link.is_dir() {
                fs::remove_dir_all(&link).expect("removed");
            } else {
                let _ = fs::remove_file(&link);
            }
            if is_directory {
                fs::create_dir(&outside).expect("a directory");
                fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).expect("a mode");
            } else {
                fs::write(&outside, "this machine's").expect("a file");
            }
            symlink(&outside, &link).expect("a link");
            let run_dir = RunDir::for_run(dir.path(), "run");
            fs::create_dir(run_dir.path("")).expect("a directory");
            make(&run_dir, &plan, Some(&rootfs), Users::default()).expect("made");
            fill(&run_dir, &plan, &rootfs).expect("filled");
            if is_directory {
                let mode = fs::metadata(&outside).expect("there").permissions().mode();
                assert_eq!(mode & 0o7777, 0o700, "{name}");
                assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 0, "{name}");
            } else {
                assert_eq!(fs::read_to_string(&outside).expect("there"), "this machine's", "{name}");
            }
            let made = fs::symlink_metadata(run_dir.path("guest-etc").join(name)).expect("made");
            assert_eq!(made.is_dir(), is_directory, "{name}");
            assert!(!made.is_symlink(), "{name}");
        }
    }
}
