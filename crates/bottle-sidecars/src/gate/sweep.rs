//! Removes what killed processes leave behind: a push's quarantine, half of a pack, the lock file of a ref. git takes none
//! of it away by itself, and a stale lock file would fail every fetch from then on.

use std::fs::{self, DirEntry};
use std::path::Path;
use std::time::SystemTime;

use super::dirs::GateDirs;

/// Removes everything from a mirror that only a holder of its lock makes. The caller holds the lock, and the holder before
/// did not say that it had finished.
pub(super) fn after_a_killed_holder(mirror: &Path) {
    for name in ["HEAD.lock", "packed-refs.lock", "shallow.lock"] {
        let _ = fs::remove_file(mirror.join(name));
    }
    remove_below(&mirror.join("refs"), &|name| name.ends_with(".lock"));
    // `pack-ID.keep` is git's own mark on a pack that is being taken in.
    let unfinished = |name: &str| name.starts_with("tmp_") || name.ends_with(".keep");
    for dir in entries(&mirror.join("objects")) {
        if !dir.file_name().to_string_lossy().starts_with(QUARANTINE) {
            remove_below(&dir.path(), &unfinished);
        }
    }
}

/// Removes the lock file of a gate that was killed while it prepared a mirror: it would keep the next gate from starting.
pub(super) fn before_start(mirrors: &Path) {
    for mirror in entries(mirrors) {
        let _ = fs::remove_file(mirror.path().join("config.lock"));
    }
}

const QUARANTINE: &str = "tmp_objdir-";

/// Removes what belongs to no open connection: what was last changed before the oldest of them was opened.
pub(super) fn what_nobody_uses(gate: &GateDirs, oldest: SystemTime) {
    let is_old = |entry: &DirEntry| {
        let changed = entry.metadata().and_then(|about| about.modified());
        changed.is_ok_and(|changed| changed < oldest)
    };
    for upstream in &gate.policy.upstreams {
        for entry in entries(&gate.mirror(&upstream.name).join("objects")) {
            if entry.file_name().to_string_lossy().starts_with(QUARANTINE) && is_old(&entry) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
    for list in ["atomic", "heads", "kept", "made", "pushed"] {
        for entry in entries(&gate.private_path(list)) {
            if entry.file_name().to_string_lossy().starts_with('.') && is_old(&entry) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Removes a directory whose last users have just been killed: one of them may still be making a file in it.
pub(super) fn remove_surely(dir: &Path) {
    for _ in 0..100 {
        if fs::remove_dir_all(dir).is_ok() || !dir.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    tracing::warn!("failed to remove {}", dir.display());
}

fn entries(dir: &Path) -> Vec<DirEntry> {
    fs::read_dir(dir).map(|entries| entries.filter_map(Result::ok).collect()).unwrap_or_default()
}

fn remove_below(dir: &Path, unwanted: &dyn Fn(&str) -> bool) {
    for entry in entries(dir) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path(), unwanted);
        } else if unwanted(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
