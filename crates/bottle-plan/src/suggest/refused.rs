//! What the records of runs have of refusals.

use std::collections::{BTreeMap, BTreeSet};

use bottle_policy::prose::invisible;
use bottle_policy::route::Scheme;
use bottle_scan::dlp::{Rules, RulesError, Scope, Search};
use bottle_scan::known::KnownSecrets;
use bottle_types::path::NormalPath;
use bottle_types::reason::Reason;
use bottle_wire::access::{Access, AccessVerdict};
use bottle_wire::push_report::{PushVerdict, PushedRef};
use serde::Serialize;

use crate::manifest::Pipelock;
use crate::name::Name;
use crate::prose;

/// What one run was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRefusals {
    /// The run's slug.
    pub run: String,
    /// Its agent.
    pub agent: Name,
    /// Both doors' lines of `egress.jsonl`.
    pub requests: Vec<Access>,
    /// The lines of `gate.jsonl`.
    pub pushes: Vec<PushedRef>,
    /// The requests, by their ids, that came while the setup ran: what they lack is the setup's alone.
    pub in_setup: BTreeSet<String>,
}

/// A refusal for which nothing is offered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Withheld {
    /// What was refused.
    pub what: String,
    /// Why nothing is offered.
    pub why: String,
}

impl Withheld {
    /// Both are shown, and may have an agent's words in them.
    pub(super) fn new(what: &str, why: impl std::fmt::Display) -> Self {
        Self { what: prose::name(what, 200), why: prose::name(&why.to_string(), 300) }
    }
}

/// In place of a path in which a door found something.
const WITHHELD_PATH: &str = "(withheld)";
/// In place of words that may be a secret.
const NOT_SHOWN: &str = "(not shown, since it looks like a secret)";
/// In place of a secret of the bottle's own, in all that is recorded.
const MASK: &str = "***";

/// A request that no route allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnroutedRequest {
    pub(super) method: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) in_setup: bool,
}

/// A request by its lines at both doors: of whatever one of them says, the worst counts.
struct Told<'a>(Vec<&'a Access>);

impl<'a> Told<'a> {
    /// The requests of a record.
    fn all(lines: &'a [Access]) -> Vec<Self> {
        let mut by_id: BTreeMap<&str, Vec<&Access>> = BTreeMap::new();
        for line in lines {
            by_id.entry(&line.id).or_default().push(line);
        }
        by_id.into_values().map(Self).collect()
    }

    fn reasons(&self) -> impl Iterator<Item = Option<Reason>> {
        // An error stands behind a colon.
        let word = |access: &&Access| Some(access.reason.as_ref()?.split(':').next()?.to_owned());
        self.0.iter().filter_map(word).map(|word| Reason::parse(&word))
    }

    /// Whether a scan found something in it, or nobody could look into it: whatever became of it.
    fn is_secret(&self) -> bool {
        let shown = |access: &&&Access| access.finding.is_some() || access.path == WITHHELD_PATH;
        self.0.iter().any(|access| shown(&access))
            || self.reasons().any(|reason| matches!(reason, Some(Reason::Dlp | Reason::Answer)))
    }

    fn was_refused(&self) -> bool {
        self.0.iter().any(|access| matches!(access.verdict, AccessVerdict::Deny | AccessVerdict::Block))
    }

    /// Whether all its lines are about the same request: a secret may be masked in one of them alone.
    fn agrees(&self) -> bool {
        let key = |access: &Access| (access.method.clone(), access.host.clone(), access.port, access.path.clone());
        self.0.windows(2).all(|pair| key(pair[0]) == key(pair[1]))
    }

    fn words(&self) -> String {
        // egress writes the path before pipelock finds something in it.
        let withheld = self.0.iter().find(|access| access.path == WITHHELD_PATH);
        let access = withheld.or(self.0.first());
        access.map(|access| format!("{} {}{}", access.method, access.host, access.path)).unwrap_or_default()
    }
}

/// A place at which a scan found something: nothing of it is offered.
#[derive(Debug, Default)]
pub(super) struct SecretPlaces {
    /// Hosts where the path itself had it, or can't be read.
    hosts: BTreeSet<String>,
    paths: BTreeSet<(String, String)>,
    refs: BTreeSet<(String, String)>,
}

impl SecretPlaces {
    /// Those of all records.
    pub(super) fn of(records: &[RunRefusals]) -> Self {
        let mut places = Self::default();
        for record in records {
            for told in Told::all(&record.requests).iter().filter(|told| told.is_secret()) {
                for access in &told.0 {
                    // Spelled otherwise, it is the same place. Where nobody knows which, it is all of the host.
                    match NormalPath::parse(&access.path).ok() {
                        Some(path) => drop(places.paths.insert((access.host.clone(), path.as_str().to_owned()))),
                        None => drop(places.hosts.insert(access.host.clone())),
                    }
                }
            }
            let found = record.pushes.iter().filter(|push| !push.findings.is_empty());
            places.refs.extend(found.map(|push| (push.repo.to_string(), push.r#ref.clone())));
        }
        places
    }

    pub(super) fn has_request(&self, request: &UnroutedRequest) -> bool {
        let path = NormalPath::parse(&request.path).ok().map(|path| (request.host.clone(), path.as_str().to_owned()));
        self.hosts.contains(&request.host) || path.is_some_and(|path| self.paths.contains(&path))
    }

    pub(super) fn has_ref(&self, push: &PushedRef) -> bool {
        self.refs.contains(&(push.repo.to_string(), push.r#ref.clone()))
    }
}

/// The search for secrets in what would be written into a manifest.
pub(super) struct Look {
    rules: Rules,
    known: KnownSecrets,
}

impl Look {
    pub(super) fn new(pipelock: &Pipelock) -> Result<Self, RulesError> {
        let known = KnownSecrets::new(&[]).map_err(|error| RulesError::Toml(error.to_string()))?;
        Ok(Self { rules: Rules::with(&pipelock.patterns, &pipelock.detect, &[])?, known })
    }

    /// The same without words that may be a secret: of what was refused before a scan, nobody has looked.
    pub(super) fn shown(&self, withheld: Withheld) -> Withheld {
        let shown = |text: String| if self.refuses(&text).is_some() { NOT_SHOWN.to_owned() } else { text };
        Withheld { what: shown(withheld.what), why: shown(withheld.why) }
    }

    /// Why a text may not stand in a manifest.
    pub(super) fn refuses(&self, text: &str) -> Option<String> {
        if text.contains(MASK) {
            return Some("a secret of the bottle's own was in it".to_owned());
        }
        if text.chars().any(|c| c.is_control() || invisible(c)) {
            return Some("it has characters that nobody sees; add it by hand if it is meant".to_owned());
        }
        let search = Search { known: &self.known, rules: Some((&self.rules, Scope::All)) };
        search.find(text.as_bytes()).map(|found| format!("it looks like a secret ({})", found.rule))
    }
}

/// The requests of a record that no route allowed, each with how often it came; and what is left out of all that was refused.
pub(super) fn requests(
    record: &RunRefusals,
    places: &SecretPlaces,
) -> (BTreeMap<UnroutedRequest, usize>, Vec<Withheld>) {
    let (mut unrouted, mut withheld): (BTreeMap<UnroutedRequest, usize>, _) = (BTreeMap::new(), vec![]);
    for told in Told::all(&record.requests).iter().filter(|told| told.was_refused()) {
        if told.is_secret() {
            withheld.push(Withheld::new(
                &told.words(),
                "a scan found something in it, which is never let through by a rule",
            ));
            continue;
        }
        if !told.agrees() {
            withheld.push(Withheld::new(&told.words(), "the doors' lines about it differ, and one may be masked"));
            continue;
        }
        let reasons: Vec<Option<Reason>> = told.reasons().collect();
        let Some(access) = told.0.first() else { continue };
        if !reasons.iter().all(|reason| *reason == Some(Reason::NoRoute)) || reasons.is_empty() {
            let words: Vec<&str> =
                reasons.iter().map(|reason| reason.map_or("no known reason", Reason::as_str)).collect();
            withheld.push(Withheld::new(
                &told.words(),
                format_args!("it was refused for {}, not for a missing route", words.join(" and ")),
            ));
            continue;
        }
        let request = UnroutedRequest {
            method: access.method.clone(),
            host: access.host.clone(),
            port: access.port,
            path: access.path.clone(),
            in_setup: record.in_setup.contains(&access.id),
        };
        if request.method == "CONNECT" {
            let why =
                "the port was refused before anybody saw a method and a path; a route with this `port` shows them";
            withheld.push(Withheld::new(&format!("{}:{}", request.host, request.port), why));
        } else if places.has_request(&request) {
            withheld
                .push(Withheld::new(&told.words(), "a scan found something at the same place, in one of the records"));
        } else {
            *unrouted.entry(request).or_default() += 1;
        }
    }
    (unrouted, withheld)
}

/// The pushes of a record that were refused without a finding.
pub(super) fn pushes<'a>(record: &'a RunRefusals, places: &SecretPlaces) -> (Vec<&'a PushedRef>, Vec<Withheld>) {
    let refused = record.pushes.iter().filter(|push| push.verdict == PushVerdict::Refused);
    let (found, others): (Vec<&PushedRef>, Vec<&PushedRef>) = refused.partition(|push| places.has_ref(push));
    let why = "a scan found something in a push of this ref, which is never let through by a rule";
    (others, found.into_iter().map(|push| Withheld::new(&push_words(push), why)).collect())
}

pub(super) fn push_words(push: &PushedRef) -> String {
    format!("push to {} of {}", push.r#ref, push.repo)
}

/// The scheme of a request: its line has the port alone. In a tunnel to a port of its own a request is seen only where a route knows it.
pub(super) fn scheme(port: u16, knows_tls: bool) -> Scheme {
    match port {
        443 => Scheme::Https,
        80 => Scheme::Http,
        _ if knows_tls => Scheme::Https,
        _ => Scheme::Http,
    }
}
