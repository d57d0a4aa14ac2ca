//! A run's own directory on this machine: everything that the sandboxes have for writing, their sockets, what they printed.
//!
//! `<base>/<slug>/`, in a base that belongs to this user alone. It is on disk, because checkouts and mirrors are in it, and its
//! path is short, because a socket's may have 107 bytes. Secrets are never in it.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bottle_types::backend::Backend;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::process_id::ProcessId;
use crate::exit::Failure;
use crate::host::{self, Environment};

/// The longest path of a unix socket.
const LONGEST_SOCKET: usize = 107;

/// The run's notes, see [`RunNotes`].
const NOTES: &str = "run.json";

/// In the base, shared by all runs: programs that the sandboxes' users can't reach where they are.
const TOOLS: &str = ".tools";
/// How long a name there is kept for which nobody asks any more: a run starts its sandboxes within seconds.
const TOOLS_ARE_KEPT: Duration = Duration::from_secs(600);

/// How the names of a service's sandbox begin, and of its files.
pub(in crate::backend) const SERVICE: &str = "service-";

/// One run's directory.
#[derive(Debug, Clone)]
pub(in crate::backend) struct RunDir(PathBuf);

/// `run.json`: what has to be known to clear the run away without its runner.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::backend) struct RunNotes {
    /// Whose run it is.
    pub(in crate::backend) backend: Backend,
    /// The run record.
    pub(in crate::backend) record: PathBuf,
    /// Seconds since 1970.
    pub(in crate::backend) started: u64,
    /// The first process of each sandbox.
    pub(in crate::backend) processes: Vec<ProcessId>,
    /// Control groups that were made.
    pub(in crate::backend) cgroups: Vec<PathBuf>,
}

/// Where all runs of this user have their directories.
pub(in crate::backend) fn base(environment: &Environment) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    environment
        .get("BOTTLE_RUNTIME_DIR")
        .map_or_else(|| PathBuf::from(format!("/var/tmp/claude-bottle-{user}")), PathBuf::from)
}

/// What a directory that can't be made comes to.
fn failed(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::machine(format_args!("failed to make {}: {error}", path.display()))
        .hint("set BOTTLE_RUNTIME_DIR to a directory of your own on a local disk")
}

/// Makes the directory of all runs, if it is not there.
pub(in crate::backend) fn make_base(base: &Path) -> Result<(), Failure> {
    // As root, the sandboxes have users of their own, which must get past it.
    let mode = if is_root() { 0o711 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(base, &error)),
        _ => {}
    }
    // Its parent may be everybody's: another user's directory of that name must not be taken for ours.
    let found = fs::symlink_metadata(base).map_err(|error| failed(base, &error))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(failed(base, &"it is there, and not a directory of this user alone"));
    }
    if is_root() { passable(base) } else { Ok(()) }
}

/// Fails where a user who is nobody else can't get into a directory: as root, that is who the sandboxes are.
fn passable(base: &Path) -> Result<(), Failure> {
    let real = base.canonicalize().map_err(|error| failed(base, &error))?;
    let closed = host::closed_directory(&real).map_err(|error| failed(base, &error))?;
    let Some((dir, mode)) = closed else { return Ok(()) };
    let why = format!("{} is closed to other users (mode {mode:04o})", dir.display());
    Err(Failure::machine(format_args!("the sandboxes of a root's run can't be in {}: {why}", base.display())).hint(
        format_args!(
            "set BOTTLE_RUNTIME_DIR to a directory that every user may pass, as below /var/tmp, or `chmod o+x {}`",
            dir.display()
        ),
    ))
}

impl RunDir {
    pub(in crate::backend) fn for_run(base: &Path, slug: &str) -> Self {
        Self(base.join(slug))
    }

    /// Everything of this user's, by slug.
    pub(in crate::backend) fn all(base: &Path) -> Vec<(String, Self)> {
        let Ok(entries) = fs::read_dir(base) else { return vec![] };
        let mut dirs: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| {
                !entry.file_name().to_string_lossy().starts_with('.')
                    && entry.file_type().is_ok_and(|kind| kind.is_dir())
            })
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, Self(entry.path()))))
            .collect();
        dirs.sort_by(|one, other| one.0.cmp(&other.0));
        dirs
    }

    /// Makes it, empty. These are the names of all sockets that there will be.
    pub(in crate::backend) fn make(&self, sockets: &[String]) -> Result<(), Failure> {
        let longest = self.path(sockets.iter().max_by_key(|name| name.len()).map_or("", String::as_str));
        if longest.as_os_str().len() > LONGEST_SOCKET {
            return Err(Failure::machine(format_args!("{} is too long for a socket's path", longest.display()))
                .hint("set BOTTLE_RUNTIME_DIR to a directory with a short path"));
        }
        make_base(self.base())?;
        host::check_space(self.base(), "BOTTLE_RUNTIME_DIR")?;
        let mode = if is_root() { 0o711 } else { 0o700 };
        DirBuilder::new().mode(mode).create(&self.0).map_err(|error| failed(&self.0, &error))
    }

    /// A program of the host where every user can reach it: itself, or another name for it in the base. As root, the sandboxes
    /// have users who can't get into root's home, where it may be.
    pub(in crate::backend) fn reachable(&self, program: &Path) -> io::Result<PathBuf> {
        if !is_root() || program.starts_with("/usr") {
            return Ok(program.to_owned());
        }
        let tools = self.base().join(TOOLS);
        DirBuilder::new().recursive(true).mode(0o755).create(&tools)?;
        let found = fs::metadata(program)?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let reachable_path = tools.join(format!("{name}.{}.{}.{}", found.size(), found.mtime(), found.mtime_nsec()));
        // Its attributes change now, by which another version's run knows that somebody is about to start it.
        if fs::set_permissions(&reachable_path, Permissions::from_mode(0o755)).is_ok() {
            return Ok(reachable_path);
        }
        // Beside and renamed: another run may do the same just now.
        let partial = tools.join(format!(".{name}.{}", std::process::id()));
        let _ = fs::remove_file(&partial);
        if fs::hard_link(program, &partial).is_err() {
            fs::copy(program, &partial)?;
        }
        fs::set_permissions(&partial, Permissions::from_mode(0o755))?;
        fs::rename(&partial, &reachable_path)?;
        remove_others(&tools, &name, &reachable_path, TOOLS_ARE_KEPT)?;
        Ok(reachable_path)
    }

    pub(in crate::backend) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory of all runs.
    pub(in crate::backend) fn base(&self) -> &Path {
        self.0.parent().unwrap_or(Path::new("/"))
    }

    /// Makes a directory in it, for a user where there are several.
    pub(in crate::backend) fn directory(&self, name: &str, mode: u32, owner: Option<u32>) -> io::Result<PathBuf> {
        let path = self.path(name);
        DirBuilder::new().recursive(true).mode(0o755).create(&path)?;
        let opened =
            OpenOptions::new().read(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::DIRECTORY)).open(&path);
        give(&opened?, mode, owner)?;
        Ok(path)
    }

    /// Writes a file in it.
    pub(in crate::backend) fn write(&self, name: &str, bytes: &[u8], owner: Option<u32>) -> io::Result<PathBuf> {
        let path = self.path(name);
        write(&path, bytes, owner)?;
        Ok(path)
    }

    /// A file that grows, for what is printed.
    pub(in crate::backend) fn log(&self, name: &str) -> io::Result<fs::File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.path(name))
    }

    /// What all sandboxes printed, whose line is whose.
    pub(in crate::backend) fn logs(&self) -> Vec<u8> {
        let mut all = vec![];
        let entries = fs::read_dir(self.path("")).into_iter().flatten().filter_map(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let stems = names.filter_map(|name| name.strip_suffix(".log").map(str::to_owned));
        let mut services: Vec<String> = stems.filter(|name| name.starts_with(SERVICE)).collect();
        services.sort();
        let services = services.iter().map(|service| (service.as_str(), service.as_str()));
        for (name, who) in [("bundle", "sidecars"), ("guest", "agent")].into_iter().chain(services) {
            let text = fs::read(self.path(&format!("{name}.log"))).unwrap_or_default();
            for line in String::from_utf8_lossy(&text).lines() {
                // Memory is always there to write to.
                let _ = writeln!(all, "{who}  | {line}");
            }
        }
        all
    }

    pub(in crate::backend) fn notes(&self) -> Option<RunNotes> {
        serde_json::from_slice(&fs::read(self.path(NOTES)).ok()?).ok()
    }

    pub(in crate::backend) fn note(&self, notes: &RunNotes) -> io::Result<()> {
        let json = serde_json::to_vec(notes).map_err(io::Error::other)?;
        // Beside and renamed, so that whoever clears up never sees half of it.
        fs::write(self.path(".run.json"), json)?;
        fs::rename(self.path(".run.json"), self.path(NOTES))
    }

    /// Seconds since it was made.
    pub(in crate::backend) fn age(&self) -> u64 {
        let made = fs::metadata(&self.0).ok().and_then(|found| u64::try_from(found.mtime()).ok());
        host::unix_seconds().saturating_sub(self.notes().map(|notes| notes.started).or(made).unwrap_or(0))
    }

    /// Ends everything that runs in it, and removes it with all that it made elsewhere.
    pub(in crate::backend) async fn remove(&self) -> Result<(), String> {
        let notes = self.notes().unwrap_or_default();
        notes.processes.iter().for_each(|process| process.kill());
        for _ in 0..500 {
            if !notes.processes.iter().any(|process| process.is_alive()) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        if notes.processes.iter().any(|process| process.is_alive()) {
            return Err("a sandbox does not end".to_owned());
        }
        for cgroup in &notes.cgroups {
            super::cgroup::remove(cgroup).await?;
        }
        self.remove_files().map_err(|error| format!("failed to remove {}: {error}", self.0.display()))
    }

    /// Removes it; what says whose it is goes last, so that a removal that is cut off is found again.
    fn remove_files(&self) -> io::Result<()> {
        match self.remove_contents() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => remove_tree(&self.0),
        }
    }

    /// Removes all of it but its notes.
    fn remove_contents(&self) -> io::Result<()> {
        let notes = self.path(NOTES);
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path != notes {
                remove_tree(&path)?;
            }
        }
        Ok(())
    }
}

/// Removes the names of a program's other versions for which nobody has asked for so long. Where one is in use, it stays in that run's
/// sandboxes until they end.
fn remove_others(tools: &Path, name: &str, kept: &Path, age: Duration) -> io::Result<()> {
    for entry in fs::read_dir(tools)?.filter_map(Result::ok) {
        if entry.path() == kept || !entry.file_name().to_string_lossy().starts_with(&format!("{name}.")) {
            continue;
        }
        // One that is gone already is no matter.
        let asked = entry.metadata().ok().and_then(|found| u64::try_from(found.ctime()).ok());
        let asked = asked.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        if asked.is_some_and(|asked| asked.elapsed().is_ok_and(|since| since >= age)) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// True if this process may take on other users.
pub(in crate::backend) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Writes a file; a link in its place is an error, and leads nowhere.
pub(super) fn write(path: &Path, bytes: &[u8], owner: Option<u32>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).custom_flags(flags(OFlags::NOFOLLOW)).open(path)?;
    file.write_all(bytes)?;
    give(&file, 0o644, owner)
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

fn give(file: &fs::File, mode: u32, owner: Option<u32>) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))?;
    match owner {
        Some(owner) => fchown(file, Some(owner), Some(owner)),
        None => Ok(()),
    }
}

/// Removes a directory in which the agent may have closed directories to itself.
fn remove_tree(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open_up(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => return other,
    }
    fs::remove_dir_all(path)
}

fn open_up(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A link's own kind: nothing outside is touched.
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_directory_above_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("open");
        let base = dir.path().join("closed/base");
        fs::create_dir_all(&base).expect("directories");
        assert!(passable(&base).is_ok());
        fs::set_permissions(dir.path().join("closed"), Permissions::from_mode(0o700)).expect("closed");
        let failure = passable(&base).expect_err("nobody else gets there");
        assert!(failure.what.ends_with("/closed is closed to other users (mode 0700)"), "{failure}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("chmod o+x")));
    }

    #[test]
    fn another_version_s_program_stays_while_somebody_may_be_about_to_start_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["link.1.1.1", "link.2.2.2", "other.1.1.1"] {
            fs::write(at(name), name).expect("a program");
        }
        let left = || ["link.1.1.1", "link.2.2.2", "other.1.1.1"].map(|name| at(name).exists());
        remove_others(dir.path(), "link", &at("link.2.2.2"), TOOLS_ARE_KEPT).expect("readable");
        assert_eq!(left(), [true, true, true]);
        remove_others(dir.path(), "link", &at("link.2.2.2"), Duration::ZERO).expect("readable");
        assert_eq!(left(), [false, true, true]);
    }

    #[test]
    fn a_removal_that_is_cut_off_still_says_whose_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let run_dir = RunDir::for_run(dir.path(), "task-1");
        fs::create_dir_all(&run_dir.0).expect("a directory");
        run_dir.note(&RunNotes { started: 7, ..RunNotes::default() }).expect("notes");
        std::os::unix::fs::symlink("/proc/self", run_dir.path("guest")).expect("a link");
        fs::create_dir_all(run_dir.path("bundle/state")).expect("directories");
        run_dir.remove_contents().expect("removed");
        assert!(run_dir.notes().is_some_and(|notes| notes.started == 7));
        assert_eq!(fs::read_dir(&run_dir.0).expect("a directory").count(), 1);
        run_dir.remove_files().expect("removed");
        assert!(!run_dir.0.exists());
        run_dir.remove_files().expect("it is gone already");
    }

    #[test]
    fn what_the_agent_has_closed_is_removed_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let closed = dir.path().join("run/closed");
        fs::create_dir_all(closed.join("deep")).expect("directories");
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("closed");
        remove_tree(&dir.path().join("run")).expect("removed");
        assert!(!dir.path().join("run").exists());
    }
}
