//! What every sandbox sees of the host: its programs, read-only, and a small /etc of its own.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::place::Place;
use super::sandbox::Options;

/// Where programs are, in every one.
const PATH: &str = "/opt/claude-bottle/bin:/usr/local/bin:/usr/bin:/bin";
/// Directories of the system's programs. On most systems all but the first are links into it.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"];
/// What programs need of the host's /etc; nothing of who uses this machine, and for what.
const ETC: [&str; 19] = [
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
];
/// What shared memory a guest has, as Docker gives it.
const SHM_BYTES: &str = "67108864";

/// Makes an /etc with the directories that something is bound to. The rest may come while the sandbox is being made.
pub(in crate::backend) fn make_etc(place: &Place, name: &str, owner: Option<u32>) -> io::Result<()> {
    let etc = place.directory(name, 0o755, owner)?;
    for part in ETC {
        // What is large is bound there; this is where.
        if fs::symlink_metadata(Path::new("/etc").join(part)).is_ok_and(|found| found.is_dir()) {
            fs::create_dir_all(etc.join(part))?;
        }
    }
    Ok(())
}

/// Puts into it what every /etc has; `resolve` says how names are looked up.
pub(in crate::backend) fn fill_etc(place: &Place, name: &str, resolve: &str, owner: Option<u32>) -> io::Result<()> {
    let etc = place.path(name);
    for part in ETC {
        let from = Path::new("/etc").join(part);
        if !fs::symlink_metadata(&from).is_ok_and(|found| found.is_dir()) {
            copy(&from, &etc.join(part))?;
        }
    }
    make_names(place, name, resolve, owner)
}

/// How names are looked up in an /etc, and its own name.
pub(in crate::backend) fn make_names(place: &Place, name: &str, resolve: &str, owner: Option<u32>) -> io::Result<()> {
    let switch = format!("passwd: files\ngroup: files\nhosts: {resolve}\n");
    place.write(&format!("{name}/nsswitch.conf"), switch.as_bytes(), owner)?;
    place.write(&format!("{name}/hostname"), b"bottle\n", owner).map(drop)
}

/// Copies a file or a link; what is not there, or not to be read, is left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(from) else { return Ok(()) };
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    match fs::copy(from, to) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map(drop),
    }
}

/// The options that a sandbox has with the host's programs: namespaces of its own but for the network, and what it sees of the
/// host.
pub(in crate::backend) fn add(options: &mut Options, id: &str) {
    add_namespaces(options, id);
    for dir in SYSTEM {
        match fs::read_link(dir) {
            Ok(target) => options.add(&["--symlink", &target.display().to_string(), dir]),
            Err(_) if Path::new(dir).is_dir() => options.add(&["--ro-bind", dir, dir]),
            Err(_) => {}
        }
    }
    add_kernel(options);
    for part in ETC {
        let path = format!("/etc/{part}");
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            options.lent.push(path);
        }
    }
}

/// The options that every sandbox has first.
pub(in crate::backend) fn add_namespaces(options: &mut Options, id: &str) {
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
}

/// What every sandbox has of the kernel's, and the directories that programs look for.
pub(in crate::backend) fn add_kernel(options: &mut Options) {
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
