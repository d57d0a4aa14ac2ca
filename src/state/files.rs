//! The files of a record that stay as they are when the run is over.

use std::io;
use std::path::Path;

use bottle_types::record_file::RecordFile;

/// What is there only for a while.
pub(crate) const PASSING: [RecordFile; 2] = [RecordFile::Lock, RecordFile::DeployKey];

/// The paths of a record's files but those that are left out, as `find` has them, in the order of `sort` in the C locale.
///
/// # Errors
/// If a directory can't be read, or a name is one that no run writes: it is no UTF-8, or `sha256sum` would write it in another way.
pub(crate) fn files(dir: &Path, left_out: &[RecordFile]) -> io::Result<Vec<String>> {
    let mut paths = vec![];
    walk(dir, "", left_out, &mut paths)?;
    paths.sort();
    Ok(paths)
}

fn walk(dir: &Path, below: &str, left_out: &[RecordFile], paths: &mut Vec<String>) -> io::Result<()> {
    for entry in dir.join(below).read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().filter(|name| !name.contains(['\\', '\n', '\r']));
        let Some(name) = name else { return Err(io::Error::other(format!("a name that is not written: {below}"))) };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(dir, &path, left_out, paths)?;
        } else if kind.is_file() && !left_out.iter().any(|file| file.name() == path) {
            paths.push(path);
        }
    }
    Ok(())
}
