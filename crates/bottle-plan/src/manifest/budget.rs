//! `budget:`, what all runs of a repository together may spend on the model in a period.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// More US dollars than anybody has for this.
const MOST_USD: f64 = 1e9;
/// The largest whole number that every reader of JSON takes for what it is.
const MOST_COUNT: u64 = 1 << 53;

/// What all runs of the repository together may spend on the model in a period. A run reserves before it starts what its agent's
/// `limits` allow it at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RepositoryBudget")]
pub struct BudgetEntry {
    /// `day`, `week` or `month`, in UTC; a week begins on Monday.
    pub period: Period,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Tokens in and out together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Requests to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

/// How long a budget lasts; all in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first.
    Month,
}

impl Period {
    /// Its name, as the manifest has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

impl BudgetEntry {
    /// Tells what is wrong: the key, none for all of it, and the problem.
    pub(super) fn check(&self) -> Result<(), (Option<&'static str>, String)> {
        if let Some(cost) = self.cost_usd.filter(|cost| !(cost.is_finite() && *cost > 0.0 && *cost <= MOST_USD)) {
            return Err((
                Some("cost_usd"),
                format!("{cost} can't be a budget: expected more than 0, at most a billion"),
            ));
        }
        for (key, count) in [("tokens", self.tokens), ("requests", self.requests)] {
            if let Some(count) = count.filter(|count| !(1..=MOST_COUNT).contains(count)) {
                return Err((Some(key), format!("{count} can't be a budget: expected 1 to {MOST_COUNT}")));
            }
        }
        match (self.cost_usd, self.tokens, self.requests) {
            (None, None, None) => Err((None, "there is no amount: nothing would be limited".to_owned())),
            _ => Ok(()),
        }
    }

    /// The amounts, as the plan and messages write them.
    pub fn amounts(&self) -> String {
        let all = [
            self.cost_usd.map(|cost| format!("{cost} US dollars")),
            self.tokens.map(|tokens| format!("{tokens} tokens")),
            self.requests.map(|requests| format!("{requests} requests to the model")),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
