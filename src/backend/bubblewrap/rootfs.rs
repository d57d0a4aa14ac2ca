//! A guest's system from an image: its directories and links one by one, read-only, around those that are the guest's own. Nothing
//! of it is followed on this side: a link in it is a link in the guest.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use bottle_plan::plan::{BottlePlan, HOST_SYSTEM, TOOLS_DIR};

use crate::backend::sandbox::{self, BwrapOptions};
use crate::backend::{Progress, image};
use crate::exit::Failure;
use crate::host::Environment;

/// What the guest has of its own, or the kernel's, at the top.
const OWN: [&str; 9] = ["dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "workspace"];
/// What the guest has among the image's: bound part by part, without these.
const AMONG: [(&str, &[&str]); 2] = [("opt", &["claude-bottle"]), ("var", &["run", "tmp"])];
/// What the guest's /etc has of its own.
const OWN_ETC: [&str; 11] = [
    "ca-certificates.conf",
    "group",
    "gshadow",
    "hostname",
    "hosts",
    "mtab",
    "nsswitch.conf",
    "passwd",
    "resolv.conf",
    "shadow",
    "ssl/certs",
];
/// What is a directory in it, whatever the image has of that name.
pub(super) const ETC_DIRECTORIES: [&str; 4] = ["ssl", "ssl/certs", "ca-certificates", "ca-certificates/update.d"];
/// An /etc above this is no /etc.
const MOST_ETC: u64 = 64 << 20;

/// An unpacked system.
#[derive(Debug)]
pub(super) struct Rootfs {
    pub(super) dir: PathBuf,
    env: Vec<(String, String)>,
    /// Its device and path, as a table of mounts has them.
    pub(super) source: String,
}

impl Rootfs {
    /// The plan's image, unpacked; none where the guest has this machine's system.
    pub(super) async fn from_plan(
        plan: &BottlePlan,
        environment: &Environment,
        progress: Option<&dyn Progress>,
    ) -> Result<Option<Self>, Failure> {
        let name = &plan.images.guest;
        if name == HOST_SYSTEM {
            return Ok(None);
        }
        let base = sandbox::base(environment);
        sandbox::make_base(&base)?;
        let image::UnpackedImage { dir, env } = image::unpacked(name, &base, progress).await?;
        let home = environment.get("HOME").map(PathBuf::from);
        check(&dir, [Some(base), home].into_iter().flatten()).map_err(|why| {
            Failure::machine(format_args!("bubblewrap can't run the image {name}: {why}"))
                .hint("give --image a directory with an unpacked system, or an archive of `docker save`")
        })?;
        let source = fs::read_to_string("/proc/self/mountinfo").ok().and_then(|table| source(&dir, &table));
        let source = source.ok_or_else(|| Failure::machine(format_args!("{} is on no mount", dir.display())))?;
        Ok(Some(Self { dir, env, source }))
    }

    /// What the image sets, with Claude Code's place on the path.
    pub(super) fn add_env(&self, options: &mut BwrapOptions) {
        for (name, value) in &self.env {
            match name.as_str() {
                "PATH" => options.add(&["--setenv", "PATH", &format!("{TOOLS_DIR}/bin:{value}")]),
                "HOME" | "USER" | "" => {}
                _ => options.add(&["--setenv", name, value]),
            }
        }
    }

    /// Binds it.
    pub(super) fn add(&self, options: &mut BwrapOptions) {
        for name in names(&self.dir) {
            match AMONG.iter().find(|(among, _)| *among == name) {
                Some((_, own)) => {
                    options.add(&["--dir", &format!("/{name}")]);
                    for part in names(&self.dir.join(&name)) {
                        if !own.contains(&&*part) {
                            self.bind(options, &format!("{name}/{part}"));
                        }
                    }
                }
                None if OWN.contains(&&*name) => {}
                None => self.bind(options, &name),
            }
        }
    }

    fn bind(&self, options: &mut BwrapOptions, name: &str) {
        let (from, to) = (self.dir.join(name), format!("/{name}"));
        match fs::symlink_metadata(&from) {
            Ok(found) if found.is_symlink() => {
                // These are there in any case.
                if !["srv", "mnt"].contains(&name)
                    && let Some(target) =
                        fs::read_link(&from).ok().and_then(|target| target.into_os_string().into_string().ok())
                {
                    options.add(&["--symlink", &target, &to]);
                }
            }
            Ok(found) if found.is_dir() || found.is_file() => options.bind("--ro-bind", &from, &to),
            _ => {}
        }
    }

    /// True if a path is a directory in it, by no link.
    pub(super) fn has_directory(&self, path: &str) -> bool {
        is_real(&self.dir, path)
    }

    /// Fills an /etc like its own.
    pub(super) fn fill_etc(&self, etc: &Path) -> io::Result<()> {
        let from = self.dir.join("etc");
        if is_real(&self.dir, "etc") {
            let mut left = MOST_ETC;
            copy(&from, etc, Path::new(""), &mut left)?;
        }
        Ok(())
    }

    /// A file of its /etc; empty where there is none.
    pub(super) fn etc(&self, name: &str) -> String {
        let path = self.dir.join("etc").join(name);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        if is_file { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
    }
}

/// Why a directory can't be a guest's system.
fn check(dir: &Path, not_within: impl Iterator<Item = PathBuf>) -> Result<(), String> {
    if dir.to_str().is_none() {
        return Err(format!("the path {} is not UTF-8", dir.display()));
    }
    for own in not_within.chain([PathBuf::from("/usr")]) {
        if own.canonicalize().unwrap_or(own).starts_with(dir) {
            return Err(format!("{} is this machine's own", dir.display()));
        }
    }
    let there = |path: &str| fs::symlink_metadata(dir.join(path)).is_ok();
    if !there("usr/bin") && !there("bin") {
        return Err(format!("there is no unpacked system in {}: it has neither /usr/bin nor /bin", dir.display()));
    }
    for name in ["etc", "opt", "var"] {
        if there(name) && !is_real(dir, name) {
            return Err(format!("its /{name} is no directory"));
        }
    }
    if rustix::process::geteuid().is_root() {
        let closed = dir.ancestors().find(|dir| fs::metadata(dir).is_ok_and(|found| found.mode() & 1 == 0));
        if let Some(closed) = closed {
            return Err(format!("the guest's user can't get past {}: `chmod o+x` it", closed.display()));
        }
    }
    Ok(())
}

/// True if a path below a directory is a directory, and none of its parts a link.
fn is_real(dir: &Path, path: &str) -> bool {
    let mut at = dir.to_owned();
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).all(|part| {
        at.push(part);
        fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir())
    })
}

/// The names in a directory that can be arguments, in order.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Copies files, directories and links, into an /etc that has its own directories already; what can't be read is left out.
fn copy(from: &Path, to: &Path, below: &Path, left: &mut u64) -> io::Result<()> {
    for name in names(&from.join(below)) {
        let path = below.join(&name);
        if OWN_ETC.iter().any(|own| Path::new(own) == path) {
            continue;
        }
        let (old, new) = (from.join(&path), to.join(&path));
        let Ok(found) = fs::symlink_metadata(&old) else { continue };
        if ETC_DIRECTORIES.iter().any(|own| Path::new(own) == path) {
            if found.is_dir() {
                copy(from, to, &path, left)?;
            }
        } else if found.is_symlink() {
            symlink(fs::read_link(&old)?, &new)?;
        } else if found.is_dir() {
            fs::create_dir(&new)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
            copy(from, to, &path, left)?;
        } else if found.is_file() {
            *left = left.checked_sub(found.len()).ok_or_else(|| io::Error::other("the image's /etc is too large"))?;
            let mut source = match fs::File::open(&old) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
                opened => opened?,
            };
            let mut copied = fs::File::create_new(&new)?;
            io::copy(&mut source, &mut copied)?;
            // Not what would make whoever runs it its owner, who is the runner.
            copied.set_permissions(fs::Permissions::from_mode(found.mode() & 0o777))?;
        }
    }
    Ok(())
}

/// The device and path of a directory as a table of mounts has them (proc_pid_mountinfo(5)): what is bound from there has this in
/// front of its own path.
fn source(dir: &Path, table: &str) -> Option<String> {
    let dir = escaped(dir.to_str()?);
    let mut best: Option<(usize, String)> = None;
    for line in table.lines() {
        let mut words = line.split(' ').skip(2);
        let (device, root, point) = (words.next()?, words.next()?, words.next()?);
        let rest = if point == "/" { Some(&*dir) } else { dir.strip_prefix(point) };
        let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) else { continue };
        // The last one of a place is on top.
        if best.as_ref().is_none_or(|(length, _)| *length <= point.len()) {
            best = Some((point.len(), format!("{device}{}{rest}", root.trim_end_matches('/'))));
        }
    }
    best.map(|(_, source)| source)
}

/// As the kernel writes names there.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn a_directorys_source_is_that_of_the_mount_on_top() {
        let table = "1 0 254:0 / / rw - ext4 /dev/vda rw\n\
                     2 1 0:44 /sub /data rw - btrfs /dev/vdb rw\n\
                     3 1 0:45 / /data/x\\040y rw - tmpfs t rw\n\
                     4 1 0:46 / /database rw - tmpfs t rw\n\
                     5 1 0:47 / /data rw - tmpfs t rw\n";
        let of = |dir: &str| source(Path::new(dir), table).expect("a source");
        assert_eq!(of("/var/tmp/i"), "254:0/var/tmp/i");
        assert_eq!(of("/data/i"), "0:47/i");
        assert_eq!(of("/data/x y/i"), "0:45/i");
        assert_eq!(of("/data"), "0:47");
    }

    /// A system as far as it is looked at.
    pub(in crate::backend::bubblewrap) fn rootfs(dir: &Path) -> Rootfs {
        for name in
            ["usr/bin", "etc/ssl/certs", "opt/app", "opt/claude-bottle", "var/lib", "var/tmp", "home/me", "root"]
        {
            fs::create_dir_all(dir.join(name)).expect("a directory");
        }
        for (name, target) in [("bin", "usr/bin"), ("evil", "/etc"), ("opt/evil", "/root"), ("var/run", "/run")] {
            symlink(target, dir.join(name)).expect("a link");
        }
        for name in ["etc/motd", "etc/hosts", "etc/ssl/certs/one.pem", "file"] {
            fs::write(dir.join(name), name).expect("a file");
        }
        symlink("/etc/shadow", dir.join("etc/evil")).expect("a link");
        Rootfs { dir: dir.to_owned(), env: vec![], source: String::new() }
    }

    #[test]
    fn directories_are_bound_and_links_are_links() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut options = BwrapOptions::default();
        rootfs(dir.path()).add(&mut options);
        let arguments = options.args.join(" ").replace(dir.path().to_str().expect("text"), "R");
        assert_eq!(
            arguments,
            "--symlink usr/bin /bin --symlink /etc /evil --ro-bind R/file /file --dir /opt --ro-bind R/opt/app /opt/app \
             --symlink /root /opt/evil --ro-bind R/usr /usr --dir /var --ro-bind R/var/lib /var/lib"
        );
    }

    #[test]
    fn an_etc_is_copied_without_what_is_the_guests_own() {
        let dir = tempfile::tempdir().expect("a directory");
        rootfs(&dir.path().join("image"));
        fs::create_dir_all(dir.path().join("etc/ssl/certs")).expect("a directory");
        fs::set_permissions(dir.path().join("image/etc/motd"), fs::Permissions::from_mode(0o6755)).expect("a mode");
        copy(&dir.path().join("image/etc"), &dir.path().join("etc"), Path::new(""), &mut 100).expect("copied");
        assert_eq!(names(&dir.path().join("etc")), ["evil", "motd", "ssl"]);
        assert_eq!(fs::read_link(dir.path().join("etc/evil")).expect("a link"), Path::new("/etc/shadow"));
        let mode = fs::metadata(dir.path().join("etc/motd")).expect("copied").mode();
        assert_eq!(mode & 0o7777, 0o755, "nobody becomes another user by it");
        assert!(names(&dir.path().join("etc/ssl/certs")).is_empty());
        let small = copy(&dir.path().join("image/etc"), &dir.path().join("etc/ssl"), Path::new(""), &mut 2);
        assert!(small.is_err(), "it is larger than that");
    }

    #[test]
    fn what_is_no_system_or_this_machines_own_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().canonicalize().expect("a path");
        let no = |dir: &Path| check(dir, [PathBuf::from("/var/tmp/x")].into_iter()).expect_err("refused");
        for own in ["/", "/var", "/var/tmp", "/usr"] {
            assert!(no(Path::new(own)).contains("this machine's own"), "{own}");
        }
        assert!(no(&path).contains("no unpacked system"));
        let good = path.join("good");
        rootfs(&good);
        for open in [&path, &good] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        check(&good, std::iter::empty()).expect("a system");
        assert!(!is_real(&good, "evil/ssl") && is_real(&good, "usr/bin"));
        fs::rename(good.join("etc"), good.join("etc2")).expect("renamed");
        symlink("/etc", good.join("etc")).expect("a link");
        assert!(no(&good).contains("/etc is no directory"));
    }
}
