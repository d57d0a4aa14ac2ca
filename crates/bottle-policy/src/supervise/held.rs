//! A request that pipelock holds because of what it found in it: what a person is told of it, and never what was found.

use bottle_types::host::HostName;
use bottle_types::place::Where;
use bottle_types::rule::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RequestError;
use crate::route::Scheme;

/// So many findings are told of one request; one with more is refused without being asked about.
pub const MOST_FINDINGS: usize = 4;
/// The longest path, place of a finding and id of a rule, in characters; the first two are cut. All together are shown in one
/// line.
const LONGEST_PATH: usize = 150;
const LONGEST_PLACE: usize = 60;
const LONGEST_RULE: usize = 40;
/// Hex digits of the name that pipelock gives a request.
const NAME: usize = 16;

/// One held request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// `https` unless it says `http`.
    #[serde(default, skip_serializing_if = "Scheme::is_https")]
    pub scheme: Scheme,
    /// Where to.
    pub host: HostName,
    /// The port, where it is not the scheme's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its method.
    pub method: String,
    /// Its path without the query; `(withheld)` where something was found in the URL.
    pub path: String,
    /// Each rule that found something, and where it first did.
    pub findings: Vec<Found>,
    /// Made at random for exactly this request: the same bytes have the same name, others another one.
    pub request: String,
}

/// What a scan found, without the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The rule that found it.
    #[schemars(with = "String")]
    pub rule: Rule,
    /// In which part of what was looked through.
    #[schemars(with = "String")]
    pub at: Where,
    /// Bytes from the beginning of that place.
    pub offset: u64,
}

impl Held {
    /// Normalised: a path and places that are too long are cut, and what does something to a terminal goes.
    pub fn new(held: Self) -> Result<Self, RequestError> {
        let bad = |field, reason: &str| Err(RequestError::Bad { field, reason: reason.to_owned() });
        if held.findings.is_empty() {
            return Err(RequestError::Empty("findings"));
        }
        if held.findings.len() > MOST_FINDINGS {
            return Err(RequestError::TooMuch { field: "findings", most: MOST_FINDINGS });
        }
        let token = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if held.method.is_empty() || held.method.len() > 32 || !token(&held.method) {
            return bad("method", "it is no method");
        }
        if held.request.len() != NAME || !held.request.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return bad("request", "it is not the name of a request");
        }
        // A secret of the bottle's own, and what can't be looked into, are never asked about.
        let is_asked_about = |id: &str| !id.is_empty() && id.len() <= LONGEST_RULE && token(id);
        if !held.findings.iter().all(|found| found.rule.id().is_some_and(is_asked_about)) {
            return bad("findings", "it names no DLP rule");
        }
        let mut findings = held.findings;
        for found in &mut findings {
            match Where::parse(&cut(&found.at.to_string(), LONGEST_PLACE)) {
                Ok(at) => found.at = at,
                Err(_) => return bad("findings", "it names no place"),
            }
        }
        let port = held.port.filter(|port| *port != held.scheme.port());
        Ok(Self { port, path: cut(&held.path, LONGEST_PATH), findings, ..held })
    }

    /// Whether a person who decides on one has as good as decided on the other: the same rules found something in the same
    /// places of requests of the same kind.
    pub fn asks_like(&self, other: &Self) -> bool {
        let bare = |held: &Self| {
            let places = held.findings.iter().map(|found| Found { offset: 0, ..found.clone() }).collect();
            Self { findings: places, request: String::new(), ..held.clone() }
        };
        bare(self) == bare(other)
    }

    /// The URL, as far as it may be told.
    pub fn url(&self) -> String {
        let scheme = if self.scheme.is_https() { "https" } else { "http" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let gap = if self.path.starts_with('/') { "" } else { " " };
        format!("{scheme}://{}{port}{gap}{}", self.host, self.path)
    }

    /// What was found, in words.
    pub fn found(&self) -> String {
        let one = |found: &Found| format!("{} in its {}, at byte {}", found.rule, found.at, found.offset);
        self.findings.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

pub(super) fn cut(text: &str, most: usize) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    match clean.char_indices().nth(most) {
        // One that is cut already stays as it is.
        Some((_, '…')) if clean.chars().count() == most + 1 => clean,
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held {
            scheme: Scheme::Https,
            host: HostName::parse("a.example").expect("a host"),
            port: Some(443),
            method: "POST".to_owned(),
            path: "/v1/x".to_owned(),
            findings: vec![Found { rule: "github-pat".into(), at: Where::Body, offset: 7 }],
            request: "0123456789abcdef".to_owned(),
        }
    }

    #[test]
    fn it_is_normalised_once() {
        let long = Held {
            path: format!("/{}\u{1b}[2J", "é".repeat(500)),
            findings: vec![Found { at: Where::header(&"x".repeat(500)), ..held().findings.remove(0) }],
            ..held()
        };
        for given in [held(), long] {
            let made = Held::new(given).expect("a held request");
            assert_eq!(made.port, None);
            assert!(made.path.chars().count() <= LONGEST_PATH + 1 && !made.path.contains('\u{1b}'), "{}", made.path);
            assert_eq!(Held::new(made.clone()).as_ref(), Ok(&made));
        }
    }

    #[test]
    fn what_pipelock_does_not_say_is_refused() {
        let rule = |rule: &str| vec![Found { rule: rule.into(), at: Where::Body, offset: 0 }];
        for (why, given) in [
            ("a secret of the bottle's own", Held { findings: rule("known-secret:KEY"), ..held() }),
            ("what can't be looked into", Held { findings: rule("unreadable:nested too deep"), ..held() }),
            ("nothing found", Held { findings: vec![], ..held() }),
            ("too much found", Held { findings: vec![held().findings.remove(0); 9], ..held() }),
            ("no method", Held { method: "GET /".to_owned(), ..held() }),
            ("no name", Held { request: "P1".to_owned(), ..held() }),
        ] {
            assert!(Held::new(given).is_err(), "{why}");
        }
    }

    #[test]
    fn a_question_is_the_same_whatever_the_bytes_are() {
        let other = |held: Held| Held { request: "fedcba9876543210".to_owned(), ..held };
        let moved = Found { offset: 99, ..held().findings.remove(0) };
        assert!(held().asks_like(&other(Held { findings: vec![moved], ..held() })));
        for (what, another) in [
            ("path", Held { path: "/v1/y".to_owned(), ..held() }),
            ("method", Held { method: "PUT".to_owned(), ..held() }),
            ("place", Held { findings: vec![Found { at: Where::Url, ..held().findings.remove(0) }], ..held() }),
        ] {
            assert!(!held().asks_like(&other(another)), "{what}");
        }
    }
}
