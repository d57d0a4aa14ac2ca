//! The account that a reply is charged to.

use std::sync::Arc;

use bottle_policy::budget::Tokens;

use super::ledger::{BudgetLedger, Reservation};
use super::policy::RoutePolicy;

/// Where a reply does not say, so many bytes of a request are about a token.
pub(super) const BYTES_PER_TOKEN: usize = 4;

/// The account of one request.
pub(super) struct Account {
    pub(super) ledger: Arc<BudgetLedger>,
    pub(super) policy: Arc<RoutePolicy>,
    pub(super) id: String,
    pub(super) model: String,
    /// Size of the request, in bytes.
    pub(super) size: usize,
    /// The request is still to be charged.
    pub(super) open: bool,
    /// Until then, what it may cost.
    pub(super) _reservation: Option<Reservation>,
}

impl Account {
    /// Charges what a reply says it has cost; where the reply was cut off before it said so, by the request's size.
    pub(super) fn charge(mut self, spent: Option<(Tokens, bool)>) {
        self.add(spent);
    }

    /// Closes the account without a charge: nothing was bought.
    pub(super) fn waive(mut self) {
        self.open = false;
    }

    fn add(&mut self, spent: Option<(Tokens, bool)>) {
        self.open = false;
        let guess = || (Tokens { input: (self.size / BYTES_PER_TOKEN) as u64, ..Tokens::default() }, true);
        let (tokens, estimated) = spent.unwrap_or_else(guess);
        self.ledger.add(&self.policy.routes.budget, &self.id, &self.model, tokens, estimated);
    }
}

/// A client that leaves before there is an answer pays all the same.
impl Drop for Account {
    fn drop(&mut self) {
        if self.open {
            self.add(None);
        }
    }
}
