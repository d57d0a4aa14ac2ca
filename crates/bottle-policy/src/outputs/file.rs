//! The files that an agent may hand in: their paths, and what may be in them.

use bottle_scan::dlp::{Rules, Scope, Search};
use bottle_scan::known::KnownSecrets;
use bottle_scan::texts::{Derived, Unpacker, archive_names};
use globset::GlobMatcher;

use super::{Output, OutputRefusal};
use crate::prose;

/// The longest path, in bytes.
const LONGEST_PATH: usize = 300;
/// The longest name in a path, in bytes; file systems take 255.
const LONGEST_PART: usize = 200;
/// What the files' packed parts may unpack to, for each byte that they may have.
const UNPACKED: u64 = 20;

/// Tells whether a file may be handed in, by its path.
pub(super) fn path(before: &[Output], path: &str, allowed: &[GlobMatcher]) -> Result<(), OutputRefusal> {
    let shown = || prose::name(path, LONGEST_PATH);
    if !is_inside(path) {
        return Err(OutputRefusal::NoFilePath(shown()));
    }
    if !allowed.iter().any(|glob| glob.is_match(path)) {
        return Err(OutputRefusal::FilePath(shown()));
    }
    // Whoever unpacks the record may have a file system that takes no two names that differ by case alone.
    let same =
        |other: &Output| matches!(other, Output::File { path: had } if had.to_lowercase() == path.to_lowercase());
    if before.iter().any(same) {
        return Err(OutputRefusal::Second(format!("file `{}`", shown())));
    }
    Ok(())
}

/// Tells whether a path leads to something inside of the workspace that is no part of git's, under a name that every file system has.
pub fn is_inside(path: &str) -> bool {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.eq_ignore_ascii_case(".git")
            && part.len() <= LONGEST_PART
            && !part.ends_with(['.', ' '])
    };
    let odd = |c: char| c.is_control() || prose::invisible(c) || "\\:*?\"<>|".contains(c);
    path.len() <= LONGEST_PATH && !path.contains(odd) && path.split('/').all(plain)
}

/// Tells whether the content of a file may go out: the bytes, and all that is packed or written in another form in them.
pub(crate) fn content(known: &KnownSecrets, rules: &Rules, bytes: &[u8]) -> Result<(), OutputRefusal> {
    if !archive_names(bytes).is_empty() {
        return Err(OutputRefusal::Unreadable("it is an archive that can't be looked into".to_owned()));
    }
    let all = Search { known, rules: Some((rules, Scope::All)) };
    // What may be chance says a known secret or nothing.
    let sure = Search { known, rules: None };
    let mut found = all.find(bytes);
    let mut unpacker = Unpacker::new((bytes.len() as u64).saturating_mul(UNPACKED).max(1 << 20));
    let mut each = |derived: Derived| {
        if found.is_none() {
            found = if derived.is_guess { sure } else { all }.find(&derived.bytes);
        }
    };
    unpacker.unpack(bytes, &mut each).map_err(|error| OutputRefusal::Unreadable(error.to_string()))?;
    found.map_or(Ok(()), |found| Err(OutputRefusal::Secret(found.rule)))
}
