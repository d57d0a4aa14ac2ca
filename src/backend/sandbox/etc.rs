//! What every sandbox sees of the host: its programs, read-only, and a small /etc of its own.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::bwrap::BwrapOptions;
use super::run_dir;

/// Where programs are, in every one.
const PATH: &str = "/opt/claude-bottle/bin:/usr/local/bin:/usr/bin:/bin";
/// Directories of the system's programs. On most systems all but the first are links into it.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"];
/// What programs need of the host's /etc; nothing of who uses this machine, and for what.
const ETC: [&str; 23] = [
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
    "ssl/openssl.cnf",
    "fonts",
    // Not settings.xml, which may have passwords.
    "maven/m2.conf",
    "maven/logging",
];
/// What of that the sidecars need, and the programs that they run.
pub(in crate::backend) const BUNDLE_ETC: [&str; 5] =
    ["alternatives", "ld.so.cache", "localtime", "protocols", "services"];
/// In the base: what all runs' sandboxes see at /etc.
const SHARED: &str = ".etc";
/// No run lasts so long.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// What shared memory a guest has, as Docker gives it.
const SHM_BYTES: &str = "67108864";

/// What the guest has of the host's /etc: the fixed parts, and those of languages whose packages name them by version.
pub(in crate::backend) fn guest_parts() -> Vec<String> {
    let names = |dir: &str| {
        let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    };
    let java = names("/etc").into_iter().filter(|name| name.starts_with("java-") && name.ends_with("-openjdk"));
    let php = names("/etc/php").into_iter();
    let php = php.flat_map(|version| ["cli", "mods-available"].map(|part| format!("php/{version}/{part}")));
    let versioned = java.chain(php).filter(|part| is_directory(part));
    ETC.iter().map(|part| (*part).to_owned()).chain(versioned).collect()
}

/// How names are looked up in an /etc, and its own name.
pub(in crate::backend) fn names(resolve: &str) -> [(&'static str, String); 2] {
    [("nsswitch.conf", format!("passwd: files\ngroup: files\nhosts: {resolve}\n")), ("hostname", "bottle\n".to_owned())]
}

/// An /etc with these parts of the host's, these files and these directories. All runs have one and the same, as long as the
/// host's does not change: nobody in a sandbox can write to it. Making a file of each for every run would take longer than
/// anything else before the first command.
pub(in crate::backend) fn shared_etc(
    base: &Path,
    parts: &[impl AsRef<str>],
    own: &[(&str, String)],
    own_directories: &[&str],
) -> io::Result<PathBuf> {
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    let mut key = Sha256::new();
    for part in &parts {
        let path = Path::new("/etc").join(part);
        let entry_key = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => format!("{part} -> {}", fs::read_link(&path)?.display()),
            Ok(found) if found.is_dir() => format!("{part}/"),
            Ok(found) => format!("{part} {} {} {}", found.size(), found.mtime(), found.mtime_nsec()),
            Err(_) => format!("no {part}"),
        };
        key.update(entry_key + "\n");
    }
    for (name, text) in own {
        key.update(format!("{name} {} {text}\n", text.len()));
    }
    key.update(own_directories.join(" "));
    let key = format!("{:.32x}", key.finalize());
    let all = base.join(SHARED);
    let etc = all.join(&key);
    if let Ok(found) = fs::File::open(&etc) {
        // For whoever removes what is not used any more.
        let _ = found.set_modified(SystemTime::now());
        return Ok(etc);
    }
    readable_directory(&all)?;
    remove_unused(&all)?;
    // Beside and renamed: another run may do the same just now.
    let partial = tempfile::Builder::new().prefix(".new-").tempdir_in(&all)?;
    let to = partial.path().join("etc");
    readable_directory(&to)?;
    let above = files(&parts).filter(|part| Path::new("/etc").join(part).exists());
    let above = above.filter_map(|part| Some(part.rsplit_once('/')?.0));
    for part in own_directories.iter().copied().chain(directories(&parts)).chain(above) {
        let mut at = to.clone();
        for name in part.trim_start_matches("/etc/").split('/') {
            at.push(name);
            readable_directory(&at)?;
        }
    }
    files(&parts).try_for_each(|part| copy(&Path::new("/etc").join(part), &to.join(part)))?;
    for (name, text) in own {
        run_dir::write(&to.join(name), text.as_bytes(), None)?;
    }
    match fs::rename(&to, &etc) {
        Err(error) if !etc.is_dir() => Err(error),
        _ => Ok(etc),
    }
}

/// Makes a directory that everybody can read, whatever new files are like for this user.
fn readable_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(path, Permissions::from_mode(0o755)),
    }
}

/// Removes what no run has asked for in a time that none lasts.
fn remove_unused(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)?.filter_map(Result::ok) {
        let used = entry.metadata().and_then(|found| found.modified());
        if used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > UNUSED)) {
            // Another run may do the same just now.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

fn is_directory(part: &str) -> bool {
    fs::symlink_metadata(Path::new("/etc").join(part)).is_ok_and(|found| found.is_dir())
}

fn directories<'a>(parts: &[&'a str]) -> impl Iterator<Item = &'a str> {
    parts.iter().copied().filter(|part| is_directory(part))
}

fn files<'a>(parts: &[&'a str]) -> impl Iterator<Item = &'a str> {
    parts.iter().copied().filter(|part| !is_directory(part))
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
/// host, with these parts of its /etc.
pub(in crate::backend) fn add(options: &mut BwrapOptions, id: &str, etc: &[impl AsRef<str>]) {
    add_namespaces(options, id);
    for dir in SYSTEM {
        match fs::read_link(dir) {
            Ok(target) => options.add(&["--symlink", &target.display().to_string(), dir]),
            Err(_) if Path::new(dir).is_dir() => options.add(&["--ro-bind", dir, dir]),
            Err(_) => {}
        }
    }
    add_kernel(options);
    let etc: Vec<&str> = etc.iter().map(AsRef::as_ref).collect();
    options.lent.extend(directories(&etc).map(|part| format!("/etc/{part}")));
}

/// The options that every sandbox has first.
pub(in crate::backend) fn add_namespaces(options: &mut BwrapOptions, id: &str) {
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
pub(in crate::backend) fn add_kernel(options: &mut BwrapOptions) {
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
    // What the host has mounted among them, such as binfmt_misc, would come along.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in mounted_among_settings(&mounts) {
        // One that systemd mounts at the first look is not one yet, and nothing can be mounted over it.
        let _ = fs::read_dir(point);
        options.add(&["--tmpfs", point, "--remount-ro", point]);
    }
    options
        .add(&["--dir", "/root", "--dir", "/sys", "--dir", "/home", "--dir", "/srv", "--dir", "/mnt", "--dir", "/var"]);
    options.add(&["--dir", "/run", "--symlink", "/run", "/var/run"]);
}

/// The points below /proc/sys in a table of mounts (proc_pid_mountinfo(5)), each once.
fn mounted_among_settings(mounts: &str) -> BTreeSet<&str> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with("/proc/sys/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_among_the_kernels_settings_is_found() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 0:21 / /proc rw - proc proc rw\n\
                      30 23 0:27 / /proc/sys/fs/binfmt_misc rw shared:12 - autofs systemd-1 rw,fd=29\n\
                      31 30 0:40 / /proc/sys/fs/binfmt_misc rw shared:13 - binfmt_misc binfmt_misc rw\n";
        assert_eq!(Vec::from_iter(mounted_among_settings(mounts)), ["/proc/sys/fs/binfmt_misc"]);
        assert!(mounted_among_settings("23 22 0:21 /sys /proc/sys ro - proc proc rw\n").is_empty());
    }

    #[test]
    fn an_etc_is_shared_by_those_who_ask_for_the_same() {
        let base = tempfile::tempdir().expect("a directory");
        let ask = |hosts: &str| {
            shared_etc(base.path(), &ETC, &[("hosts", hosts.to_owned())], &["/etc/ssl/certs"]).expect("made")
        };
        let one = ask("one");
        assert_eq!(fs::read_to_string(one.join("hosts")).expect("written"), "one");
        assert_eq!(fs::metadata(one.join("ssl/certs")).expect("made").mode() & 0o7777, 0o755);
        let long_ago = SystemTime::now() - 2 * UNUSED;
        let forget = |etc: &Path| fs::File::open(etc).and_then(|etc| etc.set_modified(long_ago)).expect("set");
        forget(&one);
        assert_eq!(ask("one"), one);
        assert_ne!(ask("other"), one);
        assert!(one.is_dir(), "it has been asked for since");
        forget(&one);
        ask("a third");
        assert!(!one.exists());
        let left = fs::read_dir(base.path().join(SHARED)).expect("there").count();
        assert_eq!(left, 2, "nothing half made is left");
    }
}
