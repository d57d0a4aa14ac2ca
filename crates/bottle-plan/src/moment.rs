//! Times as forges write them, to be compared: GitHub in UTC, Gitea with the server's offset.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

/// A moment, in seconds since 1970 in UTC; fractions of a second are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(i64);

impl TryFrom<String> for Moment {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text).ok_or("not a time of RFC 3339")
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

impl Moment {
    /// Reads RFC 3339, such as `2026-11-20T10:00:00Z` or `2026-11-20T11:00:00.5+01:00`; none where it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        OffsetDateTime::parse(text, &Rfc3339).ok().map(|time| Self(time.unix_timestamp()))
    }

    /// The day in UTC; none: so far away that no calendar has it.
    pub(crate) fn date(self) -> Option<Date> {
        OffsetDateTime::from_unix_timestamp(self.0).ok().map(OffsetDateTime::date)
    }

    /// This many seconds later.
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0 + seconds)
    }
}

impl fmt::Display for Moment {
    /// Writes RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp(self.0).map_err(|_| fmt::Error)?;
        f.write_str(&time.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-11-20T10:00:00Z", 1_795_168_800),
            ("2026-11-20T11:00:00.123+01:00", 1_795_168_800),
            ("2026-11-20T04:30:00-05:30", 1_795_168_800),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
        ] {
            assert_eq!(Moment::parse(text), Some(Moment(seconds)), "{text}");
            assert_eq!(Moment::parse(&Moment(seconds).to_string()), Some(Moment(seconds)), "{text}");
        }
        for text in ["2026-11-20T10:00:00Z", "2024-02-29T00:00:00Z", "2025-12-31T23:59:59Z", "0001-01-01T00:00:00Z"] {
            assert_eq!(Moment::parse(text).map(|moment| moment.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "now",
            "2026-11-20",
            "2026-11-20T10:00:00",
            "2026-13-20T10:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T10:00:00+1:00",
            "2026-11-20T10:00:00Z ",
            "2026-11-20T10:00:0\u{e9}",
            "1795168800",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }
}
