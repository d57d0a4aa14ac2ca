//! Holds the table of record files in the documentation to the files that there are.
#![expect(clippy::disallowed_methods, reason = "the test reads the documentation")]

use std::collections::HashSet;
use std::path::Path;

use bottle_types::record_file::RecordFile;

/// The page, from the workspace's root.
const PAGE: &str = "docs/reference/run-record.md";
const HEADER: &str = "| file | content |";
/// The one kind of file whose names are made in the run.
const BUNDLES: &str = "| `<upstream>-<n>.bundle` | ";

#[test]
fn the_documentation_has_each_file_with_its_content() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
    let page = std::fs::read_to_string(path).expect(PAGE);
    let mut lines = page.lines().skip_while(|line| *line != HEADER);
    assert_eq!((lines.next(), lines.next()), (Some(HEADER), Some("| --- | --- |")), "{PAGE} has no table of files");
    let table: Vec<&str> = lines.take_while(|line| line.starts_with('|')).collect();
    let (bundles, table): (Vec<&str>, Vec<&str>) = table.into_iter().partition(|row| row.starts_with(BUNDLES));
    assert_eq!(bundles.len(), 1, "{PAGE} has one row of pushes that a dry run kept");
    let wanted: Vec<String> = RecordFile::ALL.iter().map(|file| format!("| `{file}` | {} |", file.content())).collect();
    for (row, wanted) in table.iter().zip(&wanted) {
        assert_eq!(row, wanted, "{PAGE} has another row");
    }
    assert_eq!(table.len(), wanted.len(), "{PAGE} has more rows, or fewer");
}

#[test]
fn each_file_has_a_name_of_its_own() {
    let names: HashSet<&str> = RecordFile::ALL.iter().map(|file| file.name()).collect();
    assert_eq!(names.len(), RecordFile::ALL.len());
}
