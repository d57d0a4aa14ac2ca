//! What the run has spent on the model, kept over restarts in `budget.jsonl`, and whether the next request may go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bottle_policy::budget::{Budget, Entry, REACHED, Spent, Standing, Tokens};

use crate::common::{Dirs, Error};
use crate::proxy::access::Log;

/// Counts what is spent.
pub(super) struct Ledger {
    log: Arc<Log>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    spent: Spent,
    /// When the first request came.
    began: Option<Instant>,
    /// Whether the agent was told that little is left.
    told: bool,
}

/// What to do with the next request.
pub(super) enum Next {
    /// It goes as it is.
    Go,
    /// It goes, and the agent is told this with it.
    Tell(String),
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
        Ok(Arc::new(Self { log: Log::open(&path)?, kept: Mutex::new(kept) }))
    }

    /// Whether a request for this model may go.
    pub(super) fn next(&self, budget: &Budget, model: &str) -> Next {
        if budget.is_none() {
            return Next::Go;
        }
        if let Some(why) = budget.unpriced(model) {
            return Next::Stop(why);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = kept.began.get_or_insert_with(Instant::now).elapsed().as_secs();
        match budget.standing(&kept.spent, seconds) {
            Standing::Free => Next::Go,
            Standing::Near(_) if kept.told => Next::Go,
            Standing::Near(what) => {
                kept.told = true;
                tracing::info!("told the agent that {what} are spent");
                Next::Tell(format!(
                    "<system-reminder>claude-bottle: {what} are spent. When all is spent this run ends at once: finish what \
                     you are at, commit it now, and begin nothing new.</system-reminder>"
                ))
            }
            Standing::Reached(what) => {
                tracing::warn!("refused a request to the model: {what} are spent");
                Next::Stop(format!("{REACHED}{what} are spent; the run ends here, and what was committed is pushed"))
            }
        }
    }

    /// Adds a request that was sent.
    pub(super) fn add(&self, budget: &Budget, id: &str, model: &str, tokens: Tokens, estimated: bool) {
        let cost_usd = budget.price(model).map(|price| tokens.cost(&price));
        let entry = Entry { id: id.to_owned(), model: model.to_owned(), tokens, estimated, cost_usd };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).spent.add(&entry);
        self.log.append(&entry);
    }
}
