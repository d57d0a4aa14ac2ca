//! Holds the table of reasons in the documentation to the reasons that there are.
#![expect(clippy::disallowed_methods, reason = "the test reads the documentation")]

use std::collections::HashSet;
use std::path::Path;

use bottle_types::reason::Reason;

/// The page, from the workspace's root.
const PAGE: &str = "docs/reference/run-record.md";
const HEADER: &str = "| `reason` | meaning |";

#[test]
fn the_documentation_has_each_reason_with_its_meaning() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
    let page = std::fs::read_to_string(path).expect(PAGE);
    let mut lines = page.lines().skip_while(|line| *line != HEADER);
    assert_eq!((lines.next(), lines.next()), (Some(HEADER), Some("| --- | --- |")), "{PAGE} has no table of reasons");
    let table: Vec<&str> = lines.take_while(|line| line.starts_with('|')).collect();
    let wanted: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| format!("| `{reason}` | {} |", reason.meaning().trim_end_matches('.')))
        .collect();
    for row in &wanted {
        assert!(table.contains(&row.as_str()), "{PAGE} lacks this row in its table of reasons:\n{row}");
    }
    for row in &table {
        assert!(wanted.iter().any(|wanted| wanted == row), "{PAGE} has a row of no reason:\n{row}");
    }
    assert_eq!(table, wanted, "{PAGE} has the reasons in another order");
}

#[test]
fn each_reason_has_a_word_of_its_own() {
    let words: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        assert_eq!(serde_json::to_value(reason).expect("JSON"), reason.as_str());
    }
    assert_eq!(Reason::parse("no route"), None);
}
