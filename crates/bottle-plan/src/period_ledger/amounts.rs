//! Dollars, tokens and requests: exact sums of them, and what of a budget they are.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::manifest::{AgentLimits, BudgetEntry};

/// Larger sums are this: every reader of JSON takes it for what it is, and no budget is larger.
pub(super) const MAX_SUM: u64 = 1 << 53;
const MILLION: f64 = 1e6;

/// US dollars, in whole millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Dollars(u64);

impl Dollars {
    /// The nearest amount; none: it is negative, not a number or not to be counted.
    pub fn new(amount: f64) -> Option<Self> {
        let millionths = (amount * MILLION).round();
        (amount.is_finite() && amount >= 0.0 && millionths <= MAX_SUM as f64).then_some(Self(millionths as u64))
    }

    /// The nearest amount; the most that can be counted, in place of what is no amount.
    fn at_most_all(amount: f64) -> Self {
        Self::new(amount).unwrap_or(Self(MAX_SUM))
    }
}

impl TryFrom<f64> for Dollars {
    type Error = String;
    fn try_from(amount: f64) -> Result<Self, String> {
        Self::new(amount).ok_or_else(|| format!("{amount} is no amount of US dollars"))
    }
}

impl From<Dollars> for f64 {
    fn from(dollars: Dollars) -> Self {
        dollars.0 as Self / MILLION
    }
}

/// What is spent, or reserved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// US dollars.
    pub cost_usd: Dollars,
    /// Tokens in and out.
    pub tokens: u64,
    /// Requests to the model.
    pub requests: u64,
}

impl Amounts {
    /// The most that a run within these limits spends; nothing of what has no limit.
    pub fn of_limits(limits: &AgentLimits) -> Self {
        Self {
            cost_usd: limits.cost_usd.map(Dollars::at_most_all).unwrap_or_default(),
            tokens: limits.tokens.unwrap_or_default().min(MAX_SUM),
            requests: limits.requests.unwrap_or_default().min(MAX_SUM),
        }
    }

    /// What these requests have cost; a cost that is no amount is more than any budget.
    pub fn spent(cost_usd: f64, tokens: u64, requests: u64) -> Self {
        Self { cost_usd: Dollars::at_most_all(cost_usd), tokens: tokens.min(MAX_SUM), requests: requests.min(MAX_SUM) }
    }

    /// Whether it is nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let sum = |one: u64, other: u64| one.saturating_add(other).min(MAX_SUM);
        Self {
            cost_usd: Dollars(sum(self.cost_usd.0, other.cost_usd.0)),
            tokens: sum(self.tokens, other.tokens),
            requests: sum(self.requests, other.requests),
        }
    }
}

impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cost_usd, tokens, requests } = self;
        write!(f, "{} US dollars, {tokens} tokens, {requests} requests", f64::from(*cost_usd))
    }
}

/// One amount of a budget, and how much of it something is.
pub(super) struct Share {
    pub(super) what: &'static str,
    pub(super) budget: Quantity,
    pub(super) own: Quantity,
}

/// A count of something, or of millionths of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quantity {
    pub(super) count: u64,
    is_millionths: bool,
}

impl Quantity {
    pub(super) fn minus(self, other: Self) -> Self {
        Self { count: self.count.saturating_sub(other.count), ..self }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_millionths {
            true => write!(f, "{}", f64::from(Dollars(self.count))),
            false => write!(f, "{}", self.count),
        }
    }
}

/// Each amount that a budget has.
pub(super) fn shares(budget: &BudgetEntry, amounts: &Amounts) -> impl Iterator<Item = Share> + use<> {
    let share = |what, is_millionths, budget: u64, own: u64| {
        let quantity = |count| Quantity { count, is_millionths };
        Share { what, budget: quantity(budget), own: quantity(own) }
    };
    let cost = budget.cost_usd.map(|cost| (Dollars::at_most_all(cost).0, amounts.cost_usd.0));
    let all = [
        cost.map(|(budget, own)| share("US dollars", true, budget, own)),
        budget.tokens.map(|budget| share("tokens", false, budget, amounts.tokens)),
        budget.requests.map(|budget| share("requests to the model", false, budget, amounts.requests)),
    ];
    all.into_iter().flatten()
}
