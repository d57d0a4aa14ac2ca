//! The ledger of what the run has spent on the model, kept over restarts in `budget.jsonl`; it decides whether the next
//! request may go.
//!
//! The cost of a request is known at its reply's end. Until then the request counts for the most that it may cost, so that
//! many at once spend no more than one after the other would: where that leaves too little, the next one waits for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bottle_policy::budget::{Budget, BudgetState, Entry, REACHED, Spent, Tokens};
use tokio::sync::Notify;

use crate::common::{Dirs, Error};
use crate::proxy::access::LogFile;

/// Counts what is spent.
pub(super) struct BudgetLedger {
    log_file: Arc<LogFile>,
    state: Mutex<LedgerState>,
    /// One of those under way has ended.
    ended: Notify,
}

#[derive(Default)]
struct LedgerState {
    spent: Spent,
    /// When the first request came.
    began: Option<Instant>,
    /// The agent was told that little is left.
    told: bool,
    /// The most that each request under way may cost.
    under_way: BTreeMap<u64, Spent>,
    count: u64,
}

/// A reservation of the most that a request may cost, until it has ended.
pub(super) struct Reservation {
    ledger: Arc<BudgetLedger>,
    number: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.state().under_way.remove(&self.number);
        self.ledger.ended.notify_waiters();
    }
}

/// The decision about the next request.
pub(super) enum Admission {
    /// It goes as it is.
    Go(Reservation),
    /// It goes, and the agent is told this with it.
    Tell(String, Reservation),
    /// It does not go, because of this.
    Stop(String),
}

impl BudgetLedger {
    /// Opens the record, and goes on from what is in it: a restart makes nothing free.
    pub(super) fn open(dirs: &Dirs) -> Result<Arc<Self>, Error> {
        let path = dirs.log("budget.jsonl");
        let mut state = LedgerState::default();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                for line in text.lines() {
                    let entry = serde_json::from_str(line).map_err(|error| Error::Policy {
                        path: path.clone(),
                        reason: format!("a line of it is no entry: {error}"),
                    })?;
                    state.spent.add(&entry);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::Read { path, error }),
        }
        Ok(Arc::new(Self { log_file: LogFile::open(&path)?, state: Mutex::new(state), ended: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides whether a request for this model may go, which may have so many tokens; waits as long as others under way
    /// could leave too little for it.
    pub(super) async fn next(self: &Arc<Self>, budget: &Budget, model: &str, most: Tokens) -> Admission {
        if let Some(why) = budget.unpriced(model) {
            return Admission::Stop(why);
        }
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on no end is missed.
            ended.as_mut().enable();
            if let Some(next) = self.now(budget, model, most) {
                return next;
            }
            ended.await;
        }
    }

    /// Decides at once; none where the request has to wait.
    fn now(self: &Arc<Self>, budget: &Budget, model: &str, most: Tokens) -> Option<Admission> {
        let mut state = self.state();
        let seconds = state.began.get_or_insert_with(Instant::now).elapsed().as_secs();
        let standing = budget.standing(&state.spent, seconds);
        if let BudgetState::Reached(what) = standing {
            tracing::warn!("refused a request to the model: {what} are spent");
            let why = format!("{REACHED}{what} are spent; the run ends here, and what was committed is pushed");
            return Some(Admission::Stop(why));
        }
        let others = state.under_way.values().fold(Spent::default(), |all, one| all.and(one));
        if matches!(budget.standing(&state.spent.and(&others), seconds), BudgetState::Reached(_)) {
            return None;
        }
        let cost_usd = budget.price(model).map_or(0.0, |price| most.cost(&price));
        let may = Spent { requests: 1, tokens: most.all(), cost_usd };
        state.count += 1;
        let number = state.count;
        state.under_way.insert(number, may);
        let reservation = Reservation { ledger: Arc::clone(self), number };
        match standing {
            BudgetState::Near(what) if !state.told => {
                state.told = true;
                tracing::info!("told the agent that {what} are spent");
                let notice = format!(
                    "<system-reminder>claude-bottle: {what} are spent. When all is spent this run ends at once: finish what \
                     you are at, commit it now, and begin nothing new.</system-reminder>"
                );
                Some(Admission::Tell(notice, reservation))
            }
            _ => Some(Admission::Go(reservation)),
        }
    }

    /// Adds a request that was sent.
    pub(super) fn add(&self, budget: &Budget, id: &str, model: &str, tokens: Tokens, estimated: bool) {
        let cost_usd = budget.price(model).map(|price| tokens.cost(&price));
        let entry = Entry { id: id.to_owned(), model: model.to_owned(), tokens, estimated, cost_usd };
        self.state().spent.add(&entry);
        self.log_file.append(&entry);
    }
}
