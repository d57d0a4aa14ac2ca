//! A record's files of JSON: one value, or one a line, and all of it or an error.

use std::path::Path;

use bottle_types::record_file::RecordFile;
use serde::de::DeserializeOwned;

/// A file of a record that can't be read whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// It is not there or can't be read.
    #[error("failed to read {file}: {error}")]
    File { file: RecordFile, error: std::io::Error },
    /// It is not what it should be there.
    #[error("{file}, line {line}, can't be read: {error}")]
    Line { file: RecordFile, line: usize, error: serde_json::Error },
}

/// Reads a file that is one value.
pub(crate) fn value<T: DeserializeOwned>(dir: &Path, file: RecordFile) -> Result<T, RowError> {
    let bytes = read(dir, file)?;
    serde_json::from_slice(&bytes).map_err(|error| RowError::Line { file, line: error.line(), error })
}

/// Reads every line of a file. One that can't be read is an error: it may be the one that matters.
pub(crate) fn rows<T: DeserializeOwned>(dir: &Path, file: RecordFile) -> Result<Vec<T>, RowError> {
    let bytes = read(dir, file)?;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
    let read = lines
        .map(|(at, line)| serde_json::from_slice(line).map_err(|error| RowError::Line { file, line: at + 1, error }));
    read.collect()
}

fn read(dir: &Path, file: RecordFile) -> Result<Vec<u8>, RowError> {
    std::fs::read(dir.join(file)).map_err(|error| RowError::File { file, error })
}
