//! Files on their way into or out of a bottle, as a tar archive carries them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// One file or directory, by absolute path.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) path: String,
    pub(crate) owner: u32,
    pub(crate) mode: u32,
    pub(crate) content: Content,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Directory,
    File(Vec<u8>),
}

/// A set of nodes, parents before children.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn directory(mut self, path: impl Into<String>, owner: u32, mode: u32) -> Self {
        self.nodes.push(Node { path: path.into(), owner, mode, content: Content::Directory });
        self
    }

    pub(crate) fn file(mut self, path: impl Into<String>, owner: u32, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.nodes.push(Node { path: path.into(), owner, mode, content: Content::File(bytes.into()) });
        self
    }

    /// The regular files, with their paths.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.nodes.iter().filter_map(|node| match &node.content {
            Content::File(bytes) => Some((node.path.as_str(), bytes.as_slice())),
            _ => None,
        })
    }

    /// As a tar archive to be unpacked at `/`.
    pub(crate) fn to_tar(&self) -> io::Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for node in &self.nodes {
            let path = node.path.trim_start_matches('/');
            let mut header = tar::Header::new_gnu();
            header.set_uid(node.owner.into());
            header.set_gid(node.owner.into());
            header.set_mode(node.mode);
            match &node.content {
                Content::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_size(0);
                    builder.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Content::File(bytes) => {
                    header.set_size(bytes.len() as u64);
                    builder.append_data(&mut header, path, bytes.as_slice())?;
                }
            }
        }
        builder.into_inner()
    }

    /// A file, or everything below a directory, of the host's: as `name` of `base`, of which the tree has it as `path`. No link is
    /// followed, and only files and directories are taken. `None` where there is nothing.
    pub(crate) fn read(base: &Path, name: &str, path: &str) -> io::Result<Option<Self>> {
        let mut tree = Self::new();
        let mut dir = open_at(rustix::fs::CWD, base.as_os_str())?;
        for part in name.split('/').filter(|part| !part.is_empty()) {
            dir = match open_at(&dir, OsStr::new(part)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
        }
        tree.take(dir, path)?;
        Ok(Some(tree))
    }

    fn take(&mut self, opened: OwnedFd, path: &str) -> io::Result<()> {
        let mut file = File::from(opened);
        let found = file.metadata()?;
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        if found.is_file() {
            let mut content = vec![];
            file.read_to_end(&mut content)?;
            self.nodes.push(Node { path: path.to_owned(), owner, mode, content: Content::File(content) });
        } else if found.is_dir() {
            self.nodes.push(Node { path: path.to_owned(), owner, mode, content: Content::Directory });
            for entry in rustix::fs::Dir::read_from(&file)? {
                let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
                if name == "." || name == ".." {
                    continue;
                }
                match open_at(&file, &name) {
                    // A link, a socket, or gone meanwhile.
                    Err(error) if passed_over(&error) => {}
                    opened => self.take(opened?, &format!("{path}/{}", name.to_string_lossy()))?,
                }
            }
        }
        Ok(())
    }

    /// From a tar archive whose entries are relative to `base`. Only files and directories are taken; a path that
    /// climbs out is left behind.
    pub(crate) fn from_tar(bytes: &[u8], base: &str) -> io::Result<Self> {
        let mut tree = Self::new();
        for entry in tar::Archive::new(bytes).entries()? {
            let mut entry = entry?;
            let relative = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if relative.split('/').any(|part| part == "..") {
                continue;
            }
            let path = format!("{}/{}", base.trim_end_matches('/'), relative.trim_end_matches('/'));
            let (owner, mode) = (u32::try_from(entry.header().uid()?).unwrap_or(0), entry.header().mode()?);
            let content = match entry.header().entry_type() {
                tar::EntryType::Directory => Content::Directory,
                tar::EntryType::Regular => {
                    let mut content = vec![];
                    entry.read_to_end(&mut content)?;
                    Content::File(content)
                }
                _ => continue,
            };
            tree.nodes.push(Node { path, owner, mode, content });
        }
        Ok(tree)
    }
}

/// Opens what has this name, without following a link and without waiting for a pipe's other end.
fn open_at(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

fn passed_over(error: &io::Error) -> bool {
    [Errno::LOOP, Errno::NXIO, Errno::NOENT].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_and_no_link_is_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("state/log")).expect("directories");
        std::fs::write(at("secret"), "of the host").expect("a file");
        std::fs::write(at("state/log/egress.jsonl"), "line").expect("a file");
        std::os::unix::fs::symlink(at("secret"), at("state/log/gate.jsonl")).expect("a link");
        std::os::unix::fs::symlink(at("state"), at("state/other")).expect("a link");
        let read = |name: &str| Tree::read(&at("state"), name, "/var/log");
        let tree = read("log").expect("a tree").expect("something");
        assert_eq!(tree.files().collect::<Vec<_>>(), [("/var/log/egress.jsonl", &b"line"[..])]);
        assert!(read("none").expect("nothing").is_none());
        assert!(read("other/log").is_err() && read("log/gate.jsonl").is_err());
        let one = read("log/egress.jsonl").expect("a tree").expect("a file");
        assert_eq!(one.files().count(), 1);
    }

    #[test]
    fn a_tree_comes_back_from_its_archive() {
        let tree = Tree::new().directory("/a", 1000, 0o755).file("/a/b", 1000, 0o600, "x");
        let back = Tree::from_tar(&tree.to_tar().expect("an archive"), "/").expect("a tree");
        let paths: Vec<_> = back.nodes.iter().map(|node| node.path.as_str()).collect();
        assert_eq!(paths, ["/a", "/a/b"]);
        assert_eq!(back.files().collect::<Vec<_>>(), [("/a/b", &b"x"[..])]);
    }
}
