//! Unpacking below one directory, whatever the archive says: the kernel resolves every path with that directory as its root, so
//! that no link leads out of it (openat2(2), RESOLVE_IN_ROOT), and what is made is made in the directory that was found.
//!
//! Layers are unpacked by the rules of the OCI image specification (layer.md): first a layer's whiteouts take away what is below
//! it, then its own files come.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The mark of a name that is to be taken away.
const WHITEOUT: &str = ".wh.";
/// What says that nothing of a directory's lower layers is to be seen.
const OPAQUE: &str = ".wh..wh..opq";
/// Other marks of aufs's own.
const AUFS: &str = ".wh..wh.";

/// A directory that holds a system, or will.
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(dir, flags, Mode::empty())?))
    }

    /// Takes away what a layer says is not there any more.
    pub(super) fn take_away(&self, layer: impl Read) -> Result<(), String> {
        for entry in tar::Archive::new(layer).entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = inside(&entry.path().map_err(unreadable)?)?;
            let Some(mark) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with(WHITEOUT))
            else {
                continue;
            };
            self.white_out(&path, mark).map_err(|error| failed(&path, &error))?;
        }
        Ok(())
    }

    fn white_out(&self, path: &Path, mark: &str) -> io::Result<()> {
        let name = &mark[WHITEOUT.len()..];
        if ["", ".", ".."].contains(&name) {
            return Err(io::Error::other("it is a whiteout of no name"));
        }
        let dir = match self.find(parent(path)) {
            Ok(dir) => dir,
            // There is nothing to be taken away.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if mark == OPAQUE {
            for entry in fs::read_dir(at(&dir, Path::new("")))? {
                clear(&dir, Path::new(&entry?.file_name()), false)?;
            }
            return Ok(());
        }
        if mark.starts_with(AUFS) {
            return Ok(());
        }
        clear(&dir, Path::new(name), false).map(drop)
    }

    /// Puts a layer's files in.
    pub(super) fn put(&self, layer: impl Read) -> Result<(), String> {
        for entry in tar::Archive::new(layer).entries().map_err(unreadable)? {
            let mut entry = entry.map_err(unreadable)?;
            let path = inside(&entry.path().map_err(unreadable)?)?;
            let Some(name) = path.file_name() else { continue };
            if name.to_str().is_some_and(|name| name.starts_with(WHITEOUT)) {
                continue;
            }
            let link = entry.link_name().map_err(unreadable)?.map(|link| link.into_owned());
            let header = entry.header();
            let (kind, mode) = (header.entry_type(), header.mode().map_err(unreadable)?);
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(header.mtime().unwrap_or(0).min(1 << 40));
            let new = match (kind, &link) {
                (tar::EntryType::Directory, _) => NewEntry::Directory,
                (tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse, _) => NewEntry::File,
                // What it says is for the guest, which has no other root.
                (tar::EntryType::Symlink, Some(target)) => NewEntry::Symlink(target),
                (tar::EntryType::Link, Some(target)) => NewEntry::Link(inside(target)?),
                // A device is nothing that a guest has, and everything else is made by whoever uses it.
                _ => continue,
            };
            self.make(&path, Path::new(name), new, mode, changed, &mut entry).map_err(|error| failed(&path, &error))?;
        }
        Ok(())
    }

    fn make(
        &self,
        path: &Path,
        name: &Path,
        new: NewEntry<'_>,
        mode: u32,
        changed: SystemTime,
        content: &mut impl Read,
    ) -> io::Result<()> {
        let dir = self.find_or_make(parent(path))?;
        // Readable by everybody, and no program of it is another user's.
        let bits = mode & 0o777 | if matches!(new, NewEntry::Directory) { 0o755 } else { 0o644 };
        match new {
            NewEntry::Directory => {
                if !clear(&dir, name, true)? {
                    rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755))?;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(bits))?;
            }
            NewEntry::File => {
                clear(&dir, name, false)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o600))?);
                io::copy(content, &mut file)?;
                file.set_times(FileTimes::new().set_modified(changed))?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(bits))?;
            }
            NewEntry::Symlink(target) => {
                clear(&dir, name, false)?;
                rustix::fs::symlinkat(target, &dir, name)?;
            }
            NewEntry::Link(target) => {
                let other = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                let other_dir = self.find(parent(&target))?;
                if target != path {
                    clear(&dir, name, false)?;
                    // The name itself, if it is a symbolic link.
                    rustix::fs::linkat(&other_dir, other, &dir, name, AtFlags::empty())?;
                }
            }
        }
        Ok(())
    }

    /// A directory in it, by way of the links in it.
    fn find(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    fn find_or_make(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let name = path.file_name().ok_or(io::ErrorKind::NotFound)?;
        let dir = self.find_or_make(parent(path))?;
        match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.find(path)?)
    }
}

/// What an entry makes.
enum NewEntry<'a> {
    Directory,
    File,
    Symlink(&'a Path),
    Link(PathBuf),
}

/// Makes room for a name in a directory; whether a directory of that name stays.
fn clear(dir: &OwnedFd, name: &Path, stays: bool) -> io::Result<bool> {
    let found = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    match (FileType::from_raw_mode(found.st_mode), stays) {
        (FileType::Directory, true) => return Ok(true),
        // It follows no link on its way down.
        (FileType::Directory, false) => fs::remove_dir_all(at(dir, name))?,
        _ => rustix::fs::unlinkat(dir, name, AtFlags::empty())?,
    }
    Ok(false)
}

/// A name in an open directory, for who wants a path.
fn at(dir: &OwnedFd, name: &Path) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The path of an entry without its dots. One that would lead out is no mistake of an honest program.
fn inside(path: &Path) -> Result<PathBuf, String> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(format!("its entry `{}` leads out of it", path.display()));
            }
        }
    }
    Ok(clean)
}

fn unreadable(error: io::Error) -> String {
    format!("a layer can't be read: {error}")
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("failed to make `{}`: {error}", path.display())
}
