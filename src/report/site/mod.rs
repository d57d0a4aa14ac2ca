//! Many records on one page that needs nothing else: no network, no script. Runs by agent, cost by day, refusals by rule, phases by their time.
//!
//! Map: `rows` (what the page counts of a run), `sections` (the page).
//!
//! Always: a text of others' is made visible, cut, and escaped as text; the page's policy lets nothing run or load, and its one style count.
//! A record that can't be read is a line on the page.

mod rows;
mod sections;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use bottle_types::record_file::RecordFile;
use bottle_wire::run_record::Metadata;

use super::html::whole;
use super::model::millis;
use super::model::visible::visible;
use super::show::RunView;
use crate::state::{self, RowError};
pub(in crate::report) use rows::RunRow;
#[cfg(test)]
pub(crate) use tests::pages as site_pages;

/// Records on a page: the newest.
const MAX_RECORDS: usize = 1000;
/// Directories below the one that is given, such as those of a job's artifacts.
const MAX_DEPTH: usize = 3;
/// Directories that are looked into.
const MAX_DIRS: usize = 100_000;

/// The page of many records.
pub(crate) struct Site {
    /// The newest first.
    runs: Vec<RunRow>,
    /// Records that could not be read: where, and why.
    broken: Vec<(String, String)>,
    /// What is not on the page, a sentence each.
    left_out: Vec<String>,
}

/// A record that was found.
struct Found {
    dir: PathBuf,
    /// Its path below the directory that was given.
    name: String,
    metadata: Result<Metadata, RowError>,
}

impl Site {
    /// Reads the records in and below `root`. `output` is where the page goes: what lies beside it is linked.
    ///
    /// # Errors
    /// If `root` can't be read.
    pub(crate) fn read(root: &Path, output: &Path) -> std::io::Result<Self> {
        let (dirs, is_all) = find_all(root)?;
        let mut found: Vec<Found> = dirs
            .into_iter()
            .map(|below| {
                let dir = root.join(&below);
                let metadata = state::value::<Metadata>(&dir, RecordFile::Metadata);
                Found { dir, name: below.to_string_lossy().into_owned(), metadata }
            })
            .collect();
        let started = |found: &Found| found.metadata.as_ref().ok().and_then(|metadata| millis(&metadata.started));
        found.sort_by_key(|found| (std::cmp::Reverse(started(found)), found.name.clone()));
        let mut left_out = vec![];
        if !is_all {
            left_out.push(format!("Only the first {MAX_DIRS} directories were looked into."));
        }
        let more = found.len().saturating_sub(MAX_RECORDS);
        if more > 0 {
            left_out.push(format!("{more} older records are left out: the page has the newest {MAX_RECORDS}."));
            found.truncate(MAX_RECORDS);
        }
        let mut site = Self { runs: vec![], broken: vec![], left_out };
        for found in found {
            match found.metadata.and_then(|_| RunView::open_logs(&found.dir)) {
                Ok(view) => site.runs.push(RunRow::new(&view, link(&found.name, output))),
                Err(error) => {
                    site.broken.push((visible(&found.name).into_owned(), visible(&error.to_string()).into_owned()))
                }
            }
        }
        Ok(site)
    }

    /// The records that are on the page, and those that could not be read.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.runs.len(), self.broken.len())
    }

    /// The page.
    pub(crate) fn page(&self) -> String {
        whole("Runs of claude-bottle", &sections::body(self), None)
    }
}

/// The records in and below a directory, as paths below it.
///
/// # Errors
/// If the directory can't be read.
pub(in crate::report) fn records(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    find_all(root).map(|(dirs, _)| dirs)
}

/// The records below a directory, and whether all of it was looked into.
fn find_all(root: &Path) -> std::io::Result<(Vec<PathBuf>, bool)> {
    let mut dirs = vec![];
    let mut left = MAX_DIRS;
    find(root, Path::new(""), 0, &mut left, &mut dirs)?;
    Ok((dirs, left > 0))
}

/// Finds the records in and below a directory, as paths below `root`, in `left` directories at most. No link is followed.
fn find(root: &Path, below: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let dir = root.join(below);
    if dir.join(RecordFile::Metadata).is_file() {
        found.push(below.to_owned());
        return Ok(());
    }
    if depth == MAX_DEPTH {
        return Ok(());
    }
    for entry in dir.read_dir()? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        // What can't be read below the first directory is nobody's record that could be shown.
        if let Err(error) = find(root, &below.join(entry.file_name()), depth + 1, left, found) {
            tracing::debug!("{}: {error}", entry.path().display());
        }
    }
    Ok(())
}

/// The address of a record's own page, where it lies beside the site's.
fn link(name: &str, output: &Path) -> Option<String> {
    let lies_there = output.join(name).join(RecordFile::Report).is_file();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    // Any other name would need to be written in another way; a run's own never does.
    let is_name = !name.is_empty() && !name.starts_with(['/', '.']) && name.chars().all(is_plain);
    (lies_there && is_name).then(|| format!("{name}/{}", RecordFile::Report))
}
