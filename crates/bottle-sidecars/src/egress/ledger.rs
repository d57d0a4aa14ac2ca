//! What the run has spent on the model, kept over restarts in `budget.jsonl`, and whether the next request may go.
//!
//! What a request costs is known at its reply's end. Until then it counts for the most that it may cost, so that many at
//! once spend no more than one after the other would: where that leaves too little, the next one waits for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bottle_policy::budget::{Budget, Entry, REACHED, Spent, Standing, Tokens};
use tokio::sync::Notify;

use crate::common::{Dirs, Error};
use crate::proxy::access::Log;

/// Counts what is spent.
pub(super) struct Ledger {
    log: Arc<Log>,
    kept: Mutex<Kept>,
    /// One of those under way has ended.
    ended: Notify,
}

#[derive(Default)]
struct Kept {
    spent: Spent,
    /// When the first request came.
    began: Option<Instant>,
    /// Whether the agent was told that little is left.
    told: bool,
    /// The most that each request under way may cost.
    under_way: BTreeMap<u64, Spent>,
    count: u64,
}

/// What a request may cost until it has ended.
pub(super) struct Held {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ledger.kept().under_way.remove(&self.number);
        self.ledger.ended.notify_waiters();
    }
}

/// What to do with the next request.
pub(super) enum Next {
    /// It goes as it is.
    Go(Held),
    /// It goes, and the agent is told this with it.
    Tell(String, Held),
    /// It does not go, because of this.
    Stop(String),
}

impl Ledger {
    /// Opens the record, and goes on from what is in it: a restart makes nothing free.
    pub(super) fn open(dirs: &Dirs) -> Result<Arc<Self>, Error> {
        let path = dirs.log("budget.jsonl");
        let mut kept = Kept::default();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                for line in text.lines() {
                    let entry = serde_json::from_str(line).map_err(|error| Error::Policy {
                        path: path.clone(),
                        reason: format!("a line of it is no entry: {error}"),
                    })?;
                    kept.spent.add(&entry);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::Read { path, error }),
        }
        Ok(Arc::new(Self { log: Log::open(&path)?, kept: Mutex::new(kept), ended: Notify::new() }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request for this model may go, which may have so many tokens; asked for as long as others under way could
    /// leave too little for it.
    pub(super) async fn next(self: &Arc<Self>, budget: &Budget, model: &str, most: Tokens) -> Next {
        if let Some(why) = budget.unpriced(model) {
            return Next::Stop(why);
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

    /// The same at once; none where it has to wait.
    fn now(self: &Arc<Self>, budget: &Budget, model: &str, most: Tokens) -> Option<Next> {
        let mut kept = self.kept();
        let seconds = kept.began.get_or_insert_with(Instant::now).elapsed().as_secs();
        let standing = budget.standing(&kept.spent, seconds);
        if let Standing::Reached(what) = standing {
            tracing::warn!("refused a request to the model: {what} are spent");
            let why = format!("{REACHED}{what} are spent; the run ends here, and what was committed is pushed");
            return Some(Next::Stop(why));
        }
        let others = kept.under_way.values().fold(Spent::default(), |all, one| all.and(one));
        if matches!(budget.standing(&kept.spent.and(&others), seconds), Standing::Reached(_)) {
            return None;
        }
        let cost_usd = budget.price(model).map_or(0.0, |price| most.cost(&price));
        let may = Spent { requests: 1, tokens: most.all(), cost_usd };
        kept.count += 1;
        let number = kept.count;
        kept.under_way.insert(number, may);
        let held = Held { ledger: Arc::clone(self), number };
        match standing {
            Standing::Near(what) if !kept.told => {
                kept.told = true;
                tracing::info!("told the agent that {what} are spent");
                let notice = format!(
                    "<system-reminder>claude-bottle: {what} are spent. When all is spent this run ends at once: finish what \
                     you are at, commit it now, and begin nothing new.</system-reminder>"
                );
                Some(Next::Tell(notice, held))
            }
            _ => Some(Next::Go(held)),
        }
    }

    /// Adds a request that was sent.
    pub(super) fn add(&self, budget: &Budget, id: &str, model: &str, tokens: Tokens, estimated: bool) {
        let cost_usd = budget.price(model).map(|price| tokens.cost(&price));
        let entry = Entry { id: id.to_owned(), model: model.to_owned(), tokens, estimated, cost_usd };
        self.kept().spent.add(&entry);
        self.log.append(&entry);
    }
}
