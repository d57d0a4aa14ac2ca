//! Unix sockets of others: an engine's, the host's, abstract ones. The doors' four are the only ones there may be.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{Case, Finding, all, case, read};
use crate::cli::Selftest;
use crate::sys;

const ENGINES: [&str; 10] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/docker/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/systemd/journal/socket",
];
/// Where sockets are by custom. The guest's own image has none before anything runs in it.
const PLACES: [&str; 5] = ["/run", "/var/run", "/tmp", "/var/lib", "/dev"];
const DEEPEST: usize = 6;
/// More entries than this are not a run directory, and not searched.
const MOST_ENTRIES: usize = 20_000;

pub(super) fn cases(options: &Selftest) -> Vec<Case<'_>> {
    vec![
        case("unix.docker", || all(ENGINES.map(absent))),
        case("unix.others", || {
            // /var/run is a link to /run nearly everywhere.
            let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            let mut walk = Walk { doors: real(&options.doors_dir), options, entries: 0, found: vec![] };
            let mut places = PLACES.map(|place| real(Path::new(place))).to_vec();
            places.sort_unstable();
            places.dedup();
            for place in places {
                walk.enter(&place, 0)?;
            }
            if walk.found.is_empty() {
                Ok(format!("{} entries searched", walk.entries))
            } else {
                Err(format!("foreign sockets: {}", walk.found.join(", ")))
            }
        }),
        case("unix.abstract", || match listening(&read("/proc/net/unix")?) {
            None => Ok("no unix socket listens in this network namespace".to_owned()),
            Some(line) => Err(format!("a unix socket of others listens here: {line}")),
        }),
    ]
}

fn absent(path: &str) -> Finding {
    match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(format!("{path}: not there"))
        }
        Err(error) => Err(format!("{path} is there: {error}")),
        Ok(_) => Err(format!("{path} takes connections")),
    }
}

struct Walk<'a> {
    doors: PathBuf,
    options: &'a Selftest,
    entries: usize,
    found: Vec<String>,
}

impl Walk<'_> {
    fn enter(&mut self, dir: &Path, depth: usize) -> Result<(), String> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            // What can be neither listed nor entered is no way out; what can be entered by guessing a name may be one.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !sys::may_search(dir) => return Ok(()),
            Err(error) => return Err(format!("failed to search {}: {error}", dir.display())),
        };
        for entry in entries {
            let entry = entry.map_err(|error| format!("failed to search {}: {error}", dir.display()))?;
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err(format!("{} is too large to search", dir.display()));
            }
            // A file that has gone since is no socket.
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                if depth < DEEPEST {
                    self.enter(&path, depth + 1)?;
                }
            } else if kind.is_socket() && !self.is_door(&path) {
                self.found.push(path.display().to_string());
            }
        }
        Ok(())
    }

    fn is_door(&self, path: &Path) -> bool {
        const DOORS: [&str; 4] = ["egress.sock", "pipelock.sock", "git-gate.sock", "supervise.sock"];
        let name = path.file_name().unwrap_or_default();
        let declared = &self.options.doors;
        path.parent() == Some(self.doors.as_path())
            && if declared.is_empty() {
                DOORS.iter().any(|door| name == *door)
            } else {
                declared.iter().any(|door| name == door.socket.as_str())
            }
    }
}

/// The first line with `__SO_ACCEPTCON` among its flags, or with an abstract name.
fn listening(table: &str) -> Option<&str> {
    table.lines().skip(1).find(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let flags = columns.get(3).and_then(|flags| u32::from_str_radix(flags, 16).ok()).unwrap_or(u32::MAX);
        flags & 0x10000 != 0 || columns.get(7).is_some_and(|name| name.starts_with('@'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_and_listening_sockets_are_seen() {
        let head = "Num       RefCount Protocol Flags    Type St Inode Path\n";
        let row = |flags, path| format!("{head}0000: 00000002 00000000 {flags} 0001 01 1 {path}\n");
        assert_eq!(listening(&row("00000000", "")), None);
        assert!(listening(&row("00010000", "/run/x.sock")).is_some());
        assert!(listening(&row("00000000", "@/containerd-shim/x")).is_some());
    }

    #[test]
    fn an_engine_that_refuses_is_there() {
        assert!(absent("/nonexistent/docker.sock").is_ok());
        assert!(absent("/etc/passwd").is_err());
    }
}
