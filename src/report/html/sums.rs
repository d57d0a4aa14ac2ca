//! The record's hash: one SHA-256 that stands for all files of a record.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::Path;

use bottle_types::record_file::RecordFile;
use sha2::{Digest as _, Sha256};

use crate::state::{self, PASSING};

/// What prints the same hash in the record's directory.
pub(super) const COMMAND: &str = "find . -type f ! -path ./report.html ! -path ./lock ! -path ./deploy-key.json ! -path ./attestation.dsse.json -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum";

/// The page itself, what is there only for a while, and what is made when the page is there.
const LEFT_OUT: [RecordFile; 4] = [RecordFile::Report, PASSING[0], PASSING[1], RecordFile::Attestation];

/// A file of the record.
pub(super) struct FileSum {
    /// Its path in the record.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// The files of the record but those that are left out, by path, and the hash of the list.
pub(super) fn sums(dir: &Path) -> io::Result<(Vec<FileSum>, String)> {
    let (mut files, mut list) = (vec![], String::new());
    for path in state::files(dir, &LEFT_OUT)? {
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut File::open(dir.join(&path))?, &mut hash)?;
        let sha256 = hex::encode(hash.finalize());
        let _ = writeln!(list, "{sha256}  ./{path}");
        files.push(FileSum { path, bytes, sha256 });
    }
    let hash = hex::encode(Sha256::digest(list.as_bytes()));
    Ok((files, hash))
}
