//! The account that a reply is charged to.

use std::sync::Arc;

use bottle_policy::budget::Tokens;
use bottle_wire::sse::Metered;

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
    /// How many tokens the reply may have at most, as the request says.
    pub(super) most: u64,
    /// Bytes of the reply that have come.
    pub(super) received: u64,
    /// The request is still to be charged.
    pub(super) open: bool,
    /// Until then, what it may cost.
    pub(super) _reservation: Option<Reservation>,
}

impl Account {
    /// Charges what a reply says it has cost, or what it may have cost where it does not say.
    pub(super) fn charge(mut self, metered: Metered) {
        self.add(metered);
    }

    /// Closes the account without a charge: nothing was bought.
    pub(super) fn waive(mut self) {
        self.open = false;
    }

    fn add(&mut self, metered: Metered) {
        self.open = false;
        let by_size = Tokens {
            input: (self.size / BYTES_PER_TOKEN) as u64,
            output: self.received / BYTES_PER_TOKEN as u64,
            ..Tokens::default()
        };
        let (tokens, estimated) = match metered {
            Metered::Whole(tokens) => (tokens, false),
            Metered::Partly(tokens) => (tokens, true),
            Metered::Silent => (by_size, true),
            // It may have been all that was asked for.
            Metered::Unreadable => (Tokens { output: by_size.output.max(self.most), ..by_size }, true),
        };
        self.ledger.add(&self.policy.routes.budget, &self.id, &self.model, tokens, estimated);
    }
}

/// A client that leaves before there is an answer pays all the same.
impl Drop for Account {
    fn drop(&mut self) {
        if self.open {
            self.add(Metered::Silent);
        }
    }
}
