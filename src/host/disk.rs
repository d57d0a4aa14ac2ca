//! Whether a directory's disk has room for what a run writes.

use std::path::Path;

use crate::exit::Failure;

/// A run writes its record, a checkout and a mirror: below this it would end in the middle.
const MIN_FREE_BYTES: u64 = 64 << 20;

/// Fails where too little is free on a directory's disk; `variable` is what puts it elsewhere. What can't be told is no failure:
/// whoever writes there will know.
pub(crate) fn check_space(dir: &Path, variable: &str) -> Result<(), Failure> {
    let Ok(found) = rustix::fs::statvfs(dir) else { return Ok(()) };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= MIN_FREE_BYTES {
        return Ok(());
    }
    let (free, needed) = (free >> 20, MIN_FREE_BYTES >> 20);
    Err(Failure::machine(format_args!(
        "the disk of {} is full: {free} MiB are free, and a run needs {needed}",
        dir.display()
    ))
    .hint(format_args!("make room on it, or set {variable} to a directory on another disk")))
}

#[cfg(test)]
mod tests {
    use super::check_space;

    #[test]
    fn a_disk_with_room_is_no_failure() {
        assert!(check_space(&std::env::temp_dir(), "BOTTLE_STATE_DIR").is_ok());
        assert!(check_space("/nowhere/at/all".as_ref(), "BOTTLE_STATE_DIR").is_ok());
        // A file system that has no space at all.
        let failure = check_space("/proc".as_ref(), "BOTTLE_STATE_DIR").expect_err("there is no room in it");
        assert!(failure.what.contains("the disk of /proc is full: 0 MiB are free"), "{failure}");
    }
}
