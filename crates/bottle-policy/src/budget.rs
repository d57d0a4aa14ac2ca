//! What a run may spend on the model, and what it has spent: counted from the model's own replies.
//!
//! The prices that come with the program are one data file, `prices.toml`; a policy's own go before them. A model without
//! a price can't be paid for out of a budget of dollars.

use std::collections::BTreeMap;

use bottle_types::units::Seconds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const PRICES: &str = include_str!("prices.toml");
/// From this share of a limit on the agent is told.
const NEAR: f64 = 0.9;
/// Above so many tokens of input a request is a long one, unless its price says otherwise.
const LONG: u64 = 200_000;
const MILLION: f64 = 1e6;
/// What Amazon Bedrock and Google Vertex AI take for a region, as platform.claude.com says under "Pricing", for models from Claude Sonnet 4.5 on.
const REGIONAL: f64 = 1.1;

/// How a refusal for a limit begins; the runner knows it again by this.
pub const REACHED: &str = "claude-bottle: limit reached: ";

/// Limits of what goes to the model and comes from it; one that is not given is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Tokens in and out together, cached ones too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Requests to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Time from the first request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Seconds>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Prices by model, before those that come with the program.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, Price>,
}

/// US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Fresh input.
    pub input: f64,
    /// Output.
    pub output: f64,
    /// Input that is put into the five-minute cache; as `input` and a quarter where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
    /// Input out of the cache; as `input` where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// From how many tokens of input on a request is a long one; 200,000 where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_above: Option<u64>,
    /// `input` of a long request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_input: Option<f64>,
    /// `output` of a long request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_output: Option<f64>,
}

/// The name under which a model stands in the list of prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CatalogueName<'a> {
    name: &'a str,
    /// Whether it is asked for in a region of a provider's, and not wherever there is room.
    regional: bool,
}

impl<'a> CatalogueName<'a> {
    fn of(model: &'a str) -> Self {
        Self::on_bedrock(model).or_else(|| Self::on_vertex(model)).unwrap_or(Self { name: model, regional: false })
    }

    /// `eu.anthropic.claude-sonnet-4-5-20250929-v1:0`, or the ARN of a model or of Amazon's own inference profile. The ARN of a profile that
    /// an account has made says nothing of its model.
    fn on_bedrock(model: &'a str) -> Option<Self> {
        let id = match model.strip_prefix("arn:") {
            Some(arn) => {
                let (kind, id) = arn.split_once(":bedrock:")?.1.splitn(3, ':').nth(2)?.split_once('/')?;
                matches!(kind, "inference-profile" | "foundation-model").then_some(id)?
            }
            None => model,
        };
        let (scope, name) = match id.split_once("anthropic.")? {
            ("", name) => ("", name),
            (scope, name) => (scope.strip_suffix('.')?, name),
        };
        if !scope.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
            return None;
        }
        Some(Self { name: without_version(name), regional: scope != "global" })
    }

    /// `claude-sonnet-4-5@20250929`, or `europe-west1/` and that.
    fn on_vertex(model: &'a str) -> Option<Self> {
        let (regional, model) = match model.split_once('/') {
            Some((region, model)) if is_region(region) => (true, model),
            Some(_) => return None,
            None => (false, model),
        };
        let name = match model.split_once('@') {
            Some((name, _)) => without_version(name),
            None if regional => model,
            None => return None,
        };
        Some(Self { name, regional })
    }
}

/// Tells whether a text is one of Google's regions, such as `europe-west1`, or `us` or `eu`.
fn is_region(text: &str) -> bool {
    let is_word = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    is_word && (matches!(text, "us" | "eu") || (text.contains('-') && text.ends_with(|c: char| c.is_ascii_digit())))
}

/// Takes away `-v1`, `-v1:0` and `-v1:0:48k`.
fn without_version(name: &str) -> &str {
    let Some((front, version)) = name.rsplit_once("-v") else { return name };
    let number = version.split(':').next().unwrap_or_default();
    let is_version = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_version { front } else { name }
}

/// Whether a model's price is the same in each region: those from before Claude Sonnet 4.5.
fn is_same_everywhere(name: &str) -> bool {
    const OTHERS: [&str; 5] =
        ["claude-opus-4", "claude-opus-4-0", "claude-opus-4-1", "claude-sonnet-4", "claude-sonnet-4-0"];
    name.starts_with("claude-3-") || OTHERS.contains(&name)
}

impl Price {
    /// The price in a region of Amazon Bedrock's or Google Vertex AI's: a tenth more.
    fn regional(&self) -> Self {
        let more = |price: f64| price * REGIONAL;
        Self {
            input: more(self.input),
            output: more(self.output),
            cache_write: self.cache_write.map(more),
            cache_read: self.cache_read.map(more),
            long_above: self.long_above,
            long_input: self.long_input.map(more),
            long_output: self.long_output.map(more),
        }
    }

    /// Whether every part of it can be a price.
    pub fn is_possible(&self) -> bool {
        let parts =
            [Some(self.input), Some(self.output), self.cache_write, self.cache_read, self.long_input, self.long_output];
        parts.into_iter().flatten().all(|part| part.is_finite() && part >= 0.0)
    }
}

/// The tokens of one reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// Fresh input.
    pub input: u64,
    /// Put into the five-minute cache.
    pub cache_write: u64,
    /// Put into the one-hour cache.
    pub cache_write_hour: u64,
    /// Out of the cache.
    pub cache_read: u64,
    /// Output.
    pub output: u64,
}

impl Tokens {
    /// Reads the `usage` of a reply.
    pub fn of(usage: &Value) -> Self {
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        let written = count(&usage["cache_creation_input_tokens"]);
        let hour = count(&usage["cache_creation"]["ephemeral_1h_input_tokens"]).min(written);
        Self {
            input: count(&usage["input_tokens"]),
            cache_write: written - hour,
            cache_write_hour: hour,
            cache_read: count(&usage["cache_read_input_tokens"]),
            output: count(&usage["output_tokens"]),
        }
    }

    /// Reads the `usage` of a reply that has ended; none where it does not count both ways.
    pub fn read(usage: &Value) -> Option<Self> {
        (usage["input_tokens"].is_u64() && usage["output_tokens"].is_u64()).then(|| Self::of(usage))
    }

    /// Reads what Amazon Bedrock counts, in `amazon-bedrock-invocationMetrics`.
    pub fn of_bedrock(metrics: &Value) -> Self {
        let count = |name: &str| metrics[name].as_u64().unwrap_or_default();
        Self {
            input: count("inputTokenCount"),
            cache_write: count("cacheWriteInputTokenCount"),
            cache_write_hour: 0,
            cache_read: count("cacheReadInputTokenCount"),
            output: count("outputTokenCount"),
        }
    }

    /// Of two counts of the same reply the larger, each kind by itself.
    pub fn at_least(self, other: Self) -> Self {
        let hour = self.cache_write_hour.max(other.cache_write_hour);
        let written = |tokens: Self| tokens.cache_write.saturating_add(tokens.cache_write_hour);
        Self {
            input: self.input.max(other.input),
            cache_write: written(self).max(written(other)).saturating_sub(hour),
            cache_write_hour: hour,
            cache_read: self.cache_read.max(other.cache_read),
            output: self.output.max(other.output),
        }
    }

    fn taken_in(&self) -> u64 {
        [self.input, self.cache_write, self.cache_write_hour, self.cache_read].into_iter().fold(0, u64::saturating_add)
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.taken_in().saturating_add(self.output)
    }

    /// What they cost, in US dollars.
    pub fn cost(&self, price: &Price) -> f64 {
        let long = self.taken_in() > price.long_above.unwrap_or(LONG);
        let input = price.long_input.filter(|_| long).unwrap_or(price.input);
        let output = price.long_output.filter(|_| long).unwrap_or(price.output);
        // Cached input of a long request is dearer in the same measure.
        let measure = if price.input > 0.0 { input / price.input } else { 1.0 };
        let write = price.cache_write.unwrap_or(price.input * 1.25) * measure;
        let read = price.cache_read.unwrap_or(price.input) * measure;
        let parts = [
            (self.input, input),
            (self.cache_write, write),
            (self.cache_write_hour, input * 2.0),
            (self.cache_read, read),
            (self.output, output),
        ];
        parts.iter().map(|(tokens, price)| *tokens as f64 * price).sum::<f64>() / MILLION
    }
}

/// One request that was paid for: a line of `budget.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The request's id, as in `egress.jsonl`.
    pub id: String,
    /// The model.
    pub model: String,
    /// Its tokens.
    pub tokens: Tokens,
    /// Whether they are estimated, because the reply was cut off before it said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Its cost in US dollars, where the model has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// What was spent so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Requests.
    pub requests: u64,
    /// Tokens in and out.
    pub tokens: u64,
    /// US dollars.
    pub cost_usd: f64,
}

impl Spent {
    /// The same and what others may still spend.
    pub fn and(&self, others: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(others.requests),
            tokens: self.tokens.saturating_add(others.tokens),
            cost_usd: self.cost_usd + others.cost_usd,
        }
    }

    /// Adds one more.
    pub fn add(&mut self, entry: &Entry) {
        self.requests = self.requests.saturating_add(1);
        self.tokens = self.tokens.saturating_add(entry.tokens.all());
        self.cost_usd += entry.cost_usd.unwrap_or_default();
    }
}

/// How near a limit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetState {
    /// Far.
    Free,
    /// Nine tenths are spent: what of.
    Near(String),
    /// All is spent: what of.
    Reached(String),
}

impl Budget {
    /// Whether there is no limit.
    pub fn is_none(&self) -> bool {
        self.tokens.is_none() && self.requests.is_none() && self.time.is_none() && self.cost_usd.is_none()
    }

    /// The price of a model: by its name with or without a date, an id or ARN of Amazon Bedrock's, or a name on Google Vertex AI, before
    /// which `REGION/` may stand.
    pub fn price(&self, model: &str) -> Option<Price> {
        if let Some(own) = self.prices.get(model) {
            return Some(*own);
        }
        let CatalogueName { name, regional } = CatalogueName::of(model);
        let undated =
            name.rsplit_once('-').filter(|(_, date)| date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()));
        let names = [Some(name), undated.map(|(name, _)| name), name.strip_suffix("-latest")];
        let builtin: BTreeMap<String, Price> = toml::from_str(PRICES).unwrap_or_default();
        names.into_iter().flatten().find_map(|name| {
            let listed = || {
                let price = builtin.get(name)?;
                Some(if regional && !is_same_everywhere(name) { price.regional() } else { *price })
            };
            self.prices.get(name).copied().or_else(listed)
        })
    }

    /// Why a request for this model can't be paid for, if it can't.
    pub fn unpriced(&self, model: &str) -> Option<String> {
        (self.cost_usd.is_some() && self.price(model).is_none()).then(|| {
            format!(
                "the model `{model}` has no price, so a limit in US dollars can't be kept: give it one under the agent's \
                 limits.prices in claude-bottle.yml, such as {{ {model}: {{ input: 3, output: 15 }} }}"
            )
        })
    }

    /// How near the nearest limit is, so many seconds after the first request.
    pub fn standing(&self, spent: &Spent, seconds: u64) -> BudgetState {
        let limits = [
            self.tokens
                .map(|limit| (spent.tokens as f64 / limit as f64, format!("{} of {limit} tokens", spent.tokens))),
            self.requests
                .map(|limit| (spent.requests as f64 / limit as f64, format!("{} of {limit} requests", spent.requests))),
            self.time.map(|limit| (seconds as f64 / limit.0 as f64, format!("{} of {limit}", Seconds(seconds)))),
            self.cost_usd.map(|limit| (spent.cost_usd / limit, format!("{:.2} of {limit} US dollars", spent.cost_usd))),
        ];
        let nearest = limits.into_iter().flatten().max_by(|one, other| one.0.total_cmp(&other.0));
        match nearest {
            Some((share, what)) if share >= 1.0 => BudgetState::Reached(what),
            Some((share, what)) if share >= NEAR => BudgetState::Near(what),
            _ => BudgetState::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reply_costs_what_the_table_says() {
        let usage = json!({
            "input_tokens": 1000, "output_tokens": 2000, "cache_read_input_tokens": 10_000,
            "cache_creation_input_tokens": 3000, "cache_creation": { "ephemeral_1h_input_tokens": 1000 },
        });
        let tokens = Tokens::of(&usage);
        assert_eq!(tokens.all(), 16_000);
        let price = Budget::default().price("claude-sonnet-4-5-20250929").expect("a price");
        // 1000×3 + 2000×3.75 + 1000×6 + 10000×0.3 + 2000×15, for a million.
        assert!((tokens.cost(&price) - 0.0495).abs() < 1e-9, "{}", tokens.cost(&price));
        let long = Tokens { input: 300_000, output: 1000, ..Tokens::default() };
        let dear = Price { long_above: None, long_input: Some(6.0), long_output: Some(22.5), ..price };
        assert!((long.cost(&dear) - 1.8225).abs() < 1e-9, "{}", long.cost(&dear));
        let never = Price { long_above: Some(400_000), ..dear };
        assert!((long.cost(&never) - 0.915).abs() < 1e-9, "{}", long.cost(&never));
    }

    #[test]
    fn every_price_of_the_table_is_possible_and_a_policys_own_goes_before() {
        let builtin: BTreeMap<String, Price> = toml::from_str(PRICES).expect("prices");
        assert!(builtin.values().all(Price::is_possible) && builtin.len() >= 10);
        let own = Price {
            input: 1.0,
            output: 2.0,
            cache_write: None,
            cache_read: None,
            long_above: None,
            long_input: None,
            long_output: None,
        };
        let budget = Budget {
            cost_usd: Some(1.0),
            prices: [("claude-sonnet-4-5".to_owned(), own), ("house-model".to_owned(), own)].into(),
            ..Budget::default()
        };
        assert_eq!(budget.price("claude-sonnet-4-5-20250929"), Some(own));
        assert_eq!((budget.unpriced("house-model"), budget.unpriced("claude-haiku-4-5")), (None, None));
        assert!(budget.unpriced("no-such-model").is_some_and(|why| why.contains("limits.prices")));
        assert_eq!(Budget { tokens: Some(5), ..Budget::default() }.unpriced("no-such-model"), None);
    }

    #[test]
    fn the_providers_names_lead_to_the_same_prices() {
        let budget = Budget { cost_usd: Some(1.0), ..Budget::default() };
        let listed = |name: &str| budget.price(name).expect("a price");
        let arn =
            "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
        for (name, price) in [
            ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", listed("claude-sonnet-4-5")),
            ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", listed("claude-sonnet-4-5").regional()),
            ("us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", listed("claude-sonnet-4-5").regional()),
            ("anthropic.claude-opus-5-5", listed("claude-opus-5-5").regional()),
            ("anthropic.claude-opus-4-6-v1", listed("claude-opus-4-6").regional()),
            ("us.anthropic.claude-3-haiku-20240307-v1:0:48k", listed("claude-3-haiku")),
            ("us.anthropic.claude-sonnet-4-20250514-v1:0", listed("claude-sonnet-4")),
            (arn, listed("claude-sonnet-4-5").regional()),
            (
                "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
                listed("claude-3-haiku"),
            ),
            ("claude-haiku-4-5@20251001", listed("claude-haiku-4-5")),
            ("europe-west1/claude-haiku-4-5@20251001", listed("claude-haiku-4-5").regional()),
            ("eu/claude-opus-5-5", listed("claude-opus-5-5").regional()),
            ("us-east5/claude-3-5-sonnet-v2@20241022", listed("claude-3-5-sonnet")),
        ] {
            assert_eq!(budget.price(name), Some(price), "{name}");
        }
        for name in [
            "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abcd1234efgh",
            "arn:aws:bedrock:eu-central-1:123456789012:custom-model/anthropic.claude-haiku-4-5-20251001-v1:0",
            "arn:aws:sagemaker:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
            "eu.amazon.nova-pro-v1:0",
            "not/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
            "somewhere/claude-haiku-4-5",
            "eu.anthropic.no-such-model-v1:0",
        ] {
            assert_eq!(budget.price(name), None, "{name}");
            assert!(budget.unpriced(name).is_some_and(|why| why.contains(name)), "{name}");
        }
        let own = Price { input: 7.0, ..listed("claude-opus-5") };
        let profile = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abcd1234efgh";
        let prices = [(profile.to_owned(), own), ("claude-haiku-4-5".to_owned(), own)].into();
        let budget = Budget { prices, ..budget };
        for name in [profile, "eu.anthropic.claude-haiku-4-5-20251001-v1:0", "europe-west1/claude-haiku-4-5@20251001"] {
            assert_eq!(budget.price(name), Some(own), "a manifest's own price has no tenth added: {name}");
        }
    }

    #[test]
    fn of_two_counts_the_larger_counts() {
        let one = Tokens { input: 5, cache_write: 1, cache_write_hour: 4, cache_read: 9, output: 1 };
        let other = Tokens { input: 4, cache_write: 7, cache_write_hour: 0, cache_read: 2, output: 3 };
        let both = Tokens { input: 5, cache_write: 3, cache_write_hour: 4, cache_read: 9, output: 3 };
        assert_eq!((one.at_least(other), other.at_least(one)), (both, both));
        assert_eq!(Tokens::read(&json!({ "inputTokens": 5, "outputTokens": 5 })), None);
    }

    #[test]
    fn the_nearest_limit_decides() {
        let budget = Budget { tokens: Some(1000), cost_usd: Some(2.0), time: Some(Seconds(600)), ..Budget::default() };
        let standing = |tokens, cost_usd, seconds| budget.standing(&Spent { requests: 1, tokens, cost_usd }, seconds);
        assert_eq!(standing(899, 1.0, 0), BudgetState::Free);
        assert_eq!(standing(900, 1.0, 0), BudgetState::Near("900 of 1000 tokens".to_owned()));
        assert_eq!(standing(950, 2.0, 0), BudgetState::Reached("2.00 of 2 US dollars".to_owned()));
        assert!(matches!(standing(0, 0.0, 600), BudgetState::Reached(_)));
        assert_eq!(Budget::default().standing(&Spent { tokens: u64::MAX, ..Spent::default() }, 1), BudgetState::Free);
    }
}
