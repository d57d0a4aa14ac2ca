//! Mounts, devices and the kernel's own files: nothing of the host is mounted, nothing of the kernel can be written.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Case, Finding, all, case, read};
use crate::cli::Selftest;
use crate::sys;

pub(super) fn cases(options: &Selftest) -> Vec<Case<'_>> {
    vec![
        case("fs.mounts", || {
            let table = read("/proc/self/mountinfo")?;
            let mounts = parse_mounts(&table).ok_or("/proc/self/mountinfo is not in the known form")?;
            let judge = |mount: &Mount<'_>| match options.machine {
                Some(_) => foreign_to_a_machine(mount),
                None => foreign(mount, options),
            };
            let foreign: Vec<String> = mounts.iter().filter_map(judge).collect();
            match (mounts.is_empty(), foreign.is_empty()) {
                (true, _) => Err("no mounts are listed".to_owned()),
                (_, false) => Err(foreign.join("; ")),
                (_, true) => Ok(format!("{} mounts, all of known kinds", mounts.len())),
            }
        }),
        case("fs.devices", || {
            let mut open = vec![];
            devices(Path::new("/dev"), 0, &mut open)?;
            if options.machine.is_some() {
                open.retain(|path| !OF_A_MACHINE.contains(&path.as_str()));
            }
            if open.is_empty() {
                Ok("no device of the host".to_owned())
            } else {
                Err(format!("can be opened: {}", open.join(", ")))
            }
        }),
        case("fs.sys", || {
            // A machine's kernel is its own: what matters is that the agent can't change it.
            let mounts: &[&str] = if options.machine.is_some() { &[] } else { &["/sys", "/proc/sys"] };
            all(mounts.iter().map(|path| read_only(path)).chain(KERNEL_FILES.map(not_writable)))
        }),
    ]
}

const KERNEL_FILES: [&str; 7] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/drop_caches",
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/cgroup.procs",
];

fn read_only(path: &str) -> Finding {
    match sys::is_read_only(Path::new(path)) {
        Ok(true) => Ok(format!("{path} is read-only")),
        Ok(false) => Err(format!("{path} is mounted for writing")),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

fn not_writable(path: &str) -> Finding {
    match OpenOptions::new().write(true).open(path) {
        Ok(_) => Err(format!("{path} can be written")),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(format!("{path}: {error}"))
        }
        Err(error) => Err(format!("{path}: {error}, which decides nothing")),
    }
}

/// One line of mountinfo (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    device: &'a str,
    root: &'a str,
    point: &'a str,
    options: &'a str,
    kind: &'a str,
    source: &'a str,
}

fn parse_mounts(text: &str) -> Option<Vec<Mount<'_>>> {
    text.lines()
        .map(|line| {
            let (head, tail) = line.split_once(" - ")?;
            let mut head = head.split(' ').skip(2);
            let (device, root, point, options) = (head.next()?, head.next()?, head.next()?, head.next()?);
            let mut tail = tail.split(' ');
            Some(Mount { device, root, point, options, kind: tail.next()?, source: tail.next()? })
        })
        .collect()
}

/// The files that Docker itself writes for every container and binds in.
const ENGINE_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];
const TMPFS: [&str; 4] = ["/tmp", "/run", "/var/tmp", "/dev"];

/// Why a mount has no business here.
fn foreign(mount: &Mount<'_>, options: &Selftest) -> Option<String> {
    let Mount { device, root, point, kind, .. } = *mount;
    let read_only = mount.options.split(',').any(|option| option == "ro");
    let below = |dir: &str| point == dir || point.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    let is_volume = [&options.doors_dir, &options.tools].into_iter().any(|dir| Path::new(point) == dir);
    let among = |dirs: &[PathBuf]| dirs.iter().any(|dir| Path::new(point).starts_with(dir));
    let fine = match kind {
        // What the backend says that it mounts: the host's system, and this guest's own directories.
        _ if point != "/" && root != "/" && options.own.iter().any(|dir| Path::new(point) == dir) => true,
        _ if point != "/" && among(&options.lent) => read_only,
        // An unpacked image's parts, each where it is in the image.
        _ if point != "/"
            && options.image.as_ref().is_some_and(|image| format!("{device}{root}") == format!("{image}{point}")) =>
        {
            read_only
        }
        // Around such parts there is a file system in memory.
        _ if point == "/" && options.image.is_some() => kind == "tmpfs" && root != "/",
        // The image's own file system. A host's root directory has the root "/" of a real file system.
        _ if point == "/" => root != "/" || matches!(kind, "overlay" | "aufs" | "fuse.fuse-overlayfs" | "zfs"),
        "proc" => below("/proc"),
        // The host's `/proc/sys`, which bwrap binds, brings what systemd mounts there: which interpreters the kernel knows, or the trap that
        // mounts it.
        "binfmt_misc" | "autofs" => point == "/proc/sys/fs/binfmt_misc" && read_only,
        "devpts" => below("/dev"),
        // What bwrap gives: the harmless devices one by one.
        "devtmpfs" => {
            root.strip_prefix('/').is_some_and(|name| HARMLESS.contains(&name) && point == format!("/dev/{name}"))
        }
        "mqueue" => point == "/dev/mqueue",
        "sysfs" | "cgroup" | "cgroup2" => below("/sys") && read_only,
        "tmpfs" => {
            let own = options.tmpfs.iter().any(|dir| Path::new(point) == dir);
            own || TMPFS.contains(&point)
                || below("/dev")
                || below("/proc")
                || below("/sys")
                || (is_volume && read_only)
        }
        _ if is_volume => read_only,
        _ => ENGINE_FILES.contains(&point),
    };
    let how = if read_only { "read-only" } else { "for writing" };
    (!fine).then(|| format!("{kind} mounted {how} at {point}, from {root}"))
}

/// What only a machine's own kernel has, without a way out of the machine.
const OF_A_MACHINE: [&str; 3] = ["/dev/fuse", "/dev/kmsg", "/dev/net/tun"];

/// A machine has its own kernel's file systems and its own disks. A directory of the host's comes by virtiofs or 9p; the
/// image's own is below the overlay, where nothing names it.
fn foreign_to_a_machine(mount: &Mount<'_>) -> Option<String> {
    let fine = match mount.kind {
        "overlay" | "proc" | "devpts" | "devtmpfs" | "mqueue" | "sysfs" | "cgroup" | "cgroup2" | "tmpfs" => true,
        "ext4" => ["/dev/vda", "/dev/vdb"].contains(&mount.source),
        _ => false,
    };
    (!fine).then(|| format!("{} of {} mounted at {}", mount.kind, mount.source, mount.point))
}

const HARMLESS: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"];

/// Devices that can be opened and are not harmless. /dev/pts has only terminals.
fn devices(dir: &Path, depth: usize, open: &mut Vec<String>) -> Result<(), String> {
    let error = |error| format!("failed to search {}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(error)? {
        let entry = entry.map_err(error)?;
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            match path.to_str() {
                Some("/dev/pts" | "/dev/shm" | "/dev/mqueue") => {}
                _ if depth < 4 && !is_locked(&path) => devices(&path, depth + 1, open)?,
                _ => {}
            }
            continue;
        }
        let harmless = depth == 0 && HARMLESS.iter().any(|name| entry.file_name() == *name);
        if !(kind.is_block_device() || kind.is_char_device()) || (harmless && !kind.is_block_device()) {
            continue;
        }
        let opens = [(true, true), (true, false), (false, true)].into_iter().any(|(read, write)| {
            let tried = OpenOptions::new().read(read).write(write).custom_flags(libc::O_NONBLOCK).open(&path);
            !tried.is_err_and(|error| matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound))
        });
        if opens {
            open.push(path.display().to_string());
        }
    }
    Ok(())
}

fn is_locked(dir: &Path) -> bool {
    fs::read_dir(dir).is_err() && !sys::may_search(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Selftest {
        match crate::cli::parse(["selftest".into()]) {
            Ok(crate::cli::Invocation::Selftest(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    fn is_foreign(line: &str) -> bool {
        let mounts = parse_mounts(line).expect("a line of mountinfo");
        foreign(&mounts[0], &options()).is_some()
    }

    #[test]
    fn a_sealed_guests_mounts_are_known() {
        for line in [
            "505 408 0:51 / / rw,relatime master:217 - overlay overlay rw,lowerdir=/x",
            "506 505 0:54 / /proc rw,nosuid - proc proc rw",
            "521 506 0:54 /sys /proc/sys ro,nosuid - proc proc rw",
            "523 506 0:57 / /proc/acpi ro,relatime - tmpfs tmpfs ro",
            "524 521 0:28 / /proc/sys/fs/binfmt_misc ro,nosuid - autofs systemd-1 rw,fd=29,pgrp=1",
            "525 524 0:44 / /proc/sys/fs/binfmt_misc ro,nosuid - binfmt_misc binfmt_misc rw",
            "507 505 0:55 / /dev rw,nosuid - tmpfs tmpfs rw",
            "509 505 0:57 / /sys ro,nosuid - sysfs sysfs ro",
            "510 509 0:29 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw",
            "513 505 254:0 /var/lib/docker/containers/a/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda rw",
            "513 505 0:5 /null /dev/null rw,nosuid - devtmpfs udev rw",
            "513 505 254:0 /var/lib/docker/volumes/a/_data /run/bottle ro,relatime - ext4 /dev/vda rw",
        ] {
            assert!(!is_foreign(line), "{line}");
        }
    }

    #[test]
    fn what_the_host_lends_is_seen() {
        for line in [
            "513 505 254:0 / / rw,relatime - ext4 /dev/vda rw",
            "513 505 254:0 /home/me /workspace rw,relatime - ext4 /dev/vda rw",
            "513 505 254:0 /home/me /workspace ro,relatime - ext4 /dev/vda rw",
            "513 505 254:0 /v /run/bottle rw,relatime - ext4 /dev/vda rw",
            "513 505 0:22 /docker.sock /var/run/docker.sock rw - tmpfs tmpfs rw",
            "509 505 0:57 / /sys rw,nosuid - sysfs sysfs rw",
            "509 505 0:57 / /host/proc rw,nosuid - proc proc rw",
            "525 521 0:44 / /proc/sys/fs/binfmt_misc rw,nosuid - binfmt_misc binfmt_misc rw",
            "525 521 0:44 / /mnt ro,nosuid - binfmt_misc binfmt_misc rw",
            "524 521 0:28 / /home ro,nosuid - autofs systemd-1 rw,fd=29,pgrp=1",
            "509 505 0:57 / /mnt rw - fuse.sshfs x rw",
            "513 505 0:5 / /dev rw,nosuid - devtmpfs udev rw",
            "513 505 0:5 /sda /dev/null rw,nosuid - devtmpfs udev rw",
        ] {
            assert!(is_foreign(line), "{line}");
        }
        assert_eq!(parse_mounts("nonsense"), None);
    }

    #[test]
    fn what_a_host_lends_to_a_machine_is_seen() {
        let is_foreign =
            |line: &str| foreign_to_a_machine(&parse_mounts(line).expect("a line of mountinfo")[0]).is_some();
        assert!(!is_foreign("1 2 0:51 / / rw,relatime - overlay none rw,lowerdir+=/packed_layers"));
        assert!(!is_foreign("1 2 254:0 /workspace /workspace rw,noatime - ext4 /dev/vda rw"));
        assert!(is_foreign("1 2 0:40 / /host rw - virtiofs smolvm0 rw"));
        assert!(is_foreign("1 2 0:40 / /host rw - 9p host rw"));
        assert!(is_foreign("1 2 254:32 / /data rw - ext4 /dev/vdc rw"));
    }

    #[test]
    fn an_unpacked_image_is_fine_at_its_own_place_and_read_only() {
        let options = Selftest { image: Some("254:0/i/abc".to_owned()), ..options() };
        let is_foreign = |line: &str| {
            let mounts = parse_mounts(line).expect("a line of mountinfo");
            foreign(&mounts[0], &options).is_some()
        };
        assert!(!is_foreign("1 2 254:0 /i/abc/usr /usr ro,nosuid - ext4 /dev/vda rw"));
        assert!(!is_foreign("1 2 254:0 /i/abc/opt/app /opt/app ro,nosuid - ext4 /dev/vda rw"));
        assert!(is_foreign("1 2 254:0 /i/abc/usr /usr rw,nosuid - ext4 /dev/vda rw"), "it could be written");
        assert!(is_foreign("1 2 254:1 /i/abc/usr /usr ro,nosuid - ext4 /dev/vdb rw"), "another disk's");
        assert!(is_foreign("1 2 254:0 /usr /usr ro,nosuid - ext4 /dev/vda rw"), "the host's");
        assert!(is_foreign("1 2 254:0 /i/abc/usr /mnt ro,nosuid - ext4 /dev/vda rw"), "at another place");
        assert!(is_foreign("1 2 254:0 /i/abcd/usr /usr ro,nosuid - ext4 /dev/vda rw"), "another image's");
        assert!(is_foreign("1 2 254:0 /i/abc/ / ro,nosuid - ext4 /dev/vda rw"), "the image as a whole");
    }

    #[test]
    fn what_is_declared_is_fine_as_it_is_declared() {
        let options = Selftest { lent: vec!["/usr".into()], own: vec!["/workspace".into()], ..options() };
        let is_foreign = |line: &str| {
            let mounts = parse_mounts(line).expect("a line of mountinfo");
            foreign(&mounts[0], &options).is_some()
        };
        assert!(!is_foreign("1 2 254:0 /usr /usr ro,nosuid - ext4 /dev/vda rw"));
        assert!(!is_foreign("1 2 254:0 /data /usr/share ro,nosuid - ext4 /dev/vda rw"));
        assert!(is_foreign("1 2 254:0 /usr /usr rw,nosuid - ext4 /dev/vda rw"));
        assert!(is_foreign("1 2 254:0 /home /usrlocal ro,nosuid - ext4 /dev/vda rw"));
        assert!(!is_foreign("1 2 254:0 /r/workspace /workspace rw,nosuid - ext4 /dev/vda rw"));
        assert!(is_foreign("1 2 254:0 /r/x /workspace/x rw,nosuid - ext4 /dev/vda rw"));
        assert!(is_foreign("1 2 254:0 / /workspace rw,nosuid - ext4 /dev/vda rw"), "a whole disk of the host");
    }
}
