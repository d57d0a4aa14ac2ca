//! What the agent's sandbox sees: the host's programs, and the run's own directories.

use std::fs;
use std::io;
use std::path::Path;

use bottle_plan::plan::{BottlePlan, TOOLS_DIR};
use bottle_policy::door::{DOORS_DIR, Door};

use super::rootfs::Rootfs;
use crate::backend::host_bundle::{Options, Place, Tools, Users, system};

/// Where local authorities are put for `update-ca-certificates`.
const LOCAL_CAS: &str = "/usr/local/share/ca-certificates";
/// Makes its directories. On failure what there is stays for whoever removes the run.
pub(super) fn make(place: &Place, rootfs: Option<&Rootfs>, users: Users) -> io::Result<()> {
    place.directory("guest", 0o755, None)?;
    for (name, mode) in [("home", 0o755), ("workspace", 0o755), ("tmp", 0o1777), ("vartmp", 0o1777)] {
        place.directory(&format!("guest/{name}"), mode, users.guest)?;
    }
    match rootfs {
        Some(_) => drop(place.directory("guest-etc", 0o755, users.setup)?),
        None => system::make_etc(place, "guest-etc", users.setup)?,
    }
    place.directory("guest-cas", 0o755, users.setup).map(drop)
}

/// Writes the files of its /etc: before a command runs in it, but not before the sandbox is made.
pub(super) fn fill(place: &Place, plan: &BottlePlan, rootfs: Option<&Rootfs>, owner: Option<u32>) -> io::Result<()> {
    let guest = &plan.guest;
    match rootfs {
        Some(rootfs) => rootfs.fill_etc(place, "guest-etc", owner)?,
        None => system::fill_etc(place, "guest-etc", "files", owner)?,
    }
    let (uid, gid, home) = (guest.uid, guest.gid, &guest.home);
    let write = |name: &str, text: &str| place.write(&format!("guest-etc/{name}"), text.as_bytes(), owner).map(drop);
    let image = |name: &str| rootfs.map_or_else(String::new, |rootfs| rootfs.etc(name));
    let passwd = ["root:x:0:0:root:/root:/bin/sh\n".to_owned(), format!("node:x:{uid}:{gid}::{home}:/bin/sh\n")];
    write("passwd", &with_users(&image("passwd"), &passwd))?;
    write("group", &with_users(&image("group"), &["root:x:0:\n".to_owned(), format!("node:x:{gid}:\n")]))?;
    let doors: Vec<String> = Door::ALL.iter().map(|door| format!("127.0.0.1 {}\n", door.name())).collect();
    write("hosts", &format!("127.0.0.1 localhost\n::1 localhost\n{}", doors.concat()))?;
    write("resolv.conf", "")?;
    // No public authority is trusted: a certificate of one could only mean that something went round the doors. What is not
    // listed is off, and a line for each would cost a process for each.
    write("ca-certificates.conf", "# no public authority\n")?;
    for directory in
        ["guest-etc/ssl", "guest-etc/ssl/certs", "guest-etc/ca-certificates", "guest-etc/ca-certificates/update.d"]
    {
        place.directory(directory, 0o755, owner)?;
    }
    if rootfs.is_none()
        && let Ok(settings) = fs::read("/etc/ssl/openssl.cnf")
    {
        place.write("guest-etc/ssl/openssl.cnf", &settings, owner)?;
    }
    Ok(())
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
pub(super) fn guest(place: &Place, plan: &BottlePlan, rootfs: Option<&Rootfs>, tools: &Tools) -> Options {
    let guest = &plan.guest;
    let mut options = Options::default();
    add_system(&mut options, &guest.uid.to_string(), rootfs);
    options.add(&["--unshare-net", "--as-pid-1"]);
    options.bind("--ro-bind", &place.path("guest-etc"), "/etc");
    local_cas(&mut options, place, rootfs, "--ro-bind");
    for (name, to) in [("home", &*guest.home), ("workspace", &guest.root), ("tmp", "/tmp"), ("vartmp", "/var/tmp")] {
        options.bind("--bind", &place.path(&format!("guest/{name}")), to);
    }
    options.bind("--ro-bind", &place.path("doors"), DOORS_DIR);
    options.bind("--ro-bind", &tools.claude, &format!("{TOOLS_DIR}/bin/claude"));
    options.bind("--ro-bind", &tools.link, &format!("{TOOLS_DIR}/bin/bottle-link"));
    options
}

/// The same system with its /etc for writing, and nothing else: what sets up what the agent can't change.
pub(super) fn setup(place: &Place, rootfs: Option<&Rootfs>) -> Options {
    let mut options = Options::default();
    add_system(&mut options, "0", rootfs);
    options.add(&["--unshare-net", "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin"]);
    options.bind("--bind", &place.path("guest-etc"), "/etc");
    local_cas(&mut options, place, rootfs, "--bind");
    options.add(&["--tmpfs", "/tmp"]);
    options
}

/// This machine's system, or an image's.
fn add_system(options: &mut Options, id: &str, rootfs: Option<&Rootfs>) {
    let Some(rootfs) = rootfs else { return system::add(options, id) };
    system::add_namespaces(options, id);
    rootfs.add_env(options);
    rootfs.add(options);
    system::add_kernel(options);
}

fn local_cas(options: &mut Options, place: &Place, rootfs: Option<&Rootfs>, how: &str) {
    // Where the system has no such directory nothing can be bound there, and no program looks there.
    let there = rootfs.map_or_else(|| Path::new(LOCAL_CAS).is_dir(), |rootfs| rootfs.has_directory(LOCAL_CAS));
    if there {
        options.bind(how, &place.path("guest-cas"), LOCAL_CAS);
    }
}
