//! Files on their way into or out of a bottle, as a tar archive carries them.

use std::io::{self, Read as _};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_comes_back_from_its_archive() {
        let tree = Tree::new().directory("/a", 1000, 0o755).file("/a/b", 1000, 0o600, "x");
        let back = Tree::from_tar(&tree.to_tar().expect("an archive"), "/").expect("a tree");
        let paths: Vec<_> = back.nodes.iter().map(|node| node.path.as_str()).collect();
        assert_eq!(paths, ["/a", "/a/b"]);
        assert_eq!(back.files().collect::<Vec<_>>(), [("/a/b", &b"x"[..])]);
    }
}
