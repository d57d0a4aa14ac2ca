//! The model of a run: its events and the files of its record as one typed value, of which report.html and the terminal are views.
//!
//! Map: `events` (events.jsonl), `data` (the value), `transcript` (turns), `texts` (texts of others, masked and cut), `visible` (nothing
//! hidden in them).

pub(in crate::report) mod data;
pub(in crate::report) mod events;
#[cfg(test)]
pub(crate) mod samples;
pub(in crate::report) mod texts;
pub(in crate::report) mod transcript;
pub(in crate::report) mod visible;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds of Unix time out of RFC 3339.
pub(in crate::report) fn millis(time: &str) -> Option<i64> {
    let nanos = OffsetDateTime::parse(time, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos / 1_000_000).ok()
}

/// RFC 3339 in UTC out of milliseconds of Unix time; none: no year of four digits has it.
pub(in crate::report) fn rfc3339(millis: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()?.format(&Rfc3339).ok()
}
