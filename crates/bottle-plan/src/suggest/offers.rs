//! What is offered for the refusals of records, and the manifest's text with it.

use std::collections::{BTreeMap, BTreeSet};

use bottle_policy::conditions::Details;
use bottle_policy::gate::RepoName;
use bottle_policy::gate::refs::{RefRefusal, RefRules};
use bottle_policy::matcher::{Matcher, Target};
use bottle_policy::route::{Route, RoutesPolicy, Scheme};
use bottle_types::host::{HostName, HostPattern};
use bottle_wire::push_report::PushedRef;
use serde::Serialize;

use super::refused::{self, Look, RunRefusals, SecretPlaces, UnroutedRequest, Withheld};
use crate::explain::{ExplainError, Explainer, Unrouted};
use crate::facts::HostFacts;
use crate::manifest::{Addition, ManifestSource, Part, add, flow};
use crate::name::Name;
use crate::plan::{self, MODEL_HOST};
use crate::registry::Preset;

/// Of one host, so many paths are offered at most: for more, a person would write a glob.
const MOST_PATHS: usize = 50;

/// One rule that would have let something pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// The bottle that gets it.
    pub bottle: Name,
    /// The rule in a line.
    pub rule: String,
    /// What was refused, and how often.
    pub reason: String,
    #[serde(skip)]
    addition: Addition,
}

/// All that is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Suggestions {
    /// The offers, in the order of their numbers.
    pub offers: Vec<Offer>,
    /// What was refused and is not offered.
    pub withheld: Vec<Withheld>,
}

/// A manifest's text with offers in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The text.
    pub text: String,
    /// The indices of offers for which it has no place.
    pub by_hand: Vec<usize>,
}

impl Suggestions {
    /// The text with the offers of these indices, one after the other.
    pub fn edit(&self, text: &str, chosen: &BTreeSet<usize>) -> Edited {
        let mut edited = Edited { text: text.to_owned(), by_hand: vec![] };
        for (index, offer) in self.offers.iter().enumerate().filter(|(index, _)| chosen.contains(index)) {
            match add(&edited.text, offer.bottle.as_str(), &offer.addition) {
                Some(text) => edited.text = text,
                None => edited.by_hand.push(index),
            }
        }
        edited
    }
}

/// The requests of one host, by path: the methods, and how often all of them came.
#[derive(Debug, Default)]
struct HostRequests {
    paths: BTreeMap<String, BTreeSet<String>>,
    count: usize,
}

/// Where a route leads: host, port, and whether it is http.
type RouteHost = (String, Option<u16>, bool);

/// What is offered for the refusals of some records. The manifest is that of the runs or a newer one.
pub fn suggest(
    source: &ManifestSource,
    records: &[RunRefusals],
    facts: &HostFacts,
) -> Result<Suggestions, ExplainError> {
    let places = SecretPlaces::of(records);
    let mut all = Suggestions::default();
    let mut bottles: BTreeMap<Name, BottleOffers> = BTreeMap::new();
    for record in records {
        let explainer = Explainer::new(source, Some(record.agent.clone()), facts)?;
        let bottle = explainer.plan().agent.bottle.clone();
        let own = explainer.manifest().bottles.get(&bottle).map(|own| own.pipelock.clone()).unwrap_or_default();
        let look = Look::new(&own).map_err(|error| ExplainError::Policy(error.to_string()))?;
        let offers = bottles.entry(bottle).or_default();
        let (unrouted, withheld) = refused::requests(record, &places);
        all.withheld.extend(withheld.into_iter().map(|withheld| look.shown(withheld)));
        for (request, count) in unrouted {
            let offered = offers.request(&explainer, &look, &request, count, facts);
            all.withheld.extend(offered.err().map(|withheld| look.shown(withheld)));
        }
        let (pushes, withheld) = refused::pushes(record, &places);
        all.withheld.extend(withheld.into_iter().map(|withheld| look.shown(withheld)));
        for push in pushes {
            let offered = offers.push(&explainer, &look, push);
            all.withheld.extend(offered.err().map(|withheld| look.shown(withheld)));
        }
    }
    for (bottle, offers) in bottles {
        offers.into_offers(&bottle, &mut all);
    }
    all.withheld.sort();
    all.withheld.dedup();
    Ok(all)
}

/// What is collected for one bottle.
#[derive(Debug, Default)]
struct BottleOffers {
    presets: BTreeMap<(Part, Preset), usize>,
    hosts: BTreeMap<String, usize>,
    routes: BTreeMap<(Part, RouteHost), HostRequests>,
    refs: BTreeMap<(RepoName, String), usize>,
}

impl BottleOffers {
    fn request(
        &mut self,
        explainer: &Explainer,
        look: &Look,
        request: &UnroutedRequest,
        count: usize,
        facts: &HostFacts,
    ) -> Result<(), Withheld> {
        let words = format!("{} {}{}", request.method, request.host, request.path);
        let withheld = |why: &dyn std::fmt::Display| Withheld::new(&words, why);
        if let Some(why) = look.refuses(&words) {
            // The words may be the secret.
            return Err(Withheld::new(
                &format!("a {} to a host on port {}", method(&request.method), request.port),
                why,
            ));
        }
        let host = HostName::parse(&request.host).map_err(|error| withheld(&error))?;
        let knows_tls = explainer.knows_tls(&host, request.port, request.in_setup);
        let scheme = refused::scheme(request.port, knows_tls);
        let details = Details::default();
        let target =
            Target { scheme, host: &host, port: request.port, method: &request.method, path: &request.path, details };
        let route = match explainer.unrouted(target, request.in_setup) {
            Unrouted::Allowed => return Ok(()),
            Unrouted::Never(why) => return Err(withheld(&why)),
            Unrouted::Host(host) => {
                *self.hosts.entry(host.to_string()).or_default() += count;
                return Ok(());
            }
            Unrouted::Route(route) => route,
        };
        // The path in its normal form is what would be written.
        if let Some(why) = route.paths.iter().find_map(|path| look.refuses(path)) {
            return Err(Withheld::new(&format!("a {} to {}", method(&request.method), route.host), why));
        }
        // A newer manifest may have none any more.
        let part = if request.in_setup && explainer.has_setup_routes() { Part::Setup } else { Part::Agent };
        if let Some(preset) = preset_of(target, facts) {
            *self.presets.entry((part, preset)).or_default() += count;
            return Ok(());
        }
        let key = (part, (route.host.to_string(), route.port, !route.scheme.is_https()));
        let requests = self.routes.entry(key).or_default();
        requests.count += count;
        for path in route.paths {
            requests.paths.entry(path).or_default().extend(route.methods.iter().cloned());
        }
        Ok(())
    }

    fn push(&mut self, explainer: &Explainer, look: &Look, push: &PushedRef) -> Result<(), Withheld> {
        let words = refused::push_words(push);
        if let Some(why) = look.refuses(&words) {
            return Err(Withheld::new(&format!("push to a ref of {}", push.repo), why));
        }
        let upstream = explainer.plan().policies.gate.upstreams.iter().find(|upstream| upstream.name == push.repo);
        let Some(upstream) = upstream else {
            return Err(Withheld::new(&words, "the manifest has no repository of this name"));
        };
        let rules = RefRules::new(&upstream.push).map_err(|error| Withheld::new(&words, error))?;
        let deletes = push.new.is_null();
        match rules.judge_update(&push.r#ref, deletes) {
            Err(RefRefusal::NotAllowed(_) | RefRefusal::Tag) => {
                *self.refs.entry((push.repo.clone(), push.r#ref.clone())).or_default() += 1;
                Ok(())
            }
            Err(refusal) => Err(Withheld::new(&words, refusal)),
            Ok(_) => Err(Withheld::new(&words, format_args!("its ref may be pushed: {}", push.reasons.join("; ")))),
        }
    }

    fn into_offers(self, bottle: &Name, all: &mut Suggestions) {
        let mut offer = |rule: String, reason: String, addition| {
            all.offers.push(Offer { bottle: bottle.clone(), rule, reason, addition });
        };
        for (&(part, preset), &count) in &self.presets {
            if part == Part::Setup && self.presets.contains_key(&(Part::Agent, preset)) {
                // What the agent may reach, the setup may, too.
                continue;
            }
            let reason = format!("{} of what {} fetches", requests(count), preset.name());
            offer(format!("{}.presets: {}", part.prefix(), preset.name()), reason, Addition::Preset(part, preset));
        }
        for (host, count) in self.hosts {
            let Ok(pattern) = HostPattern::parse(&host) else { continue };
            let reason =
                format!("{} to {host}; the bottle has no routes, so the whole host is allowed", requests(count));
            offer(format!("pipelock.api_allowlist: {host}"), reason, Addition::Host(pattern));
        }
        for ((part, (host, port, is_http)), found) in self.routes {
            if found.paths.len() > MOST_PATHS {
                let why = format!("{} paths of it were refused: write a route with a glob", found.paths.len());
                all.withheld.push(Withheld::new(&host, why));
                continue;
            }
            let Ok(pattern) = HostPattern::parse(&host) else { continue };
            let mut alike: BTreeMap<&BTreeSet<String>, Vec<String>> = BTreeMap::new();
            for (path, methods) in &found.paths {
                alike.entry(methods).or_default().push(path.clone());
            }
            for (methods, paths) in alike {
                let methods = methods.iter().cloned().collect();
                let scheme = if is_http { Scheme::Http } else { Scheme::Https };
                let route = Route { port, scheme, methods, paths, ..Route::plain(pattern.clone(), &[], &[]) };
                let rule = flow(&route, "").unwrap_or_else(|| host.clone());
                let mut reason = format!("no route allowed {} to {host}", requests(found.count));
                if host == MODEL_HOST {
                    reason.push_str("; it is the model, whose route also needs `auth`: docs/guide/models.md");
                }
                all.offers.push(Offer {
                    bottle: bottle.clone(),
                    rule: format!("{}.routes: {rule}", part.prefix()),
                    reason,
                    addition: Addition::Route(part, Box::new(route)),
                });
            }
        }
        for ((repo, name), count) in self.refs {
            let reason = format!("{count} push{} to {name} of {repo}", if count == 1 { "" } else { "es" });
            let addition = Addition::Ref { upstream: Some(repo.clone()), name: name.clone() };
            all.offers.push(Offer {
                bottle: bottle.clone(),
                rule: format!("git {repo}, push.refs: {name}"),
                reason,
                addition,
            });
        }
    }
}

fn requests(count: usize) -> String {
    format!("{count} request{}", if count == 1 { "" } else { "s" })
}

/// A method as it may be shown: one of the usual form, else no word of it.
fn method(text: &str) -> &str {
    if text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_uppercase()) { text } else { "request" }
}

/// The package manager whose registries the host's own configuration names, if the request is one to them: a preset is read-only, goes
/// with the host's configuration, and tells the tool in the guest.
fn preset_of(target: Target<'_>, facts: &HostFacts) -> Option<Preset> {
    Preset::ALL.into_iter().find(|preset| {
        let Ok(routes) = plan::preset_routes(*preset, facts) else { return false };
        let policy = RoutesPolicy { version: 1, routes, ..RoutesPolicy::default() };
        Matcher::new(&policy).is_ok_and(|matcher| matcher.decide(target).is_ok())
    })
}
