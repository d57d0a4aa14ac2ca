//! What a sandbox may use: by control groups where this user may make some, else by what each process inherits.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bottle_plan::manifest::Resources;

use super::process_id::ProcessId;

/// The limits of one sandbox as they came out.
#[derive(Debug, Clone, Default)]
pub(in crate::backend) struct CgroupLimits {
    /// Groups that its first process joins.
    pub(in crate::backend) groups: Vec<PathBuf>,
    /// Options for the link, where no group does it.
    pub(in crate::backend) options: Vec<String>,
    /// For the record.
    pub(in crate::backend) summary: String,
}

/// Where a process of this user is, in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// `memory`, `cpu` and so on; empty: all of version 2.
    controllers: Vec<String>,
    mount: PathBuf,
    own_group: String,
}

/// The three limits, as the files of a group have them.
struct ResourceLimit<'a> {
    controller: &'a str,
    what: &'a str,
    v1: Vec<(&'static str, String)>,
    v2: (&'static str, String),
    /// For the link.
    option: (&'static str, u64),
    how: &'static str,
}

fn wanted(resources: &Resources) -> Vec<ResourceLimit<'static>> {
    let period = 100_000_u64;
    // A manifest's number of processors is small and above 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked with the manifest")]
    let (quota, cpus) = ((resources.cpus * period as f64) as u64, resources.cpus.ceil() as u64);
    let (memory, pids) = (resources.memory.0, u64::from(resources.pids));
    vec![
        ResourceLimit {
            controller: "memory",
            what: "memory",
            v1: vec![("memory.limit_in_bytes", memory.to_string())],
            v2: ("memory.max", memory.to_string()),
            option: ("--most-data", memory),
            how: "RLIMIT_DATA of each process",
        },
        ResourceLimit {
            controller: "cpu",
            what: "processors",
            v1: vec![("cpu.cfs_period_us", period.to_string()), ("cpu.cfs_quota_us", quota.to_string())],
            v2: ("cpu.max", format!("{quota} {period}")),
            option: ("--most-cpus", cpus.max(1)),
            how: "the processors that it may run on",
        },
        ResourceLimit {
            controller: "pids",
            what: "processes",
            v1: vec![("pids.max", pids.to_string())],
            v2: ("pids.max", pids.to_string()),
            option: ("--most-processes", pids),
            how: "RLIMIT_NPROC",
        },
    ]
}

/// Makes groups of this name as far as this user may, and says what limits what.
pub(in crate::backend) fn set(name: &str, resources: &Resources) -> CgroupLimits {
    let hierarchies = hierarchies(
        &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
        &fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
    );
    let mut limits = CgroupLimits::default();
    let mut summary = vec![];
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    for wanted in wanted(resources) {
        // Joining a group takes its time, and a share of everything is no limit.
        if wanted.controller == "cpu" && wanted.option.1 >= all as u64 {
            summary.push("processors as many as there are".to_owned());
            continue;
        }
        let v1 = hierarchies.iter().find(|h| h.controllers.iter().any(|controller| controller == wanted.controller));
        let v2 = hierarchies.iter().find(|h| h.controllers.is_empty());
        let group = v1
            .and_then(|hierarchy| Some(("cgroup v1", make_v1(hierarchy, name, &wanted.v1)?)))
            .or_else(|| Some(("cgroup v2", make_v2(v2?, name, &wanted)?)));
        let how = match group {
            Some((how, path)) => {
                if !limits.groups.contains(&path) {
                    limits.groups.push(path);
                }
                how
            }
            None => {
                limits.options.extend([wanted.option.0.to_owned(), wanted.option.1.to_string()]);
                wanted.how
            }
        };
        summary.push(format!("{} by {how}", wanted.what));
    }
    limits.summary = summary.join(", ");
    limits
}

/// The hierarchies of both versions, from mountinfo and /proc/self/cgroup.
fn hierarchies(mounts: &str, own_group: &str) -> Vec<Hierarchy> {
    let mut found = vec![];
    for line in mounts.lines() {
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let Some(mount) = head.split(' ').nth(4) else { continue };
        let mut tail = tail.split(' ');
        let (kind, options) = (tail.next().unwrap_or_default(), tail.nth(1).unwrap_or_default());
        let is_own = |wanted: &str| {
            own_group.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                controllers.split(',').any(|controller| controller == wanted).then(|| path.to_owned())
            })
        };
        let controllers: Vec<String> = match kind {
            "cgroup2" => vec![],
            "cgroup" => options.split(',').filter(|option| is_own(option).is_some()).map(str::to_owned).collect(),
            _ => continue,
        };
        let path = match controllers.first() {
            Some(controller) => is_own(controller),
            None if kind == "cgroup2" => is_own(""),
            None => None,
        };
        if let Some(own_group) = path {
            found.push(Hierarchy { controllers, mount: mount.into(), own_group });
        }
    }
    found
}

/// A new group below the own one, or at the top where the own one is not in sight.
fn make_v1(hierarchy: &Hierarchy, name: &str, files: &[(&'static str, String)]) -> Option<PathBuf> {
    let own_group = hierarchy.mount.join(hierarchy.own_group.trim_start_matches('/'));
    let group = if own_group.is_dir() { own_group } else { hierarchy.mount.clone() }.join(name);
    make(&group, files)
}

/// A new group below the nearest one above this process that hands its controllers down.
fn make_v2(hierarchy: &Hierarchy, name: &str, wanted: &ResourceLimit<'_>) -> Option<PathBuf> {
    let own_group = hierarchy.mount.join(hierarchy.own_group.trim_start_matches('/'));
    let above = own_group.ancestors().take_while(|dir| dir.starts_with(&hierarchy.mount));
    for dir in above {
        let offers = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        if !offers.split_whitespace().any(|controller| controller == wanted.controller) {
            continue;
        }
        // Refused where processes are in it, or where it is not this user's.
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{}", wanted.controller));
        if let Some(group) = make(&dir.join(name), std::slice::from_ref(&wanted.v2)) {
            return Some(group);
        }
    }
    None
}

fn make(group: &Path, files: &[(&'static str, String)]) -> Option<PathBuf> {
    let made = fs::create_dir(group).is_ok();
    if !made && !group.is_dir() {
        return None;
    }
    let set = files.iter().all(|(file, value)| {
        let path = group.join(file);
        path.exists() && fs::write(path, value).is_ok()
    });
    if set && rustix::fs::access(group.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok() {
        return Some(group.to_owned());
    }
    if made {
        // It was never used.
        let _ = fs::remove_dir(group);
    }
    None
}

/// Where the shell that starts a sandbox writes `0` to join a group. It is one thread, and a thread that moves itself by version
/// 1's `tasks` holds up nobody; whole processes move under a lock on all forks of the machine, which takes tens of milliseconds.
/// Version 2 knows no other way.
pub(super) fn entry(group: &Path) -> PathBuf {
    let alone = group.join("tasks");
    if alone.exists() { alone } else { group.join("cgroup.procs") }
}

/// Ends what runs in a group, and removes it; the kernel may take a moment to notice.
pub(in crate::backend) async fn remove(group: &Path) -> Result<(), String> {
    for _ in 0..100 {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(_) => {
                // Nobody else is in a run's own group: a sandbox whose runner was killed while it was being made.
                let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                members.lines().filter_map(|pid| ProcessId::now(pid.parse().ok()?)).for_each(ProcessId::kill);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Err(format!("failed to remove {}: something runs in it", group.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let mounts = "31 24 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n\
                      32 31 0:28 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
                      33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct\n\
                      34 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let own_group = "4:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n";
        let found = hierarchies(mounts, own_group);
        let paths: Vec<_> = found.iter().map(|h| (h.mount.to_str().expect("text"), h.own_group.as_str())).collect();
        assert_eq!(
            paths,
            [("/sys/fs/cgroup/unified", "/c"), ("/sys/fs/cgroup/cpu,cpuacct", "/a"), ("/sys/fs/cgroup/systemd", "/b")]
        );
        assert_eq!(found[1].controllers, ["cpu", "cpuacct"]);
    }
}
