//! The record's hash: one SHA-256 that stands for all files of a record.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::Path;

use bottle_types::record_file::RecordFile;
use sha2::{Digest as _, Sha256};

/// What prints the same hash in the record's directory.
pub(super) const COMMAND: &str = "find . -type f ! -path ./report.html ! -path ./lock ! -path ./deploy-key.json -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum";

/// The page itself, and what is there only for a while.
const LEFT_OUT: [RecordFile; 3] = [RecordFile::Report, RecordFile::Lock, RecordFile::DeployKey];

/// A file of the record.
pub(super) struct FileSum {
    /// Its path in the record.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// The files of the record but those that are left out, by path, and the hash of the list.
pub(super) fn sums(dir: &Path) -> io::Result<(Vec<FileSum>, String)> {
    let mut paths = vec![];
    walk(dir, "", &mut paths)?;
    // As `sort` does in the C locale, and as the command's `find` has the paths.
    paths.sort();
    let (mut files, mut list) = (vec![], String::new());
    for path in paths {
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut File::open(dir.join(&path))?, &mut hash)?;
        let sha256 = hex::encode(hash.finalize());
        let _ = writeln!(list, "{sha256}  ./{path}");
        files.push(FileSum { path, bytes, sha256 });
    }
    let hash = hex::encode(Sha256::digest(list.as_bytes()));
    Ok((files, hash))
}

fn walk(dir: &Path, below: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in dir.join(below).read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        // sha256sum writes such a name in another way, and no file of a record has one.
        let name = name.to_str().filter(|name| !name.contains(['\\', '\n', '\r']));
        let Some(name) = name else { return Err(io::Error::other(format!("a name that is not written: {below}"))) };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(dir, &path, paths)?;
        } else if kind.is_file() && !LEFT_OUT.iter().any(|file| file.name() == path) {
            paths.push(path);
        }
    }
    Ok(())
}
