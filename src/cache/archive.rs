//! The entries of an archive: what may be in one, and a new archive of nothing else.
//!
//! Nothing that another program has written is handed on as it is: two readers of one archive may see different things in it.
//! Always: an entry is a directory, a file or a link; it is in one of the kept directories, below directories that came before it; a
//! link leads nowhere else; nothing in it is what the agent goes by.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use bottle_plan::plan::is_the_agents_own;
use tar::EntryType;

/// More files are no cache that can be put back in a moment.
const MAX_ENTRIES: u64 = if cfg!(test) { 5_000 } else { 500_000 };
/// A piece of an archive for the guest is about as large; a file is never in two.
const PIECE_BYTES: usize = 32 << 20;
/// What an archive has beside the files' bytes, for each entry.
const ENTRY_BYTES: u64 = 1536;

/// Why an archive is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("it can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("`{path}` {why}")]
    Refused { path: String, why: &'static str },
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    #[error("it has more than {MAX_ENTRIES} files")]
    TooMany,
}

/// What an archive has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Files and directories that are never kept, with all that is below them.
    pub(crate) left_out: u64,
}

/// An entry that may be there.
#[derive(Debug)]
struct Entry {
    path: String,
    mode: u32,
    mtime: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory,
    File(u64),
    Link(String),
}

/// Judges the entries of one archive in their turn.
struct Judge<'a> {
    directories: &'a [String],
    max_bytes: u64,
    /// An archive of ours has nothing that was to be left out.
    is_ours: bool,
    made: BTreeSet<String>,
    seen: BTreeSet<String>,
    summary: Summary,
}

impl<'a> Judge<'a> {
    fn new(directories: &'a [String], max_bytes: u64, is_ours: bool) -> Self {
        let (made, seen) = Default::default();
        Self { directories, max_bytes, is_ours, made, seen, summary: Summary::default() }
    }

    /// The entry, if it may be there; none: it is left out.
    fn judge(&mut self, entry: &tar::Entry<'_, impl Read>) -> Result<Option<Entry>, ArchiveError> {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_end_matches('/').to_owned();
        let refused = |why| ArchiveError::Refused { path: shown(&path), why };
        if path.contains('\u{fffd}') {
            return Err(refused("has a name that is not UTF-8"));
        }
        if path.contains('\0') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(refused("is no plain path"));
        }
        let root = self.root(&path).ok_or_else(|| refused("is in none of the directories"))?;
        let below = path[root.len()..].trim_start_matches('/');
        if below.split('/').any(is_the_agents_own) {
            if self.is_ours {
                return Err(refused("is never kept"));
            }
            self.summary.left_out += 1;
            return Ok(None);
        }
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if !below.is_empty() && !self.made.contains(parent) {
            return Err(refused("is in no directory that came before it"));
        }
        let mode = entry.header().mode()?;
        if mode & 0o6000 != 0 {
            return Err(refused("gives whoever runs it another user's rights"));
        }
        let kind = kind(entry, &path, root)?;
        if below.is_empty() && !matches!(kind, Kind::Directory) {
            return Err(refused("is no directory"));
        }
        if !self.seen.insert(path.clone()) {
            return Err(refused("is there twice"));
        }
        self.count(&kind)?;
        // A directory that its owner can't write could not be filled.
        let least = if matches!(kind, Kind::Directory) { 0o700 } else { 0 };
        if matches!(kind, Kind::Directory) {
            self.made.insert(path.clone());
        }
        let mtime = entry.header().mtime()?;
        Ok(Some(Entry { path, mode: mode & 0o777 | least, mtime, kind }))
    }

    /// The kept directory that a path is, or is below.
    fn root(&self, path: &str) -> Option<&'a str> {
        self.directories.iter().map(|directory| directory.trim_start_matches('/')).find(|directory| {
            path.strip_prefix(directory).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    }

    fn count(&mut self, kind: &Kind) -> Result<(), ArchiveError> {
        let size = if let Kind::File(size) = kind { *size } else { 0 };
        self.summary.files += 1;
        self.summary.bytes = self.summary.bytes.saturating_add(size);
        if self.summary.files > MAX_ENTRIES {
            return Err(ArchiveError::TooMany);
        }
        if self.summary.bytes > self.max_bytes {
            return Err(ArchiveError::TooLarge(self.max_bytes));
        }
        Ok(())
    }
}

fn kind(entry: &tar::Entry<'_, impl Read>, path: &str, root: &str) -> Result<Kind, ArchiveError> {
    let refused = |why| ArchiveError::Refused { path: shown(path), why };
    match entry.header().entry_type() {
        EntryType::Directory => Ok(Kind::Directory),
        EntryType::Regular => Ok(Kind::File(entry.size())),
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or_else(|| refused("is a link to nothing"))?;
            let target = std::str::from_utf8(&target).map_err(|_| refused("is a link to what is not UTF-8"))?;
            if stays_within(path, target, root) {
                Ok(Kind::Link(target.to_owned()))
            } else {
                Err(refused("is a link that leads out of its directory"))
            }
        }
        EntryType::Link => Err(refused("is a hard link")),
        _ => Err(refused("is neither a file nor a directory nor a link")),
    }
}

/// Whether a link leads to a place below the root. It may climb at its beginning alone: up from where it lies there are directories,
/// while what it names further on may be a link that leads elsewhere.
fn stays_within(path: &str, target: &str, root: &str) -> bool {
    if target.is_empty() || target.contains('\0') {
        return false;
    }
    if let Some(absolute) = target.strip_prefix('/') {
        let below = absolute.strip_prefix(root).and_then(|below| below.strip_prefix('/'));
        return below.is_some_and(|below| below.split('/').all(|part| part != ".."));
    }
    let climbs = target.split('/').take_while(|part| matches!(*part, ".." | "." | ""));
    let up = climbs.clone().filter(|part| *part == "..").count();
    let rest = target.split('/').skip(climbs.count());
    // So many directories are between the root and the link.
    let depth = path[root.len()..].matches('/').count().saturating_sub(1);
    up <= depth && rest.into_iter().all(|part| part != "..")
}

/// A path in a message.
fn shown(path: &str) -> String {
    bottle_plan::prose::name(path, 120)
}

/// Checks an archive of ours, entry by entry.
pub(super) fn check(archive: impl Read, directories: &[String], max_bytes: u64) -> Result<Summary, ArchiveError> {
    each(archive, Judge::new(directories, max_bytes, true), |_, _| Ok(()))
}

/// Writes an archive of what may be kept of another.
pub(super) fn rewrite(
    archive: impl Read,
    to: impl Write,
    directories: &[String],
    max_bytes: u64,
) -> Result<Summary, ArchiveError> {
    let mut builder = tar::Builder::new(to);
    let summary = each(archive, Judge::new(directories, max_bytes, false), |entry, content| {
        append(&mut builder, entry, content, 0).map_err(ArchiveError::from)
    })?;
    builder.into_inner()?.flush()?;
    Ok(summary)
}

/// Makes archives for the guest of one of ours, the owner's all of it, none much larger than a piece but for a single large file.
pub(crate) fn pieces(
    archive: impl Read,
    directories: &[String],
    max_bytes: u64,
    owner: u32,
    mut give: impl FnMut(Vec<u8>) -> io::Result<()>,
) -> Result<(), ArchiveError> {
    let mut builder = tar::Builder::new(vec![]);
    each(archive, Judge::new(directories, max_bytes, true), |entry, content| {
        append(&mut builder, entry, content, owner)?;
        if builder.get_ref().len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut builder, tar::Builder::new(vec![]));
            give(full.into_inner()?)?;
        }
        Ok(())
    })?;
    give(builder.into_inner()?)?;
    Ok(())
}

fn each<R: Read>(
    archive: R,
    mut judge: Judge<'_>,
    mut keep: impl FnMut(&Entry, &mut dyn Read) -> Result<(), ArchiveError>,
) -> Result<Summary, ArchiveError> {
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if let Some(kept) = judge.judge(&entry)? {
            keep(&kept, &mut entry)?;
        }
    }
    Ok(judge.summary)
}

fn append(builder: &mut tar::Builder<impl Write>, entry: &Entry, content: &mut dyn Read, owner: u32) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_mode(entry.mode);
    header.set_mtime(entry.mtime);
    match &entry.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            builder.append_data(&mut header, format!("{}/", entry.path), io::empty())
        }
        Kind::File(size) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(*size);
            builder.append_data(&mut header, &entry.path, content.take(*size))
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, &entry.path, target)
        }
    }
}

/// The most bytes that an archive has whose files have so many.
pub(super) fn archive_bytes(max_bytes: u64) -> u64 {
    max_bytes.saturating_add(MAX_ENTRIES * ENTRY_BYTES)
}
