//! The ledger of a repository's `budget`: what all runs together have spent in a period, and what runs that go on have reserved.
//!
//! A run reserves before it starts what its limits allow it at most, and puts what it has spent in place of that when it has ended.
//! Whoever stores the ledger says which one it was made from, and of two that are made from the same one the forge takes one
//! (compare-and-swap): so what is spent and reserved never is more than the budget, whatever runs at once. A ledger that can't be
//! read refuses, and does not count as an empty one. Dollars are counted in whole millionths.

mod amounts;
mod span;

use serde::{Deserialize, Serialize};

pub use self::amounts::Amounts;
use self::amounts::{Dollars, MAX_SUM, Quantity, shares};
pub use self::span::PeriodSpan;
use crate::manifest::{BudgetEntry, Period};
use crate::moment::Moment;
use crate::name::Slug;

/// The largest ledger that is read, in bytes.
pub const MAX_BYTES: usize = 256 << 10;
/// More runs than these can't have a reservation at once.
pub const MAX_RESERVATIONS: usize = 400;
const VERSION: u64 = 1;
/// The longest address of a job.
const MAX_URL: usize = 400;
/// So much earlier than another machine's, in seconds, a clock may say that a period begins.
const CLOCK_SKEW: i64 = 600;

/// Why a ledger does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It is larger than any that was written here.
    #[error("it has {0} bytes, and none has more than {MAX_BYTES}")]
    TooLarge(u64),
    /// It is not JSON of this form.
    #[error("it is not read: {0}")]
    Form(String),
    /// Another program's.
    #[error("its version is {0}, and this program reads version {VERSION}")]
    Version(String),
    /// A period that has not begun.
    #[error("it is of {0}, which has not begun: the clock of this machine, or of another that runs had, is wrong")]
    NotBegun(PeriodSpan),
    /// Another kind of period, which goes on.
    #[error("it is of {of}, and this manifest counts by the {}: the other is dropped when it has ended", kind.as_str())]
    OtherKind {
        /// The ledger's.
        of: PeriodSpan,
        /// The manifest's.
        kind: Period,
    },
    /// No place for another.
    #[error("{MAX_RESERVATIONS} runs have a reservation, and no more can")]
    Full,
}

/// What a run that goes on may spend at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunReservation {
    /// The run's name.
    run: Slug,
    /// When it reserved, RFC 3339. With the name it tells the run from all others.
    since: Moment,
    /// Its job's page.
    url: JobAddress,
    cost_usd: Dollars,
    tokens: u64,
    requests: u64,
}

impl RunReservation {
    /// A run's; none where its moment is none.
    pub fn new(run: &Slug, since: &str, url: &str, amounts: Amounts) -> Option<Self> {
        let Amounts { cost_usd, tokens, requests } = amounts;
        let url = JobAddress::cleaned(url);
        Some(Self { run: run.clone(), since: Moment::parse(since)?, url, cost_usd, tokens, requests })
    }

    /// How much it is.
    pub fn amounts(&self) -> Amounts {
        Amounts { cost_usd: self.cost_usd, tokens: self.tokens, requests: self.requests }
    }

    /// A share from 0 to 1 that each run has another of, and another each time.
    pub fn spread(&self, time: u32) -> f64 {
        // The last digits of a run's name are drawn by lot.
        let hash =
            self.run.as_str().bytes().fold(time, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        f64::from(hash >> 16) / f64::from(u16::MAX)
    }

    fn is_of_the_run_of(&self, other: &Self) -> bool {
        (&self.run, self.since) == (&other.run, other.since)
    }
}

/// A job's page: visible ASCII, and not long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct JobAddress(String);

impl JobAddress {
    fn is_one(c: char) -> bool {
        c.is_ascii_graphic()
    }

    fn cleaned(text: &str) -> Self {
        Self(text.chars().filter(|c| Self::is_one(*c)).take(MAX_URL).collect())
    }
}

impl TryFrom<String> for JobAddress {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        let is_one = text.len() <= MAX_URL && text.chars().all(Self::is_one);
        is_one.then_some(Self(text)).ok_or("not the address of a job")
    }
}

/// What all runs of a period have spent that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeriodSpent {
    cost_usd: Dollars,
    tokens: u64,
    requests: u64,
    /// How many they were.
    runs: u64,
}

impl PeriodSpent {
    fn amounts(&self) -> Amounts {
        Amounts { cost_usd: self.cost_usd, tokens: self.tokens, requests: self.requests }
    }
}

/// The ledger of one period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodLedger {
    version: u64,
    period: PeriodSpan,
    spent: PeriodSpent,
    reserved: Vec<RunReservation>,
}

/// That a run gets no reservation: less is left of an amount than it may spend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} of {} {what} of {period} are left ({} spent, {} reserved), and this run may spend {}", .left, .budget, .spent, .reserved, .wanted)]
pub struct TooLittleLeft {
    what: &'static str,
    period: PeriodSpan,
    budget: Quantity,
    spent: Quantity,
    reserved: Quantity,
    left: Quantity,
    wanted: Quantity,
}

impl PeriodLedger {
    /// A period of which nothing is spent.
    pub fn new(period: PeriodSpan) -> Self {
        Self { version: VERSION, period, spent: PeriodSpent::default(), reserved: vec![] }
    }

    /// Reads one that was stored.
    pub fn read(bytes: &[u8]) -> Result<Self, LedgerError> {
        /// What other versions have, too.
        #[derive(Deserialize)]
        struct AnyVersion {
            version: serde_json::Value,
        }
        let form = |error: serde_json::Error| LedgerError::Form(crate::prose::name(&error.to_string(), 200));
        if bytes.len() > MAX_BYTES {
            return Err(LedgerError::TooLarge(bytes.len() as u64));
        }
        let AnyVersion { version } = serde_json::from_slice(bytes).map_err(form)?;
        if version.as_u64() != Some(VERSION) {
            return Err(LedgerError::Version(crate::prose::name(&version.to_string(), 40)));
        }
        let ledger: Self = serde_json::from_slice(bytes).map_err(form)?;
        if ledger.reserved.len() > MAX_RESERVATIONS {
            return Err(LedgerError::Full);
        }
        Ok(ledger)
    }

    /// What is stored; it ends with a line's end.
    pub fn text(&self) -> String {
        // Numbers, texts and a list of them: nothing of it can fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The ledger to go on with, of this kind of period at this moment: the one that was read, or a new one where its period has ended.
    pub fn at(read: Option<Self>, kind: Period, now: &str) -> Result<Self, LedgerError> {
        let none = || LedgerError::Form(format!("`{now}` is no moment of any period"));
        let span = PeriodSpan::at(kind, now).ok_or_else(none)?;
        let Some(read) = read else { return Ok(Self::new(span)) };
        let moment = Moment::parse(now).ok_or_else(none)?;
        let today = moment.date().ok_or_else(none)?;
        let soon = moment.plus(CLOCK_SKEW).date().ok_or_else(none)?;
        if read.period == span {
            return Ok(read);
        }
        if read.period.end().is_some_and(|end| end <= today) {
            return Ok(Self::new(span));
        }
        if read.period.first() > soon {
            return Err(LedgerError::NotBegun(read.period));
        }
        if read.period.kind() != kind {
            return Err(LedgerError::OtherKind { of: read.period, kind });
        }
        // Another machine's clock is ahead of this one's by a little: its period is the one that counts.
        Ok(read)
    }

    /// Its period.
    pub fn period(&self) -> PeriodSpan {
        self.period
    }

    /// What runs that have ended have spent.
    pub fn spent(&self) -> Amounts {
        self.spent.amounts()
    }

    /// What runs that go on may spend.
    pub fn reserved(&self) -> Amounts {
        self.reserved.iter().fold(Amounts::default(), |sum, one| sum.plus(one.amounts()))
    }

    /// The runs that have a reservation, each with its job's page and what it may spend of what the budget names, for people.
    pub fn holders(&self, budget: &BudgetEntry) -> Vec<String> {
        let holder = |one: &RunReservation| {
            let shares = shares(budget, &one.amounts()).map(|share| format!("{} {}", share.own, share.what));
            let url = if one.url.0.is_empty() { String::new() } else { format!(", {}", one.url.0) };
            format!("{} since {} ({}{url})", one.run, one.since, shares.collect::<Vec<_>>().join(", "))
        };
        self.reserved.iter().map(holder).collect()
    }

    /// Whether the run of this reservation has one.
    pub fn has(&self, reservation: &RunReservation) -> bool {
        self.reserved.iter().any(|one| one.is_of_the_run_of(reservation))
    }

    /// Reserves for a run, which may have this very reservation already. An error where too little is left.
    pub fn reserve(
        &mut self,
        budget: &BudgetEntry,
        reservation: RunReservation,
    ) -> Result<Result<(), TooLittleLeft>, LedgerError> {
        if self.has(&reservation) {
            return Ok(Ok(()));
        }
        if self.reserved.len() >= MAX_RESERVATIONS {
            return Err(LedgerError::Full);
        }
        let (spent, reserved, wanted) = (self.spent(), self.reserved(), reservation.amounts());
        let all = shares(budget, &spent).zip(shares(budget, &reserved)).zip(shares(budget, &wanted));
        for ((spent, reserved), wanted) in all {
            let left = spent.budget.minus(spent.own).minus(reserved.own);
            if wanted.own.count > left.count {
                let (what, period, budget) = (spent.what, self.period, spent.budget);
                let (spent, reserved, wanted) = (spent.own, reserved.own, wanted.own);
                return Ok(Err(TooLittleLeft { what, period, budget, spent, reserved, left, wanted }));
            }
        }
        self.reserved.push(reservation);
        Ok(Ok(()))
    }

    /// Puts what a run has spent in place of its reservation, if it still has one.
    pub fn settle(&mut self, reservation: &RunReservation, spent: Amounts) {
        self.reserved.retain(|one| !one.is_of_the_run_of(reservation));
        let Amounts { cost_usd, tokens, requests } = self.spent().plus(spent);
        let runs = self.spent.runs.saturating_add(1).min(MAX_SUM);
        self.spent = PeriodSpent { cost_usd, tokens, requests, runs };
    }

    /// What is spent and reserved of each amount of a budget, for people.
    pub fn standing(&self, budget: &BudgetEntry) -> String {
        let (spent, reserved) = (self.spent(), self.reserved());
        let both = shares(budget, &spent).zip(shares(budget, &reserved)).map(|(spent, reserved)| {
            format!("{} of {} {} spent and {} reserved", spent.own, spent.budget, spent.what, reserved.own)
        });
        format!("{}: {}", self.period, both.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests;
