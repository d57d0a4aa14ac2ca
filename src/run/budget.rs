//! The repository's budget of a period: a run reserves in its ledger what it may spend at most, before anything is launched, and puts
//! what it has spent in place of that when its bottle is gone.
//!
//! The ledger is at the forge, and is stored over the version that was read: whoever is second reads again. A run that gets no
//! reservation is not started; one whose reservation can't be settled stays counted with all of it, until the period ends.

use std::path::Path;
use std::time::Duration;

use bottle_plan::manifest::BudgetEntry;
use bottle_plan::period_ledger::{Amounts, LedgerError, MAX_BYTES, PeriodLedger, PeriodSpan, RunReservation};
use bottle_policy::budget::{Entry, Spent};
use bottle_types::record_file::RecordFile;
use tokio::time::{sleep, timeout};

use super::mode::RunMode;
use super::outcome::first_of;
use super::{RunContext, RunProgress};
use crate::exit::{Code, Failure};
use crate::forge::{FIRST_WAIT, Forge, ForgeError, StoredLedger, ledger_ref};
use crate::host;

/// How often the ledger is read and stored anew where another run was first. Of so many at once each gets its turn.
const MAX_TRIES: u32 = 16;
/// Longer than this no run waits for the forge to settle.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(90);
/// The same in a run that is killed after seconds.
const HURRIED_TIMEOUT: Duration = Duration::from_secs(4);

/// A reservation that a run has, or may have: an answer of the forge can be lost.
#[derive(Debug)]
pub(super) struct BudgetReservation {
    budget: BudgetEntry,
    own: RunReservation,
    period: PeriodSpan,
}

impl BudgetReservation {
    pub(super) fn new(budget: BudgetEntry, own: RunReservation, period: PeriodSpan) -> Self {
        Self { budget, own, period }
    }
}

/// A repository's ledger at its forge.
pub(super) struct RepositoryLedger<'a> {
    pub(super) forge: &'a dyn Forge,
    pub(super) budget: &'a BudgetEntry,
}

/// Reserves what the run may spend. What it has reserved, or may have, is in `progress` even where this is cut off.
pub(super) async fn reserve(context: RunContext<'_>, progress: &mut RunProgress) -> Result<(), Failure> {
    let RunContext { inputs, plan, events, cancel } = context;
    let Some(budget) = &plan.budget else { return Ok(()) };
    match inputs.mode {
        RunMode::Live => {}
        // Nobody is paid.
        RunMode::Replay(_) | RunMode::Publish(_) | RunMode::Undo(_) => return Ok(()),
    }
    let Some(forge) = &inputs.forge else {
        let what = "the manifest has a budget, which is kept at the forge, and this is no job of a forge";
        let hint = "run it in a job, or give --manifest a file without `budget`; with --replay nothing is spent";
        return Err(Failure::input(what).hint(hint));
    };
    let url = plan.ci.as_ref().map(|ci| ci.run_url.as_str()).unwrap_or_default();
    let amounts = Amounts::of_limits(&plan.limits);
    let own = RunReservation::new(&plan.slug, &host::now(), url, amounts)
        .ok_or_else(|| Failure::machine("this machine's clock says no time"))?;
    let ledger = RepositoryLedger { forge: forge.as_ref(), budget };
    let reserving = async {
        if plan.dry_run {
            let standing = ledger.has_enough(&own).await?;
            events.note(format!("budget: {standing}; a dry run is not counted, whatever it spends"));
        } else {
            let standing = ledger.reserve(&own, &mut progress.reservation).await?;
            events.note(format!("budget: {standing}"));
        }
        Ok(())
    };
    tokio::select! {
        reserved = reserving => reserved,
        failure = cancel.requested() => Err(failure),
    }
}

/// Puts what the run has spent in place of its reservation, if it has one; a failure is a warning, and all of it stays counted.
pub(super) async fn settle(context: RunContext<'_>, record: &Path, progress: &mut RunProgress) {
    let RunContext { inputs, events, cancel, .. } = context;
    let (Some(reservation), Some(forge)) = (progress.reservation.take(), &inputs.forge) else { return };
    let settling = async {
        let spent = spent(record, progress.may_have_spent)?;
        RepositoryLedger { forge: forge.as_ref(), budget: &reservation.budget }.settle(&reservation, spent).await
    };
    let hurry = async {
        cancel.requested().await;
        if cancel.leaves_time() {
            std::future::pending::<()>().await;
        }
        sleep(HURRIED_TIMEOUT).await;
    };
    let settled = tokio::select! {
        settled = timeout(SETTLE_TIMEOUT, settling) => settled.unwrap_or_else(|_| Err("the forge took too long".to_owned())),
        () = hurry => Err("the run was ended meanwhile".to_owned()),
    };
    match settled {
        Ok(Some(standing)) => events.note(format!("budget: {standing}")),
        Ok(None) => {}
        Err(why) => events.warn(format!(
            "the budget's ledger is not settled: {why}; all that the run had reserved stays counted until {}: {}",
            reservation.period.next_begins(),
            reservation.own.amounts()
        )),
    }
}

/// What the doors have counted. A run whose count is lost has spent nobody knows how much.
pub(super) fn spent(record: &Path, may_have_spent: bool) -> Result<Amounts, String> {
    let path = record.join(RecordFile::Budget);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !may_have_spent => return Ok(Amounts::default()),
        Err(error) => return Err(format!("what was spent is not known: {}: {error}", RecordFile::Budget)),
    };
    let mut spent = Spent::default();
    for line in text.lines() {
        let entry: Entry = serde_json::from_str(line)
            .map_err(|error| format!("what was spent is not known: {}: {error}", RecordFile::Budget))?;
        spent.add(&entry);
    }
    Ok(Amounts::spent(spent.cost_usd, spent.tokens, spent.requests))
}

impl RepositoryLedger<'_> {
    /// Looks whether enough is left, and changes nothing.
    pub(super) async fn has_enough(&self, own: &RunReservation) -> Result<String, Failure> {
        let (mut ledger, _) = self.read().await?;
        let standing = ledger.standing(self.budget);
        self.reserve_in(&mut ledger, own)?;
        Ok(standing)
    }

    pub(super) async fn reserve(
        &self,
        own: &RunReservation,
        reservation: &mut Option<BudgetReservation>,
    ) -> Result<String, Failure> {
        let mut last = None;
        for tries in 1..=MAX_TRIES {
            let (mut ledger, version) = self.read().await?;
            let has_it = ledger.has(own);
            self.reserve_in(&mut ledger, own)?;
            *reservation = Some(BudgetReservation::new(*self.budget, own.clone(), ledger.period()));
            // The forge has stored it, and its answer was lost.
            if has_it {
                return Ok(ledger.standing(self.budget));
            }
            match self.forge.store_ledger(&ledger.text(), version.as_deref()).await {
                Ok(true) => return Ok(ledger.standing(self.budget)),
                Ok(false) => {}
                Err(error) if error.may_be_done() => last = Some(error),
                Err(error) => return Err(self.out_of_reach(&error)),
            }
            sleep(wait(tries, own)).await;
        }
        let why = last.map_or_else(|| "another run was first each time".to_owned(), |error| error.to_string());
        Err(Failure::machine(format_args!("the budget's ledger could not be stored in {MAX_TRIES} tries: {why}"))
            .hint("run it again, with fewer runs at once"))
    }

    fn reserve_in(&self, ledger: &mut PeriodLedger, own: &RunReservation) -> Result<(), Failure> {
        let before = ledger.clone();
        match ledger.reserve(self.budget, own.clone()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(too_little)) => {
                let holders = before.holders(self.budget);
                let holders = match holders.is_empty() {
                    true => "no run has a reservation".to_owned(),
                    false => format!("reserved by {}", first_of(&holders, "; ")),
                };
                let hint = format!(
                    "wait for {}, when the next {} begins (UTC), lower the agent's `limits`, or raise `budget` in claude-bottle.yml; \
                     {holders}; a run that was killed stays counted until then, or until somebody deletes the ledger: `{}`",
                    before.period().next_begins(),
                    self.budget.period.as_str(),
                    self.removal()
                );
                Err(Failure::new(
                    Code::Limit,
                    format_args!("the repository's budget is too little for this run: {too_little}"),
                )
                .hint(hint))
            }
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    /// What a reservation becomes; the text says how much is spent then, none where nothing is to be said.
    pub(super) async fn settle(
        &self,
        reservation: &BudgetReservation,
        spent: Amounts,
    ) -> Result<Option<String>, String> {
        let (own, mut was_there, mut last) = (&reservation.own, false, "another run was first each time".to_owned());
        for tries in 1..=MAX_TRIES {
            let told = |error: &ForgeError| format!("{error}; {}", error.hint());
            let stored = self.forge.ledger().await.map_err(|error| told(&error))?;
            let version = stored.as_ref().map(|stored| stored.version.clone());
            let read = stored.map(|stored| parse(&stored)).transpose().map_err(|error| error.to_string())?;
            let mut ledger = match read {
                Some(ledger) if ledger.period() == reservation.period => ledger,
                // Its period is over, or somebody has deleted the ledger: then what was spent of this period is still spent.
                read => match PeriodLedger::at(read, self.budget.period, &host::now()) {
                    Ok(ledger) if ledger.period() == reservation.period => ledger,
                    Ok(_) => return Ok(None),
                    Err(error) => return Err(error.to_string()),
                },
            };
            let is_there = ledger.has(own);
            // It was there, and is not any more: an earlier try was stored, and its answer was lost.
            if !is_there && (was_there || spent.is_none()) {
                return Ok(was_there.then(|| ledger.standing(self.budget)));
            }
            was_there |= is_there;
            ledger.settle(own, spent);
            match self.forge.store_ledger(&ledger.text(), version.as_deref()).await {
                Ok(true) => return Ok(Some(ledger.standing(self.budget))),
                Ok(false) => {}
                Err(error) if error.may_be_done() => last = told(&error),
                Err(error) => return Err(told(&error)),
            }
            sleep(wait(tries, own)).await;
        }
        Err(last)
    }

    /// The ledger as it is now, and the version that a new one has to be stored over.
    async fn read(&self) -> Result<(PeriodLedger, Option<String>), Failure> {
        let stored = self.forge.ledger().await.map_err(|error| self.out_of_reach(&error))?;
        let version = stored.as_ref().map(|stored| stored.version.clone());
        let read = stored.map(|stored| parse(&stored)).transpose().map_err(|error| self.unreadable(&error))?;
        let ledger =
            PeriodLedger::at(read, self.budget.period, &host::now()).map_err(|error| self.unreadable(&error))?;
        Ok((ledger, version))
    }

    fn out_of_reach(&self, error: &ForgeError) -> Failure {
        Failure::machine(format_args!("whether the repository's budget is enough can't be told: {error}"))
            .hint(format_args!("{}; the ledger is at {}", error.hint(), ledger_ref(self.forge.kind())))
    }

    fn unreadable(&self, error: &LedgerError) -> Failure {
        let at = ledger_ref(self.forge.kind());
        Failure::machine(format_args!("the ledger of the repository's budget at {at} can't be used: {error}")).hint(
            format_args!("look at it: `git fetch origin {at} && git show FETCH_HEAD:.claude-bottle/budget.json`; `{}` deletes it, and what was spent of this period with it", self.removal()),
        )
    }

    /// The command that deletes the ledger.
    fn removal(&self) -> String {
        format!("git push origin --delete {}", ledger_ref(self.forge.kind()))
    }
}

fn parse(stored: &StoredLedger) -> Result<PeriodLedger, LedgerError> {
    if stored.size > MAX_BYTES as u64 {
        return Err(LedgerError::TooLarge(stored.size));
    }
    PeriodLedger::read(&stored.bytes)
}

/// How long a run waits that was second: longer each time, and each run another time.
fn wait(tries: u32, own: &RunReservation) -> Duration {
    let share = own.spread(tries);
    FIRST_WAIT.mul_f64(f64::from(tries.min(8)) * (0.2 + share))
}
