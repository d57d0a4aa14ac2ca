//! `gate.jsonl`, a line a pushed ref, and `signing.jsonl`, a line a commit that was to be signed.

use std::fs::File;
use std::io::Write as _;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::dirs::GateDirs;

/// Now, as the record has it.
pub(super) fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

/// Appends lines that belong together, in one write.
pub(super) fn append(gate: &GateDirs, name: &str, records: &[impl Serialize]) -> Result<(), String> {
    let path = gate.dirs.log(name);
    let say = |error: &dyn std::fmt::Display| format!("failed to write {}: {error}", path.display());
    let mut lines = vec![];
    for one in records {
        serde_json::to_writer(&mut lines, one).map_err(|error| say(&error))?;
        lines.push(b'\n');
    }
    let mut file = File::options().create(true).append(true).open(&path).map_err(|error| say(&error))?;
    file.write_all(&lines).map_err(|error| say(&error))
}
