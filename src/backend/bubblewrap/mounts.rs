//! What the two sandboxes see: the host's programs read-only, a small /etc of their own, and the run's own directories.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bottle_plan::plan::{BottlePlan, TOOLS_DIR};
use bottle_policy::door::{CONFIG_DIR, DOORS_DIR, Door, INTERNAL_DIR, SECRETS_DIR, STATE_DIR};

use super::host::Tools;
use super::place::Place;
use super::sandbox::Options;
use super::users::Users;

/// Where programs are, in both.
pub(super) const PATH: &str = "/opt/claude-bottle/bin:/usr/local/bin:/usr/bin:/bin";
/// Directories of the system's programs. On most systems all but the first are links into it.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"];
/// What programs need of the host's /etc; nothing of who uses this machine, and for what.
const ETC: [&str; 20] = [
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "os-release",
    "debian_version",
    "protocols",
    "services",
    "localtime",
    "locale.alias",
    "locale.conf",
    "mime.types",
    "magic",
    "terminfo",
    "inputrc",
    "bash.bashrc",
    "profile",
    "shells",
    "perl",
    "ca-certificates.conf",
];
/// Where local authorities are put for `update-ca-certificates`.
const LOCAL_CAS: &str = "/usr/local/share/ca-certificates";
/// What shared memory a guest has, as Docker gives it.
const SHM_BYTES: &str = "67108864";

/// Makes the directories of a run. On failure what there is stays for whoever removes the run.
pub(super) fn make(place: &Place, plan: &BottlePlan, users: Users) -> io::Result<()> {
    place.directory("guest", 0o755, None)?;
    for (name, mode) in [("home", 0o755), ("workspace", 0o755), ("tmp", 0o1777), ("vartmp", 0o1777)] {
        place.directory(&format!("guest/{name}"), mode, users.guest)?;
    }
    place.directory("doors", 0o755, users.bundle)?;
    place.directory("bundle", 0o755, None)?;
    for (name, mode) in [("state", 0o755), ("tmp", 0o700)] {
        place.directory(&format!("bundle/{name}"), mode, users.bundle)?;
    }
    guest_etc(place, plan, users.setup)?;
    bundle_etc(place, plan, users.bundle)
}

fn guest_etc(place: &Place, plan: &BottlePlan, owner: Option<u32>) -> io::Result<()> {
    let guest = &plan.guest;
    let etc = common_etc(place, "guest-etc", "files", owner)?;
    let (uid, gid, home) = (guest.uid, guest.gid, &guest.home);
    let write = |name: &str, text: &str| place.write(&format!("guest-etc/{name}"), text.as_bytes(), owner).map(drop);
    write("passwd", &format!("root:x:0:0:root:/root:/bin/sh\nnode:x:{uid}:{gid}::{home}:/bin/sh\n"))?;
    write("group", &format!("root:x:0:\nnode:x:{gid}:\n"))?;
    let doors: Vec<String> = Door::ALL.iter().map(|door| format!("127.0.0.1 {}\n", door.name())).collect();
    write("hosts", &format!("127.0.0.1 localhost\n::1 localhost\n{}", doors.concat()))?;
    write("resolv.conf", "")?;
    // No public authority is trusted: a certificate of one could only mean that something went round the doors.
    let listed = fs::read_to_string(etc.join("ca-certificates.conf")).unwrap_or_default();
    let off =
        listed.lines().map(|line| if line.starts_with(['#', '!']) { line.to_owned() } else { format!("!{line}") });
    write("ca-certificates.conf", &(off.collect::<Vec<_>>().join("\n") + "\n"))?;
    for directory in
        ["guest-etc/ssl", "guest-etc/ssl/certs", "guest-etc/ca-certificates", "guest-etc/ca-certificates/update.d"]
    {
        place.directory(directory, 0o755, owner)?;
    }
    if let Ok(settings) = fs::read("/etc/ssl/openssl.cnf") {
        place.write("guest-etc/ssl/openssl.cnf", &settings, owner)?;
    }
    place.directory("guest-cas", 0o755, owner).map(drop)
}

fn bundle_etc(place: &Place, plan: &BottlePlan, owner: Option<u32>) -> io::Result<()> {
    let etc = common_etc(place, "bundle-etc", "files dns", owner)?;
    let write = |name: &str, text: &str| place.write(&format!("bundle-etc/{name}"), text.as_bytes(), owner).map(drop);
    let id = BUNDLE_ID;
    write("passwd", &format!("root:x:0:0:root:/root:/bin/sh\nbottle:x:{id}:{id}::{STATE_DIR}:/bin/sh\n"))?;
    write("group", &format!("root:x:0:\nbottle:x:{id}:\n"))?;
    let hosts: Vec<String> = plan.extra_hosts.iter().map(|(host, address)| format!("{address} {host}\n")).collect();
    write("hosts", &format!("127.0.0.1 localhost\n::1 localhost\n{}", hosts.concat()))?;
    write("resolv.conf", &fs::read_to_string("/etc/resolv.conf").unwrap_or_default())?;
    for trusted in ["ssl", "pki"] {
        let from = Path::new("/etc").join(trusted);
        // Certificates are links to what /usr has; private keys can't be read, and are left out.
        copy(&from, &etc.join(trusted), &|path| !path.ends_with("private"))?;
    }
    place.directory("bundle-etc/claude-bottle", 0o755, owner)?;
    for (name, content) in bottle_plan::render::policy_files(plan) {
        place.write(
            &format!("bundle-etc/{}/{name}", CONFIG_DIR.trim_start_matches("/etc/")),
            content.as_bytes(),
            owner,
        )?;
    }
    Ok(())
}

fn common_etc(place: &Place, name: &str, resolve: &str, owner: Option<u32>) -> io::Result<PathBuf> {
    let etc = place.directory(name, 0o755, owner)?;
    for part in ETC {
        copy(&Path::new("/etc").join(part), &etc.join(part), &|_| true)?;
    }
    place.write(
        &format!("{name}/nsswitch.conf"),
        format!("passwd: files\ngroup: files\nhosts: {resolve}\n").as_bytes(),
        owner,
    )?;
    place.write(&format!("{name}/hostname"), b"bottle\n", owner)?;
    Ok(etc)
}

/// Copies files, directories and links; what is not there, or not to be read, is left out.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(from) else { return Ok(()) };
    if !wanted(from) {
        return Ok(());
    }
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if found.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from).into_iter().flatten().filter_map(Result::ok) {
            copy(&entry.path(), &to.join(entry.file_name()), wanted)?;
        }
        return Ok(());
    }
    match fs::copy(from, to) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map(drop),
    }
}

/// The user and group that the bundle has inside.
pub(super) const BUNDLE_ID: u32 = 2000;

/// What both have.
fn common(options: &mut Options, id: &str) {
    options.add(&["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
    options.add(&[
        "--uid",
        id,
        "--gid",
        id,
        "--hostname",
        "bottle",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ]);
    options.add(&["--setenv", "PATH", PATH, "--setenv", "LANG", "C.UTF-8"]);
    for dir in SYSTEM {
        match fs::read_link(dir) {
            Ok(target) => options.add(&["--symlink", &target.display().to_string(), dir]),
            Err(_) if Path::new(dir).is_dir() => options.add(&["--ro-bind", dir, dir]),
            Err(_) => {}
        }
    }
    // bwrap covers the kernel's settings only where this user could write them.
    options.add(&[
        "--proc",
        "/proc",
        "--ro-bind",
        "/proc/sys",
        "/proc/sys",
        "--dev",
        "/dev",
        "--size",
        SHM_BYTES,
        "--tmpfs",
        "/dev/shm",
    ]);
    options
        .add(&["--dir", "/root", "--dir", "/sys", "--dir", "/home", "--dir", "/srv", "--dir", "/mnt", "--dir", "/var"]);
    options.add(&["--dir", "/run", "--symlink", "/run", "/var/run"]);
}

/// The agent's: no network, the doors' sockets, its own home and workspace for writing.
pub(super) fn guest(place: &Place, plan: &BottlePlan, tools: &Tools) -> Options {
    let guest = &plan.guest;
    let mut options = Options::default();
    common(&mut options, &guest.uid.to_string());
    options.add(&["--unshare-net", "--as-pid-1"]);
    options.bind("--ro-bind", &place.path("guest-etc"), "/etc");
    local_cas(&mut options, place, "--ro-bind");
    for (name, to) in [("home", &*guest.home), ("workspace", &guest.root), ("tmp", "/tmp"), ("vartmp", "/var/tmp")] {
        options.bind("--bind", &place.path(&format!("guest/{name}")), to);
    }
    options.bind("--ro-bind", &place.path("doors"), DOORS_DIR);
    options.bind("--ro-bind", &tools.claude, &format!("{TOOLS_DIR}/bin/claude"));
    options.bind("--ro-bind", &tools.link, &format!("{TOOLS_DIR}/bin/bottle-link"));
    options
}

/// The same system with its /etc for writing, and nothing else: what sets up what the agent can't change.
pub(super) fn setup(place: &Place) -> Options {
    let mut options = Options::default();
    common(&mut options, "0");
    options.add(&["--unshare-net"]);
    options.bind("--bind", &place.path("guest-etc"), "/etc");
    local_cas(&mut options, place, "--bind");
    options.add(&["--tmpfs", "/tmp"]);
    options
}

fn local_cas(options: &mut Options, place: &Place, how: &str) {
    // Where the host has no such directory nothing can be bound there, and no program looks there.
    if Path::new(LOCAL_CAS).is_dir() {
        options.bind(how, &place.path("guest-cas"), LOCAL_CAS);
    }
}

/// The sidecars': the host's network, the doors for writing, secrets and their talk among themselves in memory alone.
pub(super) fn bundle(place: &Place, tools: &Tools) -> Options {
    let mut options = Options::default();
    common(&mut options, &BUNDLE_ID.to_string());
    options.add(&["--as-pid-1"]);
    options.bind("--bind", &place.path("bundle-etc"), "/etc");
    options.bind("--bind", &place.path("bundle/state"), STATE_DIR);
    options.bind("--bind", &place.path("bundle/tmp"), "/tmp");
    options.bind("--bind", &place.path("doors"), DOORS_DIR);
    for dir in [INTERNAL_DIR, SECRETS_DIR] {
        options.add(&["--perms", "0700", "--tmpfs", dir]);
    }
    options.bind("--ro-bind", &tools.sidecars, &format!("{TOOLS_DIR}/bin/bottle-sidecars"));
    options.bind("--ro-bind", &tools.gitleaks, &format!("{TOOLS_DIR}/bin/gitleaks"));
    options.bind("--ro-bind", &tools.link, &format!("{TOOLS_DIR}/bin/bottle-link"));
    options
}
