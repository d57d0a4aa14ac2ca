//! What tells one system from another, where no image's digest does: its name, the packages that it says it has, and its programs.
//!
//! It is no proof of anything: it keeps what one system has built out of another, and no attacker is in either.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Files that change when the system's packages do.
const FILES: [&str; 6] = [
    "etc/os-release",
    "usr/lib/os-release",
    "var/lib/dpkg/status",
    "lib/apk/db/installed",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite",
];
/// Directories in which something changes when a program or a library is put in by hand.
const DIRECTORIES: [&str; 6] =
    ["usr/bin", "usr/local/bin", "usr/local/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "opt"];

/// The hash of all that.
pub(in crate::backend) fn system_id(root: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    };
    add(std::env::consts::ARCH);
    for file in FILES {
        match fs::symlink_metadata(root.join(file)) {
            Ok(found) if found.is_file() => {
                add(file);
                add(&hex::encode(Sha256::digest(fs::read(root.join(file))?)));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::NotADirectory => {
                return Err(error);
            }
            _ => {}
        }
    }
    for directory in DIRECTORIES {
        let path = root.join(directory);
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        let mut lines = vec![];
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let found = fs::symlink_metadata(entry.path())?;
            lines.push(format!("{:?} {} {}", entry.file_name(), found.size(), found.mtime()));
        }
        lines.sort();
        add(directory);
        add(&lines.join("\n"));
    }
    Ok(hex::encode(hash.finalize()))
}
