//! Days, weeks and months by their names.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::{Date, Duration, Month, Weekday};

use crate::manifest::Period;
use crate::moment::Moment;

/// A day, a week or a month, in UTC. As a text `2026-11-30`, `2026-W49` or `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeriodSpan {
    kind: Period,
    first: Date,
}

impl PeriodSpan {
    /// The one in which this moment is, RFC 3339; none: it is no moment.
    pub fn at(kind: Period, now: &str) -> Option<Self> {
        let day = Moment::parse(now)?.date()?;
        let first = match kind {
            Period::Day => day,
            Period::Week => day.checked_sub(Duration::days(day.weekday().number_days_from_monday().into()))?,
            Period::Month => day.replace_day(1).ok()?,
        };
        Some(Self { kind, first })
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str, digits: usize| {
            let is_one = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|_| is_one)
        };
        let parts: Vec<&str> = text.split('-').collect();
        let year = i32::from(number(parts.first()?, 4)?);
        let two = |text: &str| u8::try_from(number(text, 2)?).ok();
        let month = |text: &str| Month::try_from(two(text)?).ok();
        let (kind, first) = match parts[1..] {
            [of_month, day] => (Period::Day, Date::from_calendar_date(year, month(of_month)?, two(day)?)),
            [part] => match part.strip_prefix('W') {
                Some(week) => (Period::Week, Date::from_iso_week_date(year, two(week)?, Weekday::Monday)),
                None => (Period::Month, Date::from_calendar_date(year, month(part)?, 1)),
            },
            _ => return None,
        };
        first.ok().map(|first| Self { kind, first })
    }

    /// The day on which the next one begins, `2026-12-01`.
    pub fn next_begins(&self) -> String {
        self.end().map_or_else(|| "never".to_owned(), |day| day.to_string())
    }

    pub(super) fn kind(&self) -> Period {
        self.kind
    }

    /// Its first day.
    pub(super) fn first(&self) -> Date {
        self.first
    }

    /// The first day after it.
    pub(super) fn end(&self) -> Option<Date> {
        match self.kind {
            Period::Day => self.first.next_day(),
            Period::Week => self.first.checked_add(Duration::weeks(1)),
            Period::Month => self.first.checked_add(Duration::days(31))?.replace_day(1).ok(),
        }
    }
}

impl fmt::Display for PeriodSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, first } = self;
        match kind {
            Period::Day => write!(f, "{first}"),
            Period::Week => {
                let (year, week, _) = first.to_iso_week_date();
                write!(f, "{year:04}-W{week:02}")
            }
            Period::Month => write!(f, "{:04}-{:02}", first.year(), u8::from(first.month())),
        }
    }
}

impl TryFrom<String> for PeriodSpan {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{}` is no day, week or month", crate::prose::name(&text, 40)))
    }
}

impl From<PeriodSpan> for String {
    fn from(span: PeriodSpan) -> Self {
        span.to_string()
    }
}
