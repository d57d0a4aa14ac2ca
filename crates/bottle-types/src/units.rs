//! Quantities as people write them in a manifest: `10MiB`, `45m`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text that is not a quantity of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct UnitError {
    given: String,
    expected: &'static str,
}

/// A number of bytes, written as `512`, `64KiB`, `10MiB`, `4GiB` (powers of 1024) or `kB`, `MB`, `GB` (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// Reads a size such as `10MiB`.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError { given: text.to_owned(), expected: "a size such as 512, 64KiB, 10MiB or 4GiB" };
        let (digits, factor) = BYTE_UNITS
            .iter()
            .find_map(|(unit, factor)| text.strip_suffix(unit).map(|rest| (rest.trim_end(), *factor)))
            .unwrap_or((text, 1));
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let number: u64 = digits.parse().map_err(|_| error())?;
        number.checked_mul(factor).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BYTE_UNITS[..3].iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<String> for ByteSize {
    type Error = UnitError;
    fn try_from(text: String) -> Result<Self, UnitError> {
        Self::parse(&text)
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

/// A length of time in whole seconds, written as `90s`, `45m`, `2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Seconds(pub u64);

const TIME_UNITS: [(&str, u64); 3] = [("h", 3600), ("m", 60), ("s", 1)];

impl Seconds {
    /// Reads a time such as `45m`; a unit is required, because `45` could be either minutes or seconds.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError { given: text.to_owned(), expected: "a time such as 90s, 45m or 2h" };
        let (digits, factor) = TIME_UNITS
            .iter()
            .find_map(|(unit, factor)| text.strip_suffix(unit).map(|rest| (rest, *factor)))
            .ok_or_else(error)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let number: u64 = digits.parse().map_err(|_| error())?;
        number.checked_mul(factor).map(Self).ok_or_else(error)
    }
}

impl From<Seconds> for std::time::Duration {
    fn from(seconds: Seconds) -> Self {
        Self::from_secs(seconds.0)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TIME_UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}s", self.0),
        }
    }
}

impl TryFrom<String> for Seconds {
    type Error = UnitError;
    fn try_from(text: String) -> Result<Self, UnitError> {
        Self::parse(&text)
    }
}

impl From<Seconds> for String {
    fn from(seconds: Seconds) -> Self {
        seconds.to_string()
    }
}

/// How often something may be done, written as `5/s`, `100/m` or `1000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Rate {
    /// So many times.
    pub count: u32,
    /// In so long.
    pub per: Seconds,
}

impl Rate {
    /// Reads a rate such as `100/m`.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError { given: text.to_owned(), expected: "a rate such as 5/s, 100/m or 1000/h" };
        let (count, unit) = text.split_once('/').ok_or_else(error)?;
        let per = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, seconds)| Seconds(*seconds));
        let digits = count.bytes().all(|b| b.is_ascii_digit());
        let count = count.parse().ok().filter(|count| digits && *count > 0).ok_or_else(error)?;
        Ok(Self { count, per: per.ok_or_else(error)? })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = TIME_UNITS.iter().find(|(_, seconds)| *seconds == self.per.0).map_or("s", |(unit, _)| unit);
        write!(f, "{}/{unit}", self.count)
    }
}

impl TryFrom<String> for Rate {
    type Error = UnitError;
    fn try_from(text: String) -> Result<Self, UnitError> {
        Self::parse(&text)
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_and_print_the_same() {
        for text in ["5/s", "100/m", "1000/h"] {
            assert_eq!(Rate::parse(text).map(|rate| rate.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "5", "0/s", "-1/s", "+5/s", "5/d", "5/10s"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_and_print_the_same() {
        for text in ["0", "512", "64KiB", "10MiB", "4GiB", "1000"] {
            assert_eq!(ByteSize::parse(text).map(|size| size.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(ByteSize::parse("10MB"), Ok(ByteSize(10_000_000)));
        for text in ["", "MiB", "-1", "1.5GiB", "10 mib", "99999999999GiB"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        for text in ["1s", "90s", "45m", "2h"] {
            assert_eq!(Seconds::parse(text).map(|time| time.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "45", "m", "1d", "1.5h"] {
            assert!(Seconds::parse(text).is_err(), "{text}");
        }
    }
}
