//! A run on the terminal: the model of `report/model` as lines for people, or as JSON.
//!
//! Map: `page` (the one way to the terminal: cleaned, cut, painted), `summary` (a run in numbers), `text` (its one screen), `sections`
//! (what the flags ask for), `compare` (two runs), `live` (a run that goes on).
//!
//! Always: a text of others' reaches the terminal through [`Page::line`] alone, which spells out whatever acts on a terminal.

mod compare;
mod live;
mod page;
mod sections;
mod summary;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};

use bottle_plan::plan::BottlePlan;
use bottle_types::record_file::RecordFile;

pub(crate) use compare::Comparison;
pub(crate) use live::LiveRun;
pub(crate) use page::Page;
pub(in crate::report) use page::one_line;
pub(crate) use sections::Section;
pub(crate) use summary::refusals;
pub(in crate::report) use summary::{RunState, Spending, has_passed, is_refusal, word};
#[cfg(test)]
pub(in crate::report) use tests::alive;
#[cfg(test)]
pub(crate) use tests::live_screen;

use super::TimedEvent;
use super::model::data::{self, LiveLogs, ReportData};
use super::model::events;
use super::model::texts::Texts;
use crate::state::{self, RowError};

/// A run as its record has it.
pub(crate) struct RunView {
    dir: PathBuf,
    pub(in crate::report) events: Vec<TimedEvent>,
    /// False: the record is of an earlier version, and has no events but its beginning and its end.
    are_recorded: bool,
    pub(in crate::report) data: ReportData,
    /// None: the record has no plan that can be read; `verify-record` says so.
    pub(in crate::report) plan: Option<BottlePlan>,
    is_live: bool,
}

impl RunView {
    /// Reads the record in `dir`; an error where its metadata.json or its events can't be read.
    pub(crate) fn open(dir: &Path) -> Result<Self, RowError> {
        Self::open_by(dir, data::read)
    }

    /// Reads the record in `dir` without what the agent said and did: the doors' logs, the budget, and the events.
    pub(crate) fn open_logs(dir: &Path) -> Result<Self, RowError> {
        Self::open_by(dir, data::read_logs)
    }

    /// Reads the record of a run that goes on, with the calls to the model that its doors have counted.
    pub(crate) fn open_live(dir: &Path, logs: &LiveLogs) -> Result<Self, RowError> {
        Self::open_by(dir, |events, dir, texts| data::read_live(events, dir, texts, logs))
    }

    fn open_by(
        dir: &Path,
        read: impl Fn(&[TimedEvent], &Path, &mut Texts<'_>) -> ReportData,
    ) -> Result<Self, RowError> {
        let recorded = events::read(dir)?;
        // What a run has written is masked.
        let mask = str::to_owned;
        let mut texts = Texts::of_terminal(&mask);
        let mut data = read(&recorded.events, dir, &mut texts);
        if recorded.unread > 0 {
            let unread = recorded.unread;
            data.left_out.push(format!("{unread} lines that are not understood are left out: events.jsonl has them."));
        }
        if !recorded.are_recorded {
            data.left_out.push("Phases, checks and proposals are left out: report.html has them.".to_owned());
        }
        Ok(Self {
            dir: dir.to_owned(),
            events: recorded.events,
            are_recorded: recorded.are_recorded,
            data,
            plan: state::value(dir, RecordFile::Plan).ok(),
            is_live: state::is_live(dir),
        })
    }
}

/// A number with its thousands apart: `1,234`.
pub(in crate::report) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in the unit that a person reads it in: `0.8 s`, `3 min 07 s`, `2 h 05 min`.
pub(in crate::report) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// `1 push`, `2 pushes`.
fn count(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number as u64), if number == 1 { one } else { many })
}
